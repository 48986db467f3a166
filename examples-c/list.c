/* Lists the tags of a repository, or the repositories of a registry, one a line. Pages are fetched as needed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

static void usage(void)
{
    fprintf(stderr, "usage: list [flags] REPOSITORY\n"
                    "       list [flags] --repositories REGISTRY\n" CONNECTION_USAGE);
    exit(2);
}

static int print_names(rt_list *list)
{
    const char *name;
    rt_error *err = NULL;

    while (rt_list_next(list, NULL, &name, &err) == RT_OK) {
        if (name == NULL)
            return 0;
        print_line(name); /* name lives until the next call */
    }
    return failed(err);
}

int main(int argc, char **argv)
{
    struct connection connection;
    rt_transport *transport = NULL;
    rt_ref *ref = NULL;
    rt_list *list = NULL;
    int i, repositories = 0, status = 1;

    connection_init(&connection);
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (connection_flag(&connection, argc, argv, &i))
            continue;
        if (strcmp(argv[i], "--repositories") != 0)
            usage();
        repositories = 1;
    }
    if (argc - i != 1)
        usage();

    if (repositories) {
        if (parse_ref(argv[i], &ref) != 0 || connect_to(&connection, ref, RT_CATALOG, &transport) != 0)
            goto done;
        list = rt_list_repositories(transport);
    } else {
        if (connect_image(&connection, argv[i], RT_PULL, &ref, &transport) != 0)
            goto done;
        list = rt_list_tags(transport);
    }
    if (print_names(list) == 0)
        status = 0;
done:
    rt_free(list);
    rt_free(transport);
    rt_free(ref);
    connection_free(&connection);
    return status;
}

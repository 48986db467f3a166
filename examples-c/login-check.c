/* Says what would be used for a reference: credentials, hosts, proxy, certificates, and why. Then pings. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

static void usage(void)
{
    fprintf(stderr, "usage: login-check [flags] REFERENCE\n" CONNECTION_USAGE
                    "  --push               check for pushing, not only for pulling\n"
                    "  --json               print one JSON object, for programs\n"
                    "  --offline            do not ping\n");
    exit(2);
}

/* Sets *out to NULL after telling why. No password or token is in what it gives. */
static int explain(const rt_transport *t, rt_explanation **out)
{
    rt_error *err = NULL;

    return rt_explain(t, NULL, out, &err) == RT_OK ? 0 : failed(err);
}

/* Prints the lines of text that are not lines of before, one by one: some of it came from the registry. */
static void print_new(const char *text, const char *before)
{
    const char *end;

    for (; (end = strchr(text, '\n')) != NULL; text = end + 1) {
        size_t len = (size_t)(end - text) + 1;
        const char *old = before;
        char *line;

        while (*old != '\0' && strncmp(old, text, len) != 0)
            old = strchr(old, '\n') + 1; /* every line ends with one */
        if (*old != '\0' || (line = malloc(len)) == NULL)
            continue;
        memcpy(line, text, len - 1);
        line[len - 1] = '\0';
        print_line(line);
        free(line);
    }
}

static int check(const rt_transport *t, int json, int offline)
{
    rt_explanation *before = NULL, *after = NULL;
    rt_error *err = NULL;
    int result = -1;

    if (explain(t, &before) != 0)
        goto done;
    if (!json)
        print_new(rt_explanation_text(before), "");
    if (!offline) {
        result = rt_ping(t, NULL, &err) == RT_OK ? 0 : -1;
        /* Now it is known what the registry asks for, also if it did not let us in. */
        if (explain(t, &after) != 0)
            goto done;
        if (!json) {
            print_line(result == 0 ? "the ping was answered" : "the ping failed");
            print_new(rt_explanation_text(after), rt_explanation_text(before));
        }
    } else {
        result = 0;
    }
    if (json)
        print_line(rt_explanation_json(after != NULL ? after : before));
    fflush(stdout);
    if (err != NULL)
        print_error(err);
done:
    rt_free(err);
    rt_free(before);
    rt_free(after);
    return result;
}

int main(int argc, char **argv)
{
    struct connection connection;
    rt_transport *transport = NULL;
    rt_ref *ref = NULL;
    rt_error *err = NULL;
    uint32_t actions = RT_PULL;
    int i, json = 0, offline = 0, status = 1;

    connection_init(&connection);
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (connection_flag(&connection, argc, argv, &i))
            continue;
        if (strcmp(argv[i], "--push") == 0)
            actions = RT_PULL | RT_PUSH;
        else if (strcmp(argv[i], "--json") == 0)
            json = 1;
        else if (strcmp(argv[i], "--offline") == 0)
            offline = 1;
        else
            usage();
    }
    if (argc - i != 1)
        usage();

    /* As rt_ref_parse, but it also knows the short names of option registries-conf. */
    if (rt_ref_resolve(argv[i], connection.options, &ref, &err) != RT_OK)
        failed(err);
    else if (connect_to(&connection, ref, actions, &transport) == 0 && check(transport, json, offline) == 0)
        status = 0;
    rt_free(transport);
    rt_free(ref);
    connection_free(&connection);
    return status;
}

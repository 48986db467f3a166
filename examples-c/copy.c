/* Copies an image, with all its platforms, from one registry to another without storing it here. */
#include <stdio.h>
#include <stdlib.h>

#include "common.h"

static void usage(void)
{
    fprintf(stderr, "usage: copy [flags for FROM] FROM [flags for TO] TO\n" CONNECTION_USAGE);
    exit(2);
}

static void take_flags(struct connection *c, int argc, char **argv, int *i)
{
    for (; *i < argc && argv[*i][0] == '-'; ++*i)
        if (!connection_flag(c, argc, argv, i))
            usage();
    if (*i >= argc)
        usage();
}

/* Runs on this thread, as bytes move. */
static int32_t on_progress(void *user, int64_t done, int64_t total)
{
    bar_draw(user, done, total);
    return 0;
}

static int copy(const rt_transport *from, const char *what, const rt_transport *to, const char *as, int wanted)
{
    rt_op *op = rt_op_new();
    rt_error *err = NULL;
    rt_status status;
    struct bar bar;

    bar_start(&bar, wanted);
    rt_op_set_progress(op, on_progress, &bar, NULL);
    status = rt_copy(from, what, to, as, op, &err);
    bar_end(&bar);
    rt_free(op);
    return status == RT_OK ? 0 : failed(err);
}

int main(int argc, char **argv)
{
    struct connection from, to; /* each registry has flags and credentials of its own */
    rt_transport *source = NULL, *target = NULL;
    rt_ref *source_ref = NULL, *target_ref = NULL;
    int first = 1, second, status = 1;

    connection_init(&from);
    connection_init(&to);
    take_flags(&from, argc, argv, &first);
    second = first + 1;
    take_flags(&to, argc, argv, &second);
    if (argc - second != 1)
        usage();

    if (connect_image(&from, argv[first], RT_PULL, &source_ref, &source) == 0
        && connect_image(&to, argv[second], RT_PULL | RT_PUSH, &target_ref, &target) == 0
        && copy(source, ref_target(source_ref), target, ref_target(target_ref), !from.verbose && !to.verbose) == 0) {
        printf("copied %s to %s\n", argv[first], argv[second]);
        status = 0;
    }
    rt_free(source);
    rt_free(target);
    rt_free(source_ref);
    rt_free(target_ref);
    connection_free(&from);
    connection_free(&to);
    return status;
}

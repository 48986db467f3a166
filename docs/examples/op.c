#include <registry_transport.h>
#include <signal.h>
#include <stdio.h>

static rt_op *op;

/* Cancelling is allowed in a signal handler. */
static void on_interrupt(int signal)
{
    (void)signal;
    rt_op_cancel(op);
}

static int32_t on_progress(void *user, int64_t done, int64_t total)
{
    (void)user;
    fprintf(stderr, "%ld of %ld bytes\n", (long)done, (long)total);
    return 0; /* anything else ends the call */
}

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_response *manifest = NULL;
    rt_error *err = NULL;
    int64_t done, total;
    int failed;

    if (argc < 2)
        return 2;
    op = rt_op_new();
    signal(SIGINT, on_interrupt);
    rt_op_set_timeout_ms(op, 10000);
    rt_op_set_progress(op, on_progress, NULL, NULL);
    failed = rt_transport_new(argv[1], RT_PULL, NULL, NULL, &t, &err) != RT_OK
             || rt_manifest_get(t, "latest", op, &manifest, &err) != RT_OK;
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_op_progress(op, &done, &total); /* any thread, also while the call runs */
    printf("%ld of %ld bytes\n", (long)done, (long)total);
    rt_free(manifest);
    rt_free(t);
    rt_free(err);
    rt_free(op);
    return failed;
}

#include <registry_transport.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_error *err = NULL;
    int failed;

    if (argc < 2)
        return 2;
    /* Does not connect yet. */
    failed = rt_transport_new(argv[1], RT_PUSH, NULL, NULL, &t, &err) != RT_OK;
    /* Connects, and tells whether the credentials are any good. */
    failed = failed || rt_ping(t, NULL, &err) != RT_OK;
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    /* Ends what runs on other threads, and closes what is open. */
    rt_transport_close(t);
    rt_free(t);
    rt_free(err);
    return failed;
}

#include <registry_transport.h>
#include <stdio.h>

/* copy FROM TO, two repositories of one registry or of two */
int main(int argc, char **argv)
{
    rt_transport *from = NULL, *to = NULL;
    rt_error *err = NULL;
    int failed;

    if (argc < 3)
        return 2;
    failed = rt_transport_new(argv[1], RT_PULL, NULL, NULL, &from, &err) != RT_OK
             || rt_transport_new(argv[2], RT_PUSH, NULL, NULL, &to, &err) != RT_OK
             || rt_copy(from, "latest", to, "latest", NULL, &err) != RT_OK;
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_free(from);
    rt_free(to);
    rt_free(err);
    return failed;
}

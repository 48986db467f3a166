#include <registry_transport.h>
#include <stdio.h>

static void on_line(void *user, int32_t level, const char *line)
{
    (void)user;
    fprintf(stderr, "%d %s\n", (int)level, line);
}

int main(int argc, char **argv)
{
    rt_options *o = rt_options_new();
    rt_transport *t = NULL;
    rt_error *err = NULL;
    int failed;

    if (argc < 2)
        return 2;
    rt_options_set_str(o, "user-agent", "my-program/1.0");
    rt_options_set_int(o, "timeout-ms", 30000);
    rt_options_set_log(o, RT_LOG_INFO, on_line, NULL, NULL);
    if (rt_options_set_int(o, "an-option-of-tomorrow", 1) == RT_E_UNSUPPORTED)
        fprintf(stderr, "%s\n", rt_options_error(o));
    failed = rt_transport_new(argv[1], RT_PULL, NULL, o, &t, &err) != RT_OK
             || rt_ping(t, NULL, &err) != RT_OK;
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_free(o);
    rt_free(t);
    rt_free(err);
    return failed;
}

#include <registry_transport.h>
#include <stdio.h>

static void explain(const rt_error *err)
{
    int64_t limit, remaining, window_ms, reset_ms;
    size_t i;

    fprintf(stderr, "%s: ", rt_status_name(rt_error_code(err)));
    fprintf(stderr, "%s\n", rt_error_message(err));
    if (rt_error_http_status(err) != 0)
        fprintf(stderr, "the answer was HTTP %d\n", (int)rt_error_http_status(err));
    if (rt_error_os_code(err) != 0)
        fprintf(stderr, "the system says %d\n", (int)rt_error_os_code(err));
    if (rt_error_retry_after_ms(err) >= 0)
        fprintf(stderr, "try again in %ld ms\n", (long)rt_error_retry_after_ms(err));
    if (rt_error_rate_limit(err, &limit, &remaining, &window_ms, &reset_ms))
        fprintf(stderr, "%ld of %ld requests are left\n", (long)remaining, (long)limit);
    for (i = 0; i < rt_error_diag_count(err); i++) {
        const char *message = rt_error_diag_message(err, i);
        const char *detail = rt_error_diag_detail(err, i);

        fprintf(stderr, "%s: %s %s\n", rt_error_diag_code(err, i),
                message ? message : "", detail ? detail : "");
    }
}

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_response *manifest = NULL;
    rt_error *err = NULL;

    if (argc < 2)
        return 2;
    if (rt_transport_new(argv[1], RT_PULL, NULL, NULL, &t, &err) != RT_OK
        || rt_manifest_get(t, "no-such-tag", NULL, &manifest, &err) != RT_OK)
        explain(err);
    rt_free(manifest);
    rt_free(t);
    rt_free(err);
    return 0;
}

#include <registry_transport.h>
#include <stdio.h>

static void show(const rt_response *r)
{
    int64_t limit, remaining, window_ms, reset_ms;
    const char *value, *name;
    size_t i;

    printf("HTTP %d from %s\n", (int)rt_response_status(r), rt_response_url(r));
    printf("served by %s\n", rt_response_host(r));
    for (i = 0; i < rt_response_header_count(r); i++) {
        name = rt_response_header_at(r, i, &value);
        printf("%s: %s\n", name, value);
    }
    if ((value = rt_response_header(r, "Docker-Content-Digest")) != NULL)
        printf("told %s, known %s\n", value, rt_response_digest(r));
    printf("%ld bytes\n", (long)rt_response_length(r));
    if (rt_response_rate_limit(r, &limit, &remaining, &window_ms, &reset_ms))
        printf("%ld of %ld requests are left\n", (long)remaining, (long)limit);
    if (rt_response_is_anonymous(r))
        printf("the credentials were refused\n");
}

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_req *r = rt_req_new("GET", "./manifests/latest");
    rt_response *answer = NULL;
    rt_error *err = NULL;
    int failed;

    if (argc < 2)
        return 2;
    rt_req_header(r, "X-Request-Id", "42");
    rt_req_accept_type(r, RT_MEDIA_TYPE_OCI_MANIFEST);
    rt_req_accept_type(r, RT_MEDIA_TYPE_OCI_INDEX);
    rt_req_accept_status(r, 200);
    failed = rt_transport_new(argv[1], RT_PULL, NULL, NULL, &t, &err) != RT_OK
             || rt_request(t, r, NULL, &answer, &err) != RT_OK;
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    else
        show(answer);
    rt_free(answer);
    rt_free(r);
    rt_free(t);
    rt_free(err);
    return failed;
}

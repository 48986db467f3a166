#include <registry_transport.h>
#include <stdio.h>

/* Stores what `latest` names under another tag, by requests of our own. */
int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_req *r = rt_req_new("PUT", "./manifests/stable");
    rt_response *manifest = NULL, *answer = NULL, *again = NULL;
    rt_source *source = NULL;
    rt_error *err = NULL;
    const void *data;
    size_t len;
    int failed;

    if (argc < 2)
        return 2;
    failed = rt_transport_new(argv[1], RT_PUSH, NULL, NULL, &t, &err) != RT_OK
             || rt_manifest_get(t, "latest", NULL, &manifest, &err) != RT_OK
             || rt_response_body(manifest, &data, &len, &err) != RT_OK;
    if (!failed) {
        rt_req_header(r, "Content-Type", rt_response_header(manifest, "Content-Type"));
        rt_req_body(r, data, len);
        failed = rt_request(t, r, NULL, &answer, &err) != RT_OK;
    }
    if (!failed) {
        source = rt_source_bytes(data, len);
        rt_req_source(r, source);
        failed = rt_request(t, r, NULL, &again, &err) != RT_OK;
    }
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_free(again);
    rt_free(answer);
    rt_free(source);
    rt_free(manifest);
    rt_free(r);
    rt_free(t);
    rt_free(err);
    return failed;
}

#include <registry_transport.h>
#include <stdio.h>

/* Gives `latest` a second name, looks at it, and takes it away. */
int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_response *manifest = NULL, *stored = NULL, *head = NULL;
    rt_error *err = NULL;
    const void *data;
    size_t len;
    int failed;

    if (argc < 2)
        return 2;
    failed = rt_transport_new(argv[1], RT_PUSH | RT_DELETE, NULL, NULL, &t, &err) != RT_OK
             || rt_manifest_get(t, "latest", NULL, &manifest, &err) != RT_OK
             || rt_response_body(manifest, &data, &len, &err) != RT_OK
             || rt_manifest_put(t, "old", rt_response_header(manifest, "Content-Type"),
                                data, len, NULL, &stored, &err) != RT_OK
             || rt_manifest_head(t, "old", NULL, &head, &err) != RT_OK;
    if (!failed)
        printf("%s, %ld bytes\n", rt_response_digest(head),
               (long)rt_response_length(head));
    failed = failed || rt_manifest_delete(t, "old", NULL, &err) != RT_OK;
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_free(head);
    rt_free(stored);
    rt_free(manifest);
    rt_free(t);
    rt_free(err);
    return failed;
}

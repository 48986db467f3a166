#include <registry_transport.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_source *body = rt_source_bytes("Hello, registry.\n", 17);
    rt_response *stored = NULL, *whole = NULL;
    rt_blob *blob = NULL;
    rt_error *err = NULL;
    const char *digest = NULL;
    char buf[8];
    int64_t size = -1;
    size_t got;
    int failed;

    if (argc < 2)
        return 2;
    failed = rt_transport_new(argv[1], RT_PUSH, NULL, NULL, &t, &err) != RT_OK
             || rt_blob_put(t, NULL, body, NULL, NULL, &stored, &err) != RT_OK;
    if (!failed) {
        digest = rt_response_digest(stored);
        failed = rt_blob_stat(t, digest, NULL, &size, &err) != RT_OK
                 || rt_blob_save(t, digest, "hello.txt", NULL, &err) != RT_OK
                 || rt_blob_get(t, digest, NULL, &whole, &err) != RT_OK
                 || rt_blob_open(t, digest, NULL, &blob, &err) != RT_OK
                 || rt_blob_pread(blob, buf, sizeof buf, 7, NULL, &got, &err) != RT_OK;
    }
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    else
        printf("%.*s, of %ld bytes\n", (int)got, buf, (long)rt_blob_size(blob));
    rt_free(blob);
    rt_free(whole);
    rt_free(stored);
    rt_free(body);
    rt_free(t);
    rt_free(err);
    return failed;
}

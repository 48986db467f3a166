/* Writes an image to a registry and reads it back. Without a name only looks at the library.
 *
 *   roundtrip [REGISTRY/REPOSITORY]
 */
#include <registry_transport.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG "{}"
#define LAYER "not much of a layer"
#define CONFIG_DIGEST "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

static void check(rt_status status, rt_error *err)
{
    if (status != RT_OK) {
        fprintf(stderr, "%s: %s\n", rt_status_name(status), err != NULL ? rt_error_message(err) : "");
        exit(1);
    }
}

static void put(const rt_transport *t, const char *text, const char *expected, char *digest)
{
    rt_source *source = rt_source_bytes(text, strlen(text));
    rt_response *answer = NULL;
    rt_error *err = NULL;

    check(rt_blob_put(t, expected, source, NULL, NULL, &answer, &err), err);
    strcpy(digest, rt_response_digest(answer));
    rt_free(answer);
    rt_free(source);
}

int main(int argc, char **argv)
{
    char config[80], layer[80], manifest[1024], digest[80];
    rt_transport *t = NULL;
    rt_response *answer = NULL;
    rt_list *tags;
    rt_error *err = NULL;
    const char *tag;
    const void *data;
    size_t len;

    if (rt_abi() != RT_ABI || strlen(rt_version()) < 5)
        return 1;
    if (argc < 2)
        return 0;
    check(rt_transport_new(argv[1], RT_PULL | RT_PUSH, NULL, NULL, &t, &err), err);
    put(t, CONFIG, CONFIG_DIGEST, config);
    put(t, LAYER, NULL, layer);
    sprintf(manifest,
            "{\"schemaVersion\":2,\"mediaType\":\"%s\","
            "\"config\":{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%d},"
            "\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%d}]}",
            RT_MEDIA_TYPE_OCI_MANIFEST, RT_MEDIA_TYPE_OCI_CONFIG, config, (int)strlen(CONFIG),
            RT_MEDIA_TYPE_OCI_LAYER, layer, (int)strlen(LAYER));
    check(rt_manifest_put(t, "one", RT_MEDIA_TYPE_OCI_MANIFEST, manifest, strlen(manifest), NULL, &answer, &err), err);
    strcpy(digest, rt_response_digest(answer));
    rt_free(answer);

    check(rt_manifest_get(t, digest, NULL, &answer, &err), err);
    check(rt_response_body(answer, &data, &len, &err), err);
    if (len != strlen(manifest) || memcmp(data, manifest, len) != 0)
        return 1;
    rt_free(answer);
    check(rt_blob_get(t, layer, NULL, &answer, &err), err);
    check(rt_response_body(answer, &data, &len, &err), err);
    if (len != strlen(LAYER) || memcmp(data, LAYER, len) != 0)
        return 1;
    rt_free(answer);
    tags = rt_list_tags(t);
    check(rt_list_next(tags, NULL, &tag, &err), err);
    if (tag == NULL || strcmp(tag, "one") != 0)
        return 1;
    rt_free(tags);
    if (rt_manifest_get(t, "two", NULL, &answer, &err) != RT_E_STATUS || rt_error_http_status(err) != 404)
        return 1;
    rt_free(err);
    rt_free(t);
    puts("ok");
    return 0;
}

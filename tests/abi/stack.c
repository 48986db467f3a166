/* How much stack calls take: on a thread whose stack was painted before. REGISTRY CA LAYER FILE; prints bytes. */
#define _GNU_SOURCE
#include <pthread.h>
#include <registry_transport.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHECK(what)                                                                     \
    do {                                                                                \
        if (!(what)) {                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                  \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

enum { SIZE = 1 << 20, PAINT = 0xa5 };

static void *calls(void *user)
{
    char **arguments = user, name[128];
    const char *layer = arguments[3], *path = arguments[4], *tag;
    rt_creds *creds = rt_creds_basic("demo", "demo");
    rt_options *options = rt_options_new();
    rt_transport *t, *other;
    rt_response *response;
    rt_source *source;
    rt_list *list;
    const void *data;
    size_t len;

    CHECK(rt_options_set_str(options, "ca-file", arguments[2]) == RT_OK);
    CHECK(rt_options_set_str(options, "scheme", "https") == RT_OK);
    sprintf(name, "%s/a/b", arguments[1]);
    CHECK(rt_transport_new(name, RT_PULL, creds, options, &t, NULL) == RT_OK);
    sprintf(name, "%s/c/d", arguments[1]);
    CHECK(rt_transport_new(name, RT_PULL | RT_PUSH, creds, options, &other, NULL) == RT_OK);
    CHECK(rt_manifest_get(t, "latest", NULL, &response, NULL) == RT_OK);
    CHECK(rt_response_body(response, &data, &len, NULL) == RT_OK);
    CHECK(rt_blob_save(t, layer, path, NULL, NULL) == RT_OK);
    source = rt_source_file(path);
    CHECK(rt_blob_put(other, layer, source, NULL, NULL, NULL, NULL) == RT_OK);
    CHECK(rt_copy(t, "latest", other, "latest", NULL, NULL) == RT_OK);
    list = rt_list_tags(t);
    CHECK(rt_list_next(list, NULL, &tag, NULL) == RT_OK && tag != NULL);
    rt_free(list);
    rt_free(source);
    rt_free(response);
    rt_free(other);
    rt_free(t);
    rt_free(options);
    rt_free(creds);
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned char *stack = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attributes;
    pthread_t thread;
    size_t untouched = 0;

    CHECK(argc == 5 && stack != MAP_FAILED);
    memset(stack, PAINT, SIZE);
    pthread_attr_init(&attributes);
    CHECK(pthread_attr_setstack(&attributes, stack, SIZE) == 0);
    CHECK(pthread_create(&thread, &attributes, calls, argv) == 0);
    pthread_join(thread, NULL);
    while (untouched < SIZE && stack[untouched] == PAINT)
        untouched++;
    printf("%lu\n", (unsigned long)(SIZE - untouched));
    return 0;
}

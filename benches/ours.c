/* What is measured of the library. One mode a run; prints nothing but failures.
 *
 *   ours blob   NAME DIGEST sink|PATH [CA]
 *   ours small  NAME TAG COUNT THREADS [CA]
 *   ours pread  NAME DIGEST BYTES COUNT THREADS [CA]
 *   ours push   NAME DIGEST FILE
 */
#define _POSIX_C_SOURCE 200809L
#include <registry_transport.h>

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rt_transport *transport;
static const char *what;
static rt_blob *blob;
static long count;
static size_t bytes;

static void fail(rt_error *err)
{
    fprintf(stderr, "%s\n", err != NULL ? rt_error_message(err) : "failed");
    exit(1);
}

static void connect_to(const char *name, uint32_t actions, const char *ca)
{
    rt_options *o = rt_options_new();
    rt_error *err = NULL;

    rt_options_set_str(o, "proxy", "");
    if (ca != NULL) {
        rt_options_set_str(o, "ca-file", ca);
        rt_options_set_str(o, "scheme", "https");
    }
    if (rt_transport_new(name, actions, NULL, o, &transport, &err) != RT_OK)
        fail(err);
    rt_free(o);
}

static int32_t sink(void *user, const void *data, size_t len)
{
    (void)data;
    *(uint64_t *)user += len;
    return 0;
}

static void *small(void *unused)
{
    rt_error *err = NULL;
    long i;

    for (i = 0; i < count; i++) {
        rt_response *r = NULL;
        const void *data;
        size_t len;

        if (rt_manifest_get(transport, what, NULL, &r, &err) != RT_OK || rt_response_body(r, &data, &len, &err) != RT_OK)
            fail(err);
        rt_free(r);
    }
    return unused;
}

static void *preads(void *seed)
{
    uint64_t state = (uint64_t)(uintptr_t)seed * 2654435761u + 1;
    char *buf = malloc(bytes);
    rt_error *err = NULL;
    size_t got;
    long i;

    for (i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        if (rt_blob_pread(blob, buf, bytes, (int64_t)((state >> 16) % (uint64_t)(rt_blob_size(blob) - (int64_t)bytes)), NULL,
                          &got, &err) != RT_OK || got != bytes)
            fail(err);
    }
    free(buf);
    return NULL;
}

static void run(void *(*work)(void *), int threads)
{
    pthread_t ids[256];
    int i;

    for (i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, work, (void *)(uintptr_t)(i + 1));
    for (i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
}

int main(int argc, char **argv)
{
    rt_response *r = NULL;
    rt_error *err = NULL;
    uint64_t total = 0;
    int threads;

    if (argc < 5)
        return 2;
    if (strcmp(argv[1], "blob") == 0) {
        connect_to(argv[2], RT_PULL, argc > 5 ? argv[5] : NULL);
        if (strcmp(argv[4], "sink") != 0) {
            if (rt_blob_save(transport, argv[3], argv[4], NULL, &err) != RT_OK)
                fail(err);
        } else if (rt_blob_get(transport, argv[3], NULL, &r, &err) != RT_OK
                   || rt_response_drain(r, sink, &total, &err) != RT_OK) {
            fail(err);
        }
    } else if (strcmp(argv[1], "small") == 0) {
        connect_to(argv[2], RT_PULL, argc > 6 ? argv[6] : NULL);
        what = argv[3];
        threads = atoi(argv[5]);
        count = atol(argv[4]) / threads;
        run(small, threads);
    } else if (strcmp(argv[1], "pread") == 0) {
        connect_to(argv[2], RT_PULL, argc > 7 ? argv[7] : NULL);
        bytes = (size_t)atol(argv[4]);
        threads = atoi(argv[6]);
        count = atol(argv[5]) / threads;
        if (rt_blob_open(transport, argv[3], NULL, &blob, &err) != RT_OK)
            fail(err);
        run(preads, threads);
    } else {
        rt_source *source = rt_source_file(argv[4]);

        connect_to(argv[2], RT_PULL | RT_PUSH, NULL);
        if (rt_blob_put(transport, argv[3], source, NULL, NULL, NULL, &err) != RT_OK)
            fail(err);
        rt_free(source);
    }
    rt_free(r);
    rt_free(blob);
    rt_free(transport);
    return 0;
}

/* C, without linking: every function is looked up in the library that is named on the command line.
 *
 *   cc -I../../include pull.c -ldl -lpthread && ./a.out LIBRARY NAME TAG BLOB STALLING FILE
 */
#define _GNU_SOURCE /* for __typeof__ and nanosleep with -std=c99 */
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <registry_transport.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* The functions used here. The header declares them; these are pointers of the same types. */
#define FUNCTIONS(X)                                                                                                  \
    X(rt_abi) X(rt_version) X(rt_free) X(rt_status_name) X(rt_error_code) X(rt_error_message)                         \
    X(rt_error_http_status) X(rt_error_diag_code) X(rt_error_diag_message) X(rt_creds_basic) X(rt_options_new)        \
    X(rt_options_set_str) X(rt_transport_new) X(rt_manifest_get) X(rt_response_body) X(rt_response_read)              \
    X(rt_response_digest) X(rt_response_header) X(rt_list_tags) X(rt_list_next) X(rt_blob_get) X(rt_blob_save)        \
    X(rt_op_new) X(rt_op_cancel) X(rt_op_progress)
#define DECLARE(name) __typeof__(name) *name;
#define LOOK_UP(name) if ((*(void **)&rt.name = dlsym(library, #name)) == NULL) return fprintf(stderr, "no %s\n", #name), 1;
static struct { FUNCTIONS(DECLARE) } rt;

static void fail(rt_error *err)
{
    fprintf(stderr, "%s: %s\n", rt.rt_status_name(rt.rt_error_code(err)), rt.rt_error_message(err));
    exit(1);
}

struct call { const rt_transport *t; const char *digest, *path; rt_op *op; rt_error *err; };

static void *save(void *user)
{
    struct call *c = user;

    rt.rt_blob_save(c->t, c->digest, c->path, c->op, &c->err);
    return NULL;
}

int main(int argc, char **argv)
{
    void *library = argc == 7 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    rt_transport *t;
    rt_response *response;
    rt_error *err;
    const void *data;
    const char *tag;
    size_t len, size = 0;

    if (library == NULL)
        return fprintf(stderr, "%s\n", argc == 7 ? dlerror() : "usage: pull LIBRARY NAME TAG BLOB STALLING FILE"), 1;
    FUNCTIONS(LOOK_UP)
    if (rt.rt_abi() != RT_ABI)
        return fprintf(stderr, "another version of the library\n"), 1;
    printf("%s\n", rt.rt_version());

    rt_creds *creds = rt.rt_creds_basic(getenv("REGISTRY_USER"), getenv("REGISTRY_PASSWORD"));
    rt_options *options = rt.rt_options_new();
    if (rt.rt_options_set_str(options, "ca-file", getenv("REGISTRY_CA")) != RT_OK
        || rt.rt_options_set_str(options, "scheme", "https") != RT_OK)
        return fprintf(stderr, "no REGISTRY_CA\n"), 1;
    if (rt.rt_transport_new(argv[2], RT_PULL, creds, options, &t, &err) != RT_OK)
        fail(err);
    rt.rt_free(options);
    rt.rt_free(creds);

    if (rt.rt_manifest_get(t, argv[3], NULL, &response, &err) != RT_OK
        || rt.rt_response_body(response, &data, &len, &err) != RT_OK)
        fail(err);
    printf("manifest %s %s\n%.*s\n", rt.rt_response_digest(response), rt.rt_response_header(response, "content-type"),
           (int)len, (const char *)data);
    rt.rt_free(response); /* the digest, the header and the bytes were lent by it */

    rt_list *list = rt.rt_list_tags(t);
    printf("tags");
    while (rt.rt_list_next(list, NULL, &tag, &err) == RT_OK && tag != NULL)
        printf(" %s", tag);
    if (err != NULL)
        fail(err);
    printf("\n");
    rt.rt_free(list);

    FILE *file = fopen(argv[6], "wb");
    char buffer[65536];
    if (rt.rt_blob_get(t, argv[4], NULL, &response, &err) != RT_OK)
        fail(err);
    do { /* the end is reported only if the digest is right */
        if (rt.rt_response_read(response, buffer, sizeof buffer, &len, &err) != RT_OK)
            fail(err);
        size += fwrite(buffer, 1, len, file);
    } while (len > 0);
    fclose(file);
    printf("blob %s %zu\n", rt.rt_response_digest(response), size);
    rt.rt_free(response);

    if (rt.rt_manifest_get(t, "no-such-tag", NULL, &response, &err) == RT_OK)
        return fprintf(stderr, "no-such-tag is there\n"), 1;
    printf("error %s %" PRId32 " %s %s\n", rt.rt_status_name(rt.rt_error_code(err)), rt.rt_error_http_status(err),
           rt.rt_error_diag_code(err, 0), rt.rt_error_diag_message(err, 0));
    rt.rt_free(err);

    struct call call = {t, argv[5], argv[6], rt.rt_op_new(), NULL};
    pthread_t thread;
    int64_t done = 0;
    pthread_create(&thread, NULL, save, &call);
    while (rt.rt_op_progress(call.op, &done, NULL), done == 0) /* until it runs: any thread may look at it */
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    rt.rt_op_cancel(call.op);
    pthread_join(thread, NULL);
    printf("cancelled %s\n", rt.rt_status_name(rt.rt_error_code(call.err)));
    rt.rt_free(call.err);
    rt.rt_free(call.op);
    rt.rt_free(t);
    return 0;
}

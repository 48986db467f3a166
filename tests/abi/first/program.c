/* A program as it was written for the first release. It is compiled with that release's header, in this folder, and
 * must run on every library with the same RT_ABI: it names each of the functions there were, and makes the calls
 * that programs live on. Never changed.
 *
 *   program REGISTRY    of which user demo, password demo, may pull demo/app:latest
 */
#include "registry_transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what) do { if (!(what)) { fprintf(stderr, "line %d: %s\n", __LINE__, #what); exit(1); } } while (0)
#define MUST(call) do { rt_error *err = NULL; rt_status status = call; if (status != RT_OK) { \
    fprintf(stderr, "line %d: %s: %s\n", __LINE__, rt_status_name(status), rt_error_message(err)); exit(1); } } while (0)

typedef void (*function)(void);
static const struct {
    const char *name;
    function f;
} functions[] = {
#define FUNCTION(name) {#name, (function)name},
#include "functions.inc"
};

static int logged, dropped, steps;

static void on_log(void *user, int32_t level, const char *line)
{
    CHECK(user == &logged && level >= RT_LOG_ERROR && level <= RT_LOG_DEBUG && line[0] != '\0');
    logged++;
}

static void on_drop(void *user)
{
    (void)user;
    dropped++;
}

static rt_creds *on_creds(void *user, const char *registry, const char *repository, int32_t *fail)
{
    CHECK(user == &steps && registry != NULL && repository != NULL && *fail == 0);
    return rt_creds_basic("demo", "demo");
}

static int32_t on_progress(void *user, int64_t done, int64_t total)
{
    CHECK(user == &steps && done >= 0 && (total == -1 || done <= total));
    return 0;
}

static int32_t on_data(void *user, const void *data, size_t len)
{
    CHECK(data != NULL);
    *(size_t *)user += len;
    return 0;
}

/* The last digest in a manifest: that of a layer. */
static void last_digest(const void *data, size_t len, char *digest)
{
    const char *at = data;

    digest[0] = '\0';
    for (; len >= 71; at++, len--)
        if (memcmp(at, "sha256:", 7) == 0) {
            memcpy(digest, at, 71);
            digest[71] = '\0';
        }
    CHECK(digest[0] != '\0');
}

int main(int argc, char **argv)
{
    rt_options *options = rt_options_new();
    rt_op *op = rt_op_new();
    rt_creds *creds = rt_creds_callback(on_creds, &steps, on_drop);
    rt_transport *t;
    rt_response *answer;
    rt_list *tags;
    rt_blob *blob;
    rt_ref *ref;
    rt_req *request;
    rt_error *err;
    const char *tag;
    char name[256], digest[72], buf[512];
    const void *data;
    size_t len, got = 0, i;
    int64_t size;

    CHECK(argc == 2);
    CHECK(rt_abi() == RT_ABI);
    CHECK(strcmp(rt_version(), "") != 0);
    for (i = 0; i < sizeof functions / sizeof functions[0]; i++)
        CHECK(functions[i].f != NULL && strncmp(functions[i].name, "rt_", 3) == 0);

    CHECK(rt_options_set_int(options, "retries", 0) == RT_OK);
    CHECK(rt_options_set_str(options, "user-agent", "first/1.0") == RT_OK);
    CHECK(rt_options_set_str(options, "no-such-key", "x") == RT_E_UNSUPPORTED);
    CHECK(rt_options_set_log(options, RT_LOG_DEBUG, on_log, &logged, on_drop) == RT_OK);
    CHECK(rt_op_set_timeout_ms(op, 60000) == RT_OK);
    CHECK(rt_op_set_progress(op, on_progress, &steps, on_drop) == RT_OK);

    CHECK((size_t)snprintf(name, sizeof name, "%s/demo/app", argv[1]) < sizeof name);
    MUST(rt_ref_parse(name, &ref, &err));
    CHECK(strcmp(rt_ref_registry(ref), argv[1]) == 0 && strcmp(rt_ref_repository(ref), "demo/app") == 0);
    rt_free(ref);
    CHECK(rt_ref_parse("Not A Name", &ref, &err) == RT_E_SYNTAX);
    CHECK(ref == NULL && rt_error_code(err) == RT_E_SYNTAX);
    rt_free(err);

    MUST(rt_transport_new(name, RT_PULL, creds, options, &t, &err));
    MUST(rt_ping(t, op, &err));

    /* An index, one of its manifests, and a layer of that in three ways. */
    MUST(rt_manifest_get(t, "latest", op, &answer, &err));
    CHECK(rt_response_status(answer) == 200);
    CHECK(strcmp(rt_response_header(answer, "content-type"), RT_MEDIA_TYPE_OCI_INDEX) == 0);
    MUST(rt_response_body(answer, &data, &len, &err));
    last_digest(data, len, digest);
    rt_free(answer);
    MUST(rt_manifest_get(t, digest, op, &answer, &err));
    CHECK(strcmp(rt_response_digest(answer), digest) == 0);
    MUST(rt_response_body(answer, &data, &len, &err));
    last_digest(data, len, digest);
    rt_free(answer);
    MUST(rt_blob_get(t, digest, op, &answer, &err));
    size = rt_response_length(answer);
    CHECK(size > 0);
    MUST(rt_response_drain(answer, on_data, &got, &err));
    CHECK((int64_t)got == size);
    rt_free(answer);
    MUST(rt_blob_stat(t, digest, op, &size, &err));
    CHECK((int64_t)got == size);
    MUST(rt_blob_open(t, digest, op, &blob, &err));
    CHECK(rt_blob_size(blob) == size);
    MUST(rt_blob_pread(blob, buf, sizeof buf, size - 100, op, &len, &err));
    CHECK(len == 100);
    rt_free(blob);

    tags = rt_list_tags(t);
    MUST(rt_list_next(tags, op, &tag, &err));
    CHECK(tag != NULL && strcmp(tag, "1.0") == 0);
    MUST(rt_list_next(tags, op, &tag, &err));
    CHECK(tag != NULL && strcmp(tag, "latest") == 0);
    MUST(rt_list_next(tags, op, &tag, &err));
    CHECK(tag == NULL);
    rt_free(tags);

    /* What fails, and how. */
    CHECK(rt_manifest_get(t, "no-such-tag", op, &answer, &err) == RT_E_STATUS);
    CHECK(answer == NULL && rt_error_http_status(err) == 404 && rt_error_diag_count(err) == 1);
    CHECK(strcmp(rt_error_diag_code(err, 0), "MANIFEST_UNKNOWN") == 0);
    CHECK(rt_error_retry_after_ms(err) == -1);
    rt_free(err);
    request = rt_req_new("GET", "/v2/");
    CHECK(rt_req_header(request, "X-First", "1") == RT_OK);
    MUST(rt_request(t, request, op, &answer, &err));
    CHECK(rt_response_status(answer) == 200);
    rt_free(answer);
    rt_op_cancel(op);
    CHECK(rt_request(t, request, op, &answer, &err) == RT_E_CANCELLED);
    rt_free(err);
    CHECK(rt_request(NULL, request, NULL, &answer, NULL) == RT_E_ARG);

    rt_free(request);
    rt_free(op);
    rt_free(creds);
    rt_free(options);
    rt_transport_close(t);
    rt_free(t);
    CHECK(logged > 0 && dropped == 3);
    puts("ok");
    return 0;
}

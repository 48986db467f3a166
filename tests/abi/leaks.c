/* A thousand failing calls of each kind: the memory in use afterwards is what it was before. */
#include <registry_transport.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what)                                                                     \
    do {                                                                                \
        if (!(what)) {                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                  \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

#define DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* Less than the smallest piece of memory from malloc in each call. */
enum { CALLS = 1000, SLACK = CALLS * 16 };

static rt_transport *t, *nobody;
static rt_op *cancelled;

/* The failure that is wanted, whichever call it came from. */
static void failed(rt_status status, rt_status want, rt_error *err)
{
    if (status != want || err == NULL || rt_error_code(err) != want) {
        fprintf(stderr, "%s, not %s: %s\n", rt_status_name(status), rt_status_name(want), rt_error_message(err));
        exit(1);
    }
    rt_free(err);
}

static void get(const rt_transport *from, const char *path, const rt_op *op, rt_status want)
{
    rt_req *r = rt_req_new("GET", path);
    rt_response *answer = NULL;
    rt_error *err = NULL;
    const void *data;
    size_t len;
    rt_status status;

    CHECK(rt_req_accept_type(r, "text/plain") == RT_OK);
    status = rt_request(from, r, op, &answer, &err);
    if (status == RT_OK)
        status = rt_response_body(answer, &data, &len, &err);
    failed(status, want, err);
    rt_free(answer);
    rt_free(r);
}

static void argument(void)
{
    rt_transport *made;
    rt_error *err;
    rt_status status;

    status = rt_transport_new("r.example/a", 0, NULL, NULL, &made, &err);
    failed(status, RT_E_ARG, err);
}

static void syntax(void)
{
    rt_ref *ref;
    rt_error *err;
    rt_status status;

    status = rt_ref_parse("a b", &ref, &err);
    failed(status, RT_E_SYNTAX, err);
}

static void unsupported(void)
{
    rt_error *err;
    rt_status status;

    status = rt_manifest_delete(t, "kept", NULL, &err);
    failed(status, RT_E_UNSUPPORTED, err);
}

static void network(void)
{
    get(nobody, "/v2/hello", NULL, RT_E_NETWORK);
}

static void hung_up(void)
{
    get(t, "/v2/hangup", NULL, RT_E_NETWORK);
}

static void cancelling(void)
{
    get(t, "/v2/hello", cancelled, RT_E_CANCELLED);
}

static void unauthorised(void)
{
    get(t, "/v2/secret", NULL, RT_E_AUTH);
}

static void refused(void)
{
    get(t, "/v2/refused", NULL, RT_E_STATUS);
}

static void media_type(void)
{
    get(t, "/v2/html", NULL, RT_E_MEDIA_TYPE);
}

static void limit(void)
{
    get(t, "/v2/long", NULL, RT_E_LIMIT);
}

static void protocol(void)
{
    get(t, "/v2/garbage", NULL, RT_E_PROTOCOL);
}

static void digest(void)
{
    rt_response *answer = NULL;
    rt_error *err;
    const void *data;
    size_t len;
    rt_status status = rt_blob_get(t, DIGEST, NULL, &answer, &err);

    if (status == RT_OK)
        status = rt_response_body(answer, &data, &len, &err);
    failed(status, RT_E_DIGEST, err);
    rt_free(answer);
}

static void io(void)
{
    rt_error *err;
    rt_status status;

    status = rt_blob_save(t, DIGEST, "/nonexistent/folder/x", NULL, &err);
    failed(status, RT_E_IO, err);
}

static void state(void)
{
    rt_req *r = rt_req_new("GET", "/v2/hello");
    rt_response *answer = NULL;
    rt_error *err;
    rt_status status;
    const void *data;
    size_t len;
    char buf[4];

    CHECK(rt_request(t, r, NULL, &answer, NULL) == RT_OK);
    CHECK(rt_response_body(answer, &data, &len, NULL) == RT_OK);
    status = rt_response_read(answer, buf, sizeof buf, &len, &err);
    failed(status, RT_E_STATE, err);
    rt_free(answer);
    rt_free(r);
}

static size_t in_use(void)
{
    struct mallinfo2 now = mallinfo2();

    return now.uordblks + now.hblkhd;
}

static const struct {
    const char *name;
    void (*play)(void);
} kinds[] = {
    {"ARG", argument}, {"SYNTAX", syntax}, {"UNSUPPORTED", unsupported}, {"NETWORK", network},
    {"NETWORK, hung up", hung_up}, {"CANCELLED", cancelling}, {"AUTH", unauthorised}, {"STATUS", refused},
    {"MEDIA_TYPE", media_type}, {"LIMIT", limit}, {"PROTOCOL", protocol}, {"DIGEST", digest}, {"IO", io},
    {"STATE", state},
};

int main(int argc, char **argv)
{
    rt_options *o = rt_options_new();
    size_t i, before, after;
    int n, calls;
    char name[128];

    CHECK(argc == 4);
    calls = atoi(argv[3]);
    CHECK(calls > 0 && calls <= CALLS);
    CHECK(rt_options_set_int(o, "retries", 0) == RT_OK);
    CHECK(rt_options_set_int(o, "max-body-bytes", 16) == RT_OK);
    sprintf(name, "%s/a/b", argv[1]);
    CHECK(rt_transport_new(name, RT_DELETE, NULL, o, &t, NULL) == RT_OK);
    sprintf(name, "%s/a/b", argv[2]);
    CHECK(rt_transport_new(name, RT_PULL, NULL, o, &nobody, NULL) == RT_OK);
    rt_free(o);
    cancelled = rt_op_new();
    rt_op_cancel(cancelled);

    for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        /* What is kept on purpose is there after some. */
        for (n = 0; n < 20; n++)
            kinds[i].play();
        before = in_use();
        for (n = 0; n < calls; n++)
            kinds[i].play();
        after = in_use();
        if (after > before + SLACK) {
            fprintf(stderr, "RT_E_%s: %lu bytes in use before, %lu after\n", kinds[i].name, (unsigned long)before,
                    (unsigned long)after);
            return 1;
        }
    }
    rt_free(cancelled);
    rt_free(nobody);
    rt_free(t);
    puts("ok");
    return 0;
}

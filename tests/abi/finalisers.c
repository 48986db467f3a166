/* Finalisers run exactly once: when a function is replaced or removed, when the last user of a handle goes, when a
   call fails, and when it succeeds. */
#include <registry_transport.h>

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

static void on_drop(void *user)
{
    ++*(int *)user;
}

static int32_t on_progress(void *user, int64_t done, int64_t total)
{
    (void)done, (void)total;
    CHECK(*(int *)user == 0);
    return 0;
}

static void on_log(void *user, int32_t level, const char *line)
{
    (void)level, (void)line;
    CHECK(*(int *)user == 0);
}

static rt_creds *on_creds(void *user, const char *registry, const char *repository, int32_t *fail)
{
    (void)registry, (void)repository;
    CHECK(*(int *)user == 0);
    *fail = 1;
    return NULL;
}

static int64_t on_read(void *user, void *buf, size_t cap)
{
    CHECK(*(int *)user == 0 && cap >= 3);
    memcpy(buf, "abc", 3);
    return 3;
}

static rt_transport *make(const char *registry, const rt_creds *creds, const rt_options *options)
{
    rt_transport *t = NULL;
    char name[128];

    sprintf(name, "%s/a/b", registry);
    CHECK(rt_transport_new(name, RT_PULL, creds, options, &t, NULL) == RT_OK);
    return t;
}

static rt_status send(const rt_transport *t, const rt_req *r, const rt_op *op)
{
    rt_response *answer = NULL;
    rt_status status = rt_request(t, r, op, &answer, NULL);

    rt_free(answer);
    return status;
}

/* Replaced, removed, and left to the handle. */
static void replaced(const char *registry)
{
    int first = 0, second = 0, third = 0;
    rt_op *op = rt_op_new();
    rt_options *o = rt_options_new();
    rt_transport *t;

    CHECK(rt_op_set_progress(op, on_progress, &first, on_drop) == RT_OK && first == 0);
    CHECK(rt_op_set_progress(op, on_progress, &second, on_drop) == RT_OK && first == 1);
    CHECK(rt_op_set_progress(op, NULL, NULL, NULL) == RT_OK && second == 1);
    CHECK(rt_op_set_progress(op, on_progress, &third, on_drop) == RT_OK);
    rt_free(op);
    CHECK(first == 1 && second == 1 && third == 1);

    first = second = 0;
    CHECK(rt_options_set_log(o, RT_LOG_DEBUG, on_log, &first, on_drop) == RT_OK);
    t = make(registry, NULL, o);
    CHECK(rt_options_set_log(o, RT_LOG_DEBUG, on_log, &second, on_drop) == RT_OK && first == 0);
    rt_free(o);
    CHECK(second == 1 && first == 0);
    rt_free(t);
    CHECK(first == 1 && second == 1);
}

/* A handle is shared by what was made with it. */
static void shared(const char *registry)
{
    int creds_drops = 0, source_drops = 0;
    rt_creds *creds = rt_creds_callback(on_creds, &creds_drops, on_drop);
    rt_source *source = rt_source_reader(on_read, NULL, 3, &source_drops, on_drop);
    rt_transport *one = make(registry, creds, NULL), *two = make(registry, creds, NULL);
    rt_req *r = rt_req_new("POST", "/v2/echo"), *s = rt_req_new("POST", "/v2/secret");

    CHECK(rt_req_source(r, source) == RT_OK && rt_req_source(s, source) == RT_OK);
    rt_free(creds);
    rt_free(source);
    CHECK(send(one, r, NULL) == RT_OK);
    rt_free(one);
    rt_free(r);
    CHECK(creds_drops == 0 && source_drops == 0);
    /* The credentials fail, and so does the call. */
    CHECK(send(two, s, NULL) == RT_E_AUTH || send(two, s, NULL) == RT_E_STATE);
    rt_free(two);
    CHECK(creds_drops == 1 && source_drops == 0);
    rt_free(s);
    CHECK(creds_drops == 1 && source_drops == 1);
}

/* A body that is replaced goes. */
static void bodies(void)
{
    int first = 0, second = 0;
    rt_req *r = rt_req_new("POST", "/v2/echo");
    rt_source *source = rt_source_reader(on_read, NULL, -1, &first, on_drop);

    CHECK(rt_req_source(r, source) == RT_OK);
    rt_free(source);
    source = rt_source_reader(on_read, NULL, -1, &second, on_drop);
    CHECK(rt_req_source(r, source) == RT_OK && first == 1);
    rt_free(source);
    CHECK(second == 0);
    CHECK(rt_req_body(r, "x", 1) == RT_OK && second == 1);
    rt_free(r);
    CHECK(first == 1 && second == 1);
}

/* Calls that fail. */
static void failed(void)
{
    int drops = 0;
    rt_op *op = rt_op_new();

    CHECK(rt_creds_callback(NULL, &drops, on_drop) == NULL && drops == 1);
    CHECK(rt_source_reader(NULL, NULL, -1, &drops, on_drop) == NULL && drops == 2);
    CHECK(rt_source_reader(on_read, NULL, -2, &drops, on_drop) == NULL && drops == 3);
    CHECK(rt_options_set_log(NULL, RT_LOG_DEBUG, on_log, &drops, on_drop) == RT_E_ARG && drops == 4);
    CHECK(rt_options_set_log((rt_options *)op, RT_LOG_DEBUG, on_log, &drops, on_drop) == RT_E_ARG && drops == 5);
    CHECK(rt_op_set_progress(NULL, on_progress, &drops, on_drop) == RT_E_ARG && drops == 6);
    /* Removing with a finaliser: it has nothing to wait for. */
    CHECK(rt_op_set_progress(op, NULL, &drops, on_drop) == RT_OK && drops == 7);
    rt_free(op);
    CHECK(drops == 7);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    replaced(argv[1]);
    shared(argv[1]);
    bodies();
    failed();
    puts("ok");
    return 0;
}

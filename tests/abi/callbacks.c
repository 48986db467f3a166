/* Callbacks that call back: handles that are in use say so, handles freed in use live until the call ends. */
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

/* What a callback works on. */
struct scene {
    rt_transport *t;
    rt_req *r;
    rt_op *op;
    rt_response *answer;
    rt_source *source;
    rt_list *list;
    int calls, drops;
    size_t sent;
};

static void on_drop(void *user)
{
    ((struct scene *)user)->drops++;
}

static void make(struct scene *s, const char *registry, const rt_creds *creds, const rt_options *options)
{
    char name[128];

    memset(s, 0, sizeof *s);
    sprintf(name, "%s/a/b", registry);
    CHECK(rt_transport_new(name, RT_PULL, creds, options, &s->t, NULL) == RT_OK);
}

static void get(struct scene *s, const char *path, const rt_op *op)
{
    s->r = rt_req_new("GET", path);
    CHECK(rt_request(s->t, s->r, op, &s->answer, NULL) == RT_OK);
}

/* The body is being read: its head can be asked for, the body itself is in use. */
static int32_t nosy(void *user, const void *data, size_t len)
{
    struct scene *s = user;
    const void *body = data;
    const char *type = rt_response_header(s->answer, "content-length");
    rt_error *err = NULL;
    char buf[8];
    size_t got = 7;

    s->calls++;
    CHECK(rt_response_status(s->answer) == 200 && rt_response_length(s->answer) == 11);
    CHECK(type != NULL && strcmp(type, "11") == 0 && rt_response_url(s->answer) != NULL);
    CHECK(rt_response_header_count(s->answer) > 0 && rt_response_digest(s->answer) == NULL);
    CHECK(rt_response_read(s->answer, buf, sizeof buf, &got, &err) == RT_E_STATE && got == 0);
    CHECK(err != NULL && strstr(rt_error_message(err), "in use") != NULL);
    rt_free(err);
    CHECK(rt_response_body(s->answer, &body, &got, NULL) == RT_E_STATE && body == NULL);
    CHECK(rt_response_drain(s->answer, nosy, s, NULL) == RT_E_STATE);
    CHECK(rt_response_save(s->answer, "/nonexistent/x", NULL) == RT_E_STATE);
    CHECK(len > 0);
    return 0;
}

static void draining(const char *registry)
{
    struct scene s;

    make(&s, registry, NULL, NULL);
    get(&s, "/v2/hello", NULL);
    CHECK(rt_response_drain(s.answer, nosy, &s, NULL) == RT_OK && s.calls > 0);
    rt_free(s.answer);
    rt_free(s.r);
    rt_free(s.t);
}

/* Frees the response it is called for. */
static int32_t freeing(void *user, const void *data, size_t len)
{
    struct scene *s = user;

    if (s->calls++ == 0) {
        rt_free(s->answer);
        rt_free(s->r);
        rt_free(s->t);
    }
    CHECK(memcmp(data, "hello there", len) == 0);
    return 0;
}

static void freed_while_drained(const char *registry)
{
    struct scene s;

    make(&s, registry, NULL, NULL);
    get(&s, "/v2/hello", NULL);
    CHECK(rt_response_drain(s.answer, freeing, &s, NULL) == RT_OK && s.calls > 0);
}

/* Frees everything the running call uses, once; then only the call itself keeps it. */
static int64_t reading(void *user, void *buf, size_t cap)
{
    struct scene *s = user;
    size_t n = 1000;

    if (s->calls++ == 0) {
        rt_free(s->t);
        rt_free(s->r);
        rt_free(s->op);
        rt_free(s->source);
        CHECK(s->drops == 0);
    }
    if (n > 5000 - s->sent)
        n = 5000 - s->sent;
    CHECK(n <= cap);
    memset(buf, 'x', n);
    s->sent += n;
    return (int64_t)n;
}

static void freed_while_sent(const char *registry)
{
    struct scene s;

    make(&s, registry, NULL, NULL);
    s.op = rt_op_new();
    s.source = rt_source_reader(reading, NULL, 5000, &s, on_drop);
    s.r = rt_req_new("POST", "/v2/echo");
    CHECK(rt_req_source(s.r, s.source) == RT_OK);
    CHECK(rt_request(s.t, s.r, s.op, &s.answer, NULL) == RT_OK && s.calls > 0);
    CHECK(rt_response_status(s.answer) == 200);
    rt_free(s.answer);
    CHECK(s.drops == 1);
}

/* Calls of its own from within a call: other requests work, what is in use cannot be changed. */
static int64_t busy_reading(void *user, void *buf, size_t cap)
{
    struct scene *s = user;
    rt_req *other;
    rt_response *answer = NULL;

    (void)cap;
    if (s->calls++ > 0)
        return 0;
    CHECK(rt_req_header(s->r, "X-Late", "1") == RT_E_STATE);
    CHECK(rt_req_accept_status(s->r, 200) == RT_E_STATE);
    other = rt_req_new("GET", "/v2/hello");
    CHECK(rt_request(s->t, other, NULL, &answer, NULL) == RT_OK);
    rt_free(answer);
    rt_free(other);
    memcpy(buf, "abc", 3);
    return 3;
}

static void calling_back(const char *registry)
{
    struct scene s;

    make(&s, registry, NULL, NULL);
    s.source = rt_source_reader(busy_reading, NULL, 3, &s, on_drop);
    s.r = rt_req_new("POST", "/v2/echo");
    CHECK(rt_req_source(s.r, s.source) == RT_OK);
    rt_free(s.source);
    CHECK(rt_request(s.t, s.r, NULL, &s.answer, NULL) == RT_OK && s.calls > 0);
    CHECK(rt_req_header(s.r, "X-Late", "1") == RT_OK);
    rt_free(s.answer);
    rt_free(s.r);
    rt_free(s.t);
    CHECK(s.drops == 1);
}

/* The list it is called for is in use. */
static void listing(void *user, int32_t level, const char *line)
{
    struct scene *s = user;
    const char *name = line;

    (void)level;
    if (s->list == NULL || s->calls > 0)
        return;
    s->calls++;
    CHECK(rt_list_next(s->list, NULL, &name, NULL) == RT_E_STATE && name == NULL);
}

static void listed(const char *registry)
{
    struct scene s, logged;
    rt_options *o = rt_options_new();
    const char *name = NULL;

    memset(&logged, 0, sizeof logged);
    CHECK(rt_options_set_log(o, RT_LOG_DEBUG, listing, &logged, on_drop) == RT_OK);
    make(&s, registry, NULL, o);
    rt_free(o);
    logged.list = rt_list_tags(s.t);
    CHECK(rt_list_next(logged.list, NULL, &name, NULL) == RT_OK && strcmp(name, "one") == 0);
    CHECK(logged.calls == 1 && logged.drops == 0);
    rt_free(s.t);
    rt_free(logged.list);
    CHECK(logged.drops == 1);
}

int main(int argc, char **argv)
{
    CHECK(argc >= 2);
    if (argc == 2 || strchr(argv[2], '1')) draining(argv[1]);
    if (argc == 2 || strchr(argv[2], '2')) freed_while_drained(argv[1]);
    if (argc == 2 || strchr(argv[2], '3')) freed_while_sent(argv[1]);
    if (argc == 2 || strchr(argv[2], '4')) calling_back(argv[1]);
    if (argc == 2 || strchr(argv[2], '5')) listed(argv[1]);
    puts("ok");
    return 0;
}

/* Callbacks that make the very call that waits for them: told so, not left waiting. */
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
    rt_response *answer;
    int calls, drops;
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

/* The source it reads for is in use. */
static int64_t reading_itself(void *user, void *buf, size_t cap)
{
    struct scene *s = user;
    rt_response *answer = (rt_response *)0x51;

    (void)cap;
    if (s->calls++ > 0)
        return 0;
    CHECK(rt_request(s->t, s->r, NULL, &answer, NULL) == RT_E_STATE && answer == NULL);
    memcpy(buf, "abc", 3);
    return 3;
}

static void source_in_use(const char *registry)
{
    struct scene s;
    rt_source *source;

    make(&s, registry, NULL, NULL);
    source = rt_source_reader(reading_itself, NULL, 3, &s, on_drop);
    s.r = rt_req_new("POST", "/v2/echo");
    CHECK(rt_req_source(s.r, source) == RT_OK);
    CHECK(rt_request(s.t, s.r, NULL, &s.answer, NULL) == RT_OK && s.calls > 0);
    rt_free(source);
    rt_free(s.answer);
    rt_free(s.r);
    rt_free(s.t);
    CHECK(s.drops == 1);
}

/* The transport waits for this answer: using it cannot end. */
static rt_creds *asking_itself(void *user, const char *registry, const char *repository, int32_t *fail)
{
    struct scene *s = user;
    rt_response *answer = (rt_response *)0x51;

    (void)registry, (void)repository, (void)fail;
    s->calls++;
    CHECK(rt_request(s->t, s->r, NULL, &answer, NULL) == RT_E_STATE && answer == NULL);
    return rt_creds_basic("user", "password");
}

static void asked_for(const char *registry)
{
    struct scene s, asked;
    rt_creds *creds;

    memset(&asked, 0, sizeof asked);
    creds = rt_creds_callback(asking_itself, &asked, on_drop);
    make(&s, registry, creds, NULL);
    rt_free(creds);
    asked.t = s.t;
    asked.r = s.r = rt_req_new("GET", "/v2/secret");
    CHECK(rt_request(s.t, s.r, NULL, &s.answer, NULL) == RT_OK && asked.calls == 1);
    rt_free(s.answer);
    rt_free(s.r);
    rt_free(s.t);
    CHECK(asked.drops == 1);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    source_in_use(argv[1]);
    asked_for(argv[1]);
    puts("ok");
    return 0;
}

/* Text that was given out stays the same, at the same place, whatever else is asked of its handle. */
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

enum { TEXTS = 10, ROUNDS = 1000 };

struct scene {
    rt_ref *ref;
    rt_error *err;
    rt_response *answer;
};

/* Every text that can be had. */
static void ask(const struct scene *s, const char *texts[TEXTS])
{
    const char *value = NULL;

    texts[0] = rt_ref_registry(s->ref);
    texts[1] = rt_ref_repository(s->ref);
    texts[2] = rt_ref_tag(s->ref);
    texts[3] = rt_error_message(s->err);
    texts[4] = rt_error_diag_code(s->err, 1);
    texts[5] = rt_error_diag_message(s->err, 1);
    texts[6] = rt_error_diag_detail(s->err, 1);
    texts[7] = rt_response_header(s->answer, "Content-Type");
    texts[8] = rt_response_url(s->answer);
    CHECK(rt_response_header_at(s->answer, 0, &value) != NULL && value != NULL);
    texts[9] = value;
}

int main(int argc, char **argv)
{
    struct scene s = {NULL, NULL, NULL};
    rt_transport *t = NULL;
    rt_req *r;
    const char *first[TEXTS], *again[TEXTS];
    char *copies[TEXTS], name[128], buf[4];
    const void *body = NULL, *body_again;
    size_t len, len_again;
    int i, round;

    CHECK(argc == 2);
    CHECK(rt_ref_parse("r.example:5000/a/b:v1", &s.ref, NULL) == RT_OK);
    sprintf(name, "%s/a/b", argv[1]);
    CHECK(rt_transport_new(name, RT_PULL, NULL, NULL, &t, NULL) == RT_OK);
    r = rt_req_new("GET", "/v2/refused");
    CHECK(rt_request(t, r, NULL, &s.answer, &s.err) == RT_E_STATUS && s.err != NULL);
    rt_free(r);
    r = rt_req_new("GET", "/v2/hello");
    CHECK(rt_request(t, r, NULL, &s.answer, NULL) == RT_OK);

    ask(&s, first);
    for (i = 0; i < TEXTS; i++) {
        CHECK(first[i] != NULL && strlen(first[i]) > 0);
        copies[i] = malloc(strlen(first[i]) + 1);
        CHECK(copies[i] != NULL);
        strcpy(copies[i], first[i]);
    }
    CHECK(strcmp(first[2], "v1") == 0 && strcmp(first[4], "TWO") == 0);
    for (round = 0; round < ROUNDS; round++) {
        /* What changes the response does not move what it gave out. */
        if (round == 10)
            CHECK(rt_response_read(s.answer, buf, sizeof buf, &len, NULL) == RT_OK && len > 0);
        if (round == 20)
            CHECK(rt_response_body(s.answer, &body, &len, NULL) == RT_OK);
        if (round > 20) {
            CHECK(rt_response_body(s.answer, &body_again, &len_again, NULL) == RT_OK);
            CHECK(body_again == body && len_again == len);
        }
        /* Names that are asked for in other ways, and names that are not there. */
        sprintf(name, "X-None-%d", round);
        CHECK(rt_response_header(s.answer, name) == NULL);
        (void)rt_response_header(s.answer, "content-LENGTH");
        CHECK(rt_response_header_at(s.answer, 10000, NULL) == NULL);
        CHECK(rt_error_diag_code(s.err, 10000) == NULL);
        CHECK(rt_ref_digest(s.ref) == NULL);
        ask(&s, again);
        for (i = 0; i < TEXTS; i++)
            CHECK(again[i] == first[i] && strcmp(again[i], copies[i]) == 0);
    }
    for (i = 0; i < TEXTS; i++)
        free(copies[i]);
    rt_free(s.ref);
    rt_free(s.err);
    rt_free(s.answer);
    rt_free(r);
    rt_free(t);
    puts("ok");
    return 0;
}

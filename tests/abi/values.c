/* Odd values: text that is not UTF-8, control characters, integers at their ends, NULL buffers. */
#include <registry_transport.h>

#include <stdint.h>
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

static rt_status new_status(const char *name, uint32_t actions)
{
    rt_transport *t = (rt_transport *)0x51;
    rt_error *err = (rt_error *)0x51;
    rt_status status = rt_transport_new(name, actions, NULL, NULL, &t, &err);

    CHECK((status == RT_OK) == (t != NULL) && (status == RT_OK) == (err == NULL));
    if (err != NULL)
        CHECK(rt_error_code(err) == status && strchr(rt_error_message(err), '\n') == NULL);
    rt_free(t);
    rt_free(err);
    return status;
}

static void on_log(void *user, int32_t level, const char *line)
{
    (void)user;
    (void)level;
    (void)line;
}

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_options *o = rt_options_new();
    rt_op *op = rt_op_new();
    rt_req *r;
    rt_ref *ref = (rt_ref *)0x51;
    rt_response *answer = (rt_response *)0x51;
    rt_error *err = (rt_error *)0x51;
    rt_source *source;
    int64_t done = 7, total = 7, size = 7;
    char *big = malloc((2 << 20) + 1);
    char name[128];

    CHECK(argc == 2);
    memset(big, 'a', 2 << 20);
    big[2 << 20] = '\0';

    /* Names. */
    CHECK(new_status("ghcr.io/a/b", RT_PULL) == RT_OK);
    CHECK(new_status("\xff\xfe", RT_PULL) == RT_E_ARG);
    CHECK(new_status("", RT_PULL) == RT_E_SYNTAX);
    CHECK(new_status("ghcr.io/a\r\nb", RT_PULL) == RT_E_SYNTAX);
    CHECK(new_status("user:secret@ghcr.io/a", RT_PULL) == RT_E_SYNTAX);
    CHECK(new_status(big, RT_PULL) == RT_E_ARG);
    CHECK(new_status("ghcr.io/a/b", 0) == RT_E_ARG);
    CHECK(new_status("ghcr.io/a/b", 0x80000000u | RT_PULL) == RT_E_ARG);
    CHECK(new_status("ghcr.io/a/b", RT_CATALOG) == RT_E_ARG);
    CHECK(rt_ref_parse("a b", &ref, &err) == RT_E_SYNTAX && ref == NULL && err != NULL);
    rt_free(err);
    CHECK(rt_ref_parse("ubuntu", NULL, NULL) == RT_E_ARG);

    /* Options and credentials. */
    CHECK(rt_options_error(o) == NULL);
    CHECK(rt_options_set_str(o, "no-such-key", "x") == RT_E_UNSUPPORTED);
    CHECK(strstr(rt_options_error(o), "no-such-key") != NULL);
    CHECK(rt_options_set_int(o, "no-such-key", 1) == RT_E_UNSUPPORTED);
    CHECK(rt_options_set_str(o, "user-agent", "a\r\nb") == RT_E_ARG);
    CHECK(rt_options_set_int(o, "retries", INT64_MIN) == RT_E_ARG);
    CHECK(rt_options_set_int(o, "retries", INT64_MAX) == RT_E_ARG);
    CHECK(strstr(rt_options_error(o), "retries") != NULL && strstr(rt_options_error(o), "0 to 100") != NULL);
    CHECK(rt_options_set_str(o, "proxy", "ftp://user:secret@p:1") == RT_E_ARG);
    CHECK(strstr(rt_options_error(o), "proxy") != NULL && strstr(rt_options_error(o), "secret") == NULL);
    CHECK(rt_options_set_int(o, "retries", 3) == RT_OK && rt_options_error(o) == NULL);
    CHECK(rt_options_set_log(o, 99, on_log, NULL, NULL) == RT_E_ARG);
    CHECK(rt_options_set_log(o, 0, NULL, NULL, NULL) == RT_OK);
    CHECK(rt_creds_basic("a:b", "c") == NULL && rt_creds_basic(NULL, "c") == NULL);
    CHECK(rt_creds_basic("a\n", "c") == NULL && rt_creds_bearer("a b") == NULL);
    CHECK(rt_creds_refresh("") == NULL);

    /* Numbers at their ends. */
    CHECK(rt_op_set_timeout_ms(op, -1) == RT_E_ARG);
    CHECK(rt_op_set_timeout_ms(op, INT64_MAX) == RT_OK && rt_op_set_timeout_ms(op, 0) == RT_OK);
    CHECK(strcmp(rt_status_name(12345), "RT_E_OTHER") == 0);
    CHECK(strcmp(rt_status_name(-1), "RT_E_OTHER") == 0);
    CHECK(strcmp(rt_status_name(RT_E_TIMEOUT), "RT_E_TIMEOUT") == 0);
    CHECK(rt_source_reader(NULL, NULL, -2, NULL, NULL) == NULL);
    rt_op_progress(op, &done, &total);
    CHECK(done == 0 && total == -1);
    rt_op_progress(op, NULL, NULL);

    /* Empty bytes. */
    source = rt_source_bytes(NULL, 0);
    CHECK(source != NULL && rt_source_bytes(NULL, 1) == NULL);
    rt_free(source);

    /* Requests: mistakes are reported by the call that sends them. */
    sprintf(name, "%s/a/b", argv[1]);
    CHECK(rt_transport_new(name, RT_PULL, NULL, o, &t, NULL) == RT_OK);
    r = rt_req_new("GET", "/v2/hello");
    CHECK(rt_req_header(r, "X-Test", "a\r\nInjected: b") == RT_OK);
    CHECK(rt_req_accept_status(r, 99) == RT_E_ARG && rt_req_accept_status(r, 600) == RT_E_ARG);
    CHECK(rt_req_body(r, NULL, 1) == RT_E_ARG);
    CHECK(rt_request(t, r, NULL, &answer, &err) == RT_E_ARG && answer == NULL && err != NULL);
    rt_free(err);
    rt_free(r);
    r = rt_req_new("G\nET", "/v2/hello");
    CHECK(rt_request(t, r, NULL, &answer, NULL) == RT_E_ARG);
    rt_free(r);
    r = rt_req_new("GET", "/v2/../../etc/passwd");
    CHECK(rt_request(t, r, NULL, &answer, NULL) == RT_E_SYNTAX);
    rt_free(r);
    CHECK(rt_blob_stat(t, "sha256:../../x", NULL, &size, &err) == RT_E_SYNTAX && size == 0 && err != NULL);
    rt_free(err);

    /* A cancelled op ends the next call at once. */
    rt_op_cancel(op);
    r = rt_req_new(NULL, "/v2/hello");
    CHECK(rt_request(t, r, op, &answer, NULL) == RT_E_CANCELLED && answer == NULL);
    rt_free(r);

    rt_free(t);
    rt_free(op);
    rt_free(o);
    free(big);
    puts("ok");
    return 0;
}

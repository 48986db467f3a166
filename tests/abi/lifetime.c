/* Handles may be given back in any order: what is still needed of each other stays alive. */
#include <registry_transport.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int drops;

static int32_t on_progress(void *user, int64_t done, int64_t total)
{
    (void)done;
    (void)total;
    ++*(int *)user;
    return 0;
}

static void on_drop(void *user)
{
    (void)user;
    drops++;
}

#define CHECK(what)                                                                     \
    do {                                                                                \
        if (!(what)) {                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                  \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

/* One call, then its five handles freed in the order of the permutation; the body is read
   when only the response is left, or at once when it is freed earlier. */
static void run(const char *registry, const int order[5])
{
    void *handles[5];
    rt_transport *t = NULL;
    rt_req *r;
    rt_op *op;
    rt_response *answer = NULL;
    rt_error *err = (rt_error *)0x51;
    char name[128], buf[64];
    const void *data = (void *)0x51;
    size_t len = 7;
    int i, called = 0, before = drops;

    sprintf(name, "%s/a/b", registry);
    CHECK(rt_transport_new(name, RT_PULL, NULL, NULL, &t, &err) == RT_OK && err == NULL);
    r = rt_req_new("GET", "/v2/hello");
    op = rt_op_new();
    CHECK(rt_op_set_progress(op, on_progress, &called, on_drop) == RT_OK);
    CHECK(rt_request(t, r, op, &answer, &err) == RT_OK && err == NULL);
    CHECK(rt_manifest_get(t, "../bad", NULL, (rt_response **)&data, &err) == RT_E_SYNTAX);
    CHECK(data == NULL && err != NULL && rt_error_code(err) == RT_E_SYNTAX);
    handles[0] = t;
    handles[1] = r;
    handles[2] = op;
    handles[3] = answer;
    handles[4] = err;
    for (i = 0; i < 5; i++) {
        if (order[i] == 3) {
            CHECK(rt_response_read(answer, buf, 3, &len, NULL) == RT_OK && len == 3);
            CHECK(rt_response_body(answer, &data, &len, NULL) == RT_OK);
            CHECK(len == 8 && memcmp(data, "lo there", 9) == 0);
            CHECK(rt_response_read(answer, buf, 3, &len, NULL) == RT_E_STATE && len == 0);
        }
        if (order[i] == 4)
            CHECK(strlen(rt_error_message(err)) > 0);
        rt_free(handles[order[i]]);
    }
    CHECK(called > 0 && drops == before + 1);
}

static void permute(const char *registry, int order[5], int from)
{
    int i, swap;

    if (from == 5) {
        run(registry, order);
        return;
    }
    for (i = from; i < 5; i++) {
        swap = order[from], order[from] = order[i], order[i] = swap;
        permute(registry, order, from + 1);
        swap = order[from], order[from] = order[i], order[i] = swap;
    }
}

int main(int argc, char **argv)
{
    int order[5] = {0, 1, 2, 3, 4};

    CHECK(argc == 2 && rt_abi() == RT_ABI);
    permute(argv[1], order, 0);
    rt_free(NULL);
    /* Finalisers run also when a call fails. */
    drops = 0;
    CHECK(rt_creds_callback(NULL, NULL, on_drop) == NULL && drops == 1);
    CHECK(rt_source_reader(NULL, NULL, -1, NULL, on_drop) == NULL && drops == 2);
    CHECK(rt_options_set_log(NULL, RT_LOG_DEBUG, NULL, NULL, on_drop) == RT_E_ARG && drops == 3);
    CHECK(rt_op_set_progress(NULL, on_progress, NULL, on_drop) == RT_E_ARG && drops == 4);
    puts("ok");
    return 0;
}

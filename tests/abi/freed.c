/* Handles given back twice and used afterwards. The contract leaves that undefined; what is pinned here is that in
   the common case it is noticed and nothing else breaks. */
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

int main(void)
{
    rt_op *op = rt_op_new(), *others[100];
    rt_req *r = rt_req_new("GET", "/v2/");
    rt_transport *t = NULL;
    rt_ref *ref = NULL;
    rt_error *err = NULL;
    size_t i;

    CHECK(rt_transport_new("r.example/a", RT_PULL, NULL, NULL, &t, NULL) == RT_OK);
    CHECK(rt_ref_parse("r.example/a", &ref, NULL) == RT_OK);
    CHECK(rt_ref_parse("a b", NULL, &err) == RT_E_ARG && err != NULL);

    /* At once, before the memory is used for anything else. */
    rt_free(op);
    rt_free(op);
    CHECK(rt_op_set_timeout_ms(op, 1) == RT_E_ARG);
    rt_op_cancel(op);
    rt_free(r);
    rt_free(r);
    CHECK(rt_req_header(r, "A", "b") == RT_E_ARG);
    rt_free(ref);
    rt_free(ref);
    CHECK(rt_ref_tag(ref) == NULL);
    rt_free(err);
    rt_free(err);
    CHECK(rt_error_message(err) == NULL && rt_error_diag_count(err) == 0);
    rt_free(t);
    rt_free(t);
    CHECK(rt_ping(t, NULL, NULL) == RT_E_ARG);

    /* No memory is given out twice. */
    for (i = 0; i < 100; i++) {
        size_t k;
        others[i] = rt_op_new();
        for (k = 0; k < i; k++)
            CHECK(others[i] != others[k]);
    }
    for (i = 0; i < 100; i++) {
        CHECK(rt_op_set_timeout_ms(others[i], 1) == RT_OK);
        rt_free(others[i]);
    }
    puts("ok");
    return 0;
}

/* What the programs about the host's process share. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <registry_transport.h>

#include <stdio.h>
#include <stdlib.h>

#define CHECK(what)                                                                     \
    do {                                                                                \
        if (!(what)) {                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                  \
            _exit(1);                                                                   \
        }                                                                               \
    } while (0)

/* Fails with what the library says. */
#define OK(call)                                                                        \
    do {                                                                                \
        rt_error *err = NULL;                                                           \
        rt_status got = call;                                                           \
        if (got != RT_OK) {                                                             \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call,           \
                    rt_status_name(got), rt_error_message(err));                        \
            _exit(1);                                                                   \
        }                                                                               \
    } while (0)

/* A transport for repository a/b that speaks scheme. */
static inline rt_transport *make(const char *registry, const char *scheme)
{
    rt_options *o = rt_options_new();
    rt_transport *t = NULL;
    char name[128];

    CHECK(rt_options_set_str(o, "scheme", scheme) == RT_OK);
    /* One program stands for many here, and its servers for many registries. */
    CHECK(rt_options_set_int(o, "share-tokens", 0) == RT_OK);
    snprintf(name, sizeof name, "%s/a/b", registry);
    OK(rt_transport_new(name, RT_PUSH, NULL, o, &t, &err));
    rt_free(o);
    return t;
}

/* Called when a request is ready, right before it is sent. */
static void (*before_sending)(void);

/* Sends METHOD path and reads the answer. */
static inline rt_status ask(const rt_transport *t, const char *method, const char *path, size_t body, const rt_op *op)
{
    rt_req *r = rt_req_new(method, path);
    rt_response *answer = NULL;
    const void *data;
    size_t len;
    rt_status status;

    if (body > 0) {
        void *bytes = calloc(1, body);

        CHECK(bytes != NULL && rt_req_body(r, bytes, body) == RT_OK);
        free(bytes);
    }
    if (before_sending != NULL)
        before_sending();
    status = rt_request(t, r, op, &answer, NULL);
    if (status == RT_OK)
        status = rt_response_body(answer, &data, &len, NULL);
    rt_free(answer);
    rt_free(r);
    return status;
}

#endif

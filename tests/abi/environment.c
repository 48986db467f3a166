/* A thread that changes the environment all the time disturbs no call: it is read when a transport is made, and
   only then.
   Usage: environment SERVER */
#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "program.h"

static atomic_int stop, changes;

static void *change(void *unused)
{
    static const char *const names[] = {
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "NO_PROXY", "no_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "HOME", "PATH",
    };
    const unsigned count = sizeof names / sizeof names[0];
    char value[512];
    unsigned i;

    for (i = 0; !stop; i++) {
        memset(value, 'x', sizeof value);
        memcpy(value, "http://127.0.0.1:9/", 19);
        value[64 + i % 400] = 0;
        CHECK(setenv(names[i % count], value, 1) == 0);
        if (i % 3 == 0)
            CHECK(unsetenv(names[i / 3 % count]) == 0);
        changes++;
    }
    return unused;
}

int main(int argc, char **argv)
{
    rt_transport *t, *tls, *deaf;
    rt_options *o = rt_options_new();
    pthread_t thread;
    char name[128];
    int i, k;

    CHECK(argc == 2);
    /* Both are made before: what the environment says later, such as of a proxy, is not followed. */
    t = make(argv[1], "http");
    tls = make(argv[1], "https");
    /* One that does not listen can be made at any time. */
    CHECK(rt_options_set_int(o, "environment", 0) == RT_OK);
    snprintf(name, sizeof name, "%s/a/b", argv[1]);
    CHECK(pthread_create(&thread, NULL, change, NULL) == 0);
    for (i = 0; i < 300 || changes < 20000; i++) {
        CHECK(ask(t, "GET", "/v2/", 0, NULL) == RT_OK);
        for (k = 0; k < 20; k++) {
            OK(rt_transport_new(name, RT_PULL, NULL, o, &deaf, &err));
            if (k == 0)
                CHECK(ask(deaf, "GET", "/v2/", 0, NULL) == RT_OK);
            rt_free(deaf);
        }
        if (i % 10 == 0) {
            rt_transport_close(t);
            CHECK(ask(tls, "GET", "/v2/", 0, NULL) == RT_E_TLS);
        }
    }
    stop = 1;
    pthread_join(thread, NULL);
    rt_free(t);
    rt_free(tls);
    rt_free(o);
    puts("ok");
    return 0;
}

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
    char name[32], value[2048];
    unsigned i;

    for (i = 0; !stop; i++) {
        snprintf(name, sizeof name, "RT_TEST_%u", i % 500);
        memset(value, 'a' + (int)(i % 26), sizeof value);
        value[i % sizeof value] = 0;
        CHECK(setenv(name, value, 1) == 0);
        CHECK(setenv(i % 2 ? "HTTP_PROXY" : "HTTPS_PROXY", "http://127.0.0.1:9", 1) == 0);
        CHECK(setenv("SSL_CERT_FILE", value, 1) == 0);
        if (i % 3 == 0)
            CHECK(unsetenv(name) == 0);
        changes++;
    }
    return unused;
}

int main(int argc, char **argv)
{
    rt_transport *t, *tls;
    pthread_t thread;
    int i;

    CHECK(argc == 2);
    /* Both are made before: what the environment says later, such as of a proxy, is not followed. */
    t = make(argv[1], "http");
    tls = make(argv[1], "https");
    CHECK(pthread_create(&thread, NULL, change, NULL) == 0);
    for (i = 0; i < 300 || changes < 20000; i++) {
        CHECK(ask(t, "GET", "/v2/", 0, NULL) == RT_OK);
        if (i % 10 == 0) {
            rt_transport_close(t);
            CHECK(ask(tls, "GET", "/v2/", 0, NULL) == RT_E_TLS);
        }
    }
    stop = 1;
    pthread_join(thread, NULL);
    rt_free(t);
    rt_free(tls);
    puts("ok");
    return 0;
}

/* dlopen, use and dlclose while threads that resolve names are still running. They end later, in code that is
   still there, and leave nothing behind.
   Usage: unload LIBRARY */
#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what)                                                                     \
    do {                                                                                \
        if (!(what)) {                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                  \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

static const char *path;
static int held[2];

/* In place of the system's: answers when the test lets it. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    char byte;

    (void)node, (void)service, (void)hints, (void)out;
    while (read(held[0], &byte, 1) < 0)
        ;
    return EAI_NONAME;
}

static int threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int n = 0;

    CHECK(tasks != NULL);
    while (readdir(tasks) != NULL)
        n++;
    closedir(tasks);
    return n - 2;
}

static void *sym(void *library, const char *name)
{
    void *found = dlsym(library, name);

    CHECK(found != NULL);
    return found;
}

static void *use(void *unused)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL), *t = NULL, *answer = NULL, *op, *r;
    int32_t (*transport_new)(const char *, uint32_t, const void *, const void *, void **, void **);
    int32_t (*request)(const void *, const void *, const void *, void **, void **);
    int32_t (*set_timeout)(void *, int64_t);
    void *(*req_new)(const char *, const char *), *(*op_new)(void);
    void (*give_back)(void *);
    int32_t status;

    CHECK(library != NULL);
    *(void **)&transport_new = sym(library, "rt_transport_new");
    *(void **)&request = sym(library, "rt_request");
    *(void **)&req_new = sym(library, "rt_req_new");
    *(void **)&op_new = sym(library, "rt_op_new");
    *(void **)&set_timeout = sym(library, "rt_op_set_timeout_ms");
    *(void **)&give_back = sym(library, "rt_free");
    r = req_new("GET", "/v2/");
    op = op_new();
    CHECK(set_timeout(op, 20) == 0);
    CHECK(transport_new("held.test/a/b", 1, NULL, NULL, &t, NULL) == 0);
    status = request(t, r, op, &answer, NULL);
    /* Out of time, unless it got the answer that was meant for an earlier one. */
    CHECK(status == 6 || status == 4);
    give_back(t);
    give_back(r);
    give_back(op);
    CHECK(dlclose(library) == 0);
    return unused;
}

int main(int argc, char **argv)
{
    struct timespec pause = {0, 1000000};
    pthread_t thread;
    int i, left;

    CHECK(argc == 2 && pipe(held) == 0);
    path = argv[1];
    for (i = 0; i < 100; i++) {
        if (i % 2 == 0) {
            use(NULL);
        } else {
            CHECK(pthread_create(&thread, NULL, use, NULL) == 0);
            CHECK(pthread_join(thread, NULL) == 0);
        }
        /* Some end while the library is not open, some while it is. */
        if (i % 3 == 0)
            CHECK(write(held[1], "x", 1) == 1);
    }
    CHECK(threads() > 20);
    CHECK(close(held[1]) == 0);
    for (i = 0; (left = threads()) > 1 && i < 10000; i++)
        nanosleep(&pause, NULL);
    CHECK(left == 1);
    puts("ok");
    return 0;
}

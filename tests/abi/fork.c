/* fork: while a body is open, while other threads make calls, and while another thread reads the trust store.
   Usage: fork SERVER DIGEST SIZE */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program.h"

static const char *server;
static atomic_int stop, calls;

/* A child that hangs is ended by its alarm, and fails the test. */
static pid_t child(void)
{
    pid_t pid;

    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        alarm(20);
    return pid;
}

static void ended_well(pid_t pid)
{
    int status;

    CHECK(waitpid(pid, &status, 0) == pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, "a child ended with status %#x\n", status);
        exit(1);
    }
}

/* The parent's open body, with its digest thread, is left alone by what the child does with it. */
static void open_body(const char *digest, size_t size)
{
    rt_transport *t = make(server, "http");
    rt_op *op = rt_op_new();
    rt_response *answer = NULL;
    rt_upload *upload = NULL;
    rt_blob *blob = NULL;
    rt_list *list = rt_list_tags(t);
    char buf[4096];
    const char *name;
    size_t len, all = 0;
    int64_t total;
    pid_t pid;

    OK(rt_blob_get(t, digest, op, &answer, &err));
    OK(rt_response_read(answer, buf, sizeof buf, &len, &err));
    all += len;
    OK(rt_blob_open(t, digest, NULL, &blob, &err));
    OK(rt_upload_begin(t, NULL, &upload, &err));
    pid = child();
    if (pid == 0) {
        rt_source *source = rt_source_bytes("x", 1);
        rt_transport *own;

        CHECK(rt_response_read(answer, buf, sizeof buf, &len, NULL) == RT_E_STATE);
        CHECK(rt_blob_pread(blob, buf, 10, 0, NULL, &len, NULL) == RT_E_STATE);
        CHECK(rt_upload_send(upload, source, NULL, NULL) == RT_E_STATE);
        CHECK(rt_list_next(list, NULL, &name, NULL) == RT_E_STATE);
        CHECK(rt_ping(t, NULL, NULL) == RT_E_STATE);
        CHECK(rt_blob_save(t, digest, "/nowhere", NULL, NULL) == RT_E_STATE);
        CHECK(rt_copy(t, "latest", t, "x", NULL, NULL) == RT_E_STATE);
        rt_op_progress(op, NULL, &total);
        rt_transport_close(t);
        rt_free(answer);
        rt_free(blob);
        rt_free(upload);
        rt_free(list);
        rt_free(op);
        rt_free(t);
        rt_free(source);
        own = make(server, "http");
        CHECK(ask(own, "GET", "/v2/", 0, NULL) == RT_OK);
        rt_free(own);
        _exit(0);
    }
    ended_well(pid);
    do {
        OK(rt_response_read(answer, buf, sizeof buf, &len, &err));
        all += len;
    } while (len > 0);
    CHECK(all == size);
    OK(rt_blob_pread(blob, buf, 10, 5, NULL, &len, &err));
    OK(rt_upload_cancel(upload, NULL, &err));
    CHECK(ask(t, "GET", "/v2/", 0, NULL) == RT_OK);
    rt_free(answer);
    rt_free(blob);
    rt_free(upload);
    rt_free(list);
    rt_free(op);
    rt_free(t);
}

static void *busy(void *shared)
{
    while (!stop) {
        rt_transport *own = make(server, "http");

        CHECK(ask(shared, "GET", "/v2/", 0, NULL) == RT_OK);
        CHECK(ask(own, "GET", "/v2/", 0, NULL) == RT_OK);
        rt_free(own);
        calls++;
    }
    return NULL;
}

static void busy_threads(void)
{
    rt_transport *t = make(server, "http");
    pthread_t threads[4];
    int i, before;

    for (i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, busy, t) == 0);
    for (i = 0; i < 40; i++) {
        pid_t pid = child();

        if (pid == 0) {
            rt_transport *own = make(server, "http");

            CHECK(ask(t, "GET", "/v2/", 0, NULL) == RT_E_STATE);
            CHECK(ask(own, "GET", "/v2/", 0, NULL) == RT_OK);
            rt_transport_close(t);
            rt_free(t);
            rt_free(own);
            _exit(0);
        }
        ended_well(pid);
    }
    before = calls;
    while (calls < before + 8)
        ;
    stop = 1;
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    rt_free(t);
}

static atomic_int wait_there, is_there;

/* In place of the C library's: the first thread that opens the trust store stays there until it is let go. */
int open64(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    va_list rest;
    unsigned mode;

    va_start(rest, flags);
    mode = flags & O_CREAT ? va_arg(rest, unsigned) : 0;
    va_end(rest);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "open64");
    if (wait_there && strncmp(path, "/etc/ssl/", 9) == 0) {
        is_there = 1;
        while (wait_there)
            ;
    }
    return real(path, flags, mode);
}

static void *first_tls(void *t)
{
    CHECK(ask(t, "GET", "/v2/", 0, NULL) == RT_E_TLS);
    return NULL;
}

/* The trust store is read once in a process, by the first TLS connection: a child forked meanwhile must not wait
   for a thread that it does not have. */
static void trust_store(void)
{
    rt_transport *t = make(server, "https"), *own;
    pthread_t thread;
    pid_t pid;

    wait_there = 1;
    CHECK(pthread_create(&thread, NULL, first_tls, t) == 0);
    while (!is_there)
        ;
    pid = child();
    if (pid == 0) {
        wait_there = 0;
        own = make(server, "https");
        CHECK(ask(own, "GET", "/v2/", 0, NULL) == RT_E_TLS);
        rt_free(own);
        _exit(0);
    }
    ended_well(pid);
    wait_there = 0;
    pthread_join(thread, NULL);
    rt_free(t);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    server = argv[1];
    /* The system's store, not one that somebody named. */
    CHECK(unsetenv("SSL_CERT_FILE") == 0 && unsetenv("SSL_CERT_DIR") == 0);
    trust_store();
    open_body(argv[2], strtoul(argv[3], NULL, 10));
    busy_threads();
    puts("ok");
    return 0;
}

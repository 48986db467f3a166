/* Signals: a handler cancels a call, whatever it waits for, and a storm of them disturbs nothing.
   Usage: signals SERVER DEAF SILENT DIGEST FOLDER */
#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L
#include <netdb.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

static const rt_op *volatile current;
static volatile sig_atomic_t fired;
static struct timespec fired_at;
static int never[2];

/* In place of the system's: does not answer. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **out)
{
    char byte;

    (void)node, (void)service, (void)hints, (void)out;
    while (read(never[0], &byte, 1) < 0)
        ;
    return EAI_NONAME;
}

static void stop(int signal_number)
{
    (void)signal_number;
    if (current != NULL && !fired) {
        clock_gettime(CLOCK_MONOTONIC, &fired_at);
        fired = 1;
        rt_op_cancel(current);
    }
}

static void count(int signal_number)
{
    (void)signal_number;
    fired++;
}

static void on_alarm(void (*handler)(int), long first_us, long interval_us)
{
    struct sigaction action;
    struct itimerval timer;

    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    memset(&timer, 0, sizeof timer);
    timer.it_value.tv_usec = first_us;
    timer.it_interval.tv_usec = interval_us;
    CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void arm(void)
{
    on_alarm(stop, 150000, 0);
}

static void cancelled(const char *phase, const char *registry, const char *scheme, const char *method,
                      const char *path, size_t body)
{
    rt_transport *t = make(registry, scheme);
    rt_op *op = rt_op_new();
    struct timespec now;
    long took;
    rt_status status;

    fired = 0;
    current = op;
    before_sending = arm;
    status = ask(t, method, path, body, op);
    clock_gettime(CLOCK_MONOTONIC, &now);
    current = NULL;
    took = (now.tv_sec - fired_at.tv_sec) * 1000 + (now.tv_nsec - fired_at.tv_nsec) / 1000000;
    if (!fired || status != RT_E_CANCELLED || took > 400) {
        fprintf(stderr, "%s: %s, %ld ms after the signal\n", phase, rt_status_name(status), fired ? took : -1L);
        exit(1);
    }
    rt_free(op);
    rt_free(t);
}

static void storm(const char *server, const char *digest, const char *folder)
{
    rt_transport *t = make(server, "http");
    rt_source *source;
    char path[256], *data = malloc(1 << 20);
    int i;

    CHECK(data != NULL);
    fired = 0;
    before_sending = NULL;
    on_alarm(count, 500, 500);
    for (i = 0; i < 20 || fired < 200; i++) {
        memset(data, i + 1, 1 << 20);
        snprintf(path, sizeof path, "%s/blob-%d", folder, i);
        OK(rt_blob_save(t, digest, path, NULL, &err));
        CHECK(access(path, R_OK) == 0);
        source = rt_source_bytes(data, 1 << 20);
        OK(rt_blob_put(t, NULL, source, NULL, NULL, NULL, &err));
        rt_free(source);
        CHECK(ask(t, "GET", "/v2/", 0, NULL) == RT_OK);
        rt_transport_close(t);
    }
    on_alarm(count, 0, 0);
    free(data);
    rt_free(t);
}

int main(int argc, char **argv)
{
    CHECK(argc == 6 && pipe(never) == 0);
    cancelled("name", "silent.test:80", "http", "GET", "/v2/x", 0);
    cancelled("connect", argv[2], "http", "GET", "/v2/x", 0);
    cancelled("TLS", argv[3], "https", "GET", "/v2/x", 0);
    cancelled("upload", argv[3], "http", "PUT", "/v2/x", 64 << 20);
    cancelled("head", argv[1], "http", "GET", "/v2/held", 0);
    cancelled("body", argv[1], "http", "GET", "/v2/stalled", 0);
    cancelled("back-off", argv[1], "http", "GET", "/v2/busy", 0);
    cancelled("token", argv[1], "http", "GET", "/v2/token", 0);
    storm(argv[1], argv[4], argv[5]);
    puts("ok");
    return 0;
}

/* fork and SIGPIPE: a child is told to make its own transport, and a server that hangs up
   in the middle of an upload does not end the process. */
#define _POSIX_C_SOURCE 200809L
#include <registry_transport.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what)                                                                     \
    do {                                                                                \
        if (!(what)) {                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);                  \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

static rt_transport *make(const char *registry)
{
    rt_transport *t = NULL;
    rt_error *err = NULL;
    char name[128];

    sprintf(name, "%s/a/b", registry);
    CHECK(rt_transport_new(name, RT_PULL, NULL, NULL, &t, &err) == RT_OK);
    return t;
}

static rt_status get(const rt_transport *t)
{
    rt_req *r = rt_req_new("GET", "/v2/hello");
    rt_response *answer = NULL;
    rt_error *err = NULL;
    rt_status status = rt_request(t, r, NULL, &answer, &err);

    CHECK((status == RT_OK) == (answer != NULL) && (status != RT_OK) == (err != NULL));
    rt_free(answer);
    rt_free(err);
    rt_free(r);
    return status;
}

static void forked(const char *registry)
{
    rt_transport *t = make(registry), *own;
    int status;
    pid_t child;

    CHECK(get(t) == RT_OK);
    child = fork();
    if (child == 0) {
        CHECK(get(t) == RT_E_STATE);
        own = make(registry);
        CHECK(get(own) == RT_OK);
        rt_free(own);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(get(t) == RT_OK);
    rt_free(t);
}

static void hung_up(const char *registry)
{
    size_t size = 8 << 20;
    char *data = calloc(1, size);
    rt_transport *t = make(registry);
    rt_req *r = rt_req_new("POST", "/v2/hangup");
    rt_response *answer = NULL;
    rt_error *err = NULL;
    rt_status status;

    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    CHECK(rt_req_body(r, data, size) == RT_OK);
    status = rt_request(t, r, NULL, &answer, &err);
    CHECK(status == RT_E_NETWORK && answer == NULL && err != NULL);
    rt_free(err);
    rt_free(r);
    rt_free(t);
    free(data);
}

static rt_transport *last;

/* What belongs to the threads of a program is gone when this runs. */
static void leave(void)
{
    CHECK(get(last) == RT_OK);
    rt_free(last);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2 && atexit(leave) == 0);
    last = make(argv[1]);
    forked(argv[1]);
    hung_up(argv[1]);
    puts("ok");
    return 0;
}

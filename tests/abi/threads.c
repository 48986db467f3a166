/* Eight threads on one transport: five send one request they share, one cancels them, one asks for their progress,
   one closes the transport. Then eight that all need the same credentials at once. */
#define _POSIX_C_SOURCE 200809L
#include <registry_transport.h>

#include <pthread.h>
#include <sched.h>
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

enum { SENDERS = 5, CALLS = 60, THREADS = 8 };

static rt_transport *t;
static rt_req *shared;
static rt_op *ops[SENDERS][CALLS];
/* Relaxed on purpose: nothing here may order what the library must order itself. */
static int done, good, cancelled, asked;

static int add(int *count)
{
    return __atomic_add_fetch(count, 1, __ATOMIC_RELAXED);
}

static int get(int *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static rt_transport *make(const char *registry, const rt_creds *creds)
{
    rt_transport *made = NULL;
    char name[128];

    sprintf(name, "%s/a/b", registry);
    CHECK(rt_transport_new(name, RT_PULL, creds, NULL, &made, NULL) == RT_OK);
    return made;
}

static void *sending(void *mine)
{
    rt_op **op = mine;
    rt_response *answer;
    rt_error *err;
    rt_status status;
    const void *data;
    size_t len;
    int i;

    for (i = 0; i < CALLS; i++) {
        status = rt_request(t, shared, op[i], &answer, &err);
        if (status == RT_OK)
            status = rt_response_body(answer, &data, &len, &err);
        if (status == RT_OK) {
            CHECK(len == 11 && memcmp(data, "hello there", 11) == 0);
            add(&good);
        } else {
            CHECK(status == RT_E_CANCELLED && rt_error_code(err) == status);
            add(&cancelled);
        }
        rt_free(err);
        rt_free(answer);
        add(&done);
    }
    return NULL;
}

static void *cancelling(void *unused)
{
    int i, k;

    for (i = 1; i < CALLS; i += 3)
        for (k = 0; k < SENDERS; k++) {
            rt_op_cancel(ops[k][i]);
            sched_yield();
        }
    return unused;
}

static void *polling(void *unused)
{
    int64_t moved, total;
    int i, k;

    while (get(&done) < SENDERS * CALLS)
        for (i = 0; i < CALLS; i++)
            for (k = 0; k < SENDERS; k++) {
                rt_op_progress(ops[k][i], &moved, &total);
                CHECK(moved >= 0 && total >= -1);
            }
    return unused;
}

/* Now and then, so that calls also get through. */
static void *closing(void *unused)
{
    int at;

    for (at = 0; at < SENDERS * CALLS; at += 25) {
        while (get(&done) < at)
            sched_yield();
        rt_transport_close(t);
    }
    return unused;
}

static void all_at_once(const char *registry)
{
    pthread_t threads[THREADS];
    rt_response *answer = NULL;
    int i, k;

    t = make(registry, NULL);
    shared = rt_req_new("GET", "/v2/hello");
    for (k = 0; k < SENDERS; k++)
        for (i = 0; i < CALLS; i++)
            ops[k][i] = rt_op_new();
    /* One that is sure to be cancelled. */
    rt_op_cancel(ops[0][0]);
    for (k = 0; k < SENDERS; k++)
        CHECK(pthread_create(&threads[k], NULL, sending, ops[k]) == 0);
    CHECK(pthread_create(&threads[5], NULL, cancelling, NULL) == 0);
    CHECK(pthread_create(&threads[6], NULL, polling, NULL) == 0);
    CHECK(pthread_create(&threads[7], NULL, closing, NULL) == 0);
    for (k = 0; k < THREADS; k++)
        CHECK(pthread_join(threads[k], NULL) == 0);
    CHECK(good + cancelled == SENDERS * CALLS && good > 0 && cancelled > 0);
    CHECK(rt_request(t, shared, NULL, &answer, NULL) == RT_OK);
    rt_free(answer);
    rt_free(shared);
    rt_free(t);
    for (k = 0; k < SENDERS; k++)
        for (i = 0; i < CALLS; i++)
            rt_free(ops[k][i]);
}

static rt_creds *asking(void *user, const char *registry, const char *repository, int32_t *fail)
{
    CHECK(user == &asked && strlen(registry) > 0 && strcmp(repository, "a/b") == 0 && *fail == 0);
    add(&asked);
    return rt_creds_basic("user", "password");
}

static void dropping(void *user)
{
    CHECK(user == &asked);
    add(&done);
}

static void *entering(void *barrier)
{
    rt_response *answer = NULL;

    pthread_barrier_wait(barrier);
    CHECK(rt_request(t, shared, NULL, &answer, NULL) == RT_OK && rt_response_status(answer) == 200);
    rt_free(answer);
    return NULL;
}

static void all_need_the_same(const char *registry)
{
    pthread_t threads[THREADS];
    pthread_barrier_t barrier;
    rt_creds *creds = rt_creds_callback(asking, &asked, dropping);
    int k;

    done = 0;
    t = make(registry, creds);
    rt_free(creds);
    shared = rt_req_new("GET", "/v2/secret");
    CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
    for (k = 0; k < THREADS; k++)
        CHECK(pthread_create(&threads[k], NULL, entering, &barrier) == 0);
    for (k = 0; k < THREADS; k++)
        CHECK(pthread_join(threads[k], NULL) == 0);
    pthread_barrier_destroy(&barrier);
    CHECK(asked == 1);
    rt_free(shared);
    rt_free(t);
    CHECK(done == 1);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    all_at_once(argv[1]);
    all_need_the_same(argv[1]);
    puts("ok");
    return 0;
}

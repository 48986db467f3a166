/* Several threads share one transport: it is const in every call, and tokens and connections are used in common.
 * Each call has an rt_op of its own, which the main thread polls for progress, and which is cancelled when another
 * call fails or the user presses Ctrl-C. */
#define _POSIX_C_SOURCE 200809L
#include "transfer.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common.h"

enum { MAX_JOBS = 64 };

struct run {
    const rt_transport *transport;
    struct blobs *blobs;
    move_blob *move;
    int quiet;

    pthread_mutex_t lock; /* guards what follows, and each blob's done */
    pthread_cond_t ended; /* a thread has ended */
    struct bar bar;
    size_t next;
    int running, broken;
};

static struct run *to_cancel; /* for the signal handler */

int blobs_add(struct blobs *list, const json *descriptor, const char *directory, struct blob **added)
{
    struct blob *b;
    struct descriptor d;

    *added = NULL;
    if (descriptor_read(descriptor, &d) != 0)
        return -1;
    for (size_t i = 0; i < list->count; i++) /* the same layer may be there twice */
        if (strcmp(list->at[i].d.digest, d.digest) == 0)
            return 0;
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 16 : 2 * list->room;

        b = realloc(list->at, room * sizeof *b);
        if (b == NULL)
            return complain("out of memory");
        list->at = b;
        list->room = room;
    }
    b = &list->at[list->count];
    memset(b, 0, sizeof *b);
    b->d = d;
    b->path = layout_blob(directory, d.digest);
    if (b->path == NULL)
        return -1;
    b->op = rt_op_new();
    list->count++;
    *added = b;
    return 0;
}

int64_t blobs_size(const struct blobs *list)
{
    int64_t size = 0;

    for (size_t i = 0; i < list->count; i++)
        size += list->at[i].d.size;
    return size;
}

void blobs_free(struct blobs *list)
{
    for (size_t i = 0; i < list->count; i++) {
        rt_free(list->at[i].op);
        free(list->at[i].path);
    }
    free(list->at);
    memset(list, 0, sizeof *list);
}

static struct blob *next_blob(struct run *r)
{
    struct blob *b = NULL;

    pthread_mutex_lock(&r->lock);
    while (b == NULL && !r->broken && r->next < r->blobs->count) {
        b = &r->blobs->at[r->next++];
        if (b->done)
            b = NULL;
    }
    pthread_mutex_unlock(&r->lock);
    return b;
}

/* Also runs in the signal handler: rt_op_cancel may. A blob whose turn has not come is cancelled as well. */
static void cancel_all(struct run *r)
{
    for (size_t i = 0; i < r->blobs->count; i++)
        rt_op_cancel(r->blobs->at[i].op);
}

static void on_signal(int number)
{
    (void)number;
    cancel_all(to_cancel);
}

static void finish_blob(struct run *r, struct blob *b, rt_error *err)
{
    pthread_mutex_lock(&r->lock);
    if (err == NULL) {
        b->done = 1;
        if (!r->quiet && !r->bar.on)
            printf("%s  %" PRId64 "\n", b->d.digest, b->d.size);
        fflush(stdout);
    } else if (!r->broken) { /* the first failure is the one to tell of; the others follow from it */
        r->broken = 1;
        bar_end(&r->bar);
        print_error(err);
        cancel_all(r);
    }
    pthread_mutex_unlock(&r->lock);
    rt_free(err);
}

static void *work(void *user)
{
    struct run *r = user;
    struct blob *b;

    while ((b = next_blob(r)) != NULL) {
        rt_error *err = NULL;

        r->move(r->transport, b, &err);
        finish_blob(r, b, err);
    }
    pthread_mutex_lock(&r->lock);
    r->running--;
    pthread_cond_signal(&r->ended);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static void draw(struct run *r)
{
    int64_t done = 0, moved;

    for (size_t i = 0; i < r->blobs->count; i++) {
        const struct blob *b = &r->blobs->at[i];

        if (b->done)
            moved = b->d.size;
        else
            rt_op_progress(b->op, &moved, NULL);
        done += moved;
    }
    bar_draw(&r->bar, done, blobs_size(r->blobs));
}

static int run(struct run *r, int jobs)
{
    pthread_t threads[MAX_JOBS];
    int started = 0;

    pthread_mutex_lock(&r->lock);
    while (started < jobs && started < MAX_JOBS && pthread_create(&threads[started], NULL, work, r) == 0)
        started++;
    if (started == 0)
        r->broken = complain("cannot start a thread");
    r->running = started;
    while (r->running > 0) {
        struct timespec until;

        draw(r);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&r->ended, &r->lock, &until);
    }
    if (!r->broken)
        draw(r);
    bar_end(&r->bar);
    pthread_mutex_unlock(&r->lock);
    while (started > 0)
        pthread_join(threads[--started], NULL);
    return r->broken ? -1 : 0;
}

int transfer(const rt_transport *t, struct blobs *blobs, move_blob *move, int jobs, int quiet, int bar)
{
    struct run r = {.transport = t, .blobs = blobs, .move = move, .quiet = quiet};
    struct sigaction interrupt = {.sa_handler = on_signal}, before;
    int result;

    pthread_mutex_init(&r.lock, NULL);
    pthread_cond_init(&r.ended, NULL);
    bar_start(&r.bar, bar && !quiet);
    to_cancel = &r;
    sigaction(SIGINT, &interrupt, &before);
    result = run(&r, jobs);
    sigaction(SIGINT, &before, NULL);
    pthread_cond_destroy(&r.ended);
    pthread_mutex_destroy(&r.lock);
    return result;
}

/* Several threads share one transport: it is const in every call, and tokens and connections are used in common.
 * Each call has an rt_op of its own, which the main thread polls for progress, and which is cancelled when another
 * call fails or the user presses Ctrl-C. */
#define _POSIX_C_SOURCE 200809L
#include "fetch.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "common.h"

enum { MAX_JOBS = 64 };

struct fetch {
    const rt_transport *transport;
    struct blob *blobs;
    size_t count;
    int quiet;

    pthread_mutex_t lock; /* guards what follows, and blobs[].here */
    pthread_cond_t ended; /* a thread has ended */
    struct bar bar;
    size_t next;
    int running, broken;
};

static struct fetch *to_cancel; /* for the signal handler */

static struct blob *next_blob(struct fetch *f)
{
    struct blob *b = NULL;

    pthread_mutex_lock(&f->lock);
    while (b == NULL && !f->broken && f->next < f->count) {
        b = &f->blobs[f->next++];
        if (b->here)
            b = NULL;
    }
    pthread_mutex_unlock(&f->lock);
    return b;
}

/* Also runs in the signal handler: rt_op_cancel may. A blob whose turn has not come is cancelled as well. */
static void cancel_all(struct fetch *f)
{
    for (size_t i = 0; i < f->count; i++)
        rt_op_cancel(f->blobs[i].op);
}

static void on_signal(int number)
{
    (void)number;
    cancel_all(to_cancel);
}

static void finish_blob(struct fetch *f, struct blob *b, rt_error *err)
{
    int64_t size = err == NULL ? file_size(b->path) : -1;

    pthread_mutex_lock(&f->lock);
    if (err == NULL && size == b->d.size) {
        b->here = 1;
        if (!f->quiet && !f->bar.on)
            printf("%s  %" PRId64 "\n", b->d.digest, b->d.size);
        fflush(stdout);
    } else if (!f->broken) { /* the first failure is the one to tell of; the others follow from it */
        f->broken = 1;
        bar_end(&f->bar);
        if (err != NULL)
            print_error(err);
        else
            complain("%s has %" PRId64 " bytes, where the manifest says %" PRId64, b->d.digest, size, b->d.size);
        cancel_all(f);
    }
    pthread_mutex_unlock(&f->lock);
    if (err == NULL && size != b->d.size)
        remove(b->path);
    rt_free(err);
}

static void *work(void *user)
{
    struct fetch *f = user;
    struct blob *b;

    while ((b = next_blob(f)) != NULL) {
        rt_error *err = NULL;

        /* The file appears under this name only when it is complete and has the digest. */
        rt_blob_save(f->transport, b->d.digest, b->path, b->op, &err);
        finish_blob(f, b, err);
    }
    pthread_mutex_lock(&f->lock);
    f->running--;
    pthread_cond_signal(&f->ended);
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static void draw(struct fetch *f)
{
    int64_t done = 0, total = 0, moved;

    for (size_t i = 0; i < f->count; i++) {
        const struct blob *b = &f->blobs[i];

        if (b->here)
            moved = b->d.size;
        else
            rt_op_progress(b->op, &moved, NULL);
        done += moved;
        total += b->d.size;
    }
    bar_draw(&f->bar, done, total);
}

static int run(struct fetch *f, int jobs)
{
    pthread_t threads[MAX_JOBS];
    int started = 0;

    pthread_mutex_lock(&f->lock);
    while (started < jobs && started < MAX_JOBS && pthread_create(&threads[started], NULL, work, f) == 0)
        started++;
    if (started == 0)
        f->broken = complain("cannot start a thread");
    f->running = started;
    while (f->running > 0) {
        struct timespec until;

        draw(f);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&f->ended, &f->lock, &until);
    }
    if (!f->broken)
        draw(f);
    bar_end(&f->bar);
    pthread_mutex_unlock(&f->lock);
    while (started > 0)
        pthread_join(threads[--started], NULL);
    return f->broken ? -1 : 0;
}

int fetch_blobs(const rt_transport *t, struct blob *blobs, size_t count, int jobs, int quiet, int bar)
{
    struct fetch f = {.transport = t, .blobs = blobs, .count = count, .quiet = quiet};
    struct sigaction interrupt = {.sa_handler = on_signal}, before;
    int result;

    pthread_mutex_init(&f.lock, NULL);
    pthread_cond_init(&f.ended, NULL);
    bar_start(&f.bar, bar && !quiet);
    to_cancel = &f;
    sigaction(SIGINT, &interrupt, &before);
    result = run(&f, jobs);
    sigaction(SIGINT, &before, NULL);
    pthread_cond_destroy(&f.ended);
    pthread_mutex_destroy(&f.lock);
    return result;
}

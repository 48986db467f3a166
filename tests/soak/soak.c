/* Uses the library as a long-lived process of many threads does, over connections that break: random calls,
   cancelled, limited and freed at random, every answer checked, and what the process holds measured whenever
   all threads have stopped. driver.rs makes the weather and the content.

   It works in rounds. After each one every handle is given back, so descriptors, threads and the heap must be
   what they were. The last round is calm: there every call must succeed. */
#define _GNU_SOURCE
#include <registry_transport.h>

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 256, ITEMS = 160, TAGS = 6, SLOTS = 12, NAME = 128, TEXT = 640, LINES = 24, LINE = 256 };
enum { SKIPPED = -1 };
enum { TIMEOUT_MS = 6000, GRACE_MS = 2000, TAINT_MS = 20000 };
/* The byte that the proxy puts in place of another (faults.rs). */
enum { GARBAGE = 1 };

/* What happened to the outcome of a call, as a set. */
#define OK (1u << RT_OK)
#define BIT(status) (1u << (status))

/* ---------------------------------------------------------------- what is given */

struct item {
    int is_manifest, subject, dep[8], deps;
    char digest[NAME], type[NAME], tag[32], file[512];
    size_t size;
    const unsigned char *data;
};

static struct item items[ITEMS];
static int blobs[ITEMS], nblobs, images[ITEMS], nimages, subjects[ITEMS], nsubjects, nitems;
static char plain[64], tls[64], ca[256], folder[256], docker_config[256], user[64], password[128];
static const char *canaries[16];
static int ncanaries, nthreads = 64;
static uint64_t seed = 1;
static const char *sabotage = "";

/* ---------------------------------------------------------------- what is kept */

static _Atomic int calm, over, violations;
static _Atomic uint64_t log_lines, cancels, closes, mid_call_frees, replaced;
static _Atomic int64_t worst_overrun, worst_cancel;
static _Atomic uint64_t cancel_late, cancelled_calls;
static _Atomic int64_t bytes_checked;

enum { PING, MANIFEST_TAG, MANIFEST_DIGEST, MANIFEST_HEAD, BLOB_GET, BLOB_SAVE, BLOB_STAT, BLOB_PREAD, PUT_ONCE,
       PUT_FILE, PUT_STREAM, PUT_CHUNKED, PUT_MOUNT, UPLOAD, UPLOAD_CANCEL, MANIFEST_PUT, MANIFEST_DELETE,
       BLOB_DELETE, TAGS_BASE, TAGS_OWN, CATALOG, REFERRERS, COPY, REQUEST, PAGES, READ_OWN, FAIL_404, FAIL_AUTH,
       FAIL_DENIED, FAIL_SYNTAX, FAIL_DIGEST, FAIL_TYPE, FAIL_LIMIT, FAIL_HANDLE, FAIL_READER, KINDS };

static const struct { const char *name; int weight; } kinds[KINDS] = {
    { "ping", 30 }, { "manifest get by tag", 90 }, { "manifest get by digest", 90 }, { "manifest head", 40 },
    { "blob get", 140 }, { "blob save", 50 }, { "blob stat", 50 }, { "blob pread", 70 },
    { "blob put from memory", 30 }, { "blob put from a file", 25 }, { "blob put streamed", 30 },
    { "blob put in chunks", 30 }, { "blob put mounted", 25 }, { "upload, resumed", 25 }, { "upload, given up", 15 },
    { "manifest put", 40 }, { "manifest delete", 12 }, { "blob delete", 25 }, { "tags", 25 }, { "tags of own", 20 },
    { "catalog", 6 }, { "referrers", 20 }, { "copy", 12 }, { "request", 40 }, { "pages", 12 },
    { "read what was put", 50 }, { "no such blob", 25 }, { "wrong password", 10 }, { "denied repository", 12 },
    { "malformed names", 15 }, { "wrong digest", 12 }, { "unwanted type", 10 }, { "manifest beyond the limit", 10 },
    { "wrong handles", 10 }, { "reader that fails", 8 },
};

static _Atomic uint64_t outcomes[KINDS][17];

/* A transport that many threads use; the last one that lets go of it frees it. */
struct shared {
    rt_transport *t;
    _Atomic int users;
    _Atomic uint64_t closed;
    int is_plain;
};

static struct { pthread_mutex_t lock; struct shared *now; } slots[SLOTS];

enum presence { ABSENT, PRESENT, UNKNOWN };

struct worker {
    int id;
    uint64_t rng;
    pthread_t thread;
    char repo[NAME];
    rt_transport *own, *chunked;
    int own_is_plain;

    /* What the registry holds of ours; until then, late requests may still change it. */
    struct { enum presence is; int64_t until; } item[ITEMS];
    struct { int item; int64_t until; } tag[TAGS]; /* item, or -1: none, or -2: not known */
    char unsaved[ITEMS];

    /* The call that runs. */
    int kind, is_plain, may_stop, had_error;
    int lost; /* an answer, which says nothing of when the registry is done with the request */
    rt_op *op;
    int64_t limit;
    struct shared *used;
    uint64_t closed_before;
    char last[TEXT];
    rt_status status_;
    char log[LINES][LINE]; /* its last lines, with the time; a ring */
    unsigned logged;

    pthread_mutex_t lock; /* of the four below, which the other threads look at */
    const rt_op *published;
    int64_t cancel_at;
    int64_t cancelled_at;
    const char *call;
    _Atomic int64_t since;

    _Atomic(rt_transport *) victim; /* whoever takes it out frees it */
    _Atomic int armed;
};

static struct worker workers[THREADS];
static __thread struct worker *self;
static pthread_barrier_t barrier;

/* ---------------------------------------------------------------- little helpers */

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void pause_ms(int ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

    nanosleep(&t, NULL);
}

static void raise_to(_Atomic int64_t *to, int64_t value)
{
    int64_t old = *to;

    while (old < value && !atomic_compare_exchange_weak(to, &old, value))
        ;
}

static const char *has_canary(const char *text)
{
    int i;

    for (i = 0; i < ncanaries; i++)
        if (strstr(text, canaries[i]) != NULL)
            return canaries[i];
    return NULL;
}

/* Something the library must never do. */
__attribute__((format(printf, 1, 2))) static void violation(const char *format, ...)
{
    char text[1024];
    va_list args;
    int n = atomic_fetch_add(&violations, 1);
    unsigned i;

    if (n >= 40)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printf("VIOLATION thread %d, %s%s: %s\n", self ? self->id : -1, self ? kinds[self->kind].name : "main",
           self && self->is_plain ? " (plain)" : "", has_canary(text) ? "(holds a secret)" : text);
    for (i = self && self->logged > LINES ? self->logged - LINES : 0; self && i < self->logged; i++)
        printf("LOG thread %d: %s\n", self->id, self->log[i % LINES]);
    fflush(stdout);
}

/* SplitMix64: the same seed makes the same choices. */
static uint64_t draw(struct worker *w, uint64_t below)
{
    uint64_t z = w->rng += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return below ? (z ^ (z >> 31)) % below : 0;
}

static int chance(struct worker *w, int percent) { return draw(w, 100) < (uint64_t)percent; }

static void check_text(const char *what, const char *text)
{
    const char *found = text ? has_canary(text) : NULL;

    if (found != NULL)
        violation("%s shows a secret", what);
}

static int is_part(const struct item *item, const void *data, size_t len, size_t offset)
{
    bytes_checked += (int64_t)len;
    return len <= item->size && offset <= item->size - len
        && (len == 0 || memcmp(item->data + offset, data, len) == 0);
}

static void check_bytes(const struct item *item, const void *data, size_t len, size_t offset)
{
    if (!is_part(item, data, len, offset))
        violation("wrong bytes: %zu at %zu of %s", len, offset, item->digest);
}

static const struct item *blob_of(struct worker *w) { return &items[blobs[draw(w, (uint64_t)nblobs)]]; }
static const struct item *image_of(struct worker *w) { return &items[images[draw(w, (uint64_t)nimages)]]; }

/* ---------------------------------------------------------------- a call and its end */

/* A call that runs may lose its transport. */
static void kill_victim(struct worker *w)
{
    rt_transport *t = atomic_exchange(&w->victim, NULL);

    if (t != NULL) {
        mid_call_frees++;
        rt_free(t);
    }
}

static void on_log(void *data, int32_t level, const char *line)
{
    (void)data;
    log_lines++;
    if (self == NULL)
        violation("a log line of level %d on a thread of the library", (int)level);
    else if (atomic_load(&self->victim) != NULL && atomic_exchange(&self->armed, 1) == 0 && chance(self, 40))
        kill_victim(self);
    if (self != NULL && strncmp(line, "< failed", 8) == 0)
        self->lost = 1;
    check_text("a log line", line);
    if (self != NULL && has_canary(line) == NULL)
        snprintf(self->log[self->logged++ % LINES], LINE, "%lld ms %s", (long long)now_ms(), line);
}

static int32_t on_progress(void *data, int64_t done, int64_t total)
{
    struct worker *w = data;

    if (self != w)
        violation("progress on another thread");
    if (total >= 0 && done > total)
        violation("progress %lld of %lld", (long long)done, (long long)total);
    if (!calm && draw(w, 400) == 0) {
        w->may_stop = 1;
        return 1;
    }
    return 0;
}

static void begin(struct worker *w, int kind)
{
    w->kind = kind;
    w->is_plain = w->may_stop = w->had_error = w->lost = 0;
    w->op = NULL;
    w->used = NULL;
    w->limit = calm ? 600000 : TIMEOUT_MS;
    w->cancelled_at = 0;
    w->last[0] = 0;
    w->logged = 0;
    if (calm || chance(w, 75)) {
        w->op = rt_op_new();
        if (!calm && chance(w, 70)) {
            int64_t ms = chance(w, 7) ? 1 + (int64_t)draw(w, 60) : 300 + (int64_t)draw(w, 5000);

            if (rt_op_set_timeout_ms(w->op, ms) != RT_OK)
                violation("the op takes no time limit");
            w->limit = ms < w->limit ? ms : w->limit;
        }
        if (chance(w, 30))
            rt_op_set_progress(w->op, on_progress, w, NULL);
        if (!calm && chance(w, 8)) {
            pthread_mutex_lock(&w->lock);
            w->published = w->op;
            w->cancel_at = now_ms() + (chance(w, 15) ? 0 : (int64_t)(draw(w, 25) * draw(w, 25)));
            pthread_mutex_unlock(&w->lock);
        }
    }
}

static void unpublish(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->published = NULL;
    pthread_mutex_unlock(&w->lock);
}

static struct shared *let_go(struct shared *s)
{
    if (s != NULL && atomic_fetch_sub(&s->users, 1) == 1) {
        rt_free(s->t);
        free(s);
    }
    return NULL;
}

static void end(struct worker *w, rt_status status)
{
    unpublish(w);
    rt_free(w->op);
    w->op = NULL;
    w->used = let_go(w->used);
    outcomes[w->kind][status >= 0 && status < 16 ? status : 16]++;
}

static void enter(struct worker *w, const char *call)
{
    pthread_mutex_lock(&w->lock);
    w->call = call;
    pthread_mutex_unlock(&w->lock);
    w->since = now_ms();
}

static void leave(struct worker *w, rt_status status)
{
    int64_t end = now_ms(), began = w->since, took = end - began, since_cancel = 0;

    w->since = 0;
    raise_to(&worst_overrun, took - w->limit);
    if (took > w->limit + GRACE_MS)
        violation("%s took %lld ms, its limit is %lld", w->call, (long long)took, (long long)w->limit);
    pthread_mutex_lock(&w->lock);
    if (w->cancelled_at != 0)
        since_cancel = end - (w->cancelled_at > began ? w->cancelled_at : began);
    pthread_mutex_unlock(&w->lock);
    if (status == RT_E_CANCELLED && since_cancel > 0) {
        cancelled_calls++;
        cancel_late += since_cancel > 200;
        raise_to(&worst_cancel, since_cancel);
        if (since_cancel > GRACE_MS)
            violation("%s ended %lld ms after it was cancelled", w->call, (long long)since_cancel);
    }
}

/* CALL(w, rt_ping(...)): the call, timed. */
#define CALL(w, call_) (enter((w), #call_), w->status_ = (call_), leave((w), w->status_), w->status_)

/* What may go wrong in bad weather, whatever is called. */
static int is_weather(struct worker *w, rt_status s, int http)
{
    int stopped;

    pthread_mutex_lock(&w->lock);
    stopped = w->may_stop || w->cancelled_at != 0;
    pthread_mutex_unlock(&w->lock);
    stopped = stopped || (w->used != NULL && w->used->closed != w->closed_before);
    if (s == RT_E_CANCELLED)
        return stopped;
    if (calm)
        return 0;
    switch (s) {
    case RT_E_NETWORK: case RT_E_TLS: case RT_E_TIMEOUT:
        return 1;
    case RT_E_AUTH: /* a token that died on the way, twice; a token service that cannot be understood */
        return 1;
    case RT_E_STATUS: /* 400: a request that was spoilt on its way */
        return http == 429 || (http >= 500 && http <= 504) || (http == 400 && w->is_plain);
    case RT_E_PROTOCOL: case RT_E_DIGEST: /* spoilt answers, that TLS would have caught */
        return w->is_plain;
    default:
        return 0;
    }
}

/* What docker-registry says of a manifest whose layer has a link that a killed registry left empty: both at once. Until
   the driver has mended it, the other registry meets it. */
static int is_torn_link(const rt_error *err)
{
    int digest = 0, blob = 0;
    size_t i;

    for (i = 0; i < rt_error_diag_count(err); i++) {
        const char *code = rt_error_diag_code(err, i);

        digest |= code != NULL && strcmp(code, "DIGEST_INVALID") == 0;
        blob |= code != NULL && strcmp(code, "MANIFEST_BLOB_UNKNOWN") == 0;
    }
    return digest && blob;
}

/* Checks a failure, reads all that it says, and frees it. expected: what may happen besides the weather;
   http: the status that goes with RT_E_STATUS, or 0. Returns 1 if the call succeeded. */
static int judge(struct worker *w, rt_status s, rt_error *err, unsigned expected, int http)
{
    size_t i;
    int told = rt_error_http_status(err), fine;

    if (s == RT_OK) {
        if (err != NULL)
            violation("success with an error");
        if (!(expected & OK))
            violation("it should have failed");
        return 1;
    }
    w->had_error = 1;
    if (err == NULL) {
        violation("failure without an error: %s", rt_status_name(s));
        return 0;
    }
    if (rt_error_code(err) != s)
        violation("%s with an error of %s", rt_status_name(s), rt_status_name(rt_error_code(err)));
    fine = s < 32 && (expected & BIT(s)) && (s != RT_E_STATUS || http == 0 || told == http);
    snprintf(w->last, sizeof w->last, "%s", rt_error_message(err));
    if (!fine && !is_weather(w, s, told) && !(told == 400 && is_torn_link(err)))
        violation("%s, HTTP %d: %s", rt_status_name(s), told, rt_error_message(err));
    check_text("an error", rt_error_message(err));
    for (i = 0; i < rt_error_diag_count(err); i++) {
        check_text("a diagnostic's code", rt_error_diag_code(err, i));
        check_text("a diagnostic's message", rt_error_diag_message(err, i));
        check_text("a diagnostic's detail", rt_error_diag_detail(err, i));
    }
    (void)rt_error_retry_after_ms(err);
    if (strcmp(sabotage, "leak") != 0)
        rt_free(err);
    return 0;
}

/* ---------------------------------------------------------------- transports */

static rt_creds *on_creds(void *data, const char *registry, const char *repository, int32_t *fail)
{
    (void)data, (void)registry, (void)repository, (void)fail;
    return rt_creds_basic(user, password);
}

static void set(rt_options *o, const char *key, int64_t value)
{
    if (rt_options_set_int(o, key, value) != RT_OK)
        violation("option %s does not take %lld", key, (long long)value);
}

/* A transport with settings drawn at random. */
static rt_transport *make(struct worker *w, int is_plain, const char *repo, uint32_t actions, const char *secret)
{
    rt_options *o = rt_options_new();
    rt_creds *creds;
    rt_transport *t = NULL;
    rt_error *err = NULL;
    char name[256];

    set(o, "environment", 0);
    set(o, "share-tokens", chance(w, 50));
    set(o, "connect-timeout-ms", calm ? 30000 : 3000);
    set(o, "response-timeout-ms", calm ? 60000 : 2500);
    set(o, "stall-timeout-ms", calm ? 60000 : 1500);
    set(o, "timeout-ms", calm ? 0 : TIMEOUT_MS);
    set(o, "retries", (int64_t)draw(w, 5));
    set(o, "retry-delay-ms", 20);
    set(o, "retry-budget-ms", 2500);
    set(o, "parallel", chance(w, 30) ? 4 : 1);
    set(o, "page-size", chance(w, 50) ? 7 : 0);
    rt_options_set_str(o, "ca-file", ca);
    rt_options_set_str(o, "scheme", is_plain ? "http" : "https");
    rt_options_set_log(o, RT_LOG_DEBUG, on_log, NULL, NULL);
    switch (draw(w, 3)) {
    case 0:
        creds = rt_creds_callback(on_creds, NULL, NULL);
        break;
    case 1:
        creds = rt_creds_docker(docker_config);
        break;
    default:
        creds = rt_creds_basic(user, password);
    }
    if (secret != NULL) {
        rt_free(creds);
        creds = rt_creds_basic(user, secret);
    }
    if (actions & RT_PUSH && repo[0] == 'C') { /* uploads in chunks */
        set(o, "upload-chunk-bytes", 32768 << draw(w, 5));
        repo++;
    }
    snprintf(name, sizeof name, "%s%s%s", is_plain ? plain : tls, *repo ? "/" : "", repo);
    if (rt_transport_new(name, actions, creds, o, &t, &err) != RT_OK)
        violation("no transport for %s: %s", name, rt_error_message(err));
    rt_free(err);
    rt_free(o);
    rt_free(creds);
    return t;
}

/* Even slots are plain; the last two list repositories. */
static struct shared *fresh(struct worker *w, int slot)
{
    struct shared *s = calloc(1, sizeof *s);

    s->is_plain = slot % 2 == 0;
    s->users = 1;
    s->t = slot >= SLOTS - 2 ? make(w, s->is_plain, "", RT_CATALOG, NULL)
                             : make(w, s->is_plain, "soak/base", RT_PULL, NULL);
    return s;
}

/* A transport of the base that others use as well. */
static const rt_transport *share_slot(struct worker *w, int slot)
{
    struct shared *s, *old = NULL;

    pthread_mutex_lock(&slots[slot].lock);
    if (chance(w, 1)) {
        old = slots[slot].now;
        slots[slot].now = fresh(w, slot);
        replaced++;
    }
    s = slots[slot].now;
    s->users++;
    pthread_mutex_unlock(&slots[slot].lock);
    let_go(old);
    w->used = s;
    w->closed_before = s->closed;
    w->is_plain = s->is_plain;
    return s->t;
}

static const rt_transport *share(struct worker *w) { return share_slot(w, (int)draw(w, SLOTS - 2)); }

/* The same, or one for this call alone, that may be freed while the call runs. */
static const rt_transport *lend(struct worker *w)
{
    rt_transport *t;

    if (!chance(w, 5))
        return share(w);
    w->is_plain = chance(w, 50);
    t = make(w, w->is_plain, "soak/base", RT_PULL, NULL);
    w->armed = 0;
    w->victim = t;
    return t;
}

static const rt_transport *own(struct worker *w)
{
    w->is_plain = w->own_is_plain;
    return w->own;
}

/* ---------------------------------------------------------------- what is where */

static enum presence presence(struct worker *w, int i)
{
    return now_ms() < w->item[i].until ? UNKNOWN : w->item[i].is;
}

static void become(struct worker *w, int i, enum presence is)
{
    if (now_ms() < w->item[i].until)
        is = UNKNOWN;
    w->item[i].is = is;
}

/* A request that failed may still be on its way. */
static void doubt(struct worker *w, int i)
{
    w->item[i].is = UNKNOWN;
    w->item[i].until = now_ms() + TAINT_MS;
}

static void tag_becomes(struct worker *w, int tag, int item)
{
    w->tag[tag].item = now_ms() < w->tag[tag].until ? -2 : item;
}

static void doubt_tag(struct worker *w, int tag)
{
    w->tag[tag].item = -2;
    w->tag[tag].until = now_ms() + TAINT_MS;
}

static int all_present(struct worker *w, const struct item *image)
{
    int i, all = 1;

    for (i = 0; i < image->deps; i++)
        all &= presence(w, image->dep[i]) == PRESENT;
    return all && (image->subject < 0 || presence(w, image->subject) == PRESENT);
}

/* ---------------------------------------------------------------- reading */

/* What is read in pieces is certain only at its end. */
struct pieces { const struct item *item; size_t at; int wrong; };

static int32_t on_piece(void *data, const void *bytes, size_t len)
{
    struct pieces *to = data;

    to->wrong |= !is_part(to->item, bytes, len, to->at);
    to->at += len;
    return 0;
}

static void check_whole(struct worker *w, const struct item *item, size_t got)
{
    (void)w;
    if (got != item->size)
        violation("the end came after %zu of %zu bytes of %s", got, item->size, item->digest);
}

static void check_file(struct worker *w, const struct item *item, const char *path)
{
    static __thread unsigned char buffer[1 << 16];
    size_t at = 0, n;
    FILE *f = fopen(path, "rb");

    if (f == NULL) {
        violation("%s is missing after success", path);
        return;
    }
    while ((n = fread(buffer, 1, sizeof buffer, f)) > 0) {
        check_bytes(item, buffer, n, at);
        at += n;
    }
    fclose(f);
    check_whole(w, item, at);
    if (unlink(path) != 0)
        violation("%s cannot be removed", path);
}

/* Reads a whole answer in one of the ways there are, and checks it. */
static rt_status read_all(struct worker *w, rt_response *r, const struct item *item)
{
    static __thread unsigned char buffer[1 << 17];
    struct pieces to = { item, 0, 0 };
    const void *data = NULL;
    size_t len = 0, cap = 1 + draw(w, sizeof buffer), stop_at = chance(w, 6) ? draw(w, item->size + 1) : SIZE_MAX;
    rt_error *err = NULL;
    rt_status s = RT_OK;
    char path[512];

    check_text("a URL", rt_response_url(r));
    switch (draw(w, 4)) {
    case 0:
        s = CALL(w, rt_response_body(r, &data, &len, &err));
        if (judge(w, s, err, OK, 0)) {
            check_bytes(item, data, len, 0);
            check_whole(w, item, len);
        }
        break;
    case 1:
        s = CALL(w, rt_response_drain(r, on_piece, &to, &err));
        if (judge(w, s, err, OK, 0))
            check_whole(w, item, to.at);
        break;
    case 2:
        snprintf(path, sizeof path, "%s/%d/response", folder, w->id);
        s = CALL(w, rt_response_save(r, path, &err));
        if (judge(w, s, err, OK, 0))
            check_file(w, item, path);
        else if (access(path, F_OK) == 0)
            violation("a failed save left %s", path);
        break;
    default:
        cap = cap < 64 ? 64 : cap;
        do {
            if (to.at >= stop_at) /* the rest is not wanted */
                return RT_OK;
            s = CALL(w, rt_response_read(r, buffer, cap, &len, &err));
            if (!judge(w, s, err, OK, 0))
                break;
            on_piece(&to, buffer, len);
        } while (len > 0);
        if (s == RT_OK)
            check_whole(w, item, to.at);
    }
    if (s == RT_OK && to.wrong)
        violation("wrong bytes of %s", item->digest);
    if (s == RT_OK && (rt_response_digest(r) == NULL || strcmp(rt_response_digest(r), item->digest) != 0))
        violation("the digest is %s, not %s", rt_response_digest(r), item->digest);
    return s;
}

static rt_status do_manifest(struct worker *w, int by_tag)
{
    const struct item *m = image_of(w);
    rt_response *r = NULL;
    rt_error *err = NULL;
    rt_status s;
    const rt_transport *t = lend(w);

    if (m->tag[0] == '-')
        by_tag = 0;
    s = CALL(w, rt_manifest_get(t, by_tag ? m->tag : m->digest, w->op, &r, &err));
    if (judge(w, s, err, OK, 0))
        s = read_all(w, r, m);
    rt_free(r);
    return s;
}

static rt_status do_head(struct worker *w)
{
    const struct item *m = image_of(w);
    rt_response *r = NULL;
    rt_error *err = NULL;
    rt_status s = CALL(w, rt_manifest_head(share(w), m->digest, w->op, &r, &err));

    if (judge(w, s, err, OK, 0)) {
        const char *type = rt_response_header(r, "content-type");

        if (strcmp(rt_response_digest(r), m->digest) != 0 || type == NULL || strcmp(type, m->type) != 0
            || rt_response_length(r) != (int64_t)m->size)
            violation("head of %s: %s, %s, %lld bytes", m->digest, rt_response_digest(r), type,
                      (long long)rt_response_length(r));
    }
    rt_free(r);
    return s;
}

static rt_status do_blob_get(struct worker *w)
{
    const struct item *b = blob_of(w);
    rt_response *r = NULL;
    rt_error *err = NULL;
    const rt_transport *t = lend(w);
    rt_status s = CALL(w, rt_blob_get(t, b->digest, w->op, &r, &err));

    if (judge(w, s, err, OK, 0))
        s = read_all(w, r, b);
    rt_free(r);
    return s;
}

static rt_status save_blob(struct worker *w, const rt_transport *t, int i)
{
    char path[512];
    rt_error *err = NULL;
    rt_status s;

    snprintf(path, sizeof path, "%s/%d/%d", folder, w->id, i);
    s = CALL(w, rt_blob_save(t, items[i].digest, path, w->op, &err));
    w->unsaved[i] = s != RT_OK;
    if (judge(w, s, err, OK, 0))
        check_file(w, &items[i], path);
    else if (access(path, F_OK) == 0)
        violation("a failed save left %s", path);
    return s;
}

static rt_status do_save(struct worker *w)
{
    /* Few of them, so that broken downloads are taken up again. */
    int i = blobs[((uint64_t)w->id * 5 + draw(w, 4)) % (uint64_t)nblobs];

    return save_blob(w, lend(w), i);
}

static rt_status do_stat(struct worker *w)
{
    const struct item *b = blob_of(w);
    char digest[NAME];
    int64_t size = 0, want = (int64_t)b->size;
    rt_error *err = NULL;
    rt_status s;

    snprintf(digest, sizeof digest, "%s", b->digest);
    if (chance(w, 30)) {
        snprintf(digest, sizeof digest, "sha256:%064llx", (unsigned long long)draw(w, UINT64_MAX));
        want = -1;
    }
    s = CALL(w, rt_blob_stat(lend(w), digest, w->op, &size, &err));
    if (judge(w, s, err, OK, 0) && size != want)
        violation("%s has %lld bytes, not %lld", digest, (long long)size, (long long)want);
    return s;
}

static rt_status do_pread(struct worker *w)
{
    static __thread unsigned char buffer[1 << 16];
    const struct item *b = blob_of(w);
    rt_blob *blob = NULL;
    rt_error *err = NULL;
    rt_status s = CALL(w, rt_blob_open(share(w), b->digest, w->op, &blob, &err));
    int i;

    if (judge(w, s, err, OK, 0)) {
        if (rt_blob_size(blob) != (int64_t)b->size)
            violation("size %lld of %s", (long long)rt_blob_size(blob), b->digest);
        for (i = 0; s == RT_OK && i < 4; i++) {
            size_t len = draw(w, sizeof buffer), offset = draw(w, b->size + 100), got = 1;
            size_t want = offset >= b->size ? 0 : b->size - offset < len ? b->size - offset : len;

            s = CALL(w, rt_blob_pread(blob, buffer, len, (int64_t)offset, w->op, &got, &err));
            if (judge(w, s, err, OK, 0)) {
                if (got != want)
                    violation("pread gave %zu of %zu bytes", got, want);
                else if (got > 0)
                    check_bytes(b, buffer, got, offset);
            }
        }
    }
    rt_free(blob);
    return s;
}

/* ---------------------------------------------------------------- writing */

struct reader { const struct item *item; size_t at; struct worker *w; int fails; };

static int64_t on_read(void *data, void *buf, size_t cap)
{
    struct reader *r = data;
    size_t n = r->item->size - r->at;

    if (self != r->w)
        violation("a reader on another thread");
    if (r->fails && r->at > r->item->size / 2)
        return -1;
    n = n < cap ? n : cap;
    n = n > 1 && draw(r->w, 3) == 0 ? 1 + draw(r->w, n) : n;
    memcpy(buf, r->item->data + r->at, n);
    r->at += n;
    return (int64_t)n;
}

static int32_t on_rewind(void *data)
{
    ((struct reader *)data)->at = 0;
    return 0;
}

static rt_status put(struct worker *w, const rt_transport *t, int i, rt_source *body, const char *digest,
                     const char *from, unsigned expected)
{
    rt_response *r = NULL;
    rt_error *err = NULL;
    rt_status s = CALL(w, rt_blob_put(t, digest, body, from, w->op, &r, &err));

    if (judge(w, s, err, expected, 0)) {
        become(w, i, PRESENT);
        if (rt_response_digest(r) == NULL || strcmp(rt_response_digest(r), items[i].digest) != 0)
            violation("put gave digest %s for %s", rt_response_digest(r), items[i].digest);
    } else {
        doubt(w, i);
    }
    rt_free(r);
    rt_free(body);
    return s;
}

static rt_status do_put(struct worker *w, int kind)
{
    int i = blobs[draw(w, (uint64_t)nblobs)];
    const struct item *b = &items[i];
    struct reader reader = { b, 0, w, 0 };
    int can_rewind = chance(w, 70), sized = chance(w, 50);
    rt_source *body;

    switch (kind) {
    case PUT_FILE:
        return put(w, own(w), i, rt_source_file(b->file), chance(w, 70) ? b->digest : NULL, NULL, OK);
    case PUT_STREAM:
        body = rt_source_reader(on_read, can_rewind ? on_rewind : NULL, sized ? (int64_t)b->size : -1, &reader, NULL);
        return put(w, own(w), i, body, chance(w, 50) ? b->digest : NULL, NULL,
                   can_rewind ? OK : OK | BIT(RT_E_STATE));
    case PUT_CHUNKED:
        w->is_plain = w->own_is_plain;
        return put(w, w->chunked, i, rt_source_bytes(b->data, b->size), chance(w, 50) ? b->digest : NULL, NULL, OK);
    case PUT_MOUNT:
        return put(w, own(w), i, rt_source_bytes(b->data, b->size), b->digest, "soak/base", OK);
    default:
        return put(w, own(w), i, rt_source_bytes(b->data, b->size), chance(w, 80) ? b->digest : NULL, NULL, OK);
    }
}

static rt_status do_upload(struct worker *w, int give_up)
{
    int i = blobs[draw(w, (uint64_t)nblobs)], tries;
    const struct item *b = &items[i];
    const rt_transport *t = chance(w, 50) ? own(w) : (w->is_plain = w->own_is_plain, w->chunked);
    struct reader reader = { b, 0, w, 0 };
    rt_source *body = chance(w, 50) ? rt_source_bytes(b->data, b->size)
                                    : rt_source_reader(on_read, on_rewind, (int64_t)b->size, &reader, NULL);
    rt_upload *u = NULL;
    rt_response *r = NULL;
    rt_error *err = NULL;
    rt_status s = CALL(w, rt_upload_begin(t, w->op, &u, &err));

    if (!judge(w, s, err, OK, 0)) {
        rt_free(body);
        return s;
    }
    for (tries = 0; tries < 3; tries++) {
        if (chance(w, 40)) { /* another process takes it up */
            char *state = strdup(rt_upload_state(u));

            rt_free(u);
            u = NULL;
            s = CALL(w, rt_upload_resume(t, state, w->op, &u, &err));
            free(state);
            /* The registry signs how far it was: after a failure it may not know its own word again. */
            if (!judge(w, s, err, tries > 0 ? OK | BIT(RT_E_STATUS) : OK, 404))
                break;
        }
        if (give_up && chance(w, 50))
            break;
        s = CALL(w, rt_upload_send(u, body, w->op, &err));
        if (judge(w, s, err, OK, 0))
            break;
    }
    if (u != NULL && (give_up || s != RT_OK)) {
        s = CALL(w, rt_upload_cancel(u, w->op, &err));
        judge(w, s, err, OK, 0);
    } else if (u != NULL) {
        s = CALL(w, rt_upload_finish(u, chance(w, 50) ? b->digest : NULL, w->op, &r, &err));
        if (judge(w, s, err, OK, 0)) {
            become(w, i, PRESENT);
            if (strcmp(rt_response_digest(r), b->digest) != 0)
                violation("the upload of %s became %s", b->digest, rt_response_digest(r));
        } else {
            doubt(w, i);
        }
    }
    rt_free(r);
    rt_free(u);
    rt_free(body);
    return s;
}

static rt_status do_manifest_put(struct worker *w)
{
    int i = images[draw(w, (uint64_t)nimages)], tag = (int)draw(w, TAGS), k, by_tag = chance(w, 80);
    const struct item *m = &items[i];
    char name[32];
    rt_response *r = NULL;
    rt_error *err = NULL;
    rt_status s = RT_OK;

    if (m->subject >= 0) /* the referrers tag would be of our own making */
        return SKIPPED;
    /* What it needs comes first. */
    for (k = 0; k < m->deps && s == RT_OK; k++) {
        const struct item *d = &items[m->dep[k]];

        if (!d->is_manifest && presence(w, m->dep[k]) != PRESENT)
            s = put(w, own(w), m->dep[k], rt_source_bytes(d->data, d->size), d->digest, NULL, OK);
    }
    if (s != RT_OK || !all_present(w, m))
        return s != RT_OK ? s : SKIPPED;
    snprintf(name, sizeof name, "t%d", tag);
    s = CALL(w, rt_manifest_put(own(w), by_tag ? name : m->digest, m->type, m->data, m->size, w->op, &r, &err));
    if (judge(w, s, err, OK, 0)) {
        become(w, i, PRESENT);
        if (by_tag)
            tag_becomes(w, tag, i);
        if (strcmp(rt_response_digest(r), m->digest) != 0)
            violation("%s was stored as %s", m->digest, rt_response_digest(r));
    } else {
        doubt(w, i);
        if (by_tag)
            doubt_tag(w, tag);
    }
    rt_free(r);
    return s;
}

static rt_status manifest_delete(struct worker *w, int i)
{
    rt_error *err = NULL;
    enum presence was = presence(w, i);
    unsigned expected = was == PRESENT ? OK : was == ABSENT ? BIT(RT_E_STATUS) : OK | BIT(RT_E_STATUS);
    /* A repetition of a deletion whose answer was lost finds nothing, and the registry may still be at the tags. */
    rt_status s = CALL(w, rt_manifest_delete(own(w), items[i].digest, w->op, &err));
    int tag, told = rt_error_http_status(err);
    int gone = s == RT_OK || (s == RT_E_STATUS && told == 404);

    if (!calm) {
        expected |= BIT(RT_E_STATUS);
        if (told == 400 && w->is_plain) /* spoilt on its way; to some registries that is how they say no */
            expected |= BIT(RT_E_UNSUPPORTED);
    }
    judge(w, s, err, expected, 404);
    for (tag = 0; tag < TAGS; tag++)
        if (w->tag[tag].item == i || w->tag[tag].item == -2) {
            if (!gone || w->lost)
                doubt_tag(w, tag);
            else if (w->tag[tag].item == i)
                tag_becomes(w, tag, -1);
        }
    if (gone)
        become(w, i, ABSENT);
    else
        doubt(w, i);
    return s == RT_E_STATUS && gone ? RT_OK : s;
}

static rt_status blob_delete(struct worker *w, int i)
{
    char path[NAME + 16];
    rt_req *r;
    rt_response *answer = NULL;
    rt_error *err = NULL;
    rt_status s;

    snprintf(path, sizeof path, "./blobs/%s", items[i].digest);
    r = rt_req_new("DELETE", path);
    rt_req_accept_status(r, 202);
    rt_req_accept_status(r, 404);
    s = CALL(w, rt_request(own(w), r, w->op, &answer, &err));
    if (judge(w, s, err, OK, 0)) {
        if (calm && presence(w, i) != UNKNOWN && (rt_response_status(answer) == 202) != (presence(w, i) == PRESENT))
            violation("deletion of %s: HTTP %d", items[i].digest, (int)rt_response_status(answer));
        become(w, i, ABSENT);
    } else {
        doubt(w, i);
    }
    rt_free(answer);
    rt_free(r);
    return s;
}

/* What was put is there, what was deleted is not. */
static rt_status do_read_own(struct worker *w)
{
    int i = (int)draw(w, (uint64_t)nitems);
    enum presence is = presence(w, i);
    unsigned expected = is == PRESENT ? OK : is == ABSENT ? BIT(RT_E_STATUS) : OK | BIT(RT_E_STATUS);
    rt_response *r = NULL;
    rt_error *err = NULL;
    rt_status s = items[i].is_manifest ? CALL(w, rt_manifest_get(own(w), items[i].digest, w->op, &r, &err))
                                       : CALL(w, rt_blob_get(own(w), items[i].digest, w->op, &r, &err));

    if (judge(w, s, err, expected, 404))
        s = read_all(w, r, &items[i]);
    else if (s == RT_E_STATUS && is != PRESENT)
        s = RT_OK;
    rt_free(r);
    return s;
}

static rt_status do_copy(struct worker *w)
{
    int i = images[draw(w, (uint64_t)nimages)], tag = (int)draw(w, TAGS), k;
    const struct item *m = &items[i];
    const rt_transport *from;
    char name[32];
    rt_error *err = NULL;
    rt_status s;

    if (m->subject >= 0)
        return SKIPPED;
    from = share(w);
    w->is_plain |= w->own_is_plain;
    snprintf(name, sizeof name, "t%d", tag);
    s = CALL(w, rt_copy(from, m->digest, w->own, name, w->op, &err));
    judge(w, s, err, OK, 0);
    for (k = 0; k < m->deps; k++) {
        const struct item *d = &items[m->dep[k]];
        int j;

        for (j = 0; j < d->deps; j++)
            s == RT_OK ? become(w, d->dep[j], PRESENT) : doubt(w, d->dep[j]);
        s == RT_OK ? become(w, m->dep[k], PRESENT) : doubt(w, m->dep[k]);
    }
    if (s == RT_OK) {
        become(w, i, PRESENT);
        tag_becomes(w, tag, i);
    } else {
        doubt(w, i);
        doubt_tag(w, tag);
    }
    return s;
}

/* ---------------------------------------------------------------- lists */

static rt_status do_tags(struct worker *w, int of_own)
{
    rt_list *list = rt_list_tags(of_own ? own(w) : share(w));
    const char *name = NULL;
    rt_error *err = NULL;
    rt_status s;
    int found[ITEMS] = { 0 }, i, known, names = 0, certain = 0;

    for (i = 0; i < TAGS; i++)
        certain += w->tag[i].item >= 0 && now_ms() >= w->tag[i].until;
    for (;;) {
        s = CALL(w, rt_list_next(list, w->op, &name, &err));
        /* A repository that never had a manifest is not known. */
        if (!judge(w, s, err, of_own && !certain ? OK | BIT(RT_E_STATUS) : OK, 404) || name == NULL)
            break;
        names++;
        known = 0;
        if (of_own && name[0] == 't' && name[1] >= '0' && name[1] < '0' + TAGS && name[2] == 0)
            found[name[1] - '0'] = known = 1;
        for (i = 0; !of_own && i < nitems; i++)
            if (strcmp(items[i].tag, name) == 0)
                found[i] = known = 1;
        for (i = 0; !of_own && i < nsubjects; i++)
            known |= strncmp(name, "sha256-", 7) == 0 && strcmp(items[subjects[i]].digest + 7, name + 7) == 0;
        if (!known)
            violation("there is no tag %s", name);
    }
    if (s == RT_OK && of_own)
        for (i = 0; i < TAGS; i++) {
            if (now_ms() < w->tag[i].until || w->tag[i].item == -2)
                continue;
            if (found[i] != (w->tag[i].item >= 0))
                violation("tag t%d is %s", i, found[i] ? "still there" : "missing");
        }
    for (i = 0; s == RT_OK && !of_own && i < nitems; i++)
        if (items[i].is_manifest && items[i].tag[0] != '-' && !found[i])
            violation("tag %s is missing among %d", items[i].tag, names);
    rt_free(list);
    return s == RT_E_STATUS && of_own ? RT_OK : s;
}

static rt_status do_catalog(struct worker *w)
{
    rt_list *list = rt_list_repositories(share_slot(w, SLOTS - 2 + (int)draw(w, 2)));
    const char *name = NULL;
    rt_error *err = NULL;
    rt_status s;
    int base = 0;

    for (;;) {
        s = CALL(w, rt_list_next(list, w->op, &name, &err));
        if (!judge(w, s, err, OK, 0) || name == NULL)
            break;
        base |= strcmp(name, "soak/base") == 0;
        if (strncmp(name, "soak/", 5) != 0)
            violation("there is no repository %s", name);
    }
    if (s == RT_OK && !base)
        violation("soak/base is not listed");
    rt_free(list);
    return s;
}

static rt_status do_referrers(struct worker *w)
{
    int subject = subjects[draw(w, (uint64_t)nsubjects)], want = 0, got = 0, i;
    rt_list *list = rt_list_referrers(share(w), items[subject].digest, NULL);
    const char *json = NULL;
    rt_error *err = NULL;
    rt_status s;

    for (i = 0; i < nitems; i++)
        want += items[i].subject == subject;
    for (;;) {
        s = CALL(w, rt_list_next(list, w->op, &json, &err));
        if (!judge(w, s, err, OK, 0) || json == NULL)
            break;
        got++;
        for (i = 0; i < nitems; i++)
            if (items[i].subject == subject && strstr(json, items[i].digest) != NULL)
                break;
        if (i == nitems)
            violation("no referrer: %s", json);
    }
    if (s == RT_OK && got != want)
        violation("%d of %d referrers", got, want);
    rt_free(list);
    return s;
}

static rt_status do_request(struct worker *w)
{
    const struct item *m = image_of(w);
    char path[NAME + 32];
    rt_req *q;
    rt_response *r = NULL;
    rt_error *err = NULL;
    rt_status s;
    const char *value;
    size_t i;

    snprintf(path, sizeof path, "./manifests/%s", m->digest);
    q = rt_req_new(NULL, path);
    rt_req_accept_type(q, m->type);
    rt_req_header(q, "X-Soak", "1");
    /* Nothing but TLS says that an answer as such is whole. */
    s = CALL(w, rt_request(share_slot(w, 1 + 2 * (int)draw(w, SLOTS / 2 - 1)), q, w->op, &r, &err));
    if (judge(w, s, err, OK, 0)) {
        for (i = 0; i < rt_response_header_count(r); i++)
            if (rt_response_header_at(r, i, &value) == NULL || value == NULL)
                violation("header %zu is missing", i);
        s = read_all(w, r, m);
    }
    rt_free(r);
    rt_free(q);
    return s;
}

static rt_status do_pages(struct worker *w)
{
    rt_req *q = rt_req_new("GET", chance(w, 50) ? "/v2/soak/base/tags/list" : "./tags/list");
    rt_pages *pages = rt_pages_new(share(w), q);
    rt_response *page = NULL;
    rt_error *err = NULL;
    rt_status s;
    const void *data;
    size_t len;

    do {
        s = CALL(w, rt_pages_next(pages, w->op, &page, &err));
        if (!judge(w, s, err, OK, 0) || page == NULL)
            break;
        s = CALL(w, rt_response_body(page, &data, &len, &err));
        /* A page has no digest: over HTTP, the proxy's garbage may be in it. */
        if (judge(w, s, err, OK, 0) && strstr(data, "soak/base") == NULL
            && !(w->is_plain && memchr(data, GARBAGE, len) != NULL))
            violation("a page without a name: %.*s", (int)(len < 200 ? len : 200), (const char *)data);
        rt_free(page);
        page = NULL;
    } while (s == RT_OK);
    rt_free(page);
    rt_free(pages);
    rt_free(q);
    return s;
}

/* ---------------------------------------------------------------- what must fail */

static rt_status do_fail(struct worker *w, int kind)
{
    const struct item *b = blob_of(w), *m = image_of(w);
    struct reader reader = { b, 0, w, 1 };
    char digest[NAME * 2];
    rt_transport *t;
    rt_response *r = NULL;
    rt_source *body;
    rt_req *q;
    rt_ref *ref = NULL;
    rt_error *err = NULL;
    rt_status s = RT_OK;

    snprintf(digest, sizeof digest, "sha256:%064llx", (unsigned long long)draw(w, UINT64_MAX));
    switch (kind) {
    case FAIL_404:
        s = chance(w, 50) ? CALL(w, rt_blob_get(share(w), digest, w->op, &r, &err))
                          : CALL(w, rt_manifest_get(share(w), "no-such-tag", w->op, &r, &err));
        judge(w, s, err, BIT(RT_E_STATUS), 404);
        break;
    case FAIL_AUTH:
        t = make(w, w->is_plain = chance(w, 50), "soak/base", RT_PULL, canaries[1]);
        s = CALL(w, rt_ping(t, w->op, &err));
        judge(w, s, err, BIT(RT_E_AUTH), 0);
        rt_free(t);
        break;
    case FAIL_DENIED:
        t = make(w, w->is_plain = chance(w, 50), "denied/x", RT_PUSH, NULL);
        s = chance(w, 50) ? CALL(w, rt_manifest_get(t, "v1", w->op, &r, &err))
                          : CALL(w, rt_manifest_put(t, "v1", m->type, m->data, m->size, w->op, &r, &err));
        judge(w, s, err, BIT(RT_E_AUTH), 0);
        rt_free(t);
        break;
    case FAIL_SYNTAX:
        s = CALL(w, rt_ref_parse("Not/A/Name::", &ref, &err));
        judge(w, s, err, BIT(RT_E_SYNTAX), 0);
        s = CALL(w, rt_blob_get(share(w), "sha256:zz", w->op, &r, &err));
        judge(w, s, err, BIT(RT_E_SYNTAX), 0);
        break;
    case FAIL_DIGEST:
        body = rt_source_bytes(b->data, b->size);
        s = CALL(w, rt_blob_put(own(w), digest, body, NULL, w->op, &r, &err));
        judge(w, s, err, BIT(RT_E_DIGEST), 0);
        rt_free(body);
        break;
    case FAIL_TYPE:
        snprintf(digest, sizeof digest, "./manifests/%s", m->digest);
        q = rt_req_new(NULL, digest);
        rt_req_accept_type(q, "application/x-nothing");
        s = CALL(w, rt_request(share(w), q, w->op, &r, &err));
        /* The registry converts what it can, and says so otherwise. */
        judge(w, s, err, BIT(RT_E_MEDIA_TYPE) | BIT(RT_E_STATUS), 404);
        rt_free(q);
        break;
    case FAIL_LIMIT: {
        rt_options *o = rt_options_new();
        rt_creds *creds = rt_creds_basic(user, password);
        char name[256];

        set(o, "environment", 0);
        set(o, "max-manifest-bytes", 10);
        set(o, "timeout-ms", calm ? 0 : TIMEOUT_MS);
        rt_options_set_str(o, "ca-file", ca);
        rt_options_set_str(o, "scheme", "https");
        snprintf(name, sizeof name, "%s/soak/base", tls);
        s = CALL(w, rt_transport_new(name, RT_PULL, creds, o, &t, &err));
        if (judge(w, s, err, OK, 0)) {
            s = CALL(w, rt_manifest_get(t, m->digest, w->op, &r, &err));
            judge(w, s, err, BIT(RT_E_LIMIT), 0);
        }
        rt_free(t);
        rt_free(o);
        rt_free(creds);
        break;
    }
    case FAIL_HANDLE:
        body = rt_source_bytes("x", 1);
        s = CALL(w, rt_ping((const rt_transport *)(const void *)body, w->op, &err));
        judge(w, s, err, BIT(RT_E_ARG), 0);
        s = CALL(w, rt_blob_get(NULL, b->digest, w->op, &r, &err));
        judge(w, s, err, BIT(RT_E_ARG), 0);
        if (rt_response_status(NULL) != -1 || rt_error_message(NULL) != NULL)
            violation("a NULL handle is not told apart");
        rt_free(body);
        break;
    default:
        body = rt_source_reader(on_read, on_rewind, -1, &reader, NULL);
        s = CALL(w, rt_blob_put(own(w), NULL, body, NULL, w->op, &r, &err));
        judge(w, s, err, b->size > 1 ? BIT(RT_E_CANCELLED) : OK | BIT(RT_E_CANCELLED), 0);
        if (s == RT_OK)
            become(w, (int)(b - items), PRESENT);
        rt_free(body);
    }
    if (r != NULL)
        violation("an answer came with a failure");
    rt_free(r);
    rt_free(ref);
    return s;
}

/* ---------------------------------------------------------------- threads */

static void run(struct worker *w, int kind)
{
    rt_status s;
    rt_error *err = NULL;

    begin(w, kind);
    switch (kind) {
    case PING:
        s = CALL(w, rt_ping(share(w), w->op, &err));
        judge(w, s, err, OK, 0);
        break;
    case MANIFEST_TAG: case MANIFEST_DIGEST:
        s = do_manifest(w, kind == MANIFEST_TAG);
        break;
    case MANIFEST_HEAD:
        s = do_head(w);
        break;
    case BLOB_GET:
        s = do_blob_get(w);
        break;
    case BLOB_SAVE:
        s = do_save(w);
        break;
    case BLOB_STAT:
        s = do_stat(w);
        break;
    case BLOB_PREAD:
        s = do_pread(w);
        break;
    case PUT_ONCE: case PUT_FILE: case PUT_STREAM: case PUT_CHUNKED: case PUT_MOUNT:
        s = do_put(w, kind);
        break;
    case UPLOAD: case UPLOAD_CANCEL:
        s = do_upload(w, kind == UPLOAD_CANCEL);
        break;
    case MANIFEST_PUT:
        s = do_manifest_put(w);
        break;
    case MANIFEST_DELETE:
        s = manifest_delete(w, images[draw(w, (uint64_t)nimages)]);
        break;
    case BLOB_DELETE:
        s = blob_delete(w, blobs[draw(w, (uint64_t)nblobs)]);
        break;
    case TAGS_BASE: case TAGS_OWN:
        s = do_tags(w, kind == TAGS_OWN);
        break;
    case CATALOG:
        s = do_catalog(w);
        break;
    case REFERRERS:
        s = do_referrers(w);
        break;
    case COPY:
        s = do_copy(w);
        break;
    case REQUEST:
        s = do_request(w);
        break;
    case PAGES:
        s = do_pages(w);
        break;
    case READ_OWN:
        s = do_read_own(w);
        break;
    default:
        s = do_fail(w, kind);
    }
    unpublish(w);
    kill_victim(w);
    end(w, s);
    if (strcmp(sabotage, "fd") == 0 && draw(w, 500) == 0 && open("/dev/null", O_RDONLY) < 0)
        violation("no descriptor");
    if (strcmp(sabotage, "secret") == 0 && draw(w, 500) == 0)
        on_log(NULL, RT_LOG_DEBUG, password);
    if (strcmp(sabotage, "byte") == 0 && draw(w, 500) == 0)
        check_bytes(&items[blobs[0]], "?", 1, 0);
    if (strcmp(sabotage, "hang") == 0 && draw(w, 5000) == 0) {
        enter(w, "sabotage");
        pause_ms(60000);
    }
}

static void own_transports(struct worker *w)
{
    char name[NAME + 1];

    w->own_is_plain = chance(w, 50);
    w->own = make(w, w->own_is_plain, w->repo, RT_PUSH | RT_DELETE, NULL);
    snprintf(name, sizeof name, "C%s", w->repo);
    w->chunked = make(w, w->own_is_plain, name, RT_PUSH, NULL);
}

/* Every kind of call twice, and then nothing of ours is left. */
static void calm_round(struct worker *w)
{
    int i, kind, twice;

    for (i = 0; i < nitems; i++)
        w->item[i].until = 0;
    for (i = 0; i < TAGS; i++)
        w->tag[i].until = 0;
    for (twice = 0; twice < 2; twice++)
        for (kind = 0; kind < KINDS; kind++)
            if (kind != FAIL_DIGEST && kind != FAIL_READER) /* docker-registry does not let go of such uploads */
                run(w, kind);
    for (i = 0; i < nitems; i++)
        if (w->unsaved[i]) {
            begin(w, BLOB_SAVE);
            end(w, save_blob(w, share(w), i));
        }
    for (i = nitems - 1; i >= 0; i--) {
        if (w->item[i].is == ABSENT)
            continue;
        begin(w, items[i].is_manifest ? MANIFEST_DELETE : BLOB_DELETE);
        end(w, items[i].is_manifest ? manifest_delete(w, i) : blob_delete(w, i));
    }
    for (i = 0; i < TAGS; i++)
        w->tag[i].item = -1;
    begin(w, TAGS_OWN);
    end(w, do_tags(w, 1));
}

static void *work(void *data)
{
    struct worker *w = data;
    int total = 0, kind, at;

    self = w;
    for (kind = 0; kind < KINDS; kind++)
        total += kinds[kind].weight;
    for (;;) {
        pthread_barrier_wait(&barrier); /* a round begins */
        if (over == 2)
            return NULL;
        own_transports(w);
        if (calm)
            calm_round(w);
        while (!over && !calm) {
            if (w->had_error) /* against a registry that is down, all threads would only spin */
                pause_ms(1 + (int)draw(w, 30));
            at = (int)draw(w, (uint64_t)total);
            for (kind = 0; at >= kinds[kind].weight; kind++)
                at -= kinds[kind].weight;
            run(w, kind);
        }
        rt_free(w->own);
        rt_free(w->chunked);
        pthread_barrier_wait(&barrier); /* it has ended */
    }
}

/* Cancels, closes and frees what other threads use, and sees whether they still move. */
static void *chaos(void *data)
{
    struct worker *me = data;
    int i, slot;

    while (over != 2) {
        int64_t now = now_ms();

        for (i = 0; i < nthreads; i++) {
            struct worker *w = &workers[i];
            int64_t since = w->since;

            pthread_mutex_lock(&w->lock);
            if (w->published != NULL && now >= w->cancel_at) {
                w->cancelled_at = now_ms();
                rt_op_cancel(w->published);
                w->published = NULL;
                cancels++;
            }
            if (since != 0 && now - since > w->limit + 30000) {
                printf("HANG thread %d, %s: %lld ms in %s\n", i, kinds[w->kind].name, (long long)(now - since), w->call);
                fflush(stdout);
                abort();
            }
            pthread_mutex_unlock(&w->lock);
            if (w->armed && draw(me, 20) == 0)
                kill_victim(w);
        }
        if (!calm && draw(me, 1500) == 0) {
            slot = (int)draw(me, SLOTS);
            pthread_mutex_lock(&slots[slot].lock);
            if (slots[slot].now != NULL) {
                slots[slot].now->closed++;
                rt_transport_close(slots[slot].now->t);
                closes++;
            }
            pthread_mutex_unlock(&slots[slot].lock);
        }
        pause_ms(1);
    }
    return NULL;
}

/* ---------------------------------------------------------------- what the process holds */

static int entries(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;

    while (d != NULL && readdir(d) != NULL)
        n++;
    if (d != NULL)
        closedir(d);
    return n - 3; /* . and .. and, of descriptors, the one of this reading; of threads, one less */
}

static long resident(void)
{
    long size = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f == NULL || fscanf(f, "%ld %ld", &size, &pages) != 2)
        violation("no /proc/self/statm");
    if (f != NULL)
        fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void report(int round)
{
    static int fds_before = -1, tasks_before = -1;
    struct mallinfo2 heap;
    int fds = 0, tasks = 0, wait;

    /* A thread that was joined may take a moment to leave /proc. */
    for (wait = 0; wait < 100; wait++) {
        fds = entries("/proc/self/fd");
        tasks = entries("/proc/self/task") + 1;
        if (fds_before < 0 || (fds == fds_before && tasks == tasks_before))
            break;
        pause_ms(10);
    }
    malloc_trim(0);
    heap = mallinfo2();
    printf("ROUND %d heap %zu rss %ld fds %d threads %d violations %d\n", round, heap.uordblks + heap.hblkhd, resident(),
           fds, tasks, (int)violations);
    fflush(stdout);
    fds_before = fds_before < 0 ? fds : fds_before;
    tasks_before = tasks_before < 0 ? tasks : tasks_before;
}

static void one_round(struct worker *me, int seconds)
{
    int i;

    for (i = 0; i < SLOTS; i++) {
        struct shared *s = fresh(me, i);

        pthread_mutex_lock(&slots[i].lock);
        slots[i].now = s;
        pthread_mutex_unlock(&slots[i].lock);
    }
    over = 0;
    pthread_barrier_wait(&barrier);
    pause_ms(seconds * 1000);
    over = 1;
    pthread_barrier_wait(&barrier);
    for (i = 0; i < SLOTS; i++) {
        struct shared *s;

        pthread_mutex_lock(&slots[i].lock);
        s = slots[i].now;
        slots[i].now = NULL;
        pthread_mutex_unlock(&slots[i].lock);
        let_go(s);
    }
}

/* ---------------------------------------------------------------- what is given */

static void read_items(const char *pool)
{
    char path[512], line[1024], kind[8];
    FILE *f;

    snprintf(path, sizeof path, "%s/index", pool);
    f = fopen(path, "r");
    while (f != NULL && nitems < ITEMS && fgets(line, sizeof line, f) != NULL) {
        struct item *i = &items[nitems];
        int used = 0, more, fd;
        const char *at = line;

        if (sscanf(at, "%7s %127s %zu %127s %31s %d%n", kind, i->digest, &i->size, i->type, i->tag, &i->subject, &used) != 6)
            exit(2);
        for (at += used; i->deps < 8 && sscanf(at, "%d%n", &i->dep[i->deps], &more) == 1; at += more)
            i->deps++;
        i->is_manifest = kind[0] == 'm';
        snprintf(i->file, sizeof i->file, "%s/%d", pool, nitems);
        fd = open(i->file, O_RDONLY);
        i->data = i->size ? mmap(NULL, i->size, PROT_READ, MAP_PRIVATE, fd, 0) : (const void *)"";
        if (fd < 0 || i->data == MAP_FAILED)
            exit(2);
        close(fd);
        if (i->is_manifest)
            images[nimages++] = nitems;
        else
            blobs[nblobs++] = nitems;
        if (i->subject >= 0) {
            int k;

            for (k = 0; k < nsubjects && subjects[k] != i->subject; k++)
                ;
            if (k == nsubjects)
                subjects[nsubjects++] = i->subject;
        }
        nitems++;
    }
    if (f == NULL || nblobs == 0 || nimages == 0 || nsubjects == 0)
        exit(2);
    fclose(f);
}

int main(void)
{
    char line[512], pool[256] = "", *value;
    int rounds = 6, seconds = 20, i, round;
    struct worker me = { .id = -1 };
    pthread_t breaker;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing is left running, however the driver ends */
    /* "key value" lines, and an empty one: secrets are not for the command line. */
    while (fgets(line, sizeof line, stdin) != NULL && line[0] != '\n') {
        line[strcspn(line, "\n")] = 0;
        value = strchr(line, ' ');
        if (value == NULL)
            return 2;
        *value++ = 0;
#define TAKE(key, into) else if (strcmp(line, key) == 0) snprintf(into, sizeof into, "%s", value)
        if (strcmp(line, "seed") == 0)
            seed = strtoull(value, NULL, 10);
        else if (strcmp(line, "threads") == 0)
            nthreads = atoi(value);
        else if (strcmp(line, "rounds") == 0)
            rounds = atoi(value);
        else if (strcmp(line, "seconds") == 0)
            seconds = atoi(value);
        else if (strcmp(line, "canary") == 0 && ncanaries < 16)
            canaries[ncanaries++] = strdup(value);
        else if (strcmp(line, "sabotage") == 0)
            sabotage = strdup(value);
        TAKE("plain", plain);
        TAKE("tls", tls);
        TAKE("ca", ca);
        TAKE("folder", folder);
        TAKE("pool", pool);
        TAKE("docker-config", docker_config);
        TAKE("user", user);
        TAKE("password", password);
        else
            return 2;
    }
    if (rt_abi() != RT_ABI || nthreads < 1 || nthreads > THREADS || ncanaries < 2)
        return 2;
    read_items(pool);
    me.rng = seed;
    for (i = 0; i < SLOTS; i++)
        pthread_mutex_init(&slots[i].lock, NULL);
    pthread_barrier_init(&barrier, NULL, (unsigned)nthreads + 1);
    for (i = 0; i < nthreads; i++) {
        struct worker *w = &workers[i];
        int k;

        w->id = i;
        w->rng = seed * 1000003u + (uint64_t)i;
        snprintf(w->repo, sizeof w->repo, "soak/t%d", i);
        for (k = 0; k < TAGS; k++)
            w->tag[k].item = -1;
        pthread_mutex_init(&w->lock, NULL);
        snprintf(line, sizeof line, "%s/%d", folder, i);
        if (mkdir(line, 0700) != 0 || pthread_create(&w->thread, NULL, work, w) != 0)
            return 2;
    }
    if (pthread_create(&breaker, NULL, chaos, &me) != 0)
        return 2;
    {
        struct worker main_ = { .id = -2, .rng = seed + 1 };

        for (round = 1; round <= rounds && violations < 40; round++) {
            one_round(&main_, seconds);
            report(round);
        }
        printf("CALM\n");
        fflush(stdout);
        if (fgets(line, sizeof line, stdin) == NULL) /* the driver has made good weather */
            return 2;
        calm = 1;
        one_round(&main_, 0);
        report(round);
    }
    over = 2;
    pthread_barrier_wait(&barrier);
    for (i = 0; i < nthreads; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_join(breaker, NULL);
    for (i = 0; i < KINDS; i++) {
        int status;

        printf("KIND %s", kinds[i].name);
        for (status = 0; status < 17; status++)
            if (outcomes[i][status])
                printf("; %s %llu", status == 0 ? "ok" : status == 16 ? "skipped" : rt_status_name(status) + 5,
                       (unsigned long long)outcomes[i][status]);
        printf("\n");
    }
    printf("NOTE %lld bytes verified, %llu log lines searched\n", (long long)bytes_checked,
           (unsigned long long)log_lines);
    printf("NOTE %llu calls cancelled from another thread, %llu of them ended so, the slowest after %lld ms, %llu after more than 200\n",
           (unsigned long long)cancels, (unsigned long long)cancelled_calls, (long long)worst_cancel,
           (unsigned long long)cancel_late);
    printf("NOTE %llu transports closed in use, %llu replaced, %llu freed in the middle of a call\n",
           (unsigned long long)closes, (unsigned long long)replaced, (unsigned long long)mid_call_frees);
    printf("NOTE the latest call ended %lld ms after its limit\n", (long long)worst_overrun);
    printf("END %d\n", (int)violations);
    return violations ? 1 : 0;
}

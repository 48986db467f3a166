/* A TCP proxy on the loopback interface that adds latency: delay LISTEN_PORT TARGET_PORT ROUND_TRIP_MS
 *
 * Every byte is held back for half the round trip, in either direction. The first bytes of a client wait a whole
 * round trip more: the handshake with the proxy itself takes no time, the one of a distant server would. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 256, PIECE = 65536 };

struct piece {
    int64_t due;
    ssize_t len;
    char data[PIECE];
};

struct connection {
    int client, server, users;
    pthread_mutex_t lock;
};

/* One direction: a thread that reads and stamps, one that waits and writes. */
struct direction {
    struct connection *connection;
    int from, to;
    int64_t extra;
    struct piece *pieces;
    unsigned head, tail;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static int64_t one_way;

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *take_in(void *user)
{
    struct direction *d = user;
    int64_t extra = d->extra;
    ssize_t n;

    do {
        struct piece *p;

        pthread_mutex_lock(&d->lock);
        while (d->head - d->tail == SLOTS)
            pthread_cond_wait(&d->changed, &d->lock);
        pthread_mutex_unlock(&d->lock);
        p = &d->pieces[d->head % SLOTS];
        n = recv(d->from, p->data, PIECE, 0);
        p->len = n;
        p->due = now() + one_way + extra;
        extra = 0;
        pthread_mutex_lock(&d->lock);
        d->head++;
        pthread_cond_broadcast(&d->changed);
        pthread_mutex_unlock(&d->lock);
    } while (n > 0);
    return NULL;
}

static int send_all(int to, const char *data, ssize_t len)
{
    while (len > 0) {
        ssize_t n = send(to, data, (size_t)len, MSG_NOSIGNAL);

        if (n <= 0)
            return -1;
        data += n;
        len -= n;
    }
    return 0;
}

static void leave(struct connection *c)
{
    int last;

    pthread_mutex_lock(&c->lock);
    last = --c->users == 0;
    pthread_mutex_unlock(&c->lock);
    if (last) {
        close(c->client);
        close(c->server);
        free(c);
    }
}

static void *give_out(void *user)
{
    struct direction *d = user;
    pthread_t reader;
    ssize_t len;
    int broken = 0;

    if (pthread_create(&reader, NULL, take_in, d) != 0)
        exit(1);
    do {
        struct piece *p;
        struct timespec due;

        pthread_mutex_lock(&d->lock);
        while (d->head == d->tail)
            pthread_cond_wait(&d->changed, &d->lock);
        pthread_mutex_unlock(&d->lock);
        p = &d->pieces[d->tail % SLOTS];
        due.tv_sec = p->due / 1000000000;
        due.tv_nsec = p->due % 1000000000;
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) != 0)
            ;
        len = p->len;
        if (!broken && send_all(d->to, p->data, len) != 0) {
            broken = 1;
            shutdown(d->from, SHUT_RD);
        }
        pthread_mutex_lock(&d->lock);
        d->tail++;
        pthread_cond_broadcast(&d->changed);
        pthread_mutex_unlock(&d->lock);
    } while (len > 0);
    pthread_join(reader, NULL);
    shutdown(d->to, SHUT_WR);
    leave(d->connection);
    free(d->pieces);
    free(d);
    return NULL;
}

static void start(struct connection *c, int from, int to, int64_t extra)
{
    struct direction *d = calloc(1, sizeof *d);
    pthread_t thread;

    if (d == NULL || (d->pieces = malloc(SLOTS * sizeof *d->pieces)) == NULL)
        exit(1);
    d->connection = c;
    d->from = from;
    d->to = to;
    d->extra = extra;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    if (pthread_create(&thread, NULL, give_out, d) != 0)
        exit(1);
    pthread_detach(thread);
}

static struct sockaddr_in loopback(const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

int main(int argc, char **argv)
{
    struct sockaddr_in here, there;
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    if (argc != 4)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    here = loopback(argv[1]);
    there = loopback(argv[2]);
    one_way = (int64_t)atoi(argv[3]) * 1000000 / 2;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) != 0 || listen(listener, 256) != 0) {
        perror("delay");
        return 1;
    }
    for (;;) {
        struct connection *c = calloc(1, sizeof *c);

        if (c == NULL)
            return 1;
        c->client = accept(listener, NULL, NULL);
        c->server = socket(AF_INET, SOCK_STREAM, 0);
        if (c->client < 0 || connect(c->server, (struct sockaddr *)&there, sizeof there) != 0) {
            close(c->client);
            close(c->server);
            free(c);
            continue;
        }
        setsockopt(c->client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(c->server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c->users = 2;
        pthread_mutex_init(&c->lock, NULL);
        start(c, c->client, c->server, 2 * one_way);
        start(c, c->server, c->client, 0);
    }
}

#define _POSIX_C_SOURCE 200809L
#include "common.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- errors ---- */

static void put_text(FILE *out, const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s != '\0'; s++) {
        if (s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0)
            s++; /* a control character of two bytes (U+0080 to U+009F) */
        else if (s[0] >= 0x20 && s[0] != 0x7f) {
            putc(s[0], out);
            continue;
        }
        putc('?', out);
    }
}

void print_line(const char *text)
{
    put_text(stdout, text);
    putchar('\n');
}

void print_error(const rt_error *err)
{
    int64_t wait = rt_error_retry_after_ms(err);
    int32_t http = rt_error_http_status(err);

    fprintf(stderr, "error: ");
    put_text(stderr, rt_error_message(err));
    fprintf(stderr, "\n  kind: %s\n", rt_status_name(rt_error_code(err)));
    if (http != 0)
        fprintf(stderr, "  HTTP status: %" PRId32 "\n", http);
    if (rt_error_os_code(err) != 0)
        fprintf(stderr, "  system: %s\n", strerror(rt_error_os_code(err)));
    for (size_t i = 0; i < rt_error_diag_count(err); i++) {
        const char *code = rt_error_diag_code(err, i);
        const char *message = rt_error_diag_message(err, i);
        const char *detail = rt_error_diag_detail(err, i);

        fprintf(stderr, "  registry says: ");
        put_text(stderr, code != NULL ? code : "UNKNOWN");
        if (message != NULL) {
            fprintf(stderr, ": ");
            put_text(stderr, message);
        }
        if (detail != NULL) {
            fprintf(stderr, "\n    detail: ");
            put_text(stderr, detail);
        }
        putc('\n', stderr);
    }
    if (wait > 0)
        fprintf(stderr, "  trying again may help, in %.1f s\n", (double)wait / 1000);
    else if (wait == 0)
        fprintf(stderr, "  trying again may help\n");
    else
        fprintf(stderr, "  trying again will not help\n");
}

int failed(rt_error *err)
{
    print_error(err);
    rt_free(err);
    return -1;
}

int complain(const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fprintf(stderr, "error: ");
    put_text(stderr, text); /* it may quote what a registry sent */
    putc('\n', stderr);
    return -1;
}

/* ---- connection ---- */

static void log_line(void *user, int32_t level, const char *line)
{
    static const char *const names[] = {"?", "error", "warn", "info", "debug"};

    (void)user;
    fprintf(stderr, "%s: %s\n", level >= RT_LOG_ERROR && level <= RT_LOG_DEBUG ? names[level] : names[0], line);
}

/* Some options take text and some a number; which is which need not be known here. */
static void set_option(struct connection *c, const char *key, const char *value)
{
    rt_status status = rt_options_set_str(c->options, key, value);
    char *end;

    if (status != RT_OK) {
        long long number;

        errno = 0;
        number = strtoll(value, &end, 10);
        if (errno == 0 && end != value && *end == '\0')
            status = rt_options_set_int(c->options, key, number);
    }
    if (status != RT_OK) {
        complain("%s", rt_options_error(c->options));
        exit(2);
    }
}

void connection_init(struct connection *c)
{
    memset(c, 0, sizeof *c);
    if (rt_abi() != RT_ABI) {
        complain("this program was built for another version of the library than %s", rt_version());
        exit(1);
    }
    c->options = rt_options_new();
    rt_options_set_str(c->options, "user-agent", "registry-transport-examples/1");
    rt_options_set_int(c->options, "connect-timeout-ms", 10000);
}

void connection_free(struct connection *c)
{
    rt_free(c->options);
}

char *flag_value(int argc, char **argv, int *i)
{
    if (*i + 1 >= argc) {
        complain("%s needs a value", argv[*i]);
        exit(2);
    }
    return argv[++*i];
}

int connection_flag(struct connection *c, int argc, char **argv, int *i)
{
    const char *flag = argv[*i];

    if (strcmp(flag, "-u") == 0) {
        c->user = flag_value(argc, argv, i);
    } else if (strcmp(flag, "--docker") == 0) {
        c->docker = 1;
    } else if (strcmp(flag, "--podman") == 0) {
        c->podman = 1;
    } else if (strcmp(flag, "--ca") == 0) {
        set_option(c, "ca-file", flag_value(argc, argv, i));
        set_option(c, "scheme", "https");
    } else if (strcmp(flag, "--plain-http") == 0) {
        set_option(c, "scheme", "http");
    } else if (strcmp(flag, "--allow-private") == 0) {
        set_option(c, "allow-private", "1");
    } else if (strcmp(flag, "--set") == 0) {
        char *key = flag_value(argc, argv, i), *equals = strchr(key, '=');

        if (equals == NULL) {
            complain("--set wants KEY=VALUE");
            exit(2);
        }
        *equals = '\0';
        set_option(c, key, equals + 1);
    } else if (strcmp(flag, "-v") == 0) {
        c->verbose = 1;
        rt_options_set_log(c->options, RT_LOG_DEBUG, log_line, NULL, NULL);
    } else {
        return 0;
    }
    return 1;
}

/* Sets *out to NULL for anonymous access. */
static int credentials(const struct connection *c, rt_creds **out)
{
    const char *password;
    char *user, *colon;

    *out = NULL;
    if (c->user == NULL) {
        if (c->podman)
            *out = rt_creds_podman(NULL);
        else if (c->docker)
            *out = rt_creds_docker(NULL);
        return 0;
    }
    user = strdup(c->user);
    if (user == NULL)
        return complain("out of memory");
    colon = strchr(user, ':');
    if (colon != NULL)
        *colon = '\0';
    password = colon != NULL ? colon + 1 : getenv("REGISTRY_PASSWORD");
    if (password != NULL)
        *out = rt_creds_basic(user, password);
    free(user);
    return *out != NULL ? 0 : complain("-u needs a password: -u USER:PASSWORD, or $REGISTRY_PASSWORD");
}

int connect_to(const struct connection *c, const rt_ref *ref, uint32_t actions, rt_transport **out)
{
    const char *registry = rt_ref_registry(ref), *repository = rt_ref_repository(ref);
    size_t size = strlen(registry) + (repository != NULL ? strlen(repository) : 0) + 2;
    char *name = malloc(size);
    rt_creds *creds = NULL;
    rt_error *err = NULL;
    int result = -1;

    *out = NULL;
    if (name == NULL || credentials(c, &creds) != 0)
        goto done;
    snprintf(name, size, "%s%s%s", registry, repository != NULL ? "/" : "", repository != NULL ? repository : "");
    /* This only checks its arguments; the network comes in with the first request. */
    if (rt_transport_new(name, actions, creds, c->options, out, &err) != RT_OK) {
        failed(err);
        goto done;
    }
    result = 0;
done:
    rt_free(creds); /* the transport keeps what it needs of them */
    free(name);
    return result;
}

int parse_ref(const char *text, rt_ref **out)
{
    rt_error *err = NULL;

    return rt_ref_parse(text, out, &err) == RT_OK ? 0 : failed(err);
}

int connect_image(const struct connection *c, const char *text, uint32_t actions, rt_ref **ref, rt_transport **out)
{
    if (parse_ref(text, ref) != 0)
        return -1;
    if (rt_ref_repository(*ref) == NULL)
        return complain("%s: names a registry, but no repository in it", text);
    return connect_to(c, *ref, actions, out);
}

const char *ref_target(const rt_ref *ref)
{
    const char *digest = rt_ref_digest(ref);

    return digest != NULL ? digest : rt_ref_tag(ref);
}

/* ---- progress ---- */

double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

const char *human(int64_t bytes, char out[24])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double n = (double)bytes;
    int unit = 0;

    for (; n >= 999.5 && unit < 4; unit++)
        n /= 1000;
    snprintf(out, 24, "%.*f %s", unit == 0 ? 0 : 1, n, units[unit]);
    return out;
}

void bar_start(struct bar *b, int wanted)
{
    memset(b, 0, sizeof *b);
    b->on = wanted && isatty(STDOUT_FILENO);
    b->started = seconds();
    b->first = -1;
}

void bar_draw(struct bar *b, int64_t done, int64_t total)
{
    static const char full[] = "##############################", empty[] = "..............................";
    const int width = (int)sizeof full - 1;
    double now = seconds(), past = now - b->started;
    char moved[24], all[24], rate[24];

    if (b->first < 0)
        b->first = done; /* what was there before does not count for the rate */
    if (!b->on || (now - b->drawn < 0.1 && done != total))
        return;
    b->drawn = now;
    human(past > 0 ? (int64_t)((double)(done - b->first) / past) : 0, rate);
    if (total > 0) {
        double part = done >= total ? 1 : (double)done / (double)total;
        int cells = (int)(part * width);

        printf("\r[%.*s%.*s] %3.0f%%  %s of %s  %s/s\033[K", cells, full, width - cells, empty, part * 100,
               human(done, moved), human(total, all), rate);
    } else {
        printf("\r%s  %s/s\033[K", human(done, moved), rate);
    }
    fflush(stdout);
}

void bar_end(struct bar *b)
{
    if (b->on && b->drawn > 0)
        putchar('\n');
    b->on = 0;
}

/* What the examples share: connection flags, printing of errors, a progress bar. */
#ifndef COMMON_H
#define COMMON_H

#include <registry_transport.h>

/* How to reach a registry, filled from the command line. */
struct connection {
    rt_options *options;
    char *user; /* "name" or "name:password" */
    int docker, podman;
    int verbose;
};

#define CONNECTION_USAGE                                                                                               \
    "  -u USER[:PASSWORD]   log in; without PASSWORD it is taken from $REGISTRY_PASSWORD\n"                            \
    "  --docker             log in with what \"docker login\" stored\n"                                                \
    "  --podman             log in with what \"podman login\" stored\n"                                                \
    "  --ca FILE            speak https and trust the certificates in FILE too\n"                                      \
    "  --plain-http         speak http\n"                                                                              \
    "  --allow-private      let the registry send us on to private addresses\n"                                        \
    "  --set KEY=VALUE      set any option of the library, such as retries=5\n"                                        \
    "  -v                   log to standard error\n"

void connection_init(struct connection *c);
void connection_free(struct connection *c);

/* If argv[*i] is one of the flags above, applies it, moves *i to its last word and returns 1. Else returns 0. */
int connection_flag(struct connection *c, int argc, char **argv, int *i);

/* The word after the flag argv[*i], to which *i is moved. Exits with status 2 if there is none. */
char *flag_value(int argc, char **argv, int *i);

/* Opens a transport for the repository (or bare registry) that ref names. Returns 0, or -1 after telling why. */
int connect_to(const struct connection *c, const rt_ref *ref, uint32_t actions, rt_transport **out);

/* As rt_ref_parse, but tells why it failed and returns -1. connect_image also wants a repository in it. */
int parse_ref(const char *text, rt_ref **out);
int connect_image(const struct connection *c, const char *text, uint32_t actions, rt_ref **ref, rt_transport **out);

/* What a manifest is asked for by: the digest of ref if it has one, else its tag. */
const char *ref_target(const rt_ref *ref);

void print_error(const rt_error *err);
/* Prints err and frees it. Returns -1, so that a function can end with "return failed(err);". */
int failed(rt_error *err);
/* Prints a message of our own. Returns -1 too. */
int complain(const char *format, ...);
/* Writes text that came from a registry, with '?' for control characters, and a newline. */
void print_line(const char *text);

/* A progress bar of one line, redrawn. Does nothing when off. */
struct bar {
    int on;
    double started, drawn;
    int64_t first;
};

/* Turns it on if standard output is a terminal and wanted is not 0. */
void bar_start(struct bar *b, int wanted);
/* Shows done of total bytes (-1 is unknown), at most ten times a second. */
void bar_draw(struct bar *b, int64_t done, int64_t total);
void bar_end(struct bar *b);

/* Seconds of a clock that only goes forward. */
double seconds(void);
/* "12.3 MB", in out. */
const char *human(int64_t bytes, char out[24]);

#endif

/* Secrets are wiped: after everything was given back, none is found in the memory of the process. They are computed
   where they are needed, so that no copy of the test's own is there to be found.
   Usage: wiped SERVER SCHEME CA-FILE */
#define _DEFAULT_SOURCE
#define _POSIX_C_SOURCE 200809L
#include <string.h>
#include <unistd.h>

#include "program.h"

enum { LENGTH = 24 };

/* Letter i of secret k; the server knows the formula too. */
static char letter(int k, int i)
{
    return (char)('a' + (i * (5 + 2 * k) + i * i + k) % 26);
}

static void spell(int k, char *out)
{
    int i;

    for (i = 0; i < LENGTH; i++)
        out[i] = letter(k, i);
    out[LENGTH] = 0;
}

static void forget(volatile char *text)
{
    int i;

    for (i = 0; i < LENGTH; i++)
        text[i] = 0;
}

static int is_at(const char *place, int k)
{
    int i;

    for (i = 0; i < LENGTH; i++)
        if (place[i] != letter(k, i))
            return 0;
    return 1;
}

/* The letter of its form in base64, of "user:" and the password. */
static char coded(int i)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char user[] = "user:";
    unsigned bits = 0;
    int j;

    for (j = 0; j < 3; j++) {
        int at = i / 4 * 3 + j;

        bits = bits << 8 | (unsigned char)(at < 5 ? user[at] : letter(1, at - 5));
    }
    return digits[bits >> (18 - 6 * (i % 4)) & 63];
}

static int is_coded_at(const char *place)
{
    int i;

    /* What is whole in it: 5 + 24 bytes are nine groups and a rest. */
    for (i = 0; i < 36; i++)
        if (place[i] != coded(i))
            return 0;
    return 1;
}

/* The TLS library has a copy of each record it decrypted, and frees it as it is: a token that came over TLS may be
   there. */
static int over_tls;

/* How often the secrets are in memory that can be written to, the stack of this thread excepted. */
static int found(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int n = 0, k;

    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        char mode[8];
        const char *place;

        CHECK(sscanf(line, "%lx-%lx %7s", &from, &to, mode) == 3);
        if (strncmp(mode, "rw", 2) != 0 || strstr(line, "[stack]") != NULL || strstr(line, "[v") != NULL)
            continue;
        for (place = (const char *)from; place + 40 < (const char *)to; place++) {
            for (k = 1; k <= 3; k++)
                if (*place == letter(k, 0) && !(k == 2 && over_tls) && is_at(place, k)) {
                    fprintf(stderr, "secret %d at %p in %s", k, (const void *)place, line);
                    n++;
                }
            if (*place == 'd' && is_coded_at(place)) {
                fprintf(stderr, "the password as it is sent at %p in %s", (const void *)place, line);
                n++;
            }
        }
    }
    fclose(maps);
    return n;
}

int main(int argc, char **argv)
{
    rt_options *o = rt_options_new();
    rt_transport *t;
    rt_creds *creds;
    char text[LENGTH + 1], name[128];
    int i, k;

    CHECK(argc == 4);
    over_tls = strcmp(argv[2], "https") == 0;
    CHECK(rt_options_set_str(o, "scheme", argv[2]) == RT_OK && rt_options_set_int(o, "share-tokens", 0) == RT_OK);
    CHECK(argv[3][0] == 0 || rt_options_set_str(o, "ca-file", argv[3]) == RT_OK);
    snprintf(name, sizeof name, "%s/a/b", argv[1]);
    /* The search finds what is there. */
    creds = rt_creds_basic("user", (spell(1, text), text));
    forget(text);
    CHECK(found() == 1);
    rt_free(creds);
    CHECK(found() == 0);
    for (k = 1; k <= 3; k++) {
        spell(k, text);
        creds = k == 1 ? rt_creds_basic("user", text) : k == 2 ? rt_creds_bearer(text) : rt_creds_refresh(text);
        forget(text);
        OK(rt_transport_new(name, RT_PULL, creds, o, &t, &err));
        rt_free(creds);
        for (i = 0; i < 5; i++)
            CHECK(ask(t, "GET", i % 2 ? "./refused" : "./x", 0, NULL) == (i % 2 ? RT_E_STATUS : RT_OK));
        rt_free(t);
    }
    rt_free(o);
    CHECK(found() == 0);
    puts("ok");
    return 0;
}

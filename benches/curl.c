/* The same work as its users write it with libcurl and OpenSSL: one easy handle a thread, a write callback,
 * EVP for the digest.
 *
 *   curl blob   URL DIGEST sink|PATH [CA]
 *   curl small  URL - COUNT THREADS [CA]
 *   curl pread  URL SIZE BYTES COUNT THREADS [CA]
 *   curl push   URL DIGEST FILE
 */
#define _POSIX_C_SOURCE 200809L
#include <curl/curl.h>
#include <openssl/evp.h>

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *url, *ca;
static long count;
static uint64_t size, bytes;

static void fail(const char *why)
{
    fprintf(stderr, "curl: %s\n", why);
    exit(1);
}

static CURL *handle(const char *target)
{
    CURL *h = curl_easy_init();

    curl_easy_setopt(h, CURLOPT_URL, target);
    curl_easy_setopt(h, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
    if (ca != NULL)
        curl_easy_setopt(h, CURLOPT_CAINFO, ca);
    return h;
}

static void perform(CURL *h)
{
    CURLcode code = curl_easy_perform(h);

    if (code != CURLE_OK)
        fail(curl_easy_strerror(code));
}

struct target {
    EVP_MD_CTX *digest;
    FILE *file;
    char *buf;
    uint64_t done;
};

static size_t write_blob(char *data, size_t one, size_t n, void *user)
{
    struct target *t = user;

    (void)one;
    EVP_DigestUpdate(t->digest, data, n);
    if (t->file != NULL && fwrite(data, 1, n, t->file) != n)
        return 0;
    t->done += n;
    return n;
}

static size_t write_part(char *data, size_t one, size_t n, void *user)
{
    struct target *t = user;

    (void)one;
    if (t->done + n > bytes)
        return 0;
    memcpy(t->buf + t->done, data, n);
    t->done += n;
    return n;
}

static void get_blob(const char *digest, const char *path)
{
    struct target t = {EVP_MD_CTX_new(), NULL, NULL, 0};
    unsigned char sum[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE + 8] = "sha256:";
    unsigned len, i;
    CURL *h = handle(url);

    EVP_DigestInit_ex(t.digest, EVP_sha256(), NULL);
    if (strcmp(path, "sink") != 0)
        t.file = fopen(path, "wb");
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, write_blob);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, &t);
    perform(h);
    EVP_DigestFinal_ex(t.digest, sum, &len);
    for (i = 0; i < len; i++)
        sprintf(text + 7 + 2 * i, "%02x", sum[i]);
    if (strcmp(text, digest) != 0)
        fail("wrong digest");
    if (t.file != NULL && fclose(t.file) != 0)
        fail("cannot write");
    EVP_MD_CTX_free(t.digest);
    curl_easy_cleanup(h);
}

static void *small(void *unused)
{
    struct target t = {NULL, NULL, malloc(1 << 20), 0};
    CURL *h = handle(url);
    struct curl_slist *accept = curl_slist_append(NULL, "Accept: application/vnd.oci.image.manifest.v1+json");
    long i;

    curl_easy_setopt(h, CURLOPT_HTTPHEADER, accept);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, write_part);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, &t);
    for (i = 0; i < count; i++) {
        unsigned char sum[EVP_MAX_MD_SIZE];
        unsigned len;

        t.done = 0;
        perform(h);
        EVP_Digest(t.buf, t.done, sum, &len, EVP_sha256(), NULL);
    }
    curl_slist_free_all(accept);
    curl_easy_cleanup(h);
    free(t.buf);
    return unused;
}

static void *preads(void *seed)
{
    uint64_t state = (uint64_t)(uintptr_t)seed * 2654435761u + 1, at;
    struct target t = {NULL, NULL, malloc(bytes), 0};
    CURL *h = handle(url);
    char range[64];
    long i;

    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, write_part);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, &t);
    for (i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        at = (state >> 16) % (size - bytes);
        sprintf(range, "%llu-%llu", (unsigned long long)at, (unsigned long long)(at + bytes - 1));
        curl_easy_setopt(h, CURLOPT_RANGE, range);
        t.done = 0;
        perform(h);
        if (t.done != bytes)
            fail("short range");
    }
    curl_easy_cleanup(h);
    free(t.buf);
    return NULL;
}

static char location[4096];

static size_t find_location(char *line, size_t one, size_t n, void *user)
{
    (void)one;
    (void)user;
    if (n > 10 && n < sizeof location && strncasecmp(line, "Location: ", 10) == 0) {
        memcpy(location, line + 10, n - 10);
        location[strcspn(location, "\r\n")] = '\0';
    }
    return n;
}

static void push(const char *digest, const char *path)
{
    CURL *h = handle(url);
    char target[8192];
    FILE *file = fopen(path, "rb");

    curl_easy_setopt(h, CURLOPT_POST, 1L);
    curl_easy_setopt(h, CURLOPT_POSTFIELDS, "");
    curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, find_location);
    perform(h);
    sprintf(target, "%s%sdigest=%s", location, strchr(location, '?') != NULL ? "&" : "?", digest);
    curl_easy_reset(h);
    curl_easy_setopt(h, CURLOPT_URL, target);
    curl_easy_setopt(h, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(h, CURLOPT_READDATA, file);
    fseek(file, 0, SEEK_END);
    curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, (curl_off_t)ftell(file));
    rewind(file);
    perform(h);
    fclose(file);
    curl_easy_cleanup(h);
}

static void run(void *(*work)(void *), int threads)
{
    pthread_t ids[256];
    int i;

    for (i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, work, (void *)(uintptr_t)(i + 1));
    for (i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
}

int main(int argc, char **argv)
{
    int threads;

    if (argc < 5)
        return 2;
    curl_global_init(CURL_GLOBAL_ALL);
    url = argv[2];
    if (strcmp(argv[1], "blob") == 0) {
        ca = argc > 5 ? argv[5] : NULL;
        get_blob(argv[3], argv[4]);
    } else if (strcmp(argv[1], "small") == 0) {
        ca = argc > 6 ? argv[6] : NULL;
        threads = atoi(argv[5]);
        bytes = 1 << 20;
        count = atol(argv[4]) / threads;
        run(small, threads);
    } else if (strcmp(argv[1], "pread") == 0) {
        ca = argc > 7 ? argv[7] : NULL;
        size = strtoull(argv[3], NULL, 10);
        bytes = strtoull(argv[4], NULL, 10);
        threads = atoi(argv[6]);
        count = atol(argv[5]) / threads;
        run(preads, threads);
    } else {
        push(argv[3], argv[4]);
    }
    return 0;
}

/* Beside other libraries in one program, all linked statically: another one in Rust, and OpenSSL. OpenSSL's client
 * and ours both talk to a registry over TLS.
 *
 *   neighbours REGISTRY CA
 */
#define _POSIX_C_SOURCE 200809L
#include <registry_transport.h>

#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what) do { if (!(what)) { fprintf(stderr, "line %d: %s\n", __LINE__, #what); exit(1); } } while (0)

/* second.rs */
extern int32_t second_counts(const char *text);
extern int32_t second_panics(void);

static void by_openssl(const char *registry, const char *ca)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    BIO *bio;
    SSL *ssl;
    char head[64];

    CHECK(SSL_CTX_load_verify_locations(context, ca, NULL) == 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    bio = BIO_new_ssl_connect(context);
    CHECK(BIO_get_ssl(bio, &ssl) == 1);
    CHECK(BIO_set_conn_hostname(bio, registry) == 1);
    CHECK(BIO_do_connect(bio) == 1 && BIO_do_handshake(bio) == 1 && SSL_get_verify_result(ssl) == X509_V_OK);
    CHECK(BIO_printf(bio, "GET /v2/ HTTP/1.0\r\nHost: %s\r\n\r\n", registry) > 0);
    CHECK(BIO_read(bio, head, sizeof head) > 12 && strncmp(head, "HTTP/1.", 7) == 0 && strncmp(head + 8, " 401", 4) == 0);
    BIO_free_all(bio);
    SSL_CTX_free(context);
}

static void by_ours(const char *registry, const char *ca)
{
    rt_options *options = rt_options_new();
    rt_creds *creds = rt_creds_basic("demo", "demo");
    rt_transport *t;
    rt_response *answer;
    rt_error *err;
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned int size, i;
    const void *data;
    size_t len;
    char name[256], digest[7 + 2 * EVP_MAX_MD_SIZE + 1] = "sha256:";

    CHECK((size_t)snprintf(name, sizeof name, "%s/demo/app", registry) < sizeof name);
    CHECK(rt_options_set_str(options, "ca-file", ca) == RT_OK);
    CHECK(rt_options_set_str(options, "scheme", "https") == RT_OK);
    CHECK(rt_transport_new(name, RT_PULL, creds, options, &t, NULL) == RT_OK);
    if (rt_manifest_get(t, "latest", NULL, &answer, &err) != RT_OK) {
        fprintf(stderr, "%s\n", rt_error_message(err));
        exit(1);
    }
    CHECK(rt_response_body(answer, &data, &len, NULL) == RT_OK);
    CHECK(EVP_Digest(data, len, sum, &size, EVP_sha256(), NULL) == 1);
    for (i = 0; i < size; i++)
        sprintf(digest + 7 + 2 * i, "%02x", sum[i]);
    CHECK(strcmp(digest, rt_response_digest(answer)) == 0);
    rt_free(answer);
    rt_free(t);
    rt_free(creds);
    rt_free(options);
}

int main(int argc, char **argv)
{
    int i;

    CHECK(argc == 3);
    for (i = 0; i < 2; i++) {
        by_openssl(argv[1], argv[2]);
        by_ours(argv[1], argv[2]);
        CHECK(second_counts("one two three") == 3);
        /* Unwinding stays inside each of the two. */
        CHECK(second_panics() == 1);
        CHECK(rt_options_set_int(NULL, "retries", 1) == RT_E_ARG);
    }
    puts("ok");
    return 0;
}

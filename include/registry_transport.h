/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * registry-transport: HTTP transport for OCI and Docker registries.
 *
 * Rules that hold for every function:
 *
 *  - Status. A function that can fail returns rt_status, 0 being success. If its last
 *    argument is rt_error **err, a failure stores a new rt_error there (free it with
 *    rt_free) and success stores NULL; err itself may be NULL. Other out-arguments are
 *    set to NULL or 0 on failure. Nothing needs to be initialised by the caller.
 *  - Ownership. Only handles are owned, only rt_free gives them back. No function takes
 *    over a handle or memory passed to it: handles are shared, text and bytes copied,
 *    unless its comment says otherwise. const char * and data pointers returned belong
 *    to the handle they came from.
 *  - Text is UTF-8 with a NUL at its end, both ways, and at most 1 MiB on the way in.
 *  - NULL. Passing NULL where it is not allowed is RT_E_ARG, or 0, -1 or NULL from
 *    functions without a status. So is a handle of the wrong type.
 *  - Threads. A const handle may be used by many threads at once, one that is not const
 *    by one thread at a time; any thread will do. A handle that another call is changing
 *    is RT_E_STATE, or 0, -1 or NULL from functions without a status. A handle must not
 *    be freed while a call using it may still begin; one that runs keeps it until it
 *    returns.
 *  - Callbacks run on the thread that made the call, never on a thread of the library.
 *    They may call any function here, rt_free included, but must return normally: no
 *    longjmp, no exception. Every transfer can also be done without callbacks.
 *  - Time. Nothing waits for ever: connecting, the head of an answer and a stalled body
 *    have limits of their own (options), and an rt_op limits or cancels a whole call.
 *  - Memory. Running out of it ends the process; sizes the peer controls are limited first.
 *  - fork(). A child must make its own transports; using an inherited one is RT_E_STATE.
 *  - The library never prints, exits, installs signal handlers, or sets environment
 *    variables, and it is never unmapped once loaded.
 */
#ifndef REGISTRY_TRANSPORT_H
#define REGISTRY_TRANSPORT_H

#include <stddef.h>
#include <stdint.h>

#ifndef RT_API
# if defined(_WIN32) && !defined(RT_STATIC)
#  define RT_API __declspec(dllimport)
# else
#  define RT_API extern
# endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** OCI image manifest (image-spec, "Media Types"). */
#define RT_MEDIA_TYPE_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
/** OCI image index: manifests by platform. */
#define RT_MEDIA_TYPE_OCI_INDEX "application/vnd.oci.image.index.v1+json"
/** OCI image configuration. */
#define RT_MEDIA_TYPE_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
/** OCI layer, plain tar. */
#define RT_MEDIA_TYPE_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
/** OCI layer, tar compressed with gzip. */
#define RT_MEDIA_TYPE_OCI_LAYER_GZIP "application/vnd.oci.image.layer.v1.tar+gzip"
/** OCI layer, tar compressed with zstd. */
#define RT_MEDIA_TYPE_OCI_LAYER_ZSTD "application/vnd.oci.image.layer.v1.tar+zstd"
/** OCI layer that is not to be pushed to other registries, plain tar. */
#define RT_MEDIA_TYPE_OCI_RESTRICTED_LAYER "application/vnd.oci.image.layer.nondistributable.v1.tar"
/** OCI layer that is not to be pushed to other registries, tar compressed with gzip. */
#define RT_MEDIA_TYPE_OCI_RESTRICTED_LAYER_GZIP "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
/** OCI layer that is not to be pushed to other registries, tar compressed with zstd. */
#define RT_MEDIA_TYPE_OCI_RESTRICTED_LAYER_ZSTD "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
/** The two bytes `{}`, where an artifact has no config or layer. */
#define RT_MEDIA_TYPE_OCI_EMPTY "application/vnd.oci.empty.v1+json"
/** Docker manifest, schema 1, unsigned. */
#define RT_MEDIA_TYPE_DOCKER_MANIFEST_SCHEMA1 "application/vnd.docker.distribution.manifest.v1+json"
/** Docker manifest, schema 1, signed. */
#define RT_MEDIA_TYPE_DOCKER_MANIFEST_SCHEMA1_SIGNED "application/vnd.docker.distribution.manifest.v1+prettyjws"
/** Docker manifest, schema 2. */
#define RT_MEDIA_TYPE_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
/** Docker manifest list: manifests by platform. */
#define RT_MEDIA_TYPE_DOCKER_MANIFEST_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
/** Docker image configuration. */
#define RT_MEDIA_TYPE_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
/** Docker layer, tar compressed with gzip. */
#define RT_MEDIA_TYPE_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar.gzip"
/** Docker layer that lives elsewhere and is not to be pushed. */
#define RT_MEDIA_TYPE_DOCKER_FOREIGN_LAYER "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
/** Docker plugin configuration. */
#define RT_MEDIA_TYPE_DOCKER_PLUGIN_CONFIG "application/vnd.docker.plugin.v1+json"


/**
 * Version of this header. Compare RT_ABI with rt_abi() before anything else.
 */
#define RT_ABI 1

/**
 * Version of the library this header came with.
 */
#define RT_VERSION_MAJOR 0

/**
 * Second part of the version.
 */
#define RT_VERSION_MINOR 1

/**
 * Third part of the version.
 */
#define RT_VERSION_PATCH 0

/**
 * The three parts in one number, to be compared.
 */
#define RT_VERSION_NUM (((RT_VERSION_MAJOR << 16) | (RT_VERSION_MINOR << 8)) | RT_VERSION_PATCH)

/**
 * Success.
 */
#define RT_OK 0

/**
 * A required pointer was NULL, a handle had the wrong type, text was not UTF-8, or a value is out of range.
 */
#define RT_E_ARG 1

/**
 * Unknown option key, or what this build (see rt_has_feature), the registry or a configuration does not offer.
 */
#define RT_E_UNSUPPORTED 2

/**
 * The name, path, digest or URL does not parse.
 */
#define RT_E_SYNTAX 3

/**
 * Name resolution, connect, proxy, or a broken connection. Usually worth a retry.
 */
#define RT_E_NETWORK 4

/**
 * TLS handshake or certificate failure.
 */
#define RT_E_TLS 5

/**
 * A deadline or time-out passed.
 */
#define RT_E_TIMEOUT 6

/**
 * rt_op_cancel or rt_transport_close was called, or a callback returned non-zero.
 */
#define RT_E_CANCELLED 7

/**
 * No usable credentials, or the token service or registry refused them.
 */
#define RT_E_AUTH 8

/**
 * The registry answered with a status the request did not accept.
 */
#define RT_E_STATUS 9

/**
 * The answer had a media type the request did not accept.
 */
#define RT_E_MEDIA_TYPE 10

/**
 * The bytes do not have the digest or the length they should have.
 */
#define RT_E_DIGEST 11

/**
 * A limit was exceeded: one that an option sets, 128 header fields in an answer, or one that a function names; or
 * there was no memory for a body.
 */
#define RT_E_LIMIT 12

/**
 * A local file could not be read or written; see rt_error_os_code.
 */
#define RT_E_IO 13

/**
 * The peer broke HTTP or the registry protocol, or wanted to lead somewhere it may not.
 */
#define RT_E_PROTOCOL 14

/**
 * The handle is busy, already consumed, or was made before fork().
 */
#define RT_E_STATE 15

/**
 * A bug in this library was caught at the boundary; the handles involved are unusable.
 */
#define RT_E_INTERNAL 98

/**
 * What a program takes a number for that it does not know. Never returned.
 */
#define RT_E_OTHER 99

/**
 * Log level: kept for what makes a call fail, which its rt_error tells. No line has it so far.
 */
#define RT_LOG_ERROR 1

/**
 * Log level: what works but should not stay so, and what the registry itself warns of (distribution-spec,
 * "Warnings"), each text once.
 */
#define RT_LOG_WARN 2

/**
 * Log level: decisions, such as which credentials go where.
 */
#define RT_LOG_INFO 3

/**
 * Log level: every request and answer.
 */
#define RT_LOG_DEBUG 4

/**
 * Action: read a repository.
 */
#define RT_PULL 1

/**
 * Action: write to a repository, and read it.
 */
#define RT_PUSH 2

/**
 * Action: delete from a repository. Tokens are asked for push and pull, and for delete where the registry's
 * challenge names it.
 */
#define RT_DELETE 4

/**
 * Action: list repositories. The name passed to rt_transport_new must then be a bare registry.
 */
#define RT_CATALOG 8

/**
 * A blob open for reading at any offset. Any number of threads at once.
 */
typedef struct rt_blob rt_blob;

/**
 * Credentials, or a source of them. Immutable and shareable; secrets are wiped when the last user is gone.
 */
typedef struct rt_creds rt_creds;

/**
 * A failure. Immutable; any thread may read it.
 */
typedef struct rt_error rt_error;

/**
 * What a transport uses, and why. Immutable; any thread may read it.
 */
typedef struct rt_explanation rt_explanation;

/**
 * A cursor over names (tags, repositories), fetched page by page. One thread at a time.
 */
typedef struct rt_list rt_list;

/**
 * Control of one running call from other threads: cancel, progress, time limit.
 */
typedef struct rt_op rt_op;

/**
 * Settings, copied by rt_transport_new. One thread at a time.
 */
typedef struct rt_options rt_options;

/**
 * A cursor over a paginated listing. One thread at a time.
 */
typedef struct rt_pages rt_pages;

/**
 * An image reference taken apart. Immutable; any thread may read it.
 */
typedef struct rt_ref rt_ref;

/**
 * A request being described; reusable for any number of calls, by many threads once it is complete.
 */
typedef struct rt_req rt_req;

/**
 * An answer whose body has not been read yet. Keeps what it needs of transport and op alive. One thread at a
 * time.
 */
typedef struct rt_response rt_response;

/**
 * Bytes to send: memory, a file, or a pair of callbacks. Immutable; one of callbacks is used by one call at a
 * time, else RT_E_STATE.
 */
typedef struct rt_source rt_source;

/**
 * An authenticated connection pool for one registry or repository. Any number of threads at once.
 */
typedef struct rt_transport rt_transport;

/**
 * An upload that can be interrupted, written down and taken up by another process. One thread at a time.
 */
typedef struct rt_upload rt_upload;

/**
 * RT_OK or one of the RT_E_ values.
 */
typedef int32_t rt_status;

/**
 * Receives one log line: UTF-8, NUL-terminated, without secrets. line lives until the function returns.
 */
typedef void (*rt_log_fn)(void *user, int32_t level, const char *line);

/**
 * Called exactly once, when the library will never use user again.
 */
typedef void (*rt_drop_fn)(void *user);

/**
 * Supplies credentials for registry (repository may be NULL), again whenever they are refused. registry is host
 * and port of the registry, or of a mirror that is asked in its place. Returns new credentials, which the library
 * frees, or NULL for anonymous; such as ask a function again, and a non-zero *fail, end the call with RT_E_AUTH. May
 * take its time; runs on the thread of the call, once however many threads wait for the answer.
 */
typedef rt_creds *(*rt_creds_fn)(void *user,
                                 const char *registry,
                                 const char *repository,
                                 int32_t *fail);

/**
 * Reports done of total bytes (total is -1 when unknown). Returns 0, or non-zero to stop the call with
 * RT_E_CANCELLED.
 */
typedef int32_t (*rt_progress_fn)(void *user, int64_t done, int64_t total);

/**
 * Fills buf with up to cap bytes. Returns the count, 0 at the end, negative to fail the call with
 * RT_E_CANCELLED.
 */
typedef int64_t (*rt_read_fn)(void *user, void *buf, size_t cap);

/**
 * Goes back to the first byte so a request can be sent again. Returns 0, or non-zero if it cannot.
 */
typedef int32_t (*rt_rewind_fn)(void *user);

/**
 * Receives len bytes, which live until it returns. Returns 0, or non-zero to stop with RT_E_CANCELLED.
 */
typedef int32_t (*rt_write_fn)(void *user, const void *data, size_t len);

/**
 * Gives back any handle of any type. NULL does nothing. Every handle is given back exactly once, in any
 * order: handles keep what they need of each other alive. Does not wait for the network. Any thread, also in a
 * callback: a call that is running keeps what it uses until it returns, but none may still begin.
 */
RT_API
void rt_free(void *handle);

/**
 * ABI number of the loaded library. Differs from RT_ABI: do not go on.
 */
RT_API uint32_t rt_abi(void);

/**
 * "name/version (tls provider)". Static.
 */
RT_API const char *rt_version(void);

/**
 * 1 if this build has the named feature, else 0: "tls", "platform-roots", "socks", "helper", "sha512".
 */
RT_API
int32_t rt_has_feature(const char *name);

/**
 * "RT_E_TIMEOUT" for 6, and so on; "RT_E_OTHER" for an unknown value. Static.
 */
RT_API const char *rt_status_name(rt_status status);

/**
 * The status this error carries; RT_E_ARG if err is not an error.
 */
RT_API rt_status rt_error_code(const rt_error *err);

/**
 * One line for people: what failed, on which host, what to do. No secrets, no line end. Lives as long as
 * err.
 */
RT_API
const char *rt_error_message(const rt_error *err);

/**
 * HTTP status of the answer, of the last one if the connection failed after it, or 0 if there was none.
 */
RT_API
int32_t rt_error_http_status(const rt_error *err);

/**
 * errno (or GetLastError) of the failed system call, or 0. errno itself is never set for you.
 */
RT_API int32_t rt_error_os_code(const rt_error *err);

/**
 * Milliseconds to wait before trying again, or -1 if trying again is pointless. The registry's own word
 * (Retry-After, RFC 9110 section 10.2.3), up to a day, if it gave one.
 */
RT_API
int64_t rt_error_retry_after_ms(const rt_error *err);

/**
 * What the refused answer said about request limits, as rt_response_rate_limit does. Returns 1 if it said
 * anything, else 0.
 */
RT_API
int32_t rt_error_rate_limit(const rt_error *err,
                            int64_t *limit,
                            int64_t *remaining,
                            int64_t *window_ms,
                            int64_t *reset_ms);

/**
 * How many diagnostics the registry sent with the failure (distribution-spec, "Error Codes").
 */
RT_API size_t rt_error_diag_count(const rt_error *err);

/**
 * Diagnostic i: its code ("MANIFEST_UNKNOWN"), "UNKNOWN" for a body that was not understood. NULL if there is
 * none or i is out of range. Lives as long as err.
 */
RT_API
const char *rt_error_diag_code(const rt_error *err,
                               size_t i);

/**
 * Diagnostic i: the registry's message, or NULL. Lives as long as err.
 */
RT_API const char *rt_error_diag_message(const rt_error *err, size_t i);

/**
 * Diagnostic i: its detail as JSON text, or NULL. Lives as long as err.
 */
RT_API const char *rt_error_diag_detail(const rt_error *err, size_t i);

/**
 * Default settings. Never NULL.
 */
RT_API rt_options *rt_options_new(void);

/**
 * Sets a text option, e.g. "user-agent", "proxy", "ca-file", "scheme". README.md and registry_transport_options(7)
 * list the keys. An unknown key is RT_E_UNSUPPORTED, so keys can be tried; a value it does not take, or a number's
 * key, is RT_E_ARG, and rt_options_error tells what it takes.
 */
RT_API
rt_status rt_options_set_str(rt_options *o,
                             const char *key,
                             const char *value);

/**
 * Sets a number or a switch (0 or 1), e.g. "connect-timeout-ms", "max-body-bytes", "retries". Fails as
 * rt_options_set_str; a number outside its range is RT_E_ARG.
 */
RT_API
rt_status rt_options_set_int(rt_options *o,
                             const char *key,
                             int64_t value);

/**
 * What was wrong with the last rt_options_set_str or rt_options_set_int on o: one line that names the key and what it
 * takes, without the value, which may be a secret. NULL if that succeeded or there was none. Lives until the next
 * of them.
 */
RT_API
const char *rt_options_error(const rt_options *o);

/**
 * Sends log lines of level (RT_LOG_...) and below to f, on the thread whose call they tell of; with a transport
 * shared by threads, f is called by several at once. NULL f turns it off. drop may be NULL; it runs once no
 * options and no transport made with them is left, also when this call fails.
 */
RT_API
rt_status rt_options_set_log(rt_options *o,
                             int32_t level,
                             rt_log_fn f,
                             void *user,
                             rt_drop_fn drop);

/**
 * Takes "[registry/]repository[:tag][@digest]", or a bare registry, apart (distribution-spec, "Pulling
 * manifests", and the grammar of distribution). The default registry is index.docker.io, the default tag
 * latest if there is no digest either, and "library/" is put before a one-part Docker Hub name. RT_E_SYNTAX
 * for what does not parse.
 */
RT_API
rt_status rt_ref_parse(const char *text,
                       rt_ref **out,
                       rt_error **err);

/**
 * The same for a reference as people type it: a short name ("ubuntu", "org/app") is looked up in the aliases of
 * option "registries-conf", then gets its one unqualified-search-registry; of several none is chosen, since there
 * is nobody to ask: RT_E_ARG. Without that option, or when the files know nothing of the name, as rt_ref_parse.
 * options may be NULL. RT_E_SYNTAX and RT_E_IO also for the files. rt_transport_new does the same with its name.
 */
RT_API
rt_status rt_ref_resolve(const char *text,
                         const rt_options *options,
                         rt_ref **out,
                         rt_error **err);

/**
 * Registry host and port. Lives as long as ref, like the other parts.
 */
RT_API const char *rt_ref_registry(const rt_ref *ref);

/**
 * Repository, or NULL for a bare registry.
 */
RT_API const char *rt_ref_repository(const rt_ref *ref);

/**
 * Tag, or NULL if there is only a digest.
 */
RT_API const char *rt_ref_tag(const rt_ref *ref);

/**
 * Digest, or NULL.
 */
RT_API const char *rt_ref_digest(const rt_ref *ref);

/**
 * User name and password (RFC 7617), for the registry itself: mirrors are not shown them. NULL if an argument is NULL
 * or not UTF-8, or if the user name holds a colon or a control character. A NULL rt_creds means anonymous.
 */
RT_API
rt_creds *rt_creds_basic(const char *user,
                         const char *password);

/**
 * A registry token sent as is (RFC 6750). NULL if it is NULL or has characters that a token cannot have.
 */
RT_API
rt_creds *rt_creds_bearer(const char *token);

/**
 * A refresh token (identity token) traded for access tokens. A new one that the token service sends replaces
 * it for the transport, and for those it shares tokens with. NULL if it is NULL, empty, or holds a control character.
 */
RT_API
rt_creds *rt_creds_refresh(const char *token);

/**
 * Docker's config.json and its helpers, read when needed and again when refused. path names the file or its
 * folder; NULL: DOCKER_AUTH_CONFIG, $DOCKER_CONFIG, ~/.docker, as the environment is now. A missing file means
 * anonymous. NULL if path is not UTF-8.
 */
RT_API
rt_creds *rt_creds_docker(const char *path);

/**
 * The auth.json of podman, skopeo and buildah, with its longest-prefix match on repositories. NULL path:
 * $REGISTRY_AUTH_FILE alone if it is set; else auth.json in $XDG_RUNTIME_DIR/containers (without it
 * /run/containers/UID) and in $XDG_CONFIG_HOME/containers (without it ~/.config/containers), then where
 * rt_creds_docker looks; as the environment is now, and with the credential-helpers of registries.conf. Else as
 * rt_creds_docker.
 */
RT_API
rt_creds *rt_creds_podman(const char *path);

/**
 * Asks f whenever credentials are needed. NULL if f is NULL. drop may be NULL; it runs when the last user of
 * the credentials is gone, also when this call fails.
 */
RT_API
rt_creds *rt_creds_callback(rt_creds_fn f,
                            void *user,
                            rt_drop_fn drop);

/**
 * A fresh control object, for one call (and the reading of its answer) at a time. Never NULL.
 */
RT_API rt_op *rt_op_new(void);

/**
 * Stops the call using op, now or when it starts, within about 200 ms, in whatever it is doing. For good: later
 * calls with this op end at once. Any thread; async-signal-safe.
 */
RT_API
void rt_op_cancel(const rt_op *op);

/**
 * Limits each later call using op to ms milliseconds in all, the reading of its answer included; 0 removes the
 * limit. RT_E_ARG for a negative number.
 */
RT_API
rt_status rt_op_set_timeout_ms(rt_op *op,
                               int64_t ms);

/**
 * Body bytes moved so far and in all (-1 unknown). Any thread. Either pointer may be NULL.
 */
RT_API void rt_op_progress(const rt_op *op, int64_t *done, int64_t *total);

/**
 * Calls f as bytes move, on the thread running the call. NULL f removes it. drop may be NULL; it runs when f is
 * replaced or removed, or when op and every answer got under it are freed, also when this call fails.
 */
RT_API
rt_status rt_op_set_progress(rt_op *op,
                             rt_progress_fn f,
                             void *user,
                             rt_drop_fn drop);

/**
 * Makes a transport for name ("ghcr.io/org/app", or a bare "ghcr.io"); actions is what it asks the token service
 * for, RT_PULL and so on, combined with |. Does no network I/O: the first request asks for a token. Reads the
 * environment (proxies, trust store), once, unless option "environment" is 0, and the files that options
 * "hosts-dir" and "registries-conf" name. A transport for RT_PULL alone asks the mirrors they name for manifests
 * and blobs, in their order, and the next when one fails; every other transport and every other request keeps to
 * the registry itself. creds and options may be NULL and may be freed right after. RT_E_SYNTAX for the name and
 * those files, RT_E_ARG for actions that are unknown or do not go with the name and for options that do not go
 * together, RT_E_UNSUPPORTED for a registry that "registries-conf" blocks, RT_E_IO for a file that cannot be read.
 */
RT_API
rt_status rt_transport_new(const char *name,
                           uint32_t actions,
                           const rt_creds *creds,
                           const rt_options *options,
                           rt_transport **out,
                           rt_error **err);

/**
 * Pings the registry (GET /v2/, distribution-spec "Determining Support") and gets a token now rather than at the
 * first request; a password is checked, a token of rt_creds_bearer is not. Any answer but 200 or 401 is RT_E_PROTOCOL,
 * with its status in the error; credentials that are refused are RT_E_AUTH. Where there are mirrors, the first host
 * that answers will do. op may be NULL.
 */
RT_API
rt_status rt_ping(const rt_transport *t,
                  const rt_op *op,
                  rt_error **err);

/**
 * Ends every call now running on t with RT_E_CANCELLED and closes its connections. Later calls connect anew. Any
 * thread.
 */
RT_API
void rt_transport_close(const rt_transport *t);

/**
 * Tells which hosts t asks, and for each of them which credentials it would use and where they come from (file and
 * key, helper, variable), which challenge, token service, service and scopes, which proxy, which trusted
 * certificates and which client certificate, and why; without secrets. Sends nothing over the network: what a
 * registry wants is told as far as earlier calls learned it, so call rt_ping first to learn it. Credentials are
 * looked up as a request would (files, helpers, the callback), unless that was done before; a failure of that is a
 * part of the explanation. op may be NULL. RT_E_CANCELLED and RT_E_TIMEOUT if the call ends early.
 */
RT_API
rt_status rt_explain(const rt_transport *t,
                     const rt_op *op,
                     rt_explanation **out,
                     rt_error **err);

/**
 * The explanation as lines for people, each ended by a line feed; their form may change. Lives as long as e.
 */
RT_API
const char *rt_explanation_text(const rt_explanation *e);

/**
 * The explanation as a JSON object, for programs: README.md lists its members, and more may be added. Lives as
 * long as e.
 */
RT_API
const char *rt_explanation_json(const rt_explanation *e);

/**
 * Describes METHOD path. method NULL is GET, or PUT once there is a body. path is "/v2/..." of the registry,
 * "./..." of the repository, or a URL; a URL of another origin is asked for without credentials. Mistakes in
 * them, and in what is added, are reported by the call that sends it. NULL if path is NULL or not UTF-8.
 */
RT_API
rt_req *rt_req_new(const char *method,
                   const char *path);

/**
 * Adds a header. Headers that frame the message (Content-Length, Transfer-Encoding, Host, ...) are refused when
 * it is sent; an Authorization header replaces the transport's credentials.
 */
RT_API
rt_status rt_req_header(rt_req *r,
                        const char *name,
                        const char *value);

/**
 * Sets the body; the bytes are copied. data may be NULL if len is 0: an empty body is a body. Without a
 * Content-Type header it is sent as application/json.
 */
RT_API
rt_status rt_req_body(rt_req *r,
                      const void *data,
                      size_t len);

/**
 * Sets the body to a source, which r keeps alive.
 */
RT_API rt_status rt_req_source(rt_req *r, const rt_source *body);

/**
 * Accepts this HTTP status, 100 to 599; repeatable. With none named, 200 to 299 are accepted. A redirect status
 * that is named is given back, not followed; one that would be repeated is not. RT_E_ARG out of range.
 */
RT_API
rt_status rt_req_accept_status(rt_req *r,
                               int32_t http_status);

/**
 * Accepts this media type: sends it in Accept (RFC 9110 section 12.5.1) and checks the answer, without looking at
 * parameters and case; repeatable.
 */
RT_API
rt_status rt_req_accept_type(rt_req *r,
                             const char *media_type);

/**
 * A copy of bytes in memory. NULL if data is NULL and len is not 0.
 */
RT_API rt_source *rt_source_bytes(const void *data, size_t len);

/**
 * A file, opened anew for each attempt, by the call that sends it. NULL if path is NULL or not UTF-8.
 */
RT_API
rt_source *rt_source_file(const char *path);

/**
 * Callbacks, called on the thread of the call. size is -1 when unknown. rewind may be NULL: a request whose body
 * was begun can then not be sent again (after a 401, a broken connection, a redirect) and fails with RT_E_STATE.
 * NULL if read is NULL or size is below -1. drop may be NULL; it runs when the last user of the source is gone,
 * also when this call fails.
 */
RT_API
rt_source *rt_source_reader(rt_read_fn read,
                            rt_rewind_fn rewind,
                            int64_t size,
                            void *user,
                            rt_drop_fn drop);

/**
 * Sends r and waits for the head of its answer: gets a token when one is needed, follows redirects, and repeats
 * what may be repeated. *out is the answer, whose body is read with rt_response_body, rt_response_read,
 * rt_response_drain or rt_response_save. op may be NULL; it also governs the reading. A status that r does not
 * accept is RT_E_STATUS (401: RT_E_AUTH) with the registry's diagnostics, a media type that it does not accept
 * RT_E_MEDIA_TYPE, a part (206) that is not the one which its Range asks for RT_E_PROTOCOL; mistakes in r are
 * RT_E_SYNTAX or RT_E_ARG; RT_E_NETWORK, RT_E_TLS, RT_E_TIMEOUT, RT_E_CANCELLED, RT_E_PROTOCOL, RT_E_LIMIT and
 * RT_E_STATE are as they say.
 */
RT_API
rt_status rt_request(const rt_transport *t,
                     const rt_req *r,
                     const rt_op *op,
                     rt_response **out,
                     rt_error **err);

/**
 * HTTP status; -1 if r is no response.
 */
RT_API int32_t rt_response_status(const rt_response *r);

/**
 * Value of the first header of that name, in any case, or NULL. What is not UTF-8 in it is replaced. Lives as
 * long as r.
 */
RT_API
const char *rt_response_header(const rt_response *r,
                               const char *name);

/**
 * How many headers there are.
 */
RT_API size_t rt_response_header_count(const rt_response *r);

/**
 * Header i. Returns its name, in lower case, and sets *value, or returns NULL if i is out of range. value may be
 * NULL. Both live as long as r.
 */
RT_API
const char *rt_response_header_at(const rt_response *r,
                                  size_t i,
                                  const char **value);

/**
 * Length of the body in bytes if the registry told it, or -1.
 */
RT_API int64_t rt_response_length(const rt_response *r);

/**
 * What the answer says about request limits, from the RateLimit fields in use: requests allowed in a window,
 * how many are left in it, its length, and the time until the count begins anew; -1 for what it does not say.
 * Each pointer may be NULL. Returns 1 if the answer said anything, else 0.
 */
RT_API
int32_t rt_response_rate_limit(const rt_response *r,
                               int64_t *limit,
                               int64_t *remaining,
                               int64_t *window_ms,
                               int64_t *reset_ms);

/**
 * Digest of the content, or NULL: of a manifest or blob the one that is checked, of an answer to rt_request what
 * the registry told. Lives as long as r.
 */
RT_API
const char *rt_response_digest(const rt_response *r);

/**
 * The scheme, host, port and path that answered, after redirects; the query, which may hold a signature, is left
 * out. Lives as long as r.
 */
RT_API
const char *rt_response_url(const rt_response *r);

/**
 * Host and port of the registry that served this, or of the mirror that did so in its place (options "hosts-dir"
 * and "registries-conf"), without the port where it is the usual one. A redirect from there to a storage does not
 * change it. Lives as long as r.
 */
RT_API
const char *rt_response_host(const rt_response *r);

/**
 * 1 if the credentials were refused and the request was sent without (option "anonymous-fallback"), else 0.
 */
RT_API
int32_t rt_response_is_anonymous(const rt_response *r);

/**
 * Reads up to cap bytes into buf and sets *len; 0 is the end. Of a manifest or blob the end is only reported if
 * the digest matched, else RT_E_DIGEST: until then the bytes are not certain. A body that failed stays failed.
 * RT_E_STATE after rt_response_body.
 */
RT_API
rt_status rt_response_read(rt_response *r,
                           void *buf,
                           size_t cap,
                           size_t *len,
                           rt_error **err);

/**
 * Reads the rest into memory (at most "max-body-bytes", else RT_E_LIMIT) and lends it until r is freed. A NUL
 * follows the last byte. May be called again.
 */
RT_API
rt_status rt_response_body(rt_response *r,
                           const void **data,
                           size_t *len,
                           rt_error **err);

/**
 * Passes the rest to f, piece by piece. RT_E_CANCELLED if f returns non-zero, RT_E_STATE after rt_response_body.
 */
RT_API
rt_status rt_response_drain(rt_response *r,
                            rt_write_fn f,
                            void *user,
                            rt_error **err);

/**
 * Writes the rest to a new file that appears only if all went well. A file, or a link, that is there is
 * replaced. RT_E_IO if it cannot be written, or if a folder, a device, a pipe or a
 * link to one of the last two is there; RT_E_STATE after rt_response_body.
 */
RT_API
rt_status rt_response_save(rt_response *r,
                           const char *path,
                           rt_error **err);

/**
 * Starts a listing whose first page r fetches; later pages follow the Link headers (RFC 8288). NULL if an
 * argument is NULL.
 */
RT_API
rt_pages *rt_pages_new(const rt_transport *t,
                       const rt_req *r);

/**
 * Sets *out to the next page, or to NULL (with RT_OK) after the last. Fails as rt_request; RT_E_PROTOCOL for a
 * link that is malformed, leads to another origin or back to an earlier page, RT_E_LIMIT beyond "max-pages".
 */
RT_API
rt_status rt_pages_next(rt_pages *p,
                        const rt_op *op,
                        rt_response **out,
                        rt_error **err);

/**
 * Starts a listing of the repository's tags (distribution-spec, "Listing Tags"). What is listed and is no tag by its
 * grammar is passed over and logged. NULL if t is NULL.
 */
RT_API
rt_list *rt_list_tags(const rt_transport *t);

/**
 * Starts a listing of the registry's repositories, as far as it lists them (RT_CATALOG). NULL if t is NULL.
 */
RT_API
rt_list *rt_list_repositories(const rt_transport *t);

/**
 * Starts a listing of what refers to the manifest with this digest by its subject: rt_list_next gives each
 * descriptor as JSON text (distribution-spec, "Listing Referrers"; the referrers tag where the registry has no
 * such API). artifact_type NULL lists all. NULL if t or digest is NULL or digest is malformed.
 */
RT_API
rt_list *rt_list_referrers(const rt_transport *t,
                           const char *digest,
                           const char *artifact_type);

/**
 * Sets *name to the next name, fetching a page when needed, or to NULL (with RT_OK) after the last. Lives until
 * the next call on l. Fails as rt_pages_next.
 */
RT_API
rt_status rt_list_next(rt_list *l,
                       const rt_op *op,
                       const char **name,
                       rt_error **err);

/**
 * Fetches a manifest by tag or digest, accepting OCI and Docker manifests and indexes, and checks its digest
 * before the body can be read (distribution-spec, "Pulling manifests"). Fails as rt_request; RT_E_DIGEST when the
 * bytes are not those asked for or announced, RT_E_MEDIA_TYPE when they are no manifest, RT_E_LIMIT beyond
 * "max-manifest-bytes". Where the answer is typed as files are (application/json, text/plain,
 * application/octet-stream), the manifest's own mediaType says what it is.
 */
RT_API
rt_status rt_manifest_get(const rt_transport *t,
                          const char *tag_or_digest,
                          const rt_op *op,
                          rt_response **out,
                          rt_error **err);

/**
 * Stores a manifest under a tag or digest (distribution-spec, "Pushing Manifests"). media_type must be the
 * mediaType in the body, if it has one, else RT_E_MEDIA_TYPE. The digest is rt_response_digest of *out; out may be
 * NULL. Fails as rt_request; RT_E_DIGEST when the bytes do not have the digest named or the registry reports
 * another.
 */
RT_API
rt_status rt_manifest_put(const rt_transport *t,
                          const char *tag_or_digest,
                          const char *media_type,
                          const void *data,
                          size_t len,
                          const rt_op *op,
                          rt_response **out,
                          rt_error **err);

/**
 * Asks for a manifest without its content: digest, media type and length are in the headers of *out. Fails as
 * rt_request; RT_E_DIGEST when the registry tells of another digest than the one asked for.
 */
RT_API
rt_status rt_manifest_head(const rt_transport *t,
                           const char *tag_or_digest,
                           const rt_op *op,
                           rt_response **out,
                           rt_error **err);

/**
 * Deletes a manifest by digest, or a tag where the registry can (distribution-spec, "Deleting manifests"). The
 * transport needs RT_DELETE. Under a referrers tag it stays listed. RT_E_UNSUPPORTED when the registry does not
 * delete; else fails as rt_request.
 */
RT_API
rt_status rt_manifest_delete(const rt_transport *t,
                             const char *tag_or_digest,
                             const rt_op *op,
                             rt_error **err);

/**
 * Asks whether a blob is there and how large it is in bytes: *size is -1 if it is not (with RT_OK). Fails as
 * rt_request.
 */
RT_API
rt_status rt_blob_stat(const rt_transport *t,
                       const char *digest,
                       const rt_op *op,
                       int64_t *size,
                       rt_error **err);

/**
 * Fetches a whole blob (distribution-spec, "Pulling blobs"). A broken connection is resumed while it is read; the
 * end is reported only if digest and length are right. Fails as rt_request, here and in the reading.
 */
RT_API
rt_status rt_blob_get(const rt_transport *t,
                      const char *digest,
                      const rt_op *op,
                      rt_response **out,
                      rt_error **err);

/**
 * Fetches a blob into a file that appears only when complete and verified. A partial download left beside it by
 * an earlier call, of any process, is continued. The time the disk takes to sync it in the end cannot be limited.
 * Fails as rt_request; RT_E_DIGEST, and RT_E_IO as rt_response_save.
 */
RT_API
rt_status rt_blob_save(const rt_transport *t,
                       const char *digest,
                       const char *path,
                       const rt_op *op,
                       rt_error **err);

/**
 * Opens a blob for reads at any offset; what is read this way is checked for length, not digest. Fails as
 * rt_request; a blob that is not there is RT_E_STATUS with status 404.
 */
RT_API
rt_status rt_blob_open(const rt_transport *t,
                       const char *digest,
                       const rt_op *op,
                       rt_blob **out,
                       rt_error **err);

/**
 * Size of the blob in bytes; -1 if b is no blob.
 */
RT_API int64_t rt_blob_size(const rt_blob *b);

/**
 * Reads exactly min(len, size - offset) bytes at offset; *got tells how many, 0 at and beyond the end. Many
 * threads at once. RT_E_ARG for a negative offset; else fails as rt_request.
 */
RT_API
rt_status rt_blob_pread(const rt_blob *b,
                        void *buf,
                        size_t len,
                        int64_t offset,
                        const rt_op *op,
                        size_t *got,
                        rt_error **err);

/**
 * Uploads a blob unless it is there (distribution-spec, "Pushing blobs"), checking its digest while sending; a
 * NULL digest is computed. mount_from names a repository of the same registry to take it from if possible, or is
 * NULL. out may be NULL; its digest is that of the blob. Fails as rt_request; RT_E_DIGEST when the bytes are not
 * those named or the registry reports another digest, RT_E_STATE when the body would have to be sent again and
 * cannot be.
 */
RT_API
rt_status rt_blob_put(const rt_transport *t,
                      const char *digest,
                      const rt_source *body,
                      const char *mount_from,
                      const rt_op *op,
                      rt_response **out,
                      rt_error **err);

/**
 * Begins an upload. Fails as rt_request.
 */
RT_API
rt_status rt_upload_begin(const rt_transport *t,
                          const rt_op *op,
                          rt_upload **out,
                          rt_error **err);

/**
 * Takes up an upload from the text that rt_upload_state gave, in this process or another: asks the registry how
 * much of it has arrived, and begins anew when nothing has. RT_E_SYNTAX for a text that is no state, RT_E_STATUS
 * when the registry knows the upload no more; else fails as rt_request.
 */
RT_API
rt_status rt_upload_resume(const rt_transport *t,
                           const char *state,
                           const rt_op *op,
                           rt_upload **out,
                           rt_error **err);

/**
 * Bytes the registry has; -1 if u is no upload or in use by another call.
 */
RT_API int64_t rt_upload_offset(const rt_upload *u);

/**
 * What rt_upload_resume needs. It holds a URL that may be signed: keep it like a password. Lives until the next
 * call on u.
 */
RT_API
const char *rt_upload_state(rt_upload *u);

/**
 * Sends what the registry does not have yet. body is the whole blob; what was sent before is only hashed. After a
 * failure it may be called again. Fails as rt_blob_put.
 */
RT_API
rt_status rt_upload_send(rt_upload *u,
                         const rt_source *body,
                         const rt_op *op,
                         rt_error **err);

/**
 * Commits the upload under digest, or, if that is NULL, under the sha256 of what rt_upload_send sent. out may be
 * NULL; its digest is that of the blob. RT_E_STATE when there is neither digest, RT_E_DIGEST when they differ (a
 * sha512 is compared by the registry alone); else fails as rt_request.
 */
RT_API
rt_status rt_upload_finish(rt_upload *u,
                           const char *digest,
                           const rt_op *op,
                           rt_response **out,
                           rt_error **err);

/**
 * Tells the registry that the upload is given up. Fails as rt_request; freeing u alone leaves the upload at the
 * registry, to be resumed.
 */
RT_API
rt_status rt_upload_cancel(rt_upload *u,
                           const rt_op *op,
                           rt_error **err);

/**
 * Copies what reference (a tag or digest) names at src, an image or an index with all its images, to dst under
 * dst_reference. Blobs are mounted when both are repositories of one registry, else streamed, as many at once as
 * option "parallel" of dst says; nothing touches the disk. Both transports must stay open meanwhile. Fails as
 * rt_manifest_get, rt_blob_get, rt_blob_put and rt_manifest_put, and with RT_E_LIMIT for an image of more than 10,000
 * manifests or 64 MiB of them; what was copied before stays.
 */
RT_API
rt_status rt_copy(const rt_transport *src,
                  const char *reference,
                  const rt_transport *dst,
                  const char *dst_reference,
                  const rt_op *op,
                  rt_error **err);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* REGISTRY_TRANSPORT_H */

/* Pushes an image from a folder, an OCI image layout: blobs first, then manifests from the bottom up, so that the
 * registry never has a manifest whose parts are missing. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "json.h"
#include "layout.h"
#include "transfer.h"

/* A manifest of the image, and where it goes. */
struct manifest {
    struct descriptor d;
    const char *target;
    char *data;
    size_t len;
    json *json;
};

struct push {
    const rt_transport *transport;
    const char *directory;
    struct manifest *manifests; /* each behind those it refers to */
    size_t count;
    struct blobs blobs;
    int jobs, bar, quiet;
};

static void usage(void)
{
    fprintf(stderr, "usage: push [flags] DIRECTORY REFERENCE\n" CONNECTION_USAGE
                    "  --jobs N             send N blobs at once (3)\n"
                    "  -q                   print nothing but errors\n");
    exit(2);
}

/* ---- what there is to push ---- */

/* Returns 0, or -1 after telling that the file is missing or has another size than d says. */
static int check_file(const char *path, const struct descriptor *d)
{
    int64_t size = file_size(path);

    if (size == d->size)
        return 0;
    if (size < 0)
        return complain("%s: no such file", path);
    return complain("%s has %" PRId64 " bytes, where its descriptor says %" PRId64, path, size, d->size);
}

static int add_blob(struct push *p, const json *descriptor)
{
    struct blob *b;

    if (blobs_add(&p->blobs, descriptor, p->directory, &b) != 0)
        return -1;
    return b == NULL ? 0 : check_file(b->path, &b->d);
}

static int add_manifest(struct push *p, const struct manifest *m)
{
    struct manifest *grown = realloc(p->manifests, (p->count + 1) * sizeof *grown);

    if (grown == NULL)
        return complain("out of memory");
    p->manifests = grown;
    p->manifests[p->count++] = *m;
    return 0;
}

static void manifest_free(struct manifest *m)
{
    json_free(m->json);
    free(m->data);
}

/* Notes what descriptor describes, to go under target or else its own digest, and all that it refers to. */
static int collect(struct push *p, const json *descriptor, const char *target, int depth)
{
    struct manifest m = {.target = target};
    const json *part;
    char *path = NULL;
    int result = -1;

    if (depth > 4)
        return complain("indexes within indexes, too many deep");
    if (descriptor_read(descriptor, &m.d) != 0 || (path = layout_blob(p->directory, m.d.digest)) == NULL
        || check_file(path, &m.d) != 0 || (m.data = file_read(path, &m.len)) == NULL)
        goto done;
    if ((m.json = json_parse(m.data, m.len)) == NULL) {
        complain("%s: not JSON", path);
        goto done;
    }
    for (part = json_first(json_get(m.json, "manifests")); part != NULL; part = json_next(part))
        if (collect(p, part, NULL, depth + 1) != 0)
            goto done;
    if (json_get(m.json, "config") != NULL && add_blob(p, json_get(m.json, "config")) != 0)
        goto done;
    for (part = json_first(json_get(m.json, "layers")); part != NULL; part = json_next(part))
        if (add_blob(p, part) != 0)
            goto done;
    result = add_manifest(p, &m);
done:
    if (result != 0)
        manifest_free(&m);
    free(path);
    return result;
}

/* ---- pushing it ---- */

/* Sends nothing if the registry has the blob, and fails if the file has not the digest. */
static rt_status put_blob(const rt_transport *t, const struct blob *b, rt_error **err)
{
    rt_source *file = rt_source_file(b->path);
    rt_status status = rt_blob_put(t, b->d.digest, file, NULL, b->op, NULL, err);

    rt_free(file);
    return status;
}

static int put_manifest(const struct push *p, const struct manifest *m)
{
    const char *target = m->target != NULL ? m->target : m->d.digest, *digest;
    rt_response *answer = NULL;
    rt_error *err = NULL;
    int result = -1;

    if (rt_manifest_put(p->transport, target, m->d.media_type, m->data, m->len, NULL, &answer, &err) != RT_OK)
        return failed(err);
    /* By digest the registry has checked it; by tag we have to. */
    digest = rt_response_digest(answer);
    if (digest != NULL && strcmp(digest, m->d.digest) != 0)
        complain("%s: the file has another digest, %s", m->d.digest, digest);
    else
        result = 0;
    if (result == 0 && !p->quiet)
        printf("%s  %zu  %s\n", m->d.digest, m->len, target);
    rt_free(answer);
    return result;
}

/* The entry of index.json named tag, or the only one. */
static const json *choose(const json *index, const char *tag)
{
    const json *first = json_first(json_get(index, "manifests"));

    for (const json *entry = first; entry != NULL && tag != NULL; entry = json_next(entry)) {
        const char *name = json_text(json_get(json_get(entry, "annotations"), "org.opencontainers.image.ref.name"));

        if (name != NULL && strcmp(name, tag) == 0)
            return entry;
    }
    if (first != NULL && json_next(first) == NULL)
        return first;
    complain(first == NULL ? "index.json lists no image" : "index.json lists several images, and none has this tag");
    return NULL;
}

static int push(struct push *p, const char *target, const char *tag)
{
    char *path = layout_path(p->directory, "index.json"), *data = NULL;
    json *index = NULL;
    const json *top;
    size_t len = 0;
    int result = -1;

    if (path == NULL || (data = file_read(path, &len)) == NULL)
        goto done;
    index = json_parse(data, len);
    if (index == NULL)
        complain("%s: not JSON", path);
    else if ((top = choose(index, tag)) != NULL)
        result = collect(p, top, target, 0);
    if (result == 0)
        result = transfer(p->transport, &p->blobs, put_blob, p->jobs, p->quiet, p->bar);
    for (size_t i = 0; i < p->count && result == 0; i++)
        result = put_manifest(p, &p->manifests[i]);
done:
    blobs_free(&p->blobs);
    while (p->count > 0)
        manifest_free(&p->manifests[--p->count]);
    free(p->manifests);
    json_free(index);
    free(data);
    free(path);
    return result;
}

int main(int argc, char **argv)
{
    struct push p = {.jobs = 3};
    struct connection connection;
    rt_transport *transport = NULL;
    rt_ref *ref = NULL;
    int i, status = 1;

    connection_init(&connection);
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (connection_flag(&connection, argc, argv, &i))
            continue;
        if (strcmp(argv[i], "--jobs") == 0)
            p.jobs = atoi(flag_value(argc, argv, &i));
        else if (strcmp(argv[i], "-q") == 0)
            p.quiet = 1;
        else
            usage();
    }
    if (argc - i != 2 || p.jobs < 1)
        usage();

    p.directory = argv[i];
    p.bar = !connection.verbose;
    if (connect_image(&connection, argv[i + 1], RT_PULL | RT_PUSH, &ref, &transport) == 0) {
        p.transport = transport;
        if (push(&p, ref_target(ref), rt_ref_tag(ref)) == 0)
            status = 0;
    }
    rt_free(transport);
    rt_free(ref);
    connection_free(&connection);
    return status;
}

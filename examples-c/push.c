/* Pushes an image from a folder, an OCI image layout: blobs first, then manifests from the bottom up, so that the
 * registry never has a manifest whose parts are missing. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "json.h"
#include "layout.h"

struct push {
    const rt_transport *transport;
    const char *directory;
    int bar, quiet;
};

static void usage(void)
{
    fprintf(stderr, "usage: push [flags] DIRECTORY REFERENCE\n" CONNECTION_USAGE
                    "  -q                   print nothing but errors\n");
    exit(2);
}

/* Runs on this thread, as bytes move. Anything but 0 would end the call with RT_E_CANCELLED. */
static int32_t on_progress(void *user, int64_t done, int64_t total)
{
    bar_draw(user, done, total);
    return 0;
}

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

static int push_blob(const struct push *p, const json *descriptor)
{
    struct descriptor d;
    struct bar bar;
    rt_source *file = NULL;
    rt_response *answer = NULL;
    rt_error *err = NULL;
    rt_op *op = rt_op_new();
    char *path = NULL;
    int result = -1;

    if (descriptor_read(descriptor, &d) != 0 || (path = layout_blob(p->directory, d.digest)) == NULL
        || check_file(path, &d) != 0)
        goto done;
    file = rt_source_file(path);
    bar_start(&bar, p->bar && !p->quiet);
    rt_op_set_progress(op, on_progress, &bar, NULL);
    /* Sends nothing if the registry has the blob, and fails if the file has not the digest. */
    if (rt_blob_put(p->transport, d.digest, file, NULL, op, &answer, &err) == RT_OK)
        result = 0;
    bar_end(&bar);
    if (result != 0)
        failed(err);
    else if (!p->quiet)
        printf("%s  %" PRId64 "\n", d.digest, d.size);
done:
    rt_free(op);
    rt_free(answer);
    rt_free(file);
    free(path);
    return result;
}

static int put_manifest(const struct push *p, const struct descriptor *d, const char *target, const char *data,
                        size_t len)
{
    rt_response *answer = NULL;
    rt_error *err = NULL;
    const char *digest;
    int result = -1;

    if (rt_manifest_put(p->transport, target, d->media_type, data, len, NULL, &answer, &err) != RT_OK)
        return failed(err);
    /* By digest the registry has checked it; by tag we have to. */
    digest = rt_response_digest(answer);
    if (digest != NULL && strcmp(digest, d->digest) != 0)
        complain("%s: the file has another digest, %s", d->digest, digest);
    else
        result = 0;
    if (result == 0 && !p->quiet)
        printf("%s  %zu  %s\n", d->digest, len, target);
    rt_free(answer);
    return result;
}

/* Pushes what descriptor describes, after everything it refers to, under target or else its own digest. */
static int push_manifest(const struct push *p, const json *descriptor, const char *target, int depth)
{
    struct descriptor d;
    const json *part;
    json *manifest = NULL;
    char *path = NULL, *data = NULL;
    size_t len = 0;
    int result = -1;

    if (depth > 4)
        return complain("indexes within indexes, too many deep");
    if (descriptor_read(descriptor, &d) != 0 || (path = layout_blob(p->directory, d.digest)) == NULL
        || check_file(path, &d) != 0 || (data = file_read(path, &len)) == NULL)
        goto done;
    manifest = json_parse(data, len);
    if (manifest == NULL) {
        complain("%s: not JSON", path);
        goto done;
    }
    for (part = json_first(json_get(manifest, "manifests")); part != NULL; part = json_next(part))
        if (push_manifest(p, part, NULL, depth + 1) != 0)
            goto done;
    if (json_get(manifest, "config") != NULL && push_blob(p, json_get(manifest, "config")) != 0)
        goto done;
    for (part = json_first(json_get(manifest, "layers")); part != NULL; part = json_next(part))
        if (push_blob(p, part) != 0)
            goto done;
    result = put_manifest(p, &d, target != NULL ? target : d.digest, data, len);
done:
    json_free(manifest);
    free(data);
    free(path);
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

static int push(const struct push *p, const char *target, const char *tag)
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
        result = push_manifest(p, top, target, 0);
done:
    json_free(index);
    free(data);
    free(path);
    return result;
}

int main(int argc, char **argv)
{
    struct push p = {0};
    struct connection connection;
    rt_transport *transport = NULL;
    rt_ref *ref = NULL;
    int i, status = 1;

    connection_init(&connection);
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (connection_flag(&connection, argc, argv, &i))
            continue;
        if (strcmp(argv[i], "-q") != 0)
            usage();
        p.quiet = 1;
    }
    if (argc - i != 2)
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

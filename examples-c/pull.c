/* Pulls an image into a folder, as an OCI image layout: manifest, choice of platform, blobs (see transfer.c), index. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "json.h"
#include "layout.h"
#include "platform.h"
#include "transfer.h"

struct pull {
    const char *directory;
    struct blobs blobs;
    int quiet;
};

/* A manifest and what it says. The JSON value has copies of its own of all texts. */
struct manifest {
    rt_response *answer;
    const void *data;
    size_t len;
    json *json;
    const char *type;
};

static void usage(void)
{
    fprintf(stderr, "usage: pull [flags] REFERENCE DIRECTORY\n" CONNECTION_USAGE
                    "  --platform OS/ARCH[/VARIANT]  instead of this machine's\n"
                    "  --jobs N             fetch N blobs at once (3)\n"
                    "  -q                   print nothing but errors\n");
    exit(2);
}

/* ---- the manifest ---- */

static void manifest_free(struct manifest *m)
{
    json_free(m->json);
    rt_free(m->answer);
    memset(m, 0, sizeof *m);
}

static int manifest_fetch(const rt_transport *t, const char *target, struct manifest *m)
{
    rt_error *err = NULL;

    memset(m, 0, sizeof *m);
    if (rt_manifest_get(t, target, NULL, &m->answer, &err) != RT_OK)
        return failed(err);
    /* The bytes are lent by the answer. They have been checked against target if that is a digest. */
    if (rt_response_body(m->answer, &m->data, &m->len, &err) != RT_OK)
        return failed(err);
    m->json = json_parse(m->data, m->len);
    m->type = json_text(json_get(m->json, "mediaType"));
    if (m->json == NULL)
        return complain("the manifest %s is not JSON", target);
    if (m->type == NULL) /* optional in OCI manifests */
        m->type = json_get(m->json, "manifests") != NULL ? RT_MEDIA_TYPE_OCI_INDEX : RT_MEDIA_TYPE_OCI_MANIFEST;
    /* A document that can be read both ways would be two images under one digest. */
    if (json_get(m->json, is_index(m->type) ? "layers" : "manifests") != NULL)
        return complain("the manifest %s is an image and an index at once", target);
    return 0;
}

/* The image manifest that target leads to, through an index if need be. */
static int manifest_resolve(const rt_transport *t, const char *target, const struct platform *platform,
                            struct manifest *m)
{
    struct descriptor d;
    struct manifest index;
    const json *entry;
    int result = -1;

    if (manifest_fetch(t, target, m) != 0)
        return -1;
    if (!is_index(m->type))
        return 0;
    index = *m;
    memset(m, 0, sizeof *m);
    entry = platform_select(index.json, platform);
    if (entry == NULL || descriptor_read(entry, &d) != 0 || manifest_fetch(t, d.digest, m) != 0)
        goto done;
    if (is_index(m->type))
        complain("%s: an index within an index", d.digest);
    else if (d.size != (int64_t)m->len)
        complain("%s has %zu bytes, where the index says %" PRId64, d.digest, m->len, d.size);
    else
        result = 0;
done:
    manifest_free(&index);
    return result;
}

/* ---- the blobs ---- */

static int add_blob(struct pull *p, const json *descriptor)
{
    struct blob *b;

    if (blobs_add(&p->blobs, descriptor, p->directory, &b) != 0)
        return -1;
    if (b == NULL)
        return 0;
    if (layout_make_parent(b->path) != 0)
        return -1;
    b->done = file_size(b->path) == b->d.size;
    if (b->done && !p->quiet)
        printf("%s  %" PRId64 "  is here already\n", b->d.digest, b->d.size);
    return 0;
}

static int add_blobs(struct pull *p, const json *manifest)
{
    if (add_blob(p, json_get(manifest, "config")) != 0)
        return -1;
    for (const json *layer = json_first(json_get(manifest, "layers")); layer != NULL; layer = json_next(layer))
        if (add_blob(p, layer) != 0)
            return -1;
    return 0;
}

/* The file appears under its name only when it is complete and has the digest. */
static rt_status save_blob(const rt_transport *t, const struct blob *b, rt_error **err)
{
    return rt_blob_save(t, b->d.digest, b->path, b->op, err);
}

static int check_sizes(const struct blobs *blobs)
{
    for (size_t i = 0; i < blobs->count; i++) {
        const struct blob *b = &blobs->at[i];
        int64_t size = file_size(b->path);

        if (size != b->d.size) {
            remove(b->path);
            return complain("%s has %" PRId64 " bytes, where the manifest says %" PRId64, b->d.digest, size, b->d.size);
        }
    }
    return 0;
}

/* ---- the layout ---- */

/* The manifest as a blob, and then index.json: a folder that has it is complete. */
static int write_index(const char *directory, const struct manifest *m, const char *tag)
{
    const char *digest = rt_response_digest(m->answer);
    char *blob = layout_blob(directory, digest != NULL ? digest : "");
    char *path = layout_path(directory, "index.json"), *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    int result = -1;

    if (out != NULL) {
        fprintf(out, "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"manifests\":[{\"mediaType\":",
                RT_MEDIA_TYPE_OCI_INDEX);
        json_write_text(out, m->type);
        fprintf(out, ",\"digest\":\"%s\",\"size\":%zu", digest, m->len);
        if (tag != NULL) {
            fprintf(out, ",\"annotations\":{\"org.opencontainers.image.ref.name\":");
            json_write_text(out, tag);
            putc('}', out);
        }
        fprintf(out, "}]}\n");
        if (fclose(out) == 0 && blob != NULL && path != NULL && layout_make_parent(blob) == 0
            && file_write(blob, m->data, m->len) == 0)
            result = file_write(path, text, len);
    }
    free(text);
    free(path);
    free(blob);
    return result;
}

static int pull(struct pull *p, const rt_transport *t, const rt_ref *ref, const struct platform *platform, int jobs,
                int bar)
{
    struct manifest manifest;
    double begin = seconds();
    int result = -1;
    char size[24];

    if (manifest_resolve(t, ref_target(ref), platform, &manifest) != 0 || layout_create(p->directory) != 0
        || add_blobs(p, manifest.json) != 0 || transfer(t, &p->blobs, save_blob, jobs, p->quiet, bar) != 0
        || check_sizes(&p->blobs) != 0
        || write_index(p->directory, &manifest, rt_ref_tag(ref)) != 0)
        goto done;
    if (!p->quiet)
        printf("%s: %s, %zu blobs, %s in %.1f s\n", p->directory, rt_response_digest(manifest.answer),
               p->blobs.count, human(blobs_size(&p->blobs), size), seconds() - begin);
    result = 0;
done:
    blobs_free(&p->blobs);
    manifest_free(&manifest);
    return result;
}

int main(int argc, char **argv)
{
    struct pull p = {0};
    struct connection connection;
    struct platform platform;
    rt_transport *transport = NULL;
    rt_ref *ref = NULL;
    int i, jobs = 3, status = 1;

    connection_init(&connection);
    platform_here(&platform);
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (connection_flag(&connection, argc, argv, &i))
            continue;
        if (strcmp(argv[i], "--platform") == 0) {
            if (platform_parse(flag_value(argc, argv, &i), &platform) != 0)
                usage();
        } else if (strcmp(argv[i], "--jobs") == 0) {
            jobs = atoi(flag_value(argc, argv, &i));
        } else if (strcmp(argv[i], "-q") == 0) {
            p.quiet = 1;
        } else {
            usage();
        }
    }
    if (argc - i != 2 || jobs < 1)
        usage();

    p.directory = argv[i + 1];
    if (connect_image(&connection, argv[i], RT_PULL, &ref, &transport) == 0
        && pull(&p, transport, ref, &platform, jobs, !connection.verbose) == 0)
        status = 0;
    rt_free(transport);
    rt_free(ref);
    connection_free(&connection);
    return status;
}

#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include "layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common.h"

int is_index(const char *media_type)
{
    return strcmp(media_type, RT_MEDIA_TYPE_OCI_INDEX) == 0
           || strcmp(media_type, RT_MEDIA_TYPE_DOCKER_MANIFEST_LIST) == 0;
}

int descriptor_read(const json *value, struct descriptor *out)
{
    out->media_type = json_text(json_get(value, "mediaType"));
    out->digest = json_text(json_get(value, "digest"));
    out->size = json_int(json_get(value, "size"));
    if (out->media_type == NULL || out->digest == NULL || out->size < 0)
        return complain("a descriptor lacks its mediaType, digest or size");
    if (out->size > INT64_MAX / 65536) /* the sum of many has to be a number, too */
        return complain("a descriptor has an impossible size");
    return 0;
}

char *layout_path(const char *directory, const char *name)
{
    size_t size = strlen(directory) + strlen(name) + 2;
    char *path = malloc(size);

    if (path == NULL)
        complain("out of memory");
    else
        snprintf(path, size, "%s/%s", directory, name);
    return path;
}

char *layout_blob(const char *directory, const char *digest)
{
    const char *hex = strchr(digest, ':');
    char name[sizeof "blobs/sha256/" + 128];

    if (hex != NULL) {
        int algorithm = (int)(hex - digest);
        size_t len = strlen(++hex);

        if (((len == 64 && strncmp(digest, "sha256:", 7) == 0) || (len == 128 && strncmp(digest, "sha512:", 7) == 0))
            && strspn(hex, "0123456789abcdef") == len) {
            snprintf(name, sizeof name, "blobs/%.*s/%s", algorithm, digest, hex);
            return layout_path(directory, name);
        }
    }
    complain("not a sha256 or sha512 digest: %.150s", digest);
    return NULL;
}

static int make_directory(const char *path)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return 0;
    return complain("%s: %s", path, strerror(errno));
}

int layout_make_parent(const char *blob)
{
    char *parent = strdup(blob);
    int result;

    if (parent == NULL)
        return complain("out of memory");
    *strrchr(parent, '/') = '\0';
    result = make_directory(parent);
    free(parent);
    return result;
}

int layout_create(const char *directory)
{
    static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}";
    char *blobs = layout_path(directory, "blobs");
    char *sha256 = layout_path(directory, "blobs/sha256");
    char *marker = layout_path(directory, "oci-layout");
    int result = -1;

    if (blobs != NULL && sha256 != NULL && marker != NULL && make_directory(directory) == 0
        && make_directory(blobs) == 0 && make_directory(sha256) == 0)
        result = file_size(marker) >= 0 ? 0 : file_write(marker, version, sizeof version - 1);
    free(blobs);
    free(sha256);
    free(marker);
    return result;
}

int64_t file_size(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
}

char *file_read(const char *path, size_t *len)
{
    int64_t size = file_size(path);
    FILE *file = fopen(path, "rb");
    char *data = NULL;

    if (file == NULL) {
        complain("%s: %s", path, strerror(errno));
    } else if (size < 0 || size > 64 << 20) {
        complain("%s: not a file, or too large to be a manifest", path);
    } else if ((data = malloc((size_t)size + 1)) == NULL || fread(data, 1, (size_t)size, file) != (size_t)size) {
        complain("%s: cannot read it", path);
        free(data);
        data = NULL;
    } else {
        data[size] = '\0';
        *len = (size_t)size;
    }
    if (file != NULL)
        fclose(file);
    return data;
}

int file_write(const char *path, const void *data, size_t len)
{
    size_t size = strlen(path) + sizeof ".new";
    char *fresh = malloc(size);
    FILE *file = NULL;
    int ok = 0;

    if (fresh != NULL) {
        snprintf(fresh, size, "%s.new", path);
        file = fopen(fresh, "wb");
    }
    if (file != NULL) {
        ok = fwrite(data, 1, len, file) == len;
        ok = fclose(file) == 0 && ok;
        ok = ok && rename(fresh, path) == 0;
    }
    if (!ok)
        complain("%s: %s", path, strerror(errno));
    if (!ok && file != NULL)
        remove(fresh);
    free(fresh);
    return ok ? 0 : -1;
}

/* An OCI image layout: oci-layout, index.json and blobs/ALGORITHM/HEX in a folder. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include "json.h"

/* A descriptor: what some bytes are, their digest and their size. The texts are lent by the JSON value. */
struct descriptor {
    const char *media_type, *digest;
    int64_t size;
};

/* All functions that return int return 0, or -1 after telling what went wrong. */

int descriptor_read(const json *value, struct descriptor *out);

/* Makes the folder, its blobs/sha256 and its oci-layout file, unless they are there. */
int layout_create(const char *directory);

/* Path of a blob, to be freed; NULL (told) unless digest is a sha256 or sha512 digest as it should be written:
 * nothing else that a registry sends may become part of a path. */
char *layout_blob(const char *directory, const char *digest);
/* Makes the folder that a blob goes into. */
int layout_make_parent(const char *blob);
/* directory/name, to be freed. */
char *layout_path(const char *directory, const char *name);

/* Size of a regular file, or -1. */
int64_t file_size(const char *path);
/* The whole file with a NUL behind it, to be freed; NULL (told) if that fails or it is larger than 64 MiB. */
char *file_read(const char *path, size_t *len);
/* Puts a file there in one step: a reader sees the old one or the new one. */
int file_write(const char *path, const void *data, size_t len);

int is_index(const char *media_type);

#endif

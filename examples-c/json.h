/* A small JSON reader (RFC 8259), enough for manifests and indexes. */
#ifndef JSON_H
#define JSON_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct json json;

/* Parses one value, which must be all of text. NULL if it is not JSON, not UTF-8, nested deeper than 64, or has
 * a NUL in a string. Free the result with json_free; everything else here only lends from it. */
json *json_parse(const char *text, size_t len);
void json_free(json *value);

/* These take NULL, and a value of the wrong type, as "not there", so they can be nested. */
const json *json_get(const json *object, const char *key); /* member, the last of equal keys; or NULL */
const json *json_first(const json *array);                 /* first element, or NULL */
const json *json_next(const json *element);                /* element after it, or NULL */
const char *json_text(const json *value);                  /* text of a string, or NULL */
int64_t json_int(const json *value);                       /* a whole number from 0 on, or -1 */

/* Writes text as a JSON string, with its quotes. */
void json_write_text(FILE *out, const char *text);

#endif

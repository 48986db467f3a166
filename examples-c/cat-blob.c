/* Writes a part of a blob to standard output. Only that part is fetched: a blob is a file that can be read at any
 * offset. What is read this way is checked for its length; only reading all of a blob can check its digest. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum { PIECE = 4 << 20 }; /* each piece is a request, so not too small */

static void usage(void)
{
    fprintf(stderr, "usage: cat-blob [flags] REPOSITORY DIGEST [OFFSET [LENGTH]]\n" CONNECTION_USAGE);
    exit(2);
}

static int64_t number(const char *text)
{
    char *end;
    long long n;

    errno = 0;
    n = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || n < 0)
        usage();
    return n;
}

static int copy_out(const rt_blob *blob, int64_t offset, int64_t length)
{
    char *buf = malloc(PIECE);
    rt_error *err = NULL;
    int result = -1;

    if (buf == NULL)
        return complain("out of memory");
    while (length > 0) {
        size_t want = length < PIECE ? (size_t)length : PIECE, got;

        /* Exactly what was asked for, unless the blob ends before. */
        if (rt_blob_pread(blob, buf, want, offset, NULL, &got, &err) != RT_OK) {
            failed(err);
            goto done;
        }
        if (got == 0)
            break;
        if (fwrite(buf, 1, got, stdout) != got) {
            complain("standard output: %s", strerror(errno));
            goto done;
        }
        offset += (int64_t)got;
        length -= (int64_t)got;
    }
    result = fflush(stdout) == 0 ? 0 : complain("standard output: %s", strerror(errno));
done:
    free(buf);
    return result;
}

int main(int argc, char **argv)
{
    struct connection connection;
    rt_transport *transport = NULL;
    rt_ref *ref = NULL;
    rt_blob *blob = NULL;
    rt_error *err = NULL;
    int64_t offset, length;
    int i, words, status = 1;

    connection_init(&connection);
    for (i = 1; i < argc && argv[i][0] == '-'; i++)
        if (!connection_flag(&connection, argc, argv, &i))
            usage();
    words = argc - i;
    if (words < 2 || words > 4)
        usage();
    offset = words > 2 ? number(argv[i + 2]) : 0;
    length = words > 3 ? number(argv[i + 3]) : INT64_MAX;

    if (connect_image(&connection, argv[i], RT_PULL, &ref, &transport) != 0)
        goto done;
    if (rt_blob_open(transport, argv[i + 1], NULL, &blob, &err) != RT_OK) {
        failed(err);
        goto done;
    }
    if (offset > rt_blob_size(blob))
        offset = rt_blob_size(blob);
    if (length > rt_blob_size(blob) - offset)
        length = rt_blob_size(blob) - offset;
    if (copy_out(blob, offset, length) == 0)
        status = 0;
done:
    rt_free(blob);
    rt_free(transport);
    rt_free(ref);
    connection_free(&connection);
    return status;
}

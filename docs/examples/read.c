#include <registry_transport.h>
#include <stdio.h>

static int32_t on_piece(void *user, const void *data, size_t len)
{
    return fwrite(data, 1, len, user) == len ? 0 : 1;
}

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_response *r[4] = { NULL, NULL, NULL, NULL };
    rt_error *err = NULL;
    rt_status status = RT_OK;
    char piece[4096];
    const void *all;
    size_t len, i;

    if (argc < 2)
        return 2;
    if (rt_transport_new(argv[1], RT_PULL, NULL, NULL, &t, NULL) != RT_OK)
        return 1;
    for (i = 0; i < 4 && status == RT_OK; i++)
        status = rt_manifest_get(t, "latest", NULL, &r[i], &err);

    /* Piece by piece: the end comes only if the digest is right. */
    for (len = 1; status == RT_OK && len > 0;)
        if ((status = rt_response_read(r[0], piece, sizeof piece, &len, &err)) == RT_OK)
            fwrite(piece, 1, len, stdout);
    /* As a whole, by a callback, into a file. */
    if (status == RT_OK && (status = rt_response_body(r[1], &all, &len, &err)) == RT_OK)
        printf("\n%lu bytes\n", (unsigned long)len);
    if (status == RT_OK)
        status = rt_response_drain(r[2], on_piece, stdout, &err);
    if (status == RT_OK)
        status = rt_response_save(r[3], "manifest.json", &err);
    if (status != RT_OK)
        fprintf(stderr, "%s\n", rt_error_message(err));
    for (i = 0; i < 4; i++)
        rt_free(r[i]);
    rt_free(t);
    rt_free(err);
    return status != RT_OK;
}

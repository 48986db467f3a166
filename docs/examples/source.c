#include <registry_transport.h>
#include <stdio.h>

static int64_t on_read(void *user, void *buf, size_t cap)
{
    return (int64_t)fread(buf, 1, cap, user);
}

static int32_t on_rewind(void *user)
{
    return fseek(user, 0, SEEK_SET);
}

static int put(const rt_transport *t, rt_source *body)
{
    rt_response *stored = NULL;
    rt_error *err = NULL;

    if (rt_blob_put(t, NULL, body, NULL, NULL, &stored, &err) == RT_OK)
        printf("%s\n", rt_response_digest(stored));
    else
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_free(stored);
    rt_free(body);
    rt_free(err);
    return stored == NULL;
}

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    FILE *f;
    int failed;

    if (argc < 2)
        return 2;
    if (rt_transport_new(argv[1], RT_PUSH, NULL, NULL, &t, NULL) != RT_OK)
        return 1;
    failed = put(t, rt_source_bytes("{}", 2)) || put(t, rt_source_file(argv[0]));
    if ((f = fopen(argv[0], "rb")) != NULL) {
        failed |= put(t, rt_source_reader(on_read, on_rewind, -1, f, NULL));
        fclose(f);
    }
    rt_free(t);
    return failed;
}

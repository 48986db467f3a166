/* The library twice in one process: linked in statically, and loaded with dlopen. Neither notices the other.
 *
 *   both LIBRARY REGISTRY
 */
#include <registry_transport.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(what) do { if (!(what)) { fprintf(stderr, "line %d: %s\n", __LINE__, #what); exit(1); } } while (0)

typedef rt_status (*new_fn)(const char *, uint32_t, const rt_creds *, const rt_options *, rt_transport **, rt_error **);
typedef rt_status (*get_fn)(const rt_transport *, const char *, const rt_op *, rt_response **, rt_error **);
typedef rt_status (*body_fn)(rt_response *, const void **, size_t *, rt_error **);
typedef rt_creds *(*creds_fn)(const char *, const char *);
typedef void (*free_fn)(void *);

struct copy {
    new_fn transport_new;
    get_fn manifest_get;
    body_fn response_body;
    creds_fn creds_basic;
    free_fn give_back;
    rt_creds *creds;
    rt_transport *t;
    rt_response *answer;
};

static void *sym(void *library, const char *name)
{
    void *found = dlsym(library, name);

    CHECK(found != NULL);
    return found;
}

static void begin(struct copy *c, const char *name)
{
    c->creds = c->creds_basic("demo", "demo");
    CHECK(c->creds != NULL);
    CHECK(c->transport_new(name, RT_PULL, c->creds, NULL, &c->t, NULL) == RT_OK);
    CHECK(c->manifest_get(c->t, "latest", NULL, &c->answer, NULL) == RT_OK);
}

int main(int argc, char **argv)
{
    struct copy in = {rt_transport_new, rt_manifest_get, rt_response_body, rt_creds_basic, rt_free, NULL, NULL, NULL};
    struct copy loaded = in;
    const void *data[2];
    size_t len[2];
    char name[256];
    void *library;

    CHECK(argc == 3);
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(library != NULL);
    *(void **)&loaded.transport_new = sym(library, "rt_transport_new");
    *(void **)&loaded.manifest_get = sym(library, "rt_manifest_get");
    *(void **)&loaded.response_body = sym(library, "rt_response_body");
    *(void **)&loaded.creds_basic = sym(library, "rt_creds_basic");
    *(void **)&loaded.give_back = sym(library, "rt_free");
    CHECK(loaded.transport_new != in.transport_new && loaded.give_back != in.give_back);
    CHECK((size_t)snprintf(name, sizeof name, "%s/demo/app", argv[2]) < sizeof name);

    /* Interleaved, so that each is in the middle of something while the other works. */
    begin(&in, name);
    begin(&loaded, name);
    CHECK(in.response_body(in.answer, &data[0], &len[0], NULL) == RT_OK);
    CHECK(loaded.response_body(loaded.answer, &data[1], &len[1], NULL) == RT_OK);
    CHECK(len[0] > 0 && len[0] == len[1] && memcmp(data[0], data[1], len[0]) == 0);
    in.give_back(in.answer);
    in.give_back(in.t);
    in.give_back(in.creds);
    loaded.give_back(loaded.answer);
    loaded.give_back(loaded.t);
    loaded.give_back(loaded.creds);
    CHECK(dlclose(library) == 0);
    puts("ok");
    return 0;
}

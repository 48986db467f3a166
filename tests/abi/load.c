/* dlopen, use, dlclose, a hundred times, from the main thread and from one that ends. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *path, *registry;

static void *sym(void *library, const char *name)
{
    void *found = dlsym(library, name);

    if (found == NULL) {
        fprintf(stderr, "%s: %s\n", name, dlerror());
        exit(1);
    }
    return found;
}

static void *use(void *unused)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL), *t = NULL, *answer = NULL, *err = NULL;
    int32_t (*transport_new)(const char *, uint32_t, const void *, const void *, void **, void **);
    int32_t (*request)(const void *, const void *, const void *, void **, void **);
    void *(*req_new)(const char *, const char *), *r;
    void (*give_back)(void *);
    char name[128];

    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    *(void **)&transport_new = sym(library, "rt_transport_new");
    *(void **)&request = sym(library, "rt_request");
    *(void **)&req_new = sym(library, "rt_req_new");
    *(void **)&give_back = sym(library, "rt_free");
    sprintf(name, "%s/a/b", registry);
    r = req_new("GET", "/v2/hello");
    if (transport_new(name, 1, NULL, NULL, &t, &err) != 0 || request(t, r, NULL, &answer, &err) != 0) {
        fprintf(stderr, "the request failed\n");
        exit(1);
    }
    give_back(answer);
    give_back(t);
    give_back(r);
    dlclose(library);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    int i;

    if (argc != 3)
        return 1;
    path = argv[1];
    registry = argv[2];
    for (i = 0; i < 100; i++) {
        if (i % 2 == 0) {
            use(NULL);
        } else {
            pthread_create(&thread, NULL, use, NULL);
            pthread_join(thread, NULL);
        }
    }
    puts("ok");
    return 0;
}

#include <registry_transport.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Called once however many threads wait, and again when what it gave is refused. */
static rt_creds *ask(void *user, const char *registry, const char *repository,
                     int32_t *fail)
{
    const char *password = getenv("REGISTRY_PASSWORD");

    (void)user;
    fprintf(stderr, "for %s, %s\n", registry, repository ? repository : "-");
    if (password == NULL)
        return NULL; /* anonymous; to end the call instead: *fail = 1 */
    (void)fail;
    return rt_creds_basic("demo", password);
}

static rt_creds *make(const char *kind, const char *secret)
{
    if (strcmp(kind, "basic") == 0)
        return rt_creds_basic("demo", secret);
    if (strcmp(kind, "bearer") == 0)
        return rt_creds_bearer(secret);
    if (strcmp(kind, "refresh") == 0)
        return rt_creds_refresh(secret);
    if (strcmp(kind, "docker") == 0)
        return rt_creds_docker(NULL); /* as `docker login` left them */
    if (strcmp(kind, "podman") == 0)
        return rt_creds_podman(NULL);
    return rt_creds_callback(ask, NULL, NULL);
}

int main(int argc, char **argv)
{
    const char *kind = argc > 2 ? argv[2] : "callback";
    rt_creds *creds = make(kind, argc > 3 ? argv[3] : "");
    rt_transport *t = NULL;
    rt_error *err = NULL;
    int failed;

    if (argc < 2)
        return 2;
    failed = rt_transport_new(argv[1], RT_PULL, creds, NULL, &t, &err) != RT_OK
             || rt_ping(t, NULL, &err) != RT_OK;
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_free(creds);
    rt_free(t);
    rt_free(err);
    return failed;
}

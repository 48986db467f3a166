#include <registry_transport.h>
#include <stdio.h>
#include <string.h>

static int show(rt_list *list)
{
    const char *name;
    rt_error *err = NULL;
    rt_status status;

    while ((status = rt_list_next(list, NULL, &name, &err)) == RT_OK && name != NULL)
        printf("%s\n", name);
    if (status != RT_OK)
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_free(err);
    rt_free(list);
    return status != RT_OK;
}

int main(int argc, char **argv)
{
    rt_transport *repository = NULL, *registry = NULL;
    rt_response *head = NULL;
    char host[256] = "";
    int failed;

    if (argc < 2)
        return 2;
    if (rt_transport_new(argv[1], RT_PULL, NULL, NULL, &repository, NULL) != RT_OK)
        return 1;
    failed = show(rt_list_tags(repository));
    /* What refers to an image: signatures, SBOMs, attestations. */
    if (rt_manifest_head(repository, "latest", NULL, &head, NULL) == RT_OK)
        failed |= show(rt_list_referrers(repository, rt_response_digest(head), NULL));
    /* The registry's repositories need a transport to the bare registry. */
    if (strcspn(argv[1], "/") < sizeof host)
        strncat(host, argv[1], strcspn(argv[1], "/"));
    if (rt_transport_new(host, RT_CATALOG, NULL, NULL, &registry, NULL) == RT_OK)
        failed |= show(rt_list_repositories(registry));
    rt_free(head);
    rt_free(registry);
    rt_free(repository);
    return failed;
}

#include <registry_transport.h>
#include <stdio.h>

int main(void)
{
    rt_ref *ref = NULL, *short_name = NULL;
    rt_error *err = NULL;

    if (rt_ref_parse("ghcr.io/oras-project/oras:v1.2.0", &ref, &err) == RT_OK) {
        printf("%s, %s\n", rt_ref_registry(ref), rt_ref_repository(ref));
        if (rt_ref_digest(ref) != NULL)
            printf("digest %s\n", rt_ref_digest(ref));
        else
            printf("tag %s\n", rt_ref_tag(ref));
        /* As people type it: unless files say otherwise, Docker Hub is meant. */
        if (rt_ref_resolve("alpine", NULL, &short_name, &err) == RT_OK)
            printf("%s\n", rt_ref_repository(short_name));
    }
    if (err != NULL)
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_free(ref);
    rt_free(short_name);
    rt_free(err);
    return 0;
}

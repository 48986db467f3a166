#include <registry_transport.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_source *body = rt_source_file(argv[0]);
    rt_upload *u = NULL;
    rt_response *stored = NULL;
    rt_error *err = NULL;
    char *state = NULL;
    int failed;

    if (argc < 2)
        return 2;
    failed = rt_transport_new(argv[1], RT_PUSH, NULL, NULL, &t, &err) != RT_OK
             || rt_upload_begin(t, NULL, &u, &err) != RT_OK;
    if (!failed) {
        /* Written down, it can be taken up by another process: a secret. */
        state = malloc(strlen(rt_upload_state(u)) + 1);
        strcpy(state, rt_upload_state(u));
        rt_free(u);
        u = NULL;
        failed = rt_upload_resume(t, state, NULL, &u, &err) != RT_OK
                 || rt_upload_send(u, body, NULL, &err) != RT_OK;
    }
    if (!failed) {
        printf("the registry has %ld bytes\n", (long)rt_upload_offset(u));
        failed = rt_upload_finish(u, NULL, NULL, &stored, &err) != RT_OK;
    } else if (u != NULL) {
        rt_upload_cancel(u, NULL, NULL);
    }
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    else
        printf("%s\n", rt_response_digest(stored));
    free(state);
    rt_free(stored);
    rt_free(u);
    rt_free(body);
    rt_free(t);
    rt_free(err);
    return failed;
}

#include <registry_transport.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_explanation *why = NULL;
    rt_error *err = NULL;
    int failed;

    if (argc < 2)
        return 2;
    failed = rt_transport_new(argv[1], RT_PULL, NULL, NULL, &t, &err) != RT_OK
             || rt_explain(t, NULL, &why, &err) != RT_OK;
    if (failed)
        fprintf(stderr, "%s\n", rt_error_message(err));
    else
        printf("%s%s\n", rt_explanation_text(why), rt_explanation_json(why));
    rt_free(why);
    rt_free(t);
    rt_free(err);
    return failed;
}

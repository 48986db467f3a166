#include <registry_transport.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    rt_transport *t = NULL;
    rt_req *first = rt_req_new("GET", "./tags/list?n=100");
    rt_pages *pages;
    rt_response *page = NULL;
    rt_error *err = NULL;
    rt_status status;
    const void *json;
    size_t len;

    if (argc < 2)
        return 2;
    if (rt_transport_new(argv[1], RT_PULL, NULL, NULL, &t, NULL) != RT_OK)
        return 1;
    pages = rt_pages_new(t, first);
    while ((status = rt_pages_next(pages, NULL, &page, &err)) == RT_OK && page != NULL) {
        status = rt_response_body(page, &json, &len, &err);
        if (status == RT_OK)
            printf("%.*s\n", (int)len, (const char *)json);
        rt_free(page);
        if (status != RT_OK)
            break;
    }
    if (status != RT_OK)
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_free(pages);
    rt_free(first);
    rt_free(t);
    rt_free(err);
    return status != RT_OK;
}

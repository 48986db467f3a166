/* Sends one request of your own making and prints the answer. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum { MAX_HEADERS = 32 };

struct wish {
    const char *method, *data, *output;
    char *headers[MAX_HEADERS];
    int header_count, show_head;
};

static void usage(void)
{
    fprintf(stderr, "usage: request [flags] REGISTRY[/REPOSITORY] PATH\n"
                    "PATH is /v2/... of the registry, ./... of the repository, or a URL.\n" CONNECTION_USAGE
                    "  -X METHOD            instead of GET, or PUT with -d\n"
                    "  -H 'Name: value'     add a header\n"
                    "  -d DATA, -d @FILE    send a body\n"
                    "  -o FILE              write the body there\n"
                    "  -i                   print status and headers too\n");
    exit(2);
}

/* Mistakes in what is added here are told by rt_request. */
static rt_req *describe(const struct wish *w, const char *path)
{
    rt_req *req = rt_req_new(w->method, path);

    for (int i = 0; i < w->header_count; i++) {
        char *value = strchr(w->headers[i], ':');

        if (value == NULL)
            usage();
        *value++ = '\0';
        rt_req_header(req, w->headers[i], value + strspn(value, " \t"));
    }
    if (w->data != NULL && w->data[0] == '@') {
        rt_source *file = rt_source_file(w->data + 1); /* read while sending, anew for each attempt */

        rt_req_source(req, file);
        rt_free(file); /* req keeps it alive */
    } else if (w->data != NULL) {
        rt_req_body(req, w->data, strlen(w->data));
    }
    return req;
}

static void print_head(const rt_response *r, FILE *out, int headers)
{
    const char *name, *value;

    fprintf(out, "HTTP %" PRId32 "\n", rt_response_status(r));
    if (!headers)
        return;
    for (size_t i = 0; (name = rt_response_header_at(r, i, &value)) != NULL; i++)
        fprintf(out, "%s: %s\n", name, value);
    putc('\n', out);
}

static int print_body(rt_response *r)
{
    static char buf[65536];
    rt_error *err = NULL;
    size_t len;

    for (;;) {
        if (rt_response_read(r, buf, sizeof buf, &len, &err) != RT_OK)
            return failed(err);
        if (len == 0) /* the end, and all checks passed */
            return fflush(stdout) == 0 ? 0 : complain("standard output: %s", strerror(errno));
        if (fwrite(buf, 1, len, stdout) != len)
            return complain("standard output: %s", strerror(errno));
    }
}

static int send_it(const rt_transport *t, const struct wish *w, const char *path)
{
    rt_req *req = describe(w, path);
    rt_response *answer = NULL;
    rt_error *err = NULL;
    int result = -1;

    /* An answer that is not 2xx is an error, which carries what the registry said; see print_error. */
    if (rt_request(t, req, NULL, &answer, &err) != RT_OK) {
        failed(err);
        goto done;
    }
    print_head(answer, w->show_head ? stdout : stderr, w->show_head);
    if (w->output == NULL)
        result = print_body(answer);
    else if (rt_response_save(answer, w->output, &err) == RT_OK)
        result = 0;
    else
        failed(err);
done:
    rt_free(answer);
    rt_free(req);
    return result;
}

/* What to ask the token service for. */
static uint32_t actions_for(const char *method, const rt_ref *ref)
{
    if (rt_ref_repository(ref) == NULL)
        return RT_CATALOG;
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
        return RT_PULL;
    return strcmp(method, "DELETE") == 0 ? RT_DELETE : RT_PULL | RT_PUSH;
}

int main(int argc, char **argv)
{
    struct wish w = {0};
    struct connection connection;
    rt_transport *transport = NULL;
    rt_ref *ref = NULL;
    int i, status = 1;

    connection_init(&connection);
    for (i = 1; i < argc && argv[i][0] == '-'; i++) {
        if (connection_flag(&connection, argc, argv, &i))
            continue;
        if (strcmp(argv[i], "-X") == 0)
            w.method = flag_value(argc, argv, &i);
        else if (strcmp(argv[i], "-H") == 0 && w.header_count < MAX_HEADERS)
            w.headers[w.header_count++] = flag_value(argc, argv, &i);
        else if (strcmp(argv[i], "-d") == 0)
            w.data = flag_value(argc, argv, &i);
        else if (strcmp(argv[i], "-o") == 0)
            w.output = flag_value(argc, argv, &i);
        else if (strcmp(argv[i], "-i") == 0)
            w.show_head = 1;
        else
            usage();
    }
    if (argc - i != 2)
        usage();
    if (w.method == NULL)
        w.method = w.data != NULL ? "PUT" : "GET";

    if (parse_ref(argv[i], &ref) == 0
        && connect_to(&connection, ref, actions_for(w.method, ref), &transport) == 0
        && send_it(transport, &w, argv[i + 1]) == 0)
        status = 0;
    rt_free(transport);
    rt_free(ref);
    connection_free(&connection);
    return status;
}

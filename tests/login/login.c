/* Lists the tags of a repository with the credentials of a store, as a program that embeds the library would.

   login STORE REPOSITORY [--HOST...] [KEY=VALUE...]

   Prints "ok TAG TAG" or "error CODE STATUS MESSAGE" on standard output and the log on standard error. */
#define _POSIX_C_SOURCE 200809L
#include <registry_transport.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void print_log(void *user, int32_t level, const char *line)
{
    (void)user;
    fprintf(stderr, "%d %s\n", (int)level, line);
}

static void reap(int signal_number)
{
    int saved = errno;

    (void)signal_number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = saved;
}

static int failed(rt_error *err)
{
    printf("error %d %d %s\n", (int)rt_error_code(err), (int)rt_error_http_status(err), rt_error_message(err));
    rt_free(err);
    return 0;
}

/* Whether the argument changes what kind of host this is. */
static int host(const char *argument, const char **path)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    if (strcmp(argument, "--ignore-sigchld") == 0) {
        action.sa_handler = SIG_IGN;
        sigaction(SIGCHLD, &action, NULL);
    } else if (strcmp(argument, "--reap") == 0) {
        action.sa_handler = reap;
        sigaction(SIGCHLD, &action, NULL);
    } else if (strcmp(argument, "--leak") == 0) {
        dup2(open("/dev/null", O_RDONLY), 77);
    } else if (strncmp(argument, "--path=", 7) == 0) {
        *path = argument + 7;
    } else {
        return 0;
    }
    return 1;
}

static void set(rt_options *options, char *argument)
{
    char *value = strchr(argument, '='), *end;

    if (value == NULL)
        exit(2);
    *value++ = '\0';
    if (rt_options_set_str(options, argument, value) == RT_OK)
        return;
    if (rt_options_set_int(options, argument, strtol(value, &end, 10)) != RT_OK || *end != '\0')
        exit(2);
}

int main(int argc, char **argv)
{
    rt_options *options = rt_options_new();
    rt_creds *creds = NULL;
    rt_transport *transport = NULL;
    rt_list *list = NULL;
    rt_error *err = NULL;
    const char *path = NULL, *name = NULL, *secret = getenv("LOGIN_SECRET");
    char line[4096] = "ok";
    int i;

    if (argc < 3)
        return 2;
    rt_options_set_log(options, RT_LOG_DEBUG, print_log, NULL, NULL);
    for (i = 3; i < argc; i++)
        if (!host(argv[i], &path))
            set(options, argv[i]);
    if (strcmp(argv[1], "docker") == 0)
        creds = rt_creds_docker(path);
    else if (strcmp(argv[1], "podman") == 0)
        creds = rt_creds_podman(path);
    else if (strcmp(argv[1], "refresh") == 0)
        creds = rt_creds_refresh(secret);
    else if (strncmp(argv[1], "user:", 5) == 0)
        creds = rt_creds_basic(argv[1] + 5, secret);
    if (rt_transport_new(argv[2], RT_PULL, creds, options, &transport, &err) != RT_OK)
        return failed(err);
    list = rt_list_tags(transport);
    while (rt_list_next(list, NULL, &name, &err) == RT_OK && name != NULL)
        if (strlen(line) + strlen(name) + 2 < sizeof line)
            strcat(strcat(line, " "), name);
    if (err != NULL)
        failed(err);
    else
        printf("%s\n", line);
    rt_free(list);
    rt_free(transport);
    rt_free(creds);
    rt_free(options);
    return 0;
}

/* Runs a command and writes "wall cpu rss" (seconds, seconds, MiB) to a file: measure FILE COMMAND...
 * Small, so that the memory of the command is not that of who started it. */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
    struct timeval begin, end;
    struct rusage usage;
    int status;
    pid_t child;
    FILE *out;

    if (argc < 3)
        return 2;
    gettimeofday(&begin, NULL);
    child = fork();
    if (child == 0) {
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child)
        return 1;
    gettimeofday(&end, NULL);
    out = fopen(argv[1], "w");
    if (out == NULL)
        return 1;
    fprintf(out, "%f %f %f\n", seconds(end) - seconds(begin), seconds(usage.ru_utime) + seconds(usage.ru_stime),
            (double)usage.ru_maxrss / 1024);
    fclose(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

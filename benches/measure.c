/* Runs a command and writes "wall cpu rss" (seconds, seconds, MiB) to a file: measure FILE COMMAND...
 * Small, so that the memory of the command is not that of who started it. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    double begin, end;
    struct rusage usage;
    int status;
    pid_t child;
    FILE *out;

    if (argc < 3)
        return 2;
    begin = now();
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* ends with this program */
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child)
        return 1;
    end = now();
    out = fopen(argv[1], "w");
    if (out == NULL)
        return 1;
    fprintf(out, "%f %f %f\n", end - begin, seconds(usage.ru_utime) + seconds(usage.ru_stime),
            (double)usage.ru_maxrss / 1024);
    fclose(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

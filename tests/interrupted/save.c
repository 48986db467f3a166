/* Saves a blob as a program does that somebody may kill: tells on standard output how many bytes are in the file, and
 * dies by itself before the file operation of this number, counted from 0, or in the middle of it if it is a write.
 *
 *   save REGISTRY DIGEST FILE CONNECTIONS [OPERATION [half]] */
#define _GNU_SOURCE
#include <registry_transport.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static long deadly = -1, operations;
static int half;

/* The functions of libc by which a file is changed are defined here, in front of the real ones. Only the thread that
 * saves calls them. */

static void before_operation(void)
{
    if (operations++ == deadly)
        raise(SIGKILL);
}

ssize_t write(int file, const void *data, size_t len)
{
    if (half && operations == deadly)
        syscall(SYS_write, file, data, len / 2);
    before_operation();
    return syscall(SYS_write, file, data, len);
}

int fsync(int file)
{
    before_operation();
    return syscall(SYS_fsync, file);
}

int ftruncate64(int file, off64_t len)
{
    before_operation();
    return syscall(SYS_ftruncate, file, len);
}

int rename(const char *from, const char *to)
{
    before_operation();
    return syscall(SYS_renameat2, -100, from, -100, to, 0);
}

int unlink(const char *path)
{
    before_operation();
    return syscall(SYS_unlinkat, -100, path, 0);
}

static int32_t tell(void *user, int64_t done, int64_t total)
{
    (void)user;
    (void)total;
    printf("%" PRId64 "\n", done);
    return fflush(stdout) != 0;
}

int main(int argc, char **argv)
{
    rt_options *options = rt_options_new();
    rt_op *op = rt_op_new();
    rt_transport *t = NULL;
    rt_error *err = NULL;
    char name[128];
    int status = 1;

    if (argc < 5)
        return 2;
    if (argc > 5)
        deadly = atol(argv[5]);
    half = argc > 6;
    snprintf(name, sizeof name, "%s/a/b", argv[1]);
    rt_options_set_int(options, "environment", 0);
    rt_options_set_int(options, "parallel", atoi(argv[4]));
    rt_op_set_progress(op, tell, NULL, NULL);
    if (rt_transport_new(name, RT_PULL, NULL, options, &t, &err) == RT_OK
        && rt_blob_save(t, argv[2], argv[3], op, &err) == RT_OK)
        status = 0;
    else
        fprintf(stderr, "%s\n", rt_error_message(err));
    rt_free(err);
    rt_free(t);
    rt_free(op);
    rt_free(options);
    return status;
}

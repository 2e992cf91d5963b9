/* Faults of the machine, put in from outside with LD_PRELOAD.
 *
 * FAIL=call:errno:part   write, fsync or close of a file whose path contains `part` fails with that number
 * JUMP=seconds           the wall clock jumps back and forth by so much, once a second
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fails(const char *call, int fd)
{
    const char *spec = getenv("FAIL");
    char link[64], path[4096], wanted[16], part[256];
    int number;
    if (!spec || sscanf(spec, "%15[^:]:%d:%255s", wanted, &number, part) != 3 || strcmp(wanted, call))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    if (!strstr(path, part))
        return 0;
    errno = number;
    return 1;
}

ssize_t write(int fd, const void *data, size_t size)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "write");
    return fails("write", fd) ? -1 : real(fd, data, size);
}

int fsync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = dlsym(RTLD_NEXT, "fsync");
    return fails("fsync", fd) ? -1 : real(fd);
}

int close(int fd)
{
    static int (*real)(int);
    if (!real)
        real = dlsym(RTLD_NEXT, "close");
    int failed = fails("close", fd);
    int saved = errno;
    int answer = real(fd);
    errno = failed ? saved : errno;
    return failed ? -1 : answer;
}

static time_t jumped(time_t now)
{
    const char *jump = getenv("JUMP");
    return jump ? now + (now % 2 ? atol(jump) : -atol(jump)) : now;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, now);
    if (clock == CLOCK_REALTIME && answer == 0)
        now->tv_sec = jumped(now->tv_sec);
    return answer;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}

/* Faults of the machine, put in from outside with LD_PRELOAD.
 *
 * FAIL=call:errno:part   write, fsync or close of a file whose path contains `part` fails with that number
 * NTH=call:errno:n:counter:part   the n-th call of a kind on a path that contains `part` fails with that number; all
 *                        kinds are counted in the file `counter` over all processes, from 1. Calls: write, fsync, rename,
 *                        mkdir, unlink, read (an open for reading), create (any other open), lock; renamed: a rename
 *                        that is done and then fails; short: a write of half of the bytes, which does not fail
 * JUMP=seconds           the wall clock jumps back and forth by so much, once a second
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Whether this call is the n-th of its kind on such a path; errno is then set. */
static const char *const calls[] = {"write", "short", "fsync", "rename", "renamed", "mkdir", "unlink", "create", "read",
                                    "lock", 0};

static int nth(const char *call, const char *path)
{
    static volatile unsigned *counts;
    int kind = 0;
    const char *spec = getenv("NTH");
    char wanted[16], counter[512], part[512];
    unsigned n;
    int number;
    if (!spec || sscanf(spec, "%15[^:]:%d:%u:%511[^:]:%511s", wanted, &number, &n, counter, part) != 5)
        return 0;
    if (!path || !strstr(path, part))
        return 0;
    while (calls[kind] && strcmp(calls[kind], call))
        kind++;
    if (!counts) {
        int (*plain)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
        int fd = plain(counter, O_RDWR);
        if (fd < 0)
            return 0;
        counts = mmap(0, sizeof calls / sizeof *calls * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        int (*shut)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");
        shut(fd);
    }
    if (__sync_add_and_fetch(counts + kind, 1) != n || strcmp(wanted, call))
        return 0;
    errno = number;
    return 1;
}

static const char *path_of(int fd, char *path, size_t size)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return path;
}

static int nth_of_file(const char *call, int fd)
{
    char path[4096];
    return getenv("NTH") && nth(call, path_of(fd, path, sizeof path));
}

static int nth_open(const char *path, int flags)
{
    return nth((flags & O_ACCMODE) == O_RDONLY && !(flags & O_CREAT) ? "read" : "create", path);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = va_arg(rest, mode_t); \
        va_end(rest); \
        return nth_open(path, flags) ? -1 : real(path, flags, mode); \
    }

OPEN(open)
OPEN(open64)

#define FCNTL(name) \
    int name(int fd, int command, ...) \
    { \
        REAL(name); \
        va_list rest; \
        va_start(rest, command); \
        void *argument = va_arg(rest, void *); \
        va_end(rest); \
        int lock = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW; \
        return lock && nth_of_file("lock", fd) ? -1 : real(fd, command, argument); \
    }

FCNTL(fcntl)
FCNTL(fcntl64)

int flock(int fd, int operation)
{
    REAL(flock);
    return operation != LOCK_UN && nth_of_file("lock", fd) ? -1 : real(fd, operation);
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    if (nth("rename", to))
        return -1;
    int answer = real(from, to);
    return answer == 0 && nth("renamed", to) ? -1 : answer;
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    return nth("mkdir", path) ? -1 : real(path, mode);
}

int unlink(const char *path)
{
    REAL(unlink);
    return nth("unlink", path) ? -1 : real(path);
}

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
    if (size > 1 && nth_of_file("short", fd))
        size /= 2;
    return fails("write", fd) || nth_of_file("write", fd) ? -1 : real(fd, data, size);
}

int fsync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = dlsym(RTLD_NEXT, "fsync");
    return fails("fsync", fd) || nth_of_file("fsync", fd) ? -1 : real(fd);
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

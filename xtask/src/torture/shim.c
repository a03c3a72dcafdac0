// A library to preload: the N-th call that changes a file ends the process, or fails, as a full or broken disk would have it.
//   TORTURE_AT=N       which call, from 1; 0 only counts
//   TORTURE_DOES=kill|ENOSPC|EIO
//   TORTURE_LOCKS=none a file system without locks
//   TORTURE_COUNT=FILE where the number of calls is written when the process ends
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

// Whether this call is to fail; errno says how.
static int fails(void) {
    long call = atomic_fetch_add(&calls, 1) + 1;
    const char *at = getenv("TORTURE_AT"), *does = getenv("TORTURE_DOES");
    if (!at || !does || atol(at) != call) return 0;
    if (!strcmp(does, "kill")) kill(getpid(), SIGKILL);
    errno = !strcmp(does, "EIO") ? EIO : ENOSPC;
    return 1;
}

__attribute__((destructor)) static void count(void) {
    const char *path = getenv("TORTURE_COUNT");
    if (!path) return;
    FILE *file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%ld", atomic_load(&calls));
    fclose(file);
}

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *bytes, size_t length) {
    return fd > 2 && fails() ? -1 : REAL(write)(fd, bytes, length);
}
int rename(const char *from, const char *to) { return fails() ? -1 : REAL(rename)(from, to); }
int mkdir(const char *path, mode_t mode) { return fails() ? -1 : REAL(mkdir)(path, mode); }
int fsync(int fd) { return fails() ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails() ? -1 : REAL(fdatasync)(fd); }
int unlink(const char *path) { return fails() ? -1 : REAL(unlink)(path); }
int rmdir(const char *path) { return fails() ? -1 : REAL(rmdir)(path); }
int ftruncate64(int fd, off64_t length) { return fails() ? -1 : REAL(ftruncate64)(fd, length); }
int flock(int fd, int operation) {
    const char *locks = getenv("TORTURE_LOCKS");
    if (!locks) return REAL(flock)(fd, operation);
    errno = EOPNOTSUPP;
    return -1;
}
int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return flags & O_CREAT && fails() ? -1 : REAL(open64)(path, flags, mode);
}

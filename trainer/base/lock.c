#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/aside.h"
#include "base/log.h"

/* Is it still the file of that name? Who had it may have removed it before we got it. */
static int is_current(const struct lock *l)
{
    struct stat ours, named;
    return !fstat(l->fd, &ours) && !stat(l->path, &named) && ours.st_ino == named.st_ino &&
           ours.st_dev == named.st_dev;
}

/* 0: taken. EWOULDBLOCK: by another, and not to be waited for. Else there is no flock here. */
static int take(int fd, const char *path, int waits, int *told)
{
    if (!flock(fd, LOCK_EX | LOCK_NB)) return 0;
    if (errno != EWOULDBLOCK || !waits) return errno;
    if (!*told) log_notice("another process is making %s: waiting for it", path);
    *told = 1;
    while (flock(fd, LOCK_EX))
        if (errno != EINTR) return errno;
    return 0;
}

/* 1: another has it. */
static int get(struct lock *l, const char *path, int waits)
{
    int told = 0;
    l->fd = -1;
    if ((size_t)snprintf(l->path, sizeof l->path, "%s.lock", path) >= sizeof l->path) return 0;
    for (;;) {
        l->fd = open(l->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (l->fd < 0) return 0;
        int failed = take(l->fd, path, waits, &told);
        if (!failed && is_current(l)) {
            aside_begin(l->path);
            return 0;
        }
        close(l->fd);
        l->fd = -1;
        if (failed) return failed == EWOULDBLOCK;
    }
}

void lock_take(struct lock *l, const char *path) { (void)get(l, path, 1); }

int lock_try(struct lock *l, const char *path) { return get(l, path, 0); }

void lock_release(struct lock *l)
{
    if (l->fd < 0) return;
    aside_end(l->path);
    unlink(l->path); /* before it is let go of, so that nobody takes a file without a name */
    close(l->fd);
    l->fd = -1;
}

#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

/* Is it still the file of that name? Who had it may have removed it before we got it. */
static int is_current(const struct lock *l)
{
    struct stat ours, named;
    return !fstat(l->fd, &ours) && !stat(l->path, &named) && ours.st_ino == named.st_ino &&
           ours.st_dev == named.st_dev;
}

static int take(int fd, const char *path, int *told)
{
    int r = flock(fd, LOCK_EX | LOCK_NB);
    if (r && errno == EWOULDBLOCK) {
        if (!*told) log_notice("another process is making %s: waiting for it", path);
        *told = 1;
        do r = flock(fd, LOCK_EX);
        while (r && errno == EINTR);
    }
    return r;
}

void lock_take(struct lock *l, const char *path)
{
    int told = 0;
    l->fd = -1;
    if ((size_t)snprintf(l->path, sizeof l->path, "%s.lock", path) >= sizeof l->path) return;
    for (;;) {
        l->fd = open(l->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (l->fd < 0) return;
        if (take(l->fd, path, &told)) break; /* no flock here */
        if (is_current(l)) return;
        close(l->fd);
    }
    lock_release(l);
}

void lock_release(struct lock *l)
{
    if (l->fd < 0) return;
    unlink(l->path); /* before it is let go of, so that nobody takes a file without a name */
    close(l->fd);
    l->fd = -1;
}

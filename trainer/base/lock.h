/* lock.h - one process at a time makes a file that several want.
 *
 *     struct lock l;
 *     lock_take(&l, "cache/data.h5");              waits for who has it, with a notice
 *     if (!io_exists("cache/data.h5")) ...         made meanwhile?
 *     lock_release(&l);
 *
 * The lock is a file beside it, PATH.lock, held by flock: who dies lets go of it, and who is done
 * removes it. Where it cannot be had (no flock in this file system, a folder that is not writable)
 * there is none, and nothing is said: making the file will say it. Over a network it holds as far
 * as that file system's does. Not for threads of one process.
 */
#ifndef CRIA_BASE_LOCK_H
#define CRIA_BASE_LOCK_H

#include "base/io.h"

struct lock {
    int fd; /* -1: none */
    char path[IO_PATH_MAX];
};

void lock_take(struct lock *l, const char *path);

/* Does not wait. 1: another process has it, and there is nothing to release. */
MUST_CHECK int lock_try(struct lock *l, const char *path);

void lock_release(struct lock *l);

#endif

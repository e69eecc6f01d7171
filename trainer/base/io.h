/* io.h - files, whole or not at all.
 *
 * Reads retry on EINTR and short counts; writes go to the end or fail. A file
 * that others may read is written aside ("PATH.tmp"), fsynced and renamed, so a
 * crash leaves the old one or the new one, never half of either.
 */
#ifndef CRIA_BASE_IO_H
#define CRIA_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/status.h"

/* The whole file appended to `out` (cap: out->max). ERR_IO, ERR_MEMORY, ERR_FORMAT (too large). */
MUST_CHECK enum status io_read_file(const char *path, struct buf *out, struct err *e);

/* `n` bytes from `offset`. ERR_IO; ERR_FORMAT when the file ends before. `path` is for the message.
 */
MUST_CHECK enum status io_read_at(int fd, void *out, size_t n, uint64_t offset, const char *path,
                                  struct err *e);

/* All `n` bytes at the file's position. ERR_IO, ERR_DISK_FULL. */
MUST_CHECK enum status io_write_all(int fd, const void *bytes, size_t n, const char *path,
                                    struct err *e);

/* Replaces PATH as said above. ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status io_write_file(const char *path, const void *bytes, size_t n, struct err *e);

/* Copies a file's content, fsynced. ERR_IO, ERR_DISK_FULL. */
MUST_CHECK enum status io_copy_file(const char *from, const char *to, struct err *e);

MUST_CHECK enum status io_make_dirs(const char *path, struct err *e);   /* like mkdir -p */
MUST_CHECK enum status io_sync_dir(const char *path, struct err *e);    /* fsync of a directory */
MUST_CHECK enum status io_remove_tree(const char *path, struct err *e); /* absent is OK */

int io_exists(const char *path);
int io_is_dir(const char *path);
int io_is_hub_name(const char *path); /* OWNER/NAME of a hub rather than a path: neither is there */
int io_same(const char *a,
            const char *b);             /* one file or directory, whatever the paths; 0: absent */
int64_t io_file_size(const char *path); /* -1: absent or no regular file */

/* "dir/name" into out[size]; ERR_IO if it does not fit. */
MUST_CHECK enum status io_join(char *out, size_t size, const char *dir, const char *name,
                               struct err *e);

#define IO_PATH_MAX 4096

#endif

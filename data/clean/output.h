/* output.h - a file of lines that is there whole or not at all: written aside (PATH.tmp), synced,
 * renamed. Private to data/clean.
 */
#ifndef CRIA_DATA_CLEAN_OUTPUT_H
#define CRIA_DATA_CLEAN_OUTPUT_H

#include "base/buf.h"
#include "base/io.h"

struct output {
    const char *path; /* the caller's */
    int fd;
    char aside[IO_PATH_MAX];
    struct buf pending;
};

void output_init(struct output *o); /* before anything else */

/* ERR_IO, ERR_DISK_FULL. */
MUST_CHECK enum status output_open(struct output *o, const char *path, struct err *e);

/* ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status output_write(struct output *o, const char *lines, size_t n, struct err *e);

/* Gives the file its name. ERR_IO, ERR_DISK_FULL. */
MUST_CHECK enum status output_commit(struct output *o, struct err *e);

void output_close(struct output *o); /* what was not committed is gone */

#endif

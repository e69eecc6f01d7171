/* record_file.h - a JSONL file in the making. */
#ifndef CRIA_QUICKSTART_RECORD_FILE_H
#define CRIA_QUICKSTART_RECORD_FILE_H

#include <jansson.h>
#include <stdio.h>

#include "base/status.h"

/* dir NULL: `name` is the whole path. ERR_IO. */
MUST_CHECK enum status record_file_open(FILE **out, const char *dir, const char *name,
                                        struct err *e);

/* A line; takes the record, which may be NULL (ERR_MEMORY). ERR_IO. */
MUST_CHECK enum status record_file_write(FILE *f, json_t *record, struct err *e);

/* What has gone wrong so far, `s`, or that the last bytes cannot be written (ERR_IO). */
MUST_CHECK enum status record_file_close(FILE *f, enum status s, struct err *e);

#endif

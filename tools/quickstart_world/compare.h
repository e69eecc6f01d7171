/* compare.h - a model before tuning against the same model after it, kind by kind, from what
 * `cria eval --generate --json` wrote about each. */
#ifndef CRIA_QUICKSTART_COMPARE_H
#define CRIA_QUICKSTART_COMPARE_H

#include <stdio.h>

#include "base/status.h"

/* Writes a table: a row for each file evaluated, named by the file, and one for all. Before tuning
 * it also shows how often an answer began with the right one, since a base does not know where to
 * end. ERR_IO, ERR_FORMAT (not such files, or of different data), ERR_MEMORY. */
MUST_CHECK enum status compare_print(FILE *out, const char *before, const char *after,
                                     struct err *e);

#endif

/* replies.h - a model's replies before preferences against those after them, from what `cria
 * generate --data` wrote about both. */
#ifndef CRIA_QUICKSTART_REPLIES_H
#define CRIA_QUICKSTART_REPLIES_H

#include <stdio.h>

#include "base/status.h"

/* What replies are like, on average. */
struct replies_measure {
    int n;
    double brief;  /* the share in the short form */
    double right;  /* that holds the right answer */
    double tokens; /* in a reply */
};

/* `model`: a directory whose tokenizer counts. ERR_IO, ERR_FORMAT (no such file; no replies),
 * ERR_MEMORY. */
MUST_CHECK enum status replies_measure(const char *path, const char *model,
                                       struct replies_measure *out, struct err *e);

/* Writes a table of both measures, and the first few replies that were long-winded beside what they
 * became. ERR_FORMAT also when the two answer different instructions. */
MUST_CHECK enum status replies_print(FILE *out, const char *before, const char *after,
                                     const char *model, struct err *e);

#endif

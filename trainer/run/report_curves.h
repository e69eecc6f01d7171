/* report_curves.h - the part of report.html that is drawn: what metrics.jsonl says, over the steps.
 */
#ifndef CRIA_RUN_REPORT_CURVES_H
#define CRIA_RUN_REPORT_CURVES_H

#include "base/json.h"
#include "run/html.h"

/* Points of one name in the history; x and y lie in one block. */
struct curve {
    double *x, *y;
    size_t n;
};

/* `history` is an array of metrics.jsonl's lines. A value that is no number is NAN. ERR_MEMORY. */
MUST_CHECK enum status curve_read(struct curve *c, const json_t *history, const char *key,
                                  struct err *e);
void curve_free(struct curve *c);

/* A section of charts and the table of the log; `aligns`: of preferences. ERR_MEMORY. */
MUST_CHECK enum status report_write_curves(struct html *h, const json_t *history, int aligns,
                                           struct err *e);

#endif

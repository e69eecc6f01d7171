/* best.h - which evaluation was the best, and how long ago that is.
 *
 * Better is a smaller eval_loss, or a larger accuracy; equal is not better, and a number that is
 * not finite never is. The state is part of a checkpoint.
 */
#ifndef CRIA_RUN_BEST_H
#define CRIA_RUN_BEST_H

#include <jansson.h>

#include "config/config.h"

struct best {
    int64_t step;   /* -1: none yet */
    double metric;  /* of metric_for_best_model, at that step */
    int64_t misses; /* evaluations since */
};

void best_init(struct best *b);

/* An evaluation at `step` gave `metric`: 1 if it is the best so far. */
int best_update(struct best *b, const struct config *c, int64_t step, double metric);

/* Whether early_stopping_patience is at its end. */
int best_out_of_patience(const struct best *b, const struct config *c);

/* To and from a checkpoint. ERR_MEMORY; ERR_FORMAT (`where` names the file). */
MUST_CHECK enum status best_to_json(const struct best *b, json_t *object, struct err *e);
MUST_CHECK enum status best_from_json(struct best *b, const json_t *object, const char *where,
                                      struct err *e);

#endif

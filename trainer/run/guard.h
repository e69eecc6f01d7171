/* guard.h - what to do about a step whose loss or gradient is not to be trusted.
 *
 * The loss of a step is known before its update, the gradient's norm with it (the optimiser changes
 * nothing when the norm is not finite). So a step can be left out as if it had never been: weights
 * and moments stay, AdamW's step count stays, the learning rate and the data go on.
 *
 *     verdict = guard_judge_loss(&g, &loss)      before the update
 *     verdict = guard_judge_norm(&g, norm, ...)  when the optimiser said ERR_NUMERIC
 *     guard_note(&g, verdict, loss)              after it
 *
 * A spike is a loss more than spike_zscore standard deviations above the mean of the last
 * spike_window losses that were not left out; a deviation below 1 % of the mean counts as 1 %.
 * Nothing is judged before 16 losses (or a full window) are known. The window and the counters are
 * part of a checkpoint, so a resumed run judges as the uninterrupted one.
 */
#ifndef CRIA_RUN_GUARD_H
#define CRIA_RUN_GUARD_H

#include <jansson.h>

#include "config/config.h"

enum guard_verdict { GUARD_FINE, GUARD_WARN, GUARD_SKIP, GUARD_STOP };

struct guard {
    const struct config *config;
    double losses[CONFIG_SPIKE_WINDOW_MAX]; /* a ring of the last spike_window */
    int64_t count, next;
    int64_t skipped, in_a_row; /* steps left out: in all, and without a good one between */
};

void guard_init(struct guard *g, const struct config *config);

/* Of a step's loss. `why` gets "the loss is nan" or the like unless all is fine. */
enum guard_verdict guard_judge_loss(const struct guard *g, double loss, char *why, size_t size);
/* Of a norm that is not finite. */
enum guard_verdict guard_judge_norm(const struct guard *g, double norm, char *why, size_t size);

/* The step is over. GUARD_STOP when it was one left out too many, else `v` as it was. */
enum guard_verdict guard_note(struct guard *g, enum guard_verdict v, double loss);

/* To and from a checkpoint. ERR_MEMORY; ERR_FORMAT (`where` names the file). */
MUST_CHECK enum status guard_to_json(const struct guard *g, json_t *object, struct err *e);
MUST_CHECK enum status guard_from_json(struct guard *g, const json_t *object, const char *where,
                                       struct err *e);

#endif

/* align.h - micro-batches of preferences through an engine and the objective.
 *
 * Of each micro-batch: what the reference says of the replies, from the sidecar of an earlier pass
 * or from a pass now; the policy's forward; the loss and its gradient by every token; backward.
 *
 *     align_init(&a, &options, most, &e)
 *     align_train(&a, &g, &batch, &plan, ...)     gradients are added, sums too
 *     align_score(&a, &g, &batch, known, &sums)   forward only
 *     align_fill(&a, known, &g, loader, ...)      the reference, once for all epochs and runs
 *
 * An engine without a reference and no sidecar: the reference's log-probabilities count as 0, so
 * that rewards are beta times the policy's own (evaluation of a model that nothing is known of).
 *
 * The pass that fills a sidecar runs over the micro-batches of the first epoch, so there the
 * numbers are those of a pass now, to the last bit. In later epochs records lie in other
 * micro-batches, and a BLAS may sum another number of rows in another order: the last bits may
 * differ.
 */
#ifndef CRIA_RUN_ALIGN_H
#define CRIA_RUN_ALIGN_H

#include "data/store/reference.h"
#include "objective/preference.h"
#include "run/engine.h"

struct align {
    struct preference preference;
    struct preference_record *records; /* heap, [max_pairs] */
    float *dlogp;                      /* heap, [max_supervised] */
    struct preference_input input;     /* of the last micro-batch, until the next */
};

/* `options` must have passed preference_check; `most`: of all micro-batches to come. ERR_MEMORY. */
MUST_CHECK enum status align_init(struct align *a, const struct preference_options *options,
                                  const struct loader_limits *most, struct err *e);
void align_free(struct align *a); /* zeroed is fine */

/* What a step comes to, for its loss and its divisor. */
struct preference_step align_step(const struct align *a, const struct loader_step *plan);

/* One micro-batch of step `step` forward and backward. `known`: the reference's log-probabilities,
 * NULL: the reference runs. ERR_DEVICE, ERR_SHAPE; ERR_DATA: a record is not known. */
struct align_train {
    const struct loader_step *plan;
    uint64_t seed;
    int64_t step;
    const struct reference *known;
};
MUST_CHECK enum status align_train(struct align *a, struct engine *g, const struct batch *b,
                                   const struct align_train *t, struct preference_sums *sums,
                                   struct err *e);

/* Forward only, without dropout. Errors as above. */
MUST_CHECK enum status align_score(struct align *a, struct engine *g, const struct batch *b,
                                   const struct reference *known, struct preference_sums *sums,
                                   struct err *e);

/* Tokens of the replies in the last micro-batch, mismatched ones apart. */
int64_t align_reply_tokens(const struct align *a);

/* Who wants to see the reference's pass; `told` may be NULL. */
struct align_watcher {
    void *context;
    void (*told)(void *context, int64_t done, int64_t all);
};

/* Completes `known` with the records of the loader's first `steps` steps: what is there is left
 * alone, and what is done is saved twice a minute and at the end. *computed counts the records that
 * were missing. ERR_IO, ERR_DISK_FULL, ERR_FORMAT, ERR_MEMORY, ERR_DEVICE, ERR_SHAPE; ERR_DATA: a
 * log-probability is not finite. */
MUST_CHECK enum status align_fill(struct align *a, struct reference *known, struct engine *g,
                                  struct loader *loader, int64_t steps,
                                  const struct align_watcher *watcher, int64_t *computed,
                                  struct err *e);

#endif

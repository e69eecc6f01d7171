/* cross_entropy.h - masked next-token loss over what the head returns.
 *
 * loss = sum_s w_s (-logp_s) over all micro-batches of a step, divided once by
 *   token_mean:       the sum of all w_s of the step (SEMANTICS E, the default), or
 *   microbatch_mean:  each micro-batch's by its own sum of w_s, then by their number.
 * Gradients are summed unscaled; the division is the optimiser's `inv_weight`.
 */
#ifndef CRIA_OBJECTIVE_CROSS_ENTROPY_H
#define CRIA_OBJECTIVE_CROSS_ENTROPY_H

#include <stdint.h>

enum loss_reduction { LOSS_TOKEN_MEAN, LOSS_MICROBATCH_MEAN };

/* d(loss before the division)/d logp of a micro-batch: out[s] = -w_s, or -w_s / sum w. */
void cross_entropy_seed(enum loss_reduction reduction, const float *weights, int32_t S, float *out);

/* What a step, or an evaluation, adds up over micro-batches. Zero-initialise. */
struct cross_entropy_sums {
    double loss;    /* before the division */
    double weight;  /* what to divide by: see cross_entropy_divisor */
    double tokens;  /* sum of w_s */
    double hits;    /* sum of w_s where the target was the argmax */
    double entropy; /* sum of w_s entropy_s, if it was asked for */
};

void cross_entropy_add(struct cross_entropy_sums *sums, enum loss_reduction reduction,
                       const float *logp, const uint8_t *hit, const float *entropy,
                       const float *weights, int32_t S);

/* The one division of a step whose token weights sum to `weight`. */
double cross_entropy_divisor(enum loss_reduction reduction, double weight, int32_t micro_batches);

#endif

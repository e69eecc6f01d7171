/* sampler.h - the next token from logits.
 *
 * temperature 0 takes the largest logit (the first of equals). Otherwise logits are divided by the
 * temperature, then only the k largest stay (top_k > 0), then the smallest set whose probabilities
 * reach p (top_p < 1), in transformers' order; one of the rest is drawn by the number of (seed,
 * sequence, step), so a run can be repeated.
 */
#ifndef CRIA_RUN_SAMPLER_H
#define CRIA_RUN_SAMPLER_H

#include <stdint.h>

#include "base/status.h"

struct sampler_options {
    double temperature, top_p;
    int32_t top_k; /* 0: all */
    uint64_t seed;
};

struct sampler {
    struct sampler_options options;
    int32_t vocab;
    struct sampler_entry {
        float logit;
        int32_t id;
    } * entries; /* heap, [vocab] */
};

/* ERR_CONFIG: temperature below 0, top_p outside (0, 1], top_k below 0. ERR_MEMORY. */
MUST_CHECK enum status sampler_init(struct sampler *s, const struct sampler_options *o,
                                    int32_t vocab, struct err *e);
void sampler_free(struct sampler *s);

/* The id drawn for step `step` of sequence `sequence`. */
int32_t sampler_draw(struct sampler *s, const float *logits, uint64_t sequence, uint32_t step);

#endif

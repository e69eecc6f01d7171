/* sampler.h - the next token from logits.
 *
 * temperature 0 takes the largest logit (the first of equals). Otherwise logits are divided by the
 * temperature, then only the k largest stay (top_k > 0), then the smallest set whose probabilities
 * reach p (top_p < 1), in transformers' order; one of the rest is drawn by the number of (seed,
 * sequence, step), so a run can be repeated. The arithmetic is that of kernels/sampling.h: from the
 * same logits a device that samples by itself draws the same token.
 */
#ifndef CRIA_RUN_SAMPLER_H
#define CRIA_RUN_SAMPLER_H

#include "kernels/kernels.h"

struct sampler_options {
    double temperature, top_p;
    int32_t top_k; /* 0: all */
    uint64_t seed;
};

struct sampler {
    struct sampler_options options;
    int32_t vocab;
    struct sampler_entry {
        uint32_t key, weight;
        int32_t id;
    } * entries; /* heap, [vocab] */
};

/* ERR_CONFIG: temperature below 0, top_p outside (0, 1], top_k below 0. ERR_MEMORY. */
MUST_CHECK enum status sampler_init(struct sampler *s, const struct sampler_options *o,
                                    int32_t vocab, struct err *e);
void sampler_free(struct sampler *s);

/* What a device is asked for step `step` of sequence `sequence`. */
struct kern_sample sampler_request(const struct sampler *s, uint64_t sequence, uint32_t step);

/* The id drawn for step `step` of sequence `sequence`. */
int32_t sampler_draw(struct sampler *s, const float *logits, uint64_t sequence, uint32_t step);

#endif

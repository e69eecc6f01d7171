#include "objective/cross_entropy.h"

#include <stddef.h>

static double sum(const float *x, int32_t n)
{
    double s = 0;
    for (int32_t i = 0; i < n; i++) s += x[i];
    return s;
}

static double micro_batch_scale(enum loss_reduction reduction, const float *weights, int32_t S)
{
    double total = reduction == LOSS_MICROBATCH_MEAN ? sum(weights, S) : 1;
    return total > 0 ? 1 / total : 0;
}

void cross_entropy_seed(enum loss_reduction reduction, const float *weights, int32_t S, float *out)
{
    double scale = micro_batch_scale(reduction, weights, S);
    for (int32_t s = 0; s < S; s++) out[s] = (float)(-scale * weights[s]);
}

void cross_entropy_add(struct cross_entropy_sums *sums, enum loss_reduction reduction,
                       const float *logp, const uint8_t *hit, const float *entropy,
                       const float *weights, int32_t S)
{
    double scale = micro_batch_scale(reduction, weights, S), loss = 0;
    for (int32_t s = 0; s < S; s++) {
        loss -= (double)weights[s] * logp[s];
        sums->hits += hit[s] ? weights[s] : 0;
        if (entropy) sums->entropy += (double)weights[s] * entropy[s];
    }
    sums->loss += scale * loss;
    sums->tokens += sum(weights, S);
    sums->weight += reduction == LOSS_MICROBATCH_MEAN ? 1 : sum(weights, S);
}

double cross_entropy_divisor(enum loss_reduction reduction, double weight, int32_t micro_batches)
{
    return reduction == LOSS_MICROBATCH_MEAN ? micro_batches : weight;
}

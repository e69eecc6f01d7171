/* optimizer.h - one update of all trainable parameters.
 *
 * Gradients lie summed, unscaled, in the flat space. The norm is taken once over all of it, the
 * division by the step's weight and the clipping are one factor, and every parameter is updated by
 * AdamW with decay unless it is a norm or a bias (SEMANTICS H), its moments in fp32 or in 8 bits as
 * the parameter has them. A norm that is not finite changes nothing.
 */
#ifndef CRIA_OPTIM_OPTIMIZER_H
#define CRIA_OPTIM_OPTIMIZER_H

#include "autograd/param.h"

struct adamw_options {
    double beta1, beta2, eps, weight_decay;
    double max_grad_norm; /* 0: no clipping */
    uint64_t seed;        /* of the rounding of parameters without a master */
};

/* Device scratch for optimizer_step: the norm's, and its result. */
size_t optimizer_scratch(const struct device *d, const struct param_set *params);

/* Update t (1-based) with learning rate lr; the sum of gradients counts 1/divisor. `scratch` as
 * above. *grad_norm gets the norm before clipping (waits for the device). ERR_DEVICE; ERR_NUMERIC
 * when the norm is not finite: nothing was changed. */
MUST_CHECK enum status optimizer_step(struct device *d, struct param_set *params,
                                      const struct adamw_options *o, double lr, int64_t t,
                                      double divisor, void *scratch, double *grad_norm,
                                      struct err *e);

void optimizer_clear_gradients(struct device *d, struct param_set *params);

#endif

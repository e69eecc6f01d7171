#include "optim/optimizer.h"

#include <math.h>

#include "base/size.h"

#define RESULT_BYTES ARENA_ALIGN /* two floats, in front of the norm's scratch */

size_t optimizer_scratch(const struct device *d, const struct param_set *params)
{
    return RESULT_BYTES + d->k->grad_norm_scratch(d, params->flat_count);
}

static struct kern_adamw arguments(const struct param *p, const struct adamw_options *o, double lr,
                                   int64_t t, const float *scale)
{
    return (struct kern_adamw){
        .n = p->n,
        .param = p->master,
        .m = p->m,
        .v = p->v,
        .grad = p->grad,
        .scale = scale,
        .lr = (float)lr,
        .beta1 = (float)o->beta1,
        .beta2 = (float)o->beta2,
        .eps = (float)o->eps,
        .weight_decay = p->flags & PARAM_VECTOR ? 0 : (float)o->weight_decay,
        .bias1 = (float)(1 - pow(o->beta1, (double)t)),
        .bias2 = (float)(1 - pow(o->beta2, (double)t)),
        .data = p->data != (void *)p->master ? p->data : NULL,
        .rounding = rng_key(o->seed, RNG_ROUND, (uint64_t)t),
        .first = p->flat,
    };
}

enum status optimizer_step(struct device *d, struct param_set *params,
                           const struct adamw_options *o, double lr, int64_t t, double divisor,
                           void *scratch, double *grad_norm, struct err *e)
{
    float *result = scratch, norm;
    d->k->grad_norm(d, result, params->flat_grad, params->flat_count, (float)(1 / divisor),
                    (float)o->max_grad_norm, (char *)scratch + RESULT_BYTES);
    for (int32_t i = 0; i < params->count; i++) {
        const struct param *p = &params->params[i];
        if (!p->trainable) continue;
        struct kern_adamw_8bit k = {.a = arguments(p, o, lr, t, result + 1),
                                    .m = p->m_code,
                                    .v = p->v_code,
                                    .m_max = p->m_max,
                                    .v_max = p->v_max};
        if (p->m_code)
            d->k->adamw_8bit(d, &k);
        else
            d->k->adamw(d, &k.a);
    }
    d->k->download(d, &norm, result, sizeof norm);
    *grad_norm = norm;
    TRY(d->k->sync(d, e));
    if (!isfinite(norm)) return err_set(e, ERR_NUMERIC, "the gradient's norm is %g", norm);
    return OK;
}

void optimizer_clear_gradients(struct device *d, struct param_set *params)
{
    d->k->zero(d, params->flat_grad, params->flat_count * sizeof(float));
}

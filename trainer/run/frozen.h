/* frozen.h - a second value of some parameters, to which a recording can be changed over.
 *
 * The reference model of an alignment is the policy as it was, or another one of the same shape. It
 * needs memory only for what differs from the policy: with an adapter that is what the adapter
 * trains, with full fine-tuning everything. The copies lie as the parameters do, joined ones
 * together, and have neither gradient nor master.
 *
 *     frozen_create(&f, &params, wanted, &e); frozen_place(&f, d, arena)
 *     frozen_keep(&f, d)      the values of this moment are the copies from now on
 *     frozen_swap(&f)         what is recorded and run until the next frozen_swap has the copies
 */
#ifndef CRIA_RUN_FROZEN_H
#define CRIA_RUN_FROZEN_H

#include "autograd/param.h"

struct frozen {
    struct param_set *params;
    struct frozen_copy {
        int32_t param;
        void *data;
        float *master; /* set aside while the copies are in use */
    } * copies;        /* heap, [count], ascending */
    int32_t count;
};

/* Of the parameters that `wanted` (nonzero) picks; joined ones must be picked together. ERR_MEMORY.
 */
MUST_CHECK enum status frozen_create(struct frozen *f, struct param_set *params,
                                     int (*wanted)(const void *context, const struct param *p),
                                     const void *context, struct err *e);
void frozen_free(struct frozen *f); /* zeroed is fine */

/* Takes the copies' memory, in the parameters' order. */
void frozen_place(struct frozen *f, const struct device *d, struct arena *arena);

void frozen_keep(struct frozen *f, struct device *d);
void frozen_swap(struct frozen *f);

#endif

/* slot.h - the place a model leaves in every linear for somebody to add to it.
 *
 * The model describes each product (which projections it is made of, their paths and columns) and
 * calls `apply` behind it. The adapter room fills the slots; neither includes the other.
 */
#ifndef CRIA_AUTOGRAD_SLOT_H
#define CRIA_AUTOGRAD_SLOT_H

#include "autograd/tape.h"

#define SLOT_PARTS 3
#define SLOT_PATH_MAX 96

struct linear_slot {
    int32_t id; /* 0 ... number of slots - 1 */
    int32_t in; /* features of x */
    int32_t num_parts;
    struct slot_part {
        char path[SLOT_PATH_MAX]; /* "model.layers.3.self_attn.q_proj" */
        int32_t first, out;       /* columns of y */
        int32_t param;            /* index of its weight in the parameter set */
    } parts[SLOT_PARTS];
};

struct slot_filler {
    void *context;
    /* Records y += something(x); returns y under its new name, or y itself. NULL: nothing to add */
    struct tensor *(*apply)(void *context, struct tape *t, const struct linear_slot *slot,
                            struct tensor *x, struct tensor *y);
};

#endif

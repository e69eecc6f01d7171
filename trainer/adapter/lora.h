/* lora.h - low-rank adapters in the slots of a model.
 *
 * y = W x + s B A drop(x), s = alpha / r, or alpha / sqrt(r) for rsLoRA (Hu et al. 2021, eq. 3;
 * Kalajdzievski 2023). A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0. The A of projections that share
 * an input lie stacked, so that x is read once for all of them. A and B are fp32 on every device.
 *
 *     lora_create(&l, slots, n, &options, &params, &e)   adds the parameters
 *     param_set_place; lora_bind(&l)                     pointers
 *     call.filler = &(lora_filler(&l))                   the model records them
 */
#ifndef CRIA_ADAPTER_LORA_H
#define CRIA_ADAPTER_LORA_H

#include "autograd/ops.h"
#include "autograd/param.h"
#include "autograd/slot.h"

struct lora_options {
    int32_t r;
    double alpha, dropout;
    int rslora;
    const char *const *targets; /* last components of paths ("q_proj") or whole paths; */
    size_t num_targets;         /* 0: every linear of the blocks ("all-linear") */
    /* what else an adapter trains and holds; not looked at here */
    const char *const *saved; /* modules trained whole (saved.h) */
    size_t num_saved;
    const int32_t *tokens; /* ids of rows trained (rows.h) */
    size_t num_tokens;
    int embedding_alone; /* not those of a head of its own */
};

struct lora {
    struct lora_options options; /* targets: the caller's, must outlive this */
    struct param_set *params;
    const struct linear_slot *slots;
    int32_t num_slots;
    struct lora_slot {
        int32_t a; /* parameter of the first stacked A; -1: nothing here */
        int32_t num_parts;
        struct kern_lora_part parts[SLOT_PARTS];
        int32_t b[SLOT_PARTS];    /* parameter of each B */
        int32_t part[SLOT_PARTS]; /* which part of the slot it adapts */
    } * filled;                   /* heap, [num_slots] */
    struct kern_dropout dropout;
};

/* ERR_CONFIG: r below 1, dropout outside [0, 1), a target that names no linear (the hint lists
 * them). ERR_MEMORY, ERR_SHAPE. */
MUST_CHECK enum status lora_create(struct lora *l, const struct linear_slot *slots,
                                   int32_t num_slots, const struct lora_options *options,
                                   struct param_set *params, struct err *e);
void lora_free(struct lora *l);

/* After param_set_place. */
void lora_bind(struct lora *l);

/* Initial values of every A and B, from (seed, name). ERR_MEMORY. */
MUST_CHECK enum status lora_init_weights(struct lora *l, struct device *d, uint64_t seed,
                                         struct err *e);

/* For recordings from now on: drop with options.dropout under the key that lies at *key of the
 * device's memory when they run, or not at all (evaluation). */
void lora_set_dropout(struct lora *l, const struct rng_key *key, const struct tokens *tokens);
void lora_clear_dropout(struct lora *l);

struct slot_filler lora_filler(struct lora *l);

/* W += s B A for every adapted weight, in fp32. For devices of type fp32. ERR_MEMORY. */
MUST_CHECK enum status lora_merge(const struct lora *l, struct device *d, struct err *e);

#define LORA_PREFIX "base_model.model."
#define LORA_A_SUFFIX ".lora_A.weight"
#define LORA_B_SUFFIX ".lora_B.weight"

#endif

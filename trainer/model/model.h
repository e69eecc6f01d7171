/* model.h - a Llama-family transformer as parameters and as a recording.
 *
 * Names and shapes of the weights are one table (weights.c); the block is one function (model.c):
 *
 *     h = norm(x) -> q, k, v (one product) -> [head norm] -> rope -> attention -> x + o_proj
 *     h = norm(x) -> gate, up (one product) -> swiglu -> x + down_proj
 *
 * The residual is added by the product that ends each half (`addend`), so a block's border
 * is crossed by one tensor. Every product leaves a slot for an adapter.
 *
 *     model_create(&m, &config, &params, &e)   adds the parameters, makes the slots
 *     param_set_place; model_place             memory
 *     hidden = model_forward(&m, tape, &tokens, &call)
 */
#ifndef CRIA_MODEL_MODEL_H
#define CRIA_MODEL_MODEL_H

#include "autograd/ops.h"
#include "autograd/param.h"
#include "autograd/slot.h"
#include "model/hf_config.h"
#include "model/weights.h"

enum model_slot { SLOT_QKV, SLOT_O, SLOT_GATE_UP, SLOT_DOWN, SLOTS_PER_LAYER };

struct model {
    const struct model_config *config;   /* the caller's, must outlive the model */
    struct param_set *params;            /* likewise */
    int32_t embedding, final_norm, head; /* parameter indices; head == embedding when tied */
    struct layer_params {
        int32_t at[NUM_LAYER_WEIGHTS]; /* -1: this model has none */
    } * layers;                        /* heap, [num_layers] */
    struct linear_slot *slots;         /* heap, [num_layers * SLOTS_PER_LAYER] */
    float *rope_table;                 /* device [rope_positions, head_dim] */
    int32_t rope_positions;
};

/* Adds all parameters to `params`. ERR_MEMORY, ERR_SHAPE. */
MUST_CHECK enum status model_create(struct model *m, const struct model_config *config,
                                    struct param_set *params, struct err *e);
void model_free(struct model *m);

int32_t model_num_slots(const struct model *m);

/* Takes the rotary table for positions 0 ... positions-1 from the run arena. */
void model_place(struct model *m, int32_t positions, struct arena *arena);
/* Fills it; after the arena has memory. ERR_MEMORY. */
MUST_CHECK enum status model_fill_rope(struct model *m, struct device *d, struct err *e);

/* Weights as transformers initialises a new model: matrices N(0, initializer_range), norms 1,
 * biases 0, from (seed, name). To masters and data. ERR_MEMORY. */
MUST_CHECK enum status model_init_weights(struct model *m, struct device *d, uint64_t seed,
                                          struct err *e);

/* How many blocks are recomputed in which way: the first `offload` ones, then `full` ones, then
 * `selective` ones; the rest keep everything. In backward the last blocks come first and give back
 * what they kept, so a block pays the more the earlier it stands. */
struct model_recompute {
    int32_t offload, full, selective;
};

enum recompute model_recompute_of(const struct model_recompute *r, int32_t layer);

/* How one recording runs through the model. */
struct model_call {
    struct model_recompute recompute; /* of a recording with backward */
    const struct slot_filler *filler; /* NULL: the base alone */
    struct kv_cache *caches;          /* [num_layers] for decoding; NULL */
    const struct param_rows *rows;    /* of embedding and head that are trained; NULL: none */
};

/* [N, C] behind the final norm, ready for op_head. NULL: see tape_status. */
struct tensor *model_forward(const struct model *m, struct tape *t, const struct tokens *tokens,
                             const struct model_call *call);
/* The head's weight [V, C]. */
struct tensor *model_head(const struct model *m, struct tape *t);

/* Nodes a recording of this model has at most, head included. */
int32_t model_tape_nodes(const struct model_config *c);

/* FLOPs of the base products for one token forward (2 per multiply-add), the head apart. */
double model_flops_per_token(const struct model_config *c);

#endif

/* ops.h - the ops of a transformer, one call each.
 *
 * Recording only: shapes are checked here, numbers are made by tape_forward. The formulas, what
 * each op keeps for its backward and its kernels are one table in ops.c. Shapes are [rows, cols]; N
 * is the number of rows of the micro-batch. On a shape error the op returns NULL and the tape keeps
 * the message.
 */
#ifndef CRIA_AUTOGRAD_OPS_H
#define CRIA_AUTOGRAD_OPS_H

#include "autograd/tape.h"

/* What a micro-batch is made of, on the device; must live until the tape is reset. */
struct tokens {
    int32_t N;
    const int32_t *ids;       /* [N] */
    const int32_t *positions; /* [N] */
    const int32_t *documents; /* [N] for dropout; NULL without */
    const struct segment *segments;
    int32_t num_segments;
    const int32_t *slots; /* [N] which of the trained rows an id is, -1: none; NULL without any */
    int32_t longest; /* rows of the longest segment, if no segment has a prefix; 0: not known */
};

/* table [V, C] -> [N, C] */
struct tensor *op_embedding(struct tape *t, struct tensor *table, const struct tokens *tokens);

/* The same; of the table's gradient only the rows [count, C] named by tokens->slots, which are a
 * parameter (param_rows). */
struct tensor *op_embedding_rows(struct tape *t, struct tensor *table, struct tensor *rows,
                                 const struct tokens *tokens);

/* RMSNorm of each group of cols/groups columns; w [1, cols/groups]. [N, cols] -> [N, cols] */
struct tensor *op_norm(struct tape *t, struct tensor *x, struct tensor *w, int32_t groups,
                       float eps);

/* Rotary embedding, in place, of groups heads of cols/groups; table [positions, cols/groups] as in
 * kernels.h, a device pointer. */
struct tensor *op_rope(struct tape *t, struct tensor *x, const float *table,
                       const struct tokens *tokens, int32_t groups);

/* x [N, I], w [O, I], bias [1, O] or NULL, addend [N, O] or NULL -> [N, O].
 * An addend that needs a gradient must not be used after this. */
struct tensor *op_linear(struct tape *t, struct tensor *x, struct tensor *w, struct tensor *bias,
                         struct tensor *addend);

/* In place: y += adapter(x). `a` [R, I] float, b through lora->parts; of `lora` the fields R,
 * parts, num_parts and dropout are read. `da` follows a's grad. Returns y under its new name. */
struct tensor *op_lora(struct tape *t, struct tensor *x, struct tensor *y, struct tensor *a,
                       const struct kern_lora *lora);

/* Keys and values already computed, for decoding: rows 0 ... length-1 are filled. */
struct kv_cache {
    void *k, *v;    /* device [capacity, KV*D] */
    int32_t length; /* rows filled before this micro-batch */
};

struct attention_shape {
    int32_t heads, kv_heads, head_size;
    int32_t window; /* 0: all */
    float scale;
};

/* q [N, H*D], k and v [N, KV*D] -> [N, H*D]. With a cache, which allows no backward, k and v are
 * first put behind its rows and tokens->segments count rows within it. */
struct tensor *op_attention(struct tape *t, struct tensor *q, struct tensor *k, struct tensor *v,
                            const struct attention_shape *shape, const struct tokens *tokens,
                            const struct kv_cache *cache);

/* silu(gate) * up, both [N, F] */
struct tensor *op_swiglu(struct tape *t, struct tensor *gate, struct tensor *up);

/* The head over supervised rows (contract: struct kern_head). */
struct head_request {
    int32_t S;
    const int32_t *rows, *targets; /* device [S]; rows ascending, none twice */
    const float *dlogp;            /* device [S]: the seed, if known when forward runs; else NULL */
    int want_spread;               /* entropy and sum_p2 too */
    struct tensor *trained; /* NULL: w's gradient is whole. Else a parameter [num_trained, C] */
    const int32_t *trained_rows; /* whose rows stand for these of w: device, ascending */
};
struct head_result {      /* all kept until the step is over */
    struct tensor *logp;  /* [1, S] float: seed tape_backward with its gradient */
    struct tensor *stats; /* [4, S] float, rows by enum head_stat */
    struct tensor *hit;   /* [1, S] bytes */
};
enum head_stat { HEAD_LSE, HEAD_MEAN_LOGIT, HEAD_ENTROPY, HEAD_SUM_P2 };
struct head_result op_head(struct tape *t, struct tensor *x, struct tensor *w,
                           const struct head_request *request);

extern const struct op *const op_table[]; /* NULL-terminated */

#endif

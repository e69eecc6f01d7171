/* profile.h - what a device is asked to do, how long it takes, and how long it would have to.
 *
 *     profile_attach(&p, &device);     the device's table becomes a copy that keeps times
 *     ... steps as ever; profile_end(&device, ..., profile_begin(&device)) around host work ...
 *     profile_detach(&p, &device);     the table is the old one again
 *     profile_sum(&p, &rates, rows);   one row an op
 *
 * Every timed call leaves a record: which op, when, for how long, its arithmetic and its bytes, and
 * of a base product the shape and the operands, so that the products of a step can be run again by
 * themselves (kernels/bench/replay.c). Results do not change: the entries below are called with
 * what the caller gave. Detached, nothing of this is in the way.
 *
 * The floor of a call is its arithmetic at the rate of the device's products, or its bytes at the
 * rate of a large pass, whichever takes longer. Bytes are those of operands that a cache holds
 * nothing of; what does stay in a cache can be faster than its floor.
 *
 * Times are the clock's around a call, since the CPU computes within it. An entry of the table that
 * has no row in profile.c runs untimed and is found in what is not accounted for.
 */
#ifndef CRIA_KERNELS_PROFILE_H
#define CRIA_KERNELS_PROFILE_H

#include "kernels/kernels.h"

/* name, text. The last three are the host's: profile_begin and profile_end. */
#define PROFILE_OPS(X)                                \
    X(linear_forward, "linear forward")               \
    X(linear_by_input, "linear backward, by input")   \
    X(linear_by_weight, "linear backward, by weight") \
    X(linear_bias, "linear backward, bias")           \
    X(head_forward, "head and loss")                  \
    X(head_backward, "head backward")                 \
    X(attention_forward, "attention forward")         \
    X(attention_backward, "attention backward")       \
    X(lora_forward, "LoRA forward")                   \
    X(lora_backward, "LoRA backward")                 \
    X(norm_forward, "norm forward")                   \
    X(norm_backward, "norm backward")                 \
    X(rope, "rotary embedding")                       \
    X(swiglu_forward, "SwiGLU forward")               \
    X(swiglu_backward, "SwiGLU backward")             \
    X(embedding, "embedding")                         \
    X(grad_norm, "gradient norm")                     \
    X(adamw, "AdamW")                                 \
    X(copy, "copies and zeros")                       \
    X(data, "data: documents to a micro-batch")       \
    X(record, "recording and binding the tape")       \
    X(log, "log and progress line")

enum profile_op {
#define X(name, text) PROFILE_##name,
    PROFILE_OPS(X)
#undef X
        NUM_PROFILE_OPS
};

const char *profile_op_name(enum profile_op op);
const char *profile_op_text(enum profile_op op);

/* y [N, O] of x [N, I] and w [O, I], or a gradient of it: then y is dy and what is written is dx in
 * the place of x, or dw in that of w. The head takes `chunk` rows and `words` of the
 * vocabulary at once through its scratch. */
struct profile_product {
    int32_t N, I, O;
    int32_t chunk; /* 0: not the head */
    int32_t words;
    int32_t accumulate; /* the result is added to */
    int32_t ldx, ldy;   /* row strides */
    const void *x, *w, *y;
    const void *dx, *dw; /* the head's gradients; NULL: not wanted */
};

struct profile_call {
    enum profile_op op;
    double began, seconds; /* clock_seconds */
    double flops, bytes;
    struct profile_product product; /* of linear ops and the head; else zero */
};

struct profile {
    struct kernels table; /* first: a device's table leads back here */
    const struct kernels *inner;
    struct profile_call *calls; /* heap */
    size_t count, room;
    int failed; /* calls were lost for want of memory */
};

/* What the device sustains, measured. */
struct profile_rates {
    double flops, bytes; /* a second */
};

struct profile_row {
    int64_t calls;
    double seconds, flops, bytes;
    double floor;   /* seconds: the sum over calls */
    int arithmetic; /* which of the two most of the floor is; else bytes */
};

/* ERR_MEMORY. Then detach and free are not due. */
MUST_CHECK enum status profile_attach(struct profile *p, struct device *d, struct err *e);
void profile_detach(struct profile *p, struct device *d); /* the calls stay */
void profile_free(struct profile *p);                     /* zeroed is fine */

/* Around work of the host, of one of the host's ops. Nothing where none is attached. */
double profile_begin(const struct device *d);
void profile_end(const struct device *d, enum profile_op op, double began);

/* rows[NUM_PROFILE_OPS] over all calls. */
void profile_sum(const struct profile *p, const struct profile_rates *r, struct profile_row *rows);

#endif

/* profile.h - what a device is asked to do, how long it takes, and how long it would have to.
 *
 *     profile_attach(&p, &device);     the device's table becomes a copy that keeps times
 *     profile_set_step(&p, 0)            what comes is of the first step; -1: of none
 *     ... steps as ever; profile_end(&device, ..., profile_begin(&device)) around host work ...
 *     profile_collect(&p, &device)     behind each step: the device's own times
 *     profile_detach(&p, &device);     the table is the old one again
 *     profile_sum(&p, &rates, rows);   one row an op
 *
 * Every timed call leaves a record: which op, when, for how long, its arithmetic and its bytes, and
 * of a base product the shape and the operands, so that the products of a step can be run again by
 * themselves (kernels/bench/replay.c). Results do not change: the entries below are called with
 * what the caller gave. Detached, nothing of this is in the way.
 *
 * Whose clock. A CPU computes within the call, and times are the clock's around it. A device that
 * computes behind the host's back has a clock of its own (`trace` in kernels.h): then a call's time
 * is that of the kernels, products and copies that it queued in the compute stream, and the clock's
 * around the call is what the host took to queue them. Of host work the clock's is all there is.
 *
 * Scopes (forward, block 3, ...) nest around calls; with or without a profile they are ranges for
 * the vendor's tools where the device has such.
 *
 * The floor of a call is its arithmetic at the rate of the device's products, or its bytes at the
 * rate of a large pass, whichever takes longer. Bytes are those of operands that a cache holds
 * nothing of; what does stay in a cache can be faster than its floor.
 *
 * An entry of the table that has no row in profile.c runs untimed and is found in what is not
 * accounted for.
 */
#ifndef CRIA_KERNELS_PROFILE_H
#define CRIA_KERNELS_PROFILE_H

#include "kernels/kernels.h"

/* name, text. From `data` on they are the host's: profile_begin and profile_end. */
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
static inline int profile_op_of_host(enum profile_op op) { return op >= PROFILE_data; }

/* name, text; a number is set behind the text of those that have one */
#define PROFILE_SCOPES(X)       \
    X(step, "step")             \
    X(load, "data")             \
    X(upload, "upload")         \
    X(forward, "forward")       \
    X(backward, "backward")     \
    X(recompute, "recompute")   \
    X(block, "block")           \
    X(metrics, "metrics")       \
    X(optimiser, "optimiser")   \
    X(evaluation, "evaluation") \
    X(checkpoint, "checkpoint")

enum profile_scope {
#define X(name, text) SCOPE_##name,
    PROFILE_SCOPES(X)
#undef X
        NUM_PROFILE_SCOPES
};

const char *profile_scope_text(enum profile_scope scope);

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

/* Spans of the device [first, last): what was queued meanwhile. */
struct profile_queued {
    size_t first, last;
};

struct profile_call {
    enum profile_op op;
    int32_t step;       /* -1: between steps */
    double began, host; /* clock_seconds at the call, and what it took */
    double seconds;     /* the op's time, by whose clock it may be */
    struct profile_queued queued;
    double flops, bytes;
    struct profile_product product; /* of linear ops and the head; else zero */
};

struct profile_scoped {
    enum profile_scope scope;
    int32_t number, step; /* number -1: none */
    double began, seconds;
    struct profile_queued queued;
};

enum { PROFILE_DEPTH = 8 };

struct profile {
    struct kernels table; /* first: a device's table leads back here */
    const struct kernels *inner;
    struct profile_call *calls;    /* heap */
    struct profile_scoped *scopes; /* heap, in the order of their beginning */
    struct kern_span *spans;       /* heap, in the order of queueing; a device with a clock */
    size_t count, room, num_scopes, scope_room, num_spans, span_room;
    size_t collected;           /* calls whose times are known */
    size_t open[PROFILE_DEPTH]; /* scopes begun and not ended */
    int depth;
    int32_t step;
    const struct segment *segments; /* of the micro-batch; NULL: those of the call */
    int32_t num_segments;
    int failed; /* calls were lost for want of memory */
};

/* What the device sustains, measured. */
struct profile_rates {
    double flops, bytes; /* a second */
};

struct profile_row {
    int64_t calls;
    double seconds, host, flops, bytes; /* host: of the clock around the calls */
    double floor;                       /* seconds: the sum over calls */
    int arithmetic;                     /* which of the two most of the floor is; else bytes */
};

/* The pieces of work of one name that an op consists of. */
struct profile_kernel {
    enum profile_op op;
    const char *name; /* the profile's */
    int64_t count;
    double seconds;
};

/* ERR_MEMORY, ERR_DEVICE. Then detach and free are not due. */
MUST_CHECK enum status profile_attach(struct profile *p, struct device *d, struct err *e);
void profile_detach(struct profile *p, struct device *d); /* the calls stay */
void profile_free(struct profile *p);                     /* zeroed is fine */

/* What is recorded from now on belongs to this step. */
void profile_set_step(struct profile *p, int32_t step);

/* Waits for the device and takes in its times since the last time. ERR_DEVICE, ERR_MEMORY. */
MUST_CHECK enum status profile_collect(struct profile *p, struct device *d, struct err *e);

/* Whether the device has a clock of its own. */
int profile_has_clock(const struct profile *p);

/* The table without times; of one that is not attached, its table. */
const struct kernels *profile_inner(const struct device *d);

/* Around work of the host, of one of the host's ops. Nothing where none is attached. */
double profile_begin(const struct device *d);
void profile_end(const struct device *d, enum profile_op op, double began);

/* Around whatever belongs together; `number` -1: it has none. */
void profile_enter(struct device *d, enum profile_scope scope, int32_t number);
void profile_leave(struct device *d);

/* The host's copy of the micro-batch's segments, from which attention's work is counted where the
 * call has them in a memory of the device's own; it lives until the next one is told. */
void profile_segments(const struct device *d, const struct segment *segments, int32_t count);

/* rows[NUM_PROFILE_OPS] over the calls of all steps. */
void profile_sum(const struct profile *p, const struct profile_rates *r, struct profile_row *rows);

/* What ops of all steps consist of, up to `room` kinds; returns how many there are of these. What
 * does not find room is counted in the last one, under the name "others". */
size_t profile_kernels(const struct profile *p, struct profile_kernel *out, size_t room);

#endif

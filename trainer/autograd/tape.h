/* tape.h - reverse-mode automatic differentiation over fused ops.
 *
 * The whole of it:
 *
 *     tape_reset(t);
 *     x = op_embedding(t, table, &tokens);          recording an op computes nothing:
 *     y = op_norm(t, x, w, 1, 1e-5f);               it checks shapes and notes a node
 *     ...
 *     tape_plan(t, &plan, &e);                      lifetimes -> offsets, once
 *     tape_bind(t, &plan, step, scratch, &e);       tensors get their addresses
 *     tape_forward(t);  tape_backward(t, y, seed);  run the nodes forth and back
 *
 * A tensor is a matrix [rows, cols]. It lives from the first node that writes it to the last
 * that reads it, backward included; two tensors whose lives do not meet may share memory.
 * The recording of every micro-batch makes the same nodes with other row counts, so a plan made for
 * the largest serves all, and a step allocates nothing.
 *
 * Errors while recording stick: the first one is kept, the op returns NULL, and ops given
 * NULL return NULL. Look once, with tape_status.
 *
 * Shared memory. A view is a block of columns of another tensor. An op marked "in place" changes
 * its input and returns it under a new name; the old name must not be used again. The views of
 * a tensor that is to get a gradient must cover all its columns.
 *
 * Gradients. Parameters accumulate theirs in fp32 over micro-batches; the caller clears them.
 * A value's first contribution overwrites, later ones add. A residual stream (`addend` of
 * op_linear) keeps one gradient buffer from end to end.
 *
 * Regions. Nodes between tape_region_begin and _end form a region (a block), and `enum recompute`
 * says how much of it is kept for backward. What is not kept is made again by running its nodes
 * again, as few as backward wants: all that are wanted when a full one is entered, one by one in a
 * selective one. What crosses a region's border is kept, but for the inputs of offloaded ones.
 * Hooks are told when a region is entered and left, in either direction, so that weights can be
 * gathered and released around it; a selective region's nodes run again inside its backward.
 *
 * Offloading. The copy of an offloaded region's inputs to the host begins when the region is
 * entered, and their memory is free when it is left. Backward begins to bring them back when it
 * enters the region behind, so the last region's stay, and on the device there are two regions'
 * inputs at most, however many regions there are. A device without copies beside its work
 * (kernels.h: copy_out) treats offloaded regions as full ones.
 */
#ifndef CRIA_AUTOGRAD_TAPE_H
#define CRIA_AUTOGRAD_TAPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "kernels/kernels.h"

#define TAPE_INS 4
#define TAPE_OUTS 4

/* What of a region backward makes again, cheapest first. The same bits come of all of them. */
#define RECOMPUTE_TABLE(X)                                                                 \
    X(NONE, "none", "all that backward reads is kept")                                     \
    X(SELECTIVE, "selective", "what ops that only pass over memory made, when it is read") \
    X(FULL, "full", "everything inside, in one go")                                        \
    X(OFFLOAD, "offload", "the same, and its inputs wait in the host's memory")

enum recompute {
#define X(name, word, text) RECOMPUTE_##name,
    RECOMPUTE_TABLE(X)
#undef X
        NUM_RECOMPUTE
};

enum element { ELEMENT_DEVICE, ELEMENT_FLOAT, ELEMENT_BYTE }; /* DEVICE: the device's type */

/* Valid until the next tape_reset. Fields are for ops and for reading. */
struct tensor {
    int32_t rows, cols, ld;
    enum element element;
    int32_t id;       /* position in the tape */
    int32_t producer; /* node; -1: a parameter */
    int needs_grad;
    int is_param;
    const char *name;           /* parameters: lives as long as they do; else NULL */
    struct tensor *memory;      /* whose data this is a part of; itself if its own */
    struct tensor *grad_memory; /* whose gradient buffer this one uses */
    int32_t column;             /* first column within memory */
    void *data, *grad; /* bound addresses; a parameter's gradient is float, NULL = frozen */
    int grad_set;      /* backward: something was written to grad */
    int keep;          /* the caller reads it after the step: see tape_keep */
    int is_view;
};

struct node;
struct tape;

/* One row of the op table. Callbacks see a bound node. */
struct op {
    const char *name, *formula;
    int in_place; /* input that the first output replaces, or -1 */
    int addend;   /* input whose gradient buffer the first output shares, or -1 */
    int cheap;    /* passes over memory only: a selective region does not keep its first output */
    void (*forward)(struct tape *t, struct node *n);
    void (*backward)(struct tape *t, struct node *n);
    unsigned (*saves)(const struct node *n); /* SAVE_IN(i) | SAVE_OUT(j): data backward reads */
    size_t (*scratch)(const struct tape *t, const struct node *n); /* bytes, the larger of both
                                                                      ways; NULL: none */
};

#define SAVE_IN(i) (1u << (i))
#define SAVE_OUT(j) (1u << (8 + (j)))

struct node {
    const struct op *op;
    struct tensor *in[TAPE_INS]; /* NULL: absent */
    struct tensor *out[TAPE_OUTS];
    void *attr;     /* the op's own, tape memory */
    int32_t region; /* -1: none */
};

enum tape_pass { PASS_FORWARD, PASS_RECOMPUTE, PASS_BACKWARD };

struct tape_hooks {
    void *context;
    void (*enter)(void *context, int32_t region, enum tape_pass pass); /* each may be NULL */
    void (*leave)(void *context, int32_t region, enum tape_pass pass);
};

/* ERR_MEMORY. `max_nodes` bounds every recording; going over it is an error of the recording. */
MUST_CHECK enum status tape_create(struct tape **out, struct device *device, int32_t max_nodes,
                                   struct err *e);
void tape_destroy(struct tape *t);
void tape_set_hooks(struct tape *t, struct tape_hooks hooks);

/* Forgets the recording. with_backward: whether values will need gradients at all. */
void tape_reset(struct tape *t, int with_backward);
MUST_CHECK enum status tape_status(const struct tape *t,
                                   struct err *e); /* the first recording error */
struct device *tape_device(const struct tape *t);
int tape_has_backward(const struct tape *t);

/* A matrix of the caller's: data of `element` type; trainable: with a float grad, which may still
 * be NULL where only a plan is made. */
struct tensor *tape_param(struct tape *t, const char *name, void *data, float *grad, int trainable,
                          int32_t rows, int32_t cols, enum element element);
/* Columns [column, column + cols) of x. */
struct tensor *tape_view(struct tape *t, struct tensor *x, int32_t column, int32_t cols);

/* The caller reads x when the step is over: nothing else may use its memory. Returns x. */
struct tensor *tape_keep(struct tensor *x);

int32_t tape_region_begin(struct tape *t, enum recompute how); /* returns the region's number */
void tape_region_end(struct tape *t);

/* --- plan.c: memory --- */

/* Lifetimes of a recording, and the offsets made from them. Zero-initialise. */
struct tape_plan {
    int32_t num_buffers;
    struct tape_buffer {
        size_t bytes, offset;
        int32_t first, last; /* ticks; first < 0: never used */
    } * buffers;             /* heap */
    size_t step_bytes;       /* of the step arena */
    size_t scratch_bytes;    /* of the scratch arena */
    size_t host_bytes;       /* of the host's memory for offloaded inputs */
};

/* Plans the present recording. ERR_MEMORY, or the recording's own error. */
MUST_CHECK enum status tape_plan(struct tape *t, struct tape_plan *plan, struct err *e);
void tape_plan_free(struct tape_plan *plan);

/* Gives addresses to the present recording, which has the same nodes as the planned one and no
 * tensor larger than there; otherwise ERR_SHAPE (a bug of the caller's). `step` and `scratch` hold
 * plan->step_bytes and plan->scratch_bytes. */
MUST_CHECK enum status tape_bind(struct tape *t, const struct tape_plan *plan, void *step,
                                 void *scratch, struct err *e);

/* Where offloaded inputs wait from now on: plan->host_bytes of the device's host_alloc. */
void tape_set_host(struct tape *t, void *host);

/* --- running --- */
void tape_forward(struct tape *t);
/* d(sum of seed * root) by every parameter, added to their grads. seed: device floats shaped like
 * root, which must be of ELEMENT_FLOAT; read until this returns (or, queued, runs). */
void tape_backward(struct tape *t, struct tensor *root, float *seed);

/* --- dump.c --- */
/* Nodes first ... last-1 as text, one a line: outputs, formula, shapes, what backward keeps.
 * last < 0: all. ERR_MEMORY. */
MUST_CHECK enum status tape_print(const struct tape *t, int32_t first, int32_t last,
                                  struct buf *out);

/* --- gradcheck.c --- */
/* Compares tape_backward with central differences for `samples` elements of each parameter in
 * a graph. `record` records the graph on a fresh tape and returns a float tensor (the seed is made
 * here). CPU devices only. *worst gets max |analytic - numeric| / (|numeric| + floor). ERR_*: as
 * recorded. */
struct gradcheck_param {
    const char *name;
    float *data, *grad;
    size_t n;
};
MUST_CHECK enum status tape_gradcheck(struct device *device,
                                      struct tensor *(*record)(struct tape *t, void *context),
                                      void *context, const struct gradcheck_param *params,
                                      int num_params, int samples, double step, double *worst,
                                      struct err *e);

/* --- for ops --- */
struct node *tape_node(struct tape *t, const struct op *op,
                       size_t attr_bytes); /* NULL: see status */
/* A new output of `n`; needs_grad is set if any input so far needs it. */
struct tensor *tape_output(struct tape *t, struct node *n, int j, int32_t rows, int32_t cols,
                           enum element element);
/* Output j that is input `n->op->in_place` under a new name. */
struct tensor *tape_output_in_place(struct tape *t, struct node *n, int j);
/* Records a shape error, "op: message"; returns NULL. */
struct tensor *tape_fail(struct tape *t, const char *op, const char *fmt, ...) PRINTF_LIKE(3, 4);
void *tape_scratch(const struct tape *t);
size_t tape_element_size(const struct tape *t, enum element element);

#endif

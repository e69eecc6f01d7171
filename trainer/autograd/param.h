/* param.h - the named weights of a run, and where they lie.
 *
 * A parameter is [rows, cols] with its Hugging Face name. Frozen ones have data only, in the
 * device's type. Trainable ones also have an fp32 master and gradient, each at the same place of
 * one flat space, so that the norm walks straight through memory, and two moments.
 * On a device of type fp32, data is the master. Adapters (PARAM_FLOAT) are fp32 everywhere.
 *
 * PARAM_JOINED lays a parameter right behind the one before it: q, k and v become one matrix for
 * one product, and stay three names in files.
 *
 * Moments of 8 bits (PARAM_MOMENTS_8BIT) are codes in blocks (kernels/codes.h), one
 * byte an element instead of four. They are used where bitsandbytes and transformers' Trainer use
 * them: Trainer registers every nn.Embedding with GlobalOptimManager as 32 bits (so a head tied to
 * it too, and a head of its own not), and bitsandbytes keeps parameters of fewer than 4096
 * elements in fp32 (min_8bit_size). Rows of the embedding that are trained by themselves, which
 * PEFT holds in a parameter of another kind, are fp32 here for the reason the embedding is: a token
 * that a step does not have has no gradient, and where its second moment had become 0 by its code,
 * the first one over epsilon would be the step.
 *
 *     add all, then set trainable; param_set_measure; take the run arena; param_set_place
 */
#ifndef CRIA_AUTOGRAD_PARAM_H
#define CRIA_AUTOGRAD_PARAM_H

#include "autograd/tape.h"
#include "base/arena.h"

enum param_flags {
    PARAM_JOINED = 1, /* no gap to the one before; same cols (or both one row), same trainability */
    PARAM_FLOAT = 2,  /* fp32 on every device */
    PARAM_VECTOR = 4, /* one row: a norm or a bias. No weight decay (SEMANTICS H); joined ones lie
                         side by side instead of below each other */
    PARAM_SAVED = 8,  /* of the base, yet trained with the adapter and saved in it */
    PARAM_EMBEDDING = 16, /* rows that a step has a gradient of only where it has their token */
};

#define PARAM_NAME_MAX 160
#define PARAM_MIN_8BIT 4096 /* elements: fewer have moments of fp32 */

enum param_moments { PARAM_NO_MOMENTS, PARAM_MOMENTS_FP32, PARAM_MOMENTS_8BIT };

struct param {
    char name[PARAM_NAME_MAX];
    int32_t rows, cols;
    unsigned flags;
    int trainable;
    size_t n;                     /* rows * cols */
    size_t flat;                  /* trainable: first element in the flat space */
    void *data;                   /* device; the device's type, or fp32 under PARAM_FLOAT */
    float *master, *grad, *m, *v; /* device, NULL when frozen; master: or no_masters; m, v: or
                                     these: */
    uint8_t *m_code, *v_code;     /* device [n] */
    float *m_max, *v_max;         /* device [param_blocks] */
};

struct param_set {
    struct param *params; /* heap */
    int32_t count, capacity;
    size_t flat_count; /* elements of the flat space, gaps included */
    float *flat_master, *flat_grad;
    enum param_moments moments; /* set before measuring: of the optimiser there will be */
    int no_masters; /* set too: what is trained in a type below fp32 has no fp32 master */
};

/* Rows of the embedding's and the head's table that are trained while the rest is frozen. Each has
 * a parameter [count, C] that holds these rows' values; the tables hold them too, so forward knows
 * nothing of this, and whoever changes the parameter puts its rows into the table. Backward adds
 * the rows' gradients to the parameter's. */
struct param_rows {
    int32_t count;
    int32_t embedding, head; /* parameters; the same one where the tables are one */
    const int32_t *ids;      /* device [count], ascending: which rows */
};

/* Index of the new parameter in *index. ERR_MEMORY, ERR_SHAPE (size out of range, name too long).
 */
MUST_CHECK enum status param_set_add(struct param_set *s, const char *name, int32_t rows,
                                     int32_t cols, unsigned flags, int32_t *index, struct err *e);
void param_set_free(struct param_set *s);

/* -1: no such name. */
int32_t param_set_find(const struct param_set *s, const char *name);

/* Takes everything from `arena` (which may be a measuring one) in a fixed order. */
void param_set_place(struct param_set *s, const struct device *d, struct arena *arena);

/* Blocks of 8-bit moments. */
size_t param_blocks(const struct param *p);

/* Elements first ... first+count-1 from the host to a parameter's data and master, and back (the
 * master if there is one: what is saved and resumed). fetch waits for the device. */
void param_store(const struct param *p, struct device *d, size_t first, size_t count,
                 const float *values);
void param_fetch(const struct param *p, struct device *d, size_t first, size_t count,
                 float *values);

/* The matrix of `count` joined parameters from `first` on, on the tape. */
struct tensor *param_tensor(struct tape *t, const struct param_set *s, int32_t first,
                            int32_t count);

#endif

/* param.h - the named weights of a run, and where they lie.
 *
 * A parameter is [rows, cols] with its Hugging Face name. Frozen ones have data only, in the
 * device's type. Trainable ones also have an fp32 master, gradient and two moments, each at the
 * same place of one flat space, so that the optimiser and the norm walk straight through memory.
 * On a device of type fp32, data is the master. Adapters (PARAM_FLOAT) are fp32 everywhere.
 *
 * PARAM_JOINED lays a parameter right behind the one before it: q, k and v become one matrix for
 * one product, and stay three names in files.
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
};

#define PARAM_NAME_MAX 160

struct param {
    char name[PARAM_NAME_MAX];
    int32_t rows, cols;
    unsigned flags;
    int trainable;
    size_t n;                     /* rows * cols */
    size_t flat;                  /* trainable: first element in the flat space */
    void *data;                   /* device; the device's type, or fp32 under PARAM_FLOAT */
    float *master, *grad, *m, *v; /* device, NULL when frozen; master: or no_masters */
};

struct param_set {
    struct param *params; /* heap */
    int32_t count, capacity;
    size_t flat_count; /* elements of the flat space, gaps included */
    float *flat_master, *flat_grad, *flat_m, *flat_v;
    int with_moments; /* set before measuring: whether there will be an optimiser */
    int no_masters;   /* set too: what is trained in a type below fp32 has no fp32 master */
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

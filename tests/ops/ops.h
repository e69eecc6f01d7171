/* ops.h - the op cases: one table that drives parity, gradients, determinism and guards.
 *
 * An op here is a forward entry of the vtable with its backward. It declares its float buffers;
 * the harness (harness.h) makes each of them three times: for the device, in its type, with NaN
 * guards around and between rows, and dense in fp64 and fp32 for the reference, which is one plain
 * text compiled for both types (reference.inc). What is not an input starts from random numbers,
 * so that overwriting and accumulating differ.
 *
 * Tolerance, for every buffer that is not an input, with norms over the buffer:
 *   |device - fp64| <= 2 |naive fp32 - fp64| + floor |fp64|
 * On a device of fp32 floor = 2e-7 (two roundings). On one of bf16 all copies start from the same
 * rounded values, and floor is the op's own, below. What is finite on one side is on the other. One
 * rounding to bf16 costs at most 3.9e-3 in a value and about 1.7e-3 in the norm.
 */
#ifndef CRIA_TESTS_OPS_OPS_H
#define CRIA_TESTS_OPS_OPS_H

#include "kernels/kernels.h"

/* name, floor on bf16: about 1.4 times the worst that was measured (lora rounds A, B, h and y;
 * attention's ds is a difference that o's rounding enters) */
#define OPS(X)         \
    X(embedding, 2e-7) \
    X(norm, 4e-3)      \
    X(rope, 4e-3)      \
    X(linear, 3e-3)    \
    X(lora, 8e-3)      \
    X(attention, 8e-3) \
    X(swiglu, 5e-3)    \
    X(head, 4e-3)      \
    X(grad_norm, 2e-7) \
    X(adamw, 2e-7)     \
    X(adamw_8bit, 2e-7)

enum op {
#define X(name, bf16) OP_##name,
    OPS(X)
#undef X
        NUM_OPS
};

/* How an attention case cuts its rows. */
enum cut {
    CUT_RAGGED, /* documents of 1, 2, 63, 64, 65 and 200 rows, three rows between that are none's */
    CUT_ONE,    /* one document of N rows */
    CUT_SHARED, /* two replies to one prompt, and a plain document behind */
    CUT_DECODE  /* N new rows behind S cached ones (130) */
};

struct op_case {
    enum op op;
    int32_t N, G, D, I, O, C, V, S, R, F;
    int32_t H, KV, window;
    enum cut cut;
    float p;                            /* dropout */
    int parts;                          /* lora: 1 or 3 */
    int pad;                            /* row strides are this much wider than the rows */
    int accumulate;                     /* input gradients */
    int bias, addend, in_place, frozen; /* frozen: no weight gradient */
    int late;                           /* head: weight gradient in a second pass */
    int picked;                         /* head: so many rows have one, 1, 4, 7, ...; 0: all */
    int extras;                         /* head: entropy and sum_p2 */
    float spread;                       /* head: w is this times as large; 0: 1 */
    int nan;                            /* attention: some keys and values are no numbers; 1: and
                                           only the forward pass is run, 2: gradients too */
    float max_norm;
};

extern const struct op_case op_cases[];
extern const int num_op_cases;

/* Integers and tables of a case, made from its number. */
enum { OP_INTS = 2304, OP_SEGMENTS = 8, OP_PARTS = 3 };

struct op_ints {
    int32_t ids[OP_INTS], position[OP_INTS], document[OP_INTS];
    uint8_t hit[OP_INTS];
    struct segment segments[OP_SEGMENTS];
    int32_t num_segments, rows, key_rows, first_row;
    struct kern_lora_part parts[OP_PARTS];
    int32_t ranks, outputs;
    struct rng_key key;
};

/* Read only; overwritten; added to; both operand and result. */
enum op_role { OP_IN, OP_OUT, OP_ADD, OP_IN_PLACE };

struct op_buffer {
    const char *name;
    enum op_role role;
    int32_t rows, cols, ld;
    int gradient; /* of an operand: the buffer its gradient goes to; of a result: the buffer its
                     gradient comes from; -1: none */
    int floats;   /* fp32 on every device */
    float low, high;
    void *device;     /* [rows, ld], on the device */
    float *host;      /* [rows, ld], what the device had when the op was through */
    double *exact;    /* [rows, cols] */
    float *naive;     /* [rows, cols] */
    double *original; /* exact's first values */
};

enum { OP_BUFFERS = 20 };

struct op_run {
    const struct op_case *c;
    enum dtype type;              /* of the device */
    double bf16;                  /* as op_setting has it */
    struct op_ints n, *on_device; /* a copy on the device, whose addresses may be taken */
    struct op_buffer b[OP_BUFFERS];
    int num_buffers;
};

struct op_row {
    const char *name;
    double bf16; /* floor of the tolerance */
    void (*declare)(struct op_run *r);
    size_t (*scratch)(const struct device *d, struct op_run *r); /* NULL: none */
    void (*device)(struct device *d, struct op_run *r, void *scratch);
    void (*exact)(const struct op_case *c, const struct op_ints *n, double **b);
    void (*naive)(const struct op_case *c, const struct op_ints *n, float **b);
};

extern const struct op_row op_rows[NUM_OPS];

/* Buffers by op, in the order of declaration. */
enum { EMB_TABLE, EMB_DOUT, EMB_OUT, EMB_DTABLE };
enum { NORM_X, NORM_W, NORM_DY, NORM_Y, NORM_RSTD, NORM_DX, NORM_DW };
enum { ROPE_TABLE, ROPE_X, ROPE_DX };
enum { LIN_X, LIN_W, LIN_BIAS, LIN_ADDEND, LIN_DY, LIN_Y, LIN_DX, LIN_DW, LIN_DB };
enum {
    LORA_X,
    LORA_A,
    LORA_B,
    LORA_DY = LORA_B + OP_PARTS,
    LORA_Y,
    LORA_H,
    LORA_DX,
    LORA_DA,
    LORA_DB
};
enum { ATT_Q, ATT_K, ATT_V, ATT_DO, ATT_O, ATT_LSE, ATT_DQ, ATT_DK, ATT_DV };
enum { GLU_GATE, GLU_UP, GLU_DOUT, GLU_OUT, GLU_DGATE, GLU_DUP };
enum {
    HEAD_X,
    HEAD_W,
    HEAD_DLOGP,
    HEAD_LOGP,
    HEAD_LSE,
    HEAD_MEAN,
    HEAD_HIT,
    HEAD_ENTROPY,
    HEAD_P2,
    HEAD_DXS,
    HEAD_DX,
    HEAD_DW
};
enum { GN_GRAD, GN_OUT };
enum { ADAM_GRAD, ADAM_SCALE, ADAM_PARAM, ADAM_M, ADAM_V, ADAM_M_MAX, ADAM_V_MAX };

/* Constants that device and reference share. */
#define OP_EPS 1e-5f
#define OP_FLOOR 2e-7 /* of the tolerance in fp32 */
#define OP_SCALE 0.3f /* attention */
#define OP_WEIGHT 0.01f

void op_ints_init(struct op_ints *n, const struct op_case *c, int number);

#define X(name, bf16)                                                                \
    void exact_##name(const struct op_case *c, const struct op_ints *n, double **b); \
    void naive_##name(const struct op_case *c, const struct op_ints *n, float **b);
OPS(X)
#undef X

#endif

/* ops.c - what each op declares and how it calls the device. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/codes.h"
#include "ops/harness.h"

enum { CODE_GUARD = 32 }; /* bytes behind codes; v is a pack where N makes it one */

/* Adds a buffer [rows, cols]; `padded` ones take the case's row stride. */
static void add(struct op_run *r, const char *name, enum op_role role, int32_t rows, int32_t cols,
                int padded, int gradient)
{
    assert_true(r->num_buffers < OP_BUFFERS);
    r->b[r->num_buffers++] = (struct op_buffer){.name = name,
                                                .role = role,
                                                .rows = rows,
                                                .cols = cols,
                                                .ld = cols + (padded ? r->c->pad : 0),
                                                .gradient = gradient,
                                                .low = -1,
                                                .high = 1};
}

/* The same of what is fp32 on every device. */
static void add_floats(struct op_run *r, const char *name, enum op_role role, int32_t rows,
                       int32_t cols, int gradient)
{
    add(r, name, role, rows, cols, 0, gradient);
    r->b[r->num_buffers - 1].floats = 1;
}

static void *at(struct op_run *r, int buffer) { return r->b[buffer].device; }
static int32_t ld(struct op_run *r, int buffer) { return r->b[buffer].ld; }
static enum op_role dx_role(struct op_run *r) { return r->c->accumulate ? OP_ADD : OP_OUT; }

/* --- embedding --- */

static void embedding_declare(struct op_run *r)
{
    add(r, "table", OP_IN, r->c->V, r->c->C, 0, EMB_DTABLE);
    add(r, "dout", OP_IN, r->c->N, r->c->C, 0, -1);
    add(r, "out", OP_OUT, r->c->N, r->c->C, 0, EMB_DOUT);
    add_floats(r, "dtable", OP_ADD, r->c->V, r->c->C, -1);
}

static void embedding_device(struct device *d, struct op_run *r, void *scratch)
{
    const struct op_case *c = r->c;
    (void)scratch;
    d->k->embedding_forward(d, at(r, EMB_OUT), at(r, EMB_TABLE), r->on_device->ids, c->N, c->C);
    d->k->embedding_backward(d, at(r, EMB_DTABLE), at(r, EMB_DOUT), r->on_device->ids, c->N, c->C);
}

/* --- norm --- */

static void norm_declare(struct op_run *r)
{
    int32_t N = r->c->N, G = r->c->G, D = r->c->D;
    add(r, "x", OP_IN, N, G * D, 1, NORM_DX);
    add(r, "w", OP_IN, 1, D, 0, r->c->frozen ? -1 : NORM_DW);
    add(r, "dy", OP_IN, N, G * D, 1, -1);
    add(r, "y", OP_OUT, N, G * D, 1, NORM_DY);
    add_floats(r, "rstd", OP_OUT, N, G, -1);
    add(r, "dx", dx_role(r), N, G * D, 1, -1);
    add_floats(r, "dw", OP_ADD, 1, D, -1);
}

static size_t norm_scratch(const struct device *d, struct op_run *r)
{
    return d->k->norm_scratch(d, r->c->N, r->c->G, r->c->D);
}

static void norm_device(struct device *d, struct op_run *r, void *scratch)
{
    const struct op_case *c = r->c;
    d->k->norm_forward(d, at(r, NORM_Y), at(r, NORM_RSTD), at(r, NORM_X), at(r, NORM_W), c->N, c->G,
                       c->D, ld(r, NORM_Y), ld(r, NORM_X), OP_EPS);
    d->k->norm_backward(d, at(r, NORM_DX), c->frozen ? NULL : at(r, NORM_DW), at(r, NORM_DY),
                        at(r, NORM_X), at(r, NORM_W), at(r, NORM_RSTD), c->N, c->G, c->D,
                        ld(r, NORM_DX), ld(r, NORM_DY), ld(r, NORM_X), c->accumulate, scratch);
}

/* --- rope --- */

static void rope_declare(struct op_run *r)
{
    add_floats(r, "table", OP_IN, 64, r->c->D, -1);
    add(r, "x", OP_IN_PLACE, r->c->N, r->c->G * r->c->D, 1, ROPE_DX);
    add(r, "dx", OP_IN_PLACE, r->c->N, r->c->G * r->c->D, 1, -1);
}

static void rope_device(struct device *d, struct op_run *r, void *scratch)
{
    const struct op_case *c = r->c;
    (void)scratch;
    d->k->rope(d, at(r, ROPE_X), at(r, ROPE_TABLE), r->on_device->position, c->N, c->G, c->D,
               ld(r, ROPE_X), 0);
    d->k->rope(d, at(r, ROPE_DX), at(r, ROPE_TABLE), r->on_device->position, c->N, c->G, c->D,
               ld(r, ROPE_DX), 1);
}

/* --- linear --- */

static void linear_declare(struct op_run *r)
{
    const struct op_case *c = r->c;
    add(r, "x", OP_IN, c->N, c->I, 1, LIN_DX);
    add(r, "w", OP_IN, c->O, c->I, 0, LIN_DW);
    add(r, "bias", OP_IN, 1, c->O, 0, c->bias ? LIN_DB : -1);
    add(r, "addend", OP_IN, c->N, c->O, 1, -1);
    add(r, "dy", OP_IN, c->N, c->O, 1, -1);
    add(r, "y", c->in_place ? OP_IN_PLACE : OP_OUT, c->N, c->O, 1, LIN_DY);
    add(r, "dx", dx_role(r), c->N, c->I, 1, -1);
    add_floats(r, "dw", OP_ADD, c->O, c->I, -1);
    add_floats(r, "db", OP_ADD, 1, c->O, -1);
}

static void linear_device(struct device *d, struct op_run *r, void *scratch)
{
    const struct op_case *c = r->c;
    const void *addend = c->in_place ? at(r, LIN_Y) : c->addend ? at(r, LIN_ADDEND) : NULL;
    (void)scratch;
    d->k->linear_forward(d, at(r, LIN_Y), at(r, LIN_X), at(r, LIN_W),
                         c->bias ? at(r, LIN_BIAS) : NULL, addend, c->N, c->I, c->O, ld(r, LIN_Y),
                         ld(r, LIN_X), ld(r, LIN_ADDEND));
    d->k->linear_backward_input(d, at(r, LIN_DX), at(r, LIN_DY), at(r, LIN_W), c->N, c->I, c->O,
                                ld(r, LIN_DX), ld(r, LIN_DY), c->accumulate);
    d->k->linear_backward_weight(d, at(r, LIN_DW), at(r, LIN_DY), at(r, LIN_X), c->N, c->I, c->O,
                                 ld(r, LIN_DY), ld(r, LIN_X));
    d->k->linear_backward_bias(d, at(r, LIN_DB), at(r, LIN_DY), c->N, c->O, ld(r, LIN_DY));
}

/* --- lora --- */

static void lora_declare(struct op_run *r)
{
    const struct op_case *c = r->c;
    static const char *const b_name[] = {"b0", "b1", "b2"}, *const db_name[] = {"db0", "db1",
                                                                                "db2"};
    add(r, "x", OP_IN, c->N, c->I, 1, c->frozen ? -1 : LORA_DX);
    add_floats(r, "a", OP_IN, r->n.ranks, c->I, LORA_DA);
    for (int i = 0; i < OP_PARTS; i++)
        add_floats(r, b_name[i], OP_IN, r->n.parts[i].out, r->n.parts[i].rank,
                   i < c->parts ? LORA_DB + i : -1);
    add(r, "dy", OP_IN, c->N, r->n.outputs, 1, -1);
    add(r, "y", OP_ADD, c->N, r->n.outputs, 1, LORA_DY);
    add_floats(r, "h", OP_OUT, c->N, r->n.ranks, -1);
    add(r, "dx", dx_role(r), c->N, c->I, 1, -1);
    add_floats(r, "da", OP_ADD, r->n.ranks, c->I, -1);
    for (int i = 0; i < OP_PARTS; i++)
        add_floats(r, db_name[i], OP_ADD, r->n.parts[i].out, r->n.parts[i].rank, -1);
}

static struct kern_lora lora_arguments(struct op_run *r)
{
    for (int i = 0; i < r->c->parts; i++) {
        r->n.parts[i].b = at(r, LORA_B + i);
        r->n.parts[i].db = at(r, LORA_DB + i);
    }
    return (struct kern_lora){
        .N = r->c->N,
        .I = r->c->I,
        .R = r->n.ranks,
        .ldx = ld(r, LORA_X),
        .ldy = ld(r, LORA_Y),
        .x = at(r, LORA_X),
        .a = at(r, LORA_A),
        .h = at(r, LORA_H),
        .parts = r->n.parts,
        .num_parts = r->c->parts,
        .dropout = {r->c->p, &r->on_device->key, r->on_device->document, r->on_device->position}};
}

static size_t lora_scratch(const struct device *d, struct op_run *r)
{
    struct kern_lora l = lora_arguments(r);
    return d->k->lora_scratch(d, &l);
}

static void lora_device(struct device *d, struct op_run *r, void *scratch)
{
    struct kern_lora l = lora_arguments(r);
    d->k->lora_forward(d, at(r, LORA_Y), &l, scratch);
    d->k->lora_backward(d, r->c->frozen ? NULL : at(r, LORA_DX), at(r, LORA_DA), at(r, LORA_DY), &l,
                        ld(r, LORA_DX), r->c->accumulate, scratch);
}

/* --- attention --- */

static void attention_declare(struct op_run *r)
{
    const struct op_case *c = r->c;
    int32_t q = c->H * c->D, kv = c->KV * c->D, train = c->cut != CUT_DECODE && !c->nan;
    add(r, "q", OP_IN, r->n.rows, q, 1, train ? ATT_DQ : -1);
    add(r, "k", OP_IN, r->n.key_rows, kv, 1, train ? ATT_DK : -1);
    add(r, "v", OP_IN, r->n.key_rows, kv, 1, train ? ATT_DV : -1);
    add(r, "do", OP_IN, r->n.rows, q, 1, -1);
    add(r, "o", OP_OUT, r->n.rows, q, 1, ATT_DO);
    add_floats(r, "lse", OP_OUT, r->n.rows, c->H, -1);
    add(r, "dq", OP_OUT, r->n.rows, q, 1, -1);
    add(r, "dk", OP_OUT, r->n.key_rows, kv, 1, -1);
    add(r, "dv", OP_OUT, r->n.key_rows, kv, 1, -1);
    r->b[ATT_Q].high = r->b[ATT_K].high = 3; /* some sharp rows */
}

static struct kern_attention attention_arguments(struct op_run *r)
{
    const struct op_case *c = r->c;
    return (struct kern_attention){.N = r->n.rows,
                                   .H = c->H,
                                   .KV = c->KV,
                                   .D = c->D,
                                   .window = c->window,
                                   .scale = OP_SCALE,
                                   .segments = r->on_device->segments,
                                   .num_segments = r->n.num_segments,
                                   .first_row = r->n.first_row,
                                   .q = at(r, ATT_Q),
                                   .k = at(r, ATT_K),
                                   .v = at(r, ATT_V),
                                   .ldq = ld(r, ATT_Q),
                                   .ldk = ld(r, ATT_K),
                                   .ldv = ld(r, ATT_V),
                                   .ldo = ld(r, ATT_O),
                                   .o = at(r, ATT_O),
                                   .lse = at(r, ATT_LSE),
                                   .longest = segments_longest(r->n.segments, r->n.num_segments)};
}

static size_t attention_scratch(const struct device *d, struct op_run *r)
{
    struct kern_attention a = attention_arguments(r);
    return d->k->attention_scratch(d, &a);
}

static void attention_device(struct device *d, struct op_run *r, void *scratch)
{
    struct kern_attention a = attention_arguments(r);
    struct kern_attention_grad g = {
        at(r, ATT_DO), at(r, ATT_DQ), at(r, ATT_DK), at(r, ATT_DV),
        ld(r, ATT_DQ), ld(r, ATT_DK), ld(r, ATT_DV),
    };
    d->k->attention_forward(d, &a, scratch);
    if (r->c->cut != CUT_DECODE && r->c->nan != 1) d->k->attention_backward(d, &a, &g, scratch);
}

/* --- swiglu --- */

static void swiglu_declare(struct op_run *r)
{
    int32_t N = r->c->N, F = r->c->F;
    add(r, "gate", OP_IN, N, F, 1, GLU_DGATE);
    add(r, "up", OP_IN, N, F, 1, GLU_DUP);
    add(r, "dout", OP_IN, N, F, 1, -1);
    add(r, "out", OP_OUT, N, F, 1, GLU_DOUT);
    add(r, "dgate", OP_OUT, N, F, 1, -1);
    add(r, "dup", OP_OUT, N, F, 1, -1);
    r->b[GLU_GATE].low = -20, r->b[GLU_GATE].high = 20;
}

static void swiglu_device(struct device *d, struct op_run *r, void *scratch)
{
    int32_t N = r->c->N, F = r->c->F;
    (void)scratch;
    d->k->swiglu_forward(d, at(r, GLU_OUT), at(r, GLU_GATE), at(r, GLU_UP), N, F, ld(r, GLU_OUT),
                         ld(r, GLU_GATE), ld(r, GLU_UP));
    d->k->swiglu_backward(d, at(r, GLU_DGATE), at(r, GLU_DUP), at(r, GLU_DOUT), at(r, GLU_GATE),
                          at(r, GLU_UP), N, F, ld(r, GLU_DOUT), ld(r, GLU_GATE), ld(r, GLU_UP),
                          ld(r, GLU_DGATE), ld(r, GLU_DUP));
}

/* --- head --- */

static void head_declare(struct op_run *r)
{
    const struct op_case *c = r->c;
    add(r, "x", OP_IN, c->N, c->C, 1, HEAD_DX);
    add(r, "w", OP_IN, c->V, c->C, 0, c->frozen || c->picked ? -1 : HEAD_DW);
    if (c->spread > 0) r->b[HEAD_W].low *= c->spread, r->b[HEAD_W].high *= c->spread;
    add_floats(r, "dlogp", OP_IN, c->S, 1, -1);
    add_floats(r, "logp", OP_OUT, c->S, 1, HEAD_DLOGP);
    add_floats(r, "lse", OP_OUT, c->S, 1, -1);
    add_floats(r, "mean_logit", OP_OUT, c->S, 1, -1);
    add_floats(r, "hit", OP_OUT, c->S, 1, -1);
    add_floats(r, "entropy", OP_OUT, c->S, 1, -1);
    add_floats(r, "sum_p2", OP_OUT, c->S, 1, -1);
    add(r, "dx_s", OP_OUT, c->S, c->C, 0, -1);
    add(r, "dx", dx_role(r), c->N, c->C, 1, -1);
    add_floats(r, "dw", OP_ADD, c->picked ? c->picked : c->V, c->C, -1);
}

static struct kern_head head_arguments(struct op_run *r)
{
    const struct op_case *c = r->c;
    int fused = !c->frozen && !c->late;
    return (struct kern_head){.S = c->S,
                              .C = c->C,
                              .V = c->V,
                              .ldx = ld(r, HEAD_X),
                              .x = at(r, HEAD_X),
                              .w = at(r, HEAD_W),
                              .row = r->on_device->position,
                              .target = r->on_device->ids,
                              .logp = at(r, HEAD_LOGP),
                              .lse = at(r, HEAD_LSE),
                              .mean_logit = at(r, HEAD_MEAN),
                              .hit = r->on_device->hit,
                              .entropy = c->extras ? at(r, HEAD_ENTROPY) : NULL,
                              .sum_p2 = c->extras ? at(r, HEAD_P2) : NULL,
                              .dx = at(r, HEAD_DXS),
                              .dlogp = fused ? at(r, HEAD_DLOGP) : NULL,
                              .dw = fused ? at(r, HEAD_DW) : NULL,
                              .dw_row = r->on_device->document,
                              .num_dw_rows = c->picked,
                              .late_dw = c->late};
}

static size_t head_scratch(const struct device *d, struct op_run *r)
{
    struct kern_head h = head_arguments(r);
    return d->k->head_scratch(d, &h);
}

static void head_device(struct device *d, struct op_run *r, void *scratch)
{
    const struct op_case *c = r->c;
    struct kern_head h = head_arguments(r);
    d->k->head_forward(d, &h, scratch);
    d->k->head_backward_input(d, at(r, HEAD_DX), at(r, HEAD_DLOGP), &h, c->N, ld(r, HEAD_DX),
                              c->accumulate);
    if (c->late) d->k->head_backward_weight(d, at(r, HEAD_DW), at(r, HEAD_DLOGP), &h, scratch);
    float hit[OP_INTS];
    d->k->download(d, r->n.hit, r->on_device->hit, sizeof r->n.hit);
    for (int32_t s = 0; s < c->S; s++) hit[s] = r->n.hit[s];
    d->k->upload(d, at(r, HEAD_HIT), hit, (size_t)c->S * sizeof *hit);
}

/* --- optimiser --- */

static void grad_norm_declare(struct op_run *r)
{
    add_floats(r, "grad", OP_IN, 1, r->c->N, -1);
    add_floats(r, "out", OP_OUT, 1, 2, -1);
}

static size_t grad_norm_scratch(const struct device *d, struct op_run *r)
{
    return d->k->grad_norm_scratch(d, (size_t)r->c->N);
}

static void grad_norm_device(struct device *d, struct op_run *r, void *scratch)
{
    d->k->grad_norm(d, at(r, GN_OUT), at(r, GN_GRAD), (size_t)r->c->N, OP_WEIGHT, r->c->max_norm,
                    scratch);
}

static void adamw_declare(struct op_run *r)
{
    add_floats(r, "grad", OP_IN, 1, r->c->N, -1);
    add_floats(r, "scale", OP_IN, 1, 1, -1);
    add_floats(r, "param", OP_IN_PLACE, 1, r->c->N, -1);
    add_floats(r, "m", OP_IN_PLACE, 1, r->c->N, -1);
    add_floats(r, "v", OP_IN_PLACE, 1, r->c->N, -1);
    r->b[ADAM_V].low = 0;
}

static struct kern_adamw adamw_arguments(struct op_run *r)
{
    return (struct kern_adamw){.n = (size_t)r->c->N,
                               .param = at(r, ADAM_PARAM),
                               .m = at(r, ADAM_M),
                               .v = at(r, ADAM_V),
                               .grad = at(r, ADAM_GRAD),
                               .scale = at(r, ADAM_SCALE),
                               .lr = 1e-2f,
                               .beta1 = 0.9f,
                               .beta2 = 0.999f,
                               .eps = 1e-8f,
                               .weight_decay = 0.1f,
                               .bias1 = 0.271f,
                               .bias2 = 0.002997f};
}

static void adamw_device(struct device *d, struct op_run *r, void *scratch)
{
    struct kern_adamw a = adamw_arguments(r);
    (void)scratch;
    d->k->adamw(d, &a);
}

/* The moments begin as codes (their whole parts) and come back as the numbers that their codes
 * stand for. The exact ones are not rounded to codes; the naive ones are, to the nearest of 256. */
static void adamw_8bit_declare(struct op_run *r)
{
    int32_t blocks = (r->c->N + CODES_BLOCK - 1) / CODES_BLOCK;
    adamw_declare(r);
    add_floats(r, "m_max", OP_IN_PLACE, 1, blocks, -1);
    add_floats(r, "v_max", OP_IN_PLACE, 1, blocks, -1);
    r->b[ADAM_M].low = r->b[ADAM_V].low = r->b[ADAM_M_MAX].low = r->b[ADAM_V_MAX].low = 0;
    r->b[ADAM_M].high = r->b[ADAM_V].high = 255.5f;
}

static size_t adamw_8bit_scratch(const struct device *d, struct op_run *r)
{
    (void)d;
    return 2 * ((size_t)(r->c->N + CODE_GUARD) + sizeof(float)); /* whole floats, rounded down */
}

/* The codes of a moment to `codes`, and 0xa5 behind them. */
static void send_codes(struct device *d, struct op_run *r, int moment, uint8_t *codes)
{
    size_t n = (size_t)r->c->N;
    float *number = run_take(n, sizeof *number);
    uint8_t *bytes = run_take(n + CODE_GUARD, 1);
    d->k->download(d, number, at(r, moment), n * sizeof *number);
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)number[i];
    memset(bytes + n, 0xa5, CODE_GUARD);
    d->k->upload(d, codes, bytes, n + CODE_GUARD);
    free(number);
    free(bytes);
}

/* And back, as what they stand for. */
static void fetch_codes(struct device *d, struct op_run *r, int moment, const uint8_t *codes)
{
    size_t n = (size_t)r->c->N;
    int maxima = moment == ADAM_M ? ADAM_M_MAX : ADAM_V_MAX;
    enum codes_kind kind = moment == ADAM_M ? CODES_SIGNED : CODES_UNSIGNED;
    float *number = run_take(n, sizeof *number), *max = run_take(n, sizeof *max);
    uint8_t *bytes = run_take(n + CODE_GUARD, 1);
    d->k->download(d, max, at(r, maxima), (size_t)r->b[maxima].cols * sizeof *max);
    d->k->download(d, bytes, codes, n + CODE_GUARD);
    for (size_t i = 0; i < CODE_GUARD; i++) assert_int_equal(bytes[n + i], 0xa5);
    for (size_t i = 0; i < n; i++) number[i] = codes_number(kind, bytes[i]) * max[i / CODES_BLOCK];
    d->k->upload(d, at(r, moment), number, n * sizeof *number);
    free(number);
    free(max);
    free(bytes);
}

static void adamw_8bit_device(struct device *d, struct op_run *r, void *scratch)
{
    struct kern_adamw_8bit k = {.a = adamw_arguments(r),
                                .m = scratch,
                                .v = (uint8_t *)scratch + r->c->N + CODE_GUARD,
                                .m_max = at(r, ADAM_M_MAX),
                                .v_max = at(r, ADAM_V_MAX)};
    send_codes(d, r, ADAM_M, k.m);
    send_codes(d, r, ADAM_V, k.v);
    d->k->adamw_8bit(d, &k);
    fetch_codes(d, r, ADAM_M, k.m);
    fetch_codes(d, r, ADAM_V, k.v);
}

#define embedding_scratch NULL
#define rope_scratch NULL
#define linear_scratch NULL
#define swiglu_scratch NULL
#define adamw_scratch NULL

const struct op_row op_rows[NUM_OPS] = {
#define X(name, bf16)                                                           \
    [OP_##name] = {#name,         bf16,         name##_declare, name##_scratch, \
                   name##_device, exact_##name, naive_##name},
    OPS(X)
#undef X
};

/* --- the integers of a case --- */

static void cut_rows(struct op_ints *n, const struct op_case *c)
{
    static const int32_t ragged[] = {1, 2, 63, 64, 65, 200};
    static const struct segment shared[] = {{0, 70, 0, 0, 0, 0},
                                            {70, 31, 69, 0, 69, 0},
                                            {101, 80, 69, 0, 69, 0},
                                            {181, 40, 0, 0, 0, 1}};
    n->num_segments = 0;
    if (c->cut == CUT_ONE) n->segments[n->num_segments++] = (struct segment){0, c->N, 0, 0, 0, 0};
    int32_t cached = c->cut == CUT_DECODE ? c->S ? c->S : 130 : 0;
    if (c->cut == CUT_DECODE)
        n->segments[n->num_segments++] = (struct segment){cached, c->N, cached, 0, cached, 0};
    for (int i = 0; c->cut == CUT_SHARED && i < 4; i++) n->segments[n->num_segments++] = shared[i];
    for (int32_t i = 0, at = 0; c->cut == CUT_RAGGED && i < 6; i++) {
        if (i == 5) at += 3;
        n->segments[n->num_segments++] = (struct segment){at, ragged[i], 0, 0, 0, i};
        at += ragged[i];
    }
    const struct segment *last = &n->segments[n->num_segments - 1];
    n->key_rows = last->start + last->length;
    n->first_row = cached;
    n->rows = n->key_rows - n->first_row;
}

/* Outputs O, O/2, O/2+1 with two columns that are none's after the first; ranks R, R-1, 1 with one
 * such rank. Every pair of neighbours differs, so an offset that is off shows. */
static void make_parts(struct op_ints *n, const struct op_case *c)
{
    int32_t out[] = {c->O, c->O / 2, c->O / 2 + 1}, rank[] = {c->R, c->R - 1, 1};
    n->outputs = n->ranks = 0;
    for (int i = 0; i < OP_PARTS; i++) {
        n->parts[i] = (struct kern_lora_part){.first = n->outputs,
                                              .rank_first = n->ranks,
                                              .scale = 0.5f + (float)i,
                                              .module = (uint32_t)(7 + i)};
        if (i >= c->parts) continue;
        n->parts[i].out = out[i], n->parts[i].rank = rank[i];
        n->outputs += out[i] + (i == 0 ? 2 : 0);
        n->ranks += rank[i] + (i == 0);
    }
}

void op_ints_init(struct op_ints *n, const struct op_case *c, int number)
{
    struct rng_key key = rng_key(77, RNG_INIT, (uint64_t)number);
    int32_t row = 0;
    *n = (struct op_ints){.key = rng_key(5, RNG_DROPOUT, 3)};
    assert_true(c->N <= OP_INTS || c->op >= OP_grad_norm);
    for (uint32_t i = 0; i < OP_INTS; i++) {
        uint32_t word[4], counter[4] = {i, 0, 0, 0};
        rng_words(key, counter, word);
        n->ids[i] = c->V ? (int32_t)(word[0] % (uint32_t)c->V) : 0;
        n->document[i] = (int32_t)(i / 10);
        n->position[i] = (int32_t)(i % 10);
        if (c->op == OP_rope) n->position[i] = (int32_t)(word[1] % 64);
        if (c->op == OP_head) {                    /* S ascending rows of N */
            n->document[i] = (int32_t)(3 * i + 1); /* the rows that are picked */
            n->position[i] = row;
            row +=
                1 + (c->S > 0 && c->N - row > 2 * (c->S - (int32_t)i) ? (int32_t)(word[1] % 2) : 0);
        }
    }
    if (c->op == OP_attention) cut_rows(n, c);
    if (c->op == OP_lora) make_parts(n, c);
}

#include "autograd/ops.h"

#include <assert.h>

/* Attributes: what a node needs beyond its tensors. */
struct norm_attr {
    int32_t groups;
    float eps;
};

struct embedding_attr {
    const int32_t *ids, *slots;
};

struct rope_attr {
    const float *table;
    const int32_t *positions;
    int32_t groups;
};

struct attention_attr {
    struct attention_shape shape;
    const struct segment *segments;
    int32_t num_segments, longest;
    struct kv_cache cache; /* k NULL: none */
};

static struct device *dev(const struct tape *t) { return tape_device(t); }

/* --- embedding --- */

enum { EMBEDDING_TABLE, EMBEDDING_ROWS };

static void embedding_forward(struct tape *t, struct node *n)
{
    const struct embedding_attr *a = n->attr;
    struct tensor *y = n->out[0];
    dev(t)->k->embedding_forward(dev(t), y->data, n->in[EMBEDDING_TABLE]->data, a->ids, y->rows,
                                 y->cols);
}

static void embedding_backward(struct tape *t, struct node *n)
{
    const struct embedding_attr *a = n->attr;
    struct tensor *y = n->out[0], *table = n->in[EMBEDDING_TABLE], *rows = n->in[EMBEDDING_ROWS];
    if (table->needs_grad)
        dev(t)->k->embedding_backward(dev(t), table->grad, y->grad, a->ids, y->rows, y->cols);
    if (rows && rows->needs_grad)
        dev(t)->k->embedding_backward(dev(t), rows->grad, y->grad, a->slots, y->rows, y->cols);
}

static unsigned saves_nothing(const struct node *n)
{
    (void)n;
    return 0;
}

/* --- norm --- */

static void norm_forward(struct tape *t, struct node *n)
{
    const struct norm_attr *a = n->attr;
    struct tensor *x = n->in[0], *y = n->out[0];
    dev(t)->k->norm_forward(dev(t), y->data, n->out[1]->data, x->data, n->in[1]->data, x->rows,
                            a->groups, x->cols / a->groups, y->ld, x->ld, a->eps);
}

static void norm_backward(struct tape *t, struct node *n)
{
    const struct norm_attr *a = n->attr;
    struct tensor *x = n->in[0], *w = n->in[1], *y = n->out[0];
    void *dx = x->needs_grad ? x->grad : NULL;
    float *dw = w->needs_grad ? w->grad : NULL;
    dev(t)->k->norm_backward(dev(t), dx, dw, y->grad, x->data, w->data, n->out[1]->data, x->rows,
                             a->groups, x->cols / a->groups, x->ld, y->ld, x->ld, x->grad_set,
                             tape_scratch(t));
    x->grad_set = 1;
}

static unsigned norm_saves(const struct node *n)
{
    (void)n;
    return SAVE_IN(0) | SAVE_IN(1) | SAVE_OUT(1);
}

static size_t norm_scratch(const struct tape *t, const struct node *n)
{
    const struct norm_attr *a = n->attr;
    return dev(t)->k->norm_scratch(dev(t), n->in[0]->rows, a->groups, n->in[0]->cols / a->groups);
}

/* --- rope --- */

static void rope_turn(struct tape *t, struct node *n, void *x, int inverse)
{
    const struct rope_attr *a = n->attr;
    struct tensor *y = n->out[0];
    dev(t)->k->rope(dev(t), x, a->table, a->positions, y->rows, a->groups, y->cols / a->groups,
                    y->ld, inverse);
}

static void rope_forward(struct tape *t, struct node *n) { rope_turn(t, n, n->out[0]->data, 0); }
static void rope_backward(struct tape *t, struct node *n) { rope_turn(t, n, n->out[0]->grad, 1); }

/* --- linear --- */

enum { LINEAR_X, LINEAR_W, LINEAR_BIAS, LINEAR_ADDEND };

static void linear_forward(struct tape *t, struct node *n)
{
    struct tensor *x = n->in[LINEAR_X], *y = n->out[0];
    struct tensor *bias = n->in[LINEAR_BIAS], *addend = n->in[LINEAR_ADDEND];
    dev(t)->k->linear_forward(dev(t), y->data, x->data, n->in[LINEAR_W]->data,
                              bias ? bias->data : NULL, addend ? addend->data : NULL, x->rows,
                              x->cols, y->cols, y->ld, x->ld, addend ? addend->ld : 0);
}

static void linear_backward(struct tape *t, struct node *n)
{
    const struct kernels *k = dev(t)->k;
    struct tensor *x = n->in[LINEAR_X], *w = n->in[LINEAR_W], *bias = n->in[LINEAR_BIAS];
    struct tensor *y = n->out[0];
    if (x->needs_grad) {
        k->linear_backward_input(dev(t), x->grad, y->grad, w->data, x->rows, x->cols, y->cols,
                                 x->ld, y->ld, x->grad_set);
        x->grad_set = 1;
    }
    if (w->needs_grad)
        k->linear_backward_weight(dev(t), w->grad, y->grad, x->data, x->rows, x->cols, y->cols,
                                  y->ld, x->ld);
    if (bias && bias->needs_grad)
        k->linear_backward_bias(dev(t), bias->grad, y->grad, x->rows, y->cols, y->ld);
}

static unsigned linear_saves(const struct node *n)
{
    return SAVE_IN(LINEAR_W) | (n->in[LINEAR_W]->needs_grad ? SAVE_IN(LINEAR_X) : 0);
}

/* --- LoRA --- */

enum { LORA_X, LORA_Y, LORA_A };

/* The kernel's view of a bound node. */
static struct kern_lora lora_args(const struct node *n)
{
    struct kern_lora l = *(const struct kern_lora *)n->attr;
    const struct tensor *x = n->in[LORA_X], *y = n->out[0];
    l.N = x->rows;
    l.I = x->cols;
    l.ldx = x->ld;
    l.ldy = y->ld;
    l.x = x->data;
    l.a = n->in[LORA_A]->data;
    l.h = n->out[1]->data;
    return l;
}

static void lora_forward(struct tape *t, struct node *n)
{
    struct kern_lora l = lora_args(n);
    dev(t)->k->lora_forward(dev(t), n->out[0]->data, &l, tape_scratch(t));
}

static void lora_backward(struct tape *t, struct node *n)
{
    struct kern_lora l = lora_args(n);
    struct tensor *x = n->in[LORA_X];
    dev(t)->k->lora_backward(dev(t), x->needs_grad ? x->grad : NULL, n->in[LORA_A]->grad,
                             n->out[0]->grad, &l, x->ld, x->grad_set, tape_scratch(t));
    x->grad_set = 1;
}

static unsigned lora_saves(const struct node *n)
{
    (void)n;
    return SAVE_IN(LORA_X) | SAVE_IN(LORA_A) | SAVE_OUT(1);
}

static size_t lora_scratch(const struct tape *t, const struct node *n)
{
    struct kern_lora l = lora_args(n);
    return dev(t)->k->lora_scratch(dev(t), &l);
}

/* --- attention --- */

static struct kern_attention attention_args(const struct node *n)
{
    const struct attention_attr *a = n->attr;
    const struct tensor *q = n->in[0], *k = n->in[1], *v = n->in[2], *o = n->out[0];
    struct kern_attention args = {
        .N = q->rows,
        .H = a->shape.heads,
        .KV = a->shape.kv_heads,
        .D = a->shape.head_size,
        .window = a->shape.window,
        .scale = a->shape.scale,
        .segments = a->segments,
        .num_segments = a->num_segments,
        .q = q->data,
        .k = k->data,
        .v = v->data,
        .ldq = q->ld,
        .ldk = k->ld,
        .ldv = v->ld,
        .ldo = o->ld,
        .o = o->data,
        .lse = n->out[1] ? n->out[1]->data : NULL,
        .longest = a->longest,
    };
    args.first_row = a->cache.length; /* so that it counts where a cache has no place yet, too */
    if (a->cache.k) {
        args.k = a->cache.k;
        args.v = a->cache.v;
        args.ldk = args.ldv = k->cols;
    }
    return args;
}

static void cache_append(struct tape *t, void *cache, int32_t length, const struct tensor *x)
{
    size_t size = tape_element_size(t, x->element), row = (size_t)x->cols * size;
    dev(t)->k->copy_rows(dev(t), (char *)cache + (size_t)length * row, row, x->data,
                         (size_t)x->ld * size, x->rows, row);
}

static void attention_forward(struct tape *t, struct node *n)
{
    const struct attention_attr *a = n->attr;
    if (a->cache.k) {
        cache_append(t, a->cache.k, a->cache.length, n->in[1]);
        cache_append(t, a->cache.v, a->cache.length, n->in[2]);
    }
    struct kern_attention args = attention_args(n);
    dev(t)->k->attention_forward(dev(t), &args, tape_scratch(t));
}

static void attention_backward(struct tape *t, struct node *n)
{
    struct tensor *q = n->in[0], *k = n->in[1], *v = n->in[2];
    struct kern_attention args = attention_args(n);
    struct kern_attention_grad g = {n->out[0]->grad, q->grad, k->grad, v->grad,
                                    q->ld,           k->ld,   v->ld};
    assert(!q->grad_set && !k->grad_set && !v->grad_set);
    dev(t)->k->attention_backward(dev(t), &args, &g, tape_scratch(t));
    q->grad_set = k->grad_set = v->grad_set = 1;
}

static unsigned attention_saves(const struct node *n)
{
    (void)n;
    return SAVE_IN(0) | SAVE_IN(1) | SAVE_IN(2) | SAVE_OUT(0) | SAVE_OUT(1);
}

static size_t attention_scratch(const struct tape *t, const struct node *n)
{
    struct kern_attention args = attention_args(n);
    return dev(t)->k->attention_scratch(dev(t), &args);
}

/* --- SwiGLU --- */

static void swiglu_forward(struct tape *t, struct node *n)
{
    struct tensor *g = n->in[0], *u = n->in[1], *y = n->out[0];
    dev(t)->k->swiglu_forward(dev(t), y->data, g->data, u->data, y->rows, y->cols, y->ld, g->ld,
                              u->ld);
}

static void swiglu_backward(struct tape *t, struct node *n)
{
    struct tensor *g = n->in[0], *u = n->in[1], *y = n->out[0];
    assert(!g->grad_set && !u->grad_set);
    dev(t)->k->swiglu_backward(dev(t), g->grad, u->grad, y->grad, g->data, u->data, y->rows,
                               y->cols, y->ld, g->ld, u->ld, g->ld, u->ld);
    g->grad_set = u->grad_set = 1;
}

static unsigned swiglu_saves(const struct node *n)
{
    (void)n;
    return SAVE_IN(0) | SAVE_IN(1);
}

/* --- head --- */

enum { HEAD_OUT_LOGP, HEAD_OUT_STATS, HEAD_OUT_HIT, HEAD_OUT_DX };

/* What gets the weight's gradient: w, those rows of it that are a parameter, or nobody. */
static struct tensor *head_trained(const struct node *n)
{
    struct tensor *rows = n->in[2], *w = n->in[1];
    if (rows) return rows->needs_grad ? rows : NULL;
    return w->needs_grad ? w : NULL;
}

static struct kern_head head_args(const struct node *n)
{
    const struct head_request *r = n->attr;
    const struct tensor *x = n->in[0], *w = n->in[1], *dx = n->out[HEAD_OUT_DX];
    float *stats = n->out[HEAD_OUT_STATS]->data;
    struct kern_head h = {
        .S = r->S,
        .C = x->cols,
        .V = w->rows,
        .ldx = x->ld,
        .x = x->data,
        .w = w->data,
        .row = r->rows,
        .target = r->targets,
        .logp = n->out[HEAD_OUT_LOGP]->data,
        .hit = n->out[HEAD_OUT_HIT]->data,
        .dx = dx ? dx->data : NULL,
    };
    if (stats) {
        h.lse = stats + (size_t)HEAD_LSE * (size_t)r->S;
        h.mean_logit = stats + (size_t)HEAD_MEAN_LOGIT * (size_t)r->S;
    }
    if (stats && r->want_spread) {
        h.entropy = stats + (size_t)HEAD_ENTROPY * (size_t)r->S;
        h.sum_p2 = stats + (size_t)HEAD_SUM_P2 * (size_t)r->S;
    }
    if (r->trained) {
        h.dw_row = r->trained_rows;
        h.num_dw_rows = r->trained->rows;
    }
    struct tensor *weight = head_trained(n);
    if (weight && r->dlogp) {
        h.dlogp = r->dlogp;
        h.dw = weight->grad;
    }
    h.late_dw = weight && !h.dw;
    return h;
}

static void head_forward(struct tape *t, struct node *n)
{
    struct kern_head h = head_args(n);
    dev(t)->k->head_forward(dev(t), &h, tape_scratch(t));
}

static void head_backward(struct tape *t, struct node *n)
{
    const struct head_request *r = n->attr;
    struct kern_head h = head_args(n);
    struct tensor *x = n->in[0], *weight = head_trained(n);
    const float *dlogp = n->out[HEAD_OUT_LOGP]->grad;
    if (x->needs_grad) {
        dev(t)->k->head_backward_input(dev(t), x->grad, dlogp, &h, x->rows, x->ld, x->grad_set);
        x->grad_set = 1;
    }
    if (weight && !r->dlogp)
        dev(t)->k->head_backward_weight(dev(t), weight->grad, dlogp, &h, tape_scratch(t));
}

static unsigned head_saves(const struct node *n)
{
    const struct head_request *r = n->attr;
    unsigned second_pass = head_trained(n) && !r->dlogp;
    return SAVE_IN(1) | SAVE_OUT(HEAD_OUT_DX) |
           (second_pass ? SAVE_IN(0) | SAVE_OUT(HEAD_OUT_STATS) : 0);
}

static size_t head_scratch(const struct tape *t, const struct node *n)
{
    struct kern_head h = head_args(n);
    return dev(t)->k->head_scratch(dev(t), &h);
}

/* --- the table: name, formula, in-place input, addend, cheap, saves, scratch --- */

#define OPS(X)                                                                                   \
    X(embedding, "y = table[ids]", -1, -1, 0, saves_nothing, NULL)                               \
    X(norm, "y = x / sqrt(mean x^2 + eps) * w", -1, -1, 1, norm_saves, norm_scratch)             \
    X(rope, "y = x turned by its position", 0, -1, 1, saves_nothing, NULL)                       \
    X(linear, "y = x w^T + bias + addend", -1, LINEAR_ADDEND, 0, linear_saves, NULL)             \
    X(lora, "y += s B A drop(x)", LORA_Y, -1, 0, lora_saves, lora_scratch)                       \
    X(attention, "o = softmax(q k^T s + mask) v", -1, -1, 0, attention_saves, attention_scratch) \
    X(swiglu, "y = silu(gate) up", -1, -1, 1, swiglu_saves, NULL)                                \
    X(head, "logp = log softmax(x w^T)[target]", -1, -1, 0, head_saves, head_scratch)

#define X(name, formula, in_place, addend, cheap, saves, scratch)                                 \
    static const struct op name##_op = {#name,          formula,         in_place, addend, cheap, \
                                        name##_forward, name##_backward, saves,    scratch};
OPS(X)
#undef X

const struct op *const op_table[] = {
#define X(name, formula, in_place, addend, cheap, saves, scratch) &name##_op,
    OPS(X)
#undef X
        NULL};

/* --- recording --- */

struct tensor *op_embedding(struct tape *t, struct tensor *table, const struct tokens *tokens)
{
    return op_embedding_rows(t, table, NULL, tokens);
}

struct tensor *op_embedding_rows(struct tape *t, struct tensor *table, struct tensor *rows,
                                 const struct tokens *tokens)
{
    if (!table) return NULL;
    if (rows && rows->cols != table->cols)
        return tape_fail(t, "embedding", "rows of %d columns in a table of %d", (int)rows->cols,
                         (int)table->cols);
    struct node *n = tape_node(t, &embedding_op, sizeof(struct embedding_attr));
    if (!n) return NULL;
    *(struct embedding_attr *)n->attr = (struct embedding_attr){tokens->ids, tokens->slots};
    n->in[EMBEDDING_TABLE] = table;
    n->in[EMBEDDING_ROWS] = rows;
    return tape_output(t, n, 0, tokens->N, table->cols, ELEMENT_DEVICE);
}

struct tensor *op_norm(struct tape *t, struct tensor *x, struct tensor *w, int32_t groups,
                       float eps)
{
    if (!x || !w) return NULL;
    if (groups < 1 || w->cols * groups != x->cols)
        return tape_fail(t, "norm", "%d groups of %d weights over %d columns", (int)groups,
                         (int)w->cols, (int)x->cols);
    struct node *n = tape_node(t, &norm_op, sizeof(struct norm_attr));
    if (!n) return NULL;
    *(struct norm_attr *)n->attr = (struct norm_attr){groups, eps};
    n->in[0] = x;
    n->in[1] = w;
    struct tensor *y = tape_output(t, n, 0, x->rows, x->cols, ELEMENT_DEVICE);
    if (tape_output(t, n, 1, x->rows, groups, ELEMENT_FLOAT)) n->out[1]->needs_grad = 0;
    return y;
}

struct tensor *op_rope(struct tape *t, struct tensor *x, const float *table,
                       const struct tokens *tokens, int32_t groups)
{
    if (!x) return NULL;
    if (groups < 1 || x->cols % groups || x->cols / groups % 2)
        return tape_fail(t, "rope", "%d columns are not %d heads of even size", (int)x->cols,
                         (int)groups);
    struct node *n = tape_node(t, &rope_op, sizeof(struct rope_attr));
    if (!n) return NULL;
    *(struct rope_attr *)n->attr = (struct rope_attr){table, tokens->positions, groups};
    n->in[0] = x;
    return tape_output_in_place(t, n, 0);
}

struct tensor *op_linear(struct tape *t, struct tensor *x, struct tensor *w, struct tensor *bias,
                         struct tensor *addend)
{
    if (!x || !w) return NULL;
    if (x->cols != w->cols)
        return tape_fail(t, "linear", "x has %d columns, w [%d, %d]", (int)x->cols, (int)w->rows,
                         (int)w->cols);
    if (bias && bias->cols != w->rows)
        return tape_fail(t, "linear", "a bias of %d for %d outputs", (int)bias->cols, (int)w->rows);
    if (addend && (addend->rows != x->rows || addend->cols != w->rows))
        return tape_fail(t, "linear", "an addend of %dx%d for %dx%d", (int)addend->rows,
                         (int)addend->cols, (int)x->rows, (int)w->rows);
    struct node *n = tape_node(t, &linear_op, 0);
    if (!n) return NULL;
    n->in[LINEAR_X] = x;
    n->in[LINEAR_W] = w;
    n->in[LINEAR_BIAS] = bias;
    n->in[LINEAR_ADDEND] = addend;
    return tape_output(t, n, 0, x->rows, w->rows, ELEMENT_DEVICE);
}

struct tensor *op_lora(struct tape *t, struct tensor *x, struct tensor *y, struct tensor *a,
                       const struct kern_lora *lora)
{
    if (!x || !y || !a) return NULL;
    if (a->cols != x->cols || a->rows != lora->R || x->rows != y->rows)
        return tape_fail(t, "lora", "A [%d, %d] of rank %d for x [%d, %d]", (int)a->rows,
                         (int)a->cols, (int)lora->R, (int)x->rows, (int)x->cols);
    for (int32_t p = 0; p < lora->num_parts; p++)
        if (lora->parts[p].first + lora->parts[p].out > y->cols)
            return tape_fail(t, "lora", "part %d ends behind column %d", (int)p, (int)y->cols);
    struct node *n = tape_node(t, &lora_op, sizeof *lora);
    if (!n) return NULL;
    *(struct kern_lora *)n->attr = *lora;
    n->in[LORA_X] = x;
    n->in[LORA_Y] = y;
    n->in[LORA_A] = a;
    struct tensor *sum = tape_output_in_place(t, n, 0);
    if (tape_output(t, n, 1, x->rows, lora->R, ELEMENT_FLOAT)) n->out[1]->needs_grad = 0;
    return sum;
}

static struct tensor *attention_check(struct tape *t, const struct tensor *q,
                                      const struct tensor *k, const struct tensor *v,
                                      const struct attention_shape *s)
{
    if (s->heads < 1 || s->kv_heads < 1 || s->heads % s->kv_heads)
        return tape_fail(t, "attention", "%d query heads over %d key heads", (int)s->heads,
                         (int)s->kv_heads);
    if (q->cols != s->heads * s->head_size || k->cols != s->kv_heads * s->head_size ||
        v->cols != k->cols)
        return tape_fail(t, "attention", "q, k, v have %d, %d, %d columns for heads of %d",
                         (int)q->cols, (int)k->cols, (int)v->cols, (int)s->head_size);
    return (struct tensor *)q;
}

struct tensor *op_attention(struct tape *t, struct tensor *q, struct tensor *k, struct tensor *v,
                            const struct attention_shape *shape, const struct tokens *tokens,
                            const struct kv_cache *cache)
{
    if (!q || !k || !v || !attention_check(t, q, k, v, shape)) return NULL;
    if (cache && tape_has_backward(t)) return tape_fail(t, "attention", "a cache in training");
    struct node *n = tape_node(t, &attention_op, sizeof(struct attention_attr));
    if (!n) return NULL;
    struct attention_attr *a = n->attr;
    *a = (struct attention_attr){
        *shape, tokens->segments, tokens->num_segments, cache ? 0 : tokens->longest, {0}};
    if (cache) a->cache = *cache;
    n->in[0] = q;
    n->in[1] = k;
    n->in[2] = v;
    struct tensor *o = tape_output(t, n, 0, q->rows, q->cols, ELEMENT_DEVICE);
    if (tape_output(t, n, 1, q->rows, shape->heads, ELEMENT_FLOAT)) n->out[1]->needs_grad = 0;
    return o;
}

struct tensor *op_swiglu(struct tape *t, struct tensor *gate, struct tensor *up)
{
    if (!gate || !up) return NULL;
    if (gate->rows != up->rows || gate->cols != up->cols)
        return tape_fail(t, "swiglu", "gate %dx%d, up %dx%d", (int)gate->rows, (int)gate->cols,
                         (int)up->rows, (int)up->cols);
    struct node *n = tape_node(t, &swiglu_op, 0);
    if (!n) return NULL;
    n->in[0] = gate;
    n->in[1] = up;
    return tape_output(t, n, 0, gate->rows, gate->cols, ELEMENT_DEVICE);
}

struct head_result op_head(struct tape *t, struct tensor *x, struct tensor *w,
                           const struct head_request *request)
{
    struct head_result none = {0}, r;
    if (!x || !w) return none;
    if (x->cols != w->cols || request->S < 0 || request->S > x->rows) {
        tape_fail(t, "head", "%d of %d rows of %d columns, w [%d, %d]", (int)request->S,
                  (int)x->rows, (int)x->cols, (int)w->rows, (int)w->cols);
        return none;
    }
    struct node *n = tape_node(t, &head_op, sizeof *request);
    if (!n) return none;
    *(struct head_request *)n->attr = *request;
    n->in[0] = x;
    n->in[1] = w;
    n->in[2] = request->trained;
    r.logp = tape_keep(tape_output(t, n, HEAD_OUT_LOGP, 1, request->S, ELEMENT_FLOAT));
    r.stats = tape_keep(tape_output(t, n, HEAD_OUT_STATS, 4, request->S, ELEMENT_FLOAT));
    r.hit = tape_keep(tape_output(t, n, HEAD_OUT_HIT, 1, request->S, ELEMENT_BYTE));
    if (!r.logp || !r.stats || !r.hit) return none;
    r.stats->needs_grad = r.hit->needs_grad = 0;
    if (x->needs_grad && tape_output(t, n, HEAD_OUT_DX, request->S, x->cols, ELEMENT_DEVICE))
        n->out[HEAD_OUT_DX]->needs_grad = 0;
    return r;
}

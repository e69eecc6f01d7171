#include "kernels/cuda/cudnn_graph.h"

#include <string.h>

enum { MOST_MADE = 160, MOST_OPERATIONS = 48, MOST_CONFIGS = 8, FIRST_VIRTUAL = 1000 };

/* A tensor of the graph. */
struct value {
    void *tensor;
    int64_t dim[4];
};

struct builder {
    const struct sdpa_target *t;
    const struct sdpa_shape *s;
    void *made[MOST_MADE]; /* all but what is handed out */
    void *operations[MOST_OPERATIONS];
    struct value input[SDPA_TENSORS_END];
    int num_made, num_operations;
    int status; /* the first that was not well; then nothing more is done */
    const char *at;
};

/* --- descriptors --- */

static void check(struct builder *b, int status, const char *at)
{
    if (!status || b->status) return;
    b->status = status;
    b->at = at;
}

static void *make(struct builder *b, int kind, const char *at)
{
    void *d = NULL;
    if (b->num_made == MOST_MADE) check(b, -1, at);
    if (b->status) return NULL;
    check(b, b->t->lib->cudnnBackendCreateDescriptor(kind, &d), at);
    if (d) b->made[b->num_made++] = d;
    return d;
}

static void set(struct builder *b, void *d, int name, int type, int64_t count, const void *values)
{
    if (!b->status)
        check(b, b->t->lib->cudnnBackendSetAttribute(d, name, type, count, values), "an attribute");
}

static void set_number(struct builder *b, void *d, int name, int type, int value)
{
    set(b, d, name, type, 1, &value);
}

static void set_int64(struct builder *b, void *d, int name, int64_t value)
{
    set(b, d, name, DNN_TYPE_INT64, 1, &value);
}

static void set_true(struct builder *b, void *d, int name)
{
    const char yes = 1;
    set(b, d, name, DNN_TYPE_BOOLEAN, 1, &yes);
}

static void set_descriptor(struct builder *b, void *d, int name, void *value)
{
    set(b, d, name, DNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static void finalize(struct builder *b, void *d, const char *at)
{
    if (!b->status) check(b, b->t->lib->cudnnBackendFinalize(d), at);
}

/* --- tensors --- */

/* offset: the ragged offsets, NULL without; not finalized yet */
static struct value tensor(struct builder *b, int64_t id, int type, const int64_t dim[4],
                           const int64_t stride[4], void *offset)
{
    struct value v = {make(b, DNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor"), {0}};
    memcpy(v.dim, dim, sizeof v.dim);
    set_number(b, v.tensor, DNN_ATTR_TENSOR_DATA_TYPE, DNN_TYPE_DATA_TYPE, type);
    set(b, v.tensor, DNN_ATTR_TENSOR_DIMENSIONS, DNN_TYPE_INT64, 4, dim);
    set(b, v.tensor, DNN_ATTR_TENSOR_STRIDES, DNN_TYPE_INT64, 4, stride);
    set_int64(b, v.tensor, DNN_ATTR_TENSOR_UNIQUE_ID, id);
    set_int64(b, v.tensor, DNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
    if (offset) set_descriptor(b, v.tensor, DNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, offset);
    return v;
}

/* An index array, or one element. */
static struct value line(struct builder *b, enum sdpa_tensor id, int type, int32_t n)
{
    const int64_t dim[4] = {n, 1, 1, 1}, stride[4] = {1, 1, 1, 1};
    struct value v = tensor(b, id, type, dim, stride, NULL);
    if (type == DNN_DATA_FLOAT) set_true(b, v.tensor, DNN_ATTR_TENSOR_IS_BY_VALUE);
    finalize(b, v.tensor, "an array");
    return v;
}

/* Rows of `heads` heads, `ld` elements apart; turned: [.., D, length]. */
static struct value rows(struct builder *b, enum sdpa_tensor id, int32_t heads, int32_t ld,
                         enum sdpa_tensor offset, int turned)
{
    const struct sdpa_shape *s = b->s;
    int64_t dim[4] = {s->sequences, heads, s->length, s->D};
    int64_t stride[4] = {(int64_t)s->length * ld, s->D, ld, 1};
    if (turned) {
        dim[2] = s->D, dim[3] = s->length;
        stride[2] = 1, stride[3] = ld;
    }
    struct value v = tensor(b, id, DNN_DATA_BFLOAT16, dim, stride, b->input[offset].tensor);
    finalize(b, v.tensor, "rows");
    return v;
}

/* A tensor that is only passed on. columns 1: one number a row. */
static struct value passed_on(struct builder *b, int type, int64_t columns, int turned)
{
    const struct sdpa_shape *s = b->s;
    const int64_t R = s->length, dim[4] = {s->sequences, s->H, R, columns};
    int64_t stride[4] = {s->H * R * columns, R * columns, columns, 1};
    if (turned) stride[2] = 1, stride[3] = R;
    struct value v = tensor(b, FIRST_VIRTUAL + b->num_made, type, dim, stride, NULL);
    set_true(b, v.tensor, DNN_ATTR_TENSOR_IS_VIRTUAL);
    finalize(b, v.tensor, "a tensor between operations");
    return v;
}

static struct value scores(struct builder *b, int type)
{
    return passed_on(b, type, b->s->length, 0);
}

/* --- operations --- */

static void end_operation(struct builder *b, void *operation, const char *at)
{
    finalize(b, operation, at);
    if (b->num_operations == MOST_OPERATIONS) check(b, -1, at);
    if (!b->status) b->operations[b->num_operations++] = operation;
}

/* y = mode(x, with); choice: x where it is true, else `with`. Both may be NULL. axis: GEN_INDEX's.
 */
static void point(struct builder *b, int mode, int precision, struct value x,
                  const struct value *with, const struct value *choice, struct value y,
                  int64_t axis)
{
    void *what = make(b, DNN_BACKEND_POINTWISE_DESCRIPTOR, "a pointwise operation");
    set_number(b, what, DNN_ATTR_POINTWISE_MODE, DNN_TYPE_POINTWISE_MODE, mode);
    set_number(b, what, DNN_ATTR_POINTWISE_MATH_PREC, DNN_TYPE_DATA_TYPE, precision);
    if (mode == DNN_POINTWISE_GEN_INDEX) set_int64(b, what, DNN_ATTR_POINTWISE_AXIS, axis);
    finalize(b, what, "a pointwise operation");
    void *o = make(b, DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "a pointwise node");
    set_descriptor(b, o, DNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, what);
    set_descriptor(b, o, DNN_ATTR_OPERATION_POINTWISE_XDESC, x.tensor);
    if (with) set_descriptor(b, o, DNN_ATTR_OPERATION_POINTWISE_BDESC, with->tensor);
    if (choice) set_descriptor(b, o, DNN_ATTR_OPERATION_POINTWISE_TDESC, choice->tensor);
    set_descriptor(b, o, DNN_ATTR_OPERATION_POINTWISE_YDESC, y.tensor);
    end_operation(b, o, "a pointwise node");
}

static struct value apply(struct builder *b, int mode, struct value x, const struct value *with)
{
    struct value y = passed_on(b, DNN_DATA_FLOAT, x.dim[3], 0);
    point(b, mode, DNN_DATA_FLOAT, x, with, NULL, y, 0);
    return y;
}

/* A product, of whose rows, columns and terms a sequence has the number given (NULL: all). */
static void multiply(struct builder *b, struct value x, struct value y, struct value out,
                     const struct value *m, const struct value *n, const struct value *k)
{
    void *what = make(b, DNN_BACKEND_MATMUL_DESCRIPTOR, "a product");
    set_number(b, what, DNN_ATTR_MATMUL_COMP_TYPE, DNN_TYPE_DATA_TYPE, DNN_DATA_FLOAT);
    finalize(b, what, "a product");
    void *o = make(b, DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "a product's node");
    set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_ADESC, x.tensor);
    set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_BDESC, y.tensor);
    set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_CDESC, out.tensor);
    set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_DESC, what);
    if (m) set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, m->tensor);
    if (n) set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, n->tensor);
    if (k) set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, k->tensor);
    end_operation(b, o, "a product's node");
}

/* Along the axes of which `out` has one element or fewer than x. */
static void reduce(struct builder *b, int how, struct value x, struct value out)
{
    void *what = make(b, DNN_BACKEND_REDUCTION_DESCRIPTOR, "a reduction");
    set_number(b, what, DNN_ATTR_REDUCTION_COMP_TYPE, DNN_TYPE_DATA_TYPE, DNN_DATA_FLOAT);
    set_number(b, what, DNN_ATTR_REDUCTION_OPERATOR, DNN_TYPE_REDUCTION_OPERATOR_TYPE, how);
    finalize(b, what, "a reduction");
    void *o = make(b, DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "a reduction's node");
    set_descriptor(b, o, DNN_ATTR_OPERATION_REDUCTION_XDESC, x.tensor);
    set_descriptor(b, o, DNN_ATTR_OPERATION_REDUCTION_YDESC, out.tensor);
    set_descriptor(b, o, DNN_ATTR_OPERATION_REDUCTION_DESC, what);
    end_operation(b, o, "a reduction's node");
}

/* The same elements by other strides. */
static void view(struct builder *b, struct value x, struct value out)
{
    void *o = make(b, DNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, "a view");
    set_descriptor(b, o, DNN_ATTR_OPERATION_RESHAPE_XDESC, x.tensor);
    set_descriptor(b, o, DNN_ATTR_OPERATION_RESHAPE_YDESC, out.tensor);
    end_operation(b, o, "a view");
}

/* --- masks --- */

static struct value number_along(struct builder *b, struct value like, int64_t axis, int precision)
{
    struct value y = scores(b, DNN_DATA_INT32);
    point(b, DNN_POINTWISE_GEN_INDEX, precision, like, NULL, NULL, y, axis);
    return y;
}

static struct value compare(struct builder *b, int mode, struct value x, struct value with)
{
    struct value y = scores(b, DNN_DATA_BOOLEAN);
    point(b, mode, DNN_DATA_BOOLEAN, x, &with, NULL, y, 0);
    return y;
}

static struct value keep_where(struct builder *b, struct value s, struct value kept)
{
    struct value y = scores(b, DNN_DATA_FLOAT);
    point(b, DNN_POINTWISE_BINARY_SELECT, DNN_DATA_FLOAT, s, &b->input[SDPA_HIDDEN], &kept, y, 0);
    return y;
}

/* Rows and keys beyond the sequence, keys of the future, keys outside the window. */
static struct value hide(struct builder *b, struct value s)
{
    struct value row = number_along(b, s, 2, DNN_DATA_INT32);
    struct value key = number_along(b, s, 3, DNN_DATA_INT32);
    struct value row_in = compare(b, DNN_POINTWISE_CMP_LT, row, b->input[SDPA_ROWS]);
    struct value key_in = compare(b, DNN_POINTWISE_CMP_LT, key, b->input[SDPA_KEYS]);
    s = keep_where(b, s, compare(b, DNN_POINTWISE_LOGICAL_AND, row_in, key_in));

    row = number_along(b, s, 2, DNN_DATA_FLOAT);
    key = number_along(b, s, 3, DNN_DATA_FLOAT);
    s = keep_where(b, s, compare(b, DNN_POINTWISE_CMP_GE, row, key));
    if (!b->s->window) return s;

    row = number_along(b, s, 2, DNN_DATA_FLOAT);
    key = number_along(b, s, 3, DNN_DATA_FLOAT);
    key = apply(b, DNN_POINTWISE_ADD, key, &b->input[SDPA_WINDOW]);
    return keep_where(b, s, compare(b, DNN_POINTWISE_CMP_GT, key, row));
}

/* --- the graphs --- */

static struct value stats(struct builder *b)
{
    const struct sdpa_shape *s = b->s;
    const int64_t dim[4] = {s->sequences, s->H, s->length, 1};
    const int64_t stride[4] = {(int64_t)s->length * s->H, 1, s->H, 1}; /* lse is [N, H] */
    struct value v =
        tensor(b, SDPA_STATS, DNN_DATA_FLOAT, dim, stride, b->input[SDPA_AT_STATS].tensor);
    finalize(b, v.tensor, "stats");
    return v;
}

static struct value delta(struct builder *b)
{
    const struct sdpa_shape *s = b->s;
    const int64_t dim[4] = {s->sequences, s->H, s->length, 1};
    const int64_t stride[4] = {(int64_t)s->length * s->H, s->length, 1, 1};
    struct value v = tensor(b, SDPA_DELTA, DNN_DATA_FLOAT, dim, stride, NULL);
    finalize(b, v.tensor, "delta");
    return v;
}

static void forward(struct builder *b)
{
    const struct sdpa_shape *s = b->s;
    const struct value *in = b->input, *n = &in[SDPA_ROWS], *m = &in[SDPA_KEYS];
    struct value q = rows(b, SDPA_Q, s->H, s->ldq, SDPA_AT_Q, 0);
    struct value k = rows(b, SDPA_K, s->KV, s->ldk, SDPA_AT_K, 1);
    struct value v = rows(b, SDPA_V, s->KV, s->ldv, SDPA_AT_V, 0);
    struct value o = rows(b, SDPA_O, s->H, s->ldo, SDPA_AT_O, 0);
    struct value x = scores(b, DNN_DATA_FLOAT), most = passed_on(b, DNN_DATA_FLOAT, 1, 0);
    struct value sum = passed_on(b, DNN_DATA_FLOAT, 1, 0), p = scores(b, DNN_DATA_BFLOAT16);
    multiply(b, q, k, x, n, m, NULL);
    x = hide(b, apply(b, DNN_POINTWISE_MUL, x, &in[SDPA_SCALE]));
    reduce(b, DNN_REDUCE_TENSOR_MAX, x, most);
    x = apply(b, DNN_POINTWISE_SUB, x, &most);
    x = apply(b, DNN_POINTWISE_EXP, x, NULL);
    reduce(b, DNN_REDUCE_TENSOR_ADD, x, sum);
    struct value log_sum = apply(b, DNN_POINTWISE_LOG, sum, NULL);
    point(b, DNN_POINTWISE_ADD, DNN_DATA_FLOAT, most, &log_sum, NULL, stats(b), 0);
    point(b, DNN_POINTWISE_DIV, DNN_DATA_FLOAT, x, &sum, NULL, p, 0);
    multiply(b, p, v, o, n, NULL, m);
}

/* out = bf16(weights)^T y, summed over the query heads of a key head. */
static void key_gradient(struct builder *b, struct value weights, struct value y, struct value out)
{
    const struct value *n = &b->input[SDPA_ROWS], *m = &b->input[SDPA_KEYS];
    struct value turned = passed_on(b, DNN_DATA_BFLOAT16, b->s->length, 1);
    view(b, weights, turned);
    if (b->s->H == b->s->KV) {
        multiply(b, turned, y, out, m, NULL, n);
        return;
    }
    struct value each = passed_on(b, DNN_DATA_BFLOAT16, b->s->D, 0);
    multiply(b, turned, y, each, m, NULL, n);
    reduce(b, DNN_REDUCE_TENSOR_ADD, each, out);
}

/* k as it lies, a view of k turned. */
static struct value keys_again(struct builder *b, struct value k)
{
    const struct sdpa_shape *s = b->s;
    const int64_t dim[4] = {s->sequences, s->KV, s->length, s->D};
    const int64_t stride[4] = {(int64_t)s->length * s->ldk, s->D, s->ldk, 1};
    struct value v = tensor(b, FIRST_VIRTUAL + b->num_made, DNN_DATA_FLOAT, dim, stride,
                            b->input[SDPA_AT_K].tensor);
    set_true(b, v.tensor, DNN_ATTR_TENSOR_IS_VIRTUAL);
    finalize(b, v.tensor, "k, turned back");
    view(b, k, v);
    return v;
}

static void backward(struct builder *b)
{
    const struct sdpa_shape *s = b->s;
    const struct value *in = b->input, *n = &in[SDPA_ROWS], *m = &in[SDPA_KEYS];
    struct value q = rows(b, SDPA_Q, s->H, s->ldq, SDPA_AT_Q, 0);
    struct value k = rows(b, SDPA_K, s->KV, s->ldk, SDPA_AT_K, 1);
    struct value v = rows(b, SDPA_V, s->KV, s->ldv, SDPA_AT_V, 1);
    struct value o = rows(b, SDPA_O, s->H, s->ldo, SDPA_AT_O, 0);
    struct value d_o = rows(b, SDPA_DO, s->H, s->ldo, SDPA_AT_O, 0);
    struct value dq = rows(b, SDPA_DQ, s->H, s->lddq, SDPA_AT_DQ, 0);
    struct value dk = rows(b, SDPA_DK, s->KV, s->lddk, SDPA_AT_DK, 0);
    struct value dv = rows(b, SDPA_DV, s->KV, s->lddv, SDPA_AT_DV, 0);
    struct value lse = stats(b), sum = passed_on(b, DNN_DATA_FLOAT, 1, 0), kept = delta(b);
    struct value x = scores(b, DNN_DATA_FLOAT), dp = scores(b, DNN_DATA_FLOAT);

    reduce(b, DNN_REDUCE_TENSOR_ADD, apply(b, DNN_POINTWISE_MUL, d_o, &o), sum);
    point(b, DNN_POINTWISE_MUL, DNN_DATA_FLOAT, sum, &in[SDPA_ONE], NULL, kept, 0);
    multiply(b, q, k, x, n, m, NULL);
    x = apply(b, DNN_POINTWISE_MUL, x, &in[SDPA_SCALE]);
    x = hide(b, apply(b, DNN_POINTWISE_SUB, x, &lse));
    struct value p = apply(b, DNN_POINTWISE_EXP, x, NULL);
    key_gradient(b, p, d_o, dv);

    multiply(b, d_o, v, dp, n, m, NULL);
    dp = apply(b, DNN_POINTWISE_SUB, dp, &kept);
    dp = apply(b, DNN_POINTWISE_MUL, dp, &p);
    dp = apply(b, DNN_POINTWISE_MUL, dp, &in[SDPA_SCALE]);
    key_gradient(b, dp, q, dk);
    multiply(b, dp, keys_again(b, k), dq, n, NULL, m);
}

/* --- plans --- */

int sdpa_uses(const struct sdpa_shape *s, enum sdpa_tensor tensor)
{
    switch (tensor) {
    case SDPA_DO:
    case SDPA_DQ:
    case SDPA_DK:
    case SDPA_DV:
    case SDPA_DELTA:
    case SDPA_AT_DQ:
    case SDPA_AT_DK:
    case SDPA_AT_DV:
    case SDPA_ONE: return s->backward;
    case SDPA_WINDOW: return s->window > 0;
    case SDPA_NO_TENSOR:
    case SDPA_TENSORS_END: return 0;
    default: return 1;
    }
}

/* The arrays that other tensors refer to. */
static void make_inputs(struct builder *b)
{
    for (int i = SDPA_ROWS; i < SDPA_TENSORS_END; i++) {
        if (!sdpa_uses(b->s, (enum sdpa_tensor)i)) continue;
        int lengths = i <= SDPA_KEYS, offsets = !lengths && i < SDPA_SCALE;
        int type = lengths ? DNN_DATA_INT32 : offsets ? DNN_DATA_INT64 : DNN_DATA_FLOAT;
        int32_t count = lengths ? b->s->sequences : offsets ? b->s->sequences + 1 : 1;
        b->input[i] = line(b, (enum sdpa_tensor)i, type, count);
    }
}

static void *make_graph(struct builder *b)
{
    make_inputs(b);
    if (b->s->backward)
        backward(b);
    else
        forward(b);
    void *graph = make(b, DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the graph");
    if (b->t->handle)
        set(b, graph, DNN_ATTR_OPERATIONGRAPH_HANDLE, DNN_TYPE_HANDLE, 1, &b->t->handle);
    set(b, graph, DNN_ATTR_OPERATIONGRAPH_OPS, DNN_TYPE_BACKEND_DESCRIPTOR, b->num_operations,
        b->operations);
    finalize(b, graph, "the graph");
    return graph;
}

/* What cuDNN says of a config: whether it gives the same bits again, and its workspace. */
static int is_fit(struct builder *b, void *config, size_t *workspace)
{
    const struct cudnn *lib = b->t->lib;
    int notes[DNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0, bytes = 0;
    void *engine = make(b, DNN_BACKEND_ENGINE_DESCRIPTOR, "an engine");
    if (b->status) return 0;
    int status = lib->cudnnBackendGetAttribute(config, DNN_ATTR_ENGINECFG_ENGINE,
                                               DNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &engine);
    if (!status)
        status = lib->cudnnBackendGetAttribute(engine, DNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                               DNN_TYPE_NUMERICAL_NOTE,
                                               DNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes);
    for (int64_t i = 0; !status && i < count && i < DNN_NUMERICAL_NOTE_TYPE_COUNT; i++)
        if (notes[i] == DNN_NUMERICAL_NOTE_NONDETERMINISTIC) return 0;
    if (!status)
        status = lib->cudnnBackendGetAttribute(config, DNN_ATTR_ENGINECFG_WORKSPACE_SIZE,
                                               DNN_TYPE_INT64, 1, &count, &bytes);
    *workspace = (size_t)bytes;
    return !status && bytes >= 0;
}

/* The heuristic's first that is fit. */
static void *ask(struct builder *b, void *graph, size_t *workspace)
{
    void *configs[MOST_CONFIGS], *found = NULL;
    int64_t count = 0;
    void *heuristic = make(b, DNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "the heuristic");
    set_descriptor(b, heuristic, DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set_number(b, heuristic, DNN_ATTR_ENGINEHEUR_MODE, DNN_TYPE_HEUR_MODE, DNN_HEUR_MODE_A);
    if (b->t->properties)
        set_descriptor(b, heuristic, DNN_ATTR_ENGINEHEUR_DEVICEPROP, b->t->properties);
    finalize(b, heuristic, "the heuristic");
    for (int i = 0; i < MOST_CONFIGS; i++)
        configs[i] = make(b, DNN_BACKEND_ENGINECFG_DESCRIPTOR, "an engine's config");
    if (b->status) return NULL;
    check(b,
          b->t->lib->cudnnBackendGetAttribute(heuristic, DNN_ATTR_ENGINEHEUR_RESULTS,
                                              DNN_TYPE_BACKEND_DESCRIPTOR, MOST_CONFIGS, &count,
                                              configs),
          "the heuristic's answer");
    for (int64_t i = 0; !b->status && i < count && !found; i++)
        if (is_fit(b, configs[i], workspace)) found = configs[i];
    return found;
}

/* Everything but `kept`. */
static void release(struct builder *b, const void *kept)
{
    for (int i = b->num_made; i-- > 0;)
        if (b->made[i] != kept) b->t->lib->cudnnBackendDestroyDescriptor(b->made[i]);
}

enum status sdpa_choose(struct sdpa_plan *p, const struct sdpa_target *t,
                        const struct sdpa_shape *s, struct err *e)
{
    struct builder b = {.t = t, .s = s};
    *p = (struct sdpa_plan){.shape = *s};
    void *graph = make_graph(&b);
    p->config = ask(&b, graph, &p->workspace);
    release(&b, p->config);
    if (b.status)
        return err_set(e, ERR_DEVICE, "cuDNN does not take %s: %s", b.at,
                       t->lib->cudnnGetErrorString(b.status));
    if (!p->config) return err_set(e, ERR_UNSUPPORTED, "cuDNN has no deterministic engine for it");
    return OK;
}

enum status sdpa_make(struct sdpa_plan *p, const struct sdpa_target *t, struct err *e)
{
    struct builder b = {.t = t, .s = &p->shape};
    int64_t count = 0, bytes = 0;
    p->plan = make(&b, DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "a plan");
    set(&b, p->plan, DNN_ATTR_EXECUTION_PLAN_HANDLE, DNN_TYPE_HANDLE, 1, &t->handle);
    set_descriptor(&b, p->plan, DNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, p->config);
    finalize(&b, p->plan, "a plan");
    if (!b.status)
        check(&b,
              t->lib->cudnnBackendGetAttribute(p->plan, DNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                               DNN_TYPE_INT64, 1, &count, &bytes),
              "a plan's workspace");
    p->workspace = (size_t)bytes;
    if (!b.status) return OK;
    return err_set(e, ERR_DEVICE, "cuDNN does not make %s: %s", b.at,
                   t->lib->cudnnGetErrorString(b.status));
}

void sdpa_plan_free(struct sdpa_plan *p, const struct cudnn *lib)
{
    if (p->plan) lib->cudnnBackendDestroyDescriptor(p->plan);
    if (p->config) lib->cudnnBackendDestroyDescriptor(p->config);
    *p = (struct sdpa_plan){.plan = NULL};
}

int sdpa_run(const struct sdpa_plan *p, const struct sdpa_target *t, void *const *at,
             void *workspace)
{
    struct builder b = {.t = t, .s = &p->shape};
    int64_t ids[SDPA_TENSORS_END], count = 0;
    void *addresses[SDPA_TENSORS_END];
    for (int i = 0; i < SDPA_TENSORS_END; i++) {
        if (!sdpa_uses(&p->shape, (enum sdpa_tensor)i)) continue;
        ids[count] = i;
        addresses[count++] = at[i];
    }
    void *pack = make(&b, DNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "a pack");
    set(&b, pack, DNN_ATTR_VARIANT_PACK_UNIQUE_IDS, DNN_TYPE_INT64, count, ids);
    set(&b, pack, DNN_ATTR_VARIANT_PACK_DATA_POINTERS, DNN_TYPE_VOID_PTR, count, addresses);
    set(&b, pack, DNN_ATTR_VARIANT_PACK_WORKSPACE, DNN_TYPE_VOID_PTR, 1, &workspace);
    finalize(&b, pack, "a pack");
    if (!b.status) check(&b, t->lib->cudnnBackendExecute(t->handle, p->plan, pack), "running");
    release(&b, NULL);
    return b.status;
}

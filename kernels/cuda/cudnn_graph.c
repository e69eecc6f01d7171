#include "kernels/cuda/cudnn_builder.h"

#include <string.h>

enum { FIRST_VIRTUAL = 1000 };

/* --- tensors --- */

/* offset: the ragged offsets, NULL without; not finalized yet */
static struct value tensor(struct dnn_builder *b, int64_t id, int type, const int64_t dim[4],
                           const int64_t stride[4], void *offset)
{
    struct value v = {dnn_make(b, DNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor"), {0}};
    memcpy(v.dim, dim, sizeof v.dim);
    dnn_set_number(b, v.tensor, DNN_ATTR_TENSOR_DATA_TYPE, DNN_TYPE_DATA_TYPE, type);
    dnn_set(b, v.tensor, DNN_ATTR_TENSOR_DIMENSIONS, DNN_TYPE_INT64, 4, dim);
    dnn_set(b, v.tensor, DNN_ATTR_TENSOR_STRIDES, DNN_TYPE_INT64, 4, stride);
    dnn_set_int64(b, v.tensor, DNN_ATTR_TENSOR_UNIQUE_ID, id);
    dnn_set_int64(b, v.tensor, DNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
    if (offset) dnn_set_descriptor(b, v.tensor, DNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, offset);
    return v;
}

/* An index array, or one element. */
static struct value line(struct dnn_builder *b, enum sdpa_tensor id, int type, int32_t n)
{
    const int64_t dim[4] = {n, 1, 1, 1}, stride[4] = {1, 1, 1, 1};
    struct value v = tensor(b, id, type, dim, stride, NULL);
    if (type == DNN_DATA_FLOAT) dnn_set_true(b, v.tensor, DNN_ATTR_TENSOR_IS_BY_VALUE);
    dnn_finalize(b, v.tensor, "an array");
    return v;
}

/* Rows of `heads` heads, `ld` elements apart; turned: [.., D, length]. */
static struct value rows(struct dnn_builder *b, enum sdpa_tensor id, int32_t heads, int32_t ld,
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
    dnn_finalize(b, v.tensor, "rows");
    return v;
}

/* A tensor that is only passed on. columns 1: one number a row. */
static struct value passed_on(struct dnn_builder *b, int type, int64_t columns, int turned)
{
    const struct sdpa_shape *s = b->s;
    const int64_t R = s->length, dim[4] = {s->sequences, s->H, R, columns};
    int64_t stride[4] = {s->H * R * columns, R * columns, columns, 1};
    if (turned) stride[2] = 1, stride[3] = R;
    struct value v = tensor(b, FIRST_VIRTUAL + b->num_made, type, dim, stride, NULL);
    dnn_set_true(b, v.tensor, DNN_ATTR_TENSOR_IS_VIRTUAL);
    dnn_finalize(b, v.tensor, "a tensor between operations");
    return v;
}

static struct value scores(struct dnn_builder *b, int type)
{
    return passed_on(b, type, b->s->length, 0);
}

/* --- operations --- */

static void end_operation(struct dnn_builder *b, void *operation, const char *at)
{
    dnn_finalize(b, operation, at);
    if (b->num_operations == DNN_MOST_OPERATIONS) dnn_check(b, -1, at);
    if (!b->status) b->operations[b->num_operations++] = operation;
}

/* y = mode(x, with); choice: x where it is true, else `with`. Both may be NULL. axis: GEN_INDEX's.
 */
static void point(struct dnn_builder *b, int mode, int precision, struct value x,
                  const struct value *with, const struct value *choice, struct value y,
                  int64_t axis)
{
    void *what = dnn_make(b, DNN_BACKEND_POINTWISE_DESCRIPTOR, "a pointwise operation");
    dnn_set_number(b, what, DNN_ATTR_POINTWISE_MODE, DNN_TYPE_POINTWISE_MODE, mode);
    dnn_set_number(b, what, DNN_ATTR_POINTWISE_MATH_PREC, DNN_TYPE_DATA_TYPE, precision);
    if (mode == DNN_POINTWISE_GEN_INDEX) dnn_set_int64(b, what, DNN_ATTR_POINTWISE_AXIS, axis);
    dnn_finalize(b, what, "a pointwise operation");
    void *o = dnn_make(b, DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "a pointwise node");
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, what);
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_POINTWISE_XDESC, x.tensor);
    if (with) dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_POINTWISE_BDESC, with->tensor);
    if (choice) dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_POINTWISE_TDESC, choice->tensor);
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_POINTWISE_YDESC, y.tensor);
    end_operation(b, o, "a pointwise node");
}

static struct value apply(struct dnn_builder *b, int mode, struct value x, const struct value *with)
{
    struct value y = passed_on(b, DNN_DATA_FLOAT, x.dim[3], 0);
    point(b, mode, DNN_DATA_FLOAT, x, with, NULL, y, 0);
    return y;
}

/* A product, of whose rows, columns and terms a sequence has the number given (NULL: all). */
static void multiply(struct dnn_builder *b, struct value x, struct value y, struct value out,
                     const struct value *m, const struct value *n, const struct value *k)
{
    void *what = dnn_make(b, DNN_BACKEND_MATMUL_DESCRIPTOR, "a product");
    dnn_set_number(b, what, DNN_ATTR_MATMUL_COMP_TYPE, DNN_TYPE_DATA_TYPE, DNN_DATA_FLOAT);
    dnn_finalize(b, what, "a product");
    void *o = dnn_make(b, DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, "a product's node");
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_ADESC, x.tensor);
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_BDESC, y.tensor);
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_CDESC, out.tensor);
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_DESC, what);
    if (m) dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, m->tensor);
    if (n) dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC, n->tensor);
    if (k) dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC, k->tensor);
    end_operation(b, o, "a product's node");
}

/* Along the axes of which `out` has one element or fewer than x. */
static void reduce(struct dnn_builder *b, int how, struct value x, struct value out)
{
    void *what = dnn_make(b, DNN_BACKEND_REDUCTION_DESCRIPTOR, "a reduction");
    dnn_set_number(b, what, DNN_ATTR_REDUCTION_COMP_TYPE, DNN_TYPE_DATA_TYPE, DNN_DATA_FLOAT);
    dnn_set_number(b, what, DNN_ATTR_REDUCTION_OPERATOR, DNN_TYPE_REDUCTION_OPERATOR_TYPE, how);
    dnn_finalize(b, what, "a reduction");
    void *o = dnn_make(b, DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, "a reduction's node");
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_REDUCTION_XDESC, x.tensor);
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_REDUCTION_YDESC, out.tensor);
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_REDUCTION_DESC, what);
    end_operation(b, o, "a reduction's node");
}

/* The same elements by other strides. */
static void view(struct dnn_builder *b, struct value x, struct value out)
{
    void *o = dnn_make(b, DNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, "a view");
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_RESHAPE_XDESC, x.tensor);
    dnn_set_descriptor(b, o, DNN_ATTR_OPERATION_RESHAPE_YDESC, out.tensor);
    end_operation(b, o, "a view");
}

/* --- masks --- */

static struct value number_along(struct dnn_builder *b, struct value like, int64_t axis,
                                 int precision)
{
    struct value y = scores(b, DNN_DATA_INT32);
    point(b, DNN_POINTWISE_GEN_INDEX, precision, like, NULL, NULL, y, axis);
    return y;
}

static struct value compare(struct dnn_builder *b, int mode, struct value x, struct value with)
{
    struct value y = scores(b, DNN_DATA_BOOLEAN);
    point(b, mode, DNN_DATA_BOOLEAN, x, &with, NULL, y, 0);
    return y;
}

static struct value keep_where(struct dnn_builder *b, struct value s, struct value kept)
{
    struct value y = scores(b, DNN_DATA_FLOAT);
    point(b, DNN_POINTWISE_BINARY_SELECT, DNN_DATA_FLOAT, s, &b->input[SDPA_HIDDEN], &kept, y, 0);
    return y;
}

/* Rows and keys beyond the sequence, keys of the future, keys outside the window. */
static struct value hide(struct dnn_builder *b, struct value s)
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

static struct value stats(struct dnn_builder *b)
{
    const struct sdpa_shape *s = b->s;
    const int64_t dim[4] = {s->sequences, s->H, s->length, 1};
    const int64_t stride[4] = {(int64_t)s->length * s->H, 1, s->H, 1}; /* lse is [N, H] */
    struct value v =
        tensor(b, SDPA_STATS, DNN_DATA_FLOAT, dim, stride, b->input[SDPA_AT_STATS].tensor);
    dnn_finalize(b, v.tensor, "stats");
    return v;
}

static struct value delta(struct dnn_builder *b)
{
    const struct sdpa_shape *s = b->s;
    const int64_t dim[4] = {s->sequences, s->H, s->length, 1};
    const int64_t stride[4] = {(int64_t)s->length * s->H, s->length, 1, 1};
    struct value v = tensor(b, SDPA_DELTA, DNN_DATA_FLOAT, dim, stride, NULL);
    dnn_finalize(b, v.tensor, "delta");
    return v;
}

static void forward(struct dnn_builder *b)
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
static void key_gradient(struct dnn_builder *b, struct value weights, struct value y,
                         struct value out)
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
static struct value keys_again(struct dnn_builder *b, struct value k)
{
    const struct sdpa_shape *s = b->s;
    const int64_t dim[4] = {s->sequences, s->KV, s->length, s->D};
    const int64_t stride[4] = {(int64_t)s->length * s->ldk, s->D, s->ldk, 1};
    struct value v = tensor(b, FIRST_VIRTUAL + b->num_made, DNN_DATA_FLOAT, dim, stride,
                            b->input[SDPA_AT_K].tensor);
    dnn_set_true(b, v.tensor, DNN_ATTR_TENSOR_IS_VIRTUAL);
    dnn_finalize(b, v.tensor, "k, turned back");
    view(b, k, v);
    return v;
}

static void backward(struct dnn_builder *b)
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
static void make_inputs(struct dnn_builder *b)
{
    for (int i = SDPA_ROWS; i < SDPA_TENSORS_END; i++) {
        if (!sdpa_uses(b->s, (enum sdpa_tensor)i)) continue;
        int lengths = i <= SDPA_KEYS, offsets = !lengths && i < SDPA_SCALE;
        int type = lengths ? DNN_DATA_INT32 : offsets ? DNN_DATA_INT64 : DNN_DATA_FLOAT;
        int32_t count = lengths ? b->s->sequences : offsets ? b->s->sequences + 1 : 1;
        b->input[i] = line(b, (enum sdpa_tensor)i, type, count);
    }
}

void *sdpa_graph(struct dnn_builder *b)
{
    make_inputs(b);
    if (b->s->backward)
        backward(b);
    else
        forward(b);
    void *graph = dnn_make(b, DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the graph");
    if (b->t->handle)
        dnn_set(b, graph, DNN_ATTR_OPERATIONGRAPH_HANDLE, DNN_TYPE_HANDLE, 1, &b->t->handle);
    dnn_set(b, graph, DNN_ATTR_OPERATIONGRAPH_OPS, DNN_TYPE_BACKEND_DESCRIPTOR, b->num_operations,
            b->operations);
    dnn_finalize(b, graph, "the graph");
    return graph;
}

/* cudnn.cc - stands in for cuDNN: takes a graph's descriptors and does what they say.
 *
 * It knows no attention. Descriptors keep what they are given; running a plan reads types, sizes,
 * strides, offsets, lengths and scalars back from them and goes through the operations in order,
 * with plain loops, a sequence at a time. So what the graph says wrongly comes out wrong.
 *
 * Harder than the library where it can be: what a product's lengths leave out is NaN; three rows
 * and keys past a sequence's end are computed, so that masks are needed; rows of ragged tensors
 * past the end are NaN when read, and not written; the workspace is filled with ones' bits.
 * Descriptors are finalized before they are used, and may be destroyed once they have been.
 */
#include <math.h>
#include <string.h>

#include <map>
#include <memory>
#include <vector>

#include "kernels/emu/block.h"
#include "kernels/emu/runtime.h"

extern "C" {
#include "kernels/cuda/cudnn.h"
}

namespace
{

enum { WELL = 0, BAD_PARAM = 2000, PAST_END = 3 };

struct attribute {
    int type;
    int64_t count;
    std::vector<unsigned char> bytes;
    std::vector<std::shared_ptr<struct descriptor>> refers;
};

struct descriptor {
    int kind;
    bool final = false;
    std::map<int, attribute> has;

    template <class T> T get(int name, T otherwise, size_t i = 0) const
    {
        auto at = has.find(name);
        T value = otherwise;
        if (at != has.end())
            memcpy(&value, at->second.bytes.data() + i * sizeof value, sizeof value);
        return value;
    }
    const struct descriptor *refer(int name) const
    {
        auto at = has.find(name);
        return at == has.end() ? NULL : at->second.refers[0].get();
    }
};

typedef std::shared_ptr<struct descriptor> shared; /* what a void * of the API points to */

shared &of(void *d) { return *(shared *)d; }

struct handle {
    cudaStream_t stream;
};

/* --- tensors of one sequence --- */

struct memory {
    unsigned char *real = NULL;
    int type = DNN_DATA_FLOAT;
    std::vector<float> made; /* where there is no `real` */
};

struct view {
    std::shared_ptr<memory> of;
    int64_t first = 0, dim[4], stride[4];
    int64_t rows = INT64_MAX; /* of a ragged tensor, along `axis` */
    int axis = 2;
    bool rounds = false; /* to bf16 */
};

float widen(uint16_t bits)
{
    uint32_t word = (uint32_t)bits << 16;
    float f;
    memcpy(&f, &word, sizeof f);
    return f;
}

uint16_t narrow(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (f != f) return 0x7fff;
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* Heads of a smaller number are shared; an axis of one element is. */
int64_t offset_of(const view &v, int64_t heads, int64_t h, int64_t i, int64_t j)
{
    if (v.dim[1] != heads) h = h * v.dim[1] / heads;
    if (v.dim[2] == 1) i = 0;
    if (v.dim[3] == 1) j = 0;
    return v.first + h * v.stride[1] + i * v.stride[2] + j * v.stride[3];
}

float load(const view &v, int64_t heads, int64_t h, int64_t i, int64_t j)
{
    if ((v.axis == 2 ? i : j) >= v.rows) return NAN;
    int64_t at = offset_of(v, heads, h, i, j);
    if (!v.of->real) return v.of->made.at((size_t)at);
    if (v.of->type == DNN_DATA_BFLOAT16) return widen(((const uint16_t *)v.of->real)[at]);
    if (v.of->type == DNN_DATA_INT32) return (float)((const int32_t *)v.of->real)[at];
    return ((const float *)v.of->real)[at];
}

void store(const view &v, int64_t h, int64_t i, int64_t j, float f)
{
    if ((v.axis == 2 ? i : j) >= v.rows) return;
    int64_t at = offset_of(v, v.dim[1], h, i, j);
    if (!v.of->real)
        v.of->made.at((size_t)at) = v.rounds ? widen(narrow(f)) : f;
    else if (v.of->type == DNN_DATA_BFLOAT16)
        ((uint16_t *)v.of->real)[at] = narrow(f);
    else
        ((float *)v.of->real)[at] = f;
}

/* --- a graph on one sequence --- */

struct run {
    shared graph;
    std::map<int64_t, void *> given;   /* device addresses */
    std::map<int64_t, float> by_value; /* numbers */
};

struct sequence {
    const run &r;
    int64_t number, rows, most; /* rows it has; how many are computed */
    std::map<int64_t, view> known;

    const void *address(const descriptor *t) const
    {
        int64_t id = t->get<int64_t>(DNN_ATTR_TENSOR_UNIQUE_ID, -1);
        auto at = r.given.find(id);
        if (at == r.given.end()) emu::fail("cuDNN is given no address of tensor %ld", (long)id);
        return at->second;
    }

    int32_t length(const descriptor *t) const { return ((const int32_t *)address(t))[number]; }

    view describe(const descriptor *t) const
    {
        view v;
        for (size_t i = 0; i < 4; i++) {
            v.dim[i] = t->get<int64_t>(DNN_ATTR_TENSOR_DIMENSIONS, 0, i);
            v.stride[i] = t->get<int64_t>(DNN_ATTR_TENSOR_STRIDES, 0, i);
        }
        v.axis = v.dim[3] > 1 && v.stride[3] > v.stride[2] ? 3 : 2;
        v.of = std::make_shared<memory>();
        v.of->type = t->get<int>(DNN_ATTR_TENSOR_DATA_TYPE, -1);
        v.rounds = v.of->type == DNN_DATA_BFLOAT16;
        const descriptor *offset = t->refer(DNN_ATTR_TENSOR_RAGGED_OFFSET_DESC);
        if (offset) v.rows = rows;
        v.first = offset ? ((const int64_t *)address(offset))[number] : number * v.stride[0];
        if (v.dim[0] == 1) v.first = 0;
        return v;
    }

    view &tensor(const descriptor *t)
    {
        int64_t id = t->get<int64_t>(DNN_ATTR_TENSOR_UNIQUE_ID, -1);
        auto found = known.find(id);
        if (found != known.end()) return found->second;
        view v = describe(t);
        if (t->get<char>(DNN_ATTR_TENSOR_IS_VIRTUAL, 0)) {
            v.first = 0;
            v.rows = INT64_MAX;
            int64_t last = 0;
            for (int i = 1; i < 4; i++) last += (v.dim[i] - 1) * v.stride[i];
            v.of->made.assign((size_t)last + 1, NAN);
        } else if (t->get<char>(DNN_ATTR_TENSOR_IS_BY_VALUE, 0)) {
            v.of->made.assign(1, r.by_value.at(id));
        } else {
            v.of->real = (unsigned char *)address(t);
        }
        return known[id] = v;
    }

    /* How far to go along an axis: that of rows or keys ends a little behind the sequence. */
    int64_t end(const view &v, int axis, int64_t padded) const
    {
        return v.dim[axis] == padded && (axis == v.axis || v.dim[2] == v.dim[3]) ? most
                                                                                 : v.dim[axis];
    }

    void point(const descriptor *o, int64_t padded)
    {
        const descriptor *what = o->refer(DNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
        const descriptor *b_at = o->refer(DNN_ATTR_OPERATION_POINTWISE_BDESC);
        const descriptor *t_at = o->refer(DNN_ATTR_OPERATION_POINTWISE_TDESC);
        int mode = what->get<int>(DNN_ATTR_POINTWISE_MODE, -1);
        int64_t axis = what->get<int64_t>(DNN_ATTR_POINTWISE_AXIS, -1);
        view x = tensor(o->refer(DNN_ATTR_OPERATION_POINTWISE_XDESC)), b = x, t = x;
        if (b_at) b = tensor(b_at);
        if (t_at) t = tensor(t_at);
        view y = tensor(o->refer(DNN_ATTR_OPERATION_POINTWISE_YDESC));
        int64_t H = y.dim[1], I = end(y, 2, padded), J = end(y, 3, padded);
        for (int64_t h = 0; h < H; h++)
            for (int64_t i = 0; i < I; i++)
                for (int64_t j = 0; j < J; j++) {
                    float f = load(x, H, h, i, j), g = b_at ? load(b, H, h, i, j) : 0;
                    switch (mode) {
                    case DNN_POINTWISE_ADD: f += g; break;
                    case DNN_POINTWISE_SUB: f -= g; break;
                    case DNN_POINTWISE_MUL: f *= g; break;
                    case DNN_POINTWISE_DIV: f /= g; break;
                    case DNN_POINTWISE_EXP: f = expf(f); break;
                    case DNN_POINTWISE_LOG: f = logf(f); break;
                    case DNN_POINTWISE_CMP_GT: f = f > g; break;
                    case DNN_POINTWISE_CMP_GE: f = f >= g; break;
                    case DNN_POINTWISE_CMP_LT: f = f < g; break;
                    case DNN_POINTWISE_LOGICAL_AND: f = f != 0 && g != 0; break;
                    case DNN_POINTWISE_GEN_INDEX: f = (float)(axis == 2 ? i : j); break;
                    case DNN_POINTWISE_BINARY_SELECT: f = load(t, H, h, i, j) != 0 ? f : g; break;
                    default: emu::fail("cuDNN's stand-in has no pointwise mode %d", mode);
                    }
                    store(y, h, i, j, f);
                }
    }

    void multiply(const descriptor *o, int64_t padded)
    {
        const descriptor *m = o->refer(DNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC);
        const descriptor *n = o->refer(DNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC);
        const descriptor *k = o->refer(DNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC);
        view a = tensor(o->refer(DNN_ATTR_OPERATION_MATMUL_ADESC));
        view b = tensor(o->refer(DNN_ATTR_OPERATION_MATMUL_BDESC));
        view c = tensor(o->refer(DNN_ATTR_OPERATION_MATMUL_CDESC));
        int64_t H = c.dim[1], M = m ? length(m) : c.dim[2], N = n ? length(n) : c.dim[3];
        int64_t K = k ? length(k) : a.dim[3], I = end(c, 2, padded), J = end(c, 3, padded);
        std::vector<float> left((size_t)(M * K)), right((size_t)(N * K));
        if (a.dim[2] != c.dim[2] || b.dim[3] != c.dim[3] || a.dim[3] != b.dim[2])
            emu::fail("cuDNN's stand-in is given a product of unequal shapes");
        for (int64_t h = 0; h < H; h++) {
            for (int64_t t = 0; t < K; t++) {
                for (int64_t i = 0; i < M; i++) left[(size_t)(i * K + t)] = load(a, H, h, i, t);
                for (int64_t j = 0; j < N; j++) right[(size_t)(j * K + t)] = load(b, H, h, t, j);
            }
            for (int64_t i = 0; i < I; i++)
                for (int64_t j = 0; j < J; j++) {
                    int64_t terms = i < M && j < N ? K : 0;
                    const float *x = left.data() + i * K, *y = right.data() + j * K;
                    float sum = i < M && j < N ? 0 : NAN;
                    for (int64_t t = 0; t < terms; t++) sum += x[t] * y[t];
                    store(c, h, i, j, sum);
                }
        }
    }

    void reduce(const descriptor *o, int64_t padded)
    {
        const descriptor *what = o->refer(DNN_ATTR_OPERATION_REDUCTION_DESC);
        view x = tensor(o->refer(DNN_ATTR_OPERATION_REDUCTION_XDESC));
        view y = tensor(o->refer(DNN_ATTR_OPERATION_REDUCTION_YDESC));
        bool adds = what->get<int>(DNN_ATTR_REDUCTION_OPERATOR, -1) == DNN_REDUCE_TENSOR_ADD;
        int64_t each = x.dim[1] / y.dim[1], columns = y.dim[3] == 1 ? end(x, 3, padded) : 1;
        for (int64_t h = 0; h < y.dim[1]; h++)
            for (int64_t i = 0; i < end(x, 2, padded); i++)
                for (int64_t j = 0; j < y.dim[3]; j++) {
                    float f = adds ? 0 : -INFINITY;
                    for (int64_t g = h * each; g < (h + 1) * each; g++)
                        for (int64_t c = j; c < j + columns; c++) {
                            float v = load(x, x.dim[1], g, i, c);
                            f = adds ? f + v : v > f ? v : f;
                        }
                    store(y, h, i, j, f);
                }
    }

    /* The same memory; what was made is rounded if the new type is bf16. */
    void look(const descriptor *o)
    {
        const descriptor *to = o->refer(DNN_ATTR_OPERATION_RESHAPE_YDESC);
        view x = tensor(o->refer(DNN_ATTR_OPERATION_RESHAPE_XDESC)), y = describe(to);
        bool rounds = y.rounds;
        if (x.of->real) {
            y.of = x.of;
        } else {
            y.of->made = x.of->made;
            y.first = 0;
            for (float &f : y.of->made) f = rounds ? widen(narrow(f)) : f;
        }
        known[to->get<int64_t>(DNN_ATTR_TENSOR_UNIQUE_ID, -1)] = y;
    }

    void compute(int64_t padded)
    {
        for (const shared &o : r.graph->has.at(DNN_ATTR_OPERATIONGRAPH_OPS).refers) {
            if (o->kind == DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) point(o.get(), padded);
            if (o->kind == DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) multiply(o.get(), padded);
            if (o->kind == DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR) reduce(o.get(), padded);
            if (o->kind == DNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR) look(o.get());
        }
    }
};

/* The first product says how many sequences there are, how long they are and how long at most. */
const descriptor *first_product(const descriptor &graph)
{
    for (const shared &o : graph.has.at(DNN_ATTR_OPERATIONGRAPH_OPS).refers)
        if (o->kind == DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) return o.get();
    emu::fail("cuDNN's stand-in is given a graph without a product");
    return NULL;
}

int64_t size_of(const descriptor &graph, size_t axis)
{
    const descriptor *c = first_product(graph)->refer(DNN_ATTR_OPERATION_MATMUL_CDESC);
    return c->get<int64_t>(DNN_ATTR_TENSOR_DIMENSIONS, 0, axis);
}

/* As on Hopper: gradients keep scores' gradients. */
int64_t workspace_of(const descriptor &graph)
{
    size_t products = 0;
    for (const shared &o : graph.has.at(DNN_ATTR_OPERATIONGRAPH_OPS).refers)
        products += o->kind == DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR;
    if (products < 3) return 64;
    return 2 * size_of(graph, 0) * size_of(graph, 1) * size_of(graph, 2) * size_of(graph, 3);
}

void execute(const run &r)
{
    int64_t padded = size_of(*r.graph, 2);
    const descriptor *rows =
        first_product(*r.graph)->refer(DNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC);
    for (int64_t i = 0; i < size_of(*r.graph, 0); i++) {
        sequence s = {r, i, 0, 0, {}};
        s.rows = s.length(rows);
        s.most = s.rows + PAST_END < padded ? s.rows + PAST_END : padded;
        if (s.rows < 0 || s.rows > padded) emu::fail("a sequence of %ld rows", (long)s.rows);
        if (s.rows) s.compute(padded);
    }
}

/* --- the entries --- */

size_t version(void) { return CUDNN_OLDEST; }

const char *error_string(int status) { return status == BAD_PARAM ? "BAD_PARAM" : "SUCCESS"; }

int create(void **out)
{
    *out = new handle{};
    return WELL;
}

int destroy(void *h)
{
    delete (handle *)h;
    return WELL;
}

int set_stream(void *h, void *stream)
{
    ((handle *)h)->stream = (cudaStream_t)stream;
    return WELL;
}

int create_descriptor(int kind, void **out)
{
    shared d = std::make_shared<descriptor>();
    d->kind = kind;
    *out = new shared(d);
    return WELL;
}

int destroy_descriptor(void *d)
{
    delete (shared *)d;
    return WELL;
}

size_t size_of_type(int type)
{
    if (type == DNN_TYPE_BOOLEAN || type == DNN_TYPE_CHAR) return 1;
    return type == DNN_TYPE_INT64 || type == DNN_TYPE_VOID_PTR || type == DNN_TYPE_HANDLE ? 8 : 4;
}

int set_attribute(void *d, int name, int type, int64_t count, const void *values)
{
    attribute a = {type, count, {}, {}};
    if (of(d)->final || count < 1) return BAD_PARAM;
    if (type == DNN_TYPE_BACKEND_DESCRIPTOR) {
        for (int64_t i = 0; i < count; i++) {
            void *refers = ((void *const *)values)[i];
            if (!refers || !of(refers)->final) return BAD_PARAM;
            a.refers.push_back(of(refers));
        }
    } else {
        const unsigned char *p = (const unsigned char *)values;
        a.bytes.assign(p, p + (size_t)count * size_of_type(type));
    }
    of(d)->has[name] = a;
    return WELL;
}

/* What a kind cannot be without. */
int is_whole(const descriptor &d)
{
    static const struct {
        int kind, needs;
    } rules[] = {
        {DNN_BACKEND_TENSOR_DESCRIPTOR, DNN_ATTR_TENSOR_DATA_TYPE},
        {DNN_BACKEND_TENSOR_DESCRIPTOR, DNN_ATTR_TENSOR_DIMENSIONS},
        {DNN_BACKEND_TENSOR_DESCRIPTOR, DNN_ATTR_TENSOR_STRIDES},
        {DNN_BACKEND_TENSOR_DESCRIPTOR, DNN_ATTR_TENSOR_UNIQUE_ID},
        {DNN_BACKEND_TENSOR_DESCRIPTOR, DNN_ATTR_TENSOR_BYTE_ALIGNMENT},
        {DNN_BACKEND_POINTWISE_DESCRIPTOR, DNN_ATTR_POINTWISE_MODE},
        {DNN_BACKEND_POINTWISE_DESCRIPTOR, DNN_ATTR_POINTWISE_MATH_PREC},
        {DNN_BACKEND_MATMUL_DESCRIPTOR, DNN_ATTR_MATMUL_COMP_TYPE},
        {DNN_BACKEND_REDUCTION_DESCRIPTOR, DNN_ATTR_REDUCTION_OPERATOR},
        {DNN_BACKEND_REDUCTION_DESCRIPTOR, DNN_ATTR_REDUCTION_COMP_TYPE},
        {DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, DNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR},
        {DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, DNN_ATTR_OPERATION_POINTWISE_XDESC},
        {DNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, DNN_ATTR_OPERATION_POINTWISE_YDESC},
        {DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, DNN_ATTR_OPERATION_MATMUL_ADESC},
        {DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, DNN_ATTR_OPERATION_MATMUL_BDESC},
        {DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, DNN_ATTR_OPERATION_MATMUL_CDESC},
        {DNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR, DNN_ATTR_OPERATION_MATMUL_DESC},
        {DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, DNN_ATTR_OPERATION_REDUCTION_XDESC},
        {DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, DNN_ATTR_OPERATION_REDUCTION_YDESC},
        {DNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR, DNN_ATTR_OPERATION_REDUCTION_DESC},
        {DNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, DNN_ATTR_OPERATION_RESHAPE_XDESC},
        {DNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR, DNN_ATTR_OPERATION_RESHAPE_YDESC},
        {DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, DNN_ATTR_OPERATIONGRAPH_HANDLE},
        {DNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, DNN_ATTR_OPERATIONGRAPH_OPS},
        {DNN_BACKEND_ENGINEHEUR_DESCRIPTOR, DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH},
        {DNN_BACKEND_ENGINEHEUR_DESCRIPTOR, DNN_ATTR_ENGINEHEUR_MODE},
        {DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, DNN_ATTR_EXECUTION_PLAN_HANDLE},
        {DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, DNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG},
        {DNN_BACKEND_VARIANT_PACK_DESCRIPTOR, DNN_ATTR_VARIANT_PACK_UNIQUE_IDS},
        {DNN_BACKEND_VARIANT_PACK_DESCRIPTOR, DNN_ATTR_VARIANT_PACK_DATA_POINTERS},
        {DNN_BACKEND_VARIANT_PACK_DESCRIPTOR, DNN_ATTR_VARIANT_PACK_WORKSPACE},
    };
    for (const auto &rule : rules)
        if (rule.kind == d.kind && !d.has.count(rule.needs)) return 0;
    return 1;
}

int finalize(void *d)
{
    if (of(d)->final || !is_whole(*of(d))) return BAD_PARAM;
    of(d)->final = true;
    return WELL;
}

/* The graph that a heuristic, a config or a plan is of. */
const shared &graph_of(const descriptor &d)
{
    if (d.kind == DNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)
        return graph_of(*d.refer(DNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG));
    return d.has.at(DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).refers[0];
}

int get_attribute(void *from, int name, int, int64_t room, int64_t *count, void *values)
{
    const descriptor &d = *of(from);
    if (room < 1) return BAD_PARAM;
    *count = 1;
    if (name == DNN_ATTR_ENGINEHEUR_RESULTS) { /* one config, which remembers the graph */
        descriptor &config = *of(*(void **)values);
        config.has[DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH] =
            d.has.at(DNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
        config.final = true;
    } else if (name == DNN_ATTR_ENGINECFG_WORKSPACE_SIZE ||
               name == DNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        *(int64_t *)values = workspace_of(*graph_of(d));
    } else if (name == DNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        *count = 0;
    } else if (name != DNN_ATTR_ENGINECFG_ENGINE) {
        return BAD_PARAM;
    }
    return WELL;
}

int is_there = 1;
long runs; /* plans started */

int start(void *h, void *plan, void *pack)
{
    const descriptor &p = *of(pack);
    run r = {graph_of(*of(plan)), {}, {}};
    int64_t count = p.has.at(DNN_ATTR_VARIANT_PACK_UNIQUE_IDS).count;
    void *workspace = p.get<void *>(DNN_ATTR_VARIANT_PACK_WORKSPACE, NULL);
    size_t bytes = (size_t)workspace_of(*r.graph);
    if (!of(pack)->final || p.has.at(DNN_ATTR_VARIANT_PACK_DATA_POINTERS).count != count)
        return BAD_PARAM;
    for (int64_t i = 0; i < count; i++)
        r.given[p.get<int64_t>(DNN_ATTR_VARIANT_PACK_UNIQUE_IDS, -1, (size_t)i)] =
            p.get<void *>(DNN_ATTR_VARIANT_PACK_DATA_POINTERS, NULL, (size_t)i);
    /* numbers are read now, by those who refer to them */
    for (const shared &o : r.graph->has.at(DNN_ATTR_OPERATIONGRAPH_OPS).refers)
        for (const auto &attribute : o->has)
            for (const shared &t : attribute.second.refers)
                if (t->get<char>(DNN_ATTR_TENSOR_IS_BY_VALUE, 0)) {
                    int64_t id = t->get<int64_t>(DNN_ATTR_TENSOR_UNIQUE_ID, -1);
                    r.by_value[id] = *(const float *)r.given.at(id);
                }
    runs++;
    emu_enqueue(((handle *)h)->stream, [r, workspace, bytes] {
        memset(workspace, 0xff, bytes);
        execute(r);
    });
    return WELL;
}

} // namespace

extern "C" void emu_set_cudnn(int there) { is_there = there; }
extern "C" long emu_cudnn_runs(void) { return runs; }

extern "C" const struct cudnn *cudnn_load(struct err *e)
{
    static const struct cudnn functions = {version,
                                           error_string,
                                           create,
                                           destroy,
                                           set_stream,
                                           create_descriptor,
                                           destroy_descriptor,
                                           finalize,
                                           set_attribute,
                                           get_attribute,
                                           start};
    if (is_there) return &functions;
    err_set(e, ERR_DEVICE, "libcudnn.so.9: not found");
    return NULL;
}

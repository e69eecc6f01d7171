/* head.cu - log-probabilities of the targets, in chunks of rows; logits are never whole.
 *
 * z = W x_s;  lse = log sum exp z;  logp = z[target] - lse;  p = exp(z - lse)
 * dx_s = W[target] - sum_v p_v W_v;  dW += sum_s dlogp_s (onehot(target) - p) x_s^T
 * entropy = lse - sum p z;  sum_p2 = log sum p^2;  mean_logit = mean z
 * x [*, C] gathered by row[], W [V, C]; logits of the device's type (SEMANTICS D), fp32 from there.
 * FLOPs: 2 S C V for each of logits, dx and dW. Bytes: W once a chunk and product, the chunk of
 * logits read from memory by the sweep, again from L2 and written over.
 * Grid of the sweep: a block a row, one pass for all sums (online softmax: a sum moves to a new
 * maximum when one turns up), one for the gradient. Scratch: CHUNK_BYTES of logits at most.
 * Deterministic: a thread goes over its packs in order, threads are merged in a tree; the chunk
 * follows from V alone.
 */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/kernel.cuh"

enum { CHUNK_BYTES = 256 << 20, CHUNK_UNIT = 128, SWEEP_THREADS = 1024, ROW_THREADS = 128 };

/* --- scratch --- */

static int32_t chunk_rows(const struct device *d, const struct kern_head *h)
{
    int64_t rows = CHUNK_BYTES / ((int64_t)h->V * (int64_t)dtype_size(d->type));
    rows = rows / CHUNK_UNIT * CHUNK_UNIT;
    if (rows < CHUNK_UNIT) rows = CHUNK_UNIT;
    if (rows > h->S) rows = h->S;
    return (int32_t)(rows > 1 ? rows : 1);
}

/* Logits, the rows of x, and the logits' columns that dw_row names. */
struct head_scratch {
    int32_t rows;
    size_t x, picked, total; /* bytes before each */
};

static size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

static struct head_scratch plan(const struct device *d, const struct kern_head *h)
{
    struct head_scratch s;
    size_t each = dtype_size(d->type);
    s.rows = chunk_rows(d, h);
    s.x = aligned((size_t)s.rows * (size_t)h->V * each);
    s.picked = s.x + aligned((size_t)s.rows * (size_t)h->C * each);
    s.total = s.picked + aligned((size_t)s.rows * (size_t)h->num_dw_rows * each);
    return s;
}

size_t cuda_head_scratch(const struct device *d, const struct kern_head *h)
{
    return plan(d, h).total;
}

struct kern_head_cut cuda_head_cut(const struct device *d, const struct kern_head *h)
{
    struct kern_head_cut cut = {chunk_rows(d, h), h->V};
    return cut;
}

/* --- rows in and out --- */

/* xs[i] = scale[i] x[row[i]]; scale NULL: 1. */
template <class T, int V>
__global__ void __launch_bounds__(ROW_THREADS)
    gather_inputs(T *xs, const T *x, const int32_t *row, const float *scale, int32_t C, int32_t ldx)
{
    const T *from = x + (size_t)row[blockIdx.x] * ldx;
    T *to = xs + (size_t)blockIdx.x * C;
    float f = scale ? scale[blockIdx.x] : 1;
    for (int32_t c = (int32_t)threadIdx.x * V; c < C; c += ROW_THREADS * V) {
        float values[V];
        load(values, from + c);
        UNROLL for (int v = 0; v < V; v++) values[v] *= f;
        store(to + c, values);
    }
}

/* Index of n in ascending row[], or -1. */
DEVICE int32_t find_row(const int32_t *row, int32_t S, int32_t n)
{
    int32_t low = 0, high = S;
    while (low < high) {
        int32_t middle = (low + high) / 2;
        if (row[middle] < n)
            low = middle + 1;
        else
            high = middle;
    }
    return low < S && row[low] == n ? low : -1;
}

/* dx_out[n] (+)= dlogp[s] dx[s], or 0 where n is nobody's row. */
template <class T, int V>
__global__ void __launch_bounds__(ROW_THREADS)
    scatter_gradients(T *dx_out, const T *dx, const float *dlogp, const int32_t *row, int32_t S,
                      int32_t C, int32_t lddx, int accumulate)
{
    int32_t s = find_row(row, S, (int32_t)blockIdx.x);
    if (s < 0 && accumulate) return;
    T *to = dx_out + (size_t)blockIdx.x * lddx;
    float f = s < 0 ? 0 : dlogp[s];
    for (int32_t c = (int32_t)threadIdx.x * V; c < C; c += ROW_THREADS * V) {
        float sum[V] = {}, values[V] = {};
        if (accumulate) load(sum, to + c);
        if (s >= 0) load(values, dx + (size_t)s * C + c);
        UNROLL for (int v = 0; v < V; v++) sum[v] += f * values[v];
        store(to + c, sum);
    }
}

/* to[i][k] = z[i][dw_row[k]] */
template <class T>
__global__ void __launch_bounds__(ROW_THREADS)
    pick_columns(T *to, const T *z, const int32_t *dw_row, int32_t num, int32_t V)
{
    for (int32_t k = (int32_t)threadIdx.x; k < num; k += ROW_THREADS)
        to[(size_t)blockIdx.x * num + k] = z[(size_t)blockIdx.x * V + dw_row[k]];
}

/* --- the sweep --- */

/* Of the logits seen so far, with e = exp(z - top): sum e, sum e (z - top), sum e^2, sum z. */
struct sums {
    float top, e, ez, e2, z;
    int32_t first; /* where top was met first */
};

/* Moves the sums to a maximum of `top`. */
DEVICE void move_to(struct sums *s, float top)
{
    float down = s->top - top, f = expf(down);
    if (s->top == -INFINITY) down = f = 0; /* nothing yet */
    s->ez = f * (s->ez + down * s->e);
    s->e *= f;
    s->e2 *= f * f;
    s->top = top;
}

DEVICE void add_logit(struct sums *s, float z, int32_t v)
{
    if (z > s->top) {
        move_to(s, z);
        s->first = v;
    }
    float below = z - s->top, e = expf(below);
    s->e += e;
    s->ez += e > 0 ? e * below : 0; /* not 0 * -inf */
    s->e2 += e * e;
    s->z += z;
}

DEVICE void merge(struct sums *a, struct sums b)
{
    if (b.top > a->top || (b.top == a->top && b.first < a->first)) a->first = b.first;
    float top = fmaxf(a->top, b.top);
    move_to(a, top);
    move_to(&b, top);
    a->e += b.e, a->ez += b.ez, a->e2 += b.e2, a->z += b.z;
}

DEVICE struct sums warp_merge(struct sums a)
{
    UNROLL for (int o = 16; o; o >>= 1)
    {
        struct sums b;
        b.top = __shfl_xor_sync(ALL_LANES, a.top, o);
        b.e = __shfl_xor_sync(ALL_LANES, a.e, o);
        b.ez = __shfl_xor_sync(ALL_LANES, a.ez, o);
        b.e2 = __shfl_xor_sync(ALL_LANES, a.e2, o);
        b.z = __shfl_xor_sync(ALL_LANES, a.z, o);
        b.first = __shfl_xor_sync(ALL_LANES, a.first, o);
        /* the lower lane is a on both sides, so that both get the same bits */
        if (threadIdx.x & o) {
            struct sums t = a;
            a = b, b = t;
        }
        merge(&a, b);
    }
    return a;
}

DEVICE struct sums no_sums()
{
    struct sums s = {-INFINITY, 0, 0, 0, 0, INT32_MAX};
    return s;
}

/* All threads get the sums of the block; `part` is shared, one a warp. */
DEVICE struct sums block_merge(struct sums a, struct sums *part)
{
    int lane = (int)threadIdx.x % WARP_SIZE, warps = (int)blockDim.x / WARP_SIZE;
    a = warp_merge(a);
    if (lane == 0) part[threadIdx.x / WARP_SIZE] = a;
    __syncthreads();
    a = lane < warps ? part[lane] : no_sums();
    return warp_merge(a);
}

template <class T> struct sweep {
    T *z; /* the chunk's logits */
    const int32_t *target;
    float *logp, *lse, *mean_logit, *entropy, *sum_p2;
    uint8_t *hit;
    int32_t V;
    int gradient;
};

template <class T, int V>
__global__ void __launch_bounds__(SWEEP_THREADS) sweep_rows(struct sweep<T> a)
{
    SHARED(struct sums, part, [WARP_SIZE]);
    T *z = a.z + (size_t)blockIdx.x * a.V;
    int32_t target = a.target[blockIdx.x], step = (int32_t)blockDim.x * V;
    float at_target = to_float(z[target]);
    struct sums s = no_sums();
    for (int32_t v0 = (int32_t)threadIdx.x * V; v0 < a.V; v0 += step) {
        float values[V];
        load(values, z + v0);
        UNROLL for (int v = 0; v < V; v++) add_logit(&s, values[v], v0 + v);
    }
    s = block_merge(s, part); /* also: all have read z[target] */
    if (threadIdx.x == 0) {
        float log_e = logf(s.e);
        a.lse[blockIdx.x] = s.top + log_e;
        a.logp[blockIdx.x] = (at_target - s.top) - log_e;
        a.mean_logit[blockIdx.x] = s.z / (float)a.V;
        a.hit[blockIdx.x] = s.first == target;
        if (a.entropy) a.entropy[blockIdx.x] = log_e - s.ez / s.e;
        if (a.sum_p2) a.sum_p2[blockIdx.x] = logf(s.e2) - 2 * log_e;
    }
    if (!a.gradient) return;
    float inverse = 1 / s.e;
    for (int32_t v0 = (int32_t)threadIdx.x * V; v0 < a.V; v0 += step) {
        float values[V];
        load(values, z + v0);
        UNROLL for (int v = 0; v < V; v++) values[v] =
            (float)(v0 + v == target) - inverse * expf(values[v] - s.top);
        store(z + v0, values);
    }
}

/* z becomes dlogp (onehot(target) - p), with lse known. */
template <class T, int V>
__global__ void __launch_bounds__(SWEEP_THREADS)
    gradient_rows(T *chunk, const int32_t *target, const float *lse, const float *dlogp,
                  int32_t num_logits)
{
    T *z = chunk + (size_t)blockIdx.x * num_logits;
    float g = dlogp[blockIdx.x], base = lse[blockIdx.x];
    int32_t step = (int32_t)blockDim.x * V, hot = target[blockIdx.x];
    for (int32_t v0 = (int32_t)threadIdx.x * V; v0 < num_logits; v0 += step) {
        float values[V];
        load(values, z + v0);
        UNROLL for (int v = 0; v < V; v++) values[v] =
            g * ((float)(v0 + v == hot) - expf(values[v] - base));
        store(z + v0, values);
    }
}

/* --- chunks --- */

/* One chunk: S rows from s0 and its scratch. */
template <class T> struct chunk {
    const struct kern_head *h;
    int32_t s0, rows;
    T *z, *xs, *picked;
};

static unsigned sweep_threads(int32_t V) { return V < 8192 ? 128 : (unsigned)SWEEP_THREADS; }

template <class T>
static void gather(struct device *d, const struct chunk<T> &c, const float *scale)
{
    const struct kern_head *h = c.h;
    int wide = packs(h->x, h->ldx, sizeof(T)) && packs(c.xs, h->C, sizeof(T));
    launch(d, "head", wide ? gather_inputs<T, pack<T>::V> : gather_inputs<T, 1>, (unsigned)c.rows,
           ROW_THREADS, 0, c.xs, (const T *)h->x, h->row + c.s0, scale ? scale + c.s0 : NULL, h->C,
           h->ldx);
}

template <class T> static void logits(struct device *d, const struct chunk<T> &c)
{
    const struct kern_head *h = c.h;
    struct gemm g = {};
    g.M = c.rows, g.N = h->V, g.K = h->C;
    g.type = g.out = d->type;
    g.a = c.xs, g.lda = h->C, g.b = h->w, g.ldb = h->C, g.turn_b = 1;
    g.c = c.z, g.ldc = h->V, g.alpha = 1;
    gather(d, c, NULL);
    gemm_run(d, &g);
}

template <class T> static void sweep_chunk(struct device *d, const struct chunk<T> &c)
{
    const struct kern_head *h = c.h;
    struct sweep<T> a = {
    };
    a.z = c.z, a.target = h->target + c.s0, a.V = h->V, a.gradient = h->dx || h->dw;
    a.logp = h->logp + c.s0, a.lse = h->lse + c.s0, a.mean_logit = h->mean_logit + c.s0;
    a.hit = h->hit + c.s0;
    if (h->entropy) a.entropy = h->entropy + c.s0;
    if (h->sum_p2) a.sum_p2 = h->sum_p2 + c.s0;
    launch(d, "head", packs(c.z, h->V, sizeof(T)) ? sweep_rows<T, pack<T>::V> : sweep_rows<T, 1>,
           (unsigned)c.rows, sweep_threads(h->V), 0, a);
}

template <class T> static void input_gradient(struct device *d, const struct chunk<T> &c)
{
    const struct kern_head *h = c.h;
    struct gemm g = {};
    g.M = c.rows, g.N = h->C, g.K = h->V;
    g.type = g.out = d->type;
    g.a = c.z, g.lda = h->V, g.b = h->w, g.ldb = h->C;
    g.c = (T *)h->dx + (size_t)c.s0 * h->C, g.ldc = h->C, g.alpha = 1;
    gemm_run(d, &g);
}

/* dw += z^T xs, or of those columns of z that dw_row names. */
template <class T>
static void weight_gradient(struct device *d, const struct chunk<T> &c, float *dw)
{
    const struct kern_head *h = c.h;
    int32_t wanted = h->num_dw_rows ? h->num_dw_rows : h->V;
    struct gemm g = {};
    g.M = wanted, g.N = h->C, g.K = c.rows;
    g.type = d->type, g.out = DTYPE_F32;
    g.a = h->num_dw_rows ? c.picked : c.z, g.lda = wanted, g.turn_a = 1;
    g.b = c.xs, g.ldb = h->C;
    g.c = dw, g.c0 = dw, g.ldc = g.ldc0 = h->C, g.alpha = g.beta = 1;
    if (h->num_dw_rows)
        launch(d, "head", pick_columns<T>, (unsigned)c.rows, ROW_THREADS, 0, c.picked,
               (const T *)c.z, h->dw_row, wanted, h->V);
    gemm_run(d, &g);
}

/* Calls f on each chunk. */
template <class T, class F>
static void for_chunks(struct device *d, const struct kern_head *h, void *scratch, F f)
{
    struct head_scratch p = plan(d, h);
    char *base = (char *)scratch;
    struct chunk<T> c = {
        h, 0, 0, (T *)base, (T *)(base + p.x), (T *)(base + p.picked)
    };
    for (; c.s0 < h->S; c.s0 += p.rows) {
        c.rows = h->S - c.s0 < p.rows ? h->S - c.s0 : p.rows;
        f(c);
    }
}

void cuda_head_forward(struct device *d, const struct kern_head *h, void *scratch)
{
    WITH_TYPE(d, T, for_chunks<T>(d, h, scratch, [&](const struct chunk<T> &c) {
                  logits(d, c);
                  sweep_chunk(d, c);
                  if (h->dx) input_gradient(d, c);
                  if (!h->dw) return;
                  gather(d, c, h->dlogp); /* scaling x is cheaper than scaling z */
                  weight_gradient(d, c, h->dw);
              }));
}

void cuda_head_backward_input(struct device *d, void *dx_out, const float *dlogp,
                              const struct kern_head *h, int32_t N, int32_t lddx, int accumulate)
{
    if (N <= 0) return;
    WITH_TYPE(d, T, {
        int wide = packs(dx_out, lddx, sizeof(T)) && packs(h->dx, h->C, sizeof(T));
        launch(d, "head backward",
               wide ? scatter_gradients<T, pack<T>::V> : scatter_gradients<T, 1>, (unsigned)N,
               ROW_THREADS, 0, (T *)dx_out, (const T *)h->dx, dlogp, h->row, h->S, h->C, lddx,
               accumulate);
    });
}

void cuda_head_backward_weight(struct device *d, float *dw, const float *dlogp,
                               const struct kern_head *h, void *scratch)
{
    WITH_TYPE(d, T, for_chunks<T>(d, h, scratch, [&](const struct chunk<T> &c) {
                  int wide = packs(c.z, h->V, sizeof(T));
                  logits(d, c);
                  launch(d, "head backward",
                         wide ? gradient_rows<T, pack<T>::V> : gradient_rows<T, 1>,
                         (unsigned)c.rows, sweep_threads(h->V), 0, c.z, h->target + c.s0,
                         (const float *)h->lse + c.s0, dlogp + c.s0, h->V);
                  weight_gradient(d, c, dw);
              }));
}

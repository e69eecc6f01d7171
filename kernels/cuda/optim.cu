/* optim.cu - the gradient's norm and AdamW over flat ranges; kernels.h has the equations.
 *
 * Norm: n floats, 16-aligned, read once; squares are summed in double, so nothing overflows. Grid:
 * as many blocks as n asks for, 1024 at most, each over every so-manieth pack of 4; then one block.
 * AdamW: 4 n floats read, 3 n written, and n of the device's type where there is a copy of the
 * parameters. With no fp32 parameters the copy itself is read, updated in fp32 and rounded
 * stochastically: up when the low 16 bits, plus 16 random ones of counter (first + i)/4, carry.
 * Ranges that do not begin 16-aligned (parameters that are joined without a gap) go element by
 * element, to the same bits. Deterministic: sums go by n alone.
 */
#include "kernels/cuda/kernel.cuh"

enum { THREADS = 256, MAX_BLOCKS = 1024, PACK = 4 };

/* --- norm --- */

static int32_t norm_blocks(size_t n)
{
    size_t blocks = (n + THREADS * PACK - 1) / (THREADS * PACK);
    if (blocks > MAX_BLOCKS) return MAX_BLOCKS;
    return blocks ? (int32_t)blocks : 1;
}

size_t cuda_grad_norm_scratch(const struct device *d, size_t n)
{
    (void)d;
    return (size_t)norm_blocks(n) * sizeof(double);
}

DEVICE double block_sum_double(double v, double *part)
{
    UNROLL for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
    if (threadIdx.x % WARP_SIZE == 0) part[threadIdx.x / WARP_SIZE] = v;
    __syncthreads();
    v = threadIdx.x < THREADS / WARP_SIZE ? part[threadIdx.x] : 0;
    UNROLL for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
    return v; /* right in the first warp */
}

static __global__ void __launch_bounds__(THREADS)
    sum_squares(double *parts, const float *grad, size_t n)
{
    SHARED(double, part, [THREADS / WARP_SIZE]);
    double sum = 0;
    for (size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * PACK; i < n;
         i += (size_t)gridDim.x * THREADS * PACK) {
        float g[PACK] = {};
        load_some(g, grad + i, n - i);
        UNROLL for (int v = 0; v < PACK; v++) sum += (double)g[v] * (double)g[v];
    }
    sum = block_sum_double(sum, part);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(THREADS)
    finish_norm(float *out, const double *parts, int32_t num_parts, float inv_weight,
                float max_norm)
{
    SHARED(double, part, [THREADS / WARP_SIZE]);
    double sum = 0;
    for (int32_t i = (int32_t)threadIdx.x; i < num_parts; i += THREADS) sum += parts[i];
    sum = block_sum_double(sum, part);
    if (threadIdx.x) return;
    float norm = (float)(sqrt(sum) * (double)inv_weight), scale = inv_weight;
    if (max_norm > 0 && max_norm / (norm + 1e-6f) < 1) scale *= max_norm / (norm + 1e-6f);
    out[0] = norm;
    out[1] = isfinite(norm) ? scale : NAN;
}

void cuda_grad_norm(struct device *d, float out[2], const float *grad, size_t n, float inv_weight,
                    float max_norm, void *scratch)
{
    int32_t blocks = norm_blocks(n);
    launch(d, "gradient norm", sum_squares, (unsigned)blocks, THREADS, 0, (double *)scratch, grad,
           n);
    launch(d, "gradient norm", finish_norm, 1, THREADS, 0, out, (const double *)scratch, blocks,
           inv_weight, max_norm);
}

/* --- AdamW --- */

/* f rounded to one of its two neighbours in bf16, by 16 random bits. */
DEVICE float round_at_random(float f, uint32_t random)
{
    uint32_t u = bits_of_float(f);
    if ((u & 0x7f800000u) == 0x7f800000u) return f; /* inf and NaN stay */
    return float_of_bits((u + (random & 0xffffu)) & 0xffff0000u);
}

struct update {
    float scale, step, inv_root, decay;
};

DEVICE float adamw_one(float p, float *m, float *v, float grad, const struct kern_adamw &a,
                       const struct update &u)
{
    float g = u.scale * grad;
    *m = a.beta1 * *m + (1 - a.beta1) * g;
    *v = a.beta2 * *v + (1 - a.beta2) * g * g;
    return p * u.decay - u.step * *m / (sqrtf(*v) * u.inv_root + a.eps);
}

/* T: of the copy. FLOAT: there are fp32 parameters. */
template <class T, bool FLOAT, int V>
__global__ void __launch_bounds__(THREADS) adamw_elements(struct kern_adamw a, struct update u)
{
    size_t first = ((size_t)blockIdx.x * THREADS + threadIdx.x) * V;
    u.scale = *a.scale;
    if (!isfinite(u.scale)) return;
    if (first >= a.n) return;
    size_t count = a.n - first;
    T *copy = (T *)a.data + first;
    float p[V], m[V], v[V], g[V];
    if constexpr (FLOAT)
        load_some(p, a.param + first, count);
    else
        load_some(p, (const T *)copy, count);
    load_some(m, a.m + first, count);
    load_some(v, a.v + first, count);
    load_some(g, a.grad + first, count);
    UNROLL for (int i = 0; i < V; i++) p[i] = adamw_one(p[i], &m[i], &v[i], g[i], a, u);
    store_some(a.m + first, m, count);
    store_some(a.v + first, v, count);
    if constexpr (FLOAT) {
        store_some(a.param + first, p, count);
    } else {
        uint64_t element = a.first + first, counter = element / PACK;
        uint4 c = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
        uint4 random = random_words(a.rounding, c);
        if constexpr (V == PACK) {
            p[0] = round_at_random(p[0], random.x), p[1] = round_at_random(p[1], random.y);
            p[2] = round_at_random(p[2], random.z), p[3] = round_at_random(p[3], random.w);
        } else {
            uint32_t low = element & 1 ? random.y : random.x;
            uint32_t high = element & 1 ? random.w : random.z;
            p[0] = round_at_random(p[0], element & 2 ? high : low);
        }
    }
    if (a.data) store_some(copy, p, count);
}

void cuda_adamw(struct device *d, const struct kern_adamw *a)
{
    if (!a->n) return;
    struct update u = {0, a->lr / a->bias1, 1 / sqrtf(a->bias2), 1 - a->lr * a->weight_decay};
    int wide = packs(a->param, 0, 1) && packs(a->m, 0, 1) && packs(a->v, 0, 1) &&
               packs(a->grad, 0, 1) && packs(a->data, 0, 1) && a->first % PACK == 0;
    unsigned blocks = (unsigned)blocks_of((int64_t)a->n, THREADS * (wide ? PACK : 1));
    WITH_TYPE(d, T, {
        auto masters = wide ? adamw_elements<T, true, PACK> : adamw_elements<T, true, 1>;
        auto alone = wide ? adamw_elements<T, false, PACK> : adamw_elements<T, false, 1>;
        launch(d, "adamw", a->param ? masters : alone, blocks, THREADS, 0, *a, u);
    });
}

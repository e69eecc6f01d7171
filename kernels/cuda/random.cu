/* random.cu - normal numbers by counter, as base/rng.c draws them.
 *
 * Bytes: n of the type written. Grid: a thread for 4 elements: one Philox block, two of Box and
 * Muller's pairs. Element i depends on (key, first + i) alone. Deterministic.
 */
#include "kernels/cuda/kernel.cuh"

enum { THREADS = 256, V = 4 };

DEVICE float unit(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

template <class T>
static __global__ void __launch_bounds__(THREADS)
    fill_normal(T *out, size_t n, struct rng_key key, uint64_t first, float std)
{
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= n) return;
    uint64_t block = (first + i) / V;
    uint4 counter = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
    uint4 word = random_words(key, counter);
    float a = std * sqrtf(-2 * logf(1 - unit(word.x))), b = 6.28318530718f * unit(word.y);
    float c = std * sqrtf(-2 * logf(1 - unit(word.z))), d = 6.28318530718f * unit(word.w);
    float values[V] = {a * cosf(b), a * sinf(b), c * cosf(d), c * sinf(d)};
    for (int v = 0; v < V; v++)
        if (i + (size_t)v < n) out[i + (size_t)v] = from_float<T>(values[v]);
}

/* blocks in x are at most 2^31 - 1: 2^41 elements */
void cuda_fill_normal(struct device *d, void *out, int floats, size_t n, struct rng_key key,
                      uint64_t first, float std)
{
    unsigned blocks = (unsigned)blocks_of((int64_t)n, THREADS * V);
    if (!n) return;
    if (floats || d->type == DTYPE_F32)
        launch(d, "random numbers", fill_normal<float>, blocks, THREADS, 0, (float *)out, n, key,
               first, std);
    else
        launch(d, "random numbers", fill_normal<struct bf16>, blocks, THREADS, 0,
               (struct bf16 *)out, n, key, first, std);
}

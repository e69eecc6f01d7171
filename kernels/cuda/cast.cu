/* cast.cu - n elements between fp32 and the device's type.
 *
 * Bytes: 4 n and n times the type's size, once each, 16 bytes of the wider side a thread and turn.
 * Grid: a thread for 4 elements. Rounds to the nearest, ties to even. Deterministic.
 */
#include "kernels/cuda/kernel.cuh"

enum { THREADS = 256 };

template <class To, class From, int V>
__global__ void __launch_bounds__(THREADS) cast_elements(To *to, const From *from, size_t n)
{
    size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * V;
    float values[V];
    if (i >= n) return;
    load_some(values, from + i, n - i);
    store_some(to + i, values, n - i);
}

template <class To, class From>
static void cast(struct device *d, To *to, const From *from, size_t n)
{
    int wide = packs(to, 0, 1) && packs(from, 0, 1), V = wide ? 4 : 1;
    if (!n) return;
    launch(d, "cast", wide ? cast_elements<To, From, 4> : cast_elements<To, From, 1>,
           (unsigned)blocks_of((int64_t)n, THREADS * V), THREADS, 0, to, from, n);
}

void cuda_cast_from_float(struct device *d, void *to, const float *from, size_t n)
{
    WITH_TYPE(d, T, cast(d, (T *)to, from, n));
}

void cuda_cast_to_float(struct device *d, float *to, const void *from, size_t n)
{
    WITH_TYPE(d, T, cast(d, to, (const T *)from, n));
}

/* swiglu.cu - out = silu(gate) up, silu(g) = g s, s = 1/(1 + e^-g).
 *
 * Backward  dup = dout g s;  dgate = dout up s (1 + g (1 - s))
 * Rows of F with their own strides. Bytes: forward 3 N F, backward 5 N F of the device's type.
 * Grid: packs along x, rows along y. Deterministic: every value on its own, fp32, rounded once.
 */
#include "kernels/cuda/kernel.cuh"

enum { THREADS = 128, MAX_ROWS = 65535 };

template <class T> struct swiglu {
    T *out, *dgate, *dup;
    const T *gate, *up, *dout;
    int32_t N, F;
    int32_t ldo, ldg, ldu, lddo, lddg, lddu;
};

DEVICE float sigmoid(float g) { return 1 / (1 + expf(-g)); }

template <class T, int V> __global__ void __launch_bounds__(THREADS) swiglu_rows(struct swiglu<T> a)
{
    int32_t i = (int32_t)(blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= a.F) return;
    for (size_t n = blockIdx.y; n < (size_t)a.N; n += gridDim.y) {
        float g[V], u[V];
        load(g, a.gate + n * a.ldg + i);
        load(u, a.up + n * a.ldu + i);
        UNROLL for (int v = 0; v < V; v++) u[v] *= g[v] * sigmoid(g[v]);
        store(a.out + n * a.ldo + i, u);
    }
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS) swiglu_gradient_rows(struct swiglu<T> a)
{
    int32_t i = (int32_t)(blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= a.F) return;
    for (size_t n = blockIdx.y; n < (size_t)a.N; n += gridDim.y) {
        float g[V], u[V], go[V];
        load(g, a.gate + n * a.ldg + i);
        load(u, a.up + n * a.ldu + i);
        load(go, a.dout + n * a.lddo + i);
        UNROLL for (int v = 0; v < V; v++)
        {
            float s = sigmoid(g[v]), du = go[v] * g[v] * s;
            g[v] = go[v] * u[v] * s * (1 + g[v] * (1 - s));
            u[v] = du;
        }
        store(a.dgate + n * a.lddg + i, g);
        store(a.dup + n * a.lddu + i, u);
    }
}

template <class T> static dim3 grid_of(const struct swiglu<T> &a, int V)
{
    return dim3((unsigned)blocks_of(a.F, THREADS * V), (unsigned)(a.N < MAX_ROWS ? a.N : MAX_ROWS));
}

void cuda_swiglu_forward(struct device *d, void *out, const void *gate, const void *up, int32_t N,
                         int32_t F, int32_t ldo, int32_t ldg, int32_t ldu)
{
    if (N <= 0) return;
    WITH_TYPE(d, T, {
        struct swiglu<T> a = {
        };
        a.out = (T *)out, a.gate = (const T *)gate, a.up = (const T *)up;
        a.N = N, a.F = F, a.ldo = ldo, a.ldg = ldg, a.ldu = ldu;
        if (F % pack<T>::V == 0 && packs(out, ldo, sizeof(T)) && packs(gate, ldg, sizeof(T)) &&
            packs(up, ldu, sizeof(T)))
            launch(d, "swiglu forward", swiglu_rows<T, pack<T>::V>, grid_of(a, pack<T>::V), THREADS,
                   0, a);
        else
            launch(d, "swiglu forward", swiglu_rows<T, 1>, grid_of(a, 1), THREADS, 0, a);
    });
}

void cuda_swiglu_backward(struct device *d, void *dgate, void *dup, const void *dout,
                          const void *gate, const void *up, int32_t N, int32_t F, int32_t lddo,
                          int32_t ldg, int32_t ldu, int32_t lddg, int32_t lddu)
{
    if (N <= 0) return;
    WITH_TYPE(d, T, {
        struct swiglu<T> a = {
        };
        a.dgate = (T *)dgate, a.dup = (T *)dup, a.dout = (const T *)dout;
        a.gate = (const T *)gate, a.up = (const T *)up;
        a.N = N, a.F = F, a.lddo = lddo, a.ldg = ldg, a.ldu = ldu, a.lddg = lddg, a.lddu = lddu;
        if (F % pack<T>::V == 0 && packs(dgate, lddg, sizeof(T)) && packs(dup, lddu, sizeof(T)) &&
            packs(dout, lddo, sizeof(T)) && packs(gate, ldg, sizeof(T)) &&
            packs(up, ldu, sizeof(T)))
            launch(d, "swiglu backward", swiglu_gradient_rows<T, pack<T>::V>,
                   grid_of(a, pack<T>::V), THREADS, 0, a);
        else
            launch(d, "swiglu backward", swiglu_gradient_rows<T, 1>, grid_of(a, 1), THREADS, 0, a);
    });
}

/* rope.cu - rotary position embedding, in place.
 *
 * With halves (x1, x2) of a head and angle t_j = position * f_j, j < D/2:
 *   x1' = x1 cos t - x2 sin t;   x2' = x2 cos t + x1 sin t;   inverse: sin t changes sign
 * x: row n, head g at x + n*ldx + g*D. table [positions, D] fp32: cos t_j, then sin t_j; they are
 * cast to x's type (SEMANTICS D), the rest is fp32 and rounded once.
 * Bytes: 2 N G D of x's type; the table's row is read from cache but for the first head.
 * Grid: a row a block in y, packs of a half of a head along the threads. Deterministic.
 */
#include "kernels/cuda/kernel.cuh"

enum { THREADS = 128, MAX_ROWS = 65535 };

template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    turn_heads(T *x, const float *table, const int32_t *position, int32_t N, int32_t G, int32_t D,
               int32_t ldx, float sign)
{
    int32_t half = D / 2, packs_a_half = half / V;
    int32_t at = (int32_t)(blockIdx.x * THREADS + threadIdx.x);
    int32_t g = at / packs_a_half, j = at % packs_a_half * V;
    if (g >= G) return;
    for (int32_t n = (int32_t)blockIdx.y; n < N; n += (int32_t)gridDim.y) {
        const float *angle = table + (size_t)position[n] * D + j;
        T *x1 = x + (size_t)n * ldx + (size_t)g * D + j, *x2 = x1 + half;
        float a[V], b[V];
        load(a, x1);
        load(b, x2);
        UNROLL for (int v = 0; v < V; v++)
        {
            float cosine = through<T>(angle[v]), sine = sign * through<T>(angle[half + v]);
            float turned = a[v] * cosine - b[v] * sine;
            b[v] = b[v] * cosine + a[v] * sine;
            a[v] = turned;
        }
        store(x1, a);
        store(x2, b);
    }
}

template <class T, int V>
static void turn(struct device *d, T *x, const float *table, const int32_t *position, int32_t N,
                 int32_t G, int32_t D, int32_t ldx, int inverse)
{
    int64_t items = (int64_t)G * (D / 2 / V);
    dim3 grid((unsigned)blocks_of(items, THREADS), (unsigned)(N < MAX_ROWS ? N : MAX_ROWS));
    launch(d, "rope", turn_heads<T, V>, grid, THREADS, 0, x, table, position, N, G, D, ldx,
           inverse ? -1.f : 1.f);
}

void cuda_rope(struct device *d, void *x, const float *table, const int32_t *position, int32_t N,
               int32_t G, int32_t D, int32_t ldx, int inverse)
{
    if (N <= 0 || G <= 0 || D < 2) return;
    WITH_TYPE(d, T, {
        if (packs(x, ldx, sizeof(T)) && D / 2 % pack<T>::V == 0)
            turn<T, pack<T>::V>(d, (T *)x, table, position, N, G, D, ldx, inverse);
        else
            turn<T, 1>(d, (T *)x, table, position, N, G, D, ldx, inverse);
    });
}

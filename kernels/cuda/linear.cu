/* linear.cu - the dense products.
 *
 * y = x w^T + bias + addend;  dx (+)= dy w;  dw += dy^T x;  db += column sums of dy
 * x [N, I], w [O, I], y [N, O], row-major with row strides; w without.
 * FLOPs 2 N I O each. Bias and addend are the product's epilogue: one write of y.
 * db: blocks of rows give partial sums to the workspace, sums.cuh adds them in order.
 * Deterministic: gemm.h; db's blocks follow from N and O.
 */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/sums.cuh"

void cuda_linear_forward(struct device *d, void *y, const void *x, const void *w, const void *bias,
                         const void *addend, int32_t N, int32_t I, int32_t O, int32_t ldy,
                         int32_t ldx, int32_t ld_addend)
{
    struct gemm g = {};
    g.M = N, g.N = O, g.K = I;
    g.type = g.out = d->type;
    g.a = x, g.lda = ldx, g.b = w, g.ldb = I, g.turn_b = 1;
    g.c = y, g.ldc = ldy, g.c0 = addend, g.ldc0 = addend == y ? ldy : ld_addend;
    g.bias = bias, g.alpha = 1, g.beta = addend ? 1 : 0;
    gemm_run(d, &g);
}

void cuda_linear_backward_input(struct device *d, void *dx, const void *dy, const void *w,
                                int32_t N, int32_t I, int32_t O, int32_t lddx, int32_t lddy,
                                int accumulate)
{
    struct gemm g = {};
    g.M = N, g.N = I, g.K = O;
    g.type = g.out = d->type;
    g.a = dy, g.lda = lddy, g.b = w, g.ldb = I;
    g.c = dx, g.c0 = accumulate ? dx : NULL, g.ldc = g.ldc0 = lddx;
    g.alpha = 1, g.beta = accumulate ? 1 : 0;
    gemm_run(d, &g);
}

void cuda_linear_backward_weight(struct device *d, float *dw, const void *dy, const void *x,
                                 int32_t N, int32_t I, int32_t O, int32_t lddy, int32_t ldx)
{
    struct gemm g = {};
    g.M = O, g.N = I, g.K = N;
    g.type = d->type, g.out = DTYPE_F32;
    g.a = dy, g.lda = lddy, g.turn_a = 1, g.b = x, g.ldb = ldx;
    g.c = dw, g.c0 = dw, g.ldc = g.ldc0 = I;
    g.alpha = g.beta = 1;
    gemm_run(d, &g);
}

enum { THREADS = 128, ROWS = 64, MOST_PARTS = 128 };

/* parts[b][o] = sum of dy over the rows of block b, in order */
template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    sum_rows(float *parts, const T *dy, int32_t N, int32_t O, int32_t lddy, int32_t rows)
{
    int32_t o = (int32_t)(blockIdx.x * THREADS + threadIdx.x) * V,
            first = (int32_t)blockIdx.y * rows;
    if (o >= O) return;
    float sum[V] = {};
    for (int32_t n = first; n < min(N, first + rows); n++) {
        float values[V];
        load(values, dy + (size_t)n * lddy + o);
        UNROLL for (int v = 0; v < V; v++) sum[v] += values[v];
    }
    UNROLL for (int v = 0; v < V; v++) parts[(size_t)blockIdx.y * O + o + v] = sum[v];
}

void cuda_linear_backward_bias(struct device *d, float *db, const void *dy, int32_t N, int32_t O,
                               int32_t lddy)
{
    if (N <= 0) return;
    int32_t most = (int32_t)(CUDA_WORKSPACE / sizeof(float) / (size_t)O);
    if (most > MOST_PARTS) most = MOST_PARTS;
    int32_t rows = blocks_of(N, most > 1 ? most : 1), parts;
    if (rows < ROWS) rows = ROWS;
    parts = blocks_of(N, rows);
    float *to = (float *)cuda_state(d)->workspace;
    WITH_TYPE(d, T, {
        int wide = packs(dy, lddy, sizeof(T)) && O % pack<T>::V == 0, V = wide ? pack<T>::V : 1;
        dim3 grid((unsigned)blocks_of(O, THREADS * V), (unsigned)parts);
        launch(d, "bias gradient", wide ? sum_rows<T, pack<T>::V> : sum_rows<T, 1>, grid, THREADS,
               0, to, (const T *)dy, N, O, lddy, rows);
    });
    launch_add_parts(d, db, to, parts, O);
}

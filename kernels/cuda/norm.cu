/* norm.cu - RMSNorm over groups of D values.
 *
 * Forward   rstd = 1/sqrt(mean x^2 + eps);  xhat = x rstd;  y = cast(xhat) w
 * Backward  g = dy w;  dx (+)= rstd (g - xhat mean(g xhat));  dw += sum over rows of dy xhat
 * Layout    row n, group g: D values at x + n*ldx + g*D; rstd [N*G] fp32; w, dw [D]
 * Bytes     forward 2 N G D, backward 3 (accumulating 4) N G D of the device's type, each once: a
 *           row stays in its threads' registers between the sum and the scaling. Rows that are
 *           too long for that are read twice.
 * Grid      forward: a block a row, as wide as it wants; backward: at most PARTS blocks, each over
 *           rows of its own in order, its share of dw in registers; sums.cuh adds the shares.
 * Deterministic: rows are independent; sums go by the shapes.
 */
#include "kernels/cuda/sums.cuh"

enum { MAX_THREADS = 512, KEPT = 4, PARTS = 512 }; /* packs of a row that a thread keeps */

template <class T> struct norm_rows_of {
    T *y, *dx;
    float *rstd_out, *parts;
    const T *x, *w, *dy;
    const float *rstd;
    int32_t rows, G, D; /* rows: N G */
    int32_t ldy, ldx, lddy, lddx;
    float eps;
    int accumulate;
};

/* Where row r of x begins, for a stride ld. */
template <class T> DEVICE size_t row_at(const struct norm_rows_of<T> &a, int32_t r, int32_t ld)
{
    return (size_t)(r / a.G) * ld + (size_t)(r % a.G) * a.D;
}

/* A thread's columns of a row: packs at first, first + step, ... */
#define FOR_PACKS(i, c)              \
    UNROLL for (int i = 0; i < KEPT; \
                i++) if (int32_t c = (int32_t)(threadIdx.x + i * blockDim.x) * V; c < a.D)

template <class T, int V>
__global__ void __launch_bounds__(MAX_THREADS) norm_rows(struct norm_rows_of<T> a)
{
    SHARED(float, part, [WARP_SIZE]);
    const T *x = a.x + row_at(a, (int32_t)blockIdx.x, a.ldx);
    T *y = a.y + row_at(a, (int32_t)blockIdx.x, a.ldy);
    float kept[KEPT][V], sum = 0;
    FOR_PACKS(i, c)
    {
        load(kept[i], x + c);
        UNROLL for (int v = 0; v < V; v++) sum += kept[i][v] * kept[i][v];
    }
    float r = 1 / sqrtf(block_sum(sum, part) / (float)a.D + a.eps);
    if (threadIdx.x == 0) a.rstd_out[blockIdx.x] = r;
    FOR_PACKS(i, c)
    {
        float w[V];
        load(w, a.w + c);
        UNROLL for (int v = 0; v < V; v++) w[v] *= through<T>(kept[i][v] * r);
        store(y + c, w);
    }
}

/* Rows of any length. */
template <class T>
__global__ void __launch_bounds__(MAX_THREADS) norm_long_rows(struct norm_rows_of<T> a)
{
    SHARED(float, part, [WARP_SIZE]);
    const T *x = a.x + row_at(a, (int32_t)blockIdx.x, a.ldx);
    T *y = a.y + row_at(a, (int32_t)blockIdx.x, a.ldy);
    int32_t first = (int32_t)threadIdx.x, step = (int32_t)blockDim.x;
    float sum = 0;
    for (int32_t c = first; c < a.D; c += step) sum += to_float(x[c]) * to_float(x[c]);
    float r = 1 / sqrtf(block_sum(sum, part) / (float)a.D + a.eps);
    if (threadIdx.x == 0) a.rstd_out[blockIdx.x] = r;
    for (int32_t c = first; c < a.D; c += step)
        y[c] = from_float<T>(through<T>(to_float(x[c]) * r) * to_float(a.w[c]));
}

/* With this, g = dy w and mean = mean(g xhat) rstd: dx = rstd (g - x mean). */
template <class T, int V>
__global__ void __launch_bounds__(MAX_THREADS) norm_gradient_rows(struct norm_rows_of<T> a)
{
    SHARED(float, part, [WARP_SIZE]);
    float dw[KEPT][V] = {};
    for (int32_t row = (int32_t)blockIdx.x; row < a.rows; row += (int32_t)gridDim.x) {
        const T *x = a.x + row_at(a, row, a.ldx), *dy = a.dy + row_at(a, row, a.lddy);
        float r = a.rstd[row], dot = 0, gx[KEPT][V], g[KEPT][V];
        FOR_PACKS(i, c)
        {
            float w[V];
            load(gx[i], x + c);
            load(g[i], dy + c);
            load(w, a.w + c);
            UNROLL for (int v = 0; v < V; v++)
            {
                dw[i][v] += g[i][v] * (gx[i][v] * r);
                g[i][v] *= w[v];
                dot += g[i][v] * gx[i][v];
            }
        }
        if (!a.dx) continue;
        T *dx = a.dx + row_at(a, row, a.lddx);
        float mean = block_sum(dot, part) / (float)a.D * r * r;
        FOR_PACKS(i, c)
        {
            float old[V] = {};
            if (a.accumulate) load(old, dx + c);
            UNROLL for (int v = 0; v < V; v++) old[v] += r * (g[i][v] - gx[i][v] * mean);
            store(dx + c, old);
        }
    }
    if (!a.parts) return;
    float *parts = a.parts + (size_t)blockIdx.x * a.D;
    FOR_PACKS(i, c)
    UNROLL for (int v = 0; v < V; v++) parts[c + v] = dw[i][v];
}

/* Rows of any length; a thread's share of dw grows in `parts` itself. */
template <class T>
__global__ void __launch_bounds__(MAX_THREADS) norm_gradient_long_rows(struct norm_rows_of<T> a)
{
    SHARED(float, part, [WARP_SIZE]);
    int32_t first = (int32_t)threadIdx.x, step = (int32_t)blockDim.x;
    float *parts = a.parts ? a.parts + (size_t)blockIdx.x * a.D : NULL;
    for (int32_t c = first; parts && c < a.D; c += step) parts[c] = 0;
    for (int32_t row = (int32_t)blockIdx.x; row < a.rows; row += (int32_t)gridDim.x) {
        const T *x = a.x + row_at(a, row, a.ldx), *dy = a.dy + row_at(a, row, a.lddy);
        float r = a.rstd[row], dot = 0;
        for (int32_t c = first; c < a.D; c += step) {
            float gx = to_float(x[c]), g = to_float(dy[c]);
            if (parts) parts[c] += g * (gx * r);
            dot += g * to_float(a.w[c]) * gx;
        }
        if (!a.dx) continue;
        T *dx = a.dx + row_at(a, row, a.lddx);
        float mean = block_sum(dot, part) / (float)a.D * r * r;
        for (int32_t c = first; c < a.D; c += step) {
            float old = a.accumulate ? to_float(dx[c]) : 0;
            float g = to_float(dy[c]) * to_float(a.w[c]);
            dx[c] = from_float<T>(old + r * (g - to_float(x[c]) * mean));
        }
    }
}

/* --- launching --- */

/* Threads for a row of D values, V at a time; a multiple of 32. */
static int threads_for(int32_t D, int V)
{
    int32_t n = blocks_of(blocks_of(D, V), 2); /* two packs a thread: loads under way */
    n = blocks_of(n, WARP_SIZE) * WARP_SIZE;
    return n < MAX_THREADS ? n : MAX_THREADS;
}

static int fits(int32_t D, int V) { return D <= (int64_t)MAX_THREADS * KEPT * V; }

static int32_t parts_of(int64_t rows) { return rows < PARTS ? (int32_t)rows : (int32_t)PARTS; }

size_t cuda_norm_scratch(const struct device *d, int32_t N, int32_t G, int32_t D)
{
    (void)d;
    return (size_t)parts_of((int64_t)N * G) * (size_t)D * sizeof(float);
}

template <class T> static void forward(struct device *d, const struct norm_rows_of<T> &a, int wide)
{
    const char *what = "norm forward";
    unsigned rows = (unsigned)a.rows;
    if (wide && fits(a.D, pack<T>::V))
        launch(d, what, norm_rows<T, pack<T>::V>, rows, threads_for(a.D, pack<T>::V), 0, a);
    else if (fits(a.D, 1))
        launch(d, what, norm_rows<T, 1>, rows, threads_for(a.D, 1), 0, a);
    else
        launch(d, what, norm_long_rows<T>, rows, MAX_THREADS, 0, a);
}

template <class T> static void backward(struct device *d, const struct norm_rows_of<T> &a, int wide)
{
    const char *what = "norm backward";
    unsigned parts = (unsigned)parts_of(a.rows);
    if (wide && fits(a.D, pack<T>::V))
        launch(d, what, norm_gradient_rows<T, pack<T>::V>, parts, threads_for(a.D, pack<T>::V), 0,
               a);
    else if (fits(a.D, 1))
        launch(d, what, norm_gradient_rows<T, 1>, parts, threads_for(a.D, 1), 0, a);
    else
        launch(d, what, norm_gradient_long_rows<T>, parts, MAX_THREADS, 0, a);
}

void cuda_norm_forward(struct device *d, void *y, float *rstd, const void *x, const void *w,
                       int32_t N, int32_t G, int32_t D, int32_t ldy, int32_t ldx, float eps)
{
    if (N <= 0) return;
    WITH_TYPE(d, T, {
        struct norm_rows_of<T> a = {
        };
        a.y = (T *)y, a.rstd_out = rstd, a.x = (const T *)x, a.w = (const T *)w;
        a.rows = N * G, a.G = G, a.D = D, a.ldy = ldy, a.ldx = ldx, a.eps = eps;
        forward(d, a,
                packs(x, ldx, sizeof(T)) && packs(y, ldy, sizeof(T)) && packs(w, D, sizeof(T)));
    });
}

void cuda_norm_backward(struct device *d, void *dx, float *dw, const void *dy, const void *x,
                        const void *w, const float *rstd, int32_t N, int32_t G, int32_t D,
                        int32_t lddx, int32_t lddy, int32_t ldx, int accumulate, void *scratch)
{
    if (N <= 0) return;
    WITH_TYPE(d, T, {
        struct norm_rows_of<T> a = {
        };
        a.dx = (T *)dx, a.parts = dw ? (float *)scratch : NULL, a.dy = (const T *)dy;
        a.x = (const T *)x, a.w = (const T *)w, a.rstd = rstd;
        a.rows = N * G, a.G = G, a.D = D, a.lddx = lddx, a.lddy = lddy, a.ldx = ldx;
        a.accumulate = accumulate;
        backward(d, a,
                 packs(x, ldx, sizeof(T)) && packs(dy, lddy, sizeof(T)) &&
                     packs(dx, lddx, sizeof(T)) && packs(w, D, sizeof(T)));
    });
    if (dw) launch_add_parts(d, dw, (const float *)scratch, parts_of((int64_t)N * G), D);
}

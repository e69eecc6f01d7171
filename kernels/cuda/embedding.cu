/* embedding.cu - out[n] = table[ids[n]];  dtable[ids[n]] += dout[n].
 *
 * table [V, C], out and dout [N, C], dtable [V, C] fp32.
 * Bytes: forward 2 N C, backward N C of dout and twice as many rows of dtable as there are
 * different ids. Grid: a block a row.
 * Deterministic: in backward the block of an id's first row adds all its rows, in order; the
 * others find that an earlier row has their id, and leave. Finding reads N ids a block, from cache.
 */
#include "kernels/cuda/kernel.cuh"

enum { THREADS = 128 };

template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    gather_rows(T *out, const T *table, const int32_t *ids, int32_t C)
{
    const T *from = table + (size_t)ids[blockIdx.x] * C;
    T *to = out + (size_t)blockIdx.x * C;
    for (int32_t c = (int32_t)threadIdx.x * V; c < C; c += THREADS * V) {
        float values[V];
        load(values, from + c);
        store(to + c, values);
    }
}

/* Bit t: row first + t has this id; rows from `end` on do not count. */
DEVICE void find_rows(uint32_t *found, const int32_t *ids, int32_t id, int32_t first, int32_t end)
{
    int32_t row = first + (int32_t)threadIdx.x;
    __syncthreads(); /* found may still be read from the last time */
    uint32_t lanes = __ballot_sync(ALL_LANES, row < end && ids[row] == id);
    if (threadIdx.x % WARP_SIZE == 0) found[threadIdx.x / WARP_SIZE] = lanes;
    __syncthreads();
}

template <class T, int V>
DEVICE void add_rows(float *to, const T *dout, const uint32_t *found, int32_t first, int32_t C)
{
    for (int32_t c = (int32_t)threadIdx.x * V; c < C; c += THREADS * V) {
        float sum[V], values[V];
        UNROLL for (int v = 0; v < V; v++) sum[v] = to[c + v];
        for (int w = 0; w < THREADS / WARP_SIZE; w++)
            for (uint32_t lanes = found[w]; lanes; lanes &= lanes - 1) {
                int32_t row = first + w * WARP_SIZE + __ffs((int)lanes) - 1;
                load(values, dout + (size_t)row * C + c);
                UNROLL for (int v = 0; v < V; v++) sum[v] += values[v];
            }
        UNROLL for (int v = 0; v < V; v++) to[c + v] = sum[v];
    }
}

template <class T, int V>
__global__ void __launch_bounds__(THREADS)
    scatter_rows(float *dtable, const T *dout, const int32_t *ids, int32_t N, int32_t C)
{
    SHARED(uint32_t, found, [THREADS / WARP_SIZE]);
    int32_t row = (int32_t)blockIdx.x, id = ids[row];
    if (id < 0) return;
    for (int32_t first = 0; first < row; first += THREADS) {
        find_rows(found, ids, id, first, row);
        uint32_t any = 0;
        for (int w = 0; w < THREADS / WARP_SIZE; w++) any |= found[w];
        if (any) return; /* all threads alike */
    }
    for (int32_t first = row; first < N; first += THREADS) {
        find_rows(found, ids, id, first, N);
        add_rows<T, V>(dtable + (size_t)id * C, dout, found, first, C);
    }
}

void cuda_embedding_forward(struct device *d, void *out, const void *table, const int32_t *ids,
                            int32_t N, int32_t C)
{
    if (N <= 0) return;
    WITH_TYPE(d, T, {
        int wide = packs(out, C, sizeof(T)) && packs(table, C, sizeof(T));
        launch(d, "embedding forward", wide ? gather_rows<T, pack<T>::V> : gather_rows<T, 1>,
               (unsigned)N, THREADS, 0, (T *)out, (const T *)table, ids, C);
    });
}

void cuda_embedding_backward(struct device *d, float *dtable, const void *dout, const int32_t *ids,
                             int32_t N, int32_t C)
{
    if (N <= 0) return;
    WITH_TYPE(d, T, {
        int wide = packs(dout, C, sizeof(T)) && packs(dtable, C, sizeof(float));
        launch(d, "embedding backward", wide ? scatter_rows<T, pack<T>::V> : scatter_rows<T, 1>,
               (unsigned)N, THREADS, 0, dtable, (const T *)dout, ids, N, C);
    });
}

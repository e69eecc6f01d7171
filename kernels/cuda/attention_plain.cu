/* attention_plain.cu - o = softmax(scale q k^T + mask) v and lse, with nothing but plain CUDA.
 *
 * The reference on a device, and the default until kernels with PTX wrappers have passed there.
 * For a tile of query rows; for each visible tile of keys
 *   s = q k^T;  m' = max(m, max s);  p = e^(s - m');  l = l e^(m - m') + sum p
 *   o = o e^(m - m') + p v            and at the end o / l, lse = m + log l
 * q [N, H*D], k and v [rows, KV*D], o [N, H*D], lse [N, H]; any D up to 256. Decoding too: rows of
 * q, o and lse count from first_row.
 * FLOPs 4 D a visible pair; bytes: q, o once, k and v once a query tile and head, from L2.
 * Grid: (tiles, H); shared: q, k or v, p. Deterministic: a block goes over its keys in order.
 */
#include "kernels/cuda/attention_plain.cuh"

/* Where row 0 of a tile lies in q, o and lse. */
DEVICE size_t query_row(const struct kern_attention &a, const struct segment &s, int32_t first)
{
    return (size_t)(s.start + first - a.first_row);
}

template <class T, int NC>
__global__ void __launch_bounds__(plain<NC>::THREADS, plain<NC>::BLOCKS)
    attention_rows(struct kern_attention a, const struct attention_tile *tiles)
{
    constexpr int R = plain<NC>::R;
    DYNAMIC_SHARED(memory);
    float *q = (float *)memory, *kv = q + plain<NC>::TILE, *weights = kv + plain<NC>::TILE;
    struct attention_tile tile = tiles[blockIdx.x];
    if (tile.segment < 0) return;
    struct segment s = a.segments[tile.segment];
    int32_t head = (int32_t)blockIdx.y, kv_head = head / (a.H / a.KV), D = a.D;
    int32_t rows = min(R, s.length - tile.first), low = s.position + tile.first;
    int32_t row = (int32_t)threadIdx.x / 4, part = (int32_t)threadIdx.x % 4;
    int32_t position = low + min(row, rows - 1);
    size_t at = query_row(a, s, tile.first);
    float top = -INFINITY, sum = 0, o[NC] = {}, *mine = weights + row * (R + 1);
    load_rows<NC>(q, (const T *)a.q + at * a.ldq + (size_t)head * D, (size_t)a.ldq, rows, D,
                  a.scale);
    for (int which = 0; which < SPANS; which++) {
        struct key_span span = span_of(s, which, a.window, low, low + rows - 1);
        for (int32_t j = span.begin; j < span.end; j += R) {
            int32_t keys = min(R, span.end - j);
            size_t first = (size_t)(span.row + j);
            float p[R / 4], most = top;
            __syncthreads();
            load_rows<NC>(kv, (const T *)a.k + first * a.ldk + (size_t)kv_head * D, (size_t)a.ldk,
                          keys, D, 1);
            __syncthreads();
            inner_products<NC>(p, q + row * plain<NC>::STRIDE, kv, D, part);
            __syncthreads();
            load_rows<NC>(kv, (const T *)a.v + first * a.ldv + (size_t)kv_head * D, (size_t)a.ldv,
                          keys, D, 1);
            UNROLL for (int i = 0; i < R / 4; i++)
            {
                int32_t key = part + 4 * i;
                if (key >= keys || !sees(position, span.position + j + key, span.causal, a.window))
                    p[i] = -INFINITY;
                most = fmaxf(most, p[i]);
            }
            most = row_max(most);
            float base = most == -INFINITY ? 0 : most, keep = expf(top - base);
            top = most;
            sum *= keep;
            UNROLL for (int i = 0; i < R / 4; i++)
            {
                float weight = expf(p[i] - base);
                sum += weight;
                mine[part + 4 * i] = p[i] == -INFINITY ? hidden_weight() : weight;
            }
            UNROLL for (int i = 0; i < NC; i++) o[i] *= keep;
            __syncthreads();
            add_rows<NC>(o, mine, kv, part);
        }
    }
    sum = row_sum(sum);
    if (row >= rows) return;
    T *to = (T *)a.o + (at + row) * a.ldo + (size_t)head * D;
    UNROLL for (int i = 0; i < NC; i++) if (part + 4 * i < D) to[part + 4 * i] =
        from_float<T>(o[i] / sum);
    if (part == 0 && a.lse) a.lse[(at + row) * a.H + head] = top + logf(sum);
}

/* Scratch: the list of tiles, then delta [N, H] of the backward. */
size_t cuda_plain_attention_scratch(const struct device *d, const struct kern_attention *a)
{
    (void)d;
    size_t tiles = (size_t)attention_max_tiles(a, plain_rows(a->D));
    return tiles * sizeof(struct attention_tile) + (size_t)a->N * (size_t)a->H * sizeof(float);
}

template <class T, int NC>
static void forward(struct device *d, const struct kern_attention *a, struct attention_tile *tiles)
{
    constexpr int R = plain<NC>::R;
    size_t bytes = (2 * plain<NC>::TILE + R * (R + 1)) * sizeof(float);
    dim3 grid((unsigned)attention_max_tiles(a, R), (unsigned)a->H);
    launch_list_tiles(d, tiles, a, R);
    launch(d, "attention forward", attention_rows<T, NC>, grid, (unsigned)plain<NC>::THREADS, bytes,
           *a, (const struct attention_tile *)tiles);
}

void cuda_plain_attention_forward(struct device *d, const struct kern_attention *a, void *scratch)
{
    if (a->N <= 0 || a->num_segments <= 0 || !plain_fits(d, a)) return;
    struct attention_tile *tiles = (struct attention_tile *)scratch;
    WITH_TYPE(d, T, WITH_COLUMNS(a->D, NC, forward<T, NC>(d, a, tiles)));
}

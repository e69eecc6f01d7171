/* attention_plain_backward.cu - dq, dk and dv with plain CUDA; p is computed again from lse.
 *
 * For query tile and key tile, with delta = rowsum(do * o):
 *   p = e^(scale q k^T - lse);  dp = do v^T;  ds = p (dp - delta)
 *   dv += p^T do;  dk += scale ds^T q;  dq += scale ds k
 * Layout as forward; d_o has o's row stride, dq, dk and dv their own; rows of no segment are left
 * alone. FLOPs 14 D a visible pair: two passes, each computes p and ds.
 * Grids: delta, a thread a (row, head); dq, a block a (query tile, head); dk and dv, a block a (key
 * tile, key head) over all queries that see it: of its own segment, of segments of its document
 * whose prefix it lies in, and of all query heads of the group.
 * Deterministic: every output has one block, which goes over the other side in order.
 */
#include "kernels/cuda/attention_plain.cuh"

enum { DELTA_THREADS = 128 };

/* A chain in the order of a dp, so that a row which sees itself alone has ds = dp - delta = 0 to
 * the bit. */
template <class T>
__global__ void __launch_bounds__(DELTA_THREADS)
    row_deltas(float *delta, const T *d_o, const T *o, int32_t N, int32_t H, int32_t D, int32_t ldo)
{
    int64_t line = (int64_t)blockIdx.x * DELTA_THREADS + threadIdx.x;
    if (line >= (int64_t)N * H) return;
    size_t at = (size_t)(line / H) * ldo + (size_t)(line % H) * D;
    float sum = 0;
    for (int32_t c = 0; c < D; c++) sum += to_float(d_o[at + c]) * to_float(o[at + c]);
    delta[line] = sum;
}

/* ds of one pair, and p, from the scaled score and dp. */
DEVICE float score_gradient(float *p, int seen, float score, float dp, float lse, float delta)
{
    *p = seen ? expf(score - lse) : hidden_weight();
    return seen ? *p * (dp - delta) : hidden_weight();
}

template <class T, int NC>
__global__ void __launch_bounds__(plain<NC>::THREADS, 1)
    query_gradients(struct kern_attention a, struct kern_attention_grad g,
                    const struct attention_tile *tiles, const float *delta)
{
    constexpr int R = plain<NC>::R;
    DYNAMIC_SHARED(memory);
    int32_t D = a.D, size = plain<NC>::TILE;
    float *q = (float *)memory, *d_o = q + size, *k = d_o + size, *v = k + size, *ds = v + size;
    struct attention_tile tile = tiles[blockIdx.x];
    if (tile.segment < 0) return;
    struct segment s = a.segments[tile.segment];
    int32_t head = (int32_t)blockIdx.y, kv_head = head / (a.H / a.KV);
    int32_t rows = min(R, s.length - tile.first), low = s.position + tile.first;
    int32_t row = (int32_t)threadIdx.x / 4, part = (int32_t)threadIdx.x % 4;
    int32_t held = min(row, rows - 1), position = low + held;
    size_t at = (size_t)(s.start + tile.first), line = (at + held) * a.H + head;
    float lse = a.lse[line], mean = delta[line], sum[NC] = {}, *mine = ds + row * (R + 1);
    load_rows<NC>(q, (const T *)a.q + at * a.ldq + (size_t)head * D, a.ldq, rows, D, a.scale);
    load_rows<NC>(d_o, (const T *)g.d_o + at * a.ldo + (size_t)head * D, a.ldo, rows, D, 1);
    for (int which = 0; which < SPANS; which++) {
        struct key_span span = span_of(s, which, a.window, low, low + rows - 1);
        for (int32_t j = span.begin; j < span.end; j += R) {
            int32_t keys = min(R, span.end - j);
            size_t first = (size_t)(span.row + j);
            float score[R / 4], dp[R / 4], p;
            __syncthreads();
            load_rows<NC>(k, (const T *)a.k + first * a.ldk + (size_t)kv_head * D, a.ldk, keys, D,
                          1);
            load_rows<NC>(v, (const T *)a.v + first * a.ldv + (size_t)kv_head * D, a.ldv, keys, D,
                          1);
            __syncthreads();
            inner_products<NC>(score, q + row * plain<NC>::STRIDE, k, D, part);
            inner_products<NC>(dp, d_o + row * plain<NC>::STRIDE, v, D, part);
            UNROLL for (int i = 0; i < R / 4; i++)
            {
                int32_t key = part + 4 * i;
                int seen =
                    key < keys && sees(position, span.position + j + key, span.causal, a.window);
                mine[key] = score_gradient(&p, seen, score[i], dp[i], lse, mean);
            }
            __syncwarp(); /* a row of ds is its four lanes' */
            add_rows<NC>(sum, mine, k, part);
        }
    }
    if (row >= rows) return;
    T *to = (T *)g.dq + (at + row) * g.lddq + (size_t)head * D;
    UNROLL for (int i = 0; i < NC; i++) if (part + 4 * i < D) to[part + 4 * i] =
        from_float<T>(a.scale * sum[i]);
}

template <class T, int NC>
__global__ void __launch_bounds__(plain<NC>::THREADS, 1)
    key_gradients(struct kern_attention a, struct kern_attention_grad g,
                  const struct attention_tile *tiles, const float *delta)
{
    constexpr int R = plain<NC>::R;
    DYNAMIC_SHARED(memory);
    int32_t D = a.D, size = plain<NC>::TILE, group = a.H / a.KV, kv_head = (int32_t)blockIdx.y;
    float *k = (float *)memory, *v = k + size, *q = v + size, *d_o = q + size;
    float *p = d_o + size, *ds = p + R * (R + 1);
    struct attention_tile tile = tiles[blockIdx.x];
    if (tile.segment < 0) return;
    struct segment s = a.segments[tile.segment];
    int32_t rows = min(R, s.length - tile.first), key0 = s.start + tile.first;
    int32_t row = (int32_t)threadIdx.x / 4, part = (int32_t)threadIdx.x % 4, key = key0 + row;
    float dk[NC] = {}, dv[NC] = {};
    load_rows<NC>(k, (const T *)a.k + (size_t)key0 * a.ldk + (size_t)kv_head * D, a.ldk, rows, D,
                  1);
    load_rows<NC>(v, (const T *)a.v + (size_t)key0 * a.ldv + (size_t)kv_head * D, a.ldv, rows, D,
                  1);
    for (int32_t n = document_begin(a.segments, tile.segment);
         n < a.num_segments && a.segments[n].document == s.document; n++) {
        struct segment t = a.segments[n];
        for (int which = 0; which < SPANS; which++) {
            struct query_range range =
                queries_of(t, which, n == tile.segment, a.window, key0, key0 + rows - 1);
            int in_span =
                row < rows &&
                (which || (key >= t.prefix_start && key < t.prefix_start + t.prefix_length));
            /* units: query tile, then query head of the group */
            int32_t units = (range.end - range.begin + R - 1) / R * group;
            for (int32_t unit = 0; unit < units; unit++) {
                int32_t i0 = range.begin + unit / group * R, head = kv_head * group + unit % group;
                int32_t queries = min(R, range.end - i0);
                size_t at = (size_t)(t.start + i0);
                float score[R / 4], dp[R / 4];
                __syncthreads();
                load_rows<NC>(q, (const T *)a.q + at * a.ldq + (size_t)head * D, a.ldq, queries, D,
                              a.scale);
                load_rows<NC>(d_o, (const T *)g.d_o + at * a.ldo + (size_t)head * D, a.ldo, queries,
                              D, 1);
                __syncthreads();
                inner_products<NC>(score, k + row * plain<NC>::STRIDE, q, D, part);
                inner_products<NC>(dp, v + row * plain<NC>::STRIDE, d_o, D, part);
                UNROLL for (int i = 0; i < R / 4; i++)
                {
                    int32_t j = part + 4 * i;
                    size_t line = (at + min(j, queries - 1)) * a.H + head;
                    int seen = in_span && j < queries &&
                               sees(t.position + i0 + j, key + range.shift, range.causal, a.window);
                    ds[row * (R + 1) + j] = score_gradient(&p[row * (R + 1) + j], seen, score[i],
                                                           dp[i], a.lse[line], delta[line]);
                }
                __syncwarp();
                add_rows<NC>(dv, p + row * (R + 1), d_o, part);
                add_rows<NC>(dk, ds + row * (R + 1), q, part);
            }
        }
    }
    if (row >= rows) return;
    T *to_k = (T *)g.dk + (size_t)key * g.lddk + (size_t)kv_head * D;
    T *to_v = (T *)g.dv + (size_t)key * g.lddv + (size_t)kv_head * D;
    UNROLL for (int i = 0; i < NC; i++)
    {
        if (part + 4 * i >= D) continue;
        to_k[part + 4 * i] = from_float<T>(dk[i]);
        to_v[part + 4 * i] = from_float<T>(dv[i]);
    }
}

template <class T, int NC>
static void backward(struct device *d, const struct kern_attention *a,
                     const struct kern_attention_grad *g, struct attention_tile *tiles)
{
    constexpr int R = plain<NC>::R;
    int32_t max_tiles = attention_max_tiles(a, R);
    float *delta = (float *)(tiles + max_tiles);
    const struct attention_tile *list = tiles;
    size_t tile = plain<NC>::TILE, pairs = R * (R + 1);
    dim3 queries((unsigned)max_tiles, (unsigned)a->H), keys((unsigned)max_tiles, (unsigned)a->KV);
    unsigned threads = plain<NC>::THREADS;
    launch_list_tiles(d, tiles, a, R);
    launch(d, "attention backward", row_deltas<T>,
           (unsigned)blocks_of((int64_t)a->N * a->H, DELTA_THREADS), DELTA_THREADS, 0, delta,
           (const T *)g->d_o, (const T *)a->o, a->N, a->H, a->D, a->ldo);
    launch(d, "attention backward", query_gradients<T, NC>, queries, threads,
           (4 * tile + pairs) * sizeof(float), *a, *g, list, (const float *)delta);
    launch(d, "attention backward", key_gradients<T, NC>, keys, threads,
           (4 * tile + 2 * pairs) * sizeof(float), *a, *g, list, (const float *)delta);
}

void cuda_plain_attention_backward(struct device *d, const struct kern_attention *a,
                                   const struct kern_attention_grad *g, void *scratch)
{
    if (a->N <= 0 || a->num_segments <= 0 || !plain_fits(d, a)) return;
    struct attention_tile *tiles = (struct attention_tile *)scratch;
    WITH_TYPE(d, T, WITH_COLUMNS(a->D, NC, backward<T, NC>(d, a, g, tiles)));
}

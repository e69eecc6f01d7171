/* attention_decode.cu - attention of a few new rows over a long cache: keys are cut over blocks.
 *
 * Part i of the keys gives m_i = max s, l_i = sum e^(s - m_i), o_i = sum e^(s - m_i) v, with
 * s = scale q k^T; then, over the parts in order,
 *   m = max m_i;  l = sum e^(m_i - m) l_i;  o = sum e^(m_i - m) o_i / l;  lse = m + log l
 * Layout as kern_attention; any D up to 256. Nothing but plain CUDA.
 * Bytes: K and V once for each tile of lines (16 bytes a thread where rows allow), of which there
 * is one for up to 8 query heads of a key head times rows; more of them meet in L2. Parts add
 * 8 (D + 2) bytes a line and part, written and read.
 * A tile is up to M lines of one segment and key head: line n is row n / group, head n % group of
 * the group. A block has a tile and a part of the keys that some line of it sees. LANES threads
 * read a key's row beside each other and hold its columns of q and o for all lines: first the
 * scores of KEYS keys go to shared memory, then the softmax over them, then their rows of v.
 * Grid: (tiles x KV, parts), then (tiles x KV x M); one part writes o at once.
 * Deterministic: parts and the order within them follow from the shapes and the segments.
 */
#include "kernels/cuda/attention.cuh"

enum {
    THREADS = 128,
    WARPS = THREADS / WARP_SIZE,
    KEYS = 128,         /* scores in shared memory at a time */
    MOST_LINES = 8,     /* of a tile */
    MOST_BLOCKS = 512,  /* that parts are made for: four on each multiprocessor of the largest */
    FEWEST_KEYS = 64,   /* of a part: below, what a block does beside reading them shows */
    FEW = 64,           /* lines a key head */
    MERGED_COLUMNS = 4, /* a thread at once */
};

/* What a thread holds: V elements of a key's row at a time, PACKS times, of M lines. AHEAD rows are
 * on their way at once; BLOCKS of a multiprocessor leave the registers for it. */
template <class T_, int V_, int LANES_, int PACKS_, int M_> struct decode {
    typedef T_ T;
    enum { V = V_, LANES = LANES_, PACKS = PACKS_, M = M_ };
    enum { WIDTH = V * PACKS, COLUMNS = LANES * WIDTH, BESIDE = THREADS / LANES };
    enum { HELD = M * WIDTH, AHEAD = 4, BLOCKS = HELD > 32 || V == 1 ? 2 : HELD == 32 ? 3 : 4 };
    enum { FLOATS = KEYS * M + 3 * M + WARPS * M * COLUMNS }; /* shared */
};

/* --- what a block works on --- */

struct line_tile {
    struct segment s;
    int32_t first, count, group, kv_head;
};

/* Block `block` of tiles x KV; 0 where there is none. */
DEVICE int find_tile(struct line_tile &t, const struct kern_attention &a, int32_t block, int32_t M)
{
    int32_t left = block / a.KV;
    t.group = a.H / a.KV, t.kv_head = block % a.KV;
    for (int32_t n = 0; n < a.num_segments; n++) {
        t.s = a.segments[n];
        int32_t lines = t.s.length * t.group, here = (lines + M - 1) / M;
        t.first = left * M, t.count = min(M, lines - t.first);
        if (left < here) return 1;
        left -= here;
    }
    return 0;
}

/* Of the tile's line m: its number in lse and in a part, row * H + head. */
DEVICE size_t line_at(const struct kern_attention &a, const struct line_tile &t, int32_t m)
{
    int32_t n = t.first + m, row = t.s.start + n / t.group - a.first_row;
    return (size_t)row * a.H + t.kv_head * t.group + n % t.group;
}

/* Where the line begins in q or o. */
DEVICE size_t line_begin(const struct kern_attention &a, size_t line, int32_t ld)
{
    return line / a.H * ld + line % a.H * a.D;
}

/* Keys that some line sees, numbered through both spans: from `prefix` on they are the segment's
 * own. Key j is in row j + the span's row, at position j + the span's position. */
struct seen_keys {
    int32_t prefix, total;
    int32_t prefix_row, prefix_position, own_row, own_position;
};

DEVICE struct seen_keys keys_seen(const struct kern_attention &a, const struct line_tile &t)
{
    struct seen_keys k;
    int32_t low = t.s.position + t.first / t.group;
    int32_t high = t.s.position + (t.first + t.count - 1) / t.group;
    struct key_span p = span_of(t.s, 0, a.window, low, high);
    struct key_span own = span_of(t.s, 1, a.window, low, high);
    k.prefix = max(0, p.end - p.begin);
    k.total = k.prefix + max(0, own.end - own.begin);
    k.prefix_row = p.row + p.begin, k.prefix_position = p.position + p.begin;
    k.own_row = own.row + own.begin - k.prefix;
    k.own_position = own.position + own.begin - k.prefix;
    return k;
}

/* --- a thread's columns: pack i of LANES, then pack i + LANES, ... --- */

template <class S>
DEVICE void load_columns(float (&to)[S::WIDTH], const typename S::T *row, int32_t D)
{
    int32_t lane = (int32_t)threadIdx.x % S::LANES;
    UNROLL for (int p = 0; p < S::PACKS; p++)
    {
        float values[S::V] = {};
        int32_t column = (lane + p * S::LANES) * S::V;
        if (column < D) load(values, row + column);
        UNROLL for (int v = 0; v < S::V; v++) to[p * S::V + v] = values[v];
    }
}

/* Rows `first` + n BESIDE of k or v, n < AHEAD, of a chunk's `count` keys from `base` on. Behind
 * the end comes the last one again. */
template <class S>
DEVICE void load_keys(float (&to)[S::AHEAD][S::WIDTH], const struct kern_attention &a,
                      const void *from, int32_t ld, const struct line_tile &t,
                      const struct seen_keys &keys, int32_t base, int32_t first, int32_t count)
{
    UNROLL for (int n = 0; n < S::AHEAD; n++)
    {
        int32_t i = min(first + n * S::BESIDE, count - 1);
        int32_t j = base + i;
        size_t row = (size_t)(j + (j < keys.prefix ? keys.prefix_row : keys.own_row));
        load_columns<S>(to[n], (const typename S::T *)from + row * ld + (size_t)t.kv_head * a.D,
                        a.D);
    }
}

/* --- scores --- */

/* Sums M values over LANES neighbours: lane i gets that of line i / (LANES / M). While there are
 * several, each half of the lanes hands the other the lines that are not its own. */
template <int M, int LANES> DEVICE float sum_lines(float (&v)[M], int32_t lane)
{
    int o = LANES / 2;
    UNROLL for (int n = M / 2; n; n /= 2, o /= 2)
    {
        UNROLL for (int i = 0; i < n; i++)
        {
            float mine = lane & o ? v[i + n] : v[i], other = lane & o ? v[i] : v[i + n];
            v[i] = mine + __shfl_xor_sync(ALL_LANES, other, o);
        }
    }
    UNROLL for (; o; o /= 2) v[0] += __shfl_xor_sync(ALL_LANES, v[0], o);
    return v[0];
}

/* scores [KEYS, M] of `count` keys from `base` on; -inf where a line does not see a key. */
template <class S>
DEVICE void score_keys(float *scores, const float (&q)[S::M][S::WIDTH],
                       const struct kern_attention &a, const struct line_tile &t,
                       const struct seen_keys &keys, int32_t base, int32_t count)
{
    enum { EACH = S::LANES / S::M };
    int32_t lane = (int32_t)threadIdx.x % S::LANES, line = lane / EACH;
    int32_t position = t.s.position + (t.first + line) / t.group;
    for (int32_t start = 0; start < count; start += S::AHEAD * S::BESIDE) {
        int32_t first = start + (int32_t)threadIdx.x / S::LANES;
        float k[S::AHEAD][S::WIDTH];
        load_keys<S>(k, a, a.k, a.ldk, t, keys, base, first, count);
        UNROLL for (int n = 0; n < S::AHEAD; n++)
        {
            int32_t i = first + n * S::BESIDE;
            float dot[S::M];
            UNROLL for (int m = 0; m < S::M; m++)
            {
                dot[m] = 0;
                UNROLL for (int c = 0; c < S::WIDTH; c++) dot[m] += q[m][c] * k[n][c];
            }
            float score = sum_lines<S::M, S::LANES>(dot, lane);
            if (i >= count || lane % EACH) continue;
            int32_t j = base + i, own = j >= keys.prefix;
            int32_t key = j + (own ? keys.own_position : keys.prefix_position);
            int seen = sees(position, key, own, a.window);
            scores[i * S::M + line] = seen ? score : -INFINITY;
        }
    }
}

/* --- softmax: a warp has lines warp, warp + WARPS, ... --- */

template <class S> struct softmax_state {
    enum { OWN = (S::M + WARPS - 1) / WARPS };
    float top[OWN], sum[OWN];
};

/* Scores become weights; keep [M] is what sums over earlier keys are to be multiplied by. */
template <class S>
DEVICE void weigh_keys(float *scores, float *keep, struct softmax_state<S> &state, int32_t count)
{
    int32_t warp = (int32_t)threadIdx.x / WARP_SIZE, lane = (int32_t)threadIdx.x % WARP_SIZE;
    UNROLL for (int own = 0; own < softmax_state<S>::OWN; own++)
    {
        int32_t m = warp + own * WARPS;
        if (m >= S::M) continue; /* the whole warp */
        float most = state.top[own], sum = 0;
        for (int32_t i = lane; i < count; i += WARP_SIZE) most = fmaxf(most, scores[i * S::M + m]);
        most = warp_max(most);
        float base = most == -INFINITY ? 0 : most, down = expf(state.top[own] - base);
        for (int32_t i = lane; i < count; i += WARP_SIZE) {
            float p = expf(scores[i * S::M + m] - base);
            scores[i * S::M + m] = p;
            sum += p;
        }
        state.top[own] = most;
        state.sum[own] = state.sum[own] * down + warp_sum(sum);
        if (lane == 0) keep[m] = down;
    }
}

/* o += weights v */
template <class S>
DEVICE void add_values(float (&o)[S::M][S::WIDTH], const float *weights, const float *keep,
                       const struct kern_attention &a, const struct line_tile &t,
                       const struct seen_keys &keys, int32_t base, int32_t count)
{
    UNROLL for (int m = 0; m < S::M; m++) UNROLL for (int c = 0; c < S::WIDTH; c++) o[m][c] *=
        keep[m];
    for (int32_t first = (int32_t)threadIdx.x / S::LANES; first < count;
         first += S::AHEAD * S::BESIDE) {
        float v[S::AHEAD][S::WIDTH];
        load_keys<S>(v, a, a.v, a.ldv, t, keys, base, first, count);
        UNROLL for (int n = 0; n < S::AHEAD; n++)
        {
            int32_t i = first + n * S::BESIDE;
            if (i >= count) continue;
            UNROLL for (int m = 0; m < S::M; m++)
            {
                float p = weights[i * S::M + m];
                UNROLL for (int c = 0; c < S::WIDTH; c++) o[m][c] += p * v[n][c];
            }
        }
    }
}

/* --- parts: o [parts, N H, D as `stride`], then {m, l} [parts, N H] --- */

struct decode_parts {
    float *o, *state;
    size_t lines;
    int32_t num, stride;
};

/* Adds up what the block's threads hold of each line, in order, and writes it: as a part, or, where
 * there is one, divided. to [WARPS, M, COLUMNS] and state [2, M] are shared. */
template <class S>
DEVICE void put_lines(const struct kern_attention &a, const struct line_tile &t,
                      const struct decode_parts &parts, float (&o)[S::M][S::WIDTH],
                      const struct softmax_state<S> &mine, float *to, float *state)
{
    typedef typename S::T T;
    int32_t warp = (int32_t)threadIdx.x / WARP_SIZE, lane = (int32_t)threadIdx.x % WARP_SIZE;
    UNROLL for (int own = 0; own < softmax_state<S>::OWN; own++)
    {
        int32_t m = warp + own * WARPS;
        if (lane == 0 && m < S::M) state[m] = mine.top[own], state[S::M + m] = mine.sum[own];
    }
    UNROLL for (int m = 0; m < S::M; m++) UNROLL for (int c = 0; c < S::WIDTH; c++)
    {
        float sum = o[m][c];
        UNROLL for (int x = S::LANES; x < WARP_SIZE; x *= 2) sum +=
            __shfl_xor_sync(ALL_LANES, sum, x);
        int32_t column = (lane + c / S::V * S::LANES) * S::V + c % S::V;
        if (lane < S::LANES) to[(warp * S::M + m) * S::COLUMNS + column] = sum;
    }
    __syncthreads();
    for (int32_t i = (int32_t)threadIdx.x; i < t.count * a.D; i += THREADS) {
        int32_t m = i / a.D, column = i % a.D;
        size_t line = line_at(a, t, m), part = blockIdx.y * parts.lines + line;
        float sum = 0, top = state[m], weight = state[S::M + m];
        UNROLL for (int w = 0; w < WARPS; w++) sum += to[(w * S::M + m) * S::COLUMNS + column];
        if (parts.num == 1) {
            ((T *)a.o)[line_begin(a, line, a.ldo) + column] = from_float<T>(sum / weight);
            if (column == 0 && a.lse) a.lse[line] = top + logf(weight);
        } else {
            parts.o[part * parts.stride + column] = sum;
            if (column == 0) parts.state[2 * part] = top, parts.state[2 * part + 1] = weight;
        }
    }
}

template <class S>
__global__ void __launch_bounds__(THREADS, S::BLOCKS)
    decode_part(struct kern_attention a, struct decode_parts parts)
{
    DYNAMIC_SHARED(memory);
    float *scores = (float *)memory, *keep = scores + KEYS * S::M, *state = keep + S::M;
    struct line_tile t;
    if (!find_tile(t, a, (int32_t)blockIdx.x, S::M)) return;
    const struct seen_keys keys = keys_seen(a, t);
    int32_t each = (keys.total + parts.num - 1) / parts.num;
    each = (each + S::BESIDE - 1) / S::BESIDE * S::BESIDE;
    int32_t begin = min(keys.total, (int32_t)blockIdx.y * each),
            end = min(keys.total, begin + each);
    float q[S::M][S::WIDTH], o[S::M][S::WIDTH] = {};
    struct softmax_state<S> mine;
    UNROLL for (int i = 0; i < softmax_state<S>::OWN; i++) mine.top[i] = -INFINITY, mine.sum[i] = 0;
    UNROLL for (int m = 0; m < S::M; m++)
    {
        size_t line = line_at(a, t, min(m, t.count - 1));
        load_columns<S>(q[m], (const typename S::T *)a.q + line_begin(a, line, a.ldq), a.D);
        UNROLL for (int c = 0; c < S::WIDTH; c++) q[m][c] *= a.scale;
    }
    for (int32_t base = begin; base < end; base += KEYS) {
        int32_t count = min((int32_t)KEYS, end - base);
        score_keys<S>(scores, q, a, t, keys, base, count);
        __syncthreads();
        weigh_keys<S>(scores, keep, mine, count);
        __syncthreads();
        add_values<S>(o, scores, keep, a, t, keys, base, count);
        __syncthreads(); /* scores and keep are read */
    }
    put_lines<S>(a, t, parts, o, mine, state + 2 * S::M, state);
}

/* A block a line. Each warp finds m and l for itself, over the parts lane by lane. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    merge_parts(struct kern_attention a, struct decode_parts parts, int32_t M)
{
    SHARED(float, beside, [WARPS][WARP_SIZE * MERGED_COLUMNS]);
    struct line_tile t;
    int32_t warp = (int32_t)threadIdx.x / WARP_SIZE, lane = (int32_t)threadIdx.x % WARP_SIZE;
    int32_t m = (int32_t)blockIdx.x % M;
    if (!find_tile(t, a, (int32_t)blockIdx.x / M, M) || m >= t.count) return;
    size_t line = line_at(a, t, m);
    const float *state = parts.state + 2 * line;
    float top = -INFINITY, sum = 0;
    for (int32_t i = lane; i < parts.num; i += WARP_SIZE)
        top = fmaxf(top, state[2 * parts.lines * i]);
    top = warp_max(top);
    for (int32_t i = lane; i < parts.num; i += WARP_SIZE)
        sum += expf(state[2 * parts.lines * i] - top) * state[2 * parts.lines * i + 1];
    sum = warp_sum(sum);
    if (threadIdx.x == 0 && a.lse) a.lse[line] = top + logf(sum);
    T *to = (T *)a.o + line_begin(a, line, a.ldo);
    for (int32_t at = 0; at < a.D; at += WARP_SIZE * MERGED_COLUMNS) {
        int32_t column = at + lane * MERGED_COLUMNS;
        float o[MERGED_COLUMNS] = {};
        if (column < a.D) UNROLL_4 for (int32_t i = warp; i < parts.num; i += WARPS)
            {
                float part[MERGED_COLUMNS], f = expf(state[2 * parts.lines * i] - top);
                load(part, parts.o + (parts.lines * i + line) * parts.stride + column);
                UNROLL for (int c = 0; c < MERGED_COLUMNS; c++) o[c] += f * part[c];
            }
        __syncthreads(); /* the columns before these are read */
        UNROLL for (int c = 0; c < MERGED_COLUMNS; c++) beside[warp][lane * MERGED_COLUMNS + c] =
            o[c];
        __syncthreads();
        column = at + (int32_t)threadIdx.x;
        if (column >= a.D) continue;
        float all = 0;
        UNROLL for (int w = 0; w < WARPS; w++) all += beside[w][threadIdx.x];
        to[column] = from_float<T>(all / sum);
    }
}

/* --- the engine --- */

/* Whether keys are to be cut over blocks: decoding (first_row > 0), and so few rows that tiles of
 * them, times the heads, would leave most of a device idle: up to 64 lines (rows times query heads
 * a key head), which are 8 tiles a key head. From there on a tile of an engine for many rows reads
 * K and V fewer times. Micro-batches that are trained never come here, however small. */
int cuda_decode_attention_fits(const struct device *d, const struct kern_attention *a)
{
    (void)d;
    return a->first_row > 0 && a->D <= 256 && (int64_t)a->N * (a->H / a->KV) <= FEW;
}

static int32_t part_stride(const struct kern_attention *a)
{
    return (a->D + MERGED_COLUMNS - 1) / MERGED_COLUMNS * MERGED_COLUMNS;
}

/* For any number of rows that come here: num_parts makes parts for MOST_BLOCKS at most. */
size_t cuda_decode_attention_scratch(const struct device *d, const struct kern_attention *a)
{
    (void)d;
    return (size_t)MOST_BLOCKS * MOST_LINES * (size_t)(part_stride(a) + 2) * sizeof(float);
}

static int32_t num_tiles(const struct kern_attention *a, int32_t M)
{
    return (a->N * (a->H / a->KV) + a->num_segments * (M - 1)) / M;
}

/* Keys of a cache end at row first_row + N; a window hides the others. */
static int32_t num_parts(const struct kern_attention *a, int32_t blocks)
{
    int64_t keys = (int64_t)a->first_row + a->N;
    if (a->window > 0 && keys > (int64_t)a->window + a->N) keys = (int64_t)a->window + a->N;
    int64_t parts = (keys + FEWEST_KEYS - 1) / FEWEST_KEYS;
    if (parts * blocks > MOST_BLOCKS) parts = MOST_BLOCKS / blocks;
    return (int32_t)(parts > 1 ? parts : 1);
}

template <class S>
static void attend(struct device *d, const struct kern_attention *a, void *scratch)
{
    struct decode_parts p;
    int32_t blocks = num_tiles(a, S::M) * a->KV;
    p.lines = (size_t)a->N * (size_t)a->H;
    p.num = num_parts(a, blocks), p.stride = part_stride(a);
    p.o = (float *)scratch, p.state = p.o + (size_t)p.num * p.lines * (size_t)p.stride;
    launch(d, "decoding attention", decode_part<S>, dim3((unsigned)blocks, (unsigned)p.num),
           THREADS, S::FLOATS * sizeof(float), *a, p);
    if (p.num > 1)
        launch(d, "decoding attention", merge_parts<typename S::T>, (unsigned)(blocks * S::M),
               THREADS, 0, *a, p, (int32_t)S::M);
}

/* By lines a tile: no more than there are. */
template <class T, int V, int LANES, int PACKS>
static void attend_lines(struct device *d, const struct kern_attention *a, void *scratch)
{
    int32_t lines = a->N * (a->H / a->KV);
    if constexpr (V > 1) {
        if (lines == 1) {
            attend<decode<T, V, LANES, PACKS, 1>>(d, a, scratch);
            return;
        }
        if (lines > 4) {
            attend<decode<T, V, LANES, PACKS, MOST_LINES>>(d, a, scratch);
            return;
        }
    }
    attend<decode<T, V, LANES, PACKS, 4>>(d, a, scratch);
}

/* By D: LANES * PACKS packs of V hold a row, with as few idle lanes as powers of two allow. */
template <class T>
static void attend_columns(struct device *d, const struct kern_attention *a, void *scratch)
{
    enum { V = pack<T>::V, WARP_COLUMNS = WARP_SIZE * V };
    int whole = packs(a->q, a->ldq, sizeof(T)) && packs(a->k, a->ldk, sizeof(T)) &&
                packs(a->v, a->ldv, sizeof(T)) && a->D % V == 0;
    if (!whole)
        attend_lines<T, 1, WARP_SIZE, 256 / WARP_SIZE>(d, a, scratch);
    else if (a->D <= WARP_COLUMNS / 4)
        attend_lines<T, V, WARP_SIZE / 4, 1>(d, a, scratch);
    else if (a->D <= WARP_COLUMNS / 2)
        attend_lines<T, V, WARP_SIZE / 2, 1>(d, a, scratch);
    else if (a->D <= WARP_COLUMNS)
        attend_lines<T, V, WARP_SIZE, 1>(d, a, scratch);
    else
        attend_lines<T, V, WARP_SIZE, 256 / WARP_COLUMNS>(d, a, scratch);
}

void cuda_decode_attention_forward(struct device *d, const struct kern_attention *a, void *scratch)
{
    if (a->N <= 0 || a->num_segments <= 0) return;
    WITH_TYPE(d, T, attend_columns<T>(d, a, scratch));
}

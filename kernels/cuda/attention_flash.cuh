/* attention_flash.cuh - attention on tensor cores (sm_80 and up): what forward and backward share.
 *
 * For bf16, heads of 64 and 128, rows that are 16-aligned; the rest goes the plain way. mma.sync
 * m16n8k16 with fp32 sums, ldmatrix, cp.async. NOT RUN ON A DEVICE YET: emulated only (ptx.cuh).
 *
 * The model
 *   Query heads that share a key head are packed: line n of a segment is its row n/group, head
 *   n%group of the group. They lie side by side in memory, share keys and values, and a tile of R
 *   lines then spans few positions, so that little of it is masked, and short documents and
 *   decoding fill it.
 *   A block's warps own 16 M rows each of one side, which stays (R = 16 M WARPS); C rows at a time
 *   of the other side pass by. Forward and dq: lines stay, keys pass. dk and dv: keys stay, lines
 *   pass. So each product of the second kind has its left side in the registers where the first
 *   kind left it (p, ds), and no warp needs another's sums:
 *     scores  [16 M, C] = x [16 M, D] y [C, D]^T     x by ldmatrix, y by ldmatrix
 *     sums    [16 M, D] += p [16 M, C] y [C, D]      p in registers, y by ldmatrix.trans
 *   Softmax in base 2: p = 2^(s scale log2 e - m). lse is kept as kernels.h has it, to base e.
 *
 * Data flow
 *   forward: q stays; K and V tiles take turns, one is under way while the other is multiplied.
 *   backward: stats (a pass over o and do: lse to base 2 and delta = rowsum(do o)), then two
 *   kernels; both keep two tiles and pass two, in two stages, one barrier a step:
 *     key_gradients    k, v stay; q, do, stats pass:  p^T, ds^T; dv += p^T do, dk += ds^T q
 *     query_gradients  q, do stay; k, v pass:         p, ds;     dq += ds k
 *   That is 7 products where one kernel that sums dq in memory takes 5. The price of the fixed
 *   order asked for: fp32 atomics have none, blocks that wait for each other in turn may not (and
 *   each step would read and write 4 D bytes a line), and a copy of dq for each split of the keys
 *   costs hundreds of MB. To be measured against on a device.
 *   Before each: a list of tiles, those with most work first, for ragged batches
 *   (attention_tiles.cu).
 *   Tiles that no row sees are never visited; only tiles at a border (causal, window, ragged end)
 *   are masked. Lines that a NaN in a hidden row of v has reached are computed anew
 *   (attention_line.cuh).
 *
 * Shared memory: rows of 2 D bytes; 16-byte chunk c of row r lies at c ^ (r % 8), so that eight
 * rows of a chunk (ldmatrix) and eight chunks of a row (cp.async) meet eight different groups of
 * banks.
 *
 * Sizes: rows that stay and that pass at a time, threads, KiB of shared memory, blocks an SM;
 * registers by ptxas 13.0 for sm_80, sm_89, sm_90a (no spills; tools/kernel-report lists them).
 *   forward          D  64   128 x 64   128   33   2   215 219 220
 *                    D 128   128 x 64   128   67   2   255 255 255
 *                    small    64 x 64   128   49   2   168 168 181
 *   key_gradients    D  64   128 x 32   128   49   2   248 248 246
 *                    D 128   128 x 64   256  130   1   255 255 254
 *                    small   128 x 32   256   97   1   224 224 232
 *   query_gradients  D  64   128 x 32   128   49   2   198 198 195
 *                    D 128   128 x 64   256  129   1   198 198 197
 *                    small   128 x 32   256   97   1   167 167 168
 *
 * Cost. FLOPs a visible pair and query head: forward 4 D, backward 14 D (10 D is what others
 * count). C keys and values (4 C D bytes) from L2 serve R lines: R FLOPs a byte, 128, where an A100
 * has some 60 (312 TFLOP/s over 5 TB/s); 64 where tiles are small.
 * ldmatrix: y's fragments serve the M tiles of a warp: at M = 2 half of what shared memory gives
 * while the tensor cores are busy, at M = 1 all of it; hence M = 2 wherever registers allow.
 * Floor, D = 128, causal, 8192 rows, 32 heads: 0.55 TFLOP forward, 1.37 backward as others count.
 * At the A100's 312 TFLOP/s 1.8 and (times 7/5) 6.2 ms; an H100 gives mma.sync about 620 of its
 * 990: 0.9 and 3.1 ms. I expect 60 to 70 % of that: exponentials (1 in 4 D FLOPs, 16 a clock and
 * SM) and masks are only partly hidden.
 */
#ifndef CRIA_KERNELS_CUDA_ATTENTION_FLASH_CUH
#define CRIA_KERNELS_CUDA_ATTENTION_FLASH_CUH

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/ptx.cuh"

/* A kernel's sizes. D columns; WARPS warps with M 16-row tiles each; C rows of what passes;
 * BLOCKS of them on an SM, which bounds registers. */
template <int D_, int WARPS_, int M_, int C_, int BLOCKS_> struct flash {
    enum { D = D_, WARPS = WARPS_, M = M_, C = C_, BLOCKS = BLOCKS_ };
    enum { THREADS = 32 * WARPS, WARP_ROWS = 16 * M, R = WARP_ROWS * WARPS };
    enum { CHUNKS = D / 8, ROW_BYTES = 2 * D, STAY = R * ROW_BYTES, PASS = C * ROW_BYTES };
    enum { ROWS = 2 * M }; /* rows of a tile that a thread holds columns of */
    typedef float scores[M][C / 8][4];
    typedef float sums[M][D / 8][4];
    typedef uint32_t weights[M][C / 16][4]; /* scores as a left side, in bf16 */
};

constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

/* Computed anew: else all that hangs on them would be kept, and spilled, for the whole kernel. */
DEVICE int lane_id() { return (int)(computed_anew(threadIdx.x) % WARP_SIZE); }
DEVICE int warp_id() { return (int)(computed_anew(threadIdx.x) / WARP_SIZE); }

/* Offset of a chunk in a tile. */
template <class S> DEVICE uint32_t chunk_at(int row, int chunk)
{
    return (uint32_t)(row * S::ROW_BYTES + ((chunk ^ (row & 7)) << 4));
}

/* Row of the block's tile whose columns lie in scores[m][.][2 half], [2 half + 1]; r = 2 m + half.
 * Columns: 8 n + 2 (lane % 4) and the next. */
template <class S> DEVICE int row_held(int r)
{
    return warp_id() * S::WARP_ROWS + 8 * r + lane_id() / 4;
}

/* --- rows in global memory: keys, or lines (row n/group, head n%group) --- */

/* Lines of a row. inverse = 2^31 / group, rounded up: exact for lines below 2^31 / group. */
struct line_group {
    int32_t size;
    uint32_t inverse;
};

DEVICE int32_t row_of(const struct line_group &group, int32_t line)
{
    return (int32_t)((uint64_t)(uint32_t)line * group.inverse >> 31);
}

struct flash_side {
    const struct bf16 *rows; /* of the segment's first row, or row 0 for keys; first head */
    size_t ld;
};

template <class S, bool LINES>
DEVICE size_t offset_of(size_t ld, const struct line_group &group, int32_t n)
{
    if (!LINES) return (size_t)n * ld;
    int32_t row = row_of(group, n);
    return (size_t)row * ld + (size_t)((n - row * group.size) * S::D);
}

/* Issues copies of rows first to first + count - 1 into a tile of TILE_ROWS, zeros below. */
template <class S, bool LINES, int TILE_ROWS>
DEVICE void fetch_rows(uint32_t to, const struct flash_side &from, const struct line_group &group,
                       int32_t first, int32_t count)
{
    constexpr int STEP = S::THREADS / S::CHUNKS;
    static_assert(TILE_ROWS % STEP == 0 && STEP % 8 == 0, "threads share rows evenly");
    int row = (int)threadIdx.x / S::CHUNKS, chunk = (int)threadIdx.x % S::CHUNKS;
    const struct bf16 *at = from.rows + 8 * chunk, *next = at + (size_t)(first + row) * from.ld;
    to += chunk_at<S>(row, chunk);
    UNROLL for (int i = 0; i < TILE_ROWS / STEP; i++)
    {
        int there = row + i * STEP < count;
        if (LINES && there) next = at + offset_of<S, LINES>(from.ld, group, first + row + i * STEP);
        copy_async_16(to + i * STEP * S::ROW_BYTES, there ? next : at, there ? 16 : 0);
        next += STEP * from.ld;
    }
}

/* Writes sums * factor of the warp's rows, of which the tile has `count`, by way of the warp's own
 * part of a tile in shared memory, so that lanes store 16 bytes side by side. */
template <class S, bool LINES>
DEVICE void put_rows(struct bf16 *to, size_t ld, const struct line_group &group, int32_t first,
                     int32_t count, unsigned char *tile, const typename S::sums &sums,
                     const float (&factor)[S::ROWS])
{
    int lane = lane_id();
    UNROLL for (int r = 0; r < S::ROWS; r++) UNROLL for (int n = 0; n < S::D / 8; n++)
    {
        const float *c = &sums[r / 2][n][r % 2 * 2];
        *(uint32_t *)(tile + chunk_at<S>(row_held<S>(r), n) + lane % 4 * 4) =
            bf16_pair(c[0] * factor[r], c[1] * factor[r]);
    }
    __syncwarp();
    UNROLL for (int i = 0; i < S::WARP_ROWS * S::CHUNKS / WARP_SIZE; i++)
    {
        int n = i * WARP_SIZE + lane, chunk = n % S::CHUNKS;
        int row = warp_id() * S::WARP_ROWS + n / S::CHUNKS;
        if (row >= count) continue;
        *(uint4 *)(to + offset_of<S, LINES>(ld, group, first + row) + 8 * chunk) =
            *(const uint4 *)(tile + chunk_at<S>(row, chunk));
    }
}

/* --- products --- */

/* The two 16x8 halves of a right side [16, 16], against one left side. */
DEVICE void multiply_pair(float (&low)[4], float (&high)[4], const uint32_t (&a)[4],
                          const uint32_t (&b)[4])
{
    const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
    multiply_16x8x16(low, a, first);
    multiply_16x8x16(high, a, second);
}

/* Where a lane's row of the first fragment lies: of a left side, the warp's own rows; of a right
 * side that is turned (columns of the tile become columns), or is not. Fragment k of a row is at
 * `at ^ k << 5`, since tiles begin at multiples of 256. */
template <class S> DEVICE uint32_t left_at(uint32_t tile)
{
    return tile + chunk_at<S>(warp_id() * S::WARP_ROWS + lane_id() % 16, lane_id() / 16);
}

template <class S> DEVICE uint32_t right_at(uint32_t tile)
{
    return tile + chunk_at<S>(lane_id() / 16 * 8 + lane_id() % 8, lane_id() / 8 % 2);
}

template <class S> DEVICE uint32_t turned_at(uint32_t tile)
{
    return tile + chunk_at<S>(lane_id() % 16, lane_id() / 16);
}

/* scores = the warp's rows of x times those of y turned; x: left_at, y: right_at */
template <class S> DEVICE void multiply_rows(typename S::scores &scores, uint32_t x, uint32_t y)
{
    UNROLL for (int m = 0; m < S::M; m++) UNROLL for (int n = 0; n < S::C / 8; n++)
        UNROLL for (int i = 0; i < 4; i++) scores[m][n][i] = 0;
    UNROLL for (int k = 0; k < S::D / 16; k++)
    {
        uint32_t a[S::M][4], b[4];
        UNROLL for (int m = 0; m < S::M; m++)
            load_tiles_4(a[m], (x ^ k << 5) + 16 * m * S::ROW_BYTES);
        UNROLL for (int n = 0; n < S::C / 16; n++)
        {
            load_tiles_4(b, (y ^ k << 5) + 16 * n * S::ROW_BYTES);
            UNROLL for (int m = 0; m < S::M; m++)
                multiply_pair(scores[m][2 * n], scores[m][2 * n + 1], a[m], b);
        }
    }
}

/* sums += weights times y; y: turned_at */
template <class S>
DEVICE void multiply_weights(typename S::sums &sums, const typename S::weights &weights, uint32_t y)
{
    UNROLL for (int k = 0; k < S::C / 16; k++) UNROLL for (int n = 0; n < S::D / 16; n++)
    {
        uint32_t b[4];
        load_tiles_4_turned(b, (y ^ n << 5) + 16 * k * S::ROW_BYTES);
        UNROLL for (int m = 0; m < S::M; m++)
            multiply_pair(sums[m][2 * n], sums[m][2 * n + 1], weights[m][k], b);
    }
}

/* What a product left in a thread is what the next one wants there of its left side. */
template <class S> DEVICE void pack_weights(typename S::weights &to, const typename S::scores &from)
{
    UNROLL for (int m = 0; m < S::M; m++) UNROLL for (int k = 0; k < S::C / 16; k++)
        UNROLL for (int i = 0; i < 4; i++)
    {
        const float *c = &from[m][2 * k + i / 2][i % 2 * 2];
        to[m][k][i] = bf16_pair(c[0], c[1]);
    }
}

template <class S> DEVICE void clear_sums(typename S::sums &sums)
{
    UNROLL for (int m = 0; m < S::M; m++) UNROLL for (int n = 0; n < S::D / 8; n++)
        UNROLL for (int i = 0; i < 4; i++) sums[m][n][i] = 0;
}

/* --- masks --- */

/* Row r of the thread keeps the columns from low[r] to high[r] - 1. */
template <class S>
DEVICE void hide_columns(typename S::scores &scores, const int32_t (&low)[S::ROWS],
                         const int32_t (&high)[S::ROWS])
{
    UNROLL for (int r = 0; r < S::ROWS; r++) UNROLL for (int n = 0; n < S::C / 8; n++)
        UNROLL for (int i = 0; i < 2; i++)
    {
        int32_t column = 8 * n + 2 * (lane_id() % 4) + i;
        if (column < low[r] || column >= high[r]) scores[r / 2][n][r % 2 * 2 + i] = -INFINITY;
    }
}

/* --- over the four lanes that hold a row of scores --- */

DEVICE float quad_max(float v)
{
    v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
    return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}

DEVICE float quad_sum(float v)
{
    v += __shfl_xor_sync(ALL_LANES, v, 1);
    return v + __shfl_xor_sync(ALL_LANES, v, 2);
}

/* --- lines that stay --- */

/* A block's tile of lines. It lies in shared memory, to be read where it is needed: registers are
 * what a kernel has least of. */
struct line_block {
    struct segment segment;
    int32_t first, count; /* of the segment's lines */
    int32_t low, high;    /* positions of the first and the last of them */
    int32_t kv_head;
};

template <class S>
DEVICE struct line_block lines_of(const struct kern_attention &a, const struct line_group &group,
                                  const struct attention_tile &tile)
{
    struct line_block b = {a.segments[tile.segment], tile.first, 0, 0, 0, 0};
    b.kv_head = (int32_t)blockIdx.x % a.KV;
    b.count = min((int32_t)S::R, b.segment.length * group.size - b.first);
    b.low = b.segment.position + row_of(group, b.first);
    b.high = b.segment.position + row_of(group, b.first + b.count - 1);
    return b;
}

/* Where the segment begins in q, o and lse. */
DEVICE size_t query_row(const struct kern_attention &a, const struct line_block &b)
{
    return (size_t)(b.segment.start - a.first_row);
}

/* A block's keys or values. */
template <class S>
DEVICE struct flash_side keys_of(const void *rows, int32_t ld, const struct line_block &b)
{
    struct flash_side side = {(const struct bf16 *)rows + b.kv_head * S::D, (size_t)ld};
    return side;
}

/* --- keys that pass: those of the prefix, then the segment's own, C at a time --- */

struct key_walk {
    int32_t row, position, left; /* of the next key, in its span; 0 or less: no more */
    int own;                     /* prefixes never hide */
};

DEVICE struct key_walk walk_span(const struct line_block &b, int which, int32_t window)
{
    struct key_span p = span_of(b.segment, which, window, b.low, b.high);
    struct key_walk w = {p.row + p.begin, p.position + p.begin, p.end - p.begin, which};
    return w;
}

DEVICE struct key_walk walk_keys(const struct line_block &b, int32_t window)
{
    struct key_walk w = walk_span(b, 0, window);
    return w.left > 0 ? w : walk_span(b, 1, window);
}

template <class S>
DEVICE void next_keys(struct key_walk &w, const struct line_block &b, int32_t window)
{
    w.row += S::C, w.position += S::C, w.left -= S::C;
    if (w.left <= 0 && !w.own) w = walk_span(b, 1, window);
}

/* Whether there are keys at w that some line does not see. */
template <class S>
DEVICE int at_border(const struct key_walk &w, const struct line_block &b, int32_t window)
{
    return w.left < S::C || (w.own && w.position + S::C - 1 > b.low) ||
           (window > 0 && w.position <= b.high - window);
}

/* Hides them. */
template <class S>
DEVICE void hide_keys(typename S::scores &scores, const struct key_walk &w,
                      const struct line_block &b, int32_t window, const struct line_group &group)
{
    if (!at_border<S>(w, b, window)) return;
    int32_t low[S::ROWS], high[S::ROWS];
    UNROLL for (int r = 0; r < S::ROWS; r++)
    {
        int32_t line = b.first + min((int32_t)row_held<S>(r), b.count - 1);
        int32_t column = b.segment.position + row_of(group, line) - w.position; /* its own */
        low[r] = window > 0 ? column - window + 1 : 0;
        high[r] = w.own ? min(w.left, column + 1) : w.left;
    }
    hide_columns<S>(scores, low, high);
}

/* --- host --- */

/* The sizes of the forward kernel, chosen here alone: by head size, and by the shared memory that a
 * block may have (sm_80 163 KB, sm_89 99, sm_90 227).
 *
 *   FLASH_64     four warps of 32 lines, 64 keys a step: 33 KB, two blocks an SM by registers. For
 *                three, 168 registers are too few, and so are 255 for 128 keys a step
 *   FLASH_128    the same is 67 KB: two blocks an SM. Eight warps of 16 lines would read every
 *                fragment of K and V twice as often; 128 keys a step want more than 255 registers
 *   FLASH_SMALL  where two such blocks find no room: 64 lines, 49 KB, of which an SM of sm_89
 *                holds two (51200 bytes each, 1024 of them the system's). The 4090's tensor cores
 *                take twice as long for a product, so that shared memory keeps up with 16 lines a
 *                warp. Also where there are few lines, as in decoding
 */
enum flash_forward { FLASH_64, FLASH_128, FLASH_SMALL };
enum { FLASH_FEWEST_ROWS = 64 }; /* of their tiles */

static inline enum flash_forward flash_forward_size(const struct device *d,
                                                    const struct kern_attention *a)
{
    if (a->D == 64) return FLASH_64;
    int few = (int64_t)a->N * (a->H / a->KV) <= 64;
    return few || cuda_state(d)->shared_most < (128 << 10) ? FLASH_SMALL : FLASH_128;
}

#define WITH_FLASH_FORWARD(d, a, S, ...)              \
    do {                                              \
        switch (flash_forward_size(d, a)) {           \
        case FLASH_64: {                              \
            typedef struct flash<64, 4, 2, 64, 2> S;  \
            __VA_ARGS__;                              \
        } break;                                      \
        case FLASH_128: {                             \
            typedef struct flash<128, 4, 2, 64, 2> S; \
            __VA_ARGS__;                              \
        } break;                                      \
        case FLASH_SMALL: {                           \
            typedef struct flash<128, 4, 1, 64, 2> S; \
            __VA_ARGS__;                              \
        } break;                                      \
        }                                             \
    } while (0)

/* The sizes of both backward kernels: 128 rows stay, in two tiles. A thread of key_gradients holds
 * two sums and two scores.
 *
 *   FLASH_BACKWARD_64     32 lines a step, four warps of 32 keys: 192 registers of sums and scores,
 *                         49 KB: two blocks an SM; 64 lines want 256 registers
 *   FLASH_BACKWARD_128    two sums leave registers for 16 keys a warp: eight warps, 64 lines a
 *                         step, 130 KB: one block
 *   FLASH_BACKWARD_SMALL  the same with 32 lines a step, 97 KB, for sm_89
 */
enum flash_backward { FLASH_BACKWARD_64, FLASH_BACKWARD_128, FLASH_BACKWARD_SMALL };
enum { FLASH_BACKWARD_ROWS = 128 };

static inline enum flash_backward flash_backward_size(const struct device *d,
                                                      const struct kern_attention *a)
{
    if (a->D == 64) return FLASH_BACKWARD_64;
    return cuda_state(d)->shared_most < (130 << 10) ? FLASH_BACKWARD_SMALL : FLASH_BACKWARD_128;
}

#define WITH_FLASH_BACKWARD(d, a, S, ...)             \
    do {                                              \
        switch (flash_backward_size(d, a)) {          \
        case FLASH_BACKWARD_64: {                     \
            typedef struct flash<64, 4, 2, 32, 2> S;  \
            __VA_ARGS__;                              \
        } break;                                      \
        case FLASH_BACKWARD_128: {                    \
            typedef struct flash<128, 8, 1, 64, 1> S; \
            __VA_ARGS__;                              \
        } break;                                      \
        case FLASH_BACKWARD_SMALL: {                  \
            typedef struct flash<128, 8, 1, 32, 1> S; \
            __VA_ARGS__;                              \
        } break;                                      \
        }                                             \
    } while (0)

size_t flash_backward_scratch(const struct kern_attention *a);

static inline struct line_group flash_group(const struct kern_attention *a)
{
    struct line_group g = {a->H / a->KV, 0};
    g.inverse = (0x80000000u + (uint32_t)g.size - 1) / (uint32_t)g.size;
    return g;
}

enum { FLASH_KEYS, FLASH_LINES };

/* How many tiles of so many rows (lines) there can be. */
static inline int32_t flash_max_tiles(const struct kern_attention *a, int side, int32_t rows)
{
    int64_t all = (int64_t)a->N * (side == FLASH_LINES ? a->H / a->KV : 1);
    return (int32_t)(all / rows) + a->num_segments;
}

/* Queues the making of the list, those with most work first, and says where in scratch it will
 * be (attention_tiles.cu). Entries without a tile have segment -1. */
const struct attention_tile *flash_sort_tiles(struct device *d, void *scratch,
                                              const struct kern_attention *a, int side,
                                              int32_t rows);
size_t flash_tiles_bytes(int32_t num_tiles); /* of that scratch */

#endif

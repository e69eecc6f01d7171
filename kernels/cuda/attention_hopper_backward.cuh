/* attention_hopper_backward.cuh - dq, dk and dv on sm_90a: TMA, wgmma, one pass over the scores.
 *
 * NOT RUN ON A DEVICE YET: emulated only (hopper.cuh). With c = scale log2 e and lse to base 2:
 *   p = 2^(c q k^T - lse);  dp = do v^T;  delta = rowsum(do o);  ds = p (dp - delta)
 *   dv = bf16(p)^T do;  dk = scale bf16(ds)^T q;  dq = scale bf16(ds) k
 * A block owns 128 keys of one segment and key head and goes over all lines that see them: of its
 * own segment and of those of its document whose prefix they are in, tile by tile, in each tile
 * over the query heads of the group. Tiles of lines are cut from a segment's first row on. Five
 * products a pair, where attention_flash_backward.cu takes seven.
 *
 * Sums of dq come from many blocks, and must not depend on which comes first. Integers do not: a
 * block's part of dq, times a power of two, is rounded to 32 bits and added in global memory by the
 * copy engine. The power is the line's own, from a bound that no sum of its parts exceeds,
 *   |dq_c| <= sum_j p_j (|dp_j| + |delta|) |k_jc| <= 2 |do| max_j |v_j| max |k|  =: b,
 * 2^30 / b or less. So a part is off by at most b 2^-30, while ds, which comes in bf16 of a
 * difference that is off by 2^-9 of its terms, is off by far more (tests/emu/planted_flash.cu: dq
 * is off plain sums by 2.927e-3, by either kernel). NaN and infinity in the inputs
 * make the line's power NaN, and so dq. Deterministic, at the price of an unordered sum: no block
 * waits for another. So there is no way round it that `deterministic: false` could choose. Sums in
 * fp32 would save a multiplication and a conversion an element (of a step's 2560 clocks 512 in a
 * unit that is idle otherwise, under the other warpgroup's products) and hopper_key_sizes (k and v
 * read once more), and put a second kernel beside this one whose bits depend on the order of
 * blocks: to be built where a device's profile shows that time.
 *
 * Data flow
 *   lines      tiles of lines by segment; where a segment's tiles begin
 *   key_sizes  max |v_j| and max |k| of each key head
 *   stats      of a line: lse to base 2, delta, its power of two. Below a segment's last line lse
 *              is infinite, so that p is 0 there
 *   gradients  dk, dv; sums of dq as integers [H, D/64, N, 64], 16-byte pairs of a row swizzled
 *   finish     dq
 *
 * The block: three warpgroups. A thread of the first one walks over the tiles and has q, do and
 * stats of two of them under way; the other two have 64 keys each and, of dq, 64 columns (D 128) or
 * 64 lines (D 64) each.
 *   s^T [64, L]  = k q^T     k, q as rows        dp^T [64, L] = v do^T   v, do as rows
 *   dv [64, D]  += p^T do    p^T in registers, do as columns
 *   dk [64, D]  += ds^T q    ds^T in registers, q as columns
 *   dq [64, 64]  = ds k      ds^T of both in shared memory, as columns; k as columns
 * s and dp are turned, so that p^T and ds^T lie in registers as the left sides that dv and dk want.
 * One barrier of both a step: ds of a step is there, and, since ds has two buffers, that of the
 * step before is no longer read.
 *
 * Shared memory: k, v; two stages of q and do; two of ds; parts of dq; two stages of stats.
 * Cost: FLOPs a visible pair and query head 10 D. A step of L lines (D = 128, L = 64) is 10.5
 * MFLOP, 2560 clocks of an SM at 4096 FLOP a clock; 8192 exponentials and conversions take 512
 * each at 16 a clock, 32 KB of sums go out, 32 KB come in.
 */
#ifndef CRIA_KERNELS_CUDA_ATTENTION_HOPPER_BACKWARD_CUH
#define CRIA_KERNELS_CUDA_ATTENTION_HOPPER_BACKWARD_CUH

#include "kernels/cuda/attention_flash.cuh"
#include "kernels/cuda/hopper.cuh"

/* --- sizes, chosen here alone ---
 *
 * 128 keys a block, two warpgroups of 64, since 64 x D floats of dk and dv each, D registers a
 * thread together, must stay. A step's lines:
 *   D 128: 64. Registers: 128 of dk and dv, 64 of s and dp, 32 of dq. 80 lines (as others take
 *          where nothing is causal) would need another cut of dq.
 *   D  64: 128. 64 of dk and dv, 128 of s and dp, 32 of dq; half as many barriers a FLOP as 64
 * Three warpgroups of 64 keys would leave 160 registers a thread: too few for D 128.
 * Where registers allow it (D 128), dv's product goes on while ds is computed; at D 64 that spills
 * 40 bytes, so that it begins after ds.
 * The first warpgroup keeps 24 registers, the others take 240: 504 of 512. */
template <int D_> struct hopper_backward {
    enum { D = D_, KEYS = 128, LINES = D == 128 ? 64 : 128, PANELS = D / 64 };
    enum { GROUPS = 2, GROUP = 128, CONSUMERS = GROUPS * GROUP, THREADS = CONSUMERS + GROUP };
    enum { GIVEN = 24, TAKEN = 240, STAGES = 2, EARLY = D == 128 };
    enum { KEY_PANEL = KEYS * 128, KEY_TILE = PANELS * KEY_PANEL, OWN = KEY_PANEL / GROUPS };
    enum { LINE_PANEL = LINES * 128, LINE_TILE = PANELS * LINE_PANEL, STAGE = 2 * LINE_TILE };
    enum { DS_PANEL = KEYS * 128, DS_TILE = LINES / 64 * DS_PANEL, PART = 64 * 64 * 4 };
    enum { STATS = 3 * LINES * 4, STEP = 64 };
    enum { K = 0, V = KEY_TILE, STAGES_AT = V + KEY_TILE, DS = STAGES_AT + STAGES * STAGE };
    enum { PARTS = DS + 2 * DS_TILE, STATS_AT = PARTS + GROUPS * PART };
    enum { STEPS = STATS_AT + STAGES * STATS, BARRIERS = STEPS + STAGES * STEP };
    enum { SHARED_BYTES = BARRIERS + (2 * STAGES + 1) * 8 };
    static_assert(D == 64 || D == 128, "heads of 64 and 128");
    static_assert(GIVEN + GROUPS * TAKEN <= 512, "registers of a block");
    static_assert(SHARED_BYTES <= 227 << 10, "shared memory of a block");
};

/* --- what the kernels share --- */

/* In scratch. */
struct hopper_scratch {
    int32_t *sums;                /* [H, D/64, N, 64] */
    float *stats;                 /* [H, tiles, 3, LINES] */
    float *sizes;                 /* [KV, 2]: |v|, |k| */
    struct attention_tile *tiles; /* of lines */
    int32_t *first_tile;          /* [num_segments] */
    int32_t num_tiles;
};

/* Queue what goes before the gradients, and what goes after them (attention_hopper_lines.cu). D: 64
 * or 128, lines of a tile as hopper_backward<D> has it. */
void hopper_prepare(struct device *d, const struct kern_attention *a, const void *d_o,
                    const struct hopper_scratch *x);
void hopper_finish(struct device *d, const struct kern_attention *a,
                   const struct kern_attention_grad *g, const struct hopper_scratch *x);

/* --- the tiles of lines that see a block's keys --- */

/* A block's tile of keys. */
struct key_block {
    int32_t segment;
    int32_t key, count; /* rows of k and v */
    int32_t kv_head;
};

/* What the two warpgroups must know of a step; column and line count from the tile's first. */
struct alignas(16) hopper_step {
    int32_t count;      /* lines that are there; 0: no more steps */
    int32_t masked;     /* 0: all lines see all keys */
    int32_t from, upto; /* keys of the block that the segment sees: from <= key < upto */
    int32_t low, high;  /* line i sees key j if j + low <= i < j + high */
    int32_t row, head;  /* of the first line */
};

/* Rows of one segment that see the keys, in their own segment or in what their prefix is. */
struct tile_walk {
    int32_t segment, own;
    int32_t first, end; /* rows of the segment; first >= end: no more */
};

/* Moves on to the next range: segments of the document in order, prefix before own. */
template <class S>
DEVICE void find_tiles(struct tile_walk &w, const struct kern_attention &a,
                       const struct key_block &b)
{
    int32_t document = a.segments[b.segment].document;
    w.first = w.end = 0;
    while (w.first >= w.end) {
        w.own ^= 1;
        if (!w.own && (++w.segment == a.num_segments || a.segments[w.segment].document != document))
            return;
        struct query_range q = queries_of(a.segments[w.segment], w.own, w.segment == b.segment,
                                          a.window, b.key, b.key + b.count - 1);
        w.first = q.begin / S::LINES * S::LINES, w.end = q.end;
    }
}

template <class S>
DEVICE struct hopper_step step_of(const struct kern_attention &a, const struct key_block &b,
                                  const struct tile_walk &w, int32_t head)
{
    const struct segment &t = a.segments[w.segment];
    /* a key's position less a line's, for the first of each */
    int32_t apart = (w.own ? b.key - t.start : b.key - t.prefix_start - t.position) - w.first;
    struct hopper_step s;
    s.count = min((int32_t)S::LINES, t.length - w.first);
    s.from = w.own ? 0 : max(0, t.prefix_start - b.key);
    s.upto = w.own ? b.count : min(b.count, t.prefix_start + t.prefix_length - b.key);
    s.low = w.own ? apart : -(S::KEYS + S::LINES);
    s.high = a.window > 0 ? apart + a.window : S::KEYS + S::LINES;
    s.masked = s.from > 0 || s.upto < S::KEYS || S::KEYS - 1 + s.low > 0 || s.high < S::LINES;
    s.row = t.start + w.first, s.head = head;
    return s;
}

#endif

/* attention_hopper.cu - o = softmax(q k^T * scale + mask) v and lse by wgmma, tiles by TMA.
 *
 * The model, schedule, sizes, cost: attention_hopper.cuh. The numbers are flash's: softmax in base
 * 2 with a running maximum, p rounded to bf16, fp32 sums; the order of adding is the tensor cores'.
 * q [N, H*D], k and v [N, KV*D], o [N, H*D], lse [N, H].
 * Grid: tiles x packs of heads, packs fastest; deterministic: a block goes over its keys in order.
 */
#include "kernels/cuda/attention_hopper.cuh"

/* --- the block --- */

/* Named barriers: 0 is __syncthreads'; a consumer's turn to issue; all warps of a consumer. */
enum { TURN = 1, TOGETHER = 4 };

template <class S>
DEVICE void open_block(struct hopper_block<S> *block, const struct kern_attention &a,
                       const struct hopper_pack &pack, const struct attention_tile &tile)
{
    struct line_block b = {a.segments[tile.segment], tile.first, 0, 0, 0, 0};
    int32_t packs = a.H / pack.heads;
    block->head = (int32_t)blockIdx.x % packs * pack.heads;
    b.kv_head = block->head / (a.H / a.KV);
    b.count = min(pack.rows, b.segment.length - b.first);
    b.low = b.segment.position + b.first;
    b.high = b.low + b.count - 1;
    block->lines = b;
    mbarrier_init(shared_address(&block->q_there), 1);
    for (int i = 0; i < S::STAGES; i++) {
        mbarrier_init(shared_address(&block->k_there[i]), 1);
        mbarrier_init(shared_address(&block->v_there[i]), 1);
        mbarrier_init(shared_address(&block->k_free[i]), S::CONSUMERS / WARP_SIZE);
        mbarrier_init(shared_address(&block->v_free[i]), S::CONSUMERS / WARP_SIZE);
    }
    mbarrier_init_fence();
}

/* --- the producer: one thread --- */

template <class S>
DEVICE void load_keys(uint32_t to, const struct tensor_map &map, uint32_t there,
                      const struct line_block &b, const struct key_walk &walk)
{
    mbarrier_arrive_expect(there, S::PASS);
    UNROLL for (int p = 0; p < S::PANELS; p++)
        tma_load(to + p * S::PASS_PANEL, map, S::C, there, b.kv_head * S::D + 64 * p, walk.row,
                 min((int32_t)S::C, walk.left));
}

/* What is below the segment's last row is not needed; places of whole boxes of it stay as they are.
 */
template <class S>
DEVICE void load_queries(uint32_t to, const struct tensor_map &map, uint32_t there,
                         const struct line_block &b, int32_t first_head,
                         const struct hopper_pack &pack)
{
    int32_t boxes = (b.count + pack.box - 1) / pack.box, column = first_head * S::D;
    mbarrier_arrive_expect(there, pack.heads * S::PANELS * boxes * pack.box * 128);
    for (int32_t h = 0; h < pack.heads * S::PANELS; h++)
        for (int32_t row = 0; row < b.count; row += pack.box)
            tma_load(to + h % S::PANELS * S::STAY_PANEL + (h / S::PANELS * pack.rows + row) * 128,
                     map, pack.box, there, column + 64 * h, b.segment.start + b.first + row,
                     min(pack.box, b.count - row));
}

template <class S>
DEVICE void produce(uint32_t memory, struct hopper_block<S> *block, int32_t window,
                    const struct hopper_pack &pack, const struct tensor_map &q,
                    const struct tensor_map &k, const struct tensor_map &v)
{
    const struct line_block &b = block->lines;
    struct key_walk walk = walk_keys(b, window);
    load_queries<S>(memory, q, shared_address(&block->q_there), b, block->head, pack);
    for (int t = 0; walk.left > 0; t++) {
        int stage = t % S::STAGES, before = t / S::STAGES % 2 ^ 1; /* at first all are free */
        mbarrier_wait(shared_address(&block->k_free[stage]), before);
        load_keys<S>(memory + S::K_AT + stage * S::PASS, k, shared_address(&block->k_there[stage]),
                     b, walk);
        mbarrier_wait(shared_address(&block->v_free[stage]), before);
        load_keys<S>(memory + S::V_AT + stage * S::PASS, v, shared_address(&block->v_there[stage]),
                     b, walk);
        next_keys<S>(walk, b, window);
    }
}

/* --- a consumer: products --- */

/* Issues s = q k^T; both operands begin with the warpgroup's first row. */
template <class S> DEVICE void multiply_keys(typename S::scores &s, uint64_t q, uint64_t k)
{
    wgmma_fence();
    UNROLL for (int i = 0; i < S::D / 16; i++)
        wgmma<S::C, false, false>(s, operand_at(q, i / 4 * S::STAY_PANEL + i % 4 * 32),
                                  operand_at(k, i / 4 * S::PASS_PANEL + i % 4 * 32), i > 0);
    wgmma_commit();
}

/* Issues o += p v. */
template <class S>
DEVICE void multiply_values(typename S::sums &o, const typename S::weights &p, uint64_t v)
{
    wgmma_fence();
    UNROLL for (int i = 0; i < S::C / 16; i++)
        wgmma<S::D, true>(o, p[i], operand_at(v, i * 2048), 1);
    wgmma_commit();
}

/* Who issues has the turn; it goes round once a step. */
template <class S> DEVICE void begin_turn(int group, int first)
{
    if (S::GROUPS > 1 && !(first && group == 0)) barrier_sync(TURN + group, 2 * S::GROUP);
}

template <class S> DEVICE void end_turn(int group, int last)
{
    int next = group + 1 < S::GROUPS ? group + 1 : 0;
    if (S::GROUPS > 1 && !(last && next == 0)) barrier_arrive(TURN + next, 2 * S::GROUP);
}

DEVICE void set_free(const uint64_t &barrier, int now)
{
    if (lane_id() == 0 && now) mbarrier_arrive(shared_address(&barrier));
}

/* --- a consumer: softmax --- */

/* Line of the block's tile whose columns lie in s[.][2 half], [2 half + 1]. */
DEVICE int line_held(int half) { return warp_id() * 16 + 8 * half + lane_id() / 4; }

/* Of a thread's two lines: the largest score; this lane's parts of the sums, and what was summed up
 * before the last tile is to be multiplied by. */
struct softmax_of_lines {
    float top[2], of[1][4]; /* sums, factors: an array as wgmma_hold wants it */
};

/* Hides what lines do not see of the keys at w. */
template <class S>
DEVICE void hide_scores(typename S::scores &s, const struct key_walk &w, const struct line_block &b,
                        int32_t window, int32_t rows)
{
    UNROLL for (int half = 0; half < 2; half++)
    {
        int32_t own = b.low + min(line_held(half) % rows, b.count - 1) - w.position;
        int32_t low = window > 0 ? own - window + 1 : 0;
        int32_t high = w.own ? min(w.left, own + 1) : w.left;
        UNROLL for (int n = 0; n < S::C / 8; n++) UNROLL for (int i = 0; i < 2; i++)
        {
            int32_t column = 8 * n + 2 * (lane_id() % 4) + i;
            if (column < low || column >= high) s[n][2 * half + i] = -INFINITY;
        }
    }
}

/* s becomes p, here and now: the compiler would put it behind the wait that follows. */
template <class S>
DEVICE void take_softmax(struct softmax_of_lines &state, typename S::scores &s, float to_base_2)
{
    UNROLL for (int half = 0; half < 2; half++)
    {
        float most = state.top[half], sum = 0;
        UNROLL for (int n = 0; n < S::C / 8; n++) most =
            fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        most = quad_max(most);
        float base = most == -INFINITY ? 0 : most * to_base_2;
        float keep = power_of_2(state.top[half] * to_base_2 - base);
        UNROLL for (int n = 0; n < S::C / 8; n++) UNROLL for (int i = 0; i < 2; i++)
        {
            float &p = s[n][2 * half + i];
            p = power_of_2(p * to_base_2 - base);
            sum += p;
        }
        state.top[half] = most;
        state.of[0][half] = state.of[0][half] * keep + sum;
        state.of[0][2 + half] = keep;
    }
    wgmma_hold(s);
    wgmma_hold(state.of);
}

/* What a product left in a thread is what the next one wants there of its left side. */
template <class S> DEVICE void pack_scores(typename S::weights &p, const typename S::scores &s)
{
    UNROLL for (int k = 0; k < S::C / 16; k++) UNROLL for (int i = 0; i < 4; i++) p[k][i] =
        bf16_pair(s[2 * k + i / 2][i % 2 * 2], s[2 * k + i / 2][i % 2 * 2 + 1]);
}

template <class S> DEVICE void scale_sums(typename S::sums &o, const struct softmax_of_lines &state)
{
    UNROLL for (int n = 0; n < S::D / 8; n++) UNROLL for (int i = 0; i < 4; i++) o[n][i] *=
        state.of[0][2 + i / 2];
}

/* --- a consumer: the end --- */

/* Computes anew those of the warp's lines that a hidden NaN may have reached. `broken`: bit l of
 * [half] says what lane l knows. */
template <class S>
DEVICE void repair(unsigned char *tile, const struct kern_attention &a,
                   const struct hopper_pack &pack, const struct hopper_block<S> *block,
                   const uint32_t (&broken)[2])
{
    for (int i = 0; i < 16; i++) {
        int32_t n = warp_id() * 16 + i, row = n % pack.rows;
        if (!((i < 8 ? broken[0] : broken[1]) >> i % 8 * 4 & 1)) continue;
        float o[S::D / WARP_SIZE];
        compute_line<S::D>(o, a, block->lines.segment, block->head + n / pack.rows,
                           block->lines.first + row);
        for (int e = 0; e < S::D / WARP_SIZE; e++) {
            int column = S::D / WARP_SIZE * lane_id() + e;
            ((struct bf16 *)(tile + column / 64 * S::STAY_PANEL +
                             panel_chunk(n, column / 8 % 8)))[column % 8] =
                from_float<struct bf16>(o[e]);
        }
    }
    __syncwarp();
}

/* Writes o and lse of the warp's 16 lines, by way of their place in q, so that lanes store 16 bytes
 * side by side. */
template <class S>
DEVICE void put_lines(const struct kern_attention &a, const struct hopper_pack &pack,
                      const struct hopper_block<S> *block, unsigned char *tile,
                      const typename S::sums &o, const struct softmax_of_lines &state)
{
    const struct line_block &b = block->lines;
    size_t row = (size_t)(b.segment.start + b.first);
    uint32_t broken[2];
    UNROLL for (int half = 0; half < 2; half++)
    {
        float sum = quad_sum(state.of[0][half]), factor = 1 / sum;
        int32_t n = line_held(half), at = n % pack.rows;
        if (a.lse && lane_id() % 4 == 0 && at < b.count)
            a.lse[(row + at) * a.H + block->head + n / pack.rows] =
                state.top[half] * a.scale + logf(sum);
        UNROLL for (int c = 0; c < S::D / 8; c++) *
            (uint32_t *)(tile + c / 8 * S::STAY_PANEL + panel_chunk(n, c % 8) + lane_id() % 4 * 4) =
            bf16_pair(o[c][2 * half] * factor, o[c][2 * half + 1] * factor);
        broken[half] = __ballot_sync(ALL_LANES, is_broken(o, half) && at < b.count);
    }
    __syncwarp();
    if (broken[0] | broken[1]) repair<S>(tile, a, pack, block, broken);
    UNROLL for (int i = 0; i < 16 * S::D / 8 / WARP_SIZE; i++)
    {
        int m = i * WARP_SIZE + lane_id(), c = m % (S::D / 8);
        int32_t n = warp_id() * 16 + m / (S::D / 8), at = n % pack.rows;
        if (at >= b.count) continue;
        *(uint4 *)((struct bf16 *)a.o + (row + at) * a.ldo +
                   (size_t)((block->head + n / pack.rows) * S::D + 8 * c)) =
            *(const uint4 *)(tile + c / 8 * S::STAY_PANEL + panel_chunk(n, c % 8));
    }
}

/* --- a consumer --- */

/* What it reads: operands that begin with its own lines, and with the first stages. */
struct hopper_operands {
    uint64_t q, k, v;
};

template <class S> DEVICE struct hopper_operands operands_of(uint32_t memory, int group)
{
    struct hopper_operands x = {operand_rows(memory + group * S::GROUP_LINES * 128),
                                operand_rows(memory + S::K_AT),
                                operand_columns(memory + S::V_AT, S::PASS_PANEL)};
    return x;
}

/* Scores of step t + 1, whose keys are at w, beside the product of step t. The softmax must run
 * under that product, and ptxas would wait for it first: at a branch between issue and wait, so
 * there is none; and wherever nothing holds the wait back, so K is freed by who has seen the sums
 * of p, which are never negative. */
template <class S, bool BORDER>
DEVICE void take_step(typename S::scores &s, typename S::weights &p, typename S::sums &o,
                      struct softmax_of_lines &state, int t, int group,
                      const struct hopper_operands &x, struct hopper_block<S> *block,
                      const struct kern_attention &a, const struct key_walk &w, int32_t rows)
{
    int stage = t % S::STAGES, next = (t + 1) % S::STAGES;
    begin_turn<S>(group, t == 0);
    multiply_keys<S>(s, x.q, operand_at(x.k, next * S::PASS));
    multiply_values<S>(o, p, operand_at(x.v, stage * S::PASS));
    end_turn<S>(group, 0);
    wgmma_wait<1>();
    wgmma_hold(s);
    if (BORDER) hide_scores<S>(s, w, block->lines, a.window, rows);
    take_softmax<S>(state, s, a.scale * LOG2_E);
    set_free(block->k_free[next], !(state.of[0][0] + state.of[0][1] < 0));
    wgmma_wait<0>();
    wgmma_hold(o);
    set_free(block->v_free[stage], 1);
    pack_scores<S>(p, s);
    scale_sums<S>(o, state);
}

template <class S>
DEVICE void consume(unsigned char *memory, struct hopper_block<S> *block,
                    const struct kern_attention &a, const struct hopper_pack &pack)
{
    const struct line_block &b = block->lines;
    const int group = warp_id() / 4;
    const struct hopper_operands x = operands_of<S>(shared_address(memory), group);
    struct key_walk walk = walk_keys(b, a.window);
    struct softmax_of_lines state = {{-INFINITY, -INFINITY}, {{0, 0, 0, 0}}};
    typename S::scores s;
    typename S::weights p;
    typename S::sums o;
    int t = 0;
    mbarrier_wait(shared_address(&block->q_there), 0);
    mbarrier_wait(shared_address(&block->k_there[0]), 0);
    multiply_keys<S>(s, x.q, x.k);
    UNROLL for (int n = 0; n < S::D / 8; n++) UNROLL for (int i = 0; i < 4; i++) o[n][i] = 0;
    wgmma_wait<0>();
    wgmma_hold(s);
    set_free(block->k_free[0], 1);
    if (at_border<S>(walk, b, a.window)) hide_scores<S>(s, walk, b, a.window, pack.rows);
    take_softmax<S>(state, s, a.scale * LOG2_E);
    pack_scores<S>(p, s);
    for (;; t++) {
        next_keys<S>(walk, b, a.window);
        mbarrier_wait(shared_address(&block->v_there[t % S::STAGES]), t / S::STAGES % 2);
        if (walk.left <= 0) break;
        mbarrier_wait(shared_address(&block->k_there[(t + 1) % S::STAGES]),
                      (t + 1) / S::STAGES % 2);
        if (at_border<S>(walk, b, a.window))
            take_step<S, true>(s, p, o, state, t, group, x, block, a, walk, pack.rows);
        else
            take_step<S, false>(s, p, o, state, t, group, x, block, a, walk, pack.rows);
    }
    begin_turn<S>(group, t == 0);
    multiply_values<S>(o, p, operand_at(x.v, t % S::STAGES * S::PASS));
    end_turn<S>(group, 1);
    wgmma_wait<0>();
    wgmma_hold(o);
    barrier_sync(TOGETHER + group, S::GROUP); /* all its warps are through with q */
    put_lines<S>(a, pack, block, memory, o, state);
}

template <class S>
__global__ void __launch_bounds__(S::THREADS, 1)
    hopper_forward(struct kern_attention a, struct hopper_pack pack,
                   const struct attention_tile *tiles, const __grid_constant__ struct tensor_map q,
                   const __grid_constant__ struct tensor_map k,
                   const __grid_constant__ struct tensor_map v)
{
    DYNAMIC_SHARED(memory);
    struct hopper_block<S> *block = (struct hopper_block<S> *)(memory + S::BLOCK_AT);
    struct attention_tile tile = tiles[blockIdx.x / (a.H / pack.heads)];
    if (tile.segment < 0) return;
    if (threadIdx.x == 0) open_block<S>(block, a, pack, tile);
    if (threadIdx.x == S::CONSUMERS) tma_prefetch(q), tma_prefetch(k), tma_prefetch(v);
    __syncthreads();
    if (threadIdx.x >= S::CONSUMERS) {
        registers_give<S::LEFT>();
        if (warp_id() == S::CONSUMERS / WARP_SIZE && elect_one())
            produce<S>(shared_address(memory), block, a.window, pack, q, k, v);
    } else {
        registers_take<S::TAKEN>();
        consume<S>(memory, block, a, pack);
    }
}

/* --- host --- */

/* The sizes, chosen here alone, by head size.
 *
 *   D 128  two consumers: o and s of 64 lines by 128 are 64 registers each, p 32, which leaves 80
 *          of 240; a third consumer leaves 160 for each and spills. 128 keys a step: 160 KB; with
 *          176, which FlashAttention-3 takes where nothing is masked, ragged and causal tiles waste
 *          more. A third stage (224 KB) only helps where copies are late
 *
 *   D  64  the same in 80 KB. Three consumers, which FlashAttention-3 has, leave 160 registers: 128
 *          of them are o, s and p, and 76 bytes are spilled; 64 keys a step would fit, with twice
 *          the barriers
 *
 * Heads are packed by 8, 4 or 2, as the group divides: boxes of a head's rows are then multiples of
 * eight rows (hopper.cuh's swizzle), and every line of a tile is used. */
#define WITH_HOPPER_FORWARD(a, S, ...)                     \
    do {                                                   \
        if ((a)->D == 64) {                                \
            typedef struct hopper<64, 2, 128, 24, 240> S;  \
            __VA_ARGS__;                                   \
        } else {                                           \
            typedef struct hopper<128, 2, 128, 24, 240> S; \
            __VA_ARGS__;                                   \
        }                                                  \
    } while (0)

enum { MOST_HEADS = 8 };

static struct hopper_pack pack_of(const struct kern_attention *a, int32_t lines)
{
    int32_t group = a->H / a->KV, heads = MOST_HEADS;
    while (group % heads) heads /= 2;
    struct hopper_pack p = {heads, lines / heads, lines / heads};
    if (p.rows > 96) p.box = 64;
    return p;
}

/* Tiles are listed as if a row had one line. */
static struct kern_attention by_rows(const struct kern_attention *a)
{
    struct kern_attention rows = *a;
    rows.H = rows.KV;
    return rows;
}

template <class S>
static void forward(struct device *d, const struct kern_attention *a, void *scratch)
{
    const struct hopper_pack pack = pack_of(a, S::R);
    const struct kern_attention rows = by_rows(a);
    const struct attention_tile *tiles =
        flash_sort_tiles(d, scratch, &rows, FLASH_LINES, pack.rows);
    int32_t blocks = flash_max_tiles(&rows, FLASH_LINES, pack.rows) * (a->H / pack.heads);
    struct tensor_map q, k, v;
    cuda_tensor_map(d, &q, a->q, a->H * S::D, a->N, a->ldq, pack.box);
    cuda_tensor_map(d, &k, a->k, a->KV * S::D, a->N, a->ldk, S::C);
    cuda_tensor_map(d, &v, a->v, a->KV * S::D, a->N, a->ldv, S::C);
    launch(d, "attention forward", hopper_forward<S>, (unsigned)blocks, S::THREADS,
           S::BLOCK_AT + sizeof(struct hopper_block<S>), *a, pack, tiles, q, k, v);
}

void cuda_hopper_attention_forward(struct device *d, const struct kern_attention *a, void *scratch)
{
    if (a->N <= 0 || a->num_segments <= 0) return;
    WITH_HOPPER_FORWARD(a, S, forward<S>(d, a, scratch));
}

/* --- the engine --- */

/* A cache has more rows than the call says. */
int cuda_hopper_attention_fits(const struct device *d, const struct kern_attention *a)
{
    enum { SM_90 = 90 };
    return cuda_state(d)->capability == SM_90 && cuda_flash_attention_fits(d, a) &&
           a->first_row == 0;
}

size_t cuda_hopper_attention_scratch(const struct device *d, const struct kern_attention *a)
{
    const struct kern_attention rows = by_rows(a);
    size_t tiles = flash_tiles_bytes(flash_max_tiles(&rows, FLASH_LINES, 128 / MOST_HEADS));
    size_t backward = cuda_hopper_attention_backward_scratch(a);
    (void)d;
    return tiles > backward ? tiles : backward;
}

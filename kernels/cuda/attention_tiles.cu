/* attention_tiles.cu - the tiles of a batch, those with most work first.
 *
 * Blocks start in order, so what is taken last should be short: then ragged batches end together.
 * Tile i is {segment, first row of R} (keys) or {segment, first line of R} (lines: row n/group,
 * head n%group of a key head's group); its work is the keys, or rows of queries, that it meets.
 * One block, a counting sort by work / STEP: O(tiles + segments), a few microseconds. Tiles of a
 * bucket come in any order: which block computes a tile changes no bit of it.
 */
#include "kernels/cuda/attention_flash.cuh"

enum { SORT_THREADS = 256, BUCKETS = 4 * SORT_THREADS, STEP = 64 };

struct sort_input {
    const struct segment *segments;
    int32_t num_segments, window;
    int32_t side, group, rows; /* lines: group a row; else 1 */
};

/* Keys that a tile of lines sees. */
DEVICE int32_t work_of_lines(const struct sort_input &in, const struct segment &s, int32_t first)
{
    int32_t last = min(first + in.rows, s.length * in.group) - 1, work = 0;
    for (int which = 0; which < SPANS; which++) {
        struct key_span p = span_of(s, which, in.window, s.position + first / in.group,
                                    s.position + last / in.group);
        work += max(0, p.end - p.begin);
    }
    return work;
}

/* Rows that see a tile of keys. */
DEVICE int32_t work_of_keys(const struct sort_input &in, int32_t segment, int32_t first)
{
    const struct segment &s = in.segments[segment];
    int32_t key = s.start + first, last = s.start + min(first + in.rows, s.length) - 1, work = 0;
    int32_t n = document_begin(in.segments, segment);
    for (; n < in.num_segments && in.segments[n].document == s.document; n++) {
        for (int which = 0; which < SPANS; which++) {
            struct query_range q =
                queries_of(in.segments[n], which, n == segment, in.window, key, last);
            work += max(0, q.end - q.begin);
        }
    }
    return work;
}

/* counts [BUCKETS] become the sums of those before; part: shared, a number a warp. All threads. */
DEVICE void sum_before(int32_t *counts, int32_t *part)
{
    int32_t mine[BUCKETS / SORT_THREADS], sum = 0, lane = lane_id(), warp = warp_id();
    int32_t *own = counts + threadIdx.x * (BUCKETS / SORT_THREADS);
    UNROLL for (int i = 0; i < BUCKETS / SORT_THREADS; i++) mine[i] = own[i], sum += mine[i];
    int32_t upto = sum;
    UNROLL for (int o = 1; o < WARP_SIZE; o *= 2)
    {
        int32_t v = __shfl_up_sync(ALL_LANES, upto, o);
        if (lane >= o) upto += v;
    }
    if (lane == WARP_SIZE - 1) part[warp] = upto;
    __syncthreads();
    int32_t before = upto - sum;
    for (int w = 0; w < warp; w++) before += part[w];
    UNROLL for (int i = 0; i < BUCKETS / SORT_THREADS; i++) own[i] = before, before += mine[i];
}

/* bucket: scratch of num_tiles, as unsorted */
static __global__ void __launch_bounds__(SORT_THREADS)
    sort_tiles(struct attention_tile *tiles, struct attention_tile *unsorted, int32_t *bucket,
               int32_t num_tiles, struct sort_input in)
{
    SHARED(int32_t, counts, [BUCKETS]);
    SHARED(int32_t, part, [SORT_THREADS / WARP_SIZE]);
    for (int i = (int)threadIdx.x; i < BUCKETS; i += SORT_THREADS) counts[i] = 0;
    __syncthreads();
    int32_t s = 0, before = 0; /* tiles before segment s */
    for (int32_t i = (int32_t)threadIdx.x; i < num_tiles; i += SORT_THREADS) {
        struct attention_tile tile = {-1, 0};
        int32_t work = 0;
        for (; s < in.num_segments; s++) {
            int32_t here = (in.segments[s].length * in.group + in.rows - 1) / in.rows;
            if (i - before < here) break;
            before += here;
        }
        if (s < in.num_segments) {
            tile.segment = s, tile.first = (i - before) * in.rows;
            work = in.side == FLASH_LINES ? work_of_lines(in, in.segments[s], tile.first)
                                          : work_of_keys(in, s, tile.first);
        }
        unsorted[i] = tile;
        bucket[i] = BUCKETS - 1 - min(BUCKETS - 1, work / STEP);
        atomicAdd(&counts[bucket[i]], 1);
    }
    __syncthreads();
    sum_before(counts, part);
    __syncthreads();
    for (int32_t i = (int32_t)threadIdx.x; i < num_tiles; i += SORT_THREADS)
        tiles[atomicAdd(&counts[bucket[i]], 1)] = unsorted[i];
}

size_t flash_tiles_bytes(int32_t num_tiles)
{
    return (size_t)num_tiles * (2 * sizeof(struct attention_tile) + sizeof(int32_t));
}

const struct attention_tile *flash_sort_tiles(struct device *d, void *scratch,
                                              const struct kern_attention *a, int side,
                                              int32_t rows)
{
    int32_t n = flash_max_tiles(a, side, rows);
    struct attention_tile *tiles = (struct attention_tile *)scratch;
    struct sort_input in = {
        a->segments, a->num_segments, a->window, side, side == FLASH_LINES ? a->H / a->KV : 1,
        rows};
    launch(d, "attention tiles", sort_tiles, 1, SORT_THREADS, 0, tiles, tiles + n,
           (int32_t *)(tiles + 2 * (size_t)n), n, in);
    return tiles;
}

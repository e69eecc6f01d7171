/* attention.cuh - what the attention kernels share: tiles of segments, spans of keys, masks.
 *
 * A tile is up to R rows of one segment. Where segments begin is known on the device alone, so a
 * list of tiles is made there first: entry i is {segment, first row within it}, or segment -1;
 * there are at most N/R + num_segments.
 *
 * A span is a run of keys that a segment may see: its prefix (0), then its own rows (1). Masks go
 * by position (base/segment.h).
 */
#ifndef CRIA_KERNELS_CUDA_ATTENTION_CUH
#define CRIA_KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/kernel.cuh"

struct attention_tile {
    int32_t segment, first;
};

enum { SPANS = 2 };

struct key_span {
    int32_t row, position; /* of key 0 */
    int32_t begin, end;    /* keys that some row of the tile sees; empty: begin >= end */
    int causal;            /* prefixes never hide */
};

/* What rows of positions low to high see of span `which`. */
DEVICE struct key_span span_of(const struct segment &s, int which, int32_t window, int32_t low,
                               int32_t high)
{
    struct key_span p = {s.prefix_start, 0, 0, s.prefix_length, 0};
    if (which) {
        p.row = s.start, p.position = s.position, p.causal = 1;
        p.end = min(s.length, high - s.position + 1);
    }
    if (window > 0) p.begin = max(0, low - window + 1 - p.position);
    return p;
}

/* Whether a row of position `row` sees the key at `key`. */
DEVICE int sees(int32_t row, int32_t key, int causal, int32_t window)
{
    return (!causal || key <= row) && (window <= 0 || key > row - window);
}

/* Queries of segment t that see a tile of keys, as rows of t: begin to end. */
struct query_range {
    int32_t begin, end;
    int32_t shift; /* a key's position is its row + shift */
    int causal;
};

/* The tile has rows first to last; `own` is whether they are of t; which: as span_of's. */
DEVICE struct query_range queries_of(const struct segment &t, int which, int own, int32_t window,
                                     int32_t first, int32_t last)
{
    struct query_range q = {0, t.length, -t.prefix_start, 0};
    if (which) {
        q.shift = t.position - t.start, q.causal = 1;
        q.begin = max(0, first - t.start);
    } else {
        first = max(first, t.prefix_start);
        last = min(last, t.prefix_start + t.prefix_length - 1);
    }
    if (window > 0) q.end = min(q.end, last + q.shift + window - t.position);
    if (which ? !own : first > last) q.end = q.begin;
    return q;
}

/* The first segment of segment n's document. */
DEVICE int32_t document_begin(const struct segment *segments, int32_t n)
{
    int32_t document = segments[n].document;
    while (n > 0 && segments[n - 1].document == document) n--;
    return n;
}

static inline int32_t attention_max_tiles(const struct kern_attention *a, int32_t rows_a_tile)
{
    return a->N / rows_a_tile + a->num_segments;
}

enum { LIST_THREADS = 128 };

static __global__ void __launch_bounds__(LIST_THREADS)
    list_tiles(struct attention_tile *tiles, int32_t num_tiles, const struct segment *segments,
               int32_t num_segments, int32_t rows_a_tile)
{
    int32_t i = (int32_t)(blockIdx.x * LIST_THREADS + threadIdx.x), left = i, s = 0;
    if (i >= num_tiles) return;
    for (; s < num_segments; s++) {
        int32_t here = (segments[s].length + rows_a_tile - 1) / rows_a_tile;
        if (left < here) break;
        left -= here;
    }
    tiles[i].segment = s < num_segments ? s : -1;
    tiles[i].first = left * rows_a_tile;
}

static inline void launch_list_tiles(struct device *d, struct attention_tile *tiles,
                                     const struct kern_attention *a, int32_t rows_a_tile)
{
    int32_t n = attention_max_tiles(a, rows_a_tile);
    launch(d, "attention tiles", list_tiles, (unsigned)blocks_of(n, LIST_THREADS), LIST_THREADS, 0,
           tiles, n, a->segments, a->num_segments, rows_a_tile);
}

#endif

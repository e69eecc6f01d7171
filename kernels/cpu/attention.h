/* attention.h - what forward and backward share: tiles, lines, spans and masks.
 *
 * A query tile is up to ATTENTION_LINES lines of one segment and one key head; line i is row
 * i / G, query head i % G of the group of G = H/KV heads that read this key head, so keys and
 * values are fetched once for the group. Lines lie along vector lanes: scores are held as
 * [keys, lines], so that maxima, sums and masks are taken lane by lane and k and v are read where
 * they are, unpacked.
 *
 * A span is a run of keys a segment may see: its prefix, then its own rows. Key tiles are cut
 * from it; those that the mask hides from every line are never visited, those that it hides from
 * none are not masked.
 */
#ifndef CRIA_KERNELS_CPU_ATTENTION_H
#define CRIA_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/cpu.h"

/* Tile sizes, measured on one Xeon core with AVX-512 (GF/s of visible pairs, forward / backward;
 * columns: one document of 8192, of 512 x 4, of 128 x 16 rows at H 6, KV 6, D 64; 2048 at D 128):
 *    64 x  64    66 /  74   76 / 71   41 / 45   92 / 99   k and v come from L3 too often
 *   128 x  32    68 /  91   71 / 78   35 / 46   78 / 85
 *   128 x  64    84 /  93   75 / 77   40 / 44   86 / 79   taken
 *   128 x 128    73 /  76   67 / 73   33 / 38   74 / 75   scores leave L1
 *   192 x  64    82 /  97   74 / 78   41 / 44   90 / 94   no better for half as much scratch again
 */
enum { ATTENTION_LINES = 128, ATTENTION_KEYS = 64 };

struct query_tile {
    const struct kern_attention *a;
    const struct segment *s;
    int32_t kv;           /* key head */
    int32_t group;        /* query heads a key head */
    int32_t first, count; /* lines, counted within the segment */
    int32_t width;        /* count rounded up to 16 */
    int32_t low, high;    /* positions of the first and last line */
    int32_t position[ATTENTION_LINES];
};

struct key_span {
    int32_t row, position; /* of the first key */
    int32_t begin, end;    /* keys that some line sees, counted from row; empty: begin >= end */
    int causal;            /* keys hide from lines of smaller position; prefixes never do */
};

enum { ATTENTION_SPANS = 2 };

static inline int32_t attention_tiles(const struct kern_attention *a, const struct segment *s)
{
    int64_t lines = (int64_t)s->length * (a->H / a->KV);
    return (int32_t)((lines + ATTENTION_LINES - 1) / ATTENTION_LINES);
}

static inline size_t attention_group(const struct kern_attention *a)
{
    return (size_t)a->H / (size_t)a->KV;
}

void attention_tile_init(struct query_tile *t, const struct kern_attention *a,
                         const struct segment *s, int32_t tile, int32_t kv);

/* Row (global) and query head of line i. */
static inline int32_t attention_line_row(const struct query_tile *t, int32_t i)
{
    return t->s->start + (t->first + i) / t->group;
}

static inline int32_t attention_line_head(const struct query_tile *t, int32_t i)
{
    return t->kv * t->group + (t->first + i) % t->group;
}

/* What of span `which` (0 prefix, 1 own rows) the tile sees. */
struct key_span attention_span(const struct query_tile *t, int which);

/* Lines [begin, end) of the tile: those that see some of `count` keys from `first` of the span,
 * rounded out to 16. A tile on the diagonal is half empty; this spares that half. */
struct line_range {
    int32_t begin, end;
};
struct line_range attention_lines(const struct query_tile *t, const struct key_span *span,
                                  int32_t first, int32_t count);

/* Sets hidden scores [keys, lines] of these lines and keys to -inf; does nothing to a tile that is
 * seen wholly. */
void attention_mask(float *scores, const struct query_tile *t, const struct key_span *span,
                    struct line_range lines, int32_t first, int32_t count);

/* to [D, ATTENTION_LINES] = scale x, one column a line; from row r of x (row stride ld, H heads
 * of D) less first_row. Columns past the last line are zero. */
void attention_load(float *to, const struct query_tile *t, const float *x, int32_t ld, float scale);

/* Scratch of one thread, in floats; both return sizes that keep 64-byte alignment. */
size_t attention_forward_floats(const struct kern_attention *a);
size_t attention_backward_floats(const struct kern_attention *a);

#endif

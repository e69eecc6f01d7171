/* attention.h - what forward and backward share: tiles, panels, lines, spans, pieces and masks.
 *
 * A query tile is up to ATTENTION_LINES lines of one segment and one key head; line i is row
 * i / G, query head i % G of the group of G = H/KV heads that read this key head, so keys and
 * values are fetched once for the group. A tile is held in panels of ATTENTION_PANEL lines, each
 * of them contiguous: [D, panel] for queries and sums, [keys, panel] for scores. Lines lie along
 * vector lanes, so maxima, sums and masks are taken lane by lane.
 *
 * A span is a run of keys a segment may see: its prefix, then its own rows. Key tiles are cut
 * from it and every panel of the query tile visits them while they are in the cache; keys that
 * the mask hides from all of a panel are not visited. Where it hides some (the diagonal, the edge
 * of a window), the key tile goes in pieces of ATTENTION_PIECE keys, each with the lines that see
 * any of them: of a diagonal of 64 x 64, 62 % is computed.
 */
#ifndef CRIA_KERNELS_CPU_ATTENTION_H
#define CRIA_KERNELS_CPU_ATTENTION_H

#include "kernels/cpu/cpu.h"

enum {
    ATTENTION_LINES = 256,
    ATTENTION_PANEL = 64,
    ATTENTION_PANELS = ATTENTION_LINES / ATTENTION_PANEL,
    ATTENTION_KEYS = 64,
    ATTENTION_PIECE = 16,
    ATTENTION_PIECES = ATTENTION_KEYS / ATTENTION_PIECE
};

struct query_tile {
    const struct kern_attention *a;
    const struct segment *s;
    int32_t kv;           /* key head */
    int32_t group;        /* query heads a key head */
    int32_t first, count; /* lines, counted within the segment */
    int32_t panels;
    int32_t low, high; /* positions of the first and last line */
    int32_t position[ATTENTION_LINES];
};

struct key_span {
    int32_t row, position; /* of the first key */
    int32_t begin, end;    /* keys that some line sees, counted from row; empty: begin >= end */
    int causal;            /* keys hide from lines of smaller position; prefixes never do */
};

enum { ATTENTION_SPANS = 2 };

/* `count` keys from `first` of the span, for lines [begin, end) of a panel; both are multiples of
 * 16, the last of a tile's may lie past its last line. masked: some of these pairs are hidden. */
struct piece {
    int32_t first, count, begin, end;
    int masked;
};

static inline int32_t attention_tiles(const struct kern_attention *a, const struct segment *s)
{
    int64_t lines = (int64_t)s->length * (a->H / a->KV);
    return (int32_t)((lines + ATTENTION_LINES - 1) / ATTENTION_LINES);
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

static inline int32_t attention_panel_count(const struct query_tile *t, int32_t panel)
{
    return cpu_min(ATTENTION_PANEL, t->count - panel * ATTENTION_PANEL);
}

/* Floats of one panel of [D, lines]. */
static inline size_t attention_panel_floats(const struct kern_attention *a)
{
    return (size_t)a->D * ATTENTION_PANEL;
}

/* What of span `which` (0 prefix, 1 own rows) the tile sees. */
struct key_span attention_span(const struct query_tile *t, int which);

/* What a panel sees of `count` keys from `first` of the span, in order; how many pieces, maybe
 * none. */
int attention_pieces(struct piece pieces[ATTENTION_PIECES], const struct query_tile *t,
                     const struct key_span *span, int32_t panel, int32_t first, int32_t count);

/* Sets hidden scores [keys, ATTENTION_PANEL] of a piece to -inf; scores + begin is its first. */
void attention_mask(float *scores, const struct query_tile *t, const struct key_span *span,
                    int32_t panel, const struct piece *p);

/* to [panels][D, ATTENTION_PANEL] = scale x, one column a line; from row r of x (row stride ld, H
 * heads of D) less first_row. Columns past the last line are zero up to a multiple of 16. */
void attention_load(float *to, const struct query_tile *t, const float *x, int32_t ld, float scale);

/* The other way: row r of x = scale[line] * the line's column; scale NULL: `all` for every one. */
void attention_store(float *x, int32_t ld, const struct query_tile *t, const float *from,
                     const float *scale, float all);

/* to [keys, D] = `keys` rows of x from row `first`, key head kv, row stride ld: what products read
 * by columns, so that they do not walk a page a row. */
void attention_pack(float *to, const float *x, size_t ld, int32_t keys, int32_t D);

/* 2^x for x <= 128, relative error below 1e-7; 0 below -126.5, NaN stays. Vectorises. */
CPU_INLINE float attention_exp2(float x)
{
    const float shift = 12582912.f; /* 1.5 * 2^23: adding it rounds to an integer */
    float y = x < -127.f ? -127.f : x, t = y + shift, r = y - (t - shift), scale;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits = (bits << 23) + 0x3f800000u; /* -127 gives the bits of 0 */
    memcpy(&scale, &bits, sizeof scale);
    float p = 0x1.41fbbcp-13f; /* least greatest relative error on |r| <= 1/2, p(0) = 1 */
    p = p * r + 0x1.5f3e54p-10f;
    p = p * r + 0x1.3b2d4cp-7f;
    p = p * r + 0x1.c6aee8p-5f;
    p = p * r + 0x1.ebfbdcp-3f;
    p = p * r + 0x1.62e430p-1f;
    p = p * r + 1.f;
    return p * scale;
}

#define ATTENTION_LOG2E 1.44269504088896341f

/* Scratch of one thread, in floats; both return sizes that keep 64-byte alignment. */
size_t attention_forward_floats(const struct kern_attention *a);
size_t attention_backward_floats(const struct kern_attention *a);

#endif

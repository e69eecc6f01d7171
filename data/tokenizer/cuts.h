/* cuts.h - places between two characters that no merge ever crosses.
 *
 * A symbol that spans the boundary between characters a and b was once merged from a left part
 * that ends there and a right part that begins there. If no merge has such parts, no symbol ever
 * spans it, and what lies on its two sides can be merged apart: each side's merges happen in the
 * order they have alone. So this is exact, for any merges, and a long text without words becomes a
 * row of short pieces.
 *
 * The pairs (a, b) that some merge joins are bits under a hash: two pairs that share a bit cost a
 * cut, not an error. Byte-level merges may join parts of characters: those are known by the two
 * bytes at the boundary. The owner says which characters are outside all this: those that become
 * tokens no merge has (cut on both sides), and those whose tokens depend on their neighbours.
 */
#ifndef CRIA_DATA_TOKENIZER_CUTS_H
#define CRIA_DATA_TOKENIZER_CUTS_H

#include <stddef.h>
#include <stdint.h>

#define CUTS_BITS 20 /* of the number of pair bits */

enum { CUTS_FREE = 1, CUTS_STUCK = 2 }; /* what no merge touches; what is never cut from */

struct cuts { /* zeroed: nothing is joined */
    uint64_t pairs[(1 << CUTS_BITS) / 64];
    uint64_t parts[65536 / 64];    /* by last byte << 8 | first byte */
    uint64_t ascii[128][128 / 64]; /* of ASCII pairs: what cuts_between says */
    uint8_t states[0x10000];       /* CUTS_FREE, CUTS_STUCK or 0: the merges decide */
    int words; /* no merge joins another character to a U+2581 behind it: words begin there */
};

/* Notes that a merge has these two sides, each at least a byte long. */
void cuts_join(struct cuts *c, const char *left, size_t left_n, const char *right, size_t right_n);

/* Fills `ascii` when all else is there. */
void cuts_finish(struct cuts *c);

/* Fills ends[] with where the next parts of text[at..n) end, at most `max` of them, fewer only at
 * the end; how many. Well-formed UTF-8; `at` is 0 or an end. */
size_t cuts_find(const struct cuts *c, const char *text, size_t n, size_t at, size_t *ends,
                 size_t max);

#endif

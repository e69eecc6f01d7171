/* added.h - finding added tokens in a text.
 *
 * The patterns lie in a trie. Matches are leftmost, and the longest there; they do not overlap.
 * A token's flags then widen a match (lstrip, rstrip) or drop it (single_word), by the very rules
 * of Hugging Face's tokenizers: the search goes on behind the match as it was before widening.
 */
#ifndef CRIA_DATA_TOKENIZER_ADDED_H
#define CRIA_DATA_TOKENIZER_ADDED_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum added_flags {
    ADDED_SPECIAL = 1,
    ADDED_NORMALIZED = 2, /* looked for in the normalized text */
    ADDED_LSTRIP = 4,     /* takes the white space on its left with it */
    ADDED_RSTRIP = 8,
    ADDED_SINGLE_WORD = 16, /* only between non-word characters */
};

struct added_node {
    int32_t child, sibling; /* -1: none */
    int32_t id;             /* of the pattern that ends here, -1: none */
    unsigned char byte, flags;
};

struct added_matcher { /* zeroed: finds nothing */
    struct added_node *nodes;
    int32_t count, cap;
    int32_t root[256];        /* node of a first byte, 0: none (node 0 is not used) */
    int firsts;               /* how many first bytes there are; mostly one, */
    unsigned char only_first; /* which is then looked for */
};

void added_matcher_free(struct added_matcher *m);

/* Adds a pattern of n > 0 bytes; one that is there already gets the new id. ERR_MEMORY. */
MUST_CHECK enum status added_matcher_put(struct added_matcher *m, const char *pattern, size_t n,
                                         int32_t id, unsigned flags);

struct added_piece {
    size_t start, end;
    int32_t id; /* -1: text between added tokens */
};

/* Walks over a text's pieces, plain and added. Zero `at`, `from` and `pending` to start. */
struct added_walk {
    const char *text;
    size_t n;
    size_t at;   /* where the search goes on */
    size_t from; /* first byte that no piece has covered */
    struct added_piece pending;
    int has_pending;
};

/* 1 and the next piece; 0 at the end. Plain pieces are never empty. */
int added_next(const struct added_matcher *m, struct added_walk *w, struct added_piece *piece);

#endif

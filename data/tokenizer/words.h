/* words.h - words met before and their ids, and the loop that looks words up.
 *
 * Text repeats itself: nearly every word has been merged before. The cache is bounded, one a
 * thread, and only ever holds what merging gave, so it changes no result. Two tables, both of
 * cache lines: short words (up to 15 bytes and 4 ids), compared as two machine words, and
 * longer ones. A newer word takes the place of an older one.
 *
 * Words are looked up a batch at a time: their keys first, so that the lines are under way from
 * memory while the batch goes on. Nothing is allocated for a word.
 */
#ifndef CRIA_DATA_TOKENIZER_WORDS_H
#define CRIA_DATA_TOKENIZER_WORDS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/tokenizer/tokenizer.h"

#define WORDS_BATCH 64
#define WORDS_LONG_BYTES 32 /* longer words are not kept */

struct words; /* heap; one a thread */

struct words *words_create(void); /* NULL without memory */
void words_destroy(struct words *w);

/* The words belong to the tokenizer with this serial from now on; those of another are dropped. The
 * first claim takes the tables' memory: ERR_MEMORY. */
MUST_CHECK enum status words_claim(struct words *w, uint64_t serial, struct err *e);

/* What makes ids of a word that is not in the cache. */
struct word_maker {
    /* Ids of text[0..n) into *ids, valid until the next call. */
    enum status (*make)(void *ctx, const char *text, size_t n, const int32_t **ids, size_t *count);
    void *ctx;
    int kind; /* 0 or 1: words of one kind are not taken for those of the other */
};

/* Appends the ids of text[start..ends[0]), text[ends[0]..ends[1]), ... to `out`, at most
 * WORDS_BATCH pieces, none empty. `text` has `n` bytes in all. Fails as the maker does; ERR_MEMORY.
 */
MUST_CHECK enum status words_encode(struct words *w, const struct word_maker *maker,
                                    const char *text, size_t n, size_t start, const size_t *ends,
                                    size_t count, struct id_list *out);

#endif

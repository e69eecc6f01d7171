/* bpe.h - the merges, and the engine that applies them.
 *
 * A merge turns two adjacent symbols into one and has a rank. Of all merges that the sequence
 * allows, the one of lowest rank is applied, the leftmost among equals, until none is left.
 *
 * Short sequences are scanned for the best pair again and again: O(n^2), but in one cache line.
 * Longer ones keep the candidates in a heap and the symbols in a linked list: O(n log n), so that a
 * megabyte without a place to split is no trap. (Long texts seldom come here whole: cuts.h.)
 *
 * Most pairs that are asked for have no merge. A bit for each hash of a pair, eight to a merge or
 * more, stays in the cache and says so for seven of eight of them.
 */
#ifndef CRIA_DATA_TOKENIZER_BPE_H
#define CRIA_DATA_TOKENIZER_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct merge {
    uint64_t pair; /* left id in the upper half, right id in the lower; MERGE_FREE: no merge */
    int32_t rank, id;
};

#define MERGE_FREE UINT64_MAX

struct merge_table {
    struct merge *slots;
    uint64_t *filter;        /* [slot_count / 16] */
    size_t slot_count, used; /* slot_count is a power of two */
};

void merge_table_free(struct merge_table *m); /* zeroed is fine */

/* Room for `n` merges in all, so that adding them is quick. ERR_MEMORY. */
MUST_CHECK enum status merge_table_reserve(struct merge_table *m, size_t n);

/* Adds a merge, or replaces the one of that pair. Ids and rank >= 0. ERR_MEMORY. */
MUST_CHECK enum status merge_table_put(struct merge_table *m, int32_t left, int32_t right,
                                       int32_t rank, int32_t id);

/* The merge of a pair, or NULL. */
const struct merge *merge_table_find(const struct merge_table *m, int32_t left, int32_t right);

struct bpe_link; /* a symbol of the long form */
struct bpe_candidate;

/* What one thread needs on the side; zeroed to start. */
struct bpe_work {
    int32_t *ids; /* the sequence, before and after */
    size_t len, cap;
    struct bpe_link *links;
    size_t link_cap;
    struct bpe_candidate *heap;
    size_t heap_len, heap_cap;
};

void bpe_work_free(struct bpe_work *w);

/* Room for `n` symbols in w->ids. ERR_MEMORY; ERR_DATA above INT32_MAX / 4. */
MUST_CHECK enum status bpe_reserve(struct bpe_work *w, size_t n);

/* Merges w->ids[0..len) in place. ERR_MEMORY. */
MUST_CHECK enum status bpe_merge(const struct merge_table *m, struct bpe_work *w);

#endif

/* near.h - documents that say almost the same as an earlier one.
 *
 * Two documents are as similar as the Jaccard index of their sets of shingles: NEAR_SHINGLE words
 * in a row (words.h), or the whole document where it has fewer. MinHash estimates it (Broder 1997):
 * under NEAR_HASHES random orders of all shingles, the share of orders in which both have the same
 * first one; its standard deviation at 0.7 is 0.04. Candidates come from locality-sensitive
 * hashing: a document is compared with the first one that agrees with it in all rows of one of
 * the bands (5 rows: of pairs at 0.7 one in a hundred is missed; at 0.8 one in four thousand), and
 * is a near-duplicate when the estimate reaches the similarity asked for.
 *
 * A document takes some 500 bytes of the index; nothing else of it is kept.
 */
#ifndef CRIA_DATA_CLEAN_NEAR_H
#define CRIA_DATA_CLEAN_NEAR_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/clean/words.h"

#define NEAR_HASHES 126
#define NEAR_SHINGLE 3
#define NEAR_LEAST 0.4 /* the similarity below which the bands miss too many */

struct near_signature {
    uint16_t rows[NEAR_HASHES];
};

/* Depends on the set of shingles alone. */
void near_sign(const struct word_list *w, struct near_signature *out);

struct near; /* heap */

/* similarity: NEAR_LEAST to 1. ERR_MEMORY. */
MUST_CHECK enum status near_open(struct near **out, double similarity);
void near_close(struct near *n); /* NULL is fine */

/* Looks for a near-duplicate among those added; *number is the one it was added under. */
int near_find(const struct near *n, const struct near_signature *s, uint32_t *number);

/* ERR_MEMORY. */
MUST_CHECK enum status near_add(struct near *n, const struct near_signature *s, uint32_t number);

size_t near_bytes(const struct near *n);

#endif

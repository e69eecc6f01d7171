/* split.h - a seeded part of the documents set aside for evaluation.
 *
 * Which ones is a function of (number of documents, size, seed) alone: each document in turn is
 * chosen with probability (still wanted) / (still to come), by the RNG_SPLIT stream (Knuth, TAOCP
 * 3.4.2, algorithm S), so every set of that size is equally likely. It has nothing to do with the
 * order in which a run sees the documents, and it is not the choice that other trainers make.
 */
#ifndef CRIA_DATA_LOADER_SPLIT_H
#define CRIA_DATA_LOADER_SPLIT_H

#include <stdint.h>

#include "base/status.h"
#include "data/loader/loader.h"

struct loader_split {
    struct loader_subset train, eval; /* valid until loader_split_free */
    int64_t *documents;               /* theirs */
};

/* val_size below 1: that share of n documents, rounded up; else that many. 0: all are trained,
 * eval has none. ERR_CONFIG: negative, not a whole number, or nothing would be left to train.
 * ERR_MEMORY. */
MUST_CHECK enum status loader_split(struct loader_split *out, int64_t n, double val_size,
                                    uint64_t seed, struct err *e);
void loader_split_free(struct loader_split *s); /* zeroed is fine */

#endif

/* seen.h - what was seen before, and where: 64-bit hashes, each with the number of who came with it
 * first. Zero-initialise. 12 bytes an entry, at most two thirds full. */
#ifndef CRIA_DATA_CLEAN_SEEN_H
#define CRIA_DATA_CLEAN_SEEN_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct seen {
    uint64_t *keys; /* 0: free */
    uint32_t *numbers;
    size_t n, cap; /* cap: a power of two */
};

/* Who had the key; 0: nobody. */
int seen_find(const struct seen *s, uint64_t key, uint32_t *number);

/* Nothing changes where the key is known. ERR_MEMORY. */
MUST_CHECK enum status seen_add(struct seen *s, uint64_t key, uint32_t number);

void seen_free(struct seen *s);
size_t seen_bytes(const struct seen *s);

#endif

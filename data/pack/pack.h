/* pack.h - documents into rows of fixed capacity, best fit decreasing.
 *
 * A pure function of the lengths (SEMANTICS A, "Packing"; TRL's strategy bfd over the whole set):
 * lengths are cut to the capacity and empty ones left out; longest first, equal lengths in the
 * order given; each goes into the bin with the smallest open space that holds it, of equal spaces
 * into the bin that has had that space for longest; none: a new bin. Bins come in the order they
 * were opened, their items in the order they were put in. O(n log n).
 */
#ifndef CRIA_DATA_PACK_H
#define CRIA_DATA_PACK_H

#include <stdint.h>

#include "base/status.h"

struct pack {
    int64_t num_bins;
    int64_t *starts; /* [num_bins + 1] bin b holds items[starts[b]] ... items[starts[b+1] - 1] */
    int32_t *items;  /* indices into lengths */
};

/* `capacity` is at least 1, lengths at least 0, n at most INT32_MAX. ERR_MEMORY. */
MUST_CHECK enum status pack_best_fit(struct pack *out, const int32_t *lengths, int64_t n,
                                     int32_t capacity, struct err *e);
void pack_free(struct pack *p); /* zeroed is fine */

#endif

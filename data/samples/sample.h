/* sample.h - one document as it will be trained: ids, and what of them is learned.
 *
 * weights[i] is the weight of predicting ids[i] (0: not trained, 1: trained). The first id
 * of a document is never trained, since nothing precedes it. A document is whole here:
 * cutting to max_length, packing and shifting are the loader's business.
 */
#ifndef CRIA_DATA_SAMPLE_H
#define CRIA_DATA_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL, ROLE_TEXT }; /* TEXT: plain text */

/* Tokens from `start` up to the next turn's start (or the end) come from this turn. */
struct sample_turn {
    int32_t start;
    int32_t role; /* enum role */
};

struct sample {
    int32_t *ids;   /* [n] */
    float *weights; /* [n] */
    size_t n, cap;
    struct sample_turn *turns;
    size_t num_turns, cap_turns;
    int32_t source; /* index of the source file */
    int64_t line;   /* 1-based line (JSONL) or record number (JSON array) in it */
};

void sample_clear(struct sample *s); /* keeps the memory */
void sample_free(struct sample *s);  /* zeroed is fine */
/* Appends `n` ids that all have this weight. ERR_MEMORY. */
MUST_CHECK enum status sample_append(struct sample *s, const int32_t *ids, size_t n, float weight);
/* The tokens appended from now on belong to a new turn. ERR_MEMORY. */
MUST_CHECK enum status sample_begin_turn(struct sample *s, enum role role);

#endif

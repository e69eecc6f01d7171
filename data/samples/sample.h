/* sample.h - one document as it will be trained: ids, and what of them is learned.
 *
 * weights[i] is the weight of predicting ids[i] (0: not trained, 1: trained). The first id
 * of a document is never trained, since nothing precedes it. A document is whole here:
 * cutting to max_length, packing and shifting are the loader's business.
 *
 * A preference record is one document too: the prompt's ids once, then those of the chosen, then of
 * the rejected reply. Weights are 0 in the prompt and 1 in the replies. Unpaired records have one
 * of the two replies.
 */
#ifndef CRIA_DATA_SAMPLE_H
#define CRIA_DATA_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL, ROLE_TEXT }; /* TEXT: plain text */

/* What a record teaches: a text; one reply rather than another; whether a reply is a good one. */
enum record_kind { KIND_SFT, KIND_PAIR, KIND_UNPAIRED, NUM_KINDS };

const char *kind_name(enum record_kind k); /* "sft", "pair", "unpaired": as files have it */
const char *
kind_about(enum record_kind k); /* for messages: "pairs of a chosen and a rejected reply" */
int kind_find(const char *name, enum record_kind *out); /* 0 when there is no such name */

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
    enum record_kind kind;
    int32_t chosen, rejected; /* where the replies start: chosen in ids[chosen .. rejected),
                                 rejected in ids[rejected .. n). KIND_SFT: not looked at */
    int32_t source;           /* index of the source file */
    int64_t line;             /* 1-based line (JSONL) or record number (JSON array) in it */
};

void sample_clear(struct sample *s); /* keeps the memory; of KIND_SFT then */
void sample_free(struct sample *s);  /* zeroed is fine */
/* Appends `n` ids that all have this weight. ERR_MEMORY. */
MUST_CHECK enum status sample_append(struct sample *s, const int32_t *ids, size_t n, float weight);
/* The tokens appended from now on belong to a new turn. ERR_MEMORY. */
MUST_CHECK enum status sample_begin_turn(struct sample *s, enum role role);

#endif

/* suspects.h - the documents of a step with the highest losses, for messages about a bad step. */
#ifndef CRIA_RUN_SUSPECTS_H
#define CRIA_RUN_SUSPECTS_H

#include <stddef.h>
#include <stdint.h>

#include "data/loader/loader.h"

#define SUSPECTS_MAX 4

/* Highest first; a loss that is not a number counts as the highest of all. */
struct suspects {
    int n;
    struct suspect {
        int64_t document; /* once, however often it is in the step */
        double loss;      /* mean over its trained tokens; of a text in pieces that of its worst */
    } worst[SUSPECTS_MAX];
};

void suspects_clear(struct suspects *s);

/* A micro-batch and the log-probabilities of its supervised rows [S]. */
void suspects_add(struct suspects *s, const struct batch *b, const float *logp);

/* "a.json, record 17 (nan), b.jsonl, line 3 (2.31)", cut where it does not fit. */
void suspects_describe(const struct suspects *s, const struct loader *loader, char *out,
                       size_t size);

#endif

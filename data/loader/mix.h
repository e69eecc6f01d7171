/* mix.h - which documents a run sees: the part held out, and what an epoch takes of each source.
 *
 * In this order, each step a function of the dataset file and the options alone:
 *
 *   1. cut down    a source keeps `fraction` of its documents, at most max_samples: a seeded choice
 *   2. held out    val_size of what is left. By document: a seeded choice (split.h), and with each
 *                  chosen document every other that has the same prompt. By hash: a document whose
 *                  prompt's seeded hash falls below the share, so that a document stays on its side
 *                  when files are added. Either way no prompt is on both sides.
 *   3. weighed     concat: an epoch has every document `repeat` times. Weights are shares of an
 *                  epoch's documents: interleave_under makes it as long as can be without more than
 *                  `repeat` passes over any source, interleave_over as short as can be with
 * `repeat` passes over all. Shares are met exactly, not on average; a pass that is not whole is a
 * seeded choice. Every epoch has the same documents, in an order of its own.
 *   4. ordered     shuffled: one order for all. Progressive (Orca: first what the weaker teacher
 *                  wrote, then the stronger's): the sources one after the other as they are listed,
 *                  each pass over one in an order of its own; where a source is to be done with
 *                  before the next begins, give it `repeat` and train one epoch. Sequential: as the
 *                  files have them.
 *
 * A prompt is what stands before a document's first trained token (with nothing before it: the
 * whole document), of preferences the prompt; two are the same if their ids are.
 */
#ifndef CRIA_DATA_MIX_H
#define CRIA_DATA_MIX_H

#include "data/loader/loader.h"
#include "data/loader/split.h"

enum mix_strategy { MIX_CONCAT, MIX_UNDER, MIX_OVER };
enum mix_order { MIX_SHUFFLED, MIX_PROGRESSIVE, MIX_SEQUENTIAL };

struct mix_source {
    double weight;       /* relative; of interleaving alone, there above 0 */
    double fraction;     /* above 0, at most 1 */
    int64_t max_samples; /* 0: all */
    int64_t repeat;      /* at least 1 */
};

struct mix_options {
    const struct mix_source *sources; /* [the store's num_sources]; NULL: nothing is asked for */
    enum mix_strategy strategy;
    enum mix_order order;
    int by_hash;     /* hold out by the prompt's hash: val_size is below 1 then */
    double val_size; /* below 1 a share, else a count */
    uint64_t seed;
};

/* What became of a source's documents. */
struct mix_account {
    int64_t documents; /* in the file */
    int64_t left_out;  /* by fraction and max_samples */
    int64_t held_out;
    int64_t taken; /* by an epoch; above the rest: some are taken again */
};

struct mix {
    struct loader_subset train, eval; /* valid until mix_free; eval: none without val_size */
    struct mix_account *accounts;     /* [num_sources] */
    size_t num_sources;
    int64_t moved; /* held out beside those chosen, for their prompts */
    int64_t *own;  /* the documents of both */
    int64_t *ends; /* of the stages */
};

/* ERR_CONFIG: val_size (as loader_split; by hash 1 or more), nothing left to train on, more than
 * INT32_MAX documents an epoch; ERR_MEMORY, ERR_IO, ERR_FORMAT (reading prompts). */
MUST_CHECK enum status mix_make(struct mix *out, struct store *store, const struct mix_options *o,
                                struct err *e);
void mix_free(struct mix *m); /* zeroed is fine */

/* The prompts of a store, hashed: out[num_documents]. ERR_IO, ERR_FORMAT, ERR_MEMORY. */
MUST_CHECK enum status mix_prompts(struct store *store, uint64_t *out, struct err *e);

/* How many documents of `n` prompts are among those of `m`, which are sorted by this. */
int64_t mix_overlap(const uint64_t *prompts, int64_t n, uint64_t *among, int64_t m);

#endif

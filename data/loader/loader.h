/* loader.h - documents to flat micro-batches, in an order anybody can recompute.
 *
 * The loader has no state but its options: step k of the run is a function of (dataset, options,
 * k), so resuming is asking for the next step. Epoch e visits the units (documents; rows of
 * max_length under packing) in the order torch.randperm gives under seed + e; units are grouped
 * batch_size a micro-batch, micro-batches `accumulation` a step; the last of each may be short
 * and is kept (SEMANTICS H). Packing is best-fit decreasing over all documents (pack/pack.h), done
 * once; each epoch permutes the same rows.
 *
 * A document of n ids, cut to its first max_length, gives rows 0 ... m-1: row i holds ids[i] and
 * predicts ids[i+1]. Rows behind the last trained target compute nothing that is used and are left
 * out, though under packing they take up room, as with peers; documents with no trained target
 * after the cut are dropped before the order is drawn, and counted.
 *
 * With `pieces` (continued pre-training) a text of more than max_length ids loses none: piece k has
 * its ids k (max_length-1) ... (k+1) (max_length-1), the last of them fewer. So the id at a cut is
 * the last target of one piece and the first input of the next, and each id but the first is a
 * target exactly once; were the pieces apart, as where others cut, the first id of each would be
 * predicted by nobody. A document of n ids gives ceil((n-1) / (max_length-1)) of them, each of 2
 * ids or more, and `tokens` counts the id at a cut in both. A piece is a document of its own: it
 * sees nothing of the one before it and has positions from 0; units, packing and the order are over
 * pieces, so those of a document lie apart where there is shuffling. Records know no pieces.
 *
 * Preference records (a store of kind pair or unpaired) are documents of a prompt of P ids and one
 * or two replies. Prompt and reply together are cut to their first max_length ids; a record whose
 * prompt alone has max_length or more is dropped (TRL), and so is a pair whose replies are the same
 * after the cut, since it prefers nothing (TRL keeps it). What is trained is the replies.
 *
 *   shared prefix   segment 0: the prompt's rows 0 ... P-2 (none if P is 1); then a segment a
 *                   reply: a row that holds the prompt's last id at position P-1, then the reply's
 *                   ids but the last; its prefix is segment 0
 *   plain           a reply, a document of one segment: prompt and reply but the last id
 *
 * Both give a reply the same targets at the same positions. KTO's mismatches: with mismatch_chunk
 * m, the kept records in file order are cut into runs of m, and record i of a run has the reply of
 * record i-1 behind its own prompt as well, the first that of the last (TRL: m is
 * per_device_train_batch_size, and the order is sequential; a run of one has its own reply twice).
 *
 * Stages: stage s of epoch e is permuted under seed + e + 1000003 s; a micro-batch may hold the end
 * of one and the start of the next.
 *
 * Packing puts whole records into rows of 2 * max_length ids (max_length where a record has one
 * reply and no mismatch), in which each that is kept fits, shared or plain: P + |replies| ids with
 * a shared prefix, P more a further reply without.
 *
 * The dead tail (loader_round). So that shapes recur, a micro-batch may be followed in its arrays
 * by rows that count in nothing: a document that nobody wrote, up to a multiple of rows; supervised
 * rows of weight 0, all of them its last row, up to a multiple of a sixteenth of the octave that
 * their number lies in (at least 16), so that the head computes 3 % more on average and 6 % at most
 * of what has 256 rows or more; and segments without rows, four steps an octave. N, S, num_segments
 * and what else is told of a batch are without them; what has dropout, keys and positions of its
 * own keeps it.
 *
 * A span's targets weigh 1 each. batch_pair.prompt has targets in the chosen reply's prompt, and
 * only with with_prompt.
 *
 * Memory: 56 bytes a document or piece (76 a preference), 8 a unit, and one micro-batch, all taken
 * when it is opened. The order is kept for one epoch; a call for another epoch's step draws that
 * one's first.
 */
#ifndef CRIA_DATA_LOADER_H
#define CRIA_DATA_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "base/segment.h"
#include "base/status.h"

struct store; /* data/store/store.h: an open dataset file */

struct loader_options {
    int32_t max_length;   /* tokens; documents are cut, packed rows are filled up to this */
    int32_t batch_size;   /* units a micro-batch */
    int32_t accumulation; /* micro-batches a step */
    int packing;          /* best-fit decreasing over the whole epoch */
    int pieces;           /* texts longer than that are cut into pieces, none of it lost (pt) */
    int shuffle;          /* 0: units in file order (evaluation; kto) */
    uint64_t seed;
    /* preferences alone: */
    int prefix_sharing;     /* 0: the plain form */
    int with_prompt;        /* the prompt's ids are targets too (orpo), in front of chosen */
    int32_t mismatch_chunk; /* kto: mismatched replies over runs of so many records; 0: none */
};

/* A part of the store's documents, e.g. one side of a train/eval split (loader/split.h). */
struct loader_subset {
    const int64_t *documents; /* in file order, where there is no shuffling; one may be there more
                                 than once; NULL: all. Read only while opening */
    int64_t num_documents;
    const int64_t *stage_ends; /* [num_stages] an epoch goes through documents 0 ... ends[0]-1, then
                                  ends[0] ... ends[1]-1, ..., each stage in an order of its own,
                                  packed by itself; NULL: one stage. Read only while opening */
    int64_t num_stages;
};

/* Supervised rows first ... first+count-1 of a micro-batch, whose targets are one text in order. */
struct batch_span {
    int32_t first, count;
};

/* A preference record. Its spans lie in the order below wherever they are not empty; with a shared
 * prefix all replies see the same rows of the prompt. The first target of a reply is its first
 * token. */
struct batch_pair {
    int64_t document; /* its number in the store */
    int64_t partner;  /* of the record whose reply `mismatch` is; -1: no mismatch */
    struct batch_span
        prompt; /* the prompt's own tokens (but the first): only if asked for (orpo) */
    struct batch_span chosen, rejected; /* unpaired records (kto) have one of the two */
    struct batch_span mismatch;         /* kto: another record's reply behind this prompt */
};

/* What lies behind a micro-batch's own in its arrays, to be computed and forgotten. */
struct batch_tail {
    int32_t rows;       /* one document: id 0, position 0, document and key -1 */
    int32_t supervised; /* weight 0, target 0; none without rows */
    int32_t segments;   /* the first has the rows, the others none */
};

/* One micro-batch. Pointers are valid until the next loader_batch of the same loader. */
struct batch {
    int32_t N;                      /* rows */
    int64_t num_tokens;             /* ids in it, as peers count them (rows left out included; a
                                       prompt once a reply, mismatches not at all) */
    const int32_t *ids;             /* [N] */
    const int32_t *positions;       /* [N] from 0 in each document */
    const int32_t *documents;       /* [N] the document's number in the store */
    const int32_t *keys;            /* [N] the same, but of each later piece of a document another:
                                       (keys, positions) tells all rows of a document apart */
    const struct segment *segments; /* one a document, in the order of the rows */
    int32_t num_segments;
    int32_t S;              /* supervised rows */
    const int32_t *rows;    /* [S] ascending */
    const int32_t *targets; /* [S] the id row rows[s] predicts */
    const float *weights;   /* [S] */
    int32_t num_pairs;      /* 0: the dataset holds no preferences */
    const struct batch_pair *pairs;
    struct batch_tail tail; /* zero: there is none */
};

/* The largest micro-batch of a run in each respect, tails included; they need not be the same
 * micro-batch. */
struct loader_limits {
    int32_t max_rows, max_supervised, max_segments;
    int32_t max_pairs; /* 0: no preferences */
};

/* What an epoch holds; what was left out, and why. The lists live as long as the loader. */
struct loader_report {
    int64_t documents, tokens, supervised; /* kept, after the cut; per epoch; each piece counts as
                                              a document */
    int64_t units, steps_per_epoch;
    int64_t cut_documents, cut_tokens; /* longer than max_length: keep_start; dropped ones too */
    int64_t pieces;                    /* what cut documents became; 0: they lost their end */
    int64_t dropped_documents;         /* nothing trained after the cut, or one of the two below */
    const int32_t *cut, *dropped;      /* their numbers in the store, in the subset's
                                         order */
    /* preferences alone: */
    int64_t dropped_prompts;   /* of the dropped: prompts of max_length or more */
    int64_t dropped_identical; /* of the dropped: replies that are the same after the cut */
    int64_t chosen, rejected;  /* kept records that have such a reply (kto: desirable, not) */
};

struct loader; /* heap; keeps a pointer to the store, which must outlive it */

/* ERR_CONFIG (options or subset out of range, more pieces than an int32_t numbers), ERR_DATA
 * (nothing left to train on), ERR_MEMORY, ERR_IO, ERR_FORMAT (as store_read). */
MUST_CHECK enum status loader_open(struct loader **out, struct store *store,
                                   struct loader_subset subset,
                                   const struct loader_options *options, struct err *e);
void loader_close(struct loader *l);

/* From now on micro-batches have a dead tail, up to a multiple of `rows`; 0: they have none.
 * Forgets the last one. ERR_CONFIG (too large), ERR_MEMORY; then only closing is left. */
MUST_CHECK enum status loader_round(struct loader *l, int32_t rows, struct err *e);

/* The tail of a micro-batch of N rows, S of them supervised, in so many segments. */
struct batch_tail loader_tail(int32_t rows, int64_t N, int64_t S, int64_t segments);

const struct loader_report *loader_report(const struct loader *l);

/* Over epochs 0 ... epochs-1, at least 1; exact, from lengths alone. Draws each epoch's order. */
MUST_CHECK enum status loader_limits(struct loader *l, int32_t epochs, struct loader_limits *out,
                                     struct err *e);

/* Step `step` of the run (0-based, through all epochs): how many micro-batches, the sum of all
 * their weights (of the floats, summed in double), tokens as in batch.num_tokens. Always OK. */
struct loader_step {
    int64_t epoch;
    int32_t micro_batches;
    double weight;
    int64_t num_tokens;
    /* preferences alone: */
    int64_t pairs;            /* records */
    int64_t chosen, rejected; /* records that have such a reply (kto: desirable, undesirable) */
    int64_t chosen_tokens;    /* targets in the chosen replies */
    int64_t prompt_tokens;    /* targets in their prompts, P-1 each, whether or not with_prompt;
                                 orpo's NLL is a mean over both sums */
};
MUST_CHECK enum status loader_step(struct loader *l, int64_t step, struct loader_step *out,
                                   struct err *e);

/* Micro-batch `micro` of step `step`. ERR_IO, ERR_FORMAT (the file is damaged, or is not the one
 * that was opened any more). */
MUST_CHECK enum status loader_batch(struct loader *l, int64_t step, int32_t micro,
                                    struct batch *out, struct err *e);

/* Origin of a document, for messages: "alpaca.json, record 17", "chat.jsonl, line 3". */
void loader_describe(const struct loader *l, int64_t document, char *out, size_t size);

#endif

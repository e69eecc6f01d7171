/* reference.h - the sidecar: what the reference model makes of each preference record.
 *
 * A dataset file's replies under a model that does not change need to be computed once, whatever
 * the loss, beta, learning rate or number of epochs. The sidecar keeps their log-probabilities,
 * document by document, under a key that says what they were computed from; a file with another key
 * is refused, and the message names what differs.
 *
 * Everything is in memory (57 bytes a document). reference_save writes it whole: aside
 * ("PATH.tmp"), synced, then renamed, so that a crash leaves the file of the last save. Which
 * documents are in it is part of the file: after a kill, work goes on with those that are missing.
 *
 * Mismatches (kto) depend on how a run groups its records, so a document's mismatch is kept with
 * the number of the record whose reply it is, and counts as missing for any other.
 *
 * HDF5 (FORMAT.md), with store.h's caveat about threads.
 */
#ifndef CRIA_DATA_REFERENCE_H
#define CRIA_DATA_REFERENCE_H

#include <stdint.h>

#include "base/status.h"

#define REFERENCE_FORMAT_VERSION 1

/* What log-probabilities depend on. Strings may be NULL (then ""). */
struct reference_key {
    const char *base;      /* hash of the reference's weights */
    const char *adapter;   /* hash of its adapter; "": none */
    const char *precision; /* "fp32" */
    const char *dataset;   /* store_info.content_hash */
    int32_t max_length;    /* replies are cut by it */
};

/* Sums over a reply's targets, after the cut; 0 where there is no such reply. The shared ones are
 * over the first min(|chosen|, |rejected|) targets of each, for ld_alpha: what is behind them is
 * the difference. Unpaired records have the whole sums there. */
struct reference_logps {
    double chosen, rejected;
    double chosen_shared, rejected_shared;
    double mismatch;
    int64_t partner; /* whose reply the mismatch is; -1: none */
};

struct reference; /* heap */

/* Reads the file at `path`; where there is none, starts empty. ERR_DATA: made from something
 * else (the message names it); ERR_FORMAT (no such file, or damaged), ERR_IO, ERR_MEMORY;
 * ERR_CONFIG: num_documents is negative or over INT32_MAX. */
MUST_CHECK enum status reference_open(struct reference **out, const char *path,
                                      const struct reference_key *key, int64_t num_documents,
                                      struct err *e);
void reference_close(struct reference *r); /* without saving; NULL is fine */

/* The document's log-probabilities, NULL while they are missing. `partner` -1: its mismatch is not
 * asked for. Valid until the next reference_set of that document. */
const struct reference_logps *reference_get(const struct reference *r, int64_t document,
                                            int64_t partner);

/* ERR_DATA: a value that is not finite, or the document or partner is not one of the dataset's. */
MUST_CHECK enum status reference_set(struct reference *r, int64_t document,
                                     const struct reference_logps *logps, struct err *e);

int64_t reference_count(const struct reference *r); /* documents that are there */

/* Nothing to do if nothing was set since the last. ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status reference_save(struct reference *r, struct err *e);

#endif

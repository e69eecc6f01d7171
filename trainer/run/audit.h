/* audit.h - what a look at every document of a dataset finds: how long they are, how much of them
 * is trained, which are cut, which are there twice, what sources have in common.
 *
 *     audit_open     one pass over the ids; 29 bytes a document are kept
 *     audit_facts    the findings over all, as facts (facts.h)
 *     audit_held_out what is both trained on and evaluated on
 *     audit_free
 *
 * Two documents are copies when their ids are the same, whatever their sources; the first of them
 * in the file is the original. Prompts are compared as data/loader/mix.h does it. Both by 64-bit
 * hashes: of ten million documents, two that differ are taken for copies once in 400,000 files.
 * Cut is counted as prepare counts it (prepare.h): of preferences the prompt and the longer reply
 * have to fit.
 */
#ifndef CRIA_RUN_AUDIT_H
#define CRIA_RUN_AUDIT_H

#include <jansson.h>

#include "data/loader/mix.h"
#include "data/prepare/prepare.h"
#include "data/store/store.h"

#define AUDIT_PAIRS_MAX 64 /* sources compared two by two; of more only the sum is told */

enum audit_flag {
    AUDIT_CUT = 1,    /* longer than max_length */
    AUDIT_COPY = 2,   /* of an earlier document */
    AUDIT_COPIED = 4, /* there is a copy of it */
};

struct audit_source {
    struct prepare_counts counts; /* records, kept: 0 */
    int64_t copies;               /* documents that are copies */
};

struct audit {
    struct store *store; /* not owned */
    int64_t num_documents;
    int32_t max_length;           /* 0: not known, nothing is cut */
    int pieces;                   /* what is longer is cut into pieces, not lost */
    uint64_t *texts, *prompts;    /* [num_documents] hashes of all ids, and of the prompts */
    int64_t *original;            /* [num_documents] the first document with the same ids */
    int32_t *source;              /* [num_documents] */
    unsigned char *flags;         /* [num_documents] enum audit_flag */
    struct audit_source *sources; /* [num_sources] */
    size_t num_sources;
};

/* ERR_MEMORY, ERR_IO, ERR_FORMAT (reading). After a failure audit_free is still due. */
MUST_CHECK enum status audit_open(struct audit *a, struct store *store, int32_t max_length,
                                  int pieces, struct err *e);
void audit_free(struct audit *a); /* zeroed is fine */

/* Sets "longest", "lengths", "supervised_shares", "truncation", "duplicates", "most_copied" (where
 * there are copies) and "overlap" (of several sources); to the rows of "sources", which are in the
 * store's order, it adds columns. ERR_MEMORY, ERR_IO, ERR_FORMAT. */
MUST_CHECK enum status audit_facts(const struct audit *a, json_t *facts, struct err *e);

/* Adds a row to "overlap": between what the mixture trains on and what is evaluated on: `eval`, or
 * (NULL) what the mixture holds out. No row where nothing is. ERR_MEMORY. */
MUST_CHECK enum status audit_held_out(const struct audit *a, const struct mix *m,
                                      const struct audit *eval, json_t *facts, struct err *e);

#endif

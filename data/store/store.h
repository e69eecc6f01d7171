/* store.h - the dataset file: token ids of whole documents and what of them is trained.
 *
 * The contract between `prepare`, which writes it, and everybody who reads it: `train`, `inspect`,
 * and people with h5py (FORMAT.md describes the bytes). Documents are uncut; cutting, packing and
 * shuffling belong to the loader, so one file serves every max_length. The file says how it was
 * made (struct store_settings); a run with another tokenizer or template refuses it by
 * store_expect.
 *
 * Writing streams: memory stays at a few chunks whatever the size. The file grows aside
 * ("PATH.tmp") and takes its name on store_writer_commit, synced, so that a crash leaves the old
 * file or the new one.
 *
 * Reading keeps the small per-document arrays in memory (32 bytes a document) and fetches tokens
 * by document. What a file says is checked before it is used: the per-document arrays when it
 * is opened, ids, weights and turns when they are read.
 *
 * HDF5 is used by no other room, and not by several threads at once: calls on stores and writers
 * come from one thread at a time, process-wide.
 */
#ifndef CRIA_DATA_STORE_H
#define CRIA_DATA_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/samples/sample.h"

#define STORE_FORMAT_VERSION 2
#define STORE_MAX_SOURCES 65536

/* What decides which ids a text becomes and which are trained. Strings may be NULL when writing
 * (then "" is kept) and are never NULL when read. */
struct store_settings {
    const char *tokenizer_hash;
    const char *template_name;
    const char *template_hash;
    const char *train_on; /* as in the config */
    const char *compat;   /* "" or the reference whose masking was reproduced */
    int tokenize_whole;
    int32_t vocab_size; /* every id is below it */
    int kind;           /* enum record_kind, of all documents */
};

struct store_source {
    const char *name; /* base name, for messages */
    const char *path; /* as given */
    const char *hash; /* of its content, hash_file */
};

/* What is trained among some ids. */
struct store_targets {
    int32_t last;  /* index of the last id with a weight other than 0; -1: none */
    int32_t count; /* ids with a weight other than 0 */
    double weight; /* their sum, added in order */
};
struct store_targets store_count_targets(const float *weights, int64_t n);

/* NULL, or what is wrong with the replies of a document of `n` ids: for writer and reader. */
const char *store_replies_fault(int kind, int64_t n, int32_t chosen, int32_t rejected);

/* ---- writing ---- */

struct store_writer; /* heap */

/* Strings are copied. ERR_IO, ERR_DISK_FULL, ERR_MEMORY; ERR_CONFIG: vocab_size below 1, too many
 * sources. */
MUST_CHECK enum status store_writer_open(struct store_writer **out, const char *path,
                                         const struct store_settings *settings,
                                         const struct store_source *sources, size_t num_sources,
                                         struct err *e);

/* Adds a document. ERR_DATA when it breaks the contract: no ids, an id outside the vocabulary, a
 * weight that is negative, not finite or on the first id, turns not ascending, a source that is
 * not there, another kind than the file's, replies that are not as sample.h says; nothing is
 * written then and the writer goes on. ERR_IO, ERR_DISK_FULL. */
MUST_CHECK enum status store_writer_append(struct store_writer *w, const struct sample *sample,
                                           struct err *e);

/* Finishes the file with the prepare report (JSON text; NULL: "{}") and gives it its name.
 * ERR_IO, ERR_DISK_FULL, ERR_MEMORY. Call once; store_writer_close follows in any case. */
MUST_CHECK enum status store_writer_commit(struct store_writer *w, const char *report_json,
                                           struct err *e);

/* Frees the writer; what was not committed is removed. NULL is fine. */
void store_writer_close(struct store_writer *w);

/* ---- reading ---- */

struct store; /* heap */

/* Everything here lives as long as the store. */
struct store_info {
    int64_t num_documents, num_tokens, num_turns;
    int64_t num_targets; /* ids with a weight other than 0 */
    struct store_settings settings;
    const struct store_source *sources; /* [num_sources] */
    size_t num_sources;
    const char *report;       /* JSON text */
    const char *content_hash; /* of all documents, in order: a fingerprint of the data */

    /* Per document, so that epochs are planned without reading tokens. */
    const int64_t *offsets;      /* [num_documents + 1]: document d has tokens offsets[d] ... */
    const int32_t *last_targets; /* [num_documents] index in the document of the last id with a
                                    weight other than 0; -1: none */
    const int32_t *targets;      /* [num_documents] ids with a weight other than 0 */
    const double *weights;       /* [num_documents] sum of its weights, added in order */
    const int32_t *chosen;   /* [num_documents] where its replies start (sample.h); a document */
    const int32_t *rejected; /*   of KIND_SFT has none: both are its length */
};

/* ERR_IO (absent, unreadable), ERR_FORMAT (no dataset file of this version, or damaged; the
 * message names file and dataset), ERR_MEMORY. */
MUST_CHECK enum status store_open(struct store **out, const char *path, struct err *e);
void store_close(struct store *s); /* NULL is fine */

const struct store_info *store_info(const struct store *s);
const char *store_path(const struct store *s);

/* ERR_DATA when the file was made with other settings: says which and what to do. NULL strings in
 * `want` are not compared; vocab_size 0 neither, nor tokenize_whole or kind below 0. */
MUST_CHECK enum status store_expect(const struct store *s, const struct store_settings *want,
                                    struct err *e);

/* The first `n` ids and weights (either may be NULL) of a document; n at most its length, 0 is
 * fine. ERR_FORMAT (an id or weight that must not be), ERR_IO. */
MUST_CHECK enum status store_read(struct store *s, int64_t document, int64_t n, int32_t *ids,
                                  float *weights, struct err *e);

/* Ids and weights first ... first+n-1 of a document, all of which it has; otherwise as store_read.
 * A part's weights are not held against what the document was listed with. */
MUST_CHECK enum status store_read_part(struct store *s, int64_t document, int64_t first, int64_t n,
                                       int32_t *ids, float *weights, struct err *e);

/* The whole document with turns and origin into *out, which is cleared first and keeps its memory.
 * ERR_FORMAT, ERR_IO, ERR_MEMORY. */
MUST_CHECK enum status store_document(struct store *s, int64_t document, struct sample *out,
                                      struct err *e);

/* Where a document came from: index of its source file, and its line or record number there.
 * ERR_FORMAT, ERR_IO. */
MUST_CHECK enum status store_origin(struct store *s, int64_t document, int32_t *source,
                                    int64_t *line, struct err *e);

/* The source files of all documents at once: out[num_documents]. Errors as above. */
MUST_CHECK enum status store_sources(struct store *s, int32_t *out, struct err *e);

/* The version of HDF5 in use: "1.10.8". */
void store_library_version(char *out, size_t size);

#endif

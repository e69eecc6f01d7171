/* prepare.h - dataset files to one dataset file of ids, and an account of what became of each
 * record.
 *
 * One streaming pass: read a record (jsonl), make it a conversation (formats), write it down
 * (template), tokenize it (samples), append it (store). Several threads do it, block by block
 * (crew.h); the file and the report are the same whatever their number. Memory stays at a few
 * blocks a thread, or the largest record.
 * Nothing is lost in silence: for every source
 *
 *     records = kept + the sum of dropped[]
 *
 * and a reason names up to PREPARE_EXAMPLES places. A kept record is one document, but for formats
 * whose records hold several, or are parts of one (format.h); what of a kept one is in no document
 * is counted too. Records that are no valid ones (not JSON, a
 * field missing) stop the run by default; with skip_bad they are counted as DROP_BAD_RECORD.
 * max_length shapes the report alone: the file holds whole documents.
 *
 * All sources of a file are of one kind (sample.h): texts, pairs, or replies with a label. What
 * is done with preference records is said in conversation.h (dropped), encode.h (ids) and loader.h
 * (cut, and dropped for their length).
 */
#ifndef CRIA_DATA_PREPARE_H
#define CRIA_DATA_PREPARE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/status.h"
#include "data/formats/format.h"
#include "data/samples/encode.h"
#include "data/template/template.h"
#include "data/tokenizer/tokenizer.h"

#define PREPARE_EXAMPLES 3
#define PREPARE_BUCKETS 12 /* lengths up to 32, 64, ... 32768, 65536, and beyond */

struct prepare_source {
    const char *path;
    const char *format;              /* a format's name; NULL or "auto": detected */
    struct format_names names;       /* what the file calls fields and roles otherwise */
    enum jsonl_unit unit;            /* of plain text */
    const struct template *template; /* of this source alone; NULL: as all */
};

struct prepare_options {
    const struct prepare_source *sources;
    size_t num_sources;
    const struct tokenizer *tokenizer;
    const struct template *template; /* NULL: plain text only */
    enum train_on train_on;
    int tokenize_whole;
    enum compat compat; /* COMPAT_FASTCHAT: labels depend on max_length, which then is above 0 */
    int skip_bad;       /* go on behind invalid records */
    size_t max_record;  /* bytes; 0: the default of jsonl.h */
    int32_t max_length; /* for the report; 0: not looked at */
    int pieces;         /* for the report: what is longer is cut into pieces, not lost */
    int kind;           /* enum record_kind that the sources must be of, or PREPARE_ANY_KIND */
    size_t threads;     /* 0: all cores the process may use, up to what can be fed */
};

#define PREPARE_ANY_KIND (-1) /* what the first source is; the others must be the same */

/* How many, and where the first of them are. */
struct prepare_tally {
    int64_t count;
    int num_places;
    int64_t places[PREPARE_EXAMPLES]; /* lines (JSONL) or record numbers (array) */
};

struct prepare_counts {
    int64_t records, documents;
    int64_t kept;               /* records that documents were made of */
    int64_t tokens, supervised; /* of the documents; supervised: weight other than 0 */
    int64_t chosen, rejected;   /* of the documents: records that have such a reply, */
    int64_t prompt_tokens, chosen_tokens, rejected_tokens; /* and what their parts come to */
    /* Lengths are of what max_length cuts: of preferences the prompt and its longer reply. */
    int64_t longest; /* tokens */
    int64_t lengths[PREPARE_BUCKETS];
    int64_t cut_documents, cut_tokens; /* over max_length: how many, and what they lose by it */
    int64_t cut_silent;                /* of these, left with nothing trained */
};

struct prepare_source_report {
    char *path;
    char hash[HASH_HEX_SIZE]; /* of the file's content */
    const struct format *format;
    int detected; /* by auto */
    int is_array; /* places are record numbers */
    struct prepare_counts counts;
    struct prepare_tally dropped[NUM_DROP_REASONS];
    struct prepare_tally leading, trailing; /* turns left out of kept records (conversation.h) */
    struct prepare_tally left_out; /* messages or conversations of kept records, in no document */
    char first_bad[512];           /* what was wrong with the first invalid record; "" */
};

struct prepare_report {
    struct prepare_source_report *sources; /* [num_sources] */
    size_t num_sources;
    struct prepare_counts total;
    enum record_kind kind; /* of all sources */
    int32_t max_length;
    int pieces; /* as in the options */
};

struct prepare_progress {
    size_t source; /* index */
    const char *path;
    int64_t bytes, total_bytes; /* over all sources */
    int64_t documents;
};

typedef void prepare_watcher(void *ctx, const struct prepare_progress *p);

/* Writes the dataset file at `out` and fills *report (zero it; prepare_report_free in any case: on
 * failure it holds what was counted until then). `watch` may be NULL; it is called about a hundred
 * times a source.
 * ERR_IO, ERR_DISK_FULL, ERR_MEMORY; ERR_FORMAT (an invalid record or file); ERR_DATA (no format
 * fits, a source of another kind, or no document is left); ERR_CONFIG (unknown format, no sources,
 * template and tokenizer do not go together). */
MUST_CHECK enum status prepare_dataset(const struct prepare_options *options, const char *out,
                                       struct prepare_report *report, prepare_watcher *watch,
                                       void *ctx, struct err *e);

/* 32 hex digits that name what prepare_dataset would write: content of the sources, tokenizer,
 * template, options that decide ids or weights, the kind asked for, version of the file format.
 * Paths are no part of it, nor is max_length but for COMPAT_FASTCHAT. ERR_IO, ERR_MEMORY. */
MUST_CHECK enum status prepare_cache_key(const struct prepare_options *options,
                                         char out[HASH_HEX_SIZE], struct err *e);

/* What the dataset file says of it: "", "trl", "fastchat 2048". */
#define PREPARE_COMPAT_SIZE 32
const char *prepare_compat(enum compat compat, int32_t max_length, char out[PREPARE_COMPAT_SIZE]);

/* ---- the report (report.c) ---- */

void prepare_report_free(struct prepare_report *r); /* zeroed is fine */

void prepare_tally_add(struct prepare_tally *t, int64_t place, int64_t count);
/* `pieces` as in the options: then a long text loses nothing. */
void prepare_count_document(struct prepare_counts *c, const struct sample *s, int32_t max_length,
                            int pieces);
void prepare_counts_add(struct prepare_counts *to, const struct prepare_counts *from);
int64_t prepare_dropped(const struct prepare_source_report *s); /* sum over the reasons */

/* For people. ERR_MEMORY, ERR_FORMAT (over the cap). */
MUST_CHECK enum status prepare_report_print(const struct prepare_report *r, struct buf *out);

/* For programs, and for the dataset file: one JSON object, the same for the same input. ERR_MEMORY,
 * ERR_FORMAT. */
MUST_CHECK enum status prepare_report_json(const struct prepare_report *r, struct buf *out);

#endif

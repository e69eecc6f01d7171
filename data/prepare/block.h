/* block.h - some records of a source on their way: found, then made samples, then settled.
 *
 * block_fill copies the records' text out of the file (one thread at a time), block_work parses,
 * converts and encodes them (any thread; it sees nothing but the block and its own maker), and who
 * settles walks over `outcomes` in order. A block is as good as sequential: what stands behind the
 * first record that ends the run is not looked at.
 */
#ifndef CRIA_DATA_PREPARE_BLOCK_H
#define CRIA_DATA_PREPARE_BLOCK_H

#include "base/buf.h"
#include "data/formats/format.h"
#include "data/jsonl/jsonl.h"
#include "data/prepare/feed.h"
#include "data/samples/encode.h"

#define BLOCK_RECORDS 128
#define BLOCK_BYTES ((size_t)256 << 10) /* of text, about: a record is never cut */

enum outcome_kind {
    OUTCOME_SAMPLE,
    OUTCOME_DROPPED,
    OUTCOME_INVALID, /* the record is no valid one; the run may go on */
    OUTCOME_FAILED   /* something else went wrong */
};

/* A document that a record gave. */
struct outcome_part {
    struct sample sample;
    unsigned repairs;
};

struct outcome {
    enum outcome_kind kind;
    struct jsonl_record record; /* its place; no value */
    int64_t count;              /* records of the file that it is (feed.h) */
    enum drop_reason drop;      /* of its first conversation, where none is a document */
    size_t left_out;            /* messages, or whole conversations, that are in no document */
    struct outcome_part first;
    struct outcome_part *more; /* [num_more] further documents */
    size_t num_more, cap_more;
    struct err *err; /* INVALID: of the first in the block, NULL of the later ones; FAILED */
};

struct block { /* init with block_init */
    struct buf text;
    size_t starts[BLOCK_RECORDS + 1]; /* in text, of each record */
    long columns[BLOCK_RECORDS];
    struct outcome outcomes[BLOCK_RECORDS];
    size_t count;
    int64_t offset;     /* in the file, behind the block */
    enum status status; /* of finding what comes behind its records, */
    struct err err;     /* and why */
};

/* What one thread makes samples with. */
struct block_maker {
    const struct format *format;
    const struct format_names *names; /* of the source's fields and roles */
    struct encoder *encoder;
    struct conversation conversation;
};

void block_init(struct block *b);
void block_free(struct block *b); /* zeroed is fine */

/* Finds the next records. 0: none is left, and nothing went wrong. */
int block_fill(struct block *b, struct feed *f);

/* `j` is only asked where errors are. */
void block_work(struct block *b, const struct jsonl *j, struct block_maker *maker);

/* Puts the record's place before a message that knows only its fields. */
void block_place_error(const struct jsonl *j, const struct jsonl_record *record, struct err *e);

#endif

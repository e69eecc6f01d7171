/* feed.h - the records of a file as their format takes them: some forms want several lines at once.
 *
 * Most formats take each record by itself, and feed_find is jsonl_find. One with group_by
 * (format.h) gets records that belong together as one text, {"messages":[...]}; of those the first
 * one's place counts. A group is never larger than the file's max_record: what goes beyond is a
 * group of its own. Records that are no JSON stand by themselves.
 */
#ifndef CRIA_DATA_PREPARE_FEED_H
#define CRIA_DATA_PREPARE_FEED_H

#include "base/buf.h"
#include "data/formats/format.h"
#include "data/jsonl/jsonl.h"

struct feed { /* init with feed_init; the file is the caller's */
    struct jsonl *file;
    const char *group_by;  /* NULL: each record by itself */
    struct buf group, key; /* the text handed out; what its records have in common */
    struct buf next;       /* the record behind it, */
    struct buf next_key;   /* and what it has of that */
    struct jsonl_record next_record;
    long next_column;
    int ahead, flat, child; /* whether it is there, one message of a tree, one with a parent */
    enum status status;     /* of finding it, */
    struct err err;         /* and why it failed or is a bad one */
};

void feed_init(struct feed *f, struct jsonl *file, const struct format *format);
void feed_free(struct feed *f); /* zeroed is fine */

/* As jsonl_find; *count is how many records of the file it is. */
MUST_CHECK enum status feed_find(struct feed *f, struct jsonl_record *out, struct jsonl_text *text,
                                 int64_t *count, struct err *e);

#endif

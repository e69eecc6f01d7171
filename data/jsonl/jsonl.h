/* jsonl.h - records out of a data file, one at a time, as JSON objects.
 *
 *   .csv, .tsv         RFC 4180; the first row names the fields, all values are strings (csv.h)
 *   .txt, .text, .md   plain text: {"text": ...} a line, or as jsonl_options says; blank lines are
 *                      nothing
 *   all others         JSONL (an object a line) or one JSON array of objects, told apart by the
 *                      first byte that is not white space
 *
 * Each may be packed, whatever its name (stream.h); the name's ending is looked for before .gz and
 * .zst. Nothing is ever loaded whole: an array's elements are found by their brackets and parsed
 * one by one, so memory stays at the largest record. A UTF-8 BOM, CRLF, blank lines and a last line
 * without newline are fine.
 *
 * A record that is not an object, not JSON, not UTF-8, nested too deeply, larger than max_record or
 * without as many fields as the header comes back as JSONL_BAD with the reason in `err`; the caller
 * stops or goes on with the next record, as its policy says. What leaves no next record to go on to
 * (an array or a quoted field that ends in the middle, text behind the array, damaged packed data,
 * a read error) is an error of jsonl_next itself.
 *
 *     while (!(s = jsonl_next(j, &record, &e)) && record.kind != JSONL_END) ...
 */
#ifndef CRIA_DATA_JSONL_H
#define CRIA_DATA_JSONL_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define JSONL_MAX_RECORD ((size_t)64 << 20) /* bytes; the default for max_record */

struct jsonl; /* heap: an open file */

enum jsonl_kind { JSONL_END, JSONL_RECORD, JSONL_BAD };

struct jsonl_record {
    enum jsonl_kind kind;
    const json_t *value; /* JSONL_RECORD: an object; valid until the next call */
    int64_t number;      /* 1-based, bad records counted too */
    int64_t line;        /* 1-based line on which it begins */
    int64_t place;       /* how people find it: the number in an array, else the line */
};

/* What of a plain text is a record; paragraphs end at blank lines. */
enum jsonl_unit { JSONL_LINE, JSONL_PARAGRAPH, JSONL_DOCUMENT };

struct jsonl_options {
    size_t max_record; /* 0: the default */
    enum jsonl_unit unit;
};

/* NULL options: the defaults. ERR_IO, ERR_MEMORY; ERR_FORMAT when the file begins with neither an
 * object nor an array, has no usable header, or is of a form that is not read (stream.h). An empty
 * file has no records. */
MUST_CHECK enum status jsonl_open(struct jsonl **out, const char *path,
                                  const struct jsonl_options *options, struct err *e);
void jsonl_close(struct jsonl *j); /* NULL is fine */

/* The next record. With kind JSONL_BAD the status is OK and *e says what is wrong with it and
 * where (ERR_FORMAT). ERR_IO, ERR_MEMORY, ERR_FORMAT (see above). */
MUST_CHECK enum status jsonl_next(struct jsonl *j, struct jsonl_record *out, struct err *e);

/* jsonl_next in two halves, so that records can be parsed by several threads while one finds them.
 * A text is valid until the next jsonl_find, or as long as the caller's copy of it. */
struct jsonl_text {
    const char *data;
    size_t n;
    long column; /* 1-based, where it begins on its line */
};

/* Finds the next record: kind is JSONL_END, JSONL_BAD (too large; *e says so), or JSONL_RECORD with
 * *text, unparsed and no value. ERR_IO, ERR_MEMORY, ERR_FORMAT as jsonl_next. */
MUST_CHECK enum status jsonl_find(struct jsonl *j, struct jsonl_record *out,
                                  struct jsonl_text *text, struct err *e);

/* Parses a text that jsonl_find found: *value is the object, which the caller json_decref's, and so
 * is out->value; or out->kind becomes JSONL_BAD, *e says why, and *value may still be one to free.
 * Threads may share `j`. ERR_MEMORY. */
MUST_CHECK enum status jsonl_parse(const struct jsonl *j, const struct jsonl_text *text,
                                   struct jsonl_record *out, json_t **value, struct err *e);

int jsonl_is_array(const struct jsonl *j);
int jsonl_is_json(const struct jsonl *j); /* records are written as JSON: JSONL or an array */
const char *jsonl_path(const struct jsonl *j);
int64_t jsonl_offset(const struct jsonl *j); /* bytes of the file used, for progress */

#endif

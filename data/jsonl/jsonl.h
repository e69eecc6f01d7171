/* jsonl.h - records out of a file of JSON objects, one at a time.
 *
 * Two forms are read, told apart by the first byte that is not white space: JSONL (an object a
 * line) and one JSON array of objects. Neither is ever loaded whole: an array's elements are found
 * by their brackets and parsed one by one, so memory stays at the largest record. A UTF-8 BOM,
 * CRLF, blank lines and a last line without newline are fine.
 *
 * A record that is not an object, not JSON, not UTF-8, nested too deeply or larger than max_record
 * comes back as JSONL_BAD with the reason in `err`; the caller stops or goes on with the next
 * record, as its policy says. What leaves no next record to go on to (an array that ends in the
 * middle, text behind it, a read error) is an error of jsonl_next itself.
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
    int64_t place;       /* how people find it: the line (JSONL) or the number (array) */
};

/* max_record 0: the default. ERR_IO, ERR_MEMORY; ERR_FORMAT when the file begins with
 * neither an object nor an array. An empty file has no records. */
MUST_CHECK enum status jsonl_open(struct jsonl **out, const char *path, size_t max_record,
                                  struct err *e);
void jsonl_close(struct jsonl *j); /* NULL is fine */

/* The next record. With kind JSONL_BAD the status is OK and *e says what is wrong with it and
 * where (ERR_FORMAT). ERR_IO, ERR_MEMORY, ERR_FORMAT (see above). */
MUST_CHECK enum status jsonl_next(struct jsonl *j, struct jsonl_record *out, struct err *e);

int jsonl_is_array(const struct jsonl *j);
const char *jsonl_path(const struct jsonl *j);
int64_t jsonl_offset(const struct jsonl *j); /* bytes consumed, for progress */

#endif

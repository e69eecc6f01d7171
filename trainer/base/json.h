/* json.h - jansson, with our errors.
 *
 * Parsing refuses duplicate keys and gives line and column. The getters read one
 * member of an object: absent (or null) leaves *out alone and is OK, a wrong type is
 * ERR_FORMAT with the key's name; they do not take references. `where` names
 * the file in messages.
 */
#ifndef CRIA_BASE_JSON_H
#define CRIA_BASE_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define JSON_FILE_MAX ((size_t)1 << 30) /* bytes; a tokenizer.json has 10 MB, an index 1 MB */

/* The caller json_decref's *out. ERR_IO, ERR_MEMORY, ERR_FORMAT. */
MUST_CHECK enum status json_parse_file(const char *path, json_t **out, struct err *e);
MUST_CHECK enum status json_parse_text(const char *text, size_t n, const char *where, json_t **out,
                                       struct err *e);

MUST_CHECK enum status json_get_string(const json_t *object, const char *key, const char **out,
                                       const char *where, struct err *e); /* lives in the object */
MUST_CHECK enum status json_get_int(const json_t *object, const char *key, int64_t *out,
                                    const char *where, struct err *e);
MUST_CHECK enum status json_get_double(const json_t *object, const char *key, double *out,
                                       const char *where, struct err *e); /* integers too */
MUST_CHECK enum status json_get_bool(const json_t *object, const char *key, int *out,
                                     const char *where, struct err *e);

/* The value on one line, without a newline, appended to `out`. ERR_MEMORY (or over the buffer's
 * cap). */
MUST_CHECK enum status json_append_text(const json_t *value, struct buf *out, struct err *e);

/* Pretty (indent 2), a newline behind, by io_write_file. ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status json_write_file(const json_t *value, const char *path, struct err *e);

#endif

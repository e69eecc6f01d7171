/* fingerprint.h - what must be the same for a resumed run to be the uninterrupted one.
 *
 * A list of named texts (dataset hash, seed, BLAS and its thread count, ...) stored with a
 * checkpoint in cria_state.json, {"format": 1, "fingerprint": {key: value}, "state": {...}}. On
 * resume the run makes its own and compares; the first difference is an error that names the key
 * and both values. `state` is not compared: it is what the run carries from step to step beside its
 * tensors, and whoever put it there reads it back.
 */
#ifndef CRIA_CKPT_FINGERPRINT_H
#define CRIA_CKPT_FINGERPRINT_H

#include <jansson.h>

#include "base/status.h"

#define FINGERPRINT_FILE "cria_state.json"

struct fingerprint {
    json_t *values; /* owned; NULL: empty */
    json_t *state;  /* owned, an object to write; NULL: none */
};

void fingerprint_free(struct fingerprint *f); /* a zeroed one is fine */

/* Sets a value (UTF-8), printf-like; setting a key again replaces it. ERR_MEMORY. */
MUST_CHECK enum status fingerprint_set(struct fingerprint *f, struct err *e, const char *key,
                                       const char *fmt, ...) PRINTF_LIKE(4, 5);

/* ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status fingerprint_write(const struct fingerprint *f, const char *path,
                                         struct err *e);

/* Compares with the file. ERR_CONFIG (something differs, or is on one side only), ERR_IO,
 * ERR_FORMAT, ERR_MEMORY. */
MUST_CHECK enum status fingerprint_check(const struct fingerprint *f, const char *path,
                                         struct err *e);

/* The state in the file, a new reference; an empty object if it has none. ERR_IO, ERR_FORMAT,
 * ERR_MEMORY. */
MUST_CHECK enum status fingerprint_read_state(json_t **out, const char *path, struct err *e);

#endif

/* vocab.h - spellings and their ids, both ways.
 *
 * Spellings are any bytes, no two alike, at least one byte long; ids are small and may have gaps.
 */
#ifndef CRIA_DATA_TOKENIZER_VOCAB_H
#define CRIA_DATA_TOKENIZER_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define VOCAB_TEXT_MAX ((size_t)1 << 31) /* bytes of all spellings together */

struct vocab_entry {
    uint32_t start, length; /* in `text`; length 0: no such id */
};

struct vocab_slot {
    int32_t id;   /* -1: free */
    uint32_t tag; /* upper half of the spelling's hash: most strangers are told by it alone */
};

struct vocab {
    char *text;                  /* the spellings end to end */
    size_t text_len, text_cap;   /* bytes */
    struct vocab_entry *entries; /* by id */
    int32_t size, cap;           /* highest id + 1 */
    struct vocab_slot *slots;    /* open addressing */
    size_t slot_count, used;     /* slot_count is a power of two */
};

void vocab_free(struct vocab *v); /* zeroed is fine */

enum vocab_put { VOCAB_PUT, VOCAB_ID_TAKEN, VOCAB_SPELLING_TAKEN, VOCAB_NO_MEMORY };

/* Room for `n` spellings in all, so that adding them is quick. 0 or VOCAB_NO_MEMORY. */
MUST_CHECK enum vocab_put vocab_reserve(struct vocab *v, size_t n);

/* Adds a spelling of n > 0 bytes under id >= 0. The caller has bounded the id. */
MUST_CHECK enum vocab_put vocab_put(struct vocab *v, int32_t id, const char *text, size_t n);

int32_t vocab_find(const struct vocab *v, const char *text, size_t n); /* -1: absent */

/* The spelling of an id, its length in *n; NULL and 0 when there is none. */
static inline const char *vocab_text(const struct vocab *v, int32_t id, size_t *n)
{
    *n = id < 0 || id >= v->size ? 0 : v->entries[id].length;
    return *n ? v->text + v->entries[id].start : NULL;
}

#endif

/* normalize.h - what a tokenizer does to the text before it looks for pieces.
 *
 * A short list of steps, applied in order to each stretch between added tokens.
 */
#ifndef CRIA_DATA_TOKENIZER_NORMALIZE_H
#define CRIA_DATA_TOKENIZER_NORMALIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define NORMALIZER_STEPS 8
#define NORMALIZER_STRING 32 /* bytes of a prefix or of a replaced string, with its zero */

enum normalizer_kind {
    NORMALIZE_PREPEND,      /* `to` in front, where a prefix may go */
    NORMALIZE_REPLACE,      /* every `from` becomes `to` */
    NORMALIZE_NFC,          /* canonical composition */
    NORMALIZE_SENTENCEPIECE /* the rules of a .model: see the fields below */
};

struct normalizer_step {
    enum normalizer_kind kind;
    char from[NORMALIZER_STRING], to[NORMALIZER_STRING];
    int add_prefix, remove_extra; /* NORMALIZE_SENTENCEPIECE: dummy prefix; white space is trimmed
                                     and runs of it shortened to one */
};

struct normalizer { /* zeroed: changes nothing */
    struct normalizer_step steps[NORMALIZER_STEPS];
    int count;
};

struct normalizer_work { /* init with normalizer_work_init */
    struct buf a, b;
    int32_t *chars;
    size_t char_cap;
};

void normalizer_work_init(struct normalizer_work *w);
void normalizer_work_free(struct normalizer_work *w);

/* Normalizes text[0..n), well-formed UTF-8. *out points into `text` or `w` and lives as long as
 * both are left alone. `text_start`: nothing comes before (white space is trimmed there); `prefix`:
 * a prefix may go in front. ERR_MEMORY, ERR_FORMAT (over the buffers' cap). */
MUST_CHECK enum status normalizer_apply(const struct normalizer *z, struct normalizer_work *w,
                                        const char *text, size_t n, int text_start, int prefix,
                                        const char **out, size_t *out_n);

/* The version of utf8proc in use: "2.8.0". */
const char *normalize_library_version(void);

#endif

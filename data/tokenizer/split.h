/* split.h - cutting a text at the matches of a regular expression.
 *
 * The expressions of tokenizer.json are written for Oniguruma, those of tiktoken for Rust; PCRE2
 * runs them here, with \s spelled out, since its own \s also takes U+180E.
 */
#ifndef CRIA_DATA_TOKENIZER_SPLIT_H
#define CRIA_DATA_TOKENIZER_SPLIT_H

#include <stddef.h>

#include "base/status.h"

struct splitter;         /* const once made; heap */
struct splitter_scratch; /* one a thread; heap */

extern const char split_gpt2_pattern[];   /* of a ByteLevel pre-tokenizer with use_regex */
extern const char split_llama3_pattern[]; /* of Meta's tokenizer.model for Llama 3 */

/* `literal`: the pattern is plain text. ERR_MEMORY; ERR_UNSUPPORTED for what PCRE2 does not take.
 */
MUST_CHECK enum status splitter_create(struct splitter **out, const char *pattern, int literal,
                                       struct err *e);
void splitter_destroy(struct splitter *s); /* NULL is fine */

struct splitter_scratch *splitter_scratch_create(void); /* NULL without memory */
void splitter_scratch_destroy(struct splitter_scratch *s);

enum { SPLIT_NO_MEMORY = -1, SPLIT_TOO_MUCH = -2 /* for the engine's limits */ };

/* The first match in text[at..n), which is well-formed UTF-8: 1 and its bounds, 0 for none, or one
 * of the negative values above.
 * Empty matches are passed over. */
int splitter_find(const struct splitter *s, struct splitter_scratch *scratch, const char *text,
                  size_t n, size_t at, size_t *start, size_t *end);

/* The version of PCRE2 in use: "10.42 2022-12-11". */
void split_library_version(char *out, size_t size);

#endif

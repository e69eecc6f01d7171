/* split.h - cutting a text at the matches of a regular expression.
 *
 * The expressions of tokenizer.json are written for Oniguruma, those of tiktoken for Rust. The
 * known ones are compiled by hand (scan.h); PCRE2 runs the others, and is what the known ones are
 * held against, with \s spelled out, since its own \s also takes U+180E.
 */
#ifndef CRIA_DATA_TOKENIZER_SPLIT_H
#define CRIA_DATA_TOKENIZER_SPLIT_H

#include <stddef.h>

#include "base/status.h"

struct splitter;         /* const once made; heap */
struct splitter_scratch; /* one a thread; heap */

enum split_kind {
    SPLIT_PATTERN,
    SPLIT_LITERAL,  /* the pattern is plain text */
    SPLIT_REFERENCE /* a pattern, run by PCRE2 even if it is a known one */
};

/* ERR_MEMORY; ERR_FORMAT (no UTF-8); ERR_UNSUPPORTED for what PCRE2 does not take. */
MUST_CHECK enum status splitter_create(struct splitter **out, const char *pattern,
                                       enum split_kind kind, struct err *e);
void splitter_destroy(struct splitter *s); /* NULL is fine */

struct splitter_scratch *splitter_scratch_create(void); /* NULL without memory */
void splitter_scratch_destroy(struct splitter_scratch *s);

enum { SPLIT_NO_MEMORY = -1, SPLIT_TOO_MUCH = -2 /* for the engine's limits */ };

/* Cuts text[at..n), well-formed UTF-8, where matches begin and end: ends[] of the next pieces, at
 * most `max` >= 2 of them, and how many; 0 at the end of the text, or one of the negative values
 * above. Empty matches cut nothing. */
int splitter_cut(const struct splitter *s, struct splitter_scratch *scratch, const char *text,
                 size_t n, size_t at, size_t *ends, int max);

/* The version of PCRE2 in use: "10.42 2022-12-11". */
void split_library_version(char *out, size_t size);

#endif

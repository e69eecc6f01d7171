/* pattern.h - the strings of a template, taken apart; private to data/template.
 *
 * A pattern is text with names in braces: {content}, {input}, {bos}, {eos}, or a special token as
 * the tokenizer spells it, {<|name|>}. "{{" is one brace of text; a brace without its partner is
 * text too.
 */
#ifndef CRIA_DATA_TEMPLATE_PATTERN_H
#define CRIA_DATA_TEMPLATE_PATTERN_H

#include "data/template/template.h"

/* One element: a name or a stretch of literal text. */
struct element {
    const char *s; /* without the braces */
    size_t n;
    int is_name;
};

/* The element at *p, which moves behind it; 0 at the end. */
int pattern_next(const char **p, struct element *out);

int element_is(const struct element *x, const char *name);
int element_is_token(const struct element *x); /* {bos}, {eos} or a special token */

/* How often the pattern has {name}. */
int pattern_count(const char *pattern, const char *name);

/* What a pattern is: of a turn's text, so it holds {content} once; needed in a file; in a file also
 * written {prefix, suffix}. */
enum pattern_use { USE_CONTENT = 1, USE_NEEDED = 2, USE_ROLE = 4 };

/* The fields of a row: those that are patterns, those that are text as it is, and the flags. One
 * list for hashing, reading and writing. */
#define TEMPLATE_PATTERNS(X)                       \
    X(start, 0)                                    \
    X(system, USE_CONTENT | USE_NEEDED | USE_ROLE) \
    X(user, USE_CONTENT | USE_NEEDED | USE_ROLE)   \
    X(user_input, USE_CONTENT)                     \
    X(tool, USE_CONTENT | USE_ROLE)                \
    X(between, 0)                                  \
    X(prompt, 0)                                   \
    X(reply, USE_CONTENT | USE_NEEDED)             \
    X(last_reply, USE_CONTENT)                     \
    X(tail, 0)                                     \
    X(end, 0)
#define TEMPLATE_TEXTS(X) \
    X(default_system)     \
    X(default_system_input)
#define TEMPLATE_FLAGS(X) \
    X(strip)              \
    X(system_in_user)     \
    X(skip_empty_system)

#endif

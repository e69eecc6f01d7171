/* tok_lists.h - the vocabulary and the merges of a tokenizer.json, read where they stand.
 *
 * They are nearly all of the file: Llama 3's have 128 and 280 thousand entries, and a tree of them
 * takes longer to build than everything else together. So they are found by their brackets, left
 * out of what jansson parses, and read by a walk over the text. The walk is as strict as jansson;
 * it does not say what is wrong with text that is no JSON, since jansson, given all of it, does.
 */
#ifndef CRIA_DATA_TOKENIZER_TOK_LISTS_H
#define CRIA_DATA_TOKENIZER_TOK_LISTS_H

#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"

struct token_list {          /* zeroed: not there, or no list */
    const char *start, *end; /* the text between the brackets */
    size_t count;            /* entries, if it is JSON */
};

struct token_lists {
    struct token_list vocab, merges; /* model.vocab, an object; model.merges, an array */
};

/* Finds them in well-formed UTF-8. Of a text that is no JSON, anything or nothing. */
void token_lists_find(const char *text, size_t n, struct token_lists *out);

/* Appends the text without them. ERR_MEMORY, ERR_FORMAT (over the buffer's cap). */
MUST_CHECK enum status token_lists_rest(const char *text, size_t n, const struct token_lists *l,
                                        struct buf *out);

struct token_text {
    const char *data; /* valid until the next call */
    size_t n;
};

/* A walk over a list; buf_init both. */
struct token_walk {
    const char *at, *end;
    int begun;
    struct buf scratch[2]; /* strings with escapes */
};

enum token_walk_result { WALK_ENTRY, WALK_END, WALK_BAD, WALK_NO_MEMORY };

/* The next "spelling": id; -1 for what is no number like an id, behind which the walk ends. */
enum token_walk_result token_walk_vocab(struct token_walk *w, struct token_text *spelling,
                                        long long *id);

/* The next merge, "left right" or ["left", "right"]; "#version..." is passed over. A string
 * without exactly one space is bad. */
enum token_walk_result token_walk_merge(struct token_walk *w, struct token_text part[2]);

#endif

/* token_view.h - a document's tokens as text a person can look at.
 *
 *     struct token_view v;
 *     token_view_init(&v, tokenizer, &document);
 *     while (v.at < end) { if (token_view_next(&v, end, &cell, &e)) ...; show the cell }
 *     token_view_free(&v);
 *
 * A cell is the smallest run of tokens that is text: mostly one token, several where a character
 * is made of more than one. Its bytes are as the tokenizer has them: hostile, not always UTF-8.
 * Special tokens appear as they are spelled. Without a tokenizer a cell is the id as a number.
 */
#ifndef CRIA_RUN_TOKEN_VIEW_H
#define CRIA_RUN_TOKEN_VIEW_H

#include "data/samples/sample.h"
#include "data/tokenizer/tokenizer.h"

struct token_cell {
    const char *bytes; /* valid until the next cell; not terminated */
    size_t n;
    size_t first, count; /* tokens of the document */
    float weight;        /* of all of them */
    int special;
};

struct token_view {
    const struct tokenizer *tokenizer; /* NULL: ids */
    const struct sample *document;
    size_t at; /* the next token */
    struct buf bytes;
};

void token_view_init(struct token_view *v, const struct tokenizer *t,
                     const struct sample *document);
void token_view_free(struct token_view *v);

/* The cell that begins at v->at, which must be below `end`; it ends at `end` at the latest.
 * ERR_MEMORY, ERR_DATA (an id outside the vocabulary). */
MUST_CHECK enum status token_view_next(struct token_view *v, size_t end, struct token_cell *out,
                                       struct err *e);

#endif

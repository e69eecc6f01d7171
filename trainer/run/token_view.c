#include "run/token_view.h"

#include "data/tokenizer/utf8.h"

#define BYTES_MAX ((size_t)1 << 24)
#define TOKENS_MAX 8 /* of a cell: a character has four bytes, some tokens have none */

void token_view_init(struct token_view *v, const struct tokenizer *t, const struct sample *document)
{
    *v = (struct token_view){.tokenizer = t, .document = document};
    buf_init(&v->bytes, BYTES_MAX);
}

void token_view_free(struct token_view *v) { buf_free(&v->bytes); }

/* Whether the bytes stop inside a character that may still become one. */
static int is_open(const struct buf *b)
{
    const unsigned char *p = (const unsigned char *)b->data;
    size_t back = 1;
    while (back < 4 && back <= b->len && (p[b->len - back] & 0xC0) == 0x80) back++;
    if (!b->len || back > b->len) return 0;
    unsigned char lead = p[b->len - back];
    return lead >= 0xC2 && lead < 0xF5 && utf8_length(lead) > back;
}

static enum status add_token(struct token_view *v, int32_t id, int special, struct err *e)
{
    enum status s;
    if (!v->tokenizer)
        s = buf_printf(&v->bytes, "%d ", (int)id);
    else if (id >= tokenizer_vocab_size(v->tokenizer))
        return err_set(e, ERR_DATA, "id %d is not in the tokenizer's vocabulary", (int)id);
    else if (special)
        return tokenizer_decode(v->tokenizer, &id, 1, 0, &v->bytes, e);
    else
        s = tokenizer_token_bytes(v->tokenizer, id, 0, &v->bytes);
    return s ? err_set(e, s, "no memory for a token's text") : OK;
}

enum status token_view_next(struct token_view *v, size_t end, struct token_cell *out, struct err *e)
{
    const struct sample *d = v->document;
    buf_clear(&v->bytes);
    *out = (struct token_cell){.first = v->at, .weight = d->weights[v->at]};
    out->special = v->tokenizer && tokenizer_is_special(v->tokenizer, d->ids[v->at]);
    do {
        TRY(add_token(v, d->ids[v->at], out->special, e));
        v->at++;
        out->count++;
    } while (!out->special && is_open(&v->bytes) && out->count < TOKENS_MAX && v->at < end &&
             d->weights[v->at] == out->weight &&
             !(v->tokenizer && tokenizer_is_special(v->tokenizer, d->ids[v->at])));
    out->bytes = v->bytes.data ? v->bytes.data : "";
    out->n = v->bytes.len;
    return OK;
}

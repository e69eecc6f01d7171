/* decode.h - from tokens' spellings back to text: a list of steps over a list of pieces.
 *
 * Each step turns the pieces into new ones; the text is what stands in them at the end, joined.
 * This is how tokenizer.json states it, so any order of steps does what the reference does.
 */
#ifndef CRIA_DATA_TOKENIZER_DECODE_H
#define CRIA_DATA_TOKENIZER_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define DECODER_STEPS 8
#define DECODER_STRING 32 /* bytes, with the zero */

enum decoder_kind {
    DECODE_REPLACE,       /* `from` becomes `to` in each piece */
    DECODE_BYTE_FALLBACK, /* <0xHH> pieces become characters; a run that is no UTF-8, U+FFFD each */
    DECODE_FUSE,          /* all pieces become one */
    DECODE_STRIP,         /* up to `start` times `from` goes in front, `stop` times behind */
    DECODE_BYTE_LEVEL,    /* the byte map back; all pieces become one, ill-formed parts U+FFFD */
    DECODE_METASPACE,     /* `from` becomes a space; with `start`, nothing in the first piece */
    DECODE_JOIN,          /* pieces with a space between (what having no decoder means) */
};

struct decoder_step {
    enum decoder_kind kind;
    char from[DECODER_STRING], to[DECODER_STRING];
    int start, stop;
};

struct decoder {
    struct decoder_step steps[DECODER_STEPS];
    int count;
};

struct piece_list {
    struct buf text;
    size_t *ends; /* piece i is text[ends[i-1] .. ends[i]) */
    size_t count, cap;
};

void piece_list_init(struct piece_list *p);
void piece_list_free(struct piece_list *p);
MUST_CHECK enum status piece_list_add(struct piece_list *p, const char *text, size_t n);

/* `stream`: the pieces are one token of many; bytes stay bytes, and what is stripped or joined at
 * the text's start is so only if `first`. */
struct decode_mode {
    int stream, first;
};

/* Applies the steps to `pieces`, which changes. ERR_MEMORY; ERR_FORMAT over the buffers' cap. */
MUST_CHECK enum status decoder_apply(const struct decoder *d, struct piece_list *pieces,
                                     struct decode_mode mode);

#endif

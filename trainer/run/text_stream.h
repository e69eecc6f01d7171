/* text_stream.h - bytes that come in pieces, handed on in whole characters.
 *
 * A token may end inside a character; whoever prints tokens as they come would print half of it.
 * The stream holds such bytes until the rest has come. What can never become a character is
 * replaced by U+FFFD, as the tokenizer's decoder does for the whole text.
 */
#ifndef CRIA_RUN_TEXT_STREAM_H
#define CRIA_RUN_TEXT_STREAM_H

#include "base/buf.h"

struct text_stream { /* zero-initialise */
    char held[4];
    size_t num_held;
};

/* Appends to `out` the characters that are whole with these bytes. Fails as buf_append does. */
MUST_CHECK enum status text_stream_push(struct text_stream *s, const char *bytes, size_t n,
                                        struct buf *out);
/* The text is over: appends U+FFFD if bytes are still held. */
MUST_CHECK enum status text_stream_end(struct text_stream *s, struct buf *out);

#endif

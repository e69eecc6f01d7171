/* tokenize.h - text to ids and back, from stream to stream. */
#ifndef CRIA_RUN_TOKENIZE_H
#define CRIA_RUN_TOKENIZE_H

#include <stdio.h>

#include "base/status.h"

struct tokenize_options {
    const char *tokenizer; /* model directory or tokenizer file */
    int lines;             /* each line is a text of its own */
    int decode;            /* ids, separated by spaces, to text */
    int no_special; /* encoding: no BOS or EOS is added; decoding: special tokens are left out */
};

/* Reads `in` to its end. ERR_IO, ERR_FORMAT (no ids; input too large), ERR_DATA (an id outside the
 * vocabulary), ERR_MEMORY, and what opening the tokenizer can fail with. */
MUST_CHECK enum status tokenize_stream(const struct tokenize_options *o, FILE *in, FILE *out,
                                       struct err *e);

#endif

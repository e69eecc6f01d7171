/* tokenizer_files.h - small tokenizer files written by hand: a SentencePiece model, tiktoken ranks.
 */
#ifndef CRIA_TESTS_SUPPORT_TOKENIZER_FILES_H
#define CRIA_TESTS_SUPPORT_TOKENIZER_FILES_H

#include <stddef.h>

/* Protobuf bytes in the making. */
struct proto_out {
    char bytes[4096];
    size_t n;
};

void put_byte(struct proto_out *p, int byte);
void put_body(struct proto_out *p, int field, const char *body, size_t n);
void put_number(struct proto_out *p, int field, int value);
void put_piece(struct proto_out *p, const char *text, float score, int type);

/* Fields of the trainer's and the normalizer's specification. */
struct spec {
    int type, bytes, prefix, remove_extra, suffix, charsmap;
};

/* Eleven pieces: controls, bytes, "ab", "a", the space and what is made of them. */
struct proto_out sp_model(struct spec spec);

/* One line of a rank file; returns its length. */
size_t put_rank(char *out, const char *raw, size_t n, int rank);

/* 256 bytes in order and four longer tokens, as a rank file; returns its length. */
size_t ranks(char *out);

#endif

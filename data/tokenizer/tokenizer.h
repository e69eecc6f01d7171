/* tokenizer.h - text to ids and back, exactly as the reference tokenizers do it.
 *
 * A `struct tokenizer` is a const model: threads may share it. What one encode needs
 * on the side lives in a `struct tokenizer_scratch` of the caller's, one a thread.
 * Ids are appended to a growable list of the caller's.
 *
 *     struct tokenizer *t;
 *     if (tokenizer_open(&t, "dir", &e)) ...
 *     struct tokenizer_scratch *s = tokenizer_scratch_create();
 *     struct id_list ids = {0};
 *     if (tokenizer_encode(t, s, text, n, TOK_TEXT_START, &ids, &e)) ...
 *
 * Supervision is cut by segments, so text comes in pieces: the flags say whether a
 * piece is the text's start (where a dummy prefix may go) and whether added tokens in it are
 * recognised. No BOS or EOS is ever added here; tokenizer_bos and _eos tell the ids.
 */
#ifndef CRIA_DATA_TOKENIZER_H
#define CRIA_DATA_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/hash.h"
#include "base/status.h"

struct tokenizer;         /* const once open; heap */
struct tokenizer_scratch; /* one a thread; heap */

struct id_list {
    int32_t *ids;
    size_t len, cap;
};

void id_list_free(struct id_list *l);
MUST_CHECK enum status id_list_reserve(struct id_list *l, size_t more); /* ERR_MEMORY */
MUST_CHECK enum status id_list_append(struct id_list *l, const int32_t *ids,
                                      size_t n); /* ERR_MEMORY */

enum tokenizer_flags {
    TOK_TEXT_START = 1, /* this piece begins the text: a dummy prefix may apply */
    TOK_PLAIN = 2, /* added tokens in the text are plain text (their characters are tokenized) */
    TOK_AFTER_ADDED = 4, /* the piece before ended in an added token: a legacy tokenizer, which puts
                            its prefix behind each of them, puts it here too */
};

/* A model directory (tokenizer.json preferred, then tokenizer.model; tokenizer_config.json and
 * special_tokens_map.json for BOS, EOS and whether a BOS is put first) or one of those files.
 * Where no file names BOS and EOS, special tokens of the usual spellings are taken for them; a
 * .model and Llama 3's ranks put a BOS first unless tokenizer_config.json says otherwise.
 * ERR_IO, ERR_FORMAT, ERR_MEMORY, ERR_UNSUPPORTED (a kind of tokenizer cria has no code for). */
MUST_CHECK enum status tokenizer_open(struct tokenizer **out, const char *path, struct err *e);
void tokenizer_close(struct tokenizer *t); /* NULL is fine */

struct tokenizer_scratch *tokenizer_scratch_create(void); /* NULL without memory */
void tokenizer_scratch_destroy(struct tokenizer_scratch *s);

/* Appends the ids of text[0..n). Any bytes are taken; ill-formed UTF-8 is first replaced by U+FFFD,
 * one per maximal ill-formed prefix. ERR_MEMORY; ERR_DATA when a character has no token and there
 * is no unknown token. */
MUST_CHECK enum status tokenizer_encode(const struct tokenizer *t, struct tokenizer_scratch *s,
                                        const char *text, size_t n, unsigned flags,
                                        struct id_list *out, struct err *e);

/* Appends the text of ids[0..n) to `out`, as the reference decoder does (skip_special leaves out
 * special tokens; of a SentencePiece .model they are never visible). ERR_MEMORY; ERR_DATA for an id
 * outside the vocabulary. */
MUST_CHECK enum status tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                                        int skip_special, struct buf *out, struct err *e);

/* The bytes one token stands for, as a streaming decoder prints it ("" for special ones):
 * appended to `out`. `first`: nothing was printed before (a leading space is dropped where the
 * decoder drops it). The bytes may end inside a character. */
MUST_CHECK enum status tokenizer_token_bytes(const struct tokenizer *t, int32_t id, int first,
                                             struct buf *out);

int32_t tokenizer_vocab_size(const struct tokenizer *t); /* highest id + 1, added tokens included */
int32_t tokenizer_bos(const struct tokenizer *t);        /* -1: none */
int32_t tokenizer_eos(const struct tokenizer *t);        /* -1: none */
int tokenizer_adds_bos(const struct tokenizer *t);       /* plain text starts with BOS */
int tokenizer_adds_eos(const struct tokenizer *t);       /* plain text ends with EOS (rare) */
int32_t tokenizer_find(const struct tokenizer *t, const char *token); /* id of a token's literal
                                                            spelling in the vocabulary, -1: none */
int tokenizer_is_special(const struct tokenizer *t, int32_t id); /* an added token marked special */
const char *tokenizer_hash(const struct tokenizer *t); /* of all that decides ids: 32 hex digits */
const char *tokenizer_chat_template(const struct tokenizer *t); /* Jinja of tokenizer_config.json or
                                                            chat_template.jinja; NULL */

/* The same of a directory, whose tokenizer is left alone. The caller mem_frees *out; NULL: there is
 * none. ERR_IO, ERR_FORMAT, ERR_MEMORY. */
MUST_CHECK enum status tokenizer_read_chat_template(const char *dir, char **out, struct err *e);

#endif

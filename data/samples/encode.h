/* encode.h - a conversation to ids, its supervision made with them.
 *
 * The text is cut only at special tokens and where supervision changes; each stretch is
 * tokenized as one piece. So the ids up to a reply in training are the ids of the generation prompt
 * at inference: encoder_sample and encoder_prompt share all their code. Special tokens of the
 * template are put by id; special tokens spelled out in somebody's text are recognised, as the
 * reference tokenizers do.
 *
 * With tokenize_whole (Stanford, TRL) text is cut at special tokens only, and a stretch's
 * supervision changes behind as many ids as the text up to there has when it is tokenized alone.
 * Then a merge over the boundary is possible, and prompts end as inference does not see them.
 *
 * BOS: as template.h says. The same conversation, template, tokenizer and options give the same
 * sample, always.
 */
#ifndef CRIA_DATA_ENCODE_H
#define CRIA_DATA_ENCODE_H

#include "base/status.h"
#include "data/formats/conversation.h"
#include "data/samples/sample.h"
#include "data/template/template.h"
#include "data/tokenizer/tokenizer.h"

/* Whose labels are reproduced: nobody's; FastChat's (fastchat.h), of the template vicuna,
 * tokenized whole; TRL's, where text behind a reply's end token is trained too (template.h: tail).
 */
enum compat { COMPAT_NONE, COMPAT_FASTCHAT, COMPAT_TRL };

struct encode_options {
    enum train_on train_on;
    int tokenize_whole;
    enum compat compat;
    int32_t max_length; /* COMPAT_FASTCHAT alone: its labels depend on where it truncates */
};

struct encoder; /* heap; one a thread */

/* For `t` (NULL: plain conversations only) over `tok`, both of which must outlive it. ERR_MEMORY;
 * ERR_CONFIG: the tokenizer lacks a special token that the template needs (the message names it);
 * COMPAT_FASTCHAT with another template than vicuna, another EOS than </s>, or other turns than
 * replies to train on. */
MUST_CHECK enum status encoder_create(struct encoder **out, const struct template *t,
                                      const struct tokenizer *tok,
                                      const struct encode_options *options, struct err *e);
void encoder_destroy(struct encoder *n); /* NULL is fine */

/* Clears *out and fills it (but for source and line). ERR_MEMORY, ERR_FORMAT (over a GiB of text),
 * ERR_CONFIG (plain text and no EOS; a template is needed and there is none), ERR_DATA (as
 * tokenizer_encode). */
MUST_CHECK enum status encoder_sample(struct encoder *n, const struct conversation *c,
                                      struct sample *out, struct err *e);

/* A preference record: its prompt, then each reply it has. The prompt's ids are those that
 * encoder_prompt gives, a reply's are what encoder_sample gives behind them up to the last trained
 * one, its end token. With tokenize_whole, as TRL does it: prompt and reply are tokenized together,
 * and the replies start where the prompt's own ids and those of a whole first differ (of two
 * replies, the earlier place).
 * Sets c->drop, and leaves *out of no use, when nothing precedes the replies (DROP_NO_PROMPT) or
 * two replies have the same ids (DROP_IDENTICAL). Errors as encoder_sample; ERR_CONFIG: train_on
 * is all, or COMPAT_FASTCHAT. */
MUST_CHECK enum status encoder_preference(struct encoder *n, struct conversation *c,
                                          struct sample *out, struct err *e);

/* Appends the ids of the generation prompt: `c` ends with a user turn (or is a plain one without
 * its completion). Errors as encoder_sample. */
MUST_CHECK enum status encoder_prompt(struct encoder *n, const struct conversation *c,
                                      struct id_list *out, struct err *e);

/* The ids at which generation stops: the template's end token, then the tokenizer's EOS where it
 * is another. Valid as long as the encoder. */
size_t encoder_end_ids(const struct encoder *n, const int32_t **out);

/* The text of the last encoder_sample or encoder_prompt, for the curious; valid until the next. */
const struct rendered *encoder_text(const struct encoder *n);

#endif

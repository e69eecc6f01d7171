/* fastchat.h - what FastChat's trainer labels (fastchat/train/train.py, preprocess), reproduced
 * with its slips, to repeat a run of theirs (SEMANTICS A and J 3):
 *
 * The text is split at "</s>" into turns and each of these at " ASSISTANT: ". A cursor, first
 * behind the BOS, goes over the ids of the whole by the lengths that the turns have when they are
 * tokenized alone; from it on as many are masked as the question has alone, less two (and less one
 * more behind the first turn, by a tokenizer that is not legacy, where the cursor goes back by one
 * as well). A turn that does not split into two ends it, and the rest is masked. If the cursor does
 * not stand where the ids that are no <unk> end, the whole row is masked, unless it is behind
 * max_length.
 */
#ifndef CRIA_DATA_FASTCHAT_H
#define CRIA_DATA_FASTCHAT_H

#include "base/buf.h"
#include "base/status.h"
#include "data/samples/sample.h"
#include "data/tokenizer/tokenizer.h"

struct fastchat {
    const struct tokenizer *tok;
    struct tokenizer_scratch *scratch;
    struct id_list *ids; /* to work with */
    int32_t max_length;  /* where their tokenizer truncates */
    int unanswered;      /* their text has one more question behind this one */
};

/* Sets the weights of `s`, the ids of `text` tokenized whole. ERR_MEMORY, ERR_DATA. */
MUST_CHECK enum status fastchat_label(const struct fastchat *f, const struct buf *text,
                                      struct sample *s, struct err *e);

#endif

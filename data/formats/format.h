/* format.h - the forms in which people keep instruction data, as rows of one table.
 *
 * A row knows the fields that make a record its own and turns such a record into a conversation.
 * `auto` is not a row: format_detect votes over the first records of a file.
 *
 *   alpaca             {instruction, input?, output, system?}
 *   sharegpt           {conversations: [{from, value}], system?}
 *   openorca           {system_prompt?, question, response}
 *   openai             {messages: [{role, content}]}; content a string, or parts of type text
 *   prompt_completion  {prompt, completion}: no template, the completion is trained
 *   text               {text}: no template, all of it is trained
 *
 * Of preferences, pairs:
 *
 *   orca_pairs         {system?, question, chosen, rejected}
 *   alpaca_pairs       {instruction, input?, chosen, rejected, system?}
 *   sharegpt_pairs     {conversations: [{from, value}], chosen: {from, value}, rejected: ...,
 * system?} message_pairs      {prompt?, chosen: [{role, content}], rejected: [...]}
 * (UltraFeedback): all but the last message of each is the prompt. Where `prompt` is a list of
 *                      messages, it goes before these (TRL)
 *   azure_pairs        {input: {messages}, preferred_output: [message], non_preferred_output: ...}
 *   transcript_pairs   {chosen, rejected}: "\n\nHuman: ...\n\nAssistant: ..." (HH-RLHF), split
 *                      behind the last "\n\nAssistant:" that both begin with
 *   prompt_pairs       {prompt, chosen, rejected}: texts, no template
 *
 * and unpaired, where true is desirable:
 *
 *   prompt_label       {prompt, completion, label}: texts, no template; or lists of messages
 *   openai_label       {messages, label or kto_tag}: the last message is the reply
 *   sharegpt_label     {conversations, label or kto_tag, system?}
 *
 * Fields that a row does not know are ignored, but for weights: a message's `weight` or
 * `loss_weight` is what its reply counts, and `train: false` means 0. null is as good as absent,
 * an absent optional field as good as "". `auto` takes a record that has `chosen`, `rejected`,
 * `preferred_output`, `label` or `kto_tag` for a preference.
 */
#ifndef CRIA_DATA_FORMAT_H
#define CRIA_DATA_FORMAT_H

#include <jansson.h>

#include "base/status.h"
#include "data/formats/conversation.h"

#define FORMAT_DETECT_RECORDS 16 /* how many records `auto` looks at */

struct format {
    const char *name;
    const char *fields; /* for help and messages: "{instruction, input, output}" */
    enum record_kind kind;

    /* How sure the row is that the record is its own; 0: it is not. */
    int (*detect)(const json_t *record);

    /* Fills a cleared conversation with turns that point into the record, which must outlive
     * them; where the record is of no use, out->drop says why. The caller runs conversation_finish.
     * ERR_FORMAT: a field is missing or of the wrong type (the message names it); ERR_MEMORY. */
    enum status (*convert)(const json_t *record, struct conversation *out, struct err *e);
};

/* The row of that name (or of a usual other spelling), NULL if none. */
const struct format *format_find(const char *name);

const struct format *format_at(size_t i); /* NULL behind the last */

/* The row that fits the records of the file best. ERR_DATA: none does, or no record is readable
 * (the message lists the fields seen and the forms known); ERR_IO, ERR_FORMAT, ERR_MEMORY. */
MUST_CHECK enum status format_detect(const char *path, size_t max_record, const struct format **out,
                                     struct err *e);

/* Clears `out`, converts and finishes. ERR_FORMAT, ERR_MEMORY. */
MUST_CHECK enum status format_convert(const struct format *f, const json_t *record,
                                      struct conversation *out, struct err *e);

#endif

/* format.h - the forms in which people keep instruction data, as rows of one table.
 *
 * A row knows the fields that make a record its own and turns such a record into a conversation.
 * `auto` is not a row: format_detect votes over the first records of a file.
 *
 *   alpaca             {instruction, input?, output, system?, history?: [[question, answer]]}
 *   dolly              {instruction, context?, response}
 *   gpteacher          {instruction, input, response}
 *   longform           {input, output}
 *   self_instruct      {instruction, instances: [{input, output}]}: a conversation an instance
 *   openorca           {system_prompt?, question, response}
 *   sharegpt           {conversations: [{from, value}], system?, tools?}
 *   openai             {messages: [{role, content}], tools?}; content a string, or parts of type
 *                      text; an assistant's tool_calls or function_call, and tool messages
 *   guanaco            {text} or {input, output} of "### Human: ... ### Assistant: ..."
 *   oasst              trees of messages: the best-ranked path of each (trees.h says which forms)
 *   oasst_all          the same: every path
 *   prompt_completion  {prompt, completion or response}: texts, no template, the completion is
 *                      trained; or lists of messages, the completion's replies are trained
 *   text               {text}: no template, all of it is trained
 *
 * Of preferences, pairs:
 *
 *   orca_pairs         {system?, question, chosen, rejected}
 *   alpaca_pairs       {instruction, input?, chosen, rejected, system?}
 *   sharegpt_pairs     {conversations: [{from, value}], chosen: {from, value}, rejected: ...,
 *                      system?}
 *   message_pairs      {prompt?, chosen: [{role, content}], rejected: [...]} (UltraFeedback): all
 *                      but the last message of each is the prompt. Where `prompt` is a list of
 *                      messages, it goes before these (TRL)
 *   azure_pairs        {input: {messages}, preferred_output: [message], non_preferred_output: ...}
 *   transcript_pairs   {chosen, rejected}: "\n\nHuman: ...\n\nAssistant: ..." (HH-RLHF), split
 *                      behind the last "\n\nAssistant:" that both begin with
 *   prompt_pairs       {prompt, chosen, rejected}: texts, no template
 *
 * and unpaired, where true is desirable:
 *
 *   alpaca_label       {instruction, input?, output, label or kto_tag}
 *   prompt_label       {prompt, completion, label}: texts, no template; or lists of messages
 *   openai_label       {messages, label or kto_tag}: the last message is the reply
 *   sharegpt_label     {conversations, label or kto_tag, system?}
 *
 * Fields that a row does not know are ignored, but for weights: a message's `weight` or
 * `loss_weight` is what its reply counts; `train`, `training` or `loss: false` means 0. null is as
 * good as absent, an absent optional field as good as "". `tools` (a list, or its JSON as text)
 * goes behind the system text; a reply's calls are lines of its text, {"name": ..., "arguments":
 * ...}. `auto` takes a record that has `chosen`, `rejected`, `preferred_output`, `label` or
 * `kto_tag` for a preference.
 */
#ifndef CRIA_DATA_FORMAT_H
#define CRIA_DATA_FORMAT_H

#include <jansson.h>

#include "base/status.h"
#include "data/formats/conversation.h"
#include "data/formats/names.h"
#include "data/jsonl/jsonl.h"

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

    int sharegpt;         /* messages are {from, value} in `conversations` */
    const char *group_by; /* records that follow one another with the same text in this field, or
                             have a parent_id and no such field, come as one, {"messages": [...]};
                             NULL: each by itself */
};

/* The row of that name (or of a usual other spelling), NULL if none. */
const struct format *format_find(const char *name);

const struct format *format_at(size_t i); /* NULL behind the last */

/* The row that fits the records of the file best; options and names may be NULL. ERR_DATA: none
 * does, two do as well, or no record is readable (the message says what was seen, the hint what is
 * known); ERR_IO, ERR_FORMAT, ERR_MEMORY. */
MUST_CHECK enum status format_detect(const char *path, const struct jsonl_options *options,
                                     const struct format_names *names, const struct format **out,
                                     struct err *e);

/* Clears `out`, converts and finishes the record's first conversation; while out->more, format_next
 * does so with the next one of the same record. ERR_FORMAT, ERR_MEMORY. */
MUST_CHECK enum status format_convert(const struct format *f, const json_t *record,
                                      struct conversation *out, struct err *e);
MUST_CHECK enum status format_next(const struct format *f, const json_t *record,
                                   struct conversation *out, struct err *e);

#endif

/* preference.h - the rows of the format table that hold preferences; private to data/formats.
 *
 * Per row how sure it is of a record (0: not its own) and the conversion, as format.h says. A
 * conversion leaves the prompt as the conversation's turns and the replies in chosen and rejected.
 * Replies that do not answer the same prompt set DROP_NO_COMMON_PROMPT.
 */
#ifndef CRIA_DATA_PREFERENCE_H
#define CRIA_DATA_PREFERENCE_H

#include <jansson.h>

#include "base/status.h"
#include "data/formats/conversation.h"

#define PREFERENCE_ROWS(X) \
    X(orca_pairs)          \
    X(alpaca_pairs)        \
    X(sharegpt_pairs)      \
    X(message_pairs)       \
    X(azure_pairs)         \
    X(transcript_pairs)    \
    X(prompt_pairs)        \
    X(alpaca_label)        \
    X(prompt_label)        \
    X(openai_label)        \
    X(sharegpt_label)

#define X(name)                                                                           \
    int detect_##name(const json_t *record);                                              \
    MUST_CHECK enum status convert_##name(const json_t *record, struct conversation *out, \
                                          struct err *e);
PREFERENCE_ROWS(X)
#undef X

#endif

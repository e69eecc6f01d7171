/* instruction.h - the rows of the format table that hold texts to learn; private to data/formats.
 *
 * Per row how sure it is of a record (0: not its own) and the conversion, as format.h says. Those
 * of trees of messages are in trees.h, those of preferences in preference.h.
 */
#ifndef CRIA_DATA_INSTRUCTION_H
#define CRIA_DATA_INSTRUCTION_H

#include <jansson.h>

#include "base/status.h"
#include "data/formats/conversation.h"

#define INSTRUCTION_ROWS(X) \
    X(alpaca)               \
    X(dolly)                \
    X(gpteacher)            \
    X(longform)             \
    X(self_instruct)        \
    X(openorca)             \
    X(sharegpt)             \
    X(openai)               \
    X(guanaco)              \
    X(prompt_completion)    \
    X(text)

#define X(name)                                                                           \
    int detect_##name(const json_t *record);                                              \
    MUST_CHECK enum status convert_##name(const json_t *record, struct conversation *out, \
                                          struct err *e);
INSTRUCTION_ROWS(X)
#undef X

#endif

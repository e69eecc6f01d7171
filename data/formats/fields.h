/* fields.h - a record's fields as turns; private to data/formats.
 *
 * What the rows of the format table share. Texts point into the record. Messages say what is wrong
 * with a field; the caller knows which record it is. ERR_FORMAT, ERR_MEMORY everywhere.
 */
#ifndef CRIA_DATA_FIELDS_H
#define CRIA_DATA_FIELDS_H

#include <jansson.h>

#include "base/status.h"
#include "data/formats/conversation.h"

int record_has(const json_t *record, const char *key); /* there, and not null */

/* A string field; null is "". ERR_FORMAT when it is something else, or absent though required. */
MUST_CHECK enum status record_field(const json_t *object, const char *key, int required,
                                    struct text *out, struct err *e);

MUST_CHECK enum status record_add(struct conversation *c, enum role role, struct text text,
                                  struct err *e);

/* The system turn of a field that may be absent; an empty one says nothing. */
MUST_CHECK enum status record_add_system(const json_t *record, const char *key,
                                         struct conversation *c, struct err *e);

/* How a kind of message names its fields. */
struct message_keys {
    const char *role, *text;
};
extern const struct message_keys openai_keys, sharegpt_keys;

/* Appends one message as a turn; calls of tools (tool_calls, function_call) are part of its text, a
 * line each: {"name": ..., "arguments": ...}. A role that no template has, or content that is no
 * text: sets c->drop and appends nothing. */
MUST_CHECK enum status record_add_message(const json_t *message, struct message_keys keys,
                                          struct conversation *c, struct err *e);

/* Appends the messages of the list `key` of an object, up to one that sets c->drop. */
MUST_CHECK enum status record_add_messages(const json_t *object, const char *key,
                                           struct message_keys keys, struct conversation *c,
                                           struct err *e);

/* Puts the descriptions of tools (`tools` or `functions`: a text, or a list written as JSON) behind
 * the system turn's text, or into a system turn of their own: "Tools:" and the JSON on the next
 * line. To be called behind record_add_messages. */
MUST_CHECK enum status record_add_tools(const json_t *record, struct conversation *c,
                                        struct err *e);

/* How a text marks where each speaker begins. */
struct markers {
    const char *user, *assistant;
};

/* Where the next marker is, and its length; t.n where there is none. */
size_t transcript_next(struct text t, struct markers m, size_t *length, enum role *role);

/* Appends the turns of a transcript, stripped; a last one that is blank is left out. Text before
 * the first marker sets c->drop: nobody says it. */
MUST_CHECK enum status record_add_transcript(struct text t, struct markers m,
                                             struct conversation *c, struct err *e);

#endif

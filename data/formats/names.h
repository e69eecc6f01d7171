/* names.h - a dataset's own names for fields and roles.
 *
 * Where a file calls things otherwise than its format's row does, its fields are renamed before the
 * record is converted:
 *
 *     field_instruction: query      the row's "instruction" is the record's "query"
 *     role_user: [human, me]        messages whose role is "human" or "me" are the user's
 *
 * Names of messages (messages, role, content) stand for conversations, from and value too where the
 * row has those. A field that is named so is never taken from elsewhere: where the record lacks
 * "query", it has no instruction.
 */
#ifndef CRIA_DATA_NAMES_H
#define CRIA_DATA_NAMES_H

#include <jansson.h>
#include <stddef.h>

#include "base/status.h"
#include "data/samples/sample.h"

struct format_name {
    const char *ours;   /* "field_instruction", "role_user" */
    const char *theirs; /* "query" */
};

struct format_names {
    const struct format_name *items;
    size_t n; /* 0: the row's own names */
};

/* Whether there is something of that name to be called otherwise. */
int format_name_known(const char *ours);
const char *format_name_at(size_t i); /* all of them; NULL behind the last */

/* Gives the record's members, and those of the messages in it, the row's names; `sharegpt`: the row
 * calls them conversations, from, value. ERR_MEMORY. */
MUST_CHECK enum status format_rename(const struct format_names *names, int sharegpt, json_t *record,
                                     struct err *e);

#endif

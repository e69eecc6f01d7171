/* trees.h - OASST's trees of messages as conversations; private to data/formats.
 *
 * A tree comes nested ({prompt: {text, role, replies}}, or its root message alone) or flat: the
 * messages of one tree, found together in the file and joined to {messages: [...]} (format.h,
 * group_by), each with its parent_id. Of two replies to a message the better one has the lower
 * rank; one without a rank comes behind those with, and the earlier first. Deleted messages, with
 * what hangs on them, are not there.
 *
 *   oasst       the conversation that takes the best reply each time
 *   oasst_all   a conversation from the root to each last message, in the file's order; a reply
 *               that several share is trained in the first of them alone
 */
#ifndef CRIA_DATA_TREES_H
#define CRIA_DATA_TREES_H

#include <jansson.h>

#include "base/status.h"
#include "data/formats/conversation.h"

#define TREE_TURNS_MAX ((size_t)1 << 20) /* over all conversations of a tree */

int detect_oasst(const json_t *record);
int detect_oasst_all(const json_t *record); /* never by itself: it is asked for */

/* ERR_FORMAT (a field missing or of the wrong type, too many turns), ERR_MEMORY. */
MUST_CHECK enum status convert_oasst(const json_t *record, struct conversation *out, struct err *e);
MUST_CHECK enum status convert_oasst_all(const json_t *record, struct conversation *out,
                                         struct err *e);

#endif

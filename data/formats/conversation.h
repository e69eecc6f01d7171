/* conversation.h - what every dataset format becomes, and every template is made from.
 *
 * A list of turns: at most one system turn, which comes first, then user and assistant by turns.
 * A reply may be a call of a tool (its text is the call); then tool turns with the results may
 * stand where the next question would: user (assistant tool+)* assistant user ...
 * conversation_finish holds a raw list against that rule, mends what can be mended without
 * inventing anything (Vicuna's rule, SEMANTICS B 1), and says why the rest is of no use:
 *
 *   an assistant turn before the first user turn is left out     (repair: leading reply)
 *   user and tool turns behind the last assistant turn are left out
 *                                                                (repair: trailing question)
 *   roles that do not alternate, an empty turn, an empty reply, a system turn elsewhere, no reply
 *     at all: the record is dropped                              (drop reason)
 *
 * Empty means: nothing but white space. An empty system turn is kept; templates differ on it. So is
 * an empty tool turn: tools may return nothing.
 *
 * A preference record (kind) is a prompt that ends with a user or tool turn, and its replies beside
 * it: chosen and rejected, or one of the two. The rules hold for the prompt with each reply behind
 * it; moreover
 *
 *   an empty reply, two replies with the same text: the record is dropped
 *   replies that do not answer one and the same prompt: the record is dropped
 *
 * A record may hold several conversations (oasst_all, self_instruct): `part` counts them, `more`
 * says that another follows (format_next). What of its messages is in none of them is counted.
 *
 * `plain` conversations are not put into a template: text for continued pre-training (one turn of
 * ROLE_TEXT) and prompt/completion pairs (user, assistant), glued together as they are.
 */
#ifndef CRIA_DATA_CONVERSATION_H
#define CRIA_DATA_CONVERSATION_H

#include <stddef.h>

#include "base/buf.h"
#include "base/status.h"
#include "data/samples/sample.h"

/* reason, its name in JSON reports, what it says to people */
#define DROP_TABLE(X)                                                                              \
    X(DROP_NONE, "none", "kept")                                                                   \
    X(DROP_BAD_RECORD, "bad_record", "not a valid record")                                         \
    X(DROP_EMPTY_REPLY, "empty_reply", "the output or a reply is empty")                           \
    X(DROP_EMPTY_TURN, "empty_turn", "an instruction or message is empty")                         \
    X(DROP_EMPTY_TEXT, "empty_text", "the text is empty")                                          \
    X(DROP_NO_REPLY, "no_reply", "no assistant turn follows a user turn")                          \
    X(DROP_ROLES, "roles", "user (or tool) and assistant do not alternate")                        \
    X(DROP_SYSTEM_PLACE, "system_place", "a system turn that is not first")                        \
    X(DROP_UNKNOWN_ROLE, "unknown_role", "a role that no template has")                            \
    X(DROP_NOT_TEXT, "not_text", "holds something other than text, such as an image")              \
    X(DROP_LEFT_OUT, "left_out", "a message beside the path taken, deleted or without its parent") \
    X(DROP_NOT_TRAINED, "not_trained", "nothing in it is trained")                                 \
    X(DROP_NO_COMMON_PROMPT, "no_common_prompt", "chosen and rejected answer different prompts")   \
    X(DROP_IDENTICAL, "identical", "chosen and rejected are the same")                             \
    X(DROP_NO_PROMPT, "no_prompt", "nothing precedes the replies")

enum drop_reason {
#define X(id, name, text) id,
    DROP_TABLE(X)
#undef X
        NUM_DROP_REASONS
};

const char *drop_name(enum drop_reason r);
const char *drop_text(enum drop_reason r);

/* What was left out of a conversation that is kept. */
enum repair { REPAIR_LEADING_REPLY = 1, REPAIR_TRAILING_QUESTION = 2 };

/* A piece of text: `data` is not terminated. */
struct text {
    const char *data;
    size_t n;
};

/* The names that datasets give to roles, all in one table. */
#define ROLE_TABLE(X)                  \
    X("system", ROLE_SYSTEM)           \
    X("developer", ROLE_SYSTEM)        \
    X("user", ROLE_USER)               \
    X("human", ROLE_USER)              \
    X("prompter", ROLE_USER)           \
    X("assistant", ROLE_ASSISTANT)     \
    X("gpt", ROLE_ASSISTANT)           \
    X("model", ROLE_ASSISTANT)         \
    X("chatgpt", ROLE_ASSISTANT)       \
    X("bard", ROLE_ASSISTANT)          \
    X("bing", ROLE_ASSISTANT)          \
    X("function_call", ROLE_ASSISTANT) \
    X("tool_call", ROLE_ASSISTANT)     \
    X("tool", ROLE_TOOL)               \
    X("observation", ROLE_TOOL)        \
    X("function", ROLE_TOOL)           \
    X("function_response", ROLE_TOOL)  \
    X("tool_response", ROLE_TOOL)      \
    X("ipython", ROLE_TOOL)

int role_find(struct text name, enum role *out); /* 0 when no template has such a role */

struct turn {
    enum role role;
    struct text text;
    struct text input; /* Alpaca's second field on a user turn; n 0: none */
    float weight;      /* what the record says it counts: 1 unless it says otherwise */
};

/* One of the replies to the turns of a preference record. */
struct reply {
    int given;
    struct text text;
};

/* Texts are the caller's, or live in `own`; valid until the next conversation_clear. */
struct conversation {
    struct turn *turns;
    size_t num_turns, cap_turns;
    int plain;
    enum record_kind kind; /* KIND_SFT: the replies below are not looked at */
    struct reply chosen, rejected;
    enum drop_reason drop; /* set by a format or by conversation_finish */
    unsigned repairs;      /* enum repair, or-ed */
    size_t part;           /* which conversation of its record, from 0 */
    int more;              /* there is another behind it */
    size_t left_out;       /* messages of the record that are in none, known with the last one */
    struct buf tree;       /* trees.c's, from one part to the next */
    struct buf *own;       /* [num_own] blocks, each reserved once: their texts never move */
    size_t num_own, cap_own;
};

void conversation_clear(struct conversation *c); /* keeps memory, and what parts share */
void conversation_free(struct conversation *c);  /* zeroed is fine */

/* Appends a turn of weight 1. ERR_MEMORY. */
MUST_CHECK enum status conversation_add(struct conversation *c, enum role role, struct text text);

/* An empty block of `capacity` bytes that lives as long as the conversation's texts. NULL without
 * memory. */
struct buf *conversation_block(struct conversation *c, size_t capacity);

/* Applies the rules above; afterwards c->drop is DROP_NONE or the reason. */
void conversation_finish(struct conversation *c);

int text_is_blank(struct text t); /* nothing but white space (Unicode's, as Python strips it) */
struct text text_strip(struct text t);
int text_same(struct text a, struct text b);

#endif

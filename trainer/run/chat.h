/* chat.h - a conversation with a model, turn by turn.
 *
 * The whole conversation goes through the template each time, exactly as in training, so what the
 * model sees is what it was tuned on. The engine's cache stays between turns: only the ids from the
 * first one that differs are fed (usually the new message alone; after an answer that tokenizes
 * otherwise than it was generated, that answer too).
 *
 * When prompt and answer would not fit the context, the oldest rounds are forgotten, the system
 * message never; the caller is told how many.
 */
#ifndef CRIA_RUN_CHAT_H
#define CRIA_RUN_CHAT_H

#include "run/inference.h"

struct chat_message {
    enum role role;
    char *text; /* heap */
    size_t n;
};

struct chat {
    struct inference *inference;   /* the caller's, opened with a template */
    struct chat_message *messages; /* heap: system (if any), then user and assistant by turns */
    size_t num_messages, cap_messages;
    uint64_t rounds; /* numbers the random streams */
};

struct chat_reply {
    struct inference_answer
        answer; /* fill grown, context, stop; text: where the reply is appended */
    int32_t prompt_tokens, fed_tokens; /* of the conversation; of these, not in the cache before */
    int32_t forgotten;                 /* rounds left out to make room */
};

void chat_init(struct chat *c, struct inference *inference);
void chat_free(struct chat *c); /* zeroed is fine */

void chat_reset(struct chat *c); /* forgets all but the system message */

/* Sets the system message, or removes it (NULL or ""), and forgets the rest. ERR_UNSUPPORTED: the
 * template has none; ERR_MEMORY. */
MUST_CHECK enum status chat_set_system(struct chat *c, const char *text, struct err *e);

/* Says `text`, generates the reply, keeps both (an interrupted reply as far as it came). On failure
 * the conversation is what it was. ERR_DATA: blank, or alone too long for the context; ERR_MEMORY,
 * ERR_DEVICE, ERR_NUMERIC, ... */
MUST_CHECK enum status chat_say(struct chat *c, const char *text, struct chat_reply *reply,
                                struct err *e);

/* Appends the conversation to the file as one line, {"messages": [{"role", "content"}, ...]}, the
 * form that `train` takes as format openai. ERR_DATA: nothing was said; ERR_IO, ERR_DISK_FULL,
 * ERR_MEMORY. */
MUST_CHECK enum status chat_save(const struct chat *c, const char *path, struct err *e);

#endif

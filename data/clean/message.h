/* message.h - one message of a conversation saved as HTML, as Markdown.
 *
 * What FastChat's html_to_markdown does: opening <div> and <span> tags go (up to the next '>' on
 * their line), the rest becomes Markdown (markdown.h), and what ChatGPT's page had around the text
 * goes too: "lang Copy code body" in a fence becomes a fence with a language, "2 / 3" at the
 * beginning, "Copy12 chars / 3 words" anywhere and fences that hold only "Copy code" vanish; of
 * three newlines in a row one stays; white space is stripped.
 */
#ifndef CRIA_DATA_CLEAN_MESSAGE_H
#define CRIA_DATA_CLEAN_MESSAGE_H

#include "data/clean/page.h"
#include "data/clean/markdown.h"

/* What converting takes; zero-initialise, one a thread. */
struct message_tools {
    struct page html;
    struct markdown markdown;
    struct buf a, b;
};

/* *out lives in the tools until the next call. ERR_DATA: Python would reject it (page.h), or it
 * grew beyond all measure; ERR_MEMORY. */
MUST_CHECK enum status message_to_markdown(struct message_tools *t, struct text html,
                                           struct text *out);
void message_tools_free(struct message_tools *t);

/* Whether the text has an end tag that a page would have: what cria clean tells HTML by. */
int message_has_markup(struct text t);

#endif

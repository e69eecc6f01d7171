/* answers.h - what the model says to a few prompts, before the first step and after the last.
 *
 * The prompts are the config's sample_prompts, or the first few of the data: of held-out documents
 * if there are any, each up to its first reply, which is shown beside the answers. Answers are
 * greedy, ANSWER_TOKENS at most, from the run's own engine, so they cost a key-value cache in its
 * run arena. They change nothing of the training: decoding draws no random number and writes to no
 * weight. output_dir/samples.json keeps them, so that a resumed run still knows the first ones.
 */
#ifndef CRIA_RUN_ANSWERS_H
#define CRIA_RUN_ANSWERS_H

#include "base/io.h"
#include "data/tokenizer/tokenizer.h"

struct session;

#define ANSWERS_MAX 16         /* prompts */
#define ANSWERS_OF_DATA 3      /* when none are given */
#define ANSWERS_PROMPT_MAX 256 /* tokens of a prompt taken from the data */
#define ANSWER_TOKENS 64
#define ANSWERS_FILE "samples.json"

enum answer_time { ANSWER_BEFORE, ANSWER_AFTER, ANSWER_TIMES };

struct answer {
    char *prompt;     /* heap: as given, or a document's text up to its reply, template and all */
    char *reference;  /* heap: what the data says; NULL: not known */
    char origin[160]; /* where the prompt is from: "chat.jsonl, line 3" */
    struct id_list ids;
    char *text[ANSWER_TIMES]; /* heap; NULL: not asked yet */
    int cut[ANSWER_TIMES];    /* the answer did not end by itself */
};

struct answers {
    struct answer items[ANSWERS_MAX];
    size_t n;
    int held_out;    /* the prompts are of documents that are not trained on */
    int32_t longest; /* tokens of the longest prompt; 0: there are no prompts */
};

/* Chooses the prompts for a session whose data is open (its engine need not be). A plan that has no
 * tokenizer or data gets no prompts, but the room they may take. ERR_CONFIG (what
 * sample_prompts says cannot be used), ERR_MEMORY, ERR_IO, ERR_FORMAT, ERR_DATA. */
MUST_CHECK enum status answers_open(struct answers *a, struct session *s, struct err *e);
void answers_free(struct answers *a); /* zeroed is fine */

/* Rows of the key-value cache that answering takes; 0: none. */
int32_t answers_cache_rows(const struct answers *a);

/* Bytes of the heap that answering takes for a while. */
size_t answers_memory(const struct answers *a, const struct session *s);

/* Answers all prompts with the weights as they are and writes samples.json. ERR_NUMERIC,
 * ERR_MEMORY, ERR_IO, ERR_DISK_FULL, ERR_DEVICE. */
MUST_CHECK enum status answers_ask(struct answers *a, struct session *s, enum answer_time when,
                                   struct err *e);

/* Takes the answers of a former process over from samples.json, where the prompts are the same; no
 * file is fine. ERR_IO, ERR_FORMAT, ERR_MEMORY. */
MUST_CHECK enum status answers_recall(struct answers *a, const char *output_dir, struct err *e);

#endif

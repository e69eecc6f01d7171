/* tiny_run.h - whole training runs of a tiny model in a temporary folder.
 *
 * The model is tests/golden/models/llama_gqa_tied (29216 parameters, a tokenizer of its own), the
 * data are short generated conversations, so a run takes a fraction of a second. pairs.jsonl has
 * as many pairs of a short and a long-winded reply, labels.jsonl the same replies judged one by
 * one.
 */
#ifndef CRIA_TESTS_SUPPORT_TINY_RUN_H
#define CRIA_TESTS_SUPPORT_TINY_RUN_H

#include "run/trainer.h"
#include "support/check.h"

#define TINY_MODEL "tests/golden/models/llama_gqa_tied"
#define TINY_RECORDS 24
#define TINY_STEPS_MAX 64

struct tiny {
    char dir[64];                                    /* temporary; data.jsonl, ... lie in it */
    void (*each_step)(struct tiny *t, int64_t step); /* told behind every log line; NULL: nobody */
    int64_t profile_steps;                           /* run/step_profile.h */
    /* of the last run: */
    char profile[1 << 14]; /* its table */
    enum status status;
    struct err err;
    int num_steps;
    int64_t first_step;
    double losses[TINY_STEPS_MAX], norms[TINY_STEPS_MAX];
};

void tiny_init(struct tiny *t);
void tiny_free(struct tiny *t);

/* Trains into dir/`out` with "key=value" overrides (space-separated; common ones come first and may
 * be overridden). stop_after: ask to stop after that many updates of this process, 0: never. Fills
 * the struct; the caller looks at t->status. */
void tiny_train(struct tiny *t, const char *out, const char *overrides, int stop_after);

/* Whether two files below dir hold the same bytes. */
int tiny_same(const struct tiny *t, const char *a, const char *b);

void tiny_path(const struct tiny *t, const char *name, char out[256]);

#endif

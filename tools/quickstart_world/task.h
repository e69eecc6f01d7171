/* task.h - instructions about an input, of six kinds, each with its one right answer.
 *
 * Each can be answered only by reading the input: where somebody lives, what somebody works as,
 * which color somebody's thing has (the input is a story); the list itself, its first word, its
 * last word (the input is a list). Answers are sentences of a form that the base has read.
 */
#ifndef CRIA_QUICKSTART_TASK_H
#define CRIA_QUICKSTART_TASK_H

#include "draw.h"
#include "page.h"

#define TASK_KINDS(X) X(city) X(job) X(color) X(copy) X(first) X(last)

enum task_kind {
#define X(name) TASK_##name,
    TASK_KINDS(X)
#undef X
        NUM_TASK_KINDS
};

#define TASK_FIELD_MAX 512

struct task {
    enum task_kind kind;
    char instruction[TASK_FIELD_MAX], input[TASK_FIELD_MAX], answer[TASK_FIELD_MAX];
};

const char *task_kind_name(enum task_kind kind);

void task_draw(struct draw *d, enum task_kind kind, struct task *out);

/* out[i] is of kind i modulo NUM_TASK_KINDS; none has an input of another one or of avoided[0 ...
 * num_avoided-1]. */
void task_draw_set(struct draw *d, struct task *out, int n, const struct task *avoided,
                   int num_avoided);

/* Gives every task the answer of another one of its kind: what nobody can learn. */
void task_shuffle_answers(struct draw *d, struct task *tasks, int n);

#endif

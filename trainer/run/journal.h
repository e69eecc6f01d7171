/* journal.h - what a run shows of itself beside metrics.jsonl: TensorBoard events, sample answers,
 * report.html.
 *
 * Nothing here may cost a run its life: what cannot be written is warned of once, given up (the
 * events) or tried again at the next occasion (the page), and training goes on.
 */
#ifndef CRIA_RUN_JOURNAL_H
#define CRIA_RUN_JOURNAL_H

#include "run/metrics.h"
#include "run/report.h"
#include "run/session.h"
#include "run/tensorboard.h"

struct journal {
    struct session *session;
    struct tensorboard board;
    int has_board, has_page;
    int warned; /* that the page cannot be written */
    double began;
};

/* Bytes of the heap that the page or the answers take for a while, log lines apart. */
size_t journal_memory(const struct session *s);

/* Before the first step of this process: output_dir exists, metrics.jsonl is cut. On a fresh start
 * the sample prompts are answered; else their answers are recalled. */
void journal_begin(struct journal *j, struct session *s);

/* After the log or evaluation went to metrics.jsonl. */
void journal_train(struct journal *j, const struct train_log *log);
void journal_eval(struct journal *j, const struct eval_log *log);

/* The page as things stand. */
void journal_show(struct journal *j);

/* After the last step, successful or not (then `e` says why): answers, page, files closed. */
void journal_end(struct journal *j, enum status status, const struct err *e);

#endif

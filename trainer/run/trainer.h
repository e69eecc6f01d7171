/* trainer.h - the loop: steps, logs, evaluations, checkpoints, the final model. */
#ifndef CRIA_RUN_TRAINER_H
#define CRIA_RUN_TRAINER_H

#include <stdatomic.h>

#include "run/metrics.h"
#include "run/session.h"

/* Who wants to know. Any function may be NULL. */
struct train_observer {
    void *context;
    void (*step)(void *context, const struct train_log *log);   /* after every update; values
                                                                    of the log window so far */
    void (*logged)(void *context, const struct train_log *log); /* a line went to metrics.jsonl */
    void (*evaluated)(void *context, const struct eval_log *log);
    void (*saved)(void *context, const char *path);
    int64_t profile_steps;                              /* step_profile.h; 0: none */
    void (*profiled)(void *context, const char *table); /* behind the last of them */
    const atomic_int *stop; /* nonzero: finish the step, save, return ERR_STOPPED */
};

/* Runs from session->done to the end and saves the final model or adapter in output_dir.
 * ERR_STOPPED after saving on request; ERR_CONFIG: there are
 * not that many steps to profile; ERR_NUMERIC when the loss or gradient is not finite: the
 * step and its documents are named and the last checkpoint stands; ERR_IO, ERR_DISK_FULL,
 * ERR_DEVICE, ... */
MUST_CHECK enum status trainer_run(struct session *s, const struct train_observer *o,
                                   struct err *e);

/* Loss over the evaluation documents. */
MUST_CHECK enum status trainer_evaluate(struct session *s, struct eval_log *log, struct err *e);

#endif

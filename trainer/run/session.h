/* session.h - everything a training run has before its first step.
 *
 *     session_open     config -> model, tokenizer, template, dataset, loaders, engine; weights
 * loaded trainer_run      steps (trainer.h) session_close
 */
#ifndef CRIA_RUN_SESSION_H
#define CRIA_RUN_SESSION_H

#include "base/io.h"
#include "config/config.h"
#include "data/loader/split.h"
#include "data/samples/encode.h"
#include "data/store/store.h"
#include "data/template/template.h"
#include "data/tokenizer/tokenizer.h"
#include "optim/schedule.h"
#include "run/dataset.h"
#include "run/engine.h"

struct session {
    const struct config *config; /* the caller's */
    struct model_config model;
    struct tokenizer *tokenizer;
    const struct template *template; /* NULL: stage pt */
    struct encoder *encoder;
    struct store *store, *eval_store;
    struct loader_split split;
    struct loader *train_loader, *eval_loader; /* eval: NULL without */
    struct lora_options lora;
    struct engine engine;
    struct schedule schedule;
    struct adamw_options adamw;
    int64_t steps_per_epoch, total_steps;
    int64_t done;             /* updates made: where a resumed run goes on */
    int64_t num_tokens;       /* seen in them */
    char resume[IO_PATH_MAX]; /* the checkpoint resumed from; empty: a fresh start */
};

/* ERR_CONFIG, ERR_DATA, ERR_FORMAT, ERR_IO, ERR_MEMORY, ERR_FIT, ERR_UNSUPPORTED, ERR_SHAPE: what
 * is wrong, where, and what to do. After a failure session_close is still due. `progress` may be
 * NULL. */
MUST_CHECK enum status session_open(struct session *s, const struct config *config,
                                    const struct dataset_watcher *watcher, struct err *e);
void session_close(struct session *s); /* zeroed is fine */

#endif

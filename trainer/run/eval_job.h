/* eval_job.h - which model is evaluated on what: by a config, or by name.
 *
 * By a config: the model or adapter that the run left in output_dir, the base model if there is
 * none; the documents of eval_dataset, else those that val_size holds out of datasets, the same
 * ones as in training. Preferences are held against the run's reference, or with a model by name
 * against the model without its adapter, or ref_model; else there is none, and rewards are the
 * log-probabilities themselves. Model and adapter may be named all the same, so that one can ask
 * for the base's figures on a run's held-out documents.
 */
#ifndef CRIA_RUN_EVAL_JOB_H
#define CRIA_RUN_EVAL_JOB_H

#include "base/io.h"
#include "config/config.h"
#include "data/loader/mix.h"
#include "run/dataset.h"
#include "run/evaluate.h"

struct eval_options {
    const struct config *config;        /* NULL: model and data are named */
    const char *model, *adapter;        /* directories; NULL: the config's, no adapter */
    const char *ref_model;              /* for preferences; NULL: see above */
    double beta;                        /* of rewards; 0: the config's, 0.1 */
    const char *data;                   /* "F[,F]"; with a config NULL */
    const char *template;               /* NULL: the config's, or what cria.json says */
    int64_t max_length, batch_size;     /* 0: the config's; the model's context, 8 */
    int answers;                        /* generate, too */
    int64_t max_new_tokens;             /* of an answer */
    const char *device;                 /* NULL: the config's, or "auto" */
    int threads;                        /* 0: the config's, or all */
    const struct dataset_watcher *prep; /* NULL */
};

struct eval_job {
    char model[IO_PATH_MAX], adapter[IO_PATH_MAX]; /* what is evaluated; adapter empty: none */
    struct inference inference;
    struct store *store;
    struct mix mix;
    struct loader_subset documents;
    struct loader *loader;
    int32_t max_length; /* documents are cut to this */
    int aligns;         /* the documents are preferences */
    struct preference_options preferences;
    struct align align;
    char reference[IO_PATH_MAX]; /* directory of its model or adapter */
    const char *reference_text;  /* for people */
};

/* ERR_CONFIG (nothing held out, no template, ...), and what loading and preparing can fail with.
 * After a failure eval_job_close is still due. */
MUST_CHECK enum status eval_job_open(struct eval_job *j, const struct eval_options *o,
                                     struct err *e);
void eval_job_close(struct eval_job *j); /* zeroed is fine */

/* Loss, and answers if they were asked for, into *v (evaluation_free in any case). */
MUST_CHECK enum status eval_job_run(struct eval_job *j, const struct eval_options *o,
                                    const struct evaluate_watcher *watcher, struct evaluation *v,
                                    struct err *e);

#endif

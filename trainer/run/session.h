/* session.h - everything a training run has before its first step.
 *
 *     session_prepare   config -> model, tokenizer, template, dataset, loaders, layout of the
 * memory: all but the memory itself session_start     checks that it fits, takes it, loads the
 * weights trainer_run       steps (trainer.h) session_close
 *
 * `plan` and `train --explain` stop behind the first; so what they say is what a run does. A plan
 * may be made where the weights, the tokenizer or the data are not: then `absent` names them, and
 * what would be known from them is not.
 */
#ifndef CRIA_RUN_SESSION_H
#define CRIA_RUN_SESSION_H

#include "base/io.h"
#include "config/config.h"
#include "data/samples/encode.h"
#include "data/store/store.h"
#include "data/template/template.h"
#include "data/tokenizer/tokenizer.h"
#include "optim/schedule.h"
#include "run/adapter_dir.h"
#include "run/align.h"
#include "run/answers.h"
#include "run/best.h"
#include "run/dataset.h"
#include "run/engine.h"
#include "run/guard.h"
#include "run/memory.h"
#include "run/mixture.h"
#include "run/new_tokens.h"
#include "run/precision.h"
#include "run/preflight.h"

enum session_purpose { SESSION_TRAIN, SESSION_PLAN };

/* Paths of what a plan had to do without; NULL: it is there. */
struct session_absent {
    const char *weights, *tokenizer, *data;
};

struct session {
    const struct config *config; /* the caller's */
    enum session_purpose purpose;
    int is_variant;                        /* of another session: says nothing */
    const struct dataset_watcher *watcher; /* the caller's; NULL */
    struct session_absent absent;
    struct model_config model;
    struct tokenizer *tokenizer;     /* NULL: absent, as are encoder, stores and loaders then */
    const struct template *template; /* NULL: stage pt */
    struct new_tokens new_tokens;    /* special tokens the tokenizer lacked; model.vocab_size
                                        counts them */
    struct encoder *encoder;
    struct store *store, *eval_store;
    struct mix mix;                            /* of store: what is trained, what held out */
    struct loader *train_loader, *eval_loader; /* eval: NULL without */
    struct preflight preflight;                /* what was found to be odd */
    int32_t *trained_tokens; /* heap: ids whose rows are trained by themselves, ascending */
    size_t num_trained_tokens;
    struct adapter_dir start;   /* adapter_name_or_path's; zeroed without */
    const char **start_targets; /* heap: the names of its linears */
    size_t num_start_targets;
    struct lora_options lora;
    int aligns; /* stage dpo or kto: preferences instead of texts */
    struct preference_options preferences;
    struct align align;
    struct reference *known, *eval_known; /* precompute_ref_log_probs; eval_known NULL: as known */
    char reference_hash[192];             /* of what the reference is made of */
    struct answers answers;               /* to sample prompts */
    struct engine engine;
    struct precision precision;
    struct schedule schedule;
    struct adamw_options adamw;
    int64_t steps_per_epoch, total_steps; /* 0: not known without the data */
    int64_t done;                         /* updates made: where a resumed run goes on */
    int64_t num_tokens;                   /* seen in them */
    struct guard guard;                   /* of steps that are not to be trusted */
    struct best best;                     /* evaluation so far */
    double gemm_peak;                     /* FLOP/s measured; 0: not on this device */
    struct memory_account memory;         /* of the process, but for the arenas */
    size_t device_used, device_total;     /* bytes of a GPU: used before the arenas are taken, by
                                             whomever, and in all; 0: the device has none */
    char resume[IO_PATH_MAX];             /* the checkpoint resumed from; empty: a fresh start */
};

/* ERR_CONFIG, ERR_DATA, ERR_FORMAT, ERR_IO, ERR_MEMORY, ERR_UNSUPPORTED, ERR_SHAPE: what is wrong,
 * where, and what to do. After a failure session_close is still due. `watcher` may be NULL. */
MUST_CHECK enum status session_prepare(struct session *s, const struct config *config,
                                       enum session_purpose purpose,
                                       const struct dataset_watcher *watcher, struct err *e);

/* ERR_FIT (plan_check: what would fit instead), ERR_MEMORY, and what loading returns. */
MUST_CHECK enum status session_start(struct session *s, struct err *e);

/* Both, to train. */
MUST_CHECK enum status session_open(struct session *s, const struct config *config,
                                    const struct dataset_watcher *watcher, struct err *e);
void session_close(struct session *s); /* zeroed is fine */

/* Another layout of the same model and data: the loaders, the schedule and the engine's measures
 * as `config`, which differs in numbers only, wants them. Borrows from s, which must outlive it and
 * which it leaves alone; session_close_variant frees what is its own. Errors as session_prepare. */
MUST_CHECK enum status session_open_variant(struct session *variant, const struct session *s,
                                            const struct config *config, struct err *e);
void session_close_variant(struct session *variant);

#endif

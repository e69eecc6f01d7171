/* metrics.h - what a run says about itself: one JSON object a log, in metrics.jsonl.
 *
 * The file is the one record of a run: resuming cuts it back to the checkpoint's step and
 * trainer_state.json repeats it. Names are TRL's. Lines of stage dpo and kto also have the metrics
 * of PREFERENCE_METRICS_TABLE that the loss and the records give, evaluations with eval_ before
 * them.
 */
#ifndef CRIA_RUN_METRICS_H
#define CRIA_RUN_METRICS_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"
#include "objective/preference.h"

/* name in the file, meaning; every value is a number */
#define METRICS_TABLE(X)                                                                          \
    X(loss, "mean loss of a trained token since the last log")                                    \
    X(grad_norm, "gradient norm of the last step, before clipping")                               \
    X(learning_rate, "of the last step")                                                          \
    X(mean_token_accuracy, "trained tokens that were the most likely one")                        \
    X(num_tokens, "tokens seen so far")                                                           \
    X(supervised_share, "of the tokens since the last log, those trained")                        \
    X(tokens_per_second, "since the last log")                                                    \
    X(floor_share, "time of products and scores at the device's measured GEMM rate / time taken") \
    X(memory_bytes, "arenas of the run")                                                          \
    X(skipped_steps, "left out so far: on_nan, on_spike")

enum metric {
#define X(name, text) METRIC_##name,
    METRICS_TABLE(X)
#undef X
        NUM_METRICS
};

struct train_log {
    int64_t step, total_steps; /* step: updates done */
    double epoch;
    double seconds, remaining; /* since the run (this process) began; estimate to its end */
    double value[NUM_METRICS];
    const struct preference_sums *preferences; /* since the last log; NULL in other stages */
};

struct eval_log {
    int64_t step;
    double epoch, loss, accuracy, seconds;
    int64_t num_tokens; /* trained targets evaluated */
    struct preference_sums preferences;
    int has_preferences;
};

const char *metric_name(enum metric m);

/* A preference metric; NaN where there is none. */
double metric_of_preferences(const struct preference_sums *s, enum preference_metric m);

/* Appends a line; a number that is not finite becomes null. On failure the file is as before.
 * ERR_IO, ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status metrics_append_train(const char *path, const struct train_log *log,
                                            struct err *e);
MUST_CHECK enum status metrics_append_eval(const char *path, const struct eval_log *log,
                                           struct err *e);

/* Keeps the lines up to and with `step`; an absent file is fine. ERR_IO, ERR_FORMAT, ... */
MUST_CHECK enum status metrics_cut(const char *path, int64_t step, struct err *e);

/* All lines as a new array; absent: empty. The caller json_decref's it. */
MUST_CHECK enum status metrics_history(const char *path, json_t **out, struct err *e);

#endif

#include "ckpt/trainer_state.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/json.h"

/* The whole numbers, name for name. */
static const struct {
    const char *key;
    size_t offset; /* of an int64_t */
    int null_when_zero;
} ints[] = {
    {"eval_steps", offsetof(struct trainer_state, eval_steps), 1},
    {"global_step", offsetof(struct trainer_state, global_step), 0},
    {"logging_steps", offsetof(struct trainer_state, logging_steps), 0},
    {"max_steps", offsetof(struct trainer_state, max_steps), 0},
    {"num_input_tokens_seen", offsetof(struct trainer_state, num_input_tokens_seen), 0},
    {"num_train_epochs", offsetof(struct trainer_state, num_train_epochs), 0},
    {"save_steps", offsetof(struct trainer_state, save_steps), 0},
    {"train_batch_size", offsetof(struct trainer_state, train_batch_size), 1},
};
#define INTS (sizeof ints / sizeof *ints)

enum status trainer_state_init(struct trainer_state *s, struct err *e)
{
    *s = (struct trainer_state){.best_step = -1, .log_history = json_array()};
    return s->log_history ? OK : err_set(e, ERR_MEMORY, "no memory for the log");
}

void trainer_state_free(struct trainer_state *s)
{
    json_decref(s->log_history);
    *s = (struct trainer_state){0};
}

static json_t *real(double v) { return isfinite(v) ? json_real(v) : json_null(); }

enum status trainer_state_log(struct trainer_state *s, const struct log_value *values, size_t count,
                              struct err *e)
{
    json_t *entry = json_object();
    int failed = 0;
    for (size_t i = 0; i < count; i++)
        failed |= json_object_set_new(entry, values[i].key, real(values[i].value));
    failed |= json_object_set_new(entry, "epoch", real(s->epoch));
    failed |= json_object_set_new(entry, "step", json_integer(s->global_step));
    if (failed)
        json_decref(entry);
    else
        failed = json_array_append_new(s->log_history, entry);
    return failed ? err_set(e, ERR_MEMORY, "no memory for the log") : OK;
}

/* Null in the keys where transformers has None. */
static json_t *to_json(const struct trainer_state *s)
{
    int best = s->best_step >= 0;
    json_t *root =
        json_pack("{s:o, s:o, s:o, s:f, s:b, s:b, s:b, s:O, s:{}, s:f, s:n, s:n}",
                  "best_global_step", best ? json_integer(s->best_step) : json_null(),
                  "best_metric", best ? real(s->best_metric) : json_null(), "best_model_checkpoint",
                  *s->best_model_checkpoint ? json_string(s->best_model_checkpoint) : json_null(),
                  "epoch", s->epoch, "is_hyper_param_search", 0, "is_local_process_zero", 1,
                  "is_world_process_zero", 1, "log_history", s->log_history, "stateful_callbacks",
                  "total_flos", s->total_flos, "trial_name", "trial_params");
    for (size_t i = 0; i < INTS && root; i++) {
        int64_t v = *(const int64_t *)((const char *)s + ints[i].offset);
        json_t *value = ints[i].null_when_zero && !v ? json_null() : json_integer(v);
        if (json_object_set_new(root, ints[i].key, value)) {
            json_decref(root);
            root = NULL;
        }
    }
    return root;
}

enum status trainer_state_write(const struct trainer_state *s, const char *path, struct err *e)
{
    json_t *root = to_json(s);
    if (!root) return err_set(e, ERR_MEMORY, "no memory to write %s", path);
    enum status status = json_write_file(root, path, e);
    json_decref(root);
    return status;
}

static enum status from_json(struct trainer_state *s, const json_t *root, const char *path,
                             struct err *e)
{
    const char *best = NULL;
    if (!json_is_object(root)) return err_at(e, ERR_FORMAT, path, 0, 0, "should be an object");
    for (size_t i = 0; i < INTS; i++)
        TRY(json_get_int(root, ints[i].key, (int64_t *)((char *)s + ints[i].offset), path, e));
    TRY(json_get_double(root, "epoch", &s->epoch, path, e));
    TRY(json_get_double(root, "total_flos", &s->total_flos, path, e));
    TRY(json_get_double(root, "best_metric", &s->best_metric, path, e));
    TRY(json_get_int(root, "best_global_step", &s->best_step, path, e));
    TRY(json_get_string(root, "best_model_checkpoint", &best, path, e));
    if (best) snprintf(s->best_model_checkpoint, sizeof s->best_model_checkpoint, "%s", best);
    json_t *log = json_object_get(root, "log_history");
    if (!log || json_is_null(log)) return OK;
    if (!json_is_array(log))
        return err_at(e, ERR_FORMAT, path, 0, 0, "\"log_history\" should be a list");
    json_decref(s->log_history);
    s->log_history = json_incref(log);
    return OK;
}

enum status trainer_state_read(struct trainer_state *s, const char *path, struct err *e)
{
    json_t *root = NULL;
    *s = (struct trainer_state){0};
    enum status status = trainer_state_init(s, e);
    if (!status) status = json_parse_file(path, &root, e);
    if (!status) status = from_json(s, root, path, e);
    json_decref(root);
    if (status) trainer_state_free(s);
    return status;
}

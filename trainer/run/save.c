#include "run/save.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "ckpt/commit.h"
#include "ckpt/peft.h"
#include "ckpt/trainer_state.h"
#include "run/identity.h"
#include "run/metrics.h"
#include "run/output.h"
#include "run/products.h"
#include "run/sidecar.h"
#include "run/weights.h"

#define STATE_FILE "state.safetensors"

/* --- what a directory holds --- */

static enum file_type base_type(const struct session *s)
{
    switch ((enum config_save_dtype)s->config->save_dtype) {
    case CONFIG_SAVE_FP32: return FILE_F32;
    case CONFIG_SAVE_BF16: return FILE_BF16;
    case CONFIG_SAVE_FP16: return FILE_F16;
    case CONFIG_SAVE_AUTO: break;
    }
    return s->model.dtype == DTYPE_BF16  ? FILE_BF16
           : s->model.dtype == DTYPE_F16 ? FILE_F16
                                         : FILE_F32;
}

static enum status save_model(struct session *s, const char *dir, struct err *e)
{
    char path[IO_PATH_MAX];
    enum file_type type = base_type(s);
    enum dtype kept = s->model.dtype;
    TRY(weights_save_base(&s->engine, dir, type, e));
    TRY(io_join(path, sizeof path, dir, "config.json", e));
    s->model.dtype = type == FILE_BF16 ? DTYPE_BF16 : type == FILE_F16 ? DTYPE_F16 : DTYPE_F32;
    enum status status = model_config_write(&s->model, path, e);
    s->model.dtype = kept;
    return status;
}

/* The distinct last components of the adapted paths, as PEFT lists them. */
static json_t *target_names(const struct session *s)
{
    json_t *names = json_array();
    const struct lora *l = &s->engine.lora;
    for (int32_t i = 0; i < l->num_slots; i++)
        for (int p = 0; p < l->filled[i].num_parts; p++) {
            const char *path = l->slots[i].parts[l->filled[i].part[p]].path;
            const char *name = strrchr(path, '.') ? strrchr(path, '.') + 1 : path;
            size_t k = 0;
            while (k < json_array_size(names) &&
                   strcmp(json_string_value(json_array_get(names, k)), name))
                k++;
            if (k == json_array_size(names)) json_array_append_new(names, json_string(name));
        }
    return names;
}

static void add_name(json_t *names, const char *name)
{
    size_t i;
    json_t *known;
    json_array_foreach(names, i, known)
    {
        if (!strcmp(json_string_value(known), name)) return;
    }
    json_array_append_new(names, json_string(name));
}

/* A table that is embedding and head is saved under both names. */
static json_t *saved_names(const struct session *s)
{
    const struct engine *g = &s->engine;
    json_t *names = s->lora.num_saved ? json_array() : NULL;
    for (size_t i = 0; i < s->lora.num_saved; i++) add_name(names, s->lora.saved[i]);
    if (s->model.tied && g->params.params[g->model.embedding].flags & PARAM_SAVED) {
        add_name(names, PEFT_EMBEDDING);
        add_name(names, PEFT_HEAD);
    }
    return names;
}

static json_t *trained_ids(const struct session *s)
{
    json_t *ids = json_array(), *both = s->num_trained_tokens ? json_object() : NULL;
    for (size_t i = 0; i < s->num_trained_tokens; i++)
        json_array_append_new(ids, json_integer(s->trained_tokens[i]));
    if (both) json_object_set(both, PEFT_EMBEDDING, ids);
    if (both && !s->model.tied) json_object_set(both, PEFT_HEAD, ids);
    json_decref(ids);
    return both;
}

/* The base as the adapter needs it: the given one, or where the vocabulary grew our larger copy. */
static enum status base_path(const struct session *s, char *out, size_t size, struct err *e)
{
    if (s->new_tokens.base_vocab) return io_join(out, size, s->config->output_dir, BASE_DIR, e);
    if ((size_t)snprintf(out, size, "%s", s->config->model_name_or_path) < size) return OK;
    return err_set(e, ERR_IO, "path too long: %s", s->config->model_name_or_path);
}

static enum status save_adapter(struct session *s, const char *dir, struct err *e)
{
    char path[IO_PATH_MAX], base[IO_PATH_MAX];
    TRY(base_path(s, base, sizeof base, e));
    enum file_type type =
        s->config->save_dtype == CONFIG_SAVE_AUTO ? FILE_F32 : base_type(s); /* fp32 unless asked */
    struct peft_config c = {.r = s->lora.r,
                            .lora_alpha = s->lora.alpha,
                            .lora_dropout = s->lora.dropout,
                            .use_rslora = s->lora.rslora,
                            .base_model = base,
                            .target_modules = target_names(s),
                            .modules_to_save = saved_names(s),
                            .trainable_token_indices = trained_ids(s)};
    enum status status = io_join(path, sizeof path, dir, PEFT_CONFIG_FILE, e);
    if (!status) status = peft_config_write(&c, path, e);
    json_decref(c.target_modules);
    json_decref(c.modules_to_save);
    json_decref(c.trainable_token_indices);
    return status ? status : weights_save_adapter(&s->engine, dir, type, e);
}

static enum status save_sidecar(struct session *s, const char *dir, struct err *e)
{
    struct sidecar sidecar = {0};
    const int32_t *ends;
    size_t n = encoder_end_ids(s->encoder, &ends);
    for (size_t i = 0; i < n && i < SIDECAR_ENDS_MAX; i++)
        sidecar.ends[sidecar.num_ends++] = ends[i];
    if (s->template)
        snprintf(sidecar.template_name, sizeof sidecar.template_name, "%s", s->template->name);
    sidecar.own_template = s->template;
    snprintf(sidecar.tokenizer_hash, sizeof sidecar.tokenizer_hash, "%s",
             tokenizer_hash(s->tokenizer));
    TRY(sidecar_copy_tokenizer(s->new_tokens.dir, dir, &s->model, s->template, s->tokenizer, e));
    return sidecar_write(&sidecar, dir, e);
}

static enum status save_trainer_state(struct session *s, const char *dir, struct err *e)
{
    const struct config *c = s->config;
    char path[IO_PATH_MAX], metrics[IO_PATH_MAX], best[IO_PATH_MAX] = "";
    struct trainer_state state = {0};
    TRY(io_join(path, sizeof path, dir, TRAINER_STATE_FILE, e));
    TRY(io_join(metrics, sizeof metrics, c->output_dir, METRICS_FILE, e));
    if (s->best.step >= 0 && c->load_best_model_at_end)
        TRY(commit_path(best, sizeof best, c->output_dir, s->best.step, e));
    TRY(trainer_state_init(&state, e));
    state.epoch = (double)s->done / (double)s->steps_per_epoch;
    state.global_step = s->done;
    state.max_steps = s->total_steps;
    state.num_train_epochs = (int64_t)ceil((double)s->total_steps / (double)s->steps_per_epoch);
    state.logging_steps = c->logging_steps;
    state.eval_steps = c->eval_steps > 0 ? c->eval_steps : s->steps_per_epoch;
    state.save_steps = c->save_steps > 0 ? c->save_steps : s->steps_per_epoch;
    state.train_batch_size = c->per_device_train_batch_size;
    state.num_input_tokens_seen = s->num_tokens;
    state.best_step = s->best.step;
    state.best_metric = s->best.metric;
    memcpy(state.best_model_checkpoint, best, sizeof best);
    json_decref(state.log_history);
    enum status status = metrics_history(metrics, &state.log_history, e);
    for (size_t i = json_array_size(state.log_history); !status && i > 0; i--) {
        json_t *line = json_array_get(state.log_history, i - 1); /* training may be ahead of us */
        if (json_integer_value(json_object_get(line, "step")) <= s->done) break;
        json_array_remove(state.log_history, i - 1);
    }
    if (!status) status = trainer_state_write(&state, path, e);
    trainer_state_free(&state);
    return status;
}

static enum status save_all(struct session *s, const char *dir, struct err *e)
{
    TRY(s->engine.has_lora ? save_adapter(s, dir, e) : save_model(s, dir, e));
    TRY(save_sidecar(s, dir, e));
    return save_trainer_state(s, dir, e);
}

static enum status save_fingerprint(struct session *s, const char *dir, struct err *e)
{
    char path[IO_PATH_MAX];
    struct fingerprint f = {0};
    enum status status = io_join(path, sizeof path, dir, FINGERPRINT_FILE, e);
    if (!status) status = identity_make(s, &f, e);
    if (!status && !(f.state = json_object()))
        status = err_set(e, ERR_MEMORY, "no memory for the run's state");
    if (!status) status = guard_to_json(&s->guard, f.state, e);
    if (!status) status = best_to_json(&s->best, f.state, e);
    if (!status) status = products_to_json(&s->engine.device, f.state, e);
    if (!status) status = fingerprint_write(&f, path, e);
    fingerprint_free(&f);
    return status;
}

/* --- the verbs of this file --- */

/* output_dir/base, once: adapters of tokens that the given base has no rows for refer to it. */
static enum status save_base(struct session *s, struct err *e)
{
    struct commit c = {0};
    char dir[IO_PATH_MAX];
    if (!s->new_tokens.base_vocab || !s->engine.has_lora) return OK;
    TRY(base_path(s, dir, sizeof dir, e));
    if (output_has_file(dir, "cria.json")) return OK;
    TRY(commit_begin(&c, s->config->output_dir, BASE_DIR, e));
    enum status status = save_model(s, c.aside, e);
    if (!status) status = save_sidecar(s, c.aside, e);
    if (!status) status = commit_end(&c, e);
    commit_abort(&c);
    return status ? err_wrap(e, "saving the base with %d more tokens", (int)s->new_tokens.count)
                  : OK;
}

enum status save_begin(struct session *s, struct err *e)
{
    char path[IO_PATH_MAX];
    struct buf text;
    buf_init(&text, 1 << 20);
    enum status status = io_make_dirs(s->config->output_dir, e);
    if (!status) status = io_join(path, sizeof path, s->config->output_dir, RESOLVED_FILE, e);
    if (!status && config_resolve(s->config, &text))
        status = err_set(e, ERR_MEMORY, "no memory for the resolved config");
    if (!status) status = io_write_file(path, text.data, text.len, e);
    buf_free(&text);
    return status ? status : save_base(s, e);
}

static enum status save_into(struct session *s, const char *dir, struct err *e)
{
    char path[IO_PATH_MAX];
    TRY(save_all(s, dir, e));
    TRY(io_join(path, sizeof path, dir, STATE_FILE, e));
    TRY(weights_save_state(&s->engine, path, e));
    return save_fingerprint(s, dir, e);
}

enum status save_checkpoint(struct session *s, char *out, size_t size, struct err *e)
{
    struct commit c = {0};
    char name[COMMIT_NAME_MAX];
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)s->done);
    TRY(commit_path(out, size, s->config->output_dir, s->done, e));
    TRY(commit_begin(&c, s->config->output_dir, name, e));
    enum status status = save_into(s, c.aside, e);
    if (!status) status = commit_end(&c, e);
    commit_abort(&c);
    if (status) return err_wrap(e, "saving %s", name);
    int64_t best = s->config->load_best_model_at_end ? s->best.step : -1;
    return commit_rotate(s->config->output_dir, (size_t)s->config->save_total_limit, best, e);
}

enum status save_tolerate(const struct session *s, enum status status, struct err *e)
{
    if (status != ERR_DISK_FULL || s->config->on_disk_full != CONFIG_DISK_FULL_CONTINUE)
        return status;
    log_warning("%s", e->message);
    *e = (struct err){0};
    return OK;
}

enum status save_final(struct session *s, struct err *e)
{
    enum status status = save_all(s, s->config->output_dir, e);
    if (!status) status = io_sync_dir(s->config->output_dir, e);
    if (!status) return OK;
    if (status == ERR_DISK_FULL)
        err_hint(e, "free space there; resume_from_checkpoint=auto goes on from the last "
                    "checkpoint");
    return err_wrap(e, "saving the final model");
}

enum status save_load_best(struct session *s, struct err *e)
{
    char dir[IO_PATH_MAX], path[IO_PATH_MAX];
    TRY(commit_path(dir, sizeof dir, s->config->output_dir, s->best.step, e));
    TRY(io_join(path, sizeof path, dir, STATE_FILE, e));
    enum status status = weights_load_state(&s->engine, path, e);
    return status ? err_wrap(e, "loading the best model") : OK;
}

/* --- going on --- */

static enum status check_fingerprint(struct session *s, struct err *e)
{
    char path[IO_PATH_MAX];
    struct fingerprint f = {0};
    TRY(io_join(path, sizeof path, s->resume, FINGERPRINT_FILE, e));
    enum status status = identity_make(s, &f, e);
    if (!status) status = fingerprint_check(&f, path, e);
    fingerprint_free(&f);
    if (status == ERR_CONFIG)
        err_hint(e, "resume with what the checkpoint was made with, or start anew");
    return status;
}

static enum status read_run_state(struct session *s, struct err *e)
{
    char path[IO_PATH_MAX];
    json_t *state;
    TRY(io_join(path, sizeof path, s->resume, FINGERPRINT_FILE, e));
    TRY(fingerprint_read_state(&state, path, e));
    enum status status = products_check(&s->engine.device, state, path, e);
    if (!status) status = guard_from_json(&s->guard, state, path, e);
    if (!status) status = best_from_json(&s->best, state, path, e);
    json_decref(state);
    if (status || s->best.step < 0 || !s->config->load_best_model_at_end) return status;
    TRY(commit_path(path, sizeof path, s->config->output_dir, s->best.step, e));
    if (io_is_dir(path)) return OK;
    log_warning("%s, the best so far, is gone: the best from here on counts", path);
    best_init(&s->best);
    return OK;
}

static enum status read_progress(struct session *s, struct err *e)
{
    char path[IO_PATH_MAX];
    struct trainer_state state = {0};
    TRY(io_join(path, sizeof path, s->resume, TRAINER_STATE_FILE, e));
    TRY(trainer_state_read(&state, path, e));
    s->done = state.global_step;
    s->num_tokens = state.num_input_tokens_seen;
    trainer_state_free(&state);
    if (s->done >= 0 && s->done <= s->total_steps && s->num_tokens >= 0) return OK;
    return err_at(e, ERR_FORMAT, path, 0, 0, "step %lld of %lld", (long long)s->done,
                  (long long)s->total_steps);
}

static enum status read_checkpoint(struct session *s, struct err *e)
{
    char path[IO_PATH_MAX];
    TRY(check_fingerprint(s, e));
    TRY(io_join(path, sizeof path, s->resume, STATE_FILE, e));
    TRY(weights_load_state(&s->engine, path, e));
    TRY(read_progress(s, e));
    return read_run_state(s, e);
}

/* The newest checkpoint of output_dir before the one that failed; -1: none. */
static int64_t earlier_checkpoint(const struct session *s)
{
    struct err ignored = {0};
    const char *failed = strrchr(s->resume, '/') ? strrchr(s->resume, '/') + 1 : s->resume;
    int64_t *steps = NULL, found = -1;
    long long number;
    size_t n = 0;
    if (sscanf(failed, "checkpoint-%lld", &number) != 1) return -1;
    if (commit_list(s->config->output_dir, &steps, &n, &ignored)) return -1;
    for (size_t i = 0; i < n && steps[i] < number; i++) found = steps[i];
    mem_free(steps);
    return found;
}

enum status save_resume(struct session *s, struct err *e)
{
    enum status status = read_checkpoint(s, e);
    if (!status) return OK;
    int damaged = status == ERR_FORMAT || status == ERR_IO || status == ERR_SHAPE;
    int64_t earlier = damaged ? earlier_checkpoint(s) : -1;
    err_wrap(e, "cannot go on from %s", s->resume);
    if (damaged) e->hint[0] = 0; /* what is wrong with the file matters less than what to do */
    if (earlier >= 0)
        err_hint(e, "an earlier one: resume_from_checkpoint=%s/checkpoint-%lld",
                 s->config->output_dir, (long long)earlier);
    if (damaged)
        err_hint(e, "there is no earlier one; overwrite_output_dir=true starts anew without "
                    "resume_from_checkpoint");
    return status;
}

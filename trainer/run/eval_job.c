#include "run/eval_job.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "run/mixture.h"
#include "run/precision.h"
#include "run/preference_config.h"
#include "run/starting.h"

#define BATCH_SIZE 8

/* --- which model --- */

static int holds(const char *dir, const char *file)
{
    char path[IO_PATH_MAX];
    struct err ignored = {0};
    return !io_join(path, sizeof path, dir, file, &ignored) && io_file_size(path) >= 0;
}

static enum status copy_path(char *out, const char *path, struct err *e)
{
    if ((size_t)snprintf(out, IO_PATH_MAX, "%s", path) >= IO_PATH_MAX)
        return err_set(e, ERR_IO, "path too long: %s", path);
    return OK;
}

/* What the run left in output_dir; an adapter's base with a grown vocabulary lies in its "base". */
static enum status find_trained(struct eval_job *j, const struct config *c, struct err *e)
{
    const char *out = c->output_dir ? c->output_dir : "";
    char grown[IO_PATH_MAX];
    TRY(copy_path(j->model, c->model_name_or_path, e));
    if (holds(out, "adapter_model.safetensors")) {
        TRY(copy_path(j->adapter, out, e));
        TRY(io_join(grown, sizeof grown, out, "base", e));
        if (holds(grown, "config.json")) memcpy(j->model, grown, sizeof grown);
    } else if (holds(out, "model.safetensors") || holds(out, "model.safetensors.index.json")) {
        TRY(copy_path(j->model, out, e));
    }
    return OK;
}

static enum status find_model(struct eval_job *j, const struct eval_options *o, struct err *e)
{
    if (o->config) TRY(config_require(o->config, KEY_model_name_or_path, e));
    if (o->model)
        TRY(copy_path(j->model, o->model, e));
    else
        TRY(find_trained(j, o->config, e));
    return o->adapter ? copy_path(j->adapter, o->adapter, e) : OK;
}

static enum status open_text(struct eval_job *j, const struct eval_options *o,
                             struct inference_options *i, struct err *e)
{
    const struct config *c = o->config;
    *i = (struct inference_options){.model = j->model,
                                    .adapter = j->adapter[0] ? j->adapter : NULL,
                                    .template = o->template,
                                    .device = o->device ? o->device : "auto",
                                    .threads = o->threads,
                                    .max_new_tokens = o->max_new_tokens,
                                    .sampling = {.top_p = 1}};
    if (c && !o->template) i->template = c->template;
    if (c && c->stage == CONFIG_STAGE_PT) i->raw = 1;
    if (c && !o->device) i->device = precision_device(c);
    if (c && c->device == CONFIG_DEVICE_NULL) i->device = "cpu"; /* which has numbers */
    if (c && !o->threads) i->threads = (int)c->threads;
    return inference_open_text(&j->inference, i, e);
}

/* --- which documents --- */

static enum status open_held_out(struct eval_job *j, const struct config *c, struct err *e)
{
    if (c->val_size <= 0) {
        err_set(e, ERR_CONFIG, "nothing is held out to evaluate on");
        return err_hint(e, "set eval_dataset or val_size, or name files with --data");
    }
    TRY(mixture_make(&j->mix, c, j->store, e));
    j->documents = j->mix.eval;
    return OK;
}

static enum status open_data(struct eval_job *j, const struct eval_options *o, struct err *e)
{
    const struct inference *f = &j->inference;
    if (o->data) {
        struct dataset_files_request r = {o->data, "auto", f->tokenizer, f->template, o->prep};
        return dataset_open_files(&j->store, &r, e);
    }
    const struct config *c = o->config;
    enum config_key key = c->eval_dataset.n ? KEY_eval_dataset : KEY_datasets;
    struct dataset_request r = {c, key, f->tokenizer, f->template, o->prep};
    TRY(config_require(c, KEY_output_dir, e)); /* the cache lies beside it */
    TRY(config_require(c, KEY_datasets, e));
    TRY(dataset_open(&j->store, &r, e));
    return key == KEY_eval_dataset ? OK : open_held_out(j, c, e);
}

/* --- preferences --- */

/* As the config has it, or a loss for what the records are. */
static enum status find_options(struct eval_job *j, const struct eval_options *o, struct err *e)
{
    int unpaired = store_info(j->store)->settings.kind == KIND_UNPAIRED;
    if (o->config && preference_stage(o->config)) {
        TRY(preference_config(o->config, &j->preferences, e));
    } else {
        j->preferences = preference_defaults();
        if (unpaired) j->preferences.losses[0] = preference_loss_find("kto");
    }
    if (o->beta > 0) j->preferences.beta = o->beta;
    if (preference_needs(&j->preferences).unpaired == unpaired) return OK;
    err_set(e, ERR_CONFIG, "%s holds %s", store_path(j->store),
            kind_about((enum record_kind)store_info(j->store)->settings.kind));
    return err_hint(e, "the config's stage is %s", config_word(o->config, KEY_stage));
}

static enum status use_model(struct eval_job *j, struct inference_options *i, const char *dir,
                             struct err *e)
{
    struct model_config other;
    TRY(model_config_read(&other, dir, e));
    int same = starting_same_shape(&other, &j->inference.config);
    model_config_free(&other);
    if (!same) {
        err_set(e, ERR_CONFIG, "the reference %s is of another shape than %s", dir, j->model);
        return err_hint(e, "the reference must be of the same family and sizes");
    }
    i->reference = ENGINE_REFERENCE_MODEL;
    j->reference_text = j->reference;
    return copy_path(j->reference, dir, e);
}

static enum status find_reference(struct eval_job *j, const struct eval_options *o,
                                  struct inference_options *i, struct err *e)
{
    const struct config *c = o->config && preference_stage(o->config) ? o->config : NULL;
    const char *adapter = c ? starting_reference_adapter(c) : NULL;
    j->reference_text = "none: rewards are beta times the log-probabilities";
    if (!preference_needs(&j->preferences).reference) return OK;
    if (o->ref_model) return use_model(j, i, o->ref_model, e);
    if (c && c->ref_model) return use_model(j, i, c->ref_model, e);
    if (c && !j->adapter[0]) return use_model(j, i, c->model_name_or_path, e);
    if (!j->adapter[0]) return OK;
    i->reference = adapter ? ENGINE_REFERENCE_ADAPTER : ENGINE_REFERENCE_BASE;
    j->reference_text = adapter ? j->reference : "the model without the adapter";
    i->reference_dir = j->reference;
    return adapter ? copy_path(j->reference, adapter, e) : OK;
}

static enum status open_preferences(struct eval_job *j, const struct eval_options *o,
                                    struct inference_options *i, struct err *e)
{
    j->aligns = store_info(j->store)->settings.kind != KIND_SFT;
    if (!j->aligns) return OK;
    TRY(find_options(j, o, e));
    i->pairs = 1;
    i->reference_dir = j->reference;
    return find_reference(j, o, i, e);
}

static enum status open_loader(struct eval_job *j, const struct eval_options *o, struct err *e)
{
    const struct config *c = o->config;
    int64_t length = o->max_length, batch = o->batch_size;
    if (!length) length = c ? c->max_length : j->inference.config.max_positions;
    if (!batch) batch = c ? c->per_device_eval_batch_size : BATCH_SIZE;
    j->max_length = (int32_t)length;
    if (length > j->inference.config.max_positions)
        log_warning("%lld tokens are looked at, above the model's max_position_embeddings %d",
                    (long long)length, (int)j->inference.config.max_positions);
    struct loader_options options = {.max_length = j->max_length,
                                     .batch_size = (int32_t)batch,
                                     .accumulation = 1,
                                     .packing = c ? c->packing : 0,
                                     .pieces = c && c->stage == CONFIG_STAGE_PT,
                                     .seed = c ? (uint64_t)c->seed : 0,
                                     .prefix_sharing = 1};
    if (j->aligns) {
        struct preference_needs needs = preference_needs(&j->preferences);
        if (c) options.prefix_sharing = c->prefix_sharing;
        options.with_prompt = needs.prompt_tokens;
        if (needs.mismatch)
            options.mismatch_chunk = (int32_t)(c ? c->per_device_train_batch_size : batch);
    }
    return loader_open(&j->loader, j->store, j->documents, &options, e);
}

static int32_t longest(const struct store *s)
{
    const struct store_info *info = store_info(s);
    int64_t most = 0;
    for (int64_t d = 0; d < info->num_documents; d++)
        if (info->offsets[d + 1] - info->offsets[d] > most)
            most = info->offsets[d + 1] - info->offsets[d];
    return most > INT32_MAX ? INT32_MAX : (int32_t)most;
}

enum status eval_job_open(struct eval_job *j, const struct eval_options *o, struct err *e)
{
    struct inference_options inference;
    struct loader_limits limits;
    *j = (struct eval_job){0};
    TRY(find_model(j, o, e));
    TRY(open_text(j, o, &inference, e));
    TRY(open_data(j, o, e));
    TRY(open_preferences(j, o, &inference, e));
    TRY(open_loader(j, o, e));
    TRY(loader_limits(j->loader, 1, &limits, e));
    if (j->aligns) TRY(align_init(&j->align, &j->preferences, &limits, e));
    return inference_open_engine(&j->inference, &inference, &limits, longest(j->store), e);
}

void eval_job_close(struct eval_job *j)
{
    align_free(&j->align);
    loader_close(j->loader);
    mix_free(&j->mix);
    store_close(j->store);
    inference_close(&j->inference);
    *j = (struct eval_job){0};
}

enum status eval_job_run(struct eval_job *j, const struct eval_options *o,
                         const struct evaluate_watcher *watcher, struct evaluation *v,
                         struct err *e)
{
    TRY(evaluation_init(v, j->store, e));
    if (j->aligns)
        TRY(evaluate_preferences(v, &j->inference.engine, &j->align, j->loader, watcher, e));
    else
        TRY(evaluate_loss(v, &j->inference.engine, j->loader, watcher, e));
    return o->answers ? evaluate_answers(v, &j->inference, j->documents, watcher, e) : OK;
}

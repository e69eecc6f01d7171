#include "run/session.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "run/save.h"
#include "run/weights.h"

static const enum config_key required[] = {KEY_model_name_or_path, KEY_output_dir, KEY_datasets};

/* --- the model's side --- */

static enum status open_model(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    TRY(model_config_read(&s->model, c->model_name_or_path, e));
    TRY(dataset_tools(c, &s->tokenizer, &s->template, e));
    struct encode_options o = {TRAIN_ASSISTANT, c->tokenize_whole};
    TRY(encoder_create(&s->encoder, s->template, s->tokenizer, &o, e));
    if (tokenizer_vocab_size(s->tokenizer) > s->model.vocab_size) {
        config_fail(c, KEY_model_name_or_path, e, "the tokenizer has %d tokens, the model %d",
                    (int)tokenizer_vocab_size(s->tokenizer), (int)s->model.vocab_size);
        return err_hint(e, "take the tokenizer that belongs to this model");
    }
    if (c->max_length > s->model.max_positions)
        log_warning("max_length %lld is above the model's max_position_embeddings %d",
                    (long long)c->max_length, (int)s->model.max_positions);
    return OK;
}

/* --- the data's side --- */

static enum status open_store(struct session *s, enum config_key key,
                              const struct dataset_watcher *w, struct store **out, struct err *e)
{
    struct dataset_request r = {s->config, key, s->tokenizer, s->template, w};
    return dataset_open(out, &r, e);
}

static enum status open_train_loader(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    struct loader_options o = {(int32_t)c->max_length,
                               (int32_t)c->per_device_train_batch_size,
                               (int32_t)c->gradient_accumulation_steps,
                               c->packing,
                               1,
                               (uint64_t)c->seed};
    enum status status = loader_split(&s->split, store_info(s->store)->num_documents, c->val_size,
                                      (uint64_t)c->seed, e);
    if (status == ERR_CONFIG) return config_fail(c, KEY_val_size, e, "%s", e->message);
    TRY(status);
    return loader_open(&s->train_loader, s->store, s->split.train, &o, e);
}

static enum status open_eval_loader(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    struct loader_options o = {
        (int32_t)c->max_length, (int32_t)c->per_device_eval_batch_size, 1, c->packing, 0,
        (uint64_t)c->seed};
    struct loader_subset all = {0};
    if (s->eval_store)
        TRY(loader_open(&s->eval_loader, s->eval_store, all, &o, e));
    else if (s->split.eval.num_documents)
        TRY(loader_open(&s->eval_loader, s->store, s->split.eval, &o, e));
    return OK;
}

static enum status open_data(struct session *s, const struct dataset_watcher *w, struct err *e)
{
    TRY(open_store(s, KEY_datasets, w, &s->store, e));
    if (s->config->eval_dataset.n) TRY(open_store(s, KEY_eval_dataset, w, &s->eval_store, e));
    TRY(open_train_loader(s, e));
    return open_eval_loader(s, e);
}

/* Steps and the course of the learning rate (SEMANTICS H). */
static void make_schedule(struct session *s)
{
    const struct config *c = s->config;
    s->steps_per_epoch = loader_report(s->train_loader)->steps_per_epoch;
    double by_epochs = ceil(c->num_train_epochs * (double)s->steps_per_epoch - 1e-9);
    s->total_steps = c->max_steps > 0 ? c->max_steps : (int64_t)by_epochs;
    double warmup = c->warmup_steps;
    if (warmup < 1) warmup = ceil(warmup * (double)s->total_steps);
    s->schedule =
        (struct schedule){schedule_find(config_word(c, KEY_lr_scheduler_type)), c->learning_rate,
                          (int64_t)warmup, s->total_steps, c->min_lr_rate};
    s->adamw = (struct adamw_options){c->adam_beta1, c->adam_beta2, c->adam_epsilon,
                                      c->weight_decay, c->max_grad_norm};
}

/* --- both together --- */

static int is_all_linear(struct config_list targets)
{
    return targets.n == 1 && !strcmp(targets.items[0], "all-linear");
}

static void set_lora(struct session *s)
{
    const struct config *c = s->config;
    int all = is_all_linear(c->lora_target_modules);
    s->lora = (struct lora_options){.r = (int32_t)c->lora_r,
                                    .alpha = c->lora_alpha,
                                    .dropout = c->lora_dropout,
                                    .rslora = c->use_rslora,
                                    .targets = all ? NULL : c->lora_target_modules.items,
                                    .num_targets = all ? 0 : c->lora_target_modules.n};
}

static enum status open_engine(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    struct engine_options o = {.device = c->device == CONFIG_DEVICE_NULL ? "null" : "cpu",
                               .threads = (int)c->threads,
                               .config = &s->model,
                               .train = 1,
                               .checkpoint = c->gradient_checkpointing == CONFIG_CHECKPOINT_FULL,
                               .reduction = c->loss_reduction == CONFIG_MICROBATCH_MEAN
                                                ? LOSS_MICROBATCH_MEAN
                                                : LOSS_TOKEN_MEAN,
                               .positions = (int32_t)c->max_length};
    int64_t epochs = (s->total_steps + s->steps_per_epoch - 1) / s->steps_per_epoch;
    TRY(loader_limits(s->train_loader, (int32_t)epochs, &o.train_limits, e));
    if (s->eval_loader) TRY(loader_limits(s->eval_loader, 1, &o.eval_limits, e));
    if (c->finetuning == CONFIG_LORA) {
        set_lora(s);
        o.lora = &s->lora;
    }
    TRY(engine_describe(&s->engine, &o, e));
    return engine_allocate(&s->engine, e);
}

static enum status fill_weights(struct session *s, struct err *e)
{
    TRY(weights_load_base(&s->engine, s->config->model_name_or_path, e));
    if (s->resume[0]) return save_resume(s, e);
    if (s->engine.has_lora)
        TRY(lora_init_weights(&s->engine.lora, &s->engine.device, (uint64_t)s->config->seed, e));
    return OK;
}

enum status session_open(struct session *s, const struct config *config,
                         const struct dataset_watcher *watcher, struct err *e)
{
    *s = (struct session){.config = config};
    for (size_t i = 0; i < sizeof required / sizeof *required; i++)
        TRY(config_require(config, required[i], e));
    TRY(open_model(s, e));
    TRY(save_claim_output(s, e));
    TRY(open_data(s, watcher, e));
    make_schedule(s);
    TRY(open_engine(s, e));
    return fill_weights(s, e);
}

void session_close(struct session *s)
{
    engine_free(&s->engine);
    loader_close(s->train_loader);
    loader_close(s->eval_loader);
    loader_split_free(&s->split);
    store_close(s->store);
    store_close(s->eval_store);
    encoder_destroy(s->encoder);
    tokenizer_close(s->tokenizer);
    model_config_free(&s->model);
    *s = (struct session){0};
}

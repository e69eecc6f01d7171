#include "run/session.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "ckpt/safetensors.h"
#include "run/chat_template.h"
#include "run/journal.h"
#include "run/output.h"
#include "run/plan.h"
#include "run/preference_config.h"
#include "run/recompute.h"
#include "run/save.h"
#include "run/saver.h"
#include "run/starting.h"
#include "run/trained_tokens.h"
#include "run/weights.h"

#define PEAK_SECONDS 0.06 /* spent once to measure the GEMM rate that shares are held against */
#define DECODE_ROWS 64    /* tokens of a sample prompt fed at once */

static const enum config_key required[] = {KEY_model_name_or_path, KEY_output_dir, KEY_datasets};

/* --- the model's side --- */

static int holds(const char *dir, const char *name)
{
    char path[IO_PATH_MAX];
    struct err ignored = {0};
    return !io_join(path, sizeof path, dir, name, &ignored) && io_exists(path);
}

/* Where the model's config.json is. */
static enum status find_model_config(const struct session *s, const char **out, struct err *e)
{
    const struct config *c = s->config;
    *out = c->model_name_or_path;
    if (io_file_size(*out) >= 0) {
        config_fail(c, KEY_model_name_or_path, e, "%s is a file", *out);
        return err_hint(e, "name the directory: config.json, the tokenizer's files, *.safetensors");
    }
    if (holds(*out, "adapter_config.json") && !holds(*out, "config.json")) {
        config_fail(c, KEY_model_name_or_path, e, "%s is an adapter", *out);
        return err_hint(e, "name its base here, and the adapter in adapter_name_or_path");
    }
    if (s->purpose == SESSION_TRAIN || holds(*out, "config.json")) return OK;
    if (c->model_config) {
        *out = c->model_config;
        return OK;
    }
    config_fail(c, KEY_model_name_or_path, e, "%s has no config.json", *out);
    return err_hint(e, "set model_config to the model's config.json to plan without its weights");
}

static void find_absent(struct session *s)
{
    const char *dir = s->config->model_name_or_path;
    if (s->purpose == SESSION_TRAIN) return;
    if (!s->config->random_weights && !holds(dir, "model.safetensors") &&
        !holds(dir, "model.safetensors.index.json"))
        s->absent.weights = dir;
    if (!holds(dir, "tokenizer.json") && !holds(dir, "tokenizer.model")) s->absent.tokenizer = dir;
}

static enum status open_tokenizer(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    struct encode_options o = {TRAIN_ASSISTANT, c->tokenize_whole, (enum compat)c->compat,
                               (int32_t)c->max_length};
    TRY(new_tokens_open(&s->new_tokens, &s->tokenizer, c, s->template, e));
    TRY(encoder_create(&s->encoder, s->template, s->tokenizer, &o, e));
    int32_t tokens = tokenizer_vocab_size(s->tokenizer);
    if (tokens <= s->model.vocab_size) return OK;
    if (tokens - s->new_tokens.count <= s->model.vocab_size) { /* embedding and head grow */
        s->new_tokens.base_vocab = s->model.vocab_size;
        s->model.vocab_size = tokens;
        return OK;
    }
    config_fail(c, KEY_model_name_or_path, e, "the tokenizer has %d tokens, the model %d",
                (int)tokens, (int)s->model.vocab_size);
    return err_hint(e, "take the tokenizer that belongs to this model");
}

/* Weights that are not there or cannot be read are told before the data are prepared, which can
 * take long. What they hold, preflight looks at. */
static enum status check_weights(const struct session *s, struct err *e)
{
    struct tensor_files *files;
    if (s->purpose != SESSION_TRAIN || s->config->random_weights) return OK;
    TRY(tensor_files_open(&files, s->config->model_name_or_path, e));
    tensor_files_close(files);
    return OK;
}

static enum status open_model(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    const char *path;
    TRY(find_model_config(s, &path, e));
    TRY(model_config_read(&s->model, path, e));
    TRY(starting_open(s, e));
    TRY(chat_template_of_config(c, &s->template, e));
    find_absent(s);
    if (!s->absent.tokenizer) TRY(open_tokenizer(s, e));
    TRY(check_weights(s, e));
    struct trained_tokens_request trained = {c, s->tokenizer, &s->new_tokens, s->model.tied};
    TRY(trained_tokens_find(&trained, &s->trained_tokens, &s->num_trained_tokens, e));
    TRY(starting_tokens(s, e));
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

/* What both loaders have in common. */
static struct loader_options loader_options(const struct session *s)
{
    const struct config *c = s->config;
    struct loader_options o = {.max_length = (int32_t)c->max_length,
                               .accumulation = 1,
                               .packing = c->packing,
                               .pieces = c->stage == CONFIG_STAGE_PT,
                               .seed = (uint64_t)c->seed};
    if (!s->aligns) return o;
    struct preference_needs needs = preference_needs(&s->preferences);
    o.prefix_sharing = c->prefix_sharing;
    o.with_prompt = needs.prompt_tokens;
    if (needs.mismatch) o.mismatch_chunk = (int32_t)c->per_device_train_batch_size;
    return o;
}

static enum status open_train_loader(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    struct loader_options o = loader_options(s);
    o.batch_size = (int32_t)c->per_device_train_batch_size;
    o.accumulation = (int32_t)c->gradient_accumulation_steps;
    /* TRL: the records of a chunk stay together */
    o.shuffle = !o.mismatch_chunk && c->order != CONFIG_ORDER_SEQUENTIAL;
    if (!s->mix.accounts) TRY(mixture_make(&s->mix, c, s->store, e)); /* a variant has it */
    return loader_open(&s->train_loader, s->store, s->mix.train, &o, e);
}

static enum status open_eval_loader(struct session *s, struct err *e)
{
    struct loader_options o = loader_options(s);
    struct loader_subset all = {0};
    o.batch_size = (int32_t)s->config->per_device_eval_batch_size;
    if (s->eval_store)
        TRY(loader_open(&s->eval_loader, s->eval_store, all, &o, e));
    else if (s->mix.eval.num_documents)
        TRY(loader_open(&s->eval_loader, s->store, s->mix.eval, &o, e));
    return OK;
}

static const char *absent_file(struct config_datasets list)
{
    for (size_t i = 0; i < list.n; i++)
        if (!io_exists(list.items[i].path)) return list.items[i].path;
    return NULL;
}

static enum status open_loaders(struct session *s, struct err *e)
{
    TRY(open_train_loader(s, e));
    return open_eval_loader(s, e);
}

static enum status open_data(struct session *s, const struct dataset_watcher *w, struct err *e)
{
    const struct config *c = s->config;
    if (s->purpose == SESSION_PLAN) {
        s->absent.data = absent_file(c->datasets);
        if (!s->absent.data) s->absent.data = absent_file(c->eval_dataset);
        if (!s->absent.data && s->absent.tokenizer) s->absent.data = c->datasets.items[0].path;
    }
    if (s->absent.data) return OK;
    TRY(open_store(s, KEY_datasets, w, &s->store, e));
    if (c->eval_dataset.n) TRY(open_store(s, KEY_eval_dataset, w, &s->eval_store, e));
    TRY(open_loaders(s, e));
    return s->eval_store ? mixture_check_overlap(&s->mix, s->store, s->eval_store, e) : OK;
}

/* Steps and the course of the learning rate (SEMANTICS H). */
static void make_schedule(struct session *s)
{
    const struct config *c = s->config;
    s->steps_per_epoch = s->train_loader ? loader_report(s->train_loader)->steps_per_epoch : 0;
    double by_epochs = ceil(c->num_train_epochs * (double)s->steps_per_epoch - 1e-9);
    s->total_steps = c->max_steps > 0 ? c->max_steps : (int64_t)by_epochs;
    double warmup = c->warmup_steps;
    if (warmup < 1) warmup = ceil(warmup * (double)s->total_steps);
    s->schedule =
        (struct schedule){schedule_find(config_word(c, KEY_lr_scheduler_type)), c->learning_rate,
                          (int64_t)warmup, s->total_steps, c->min_lr_rate};
    s->adamw = (struct adamw_options){c->adam_beta1,   c->adam_beta2,    c->adam_epsilon,
                                      c->weight_decay, c->max_grad_norm, (uint64_t)c->seed};
}

/* --- both together --- */

/* Without the data: every micro-batch could be full. A pair is two texts, and three segments. */
static struct loader_limits full_batch(const struct session *s, int64_t units)
{
    const struct config *c = s->config;
    int64_t rows = units * c->max_length * (s->aligns ? 2 : 1);
    int64_t segments = c->packing ? rows / 8 + 1 : units * (s->aligns ? 3 : 1);
    int32_t most = rows < INT32_MAX / 2 ? (int32_t)rows : INT32_MAX / 2;
    int32_t most_segments = segments < most ? (int32_t)segments : most;
    struct batch_tail tail =
        loader_tail(s->engine.device.k->row_multiple, most, most, most_segments);
    return (struct loader_limits){.max_rows = most + tail.rows,
                                  .max_supervised = most + tail.supervised,
                                  .max_segments = most_segments + tail.segments,
                                  .max_pairs = s->aligns ? most_segments : 0};
}

/* The largest micro-batches, by what the device has rows rounded up to. */
static enum status find_limits(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    struct engine_options *o = &s->engine.options;
    int32_t multiple = s->engine.device.k->row_multiple;
    if (s->absent.data) {
        o->train_limits = full_batch(s, c->per_device_train_batch_size);
        if (c->val_size > 0 || c->eval_dataset.n)
            o->eval_limits = full_batch(s, c->per_device_eval_batch_size);
        return OK;
    }
    int64_t epochs = (s->total_steps + s->steps_per_epoch - 1) / s->steps_per_epoch;
    TRY(loader_round(s->train_loader, multiple, e));
    TRY(loader_limits(s->train_loader, (int32_t)epochs, &o->train_limits, e));
    if (!s->eval_loader) return OK;
    TRY(loader_round(s->eval_loader, multiple, e));
    return loader_limits(s->eval_loader, 1, &o->eval_limits, e);
}

/* Sets it, and says what the GPU computes with where it has a choice. */
static enum status choose_attention(struct session *s, struct err *e)
{
    static const enum attention_engine wishes[] = {[CONFIG_ATTENTION_AUTO] = ATTENTION_AUTO,
                                                   [CONFIG_ATTENTION_PLAIN] = ATTENTION_PLAIN,
                                                   [CONFIG_ATTENTION_FLASH] = ATTENTION_FLASH,
                                                   [CONFIG_ATTENTION_HOPPER] = ATTENTION_HOPPER,
                                                   [CONFIG_ATTENTION_CUDNN] = ATTENTION_CUDNN};
    struct device *d = &s->engine.device;
    char text[400];
    if (device_set_attention(d, wishes[s->config->attention], s->model.head_dim, e))
        return config_blame(s->config, KEY_attention, e);
    if (s->is_variant || !d->k->attention_engine) return OK;
    d->k->describe(d, text, sizeof text);
    log_notice("computing on %s", text);
    return OK;
}

/* What was asked for must be had. */
static enum status check_graphs(const struct session *s, struct err *e)
{
    const struct device *d = &s->engine.device;
    if (s->config->cuda_graphs != CONFIG_CUDA_GRAPHS_TRUE || d->k->graph_begin) return OK;
    err_set(e, ERR_CONFIG, "device %s has no CUDA graphs", d->k->name);
    err_hint(e, "write auto, or take a GPU");
    return config_blame(s->config, KEY_cuda_graphs, e);
}

static enum status lay_out(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    struct engine_options o = {.device = precision_device(c),
                               .fp32 = c->precision == CONFIG_PRECISION_FP32,
                               .no_masters = !c->master_weights,
                               .moments_8bit = c->optim == CONFIG_OPTIM_ADAMW_8BIT,
                               .threads = (int)c->threads,
                               .config = &s->model,
                               .train = 1,
                               .graphs = c->cuda_graphs != CONFIG_CUDA_GRAPHS_FALSE,
                               .reduction = c->loss_reduction == CONFIG_MICROBATCH_MEAN
                                                ? LOSS_MICROBATCH_MEAN
                                                : LOSS_TOKEN_MEAN,
                               .pairs = s->aligns,
                               .reference = starting_reference(s),
                               .reference_in_place = c->precompute_ref_log_probs,
                               .positions = (int32_t)c->max_length,
                               .base_vocab = s->new_tokens.base_vocab,
                               .loading = s->watcher ? s->watcher->weights : NULL,
                               .loading_context = s->watcher ? s->watcher->context : NULL};
    enum config_gradient_checkpointing word =
        (enum config_gradient_checkpointing)c->gradient_checkpointing;
    o.recompute = recompute_fixed(word, s->model.num_layers);
    o.cache_rows = answers_cache_rows(&s->answers);
    o.decode_rows = s->answers.longest < DECODE_ROWS ? s->answers.longest : DECODE_ROWS;
    if (o.positions < o.cache_rows) o.positions = o.cache_rows;
    if (c->finetuning == CONFIG_LORA) {
        TRY(starting_lora(s, e));
        o.lora = &s->lora;
    }
    enum status status = engine_describe(&s->engine, &o, e);
    if (status == ERR_CONFIG && o.lora) /* a target the model does not have */
        return config_blame(c, KEY_lora_target_modules, e);
    TRY(status);
    TRY(choose_attention(s, e));
    TRY(check_graphs(s, e));
    s->precision = precision_choose(c, s->engine.device.type);
    TRY(find_limits(s, e));
    return engine_measure(&s->engine, e);
}

/* --- memory and weights --- */

static enum status open_align(struct session *s, struct err *e)
{
    const struct engine_options *o = &s->engine.options;
    struct loader_limits most = o->train_limits;
    if (!s->aligns) return OK;
    if (o->eval_limits.max_pairs > most.max_pairs) most.max_pairs = o->eval_limits.max_pairs;
    return align_init(&s->align, &s->preferences, &most, e);
}

/* Where there is no other memory than the host's there is nothing to be had by offloading. It is
 * not refused: the numbers are those of full, what does not fit is refused anyhow, and a recipe for
 * a GPU can be tried on a CPU. */
static enum status settle_offload(struct session *s, struct err *e)
{
    struct engine *g = &s->engine;
    struct model_recompute full = {.full = s->model.num_layers};
    if (!g->options.recompute.offload || g->device.k->copy_out) return OK;
    if (!s->is_variant)
        log_notice("gradient_checkpointing: full instead of offload: device %s computes in the "
                   "host's memory",
                   g->device.k->name);
    return engine_set_recompute(g, &full, e);
}

static int fits(const void *session)
{
    struct plan p;
    plan_make(&p, session);
    return p.fits;
}

/* The least recomputation that fits, by what is known so far, if it is ours to choose. */
static enum status choose_recompute(struct session *s, struct err *e)
{
    struct recompute_room room = {fits, s};
    if (s->config->gradient_checkpointing != CONFIG_CHECKPOINT_AUTO) return settle_offload(s, e);
    return recompute_choose(&s->engine, &room, e);
}

static enum status say_recompute(const struct session *s, struct err *e)
{
    struct buf text;
    buf_init(&text, 256);
    enum status status = recompute_print(&s->engine, &text);
    if (!status && s->config->gradient_checkpointing == CONFIG_CHECKPOINT_AUTO)
        log_notice("gradient_checkpointing: blocks %s", text.data);
    buf_free(&text);
    return status ? err_set(e, status, "no memory to name the blocks") : OK;
}

enum { HOLD_FROM = 1 << 28 }; /* bytes of arenas; below, products pack into blocks of the heap */

/* Lets the BLAS take what it will ever want, and sees how fast it is. A plan for no device is made
 * for the CPU. */
static enum status warm_up(struct session *s, struct err *e)
{
    struct device cpu = {0}, *d = &s->engine.device;
    if (s->config->device == CONFIG_DEVICE_NULL) {
        TRY(device_open(&cpu, "cpu", (int)s->config->threads, e));
        d = &cpu;
    }
    size_t before = memory_peak();
    if (s->engine.memory.run + s->engine.memory.step >= HOLD_FROM) memory_hold(&s->memory);
    double peak = device_gemm_peak(d, PEAK_SECONDS);
    enum status status = engine_touch_products(&s->engine, d, e);
    memory_note_peak(&s->memory, before);
    if (d == &cpu)
        device_close(&cpu);
    else
        s->gemm_peak = peak;
    return status;
}

static void look_at_device(struct session *s)
{
    const struct device *d = &s->engine.device;
    size_t left = 0;
    if (!d->k->memory) return;
    d->k->memory(d, &left, &s->device_total);
    s->device_used = s->device_total - left;
}

#define LINE_BYTES 2048  /* a log line as an object in memory, and as text */
#define SIDECAR_BYTES 57 /* a record in data/store/reference.h */

/* What can be told beforehand of the memory that is not taken yet, arenas apart. */
static void foresee(struct session *s)
{
    const struct config *c = s->config;
    const struct loader_limits *most = &s->engine.options.train_limits;
    size_t lines = (size_t)(s->total_steps / c->logging_steps);
    if (c->eval_steps > 0 && s->eval_loader) lines += (size_t)(s->total_steps / c->eval_steps);
    memory_add(&s->memory, MEMORY_files, weights_memory(&s->engine));
    memory_add(&s->memory, MEMORY_snapshot, saver_memory(s));
    memory_add(&s->memory, MEMORY_history, lines * LINE_BYTES);
    memory_add(&s->memory, MEMORY_history, journal_memory(s));
    memory_add(&s->memory, MEMORY_reserve, ((size_t)2 << 20) + s->engine.memory.run / 400);
    if (s->store && c->precompute_ref_log_probs) {
        int64_t documents = store_info(s->store)->num_documents;
        if (s->eval_store) documents += store_info(s->eval_store)->num_documents;
        memory_add(&s->memory, MEMORY_dataset, (size_t)documents * SIDECAR_BYTES);
    }
    if (s->absent.data) /* the loader's six arrays of a micro-batch */
        memory_add(&s->memory, MEMORY_dataset, (size_t)most->max_rows * 6 * sizeof(int32_t));
}

enum status session_prepare(struct session *s, const struct config *config,
                            enum session_purpose purpose, const struct dataset_watcher *watcher,
                            struct err *e)
{
    *s = (struct session){.config = config, .purpose = purpose, .watcher = watcher};
    guard_init(&s->guard, config);
    best_init(&s->best);
    for (size_t i = 0; i < sizeof required / sizeof *required; i++)
        TRY(config_require(config, required[i], e));
    s->aligns = preference_stage(config);
    if (s->aligns) TRY(preference_config(config, &s->preferences, e));
    memory_begin(&s->memory);
    size_t before = memory_peak();
    TRY(open_model(s, e));
    memory_note_peak(&s->memory, before);
    memory_take(&s->memory, MEMORY_tokenizer);
    if (purpose == SESSION_TRAIN) TRY(output_check(s, e));
    TRY(open_data(s, watcher, e));
    TRY(preflight_run(&s->preflight, s, e));
    memory_take(&s->memory, MEMORY_dataset);
    TRY(answers_open(&s->answers, s, e));
    make_schedule(s);
    TRY(lay_out(s, e));
    TRY(open_align(s, e));
    memory_take(&s->memory, MEMORY_graph);
    if (s->precision.note[0]) log_notice("%s", s->precision.note);
    const struct engine_memory *m = &s->engine.memory;
    look_at_device(s);
    TRY(choose_recompute(s, e));
    size_t left = s->device_total ? s->device_total - s->device_used : memory_available(NULL);
    if (m->run + m->step + m->scratch < left) TRY(warm_up(s, e)); /* it may fit */
    look_at_device(s);
    memory_take(&s->memory, MEMORY_blas);
    foresee(s);
    return choose_recompute(s, e);
}

enum status session_start(struct session *s, struct err *e)
{
    TRY(choose_recompute(s, e)); /* there may be less left by now */
    TRY(say_recompute(s, e));
    TRY(plan_check(s, e));
    TRY(output_clear(s, e));
    TRY(engine_allocate(&s->engine, e));
    TRY(starting_load(s, e));
    return s->resume[0] ? save_resume(s, e) : OK;
}

enum status session_open(struct session *s, const struct config *config,
                         const struct dataset_watcher *watcher, struct err *e)
{
    TRY(session_prepare(s, config, SESSION_TRAIN, watcher, e));
    return session_start(s, e);
}

void session_close(struct session *s)
{
    engine_free(&s->engine);
    align_free(&s->align);
    reference_close(s->known);
    reference_close(s->eval_known);
    adapter_dir_close(&s->start);
    mem_free(s->start_targets);
    answers_free(&s->answers);
    loader_close(s->train_loader);
    loader_close(s->eval_loader);
    mix_free(&s->mix);
    store_close(s->store);
    store_close(s->eval_store);
    preflight_free(&s->preflight);
    encoder_destroy(s->encoder);
    template_close(s->template);
    tokenizer_close(s->tokenizer);
    mem_free(s->trained_tokens);
    model_config_free(&s->model);
    *s = (struct session){0};
}

/* --- variants --- */

enum status session_open_variant(struct session *v, const struct session *s,
                                 const struct config *config, struct err *e)
{
    *v = *s;
    v->config = config;
    v->engine = (struct engine){0};
    v->train_loader = v->eval_loader = NULL;
    v->is_variant = 1;
    if (s->store) TRY(open_loaders(v, e));
    make_schedule(v);
    TRY(lay_out(v, e));
    size_t was = engine_host_bytes(&s->engine), is = engine_host_bytes(&v->engine);
    size_t *graph = &v->memory.item[MEMORY_graph]; /* as measured, with the session's batches */
    *graph = *graph > was ? *graph - was + is : is;
    return choose_recompute(v, e);
}

void session_close_variant(struct session *v)
{
    engine_free(&v->engine);
    loader_close(v->train_loader);
    loader_close(v->eval_loader);
    *v = (struct session){0};
}

#include "run/explain.h"

#include <math.h>

#include "run/recompute.h"
#include "run/starting.h"

#define SAY(...) TRY(buf_printf(out, __VA_ARGS__))

static long long ll(int64_t n) { return (long long)n; }

/* --- model --- */

static void count_parameters(const struct session *s, int64_t *trained, int64_t *all)
{
    *trained = *all = 0;
    for (int32_t i = 0; i < s->engine.params.count; i++) {
        const struct param *p = &s->engine.params.params[i];
        *all += (int64_t)p->n;
        if (p->trainable) *trained += (int64_t)p->n;
    }
}

static enum status explain_method(const struct session *s, struct buf *out)
{
    const struct config *c = s->config;
    int64_t trained, all;
    count_parameters(s, &trained, &all);
    if (!s->engine.has_lora) {
        SAY("  All %lld parameters are trained.\n", ll(all));
    } else {
        SAY("  The base is frozen. LoRA of rank %lld is trained on ", ll(c->lora_r));
        for (size_t i = 0; i < c->lora_target_modules.n; i++)
            SAY("%s%s", i ? ", " : "", c->lora_target_modules.items[i]);
        SAY(": %lld parameters, %.2f %% of all. Its output is scaled by lora_alpha / %s = %g.\n",
            ll(trained), 100.0 * (double)trained / (double)all, c->use_rslora ? "sqrt(r)" : "r",
            c->lora_alpha / (c->use_rslora ? sqrt((double)c->lora_r) : (double)c->lora_r));
    }
    return OK;
}

static enum status explain_model(const struct session *s, struct buf *out)
{
    const struct model_config *m = &s->model;
    SAY("Model\n  %s: %s, %d layers, hidden size %d, %d heads over %d key heads, vocabulary "
        "%d%s.\n",
        s->config->model_name_or_path, m->family->name, (int)m->num_layers, (int)m->hidden_size,
        (int)m->num_heads, (int)m->num_kv_heads, (int)m->vocab_size,
        m->tied ? ", head tied to the embedding" : "");
    if (s->config->random_weights)
        SAY("  Its weights are new ones, by seed %lld.\n", ll(s->config->seed));
    if (s->absent.weights) SAY("  Its weights are not there; training will need them.\n");
    return explain_method(s, out);
}

/* --- data --- */

static enum status explain_files(struct config_datasets list, struct buf *out)
{
    for (size_t i = 0; i < list.n; i++)
        SAY("  %s (format %s)\n", list.items[i].path, list.items[i].format);
    return OK;
}

static enum status explain_documents(const struct session *s, struct buf *out)
{
    const struct loader_report *r = loader_report(s->train_loader);
    SAY("  An epoch has %lld documents of %lld tokens.\n", ll(r->documents), ll(r->tokens));
    if (r->pieces)
        SAY("  %lld documents are longer than max_length %lld and are cut into %lld pieces.\n",
            ll(r->cut_documents), ll(s->config->max_length), ll(r->pieces));
    else if (r->cut_documents)
        SAY("  %lld documents are longer than max_length %lld and lose %lld tokens at their end.\n",
            ll(r->cut_documents), ll(s->config->max_length), ll(r->cut_tokens));
    if (r->dropped_documents && !s->aligns)
        SAY("  %lld documents are left out: nothing within max_length is trained.\n",
            ll(r->dropped_documents));
    if (s->eval_loader) {
        const struct loader_report *v = loader_report(s->eval_loader);
        SAY("  %lld documents are held out to evaluate on%s.\n", ll(v->documents),
            s->eval_store ? " (eval_dataset)" : " (val_size, drawn by seed)");
    }
    return OK;
}

static enum status explain_data(const struct session *s, struct buf *out)
{
    SAY("Data\n");
    TRY(explain_files(s->config->datasets, out));
    if (s->config->eval_dataset.n) TRY(explain_files(s->config->eval_dataset, out));
    if (!s->train_loader) {
        SAY("  It is not there (%s): every micro-batch is taken to be full.\n", s->absent.data);
        return OK;
    }
    return explain_documents(s, out);
}

/* --- masks --- */

static enum status explain_end(const struct session *s, struct buf *out)
{
    const int32_t *ends;
    struct buf text;
    struct err ignored = {0};
    size_t n = s->encoder ? encoder_end_ids(s->encoder, &ends) : 0;
    if (!n) return OK;
    buf_init(&text, 1 << 10);
    enum status status = tokenizer_decode(s->tokenizer, ends, 1, 0, &text, &ignored);
    if (!status)
        status = buf_printf(out,
                            "  A trained text ends with %s (id %d), which is trained too, so "
                            "that the model learns to stop.\n",
                            text.len ? text.data : "the end token", (int)ends[0]);
    buf_free(&text);
    return status;
}

static enum status explain_preferences(const struct session *s, struct buf *out)
{
    const struct config *c = s->config;
    struct preference_needs needs = preference_needs(&s->preferences);
    SAY("What is learned\n  %s, in the template %s, by ",
        needs.unpaired ? "Which replies are good and which are not"
                       : "To prefer the chosen reply to the rejected one",
        s->template->name);
    for (int i = 0; i < s->preferences.num_losses; i++)
        SAY("%s%s (%s)", i ? ", " : "", s->preferences.losses[i]->name,
            s->preferences.losses[i]->help);
    SAY("; beta %g.\n", c->beta);
    SAY("  The reference is %s.\n", starting_reference_text(s));
    if (c->precompute_ref_log_probs)
        SAY("  It is run over the data once, before the first step, and its log-probabilities are "
            "kept for later runs.\n");
    else if (needs.reference)
        SAY("  It is run beside the policy, forward only, in every step.\n");
    SAY("  The prompt of a record is computed %s (prefix_sharing).\n",
        c->prefix_sharing ? "once for its replies" : "for each reply");
    TRY(explain_end(s, out));
    if (s->train_loader) {
        const struct loader_report *r = loader_report(s->train_loader);
        SAY("  %lld chosen and %lld rejected replies have %lld of %lld tokens.\n", ll(r->chosen),
            ll(r->rejected), ll(r->supervised), ll(r->tokens));
        if (r->dropped_prompts)
            SAY("  %lld records are left out: their prompt alone has max_length.\n",
                ll(r->dropped_prompts));
        if (r->dropped_identical)
            SAY("  %lld pairs are left out: the same within max_length.\n",
                ll(r->dropped_identical));
    }
    return OK;
}

static enum status explain_masks(const struct session *s, struct buf *out)
{
    static const char *const trained[] = {
        [CONFIG_TRAIN_ASSISTANT] =
            "every reply of the assistant; prompts and system text are seen, "
            "not learned",
        [CONFIG_TRAIN_LAST] = "the last reply of each conversation",
        [CONFIG_TRAIN_ALL] = "all of the text, prompts included",
    };
    const struct config *c = s->config;
    if (s->aligns) return explain_preferences(s, out);
    SAY("What is learned\n");
    if (s->template)
        SAY("  Conversations are written in the template %s. Trained is %s (train_on: %s).\n",
            s->template->name, trained[c->train_on], config_word(c, KEY_train_on));
    else
        SAY("  Plain text: every token but the first of a document.\n");
    TRY(explain_end(s, out));
    if (s->train_loader) {
        const struct loader_report *r = loader_report(s->train_loader);
        SAY("  %lld of %lld tokens are trained (%.1f %%).\n", ll(r->supervised), ll(r->tokens),
            100.0 * (double)r->supervised / (double)r->tokens);
    }
    if (c->packing)
        SAY("  Documents share rows of %lld tokens and do not see each other.\n",
            ll(c->max_length));
    return OK;
}

/* --- steps --- */

static enum status explain_steps(const struct session *s, struct buf *out)
{
    const struct config *c = s->config;
    SAY("Steps\n  A step: %lld micro-batches of %lld %s; the order is drawn by seed %lld anew each "
        "epoch.\n",
        ll(c->gradient_accumulation_steps), ll(c->per_device_train_batch_size),
        c->packing  ? "rows"
        : s->aligns ? "records"
                    : "documents",
        ll(c->seed));
    SAY("  The loss is the mean over %s, whatever the micro-batches.\n",
        c->loss_reduction == CONFIG_MICROBATCH_MEAN
            ? "the means of the micro-batches (as TRL does it)"
        : s->aligns ? "the step's records"
                    : "the step's trained tokens");
    if (s->steps_per_epoch)
        SAY("  An epoch has %lld steps; %s makes %lld steps in all.\n", ll(s->steps_per_epoch),
            c->max_steps > 0 ? "max_steps" : "num_train_epochs", ll(s->total_steps));
    else if (s->total_steps > 0)
        SAY("  max_steps makes %lld steps in all.\n", ll(s->total_steps));
    return OK;
}

static enum status explain_schedule(const struct session *s, struct buf *out)
{
    const struct config *c = s->config;
    SAY("  The learning rate ");
    if (s->schedule.warmup > 0)
        SAY("rises over %lld steps to %g, then ", ll(s->schedule.warmup), c->learning_rate);
    SAY("follows lr_scheduler_type %s%s.\n", config_word(c, KEY_lr_scheduler_type),
        s->schedule.warmup > 0 ? "" : " from its peak on");
    SAY("  Peak %g; AdamW with %sbetas %g and %g, epsilon %g, weight decay %g (norms and biases "
        "exempt).\n",
        c->learning_rate, c->optim == CONFIG_OPTIM_ADAMW_8BIT ? "states of 8 bits, " : "",
        c->adam_beta1, c->adam_beta2, c->adam_epsilon, c->weight_decay);
    if (c->max_grad_norm > 0) SAY("  Gradients are scaled down to norm %g.\n", c->max_grad_norm);
    return OK;
}

static enum status explain_when(const char *what, int64_t every, struct buf *out)
{
    if (every == CONFIG_EPOCH)
        SAY("  %s at the end of each epoch.\n", what);
    else if (every > 0)
        SAY("  %s every %lld steps.\n", what, ll(every));
    return OK;
}

/* --- memory --- */

static enum status explain_memory(const struct session *s, const struct plan *p, struct buf *out)
{
    const struct config *c = s->config;
    SAY("Memory and time\n  %.1f MB in all: %.1f weights, gradients and optimiser states; %.1f "
        "activations; %.1f scratch; %.1f the rest.\n",
        (double)p->total / 1e6, (double)p->arenas.run / 1e6, (double)p->arenas.step / 1e6,
        (double)p->arenas.scratch / 1e6,
        (double)(p->total - p->arenas.run - p->arenas.step - p->arenas.scratch) / 1e6);
    SAY("  %.1f MB are there (%s): %s.\n", (double)p->available / 1e6, p->limit,
        p->fits ? "it fits" : "it does NOT fit, and training will refuse");
    SAY("  gradient_checkpointing: blocks ");
    TRY(recompute_print(&s->engine, out));
    SAY(".%s\n", c->gradient_checkpointing == CONFIG_CHECKPOINT_NONE
                     ? ""
                     : " What is not kept is computed again in the backward pass: less memory, the "
                       "same numbers.");
    SAY("  Device %s, %d threads, %s.\n", s->engine.device.k->name, s->engine.device.threads,
        s->precision.name);
    if (s->precision.note[0]) SAY("  %s.\n", s->precision.note);
    return OK;
}

static enum status explain_origins(const struct session *s, struct buf *out)
{
    SAY("Where values come from (all others are defaults)\n");
    return config_resolve_set(s->config, out);
}

enum status explain_print(const struct session *s, const struct plan *p, struct buf *out)
{
    const struct config *c = s->config;
    TRY(explain_model(s, out));
    TRY(explain_data(s, out));
    TRY(explain_masks(s, out));
    TRY(explain_steps(s, out));
    TRY(explain_schedule(s, out));
    if (s->eval_loader) TRY(explain_when("It is evaluated", c->eval_steps, out));
    TRY(explain_when("A checkpoint is saved", c->save_steps, out));
    SAY("  The final %s goes to %s.\n", s->engine.has_lora ? "adapter" : "model", c->output_dir);
    TRY(explain_memory(s, p, out));
    return explain_origins(s, out);
}

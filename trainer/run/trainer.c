#include "run/trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "kernels/profile.h"
#include "run/evaluate.h"
#include "run/journal.h"
#include "run/save.h"
#include "run/saver.h"
#include "run/step_profile.h"
#include "run/suspects.h"

/* What has happened since the last log. */
struct window {
    double loss;               /* sum of the steps' losses */
    int64_t steps, num_tokens; /* steps: without those left out */
    double hits, supervised;
    struct preference_sums preferences;
    double flops, seconds, since;
};

struct loop {
    struct session *s;
    const struct train_observer *o;
    struct window window;
    struct suspects suspects; /* of the present step */
    double began;
    int64_t first; /* step this process began with */
    double grad_norm, lr;
    char metrics[IO_PATH_MAX];
    struct journal journal;
    struct step_profile profile;
    struct saver saver;
    struct best before; /* the best evaluation but for the one that is being saved for it */
    int for_best;       /* one is */
    int64_t ahead;      /* the step whose first micro-batch `next` is; -1: none is laid */
    struct batch next;
};

/* --- a step --- */

/* What a step's micro-batches add up to; of the two, that of the stage. */
struct step_sums {
    struct cross_entropy_sums texts;
    struct preference_sums preferences;
};

/* The numbers of the micro-batch that began first. */
static void end_texts(struct loop *l, struct step_sums *sums)
{
    struct batch of;
    engine_train_end(&l->s->engine, &sums->texts, &of);
    suspects_add(&l->suspects, &of, l->s->engine.host_floats);
}

/* Begins a micro-batch, then ends the one before it: the device has work meanwhile. */
static enum status run_texts(struct loop *l, int64_t step, const struct batch *b,
                             struct step_sums *sums, struct err *e)
{
    struct session *s = l->s;
    TRY(engine_train_begin(&s->engine, b, (uint64_t)s->config->seed, step, e));
    struct engine_work work = engine_work(&s->engine, b);
    l->window.flops += engine_train_flops(&s->engine, &work);
    if (s->engine.begun > 1 || !s->engine.device.k->answer_begin) end_texts(l, sums);
    return OK;
}

static enum status run_preferences(struct loop *l, int64_t step, const struct loader_step *plan,
                                   const struct batch *b, struct step_sums *sums, struct err *e)
{
    struct session *s = l->s;
    struct align_train t = {plan, (uint64_t)s->config->seed, step, s->known};
    TRY(align_train(&s->align, &s->engine, b, &t, &sums->preferences, e));
    suspects_add(&l->suspects, b, s->engine.host_floats);
    sums->texts.tokens += (double)align_reply_tokens(&s->align);
    struct engine_work work = engine_work(&s->engine, b);
    l->window.flops += engine_train_flops(&s->engine, &work);
    if (s->engine.options.reference && !s->known)
        l->window.flops += engine_forward_flops(&s->engine, &work);
    return OK;
}

/* A micro-batch, unless it has been laid before. */
static enum status lay(struct loop *l, int64_t step, int32_t micro, struct batch *b, struct err *e)
{
    struct session *s = l->s;
    int there = l->ahead == step && micro == 0;
    l->ahead = -1;
    if (there) {
        *b = l->next;
        return OK;
    }
    profile_enter(&s->engine.device, SCOPE_load, -1);
    double began = profile_begin(&s->engine.device);
    enum status status = loader_batch(s->train_loader, step, micro, b, e);
    profile_end(&s->engine.device, PROFILE_data, began);
    profile_leave(&s->engine.device);
    return status;
}

/* The first one of the step behind this one, while a device computes the last of this. What fails
 * will fail again when it is wanted. */
static void lay_ahead(struct loop *l, int64_t step)
{
    struct session *s = l->s;
    struct err ignored = {0};
    if (!s->engine.begun || step + 1 >= s->total_steps) return;
    if (!lay(l, step + 1, 0, &l->next, &ignored)) l->ahead = step + 1;
}

static enum status run_micro_batches(struct loop *l, int64_t step, const struct loader_step *plan,
                                     struct step_sums *sums, struct err *e)
{
    struct session *s = l->s;
    suspects_clear(&l->suspects);
    for (int32_t m = 0; m < plan->micro_batches; m++) {
        struct batch b;
        TRY(lay(l, step, m, &b, e));
        TRY(s->aligns ? run_preferences(l, step, plan, &b, sums, e)
                      : run_texts(l, step, &b, sums, e));
    }
    lay_ahead(l, step);
    while (s->engine.begun) end_texts(l, sums);
    return OK;
}

/* The update, unless the loss speaks against it or the gradient turns out not to be finite. A step
 * that is left out does not count in AdamW's bias correction. */
static enum status update(struct loop *l, int64_t step, double loss, double divisor,
                          enum guard_verdict *verdict, char *why, size_t size, struct err *e)
{
    struct session *s = l->s;
    *verdict = guard_judge_loss(&s->guard, loss, why, size);
    if (*verdict == GUARD_SKIP || *verdict == GUARD_STOP) return OK;
    enum status status = engine_update(&s->engine, &s->adamw, l->lr, step + 1 - s->guard.skipped,
                                       divisor, &l->grad_norm, e);
    if (status != ERR_NUMERIC) return status;
    *verdict = guard_judge_norm(&s->guard, l->grad_norm, why, size);
    return OK;
}

static enum status stop_at(struct loop *l, int64_t step, const char *why, const char *documents,
                           struct err *e)
{
    const struct session *s = l->s;
    const struct guard *g = &s->guard;
    err_set(e, ERR_NUMERIC, "step %lld: %s; highest losses: %s", (long long)step + 1, why,
            documents);
    if (g->in_a_row >= s->config->skip_limit) {
        err_wrap(e, "%lld steps in a row were left out", (long long)g->in_a_row);
        return err_hint(e, "a lower learning_rate may help, or a look at these documents");
    }
    return err_hint(e,
                    "checkpoints are as they were; resume_from_checkpoint=auto %s=skip leaves "
                    "such steps out",
                    strstr(why, "deviations") ? "on_spike" : "on_nan");
}

/* What the verdict asks for beside the update. */
static enum status heed(struct loop *l, int64_t step, enum guard_verdict verdict, double loss,
                        const char *why, struct err *e)
{
    struct session *s = l->s;
    char documents[384];
    enum guard_verdict after = guard_note(&s->guard, verdict, loss);
    if (verdict == GUARD_FINE) return OK;
    suspects_describe(&l->suspects, s->train_loader, documents, sizeof documents);
    if (after == GUARD_STOP) return stop_at(l, step, why, documents, e);
    if (verdict == GUARD_SKIP) engine_drop(&s->engine);
    log_warning("step %lld%s: %s; highest losses: %s", (long long)step + 1,
                verdict == GUARD_SKIP ? " is left out" : "", why, documents);
    return OK;
}

/* The step's loss, and what its gradients are divided by. */
static double step_loss(const struct session *s, const struct loader_step *plan,
                        const struct step_sums *sums, double *divisor)
{
    if (s->aligns) {
        struct preference_step step = align_step(&s->align, plan);
        *divisor = preference_divisor(&s->preferences, &step, plan->micro_batches);
        return preference_loss_mean(&sums->preferences);
    }
    *divisor =
        cross_entropy_divisor(s->engine.options.reduction, plan->weight, plan->micro_batches);
    return sums->texts.loss / *divisor;
}

static enum status run_step(struct loop *l, int64_t step, struct err *e)
{
    struct session *s = l->s;
    struct loader_step plan;
    struct step_sums sums = {0};
    double divisor;
    enum guard_verdict verdict;
    char why[160];
    TRY(loader_step(s->train_loader, step, &plan, e));
    TRY(run_micro_batches(l, step, &plan, &sums, e));
    double loss = step_loss(s, &plan, &sums, &divisor);
    l->lr = schedule_lr(&s->schedule, step);
    TRY(update(l, step, loss, divisor, &verdict, why, sizeof why, e));
    TRY(heed(l, step, verdict, loss, why, e));
    l->window.num_tokens += plan.num_tokens;
    s->num_tokens += plan.num_tokens;
    s->done = step + 1;
    if (verdict == GUARD_SKIP) return OK;
    l->window.loss += loss;
    l->window.hits += sums.texts.hits;
    l->window.supervised += sums.texts.tokens;
    preference_sums_add(&l->window.preferences, &sums.preferences);
    l->window.steps++;
    return OK;
}

/* --- logs --- */

static struct train_log make_log(struct loop *l)
{
    const struct session *s = l->s;
    const struct window *w = &l->window;
    double now = clock_seconds(), took = now - w->since;
    struct train_log log = {.step = s->done,
                            .total_steps = s->total_steps,
                            .epoch = (double)s->done / (double)s->steps_per_epoch,
                            .seconds = now - l->began};
    log.remaining = log.seconds / (double)(s->done - l->first) * (double)(s->total_steps - s->done);
    log.value[METRIC_loss] = w->loss / (double)w->steps;
    log.value[METRIC_grad_norm] = l->grad_norm;
    log.value[METRIC_learning_rate] = l->lr;
    log.value[METRIC_mean_token_accuracy] = w->supervised > 0 ? w->hits / w->supervised : 0;
    log.value[METRIC_num_tokens] = (double)s->num_tokens;
    log.value[METRIC_supervised_share] = w->supervised / (double)w->num_tokens;
    log.value[METRIC_tokens_per_second] = (double)w->num_tokens / took;
    log.value[METRIC_floor_share] = s->gemm_peak > 0 ? w->flops / s->gemm_peak / took : 0;
    log.value[METRIC_memory_bytes] =
        (double)(s->engine.memory.run + s->engine.memory.step + s->engine.memory.scratch);
    log.value[METRIC_skipped_steps] = (double)s->guard.skipped;
    if (!s->aligns) return log;
    log.preferences = &w->preferences;
    log.value[METRIC_mean_token_accuracy] =
        metric_of_preferences(&w->preferences, PREFERENCE_TOKEN_ACCURACY);
    return log;
}

static void new_window(struct loop *l) { l->window = (struct window){.since = clock_seconds()}; }

static enum status report_step(struct loop *l, struct err *e)
{
    const struct config *c = l->s->config;
    struct train_log log = make_log(l);
    if (l->o->step) l->o->step(l->o->context, &log);
    if (l->s->done % c->logging_steps && l->s->done != l->s->total_steps) return OK;
    TRY(save_tolerate(l->s, metrics_append_train(l->metrics, &log, e), e));
    journal_train(&l->journal, &log);
    if (l->o->logged) l->o->logged(l->o->context, &log);
    new_window(l);
    return OK;
}

/* Behind a step that was profiled; what this takes is not the steps' time. */
static enum status profile_step(struct loop *l, int64_t tokens, struct err *e)
{
    struct buf table;
    int done;
    double began = clock_seconds();
    buf_init(&table, 1 << 16);
    enum status status = step_profile_end(&l->profile, l->s, tokens, &done, &table, e);
    if (!status && done && l->o->profiled) l->o->profiled(l->o->context, table.data);
    buf_free(&table);
    l->window.since += clock_seconds() - began;
    return status;
}

/* --- evaluation --- */

/* The held-out pairs. */
static enum status evaluate_held_out(struct session *s, struct eval_log *log, struct err *e)
{
    double began = clock_seconds();
    *log = (struct eval_log){.step = s->done,
                             .epoch = (double)s->done / (double)s->steps_per_epoch,
                             .has_preferences = 1};
    const struct reference *known = s->eval_store ? s->eval_known : s->known;
    for (int64_t k = 0; k < loader_report(s->eval_loader)->steps_per_epoch; k++) {
        struct batch b;
        TRY(loader_batch(s->eval_loader, k, 0, &b, e));
        TRY(align_score(&s->align, &s->engine, &b, known, &log->preferences, e));
        log->num_tokens += align_reply_tokens(&s->align);
    }
    log->loss = preference_loss_mean(&log->preferences);
    log->accuracy = metric_of_preferences(&log->preferences, PREFERENCE_TOKEN_ACCURACY);
    log->seconds = clock_seconds() - began;
    if (isfinite(log->loss)) return OK;
    return err_set(e, ERR_NUMERIC, "the loss of the evaluation is not a number");
}

enum status trainer_evaluate(struct session *s, struct eval_log *log, struct err *e)
{
    if (s->aligns) return evaluate_held_out(s, log, e);
    struct evaluation v;
    double began = clock_seconds();
    enum status status = evaluation_init(&v, s->eval_store ? s->eval_store : s->store, e);
    if (!status) status = evaluate_loss(&v, &s->engine, s->eval_loader, NULL, e);
    *log = (struct eval_log){.step = s->done,
                             .epoch = (double)s->done / (double)s->steps_per_epoch,
                             .loss = evaluate_mean_loss(&v.total),
                             .accuracy = evaluate_accuracy(&v.total),
                             .num_tokens = v.total.num_tokens,
                             .seconds = clock_seconds() - began};
    evaluation_free(&v);
    return status;
}

static double best_metric(const struct config *c, const struct eval_log *log)
{
    switch ((enum config_metric_for_best_model)c->metric_for_best_model) {
    case CONFIG_BEST_LOSS: break;
    case CONFIG_BEST_ACCURACY: return log->accuracy;
    case CONFIG_BEST_PREFERENCE:
        return metric_of_preferences(&log->preferences, PREFERENCE_REWARDS_ACCURACIES);
    case CONFIG_BEST_MARGIN:
        return metric_of_preferences(&log->preferences, PREFERENCE_REWARDS_MARGINS);
    }
    return log->loss;
}

/* *improved: it was the best so far. */
static enum status evaluate(struct loop *l, int *improved, struct err *e)
{
    struct eval_log log;
    double began = clock_seconds();
    profile_enter(&l->s->engine.device, SCOPE_evaluation, -1);
    TRY(trainer_evaluate(l->s, &log, e));
    profile_leave(&l->s->engine.device);
    TRY(save_tolerate(l->s, metrics_append_eval(l->metrics, &log, e), e));
    journal_eval(&l->journal, &log);
    journal_show(&l->journal);
    if (l->o->evaluated) l->o->evaluated(l->o->context, &log);
    l->window.since += clock_seconds() - began; /* not the steps' time */
    *improved = best_update(&l->s->best, l->s->config, l->s->done, best_metric(l->s->config, &log));
    return OK;
}

/* --- the loop --- */

/* Whether something that happens every `every` steps (0: never, CONFIG_EPOCH: at the end of each)
 * is due after `done` updates. */
static int is_due(const struct session *s, int64_t every, int64_t done)
{
    if (every == CONFIG_EPOCH) return done % s->steps_per_epoch == 0;
    return every > 0 && done % every == 0;
}

/* A checkpoint has ended, well or not: a disk that is full may be no reason to stop. The best
 * evaluation has a checkpoint if it is to be loaded; one that could not be saved is not the best.
 * *saved: it is there. */
static enum status saved_or_not(struct loop *l, int64_t step, enum status status, const char *path,
                                int *saved, struct err *e)
{
    struct best *best = &l->s->best;
    *saved = !status;
    if (status && l->for_best && best->step == step) *best = l->before;
    l->for_best = 0;
    TRY(save_tolerate(l->s, status, e));
    if (*saved && l->o->saved) l->o->saved(l->o->context, path);
    return OK;
}

/* What has become of the one that is written beside training. */
static enum status collect_saved(struct loop *l, int wait, int *saved, struct err *e)
{
    struct saver_result r;
    *saved = 1;
    if (!saver_collect(&l->saver, wait, &r, e)) return OK;
    return saved_or_not(l, r.step, r.status, r.path, saved, e);
}

static enum status save_here(struct loop *l, int *saved, struct err *e)
{
    char path[IO_PATH_MAX];
    enum status status = save_checkpoint(l->s, path, sizeof path, e);
    return saved_or_not(l, l->s->done, status, path, saved, e);
}

/* `for_best`: the best evaluation was `before`, and is now this one. */
static enum status save_now(struct loop *l, int for_best, const struct best *before, int *saved,
                            struct err *e)
{
    double began = clock_seconds();
    enum status status;
    profile_enter(&l->s->engine.device, SCOPE_checkpoint, -1);
    status = collect_saved(l, 1, saved, e);
    l->for_best = for_best;
    l->before = *before;
    *saved = 1;
    if (!status) status = l->saver.copy ? saver_start(&l->saver, l->s, e) : save_here(l, saved, e);
    profile_leave(&l->s->engine.device);
    journal_show(&l->journal);
    l->window.since += clock_seconds() - began;
    return status;
}

/* Evaluation, then checkpoint, which holds what the evaluation came to. */
static enum status evaluate_and_save(struct loop *l, int stop, struct err *e)
{
    struct session *s = l->s;
    const struct config *c = s->config;
    const struct best before = s->best;
    int improved = 0, saved = 0;
    if (s->eval_loader && (s->done == s->total_steps || is_due(s, c->eval_steps, s->done)))
        TRY(evaluate(l, &improved, e));
    int keep_best = improved && c->load_best_model_at_end;
    if (!stop && !keep_best && !is_due(s, c->save_steps, s->done)) return OK;
    TRY(save_now(l, keep_best, &before, &saved, e));
    if (!stop) return OK;
    if (saved) TRY(collect_saved(l, 1, &saved, e));
    if (saved) return OK;
    return err_set(e, ERR_DISK_FULL, "stopped after step %lld without a checkpoint of it",
                   (long long)s->done);
}

static enum status stopped(const struct session *s, struct err *e)
{
    err_set(e, ERR_STOPPED, "stopped after step %lld of %lld", (long long)s->done,
            (long long)s->total_steps);
    return err_hint(e, "go on with resume_from_checkpoint=auto");
}

static enum status run_all(struct loop *l, struct err *e)
{
    struct session *s = l->s;
    int saved;
    while (s->done < s->total_steps && !best_out_of_patience(&s->best, s->config)) {
        int64_t before = s->num_tokens;
        TRY(step_profile_begin(&l->profile, s, e));
        profile_enter(&s->engine.device, SCOPE_step, (int32_t)(s->done + 1));
        TRY(run_step(l, s->done, e));
        double began = profile_begin(&s->engine.device);
        TRY(report_step(l, e));
        profile_end(&s->engine.device, PROFILE_log, began);
        profile_leave(&s->engine.device);
        TRY(profile_step(l, s->num_tokens - before, e));
        TRY(collect_saved(l, 0, &saved, e));
        int stop = l->o->stop && *l->o->stop && s->done < s->total_steps;
        TRY(evaluate_and_save(l, stop, e));
        if (stop) return stopped(s, e);
    }
    if (s->done < s->total_steps)
        log_notice("%s was not better than at step %lld for %lld evaluations: the run ends",
                   config_word(s->config, KEY_metric_for_best_model), (long long)s->best.step,
                   (long long)s->best.misses);
    return OK;
}

static enum status finish(struct loop *l, struct err *e)
{
    struct session *s = l->s;
    int saved;
    TRY(collect_saved(l, 1, &saved, e));
    if (s->config->load_best_model_at_end && s->best.step >= 0 && s->best.step != s->done) {
        TRY(save_load_best(s, e));
        log_notice("the final model is that of step %lld, the best evaluation",
                   (long long)s->best.step);
    }
    TRY(save_final(s, e));
    if (l->o->saved) l->o->saved(l->o->context, s->config->output_dir);
    return OK;
}

/* Behind a run that failed: what is still being written will be there. */
static void settle(struct loop *l)
{
    struct saver_result r;
    struct err e = {0};
    if (saver_collect(&l->saver, 1, &r, &e) && r.status) log_warning("%s", e.message);
    saver_close(&l->saver);
}

static enum status begin(struct loop *l, struct err *e)
{
    struct session *s = l->s;
    TRY(step_profile_init(&l->profile, s, l->o->profile_steps, e));
    TRY(io_join(l->metrics, sizeof l->metrics, s->config->output_dir, "metrics.jsonl", e));
    TRY(saver_open(&l->saver, s, e));
    TRY(save_begin(s, e));
    return metrics_cut(l->metrics, s->done, e);
}

enum status trainer_run(struct session *s, const struct train_observer *o, struct err *e)
{
    struct loop l = {.s = s, .o = o, .first = s->done, .ahead = -1};
    enum status status = begin(&l, e);
    if (!status) {
        journal_begin(&l.journal, s);
        l.began = clock_seconds();
        new_window(&l);
        status = run_all(&l, e);
        if (!status) status = finish(&l, e);
        journal_end(&l.journal, status, e);
    }
    settle(&l);
    step_profile_free(&l.profile, s);
    return status;
}

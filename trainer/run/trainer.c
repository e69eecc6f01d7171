#include "run/trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "run/evaluate.h"
#include "run/journal.h"
#include "run/save.h"

/* What has happened since the last log. */
struct window {
    double loss; /* sum of the steps' losses */
    int64_t steps, num_tokens;
    double hits, supervised;
    double flops, seconds, since;
};

struct loop {
    struct session *s;
    const struct train_observer *o;
    struct window window;
    double began;
    int64_t first; /* step this process began with */
    double grad_norm, lr;
    char metrics[IO_PATH_MAX];
    struct journal journal;
};

/* --- a step --- */

/* "alpaca.json, record 17; ..." of the step's first documents, for the message about a bad loss. */
static void name_documents(struct loop *l, int64_t step, struct err *e)
{
    struct batch b;
    struct err ignored = {0};
    char text[sizeof e->hint] = "its documents: ", one[128];
    size_t used = strlen(text);
    if (loader_batch(l->s->train_loader, step, 0, &b, &ignored)) return;
    for (int32_t i = 0; i < b.num_segments && used + sizeof one < sizeof text; i++) {
        loader_describe(l->s->train_loader, b.documents[b.segments[i].start], one, sizeof one);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? "; " : "", one);
    }
    err_hint(e, "%s", text);
}

static enum status run_micro_batches(struct loop *l, int64_t step, const struct loader_step *plan,
                                     struct cross_entropy_sums *sums, struct err *e)
{
    struct session *s = l->s;
    for (int32_t m = 0; m < plan->micro_batches; m++) {
        struct batch b;
        TRY(loader_batch(s->train_loader, step, m, &b, e));
        TRY(engine_train(&s->engine, &b, (uint64_t)s->config->seed, step, sums, e));
        l->window.flops += engine_train_flops(&s->engine, b.N, b.S);
    }
    return OK;
}

static enum status run_step(struct loop *l, int64_t step, struct err *e)
{
    struct session *s = l->s;
    struct loader_step plan;
    struct cross_entropy_sums sums = {0};
    TRY(loader_step(s->train_loader, step, &plan, e));
    TRY(run_micro_batches(l, step, &plan, &sums, e));
    double divisor =
        cross_entropy_divisor(s->engine.options.reduction, plan.weight, plan.micro_batches);
    l->lr = schedule_lr(&s->schedule, step);
    enum status status =
        engine_update(&s->engine, &s->adamw, l->lr, step + 1, divisor, &l->grad_norm, e);
    if (status == ERR_NUMERIC) {
        err_wrap(e, "step %lld (loss %g)", (long long)step + 1, sums.loss / divisor);
        name_documents(l, step, e);
    }
    TRY(status);
    l->window.loss += sums.loss / divisor;
    l->window.hits += sums.hits;
    l->window.supervised += sums.tokens;
    l->window.num_tokens += plan.num_tokens;
    l->window.steps++;
    s->num_tokens += plan.num_tokens;
    s->done = step + 1;
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
    return log;
}

static void new_window(struct loop *l) { l->window = (struct window){.since = clock_seconds()}; }

static enum status report_step(struct loop *l, struct err *e)
{
    const struct config *c = l->s->config;
    struct train_log log = make_log(l);
    if (l->o->step) l->o->step(l->o->context, &log);
    if (l->s->done % c->logging_steps && l->s->done != l->s->total_steps) return OK;
    TRY(metrics_append_train(l->metrics, &log, e));
    journal_train(&l->journal, &log);
    if (l->o->logged) l->o->logged(l->o->context, &log);
    new_window(l);
    return OK;
}

/* --- evaluation --- */

enum status trainer_evaluate(struct session *s, struct eval_log *log, struct err *e)
{
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

static enum status evaluate(struct loop *l, struct err *e)
{
    struct eval_log log;
    double began = clock_seconds();
    TRY(trainer_evaluate(l->s, &log, e));
    TRY(metrics_append_eval(l->metrics, &log, e));
    journal_eval(&l->journal, &log);
    journal_show(&l->journal);
    if (l->o->evaluated) l->o->evaluated(l->o->context, &log);
    l->window.since += clock_seconds() - began; /* not the steps' time */
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

static enum status save_now(struct loop *l, struct err *e)
{
    char path[IO_PATH_MAX];
    double began = clock_seconds();
    TRY(save_checkpoint(l->s, path, sizeof path, e));
    journal_show(&l->journal);
    if (l->o->saved) l->o->saved(l->o->context, path);
    l->window.since += clock_seconds() - began;
    return OK;
}

static enum status run_all(struct loop *l, struct err *e)
{
    struct session *s = l->s;
    const struct config *c = s->config;
    while (s->done < s->total_steps) {
        TRY(run_step(l, s->done, e));
        TRY(report_step(l, e));
        int last = s->done == s->total_steps;
        if (s->eval_loader && (last || is_due(s, c->eval_steps, s->done))) TRY(evaluate(l, e));
        int stop = l->o->stop && *l->o->stop && !last;
        if (stop || is_due(s, c->save_steps, s->done)) TRY(save_now(l, e));
        if (stop) {
            err_set(e, ERR_STOPPED, "stopped after step %lld of %lld", (long long)s->done,
                    (long long)s->total_steps);
            return err_hint(e, "go on with resume_from_checkpoint=auto");
        }
    }
    return OK;
}

enum status trainer_run(struct session *s, const struct train_observer *o, struct err *e)
{
    struct loop l = {.s = s, .o = o, .first = s->done, .began = clock_seconds()};
    TRY(io_join(l.metrics, sizeof l.metrics, s->config->output_dir, "metrics.jsonl", e));
    TRY(save_begin(s, e));
    TRY(metrics_cut(l.metrics, s->done, e));
    journal_begin(&l.journal, s);
    l.began = clock_seconds();
    new_window(&l);
    enum status status = run_all(&l, e);
    if (!status) status = save_final(s, e);
    journal_end(&l.journal, status, e);
    TRY(status);
    if (o->saved) o->saved(o->context, s->config->output_dir);
    return OK;
}

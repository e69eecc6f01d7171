/* cria train: the run, its live line, and what a signal does. */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/lock.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/watch.h"
#include "config/config.h"
#include "run/dataset.h"
#include "run/explain.h"
#include "run/starting.h"
#include "run/trainer.h"

static atomic_int training, stop_requested;

/* The first signal asks to stop after the step; a second one, or one before there are steps, ends
 * the program at once. */
static int on_signal(int number)
{
    (void)number;
    return training && !atomic_exchange(&stop_requested, 1);
}

/* "  margin 0.213 (0.101 over -0.112)  right 0.812", of what there is; nothing without rewards. */
static const char *rewards(const struct preference_sums *p, char out[96])
{
    double chosen = metric_of_preferences(p, PREFERENCE_REWARDS_CHOSEN);
    double rejected = metric_of_preferences(p, PREFERENCE_REWARDS_REJECTED);
    double right = metric_of_preferences(p, PREFERENCE_REWARDS_ACCURACIES);
    int used = 0;
    out[0] = 0;
    if (isfinite(chosen) && isfinite(rejected))
        used = snprintf(out, 96, "  margin %.4f (%.4f over %.4f)", chosen - rejected, chosen,
                        rejected);
    if (isfinite(right)) snprintf(out + used, 96 - (size_t)used, "  right %.3f", right);
    return out;
}

static void on_step(void *context, const struct train_log *log)
{
    char left[16], more[96];
    (void)context;
    progress_show(
        "step %lld/%lld  loss %.4f%s  lr %.2e  grad %.3f  %.0f tokens/s  %2.0f %% of GEMM peak"
        "  %s left",
        (long long)log->step, (long long)log->total_steps, log->value[METRIC_loss],
        rewards(log->preferences, more), log->value[METRIC_learning_rate],
        log->value[METRIC_grad_norm], log->value[METRIC_tokens_per_second],
        100 * log->value[METRIC_floor_share], progress_time(log->remaining, left));
}

static void on_log(void *context, const struct train_log *log)
{
    char left[16], more[96];
    (void)context;
    progress_say("step %lld/%lld  epoch %.2f  loss %.4f%s  lr %.2e  grad %.3f  accuracy %.3f  %.0f "
                 "tokens/s  "
                 "%2.0f %% of GEMM peak  %s left",
                 (long long)log->step, (long long)log->total_steps, log->epoch,
                 log->value[METRIC_loss], rewards(log->preferences, more),
                 log->value[METRIC_learning_rate], log->value[METRIC_grad_norm],
                 log->value[METRIC_mean_token_accuracy], log->value[METRIC_tokens_per_second],
                 100 * log->value[METRIC_floor_share], progress_time(log->remaining, left));
}

static void on_evaluation(void *context, const struct eval_log *log)
{
    char more[96];
    (void)context;
    progress_say("step %lld  eval loss %.4f%s  accuracy %.3f  over %lld tokens",
                 (long long)log->step, log->loss,
                 rewards(log->has_preferences ? &log->preferences : NULL, more), log->accuracy,
                 (long long)log->num_tokens);
}

static void on_save(void *context, const char *path)
{
    (void)context;
    progress_say("saved %s", path);
}

static void on_profile(void *context, const char *table)
{
    (void)context;
    progress_clear();
    fputs(table, stdout);
    fflush(stdout);
}

static void introduce_preferences(const struct session *s, const struct loader_report *r)
{
    const struct config *c = s->config;
    progress_say("preferences: %lld chosen replies, %lld rejected; %s; reference: %s",
                 (long long)r->chosen, (long long)r->rejected,
                 c->prefix_sharing ? "a record's prompt is shared" : "prompts are not shared",
                 starting_reference_text(s));
    if (r->dropped_prompts)
        progress_say("%lld records have a prompt of max_length or more and are left out",
                     (long long)r->dropped_prompts);
    if (r->dropped_identical)
        progress_say("%lld pairs are the same within max_length and are left out",
                     (long long)r->dropped_identical);
}

static void introduce(const struct session *s)
{
    const struct loader_report *r = loader_report(s->train_loader);
    const struct engine_memory *m = &s->engine.memory;
    int64_t trained = 0, all = 0;
    for (int32_t i = 0; i < s->engine.params.count; i++) {
        const struct param *p = &s->engine.params.params[i];
        all += (int64_t)p->n;
        if (p->trainable) trained += (int64_t)p->n;
    }
    progress_say("%lld of %lld parameters are trained, %d threads", (long long)trained,
                 (long long)all, s->engine.device.threads);
    progress_say("an epoch: %lld documents, %lld tokens, %lld trained (%.1f %%), %lld steps; %lld "
                 "steps in all",
                 (long long)r->documents, (long long)r->tokens, (long long)r->supervised,
                 100.0 * (double)r->supervised / (double)r->tokens, (long long)r->steps_per_epoch,
                 (long long)s->total_steps);
    if (s->aligns) introduce_preferences(s, r);
    if (r->pieces)
        progress_say("%lld documents are longer than max_length: cut into %lld pieces",
                     (long long)r->cut_documents, (long long)r->pieces);
    else if (r->cut_documents)
        progress_say("%lld documents are longer than max_length: %lld tokens cut off",
                     (long long)r->cut_documents, (long long)r->cut_tokens);
    if (r->dropped_documents && !s->aligns)
        progress_say("%lld documents have nothing to learn within max_length and are left out",
                     (long long)r->dropped_documents);
    progress_say("memory: run %.1f MB, step %.1f MB, scratch %.1f MB", (double)m->run / 1e6,
                 (double)m->step / 1e6, (double)m->scratch / 1e6);
    if (s->resume[0]) progress_say("going on from %s, step %lld", s->resume, (long long)s->done);
}

static struct session session; /* large, and only one */

/* What would happen, in words; nothing is trained. */
static enum status explain(const struct config *c, struct err *e)
{
    struct plan p;
    struct buf text;
    buf_init(&text, 1 << 20);
    enum status s = session_prepare(&session, c, SESSION_PLAN, &watch_preparing, e);
    progress_clear();
    if (!s) {
        plan_make(&p, &session);
        cli_say_findings(&session.preflight);
        s = explain_print(&session, &p, &text);
        if (s) err_set(e, s, "no memory to explain the run");
    }
    if (!s) printf("%s", text.data);
    buf_free(&text);
    session_close(&session);
    return s;
}

/* Two runs in one output_dir take each other's checkpoints away: the second one is refused. The
 * lock lies in the cache beside it, for output_dir may not be there yet. */
static enum status claim_output(const struct config *c, struct lock *lock, struct err *e)
{
    char dir[IO_PATH_MAX], name[IO_PATH_MAX], path[IO_PATH_MAX];
    struct err ignored = {0};
    const char *at = c->output_dir;
    size_t n = at ? strlen(at) : 0, start;
    lock->fd = -1;
    while (n > 1 && at[n - 1] == '/') n--;
    for (start = n; start && at[start - 1] != '/';) start--;
    if (!n || n - start >= sizeof name) return OK;
    snprintf(name, sizeof name, "%.*s", (int)(n - start), at + start);
    TRY(dataset_cache_dir(c, dir, sizeof dir, e));
    TRY(io_join(path, sizeof path, dir, name, e));
    if (io_make_dirs(dir, &ignored) || !lock_try(lock, path)) return OK;
    config_fail(c, KEY_output_dir, e, "another run is writing to %s", c->output_dir);
    return err_hint(e, "wait for it, or give this run an output_dir of its own");
}

static enum status run_alone(const struct config *c, int64_t profile_steps, struct err *e)
{
    struct train_observer observer = {.step = on_step,
                                      .logged = on_log,
                                      .evaluated = on_evaluation,
                                      .saved = on_save,
                                      .profile_steps = profile_steps,
                                      .profiled = on_profile,
                                      .stop = &stop_requested};
    TRY(signals_watch(on_signal, e));
    enum status s = session_open(&session, c, &watch_preparing, e);
    if (!s) {
        cli_say_findings(&session.preflight);
        introduce(&session);
        training = 1;
        s = trainer_run(&session, &observer, e);
    }
    progress_clear();
    session_close(&session);
    return s;
}

static enum status run(const struct config *c, int64_t profile_steps, struct err *e)
{
    struct lock lock;
    TRY(claim_output(c, &lock, e));
    enum status s = run_alone(c, profile_steps, e);
    lock_release(&lock);
    return s;
}

enum status verb_train(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    struct config c = {0};
    int only_explain = 0;
    int64_t profile_steps = 0;
    struct cli_option options[] = {
        {"--explain", CLI_FLAG, &only_explain, NULL, "say what will happen and why; train nothing",
         0},
        {"--profile", CLI_INT, &profile_steps, "N",
         "time the ops of N steps: a table on stdout, and output_dir/profile.json", 0},
    };
    struct cli_args args = {.options = options, .num_options = sizeof options / sizeof *options};
    struct buf keys;
    buf_init(&keys, 1 << 20);
    if (config_help(&keys)) return err_set(e, ERR_MEMORY, "no memory for the list of keys");
    args.about = keys.data;
    enum status s = cli_parse(v, &args, argc, argv, e);
    int run_it = !s && !args.help;
    if (run_it) s = cli_load_config(v, &args, &c, e);
    if (run_it && !s) s = only_explain ? explain(&c, e) : run(&c, profile_steps, e);
    config_free(&c);
    buf_free(&keys);
    return s;
}

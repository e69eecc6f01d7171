/* cria eval: loss and perplexity, of preferences accuracy and margins; exact match on request; per
 * source and in all. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/watch.h"
#include "run/eval_job.h"
#include "run/metrics.h"

enum match { MATCH_BOTH, MATCH_EXACT, MATCH_PREFIX };
static const char *const match_names[] = {"both", "exact", "prefix"};

struct request {
    struct eval_options options;
    const char *match_name;
    enum match match;
    int64_t threads;
    int json;
};

static double began;

static void on_progress(void *context, const char *what, int64_t done, int64_t all)
{
    char left[16];
    (void)context;
    double now = clock_seconds();
    if (done <= 1 || began == 0) began = now;
    progress_show("%s %lld/%lld  %s left", what, (long long)done, (long long)all,
                  progress_time((now - began) * (double)(all - done) / (double)done, left));
}

static enum status print_json(const struct evaluation *v, const struct eval_job *j,
                              const struct request *r, struct err *e)
{
    static const char *const other[] = {
        [MATCH_BOTH] = NULL, [MATCH_EXACT] = "prefix_match", [MATCH_PREFIX] = "exact_match"};
    json_t *o;
    struct buf text;
    TRY(evaluation_json(v, &o, e));
    size_t n = json_array_size(json_object_get(o, "sources"));
    for (size_t i = 0; other[r->match] && i <= n; i++)
        json_object_del(i < n ? json_array_get(json_object_get(o, "sources"), i) : o,
                        other[r->match]);
    if (j->aligns) {
        json_object_set_new(o, "beta", json_real(j->preferences.beta));
        json_object_set_new(o, "reference", json_string(j->reference_text));
    }
    buf_init(&text, (size_t)1 << 26);
    enum status s = json_append_text(o, &text, e);
    if (!s) printf("%s\n", text.data);
    buf_free(&text);
    json_decref(o);
    return s;
}

static void print_share(double share)
{
    if (isnan(share))
        printf("  %8s", "-");
    else
        printf("  %6.1f %%", 100 * share);
}

static void print_reward(double reward)
{
    if (isnan(reward))
        printf("  %9s", "-");
    else
        printf("  %9.4f", reward);
}

static void print_matches(const struct request *r, const struct evaluate_score *s)
{
    if (r->options.answers && r->match != MATCH_PREFIX)
        print_share(evaluate_share(s->exact, s->asked));
    if (r->options.answers && r->match != MATCH_EXACT)
        print_share(evaluate_share(s->prefix, s->asked));
}

static void print_preferences(const struct request *r, const char *name,
                              const struct evaluate_score *s)
{
    const struct preference_sums *p = &s->preferences;
    printf("%9lld %10lld  %8.4f", (long long)s->documents, (long long)s->num_tokens,
           preference_loss_mean(p));
    print_share(metric_of_preferences(p, PREFERENCE_REWARDS_ACCURACIES));
    print_reward(metric_of_preferences(p, PREFERENCE_REWARDS_MARGINS));
    print_reward(metric_of_preferences(p, PREFERENCE_REWARDS_CHOSEN));
    print_reward(metric_of_preferences(p, PREFERENCE_REWARDS_REJECTED));
    print_matches(r, s);
    printf("  %s\n", name);
}

static void print_score(const struct request *r, const char *name, const struct evaluate_score *s)
{
    double loss = evaluate_mean_loss(s);
    if (isnan(loss))
        printf("%9lld %10lld  %8s  %10s", (long long)s->documents, (long long)s->num_tokens, "-",
               "-");
    else
        printf("%9lld %10lld  %8.4f  %10.4g", (long long)s->documents, (long long)s->num_tokens,
               loss, exp(loss));
    print_matches(r, s);
    printf("  %s\n", name);
}

static void print_one(const struct request *r, const struct evaluation *v, const char *name,
                      const struct evaluate_score *s)
{
    if (v->has_preferences)
        print_preferences(r, name, s);
    else
        print_score(r, name, s);
}

static void print_table(const struct evaluation *v, const struct request *r)
{
    if (v->has_preferences)
        printf("%9s %10s  %8s  %8s  %9s  %9s  %9s", "records", "tokens", "loss", "right", "margin",
               "chosen", "rejected");
    else
        printf("%9s %10s  %8s  %10s", "documents", "tokens", "loss", "perplexity");
    if (r->options.answers && r->match != MATCH_PREFIX) printf("  %8s", "exact");
    if (r->options.answers && r->match != MATCH_EXACT) printf("  %8s", "prefix");
    printf("  source\n");
    for (size_t i = 0; i < v->num_sources; i++) print_one(r, v, v->sources[i].path, &v->sources[i]);
    if (v->num_sources > 1) print_one(r, v, "all", &v->total);
}

static void print_notes(const struct eval_job *j, const struct evaluation *v)
{
    const struct loader_report *l = loader_report(j->loader);
    if (l->pieces)
        progress_say("%lld documents are longer than %d tokens and are cut into %lld pieces",
                     (long long)l->cut_documents, (int)j->max_length, (long long)l->pieces);
    else if (l->cut_documents)
        progress_say("%lld documents are longer than the %d tokens looked at",
                     (long long)l->cut_documents, (int)j->max_length);
    if (l->dropped_prompts)
        progress_say("%lld records have a prompt that fills them and are left out",
                     (long long)l->dropped_prompts);
    if (l->dropped_identical)
        progress_say("%lld pairs are the same within them and are left out",
                     (long long)l->dropped_identical);
    if (l->dropped_documents && !j->aligns)
        progress_say("%lld documents have nothing to predict within them and are left out",
                     (long long)l->dropped_documents);
    if (v->total.too_long)
        progress_say("%lld prompts do not fit the context of %d tokens and were not asked",
                     (long long)v->total.too_long, (int)j->inference.engine.options.cache_rows);
    if (v->total.no_answer)
        progress_say("%lld documents have no reply to hold an answer against",
                     (long long)v->total.no_answer);
}

static enum status run(const struct request *r, struct err *e)
{
    static struct eval_job job; /* large, and only one */
    struct evaluation v = {0};
    struct evaluate_watcher watcher = {NULL, on_progress};
    enum status s = eval_job_open(&job, &r->options, e);
    if (!s) {
        progress_say("evaluating %s%s%s", job.model, job.adapter[0] ? " with adapter " : "",
                     job.adapter);
        if (job.aligns)
            progress_say("beta %g, reference: %s", job.preferences.beta, job.reference_text);
        s = eval_job_run(&job, &r->options, &watcher, &v, e);
    }
    progress_clear();
    if (!s) print_notes(&job, &v);
    if (!s && r->json)
        s = print_json(&v, &job, r, e);
    else if (!s)
        print_table(&v, r);
    evaluation_free(&v);
    eval_job_close(&job);
    return s;
}

static enum status check(struct request *r, const struct cli_args *args, struct err *e)
{
    struct eval_options *o = &r->options;
    size_t m = 0;
    while (m < 3 && strcmp(match_names[m], r->match_name)) m++;
    if (m == 3)
        return err_set(e, ERR_CONFIG, "--match %s is none of exact, prefix, both", r->match_name);
    r->match = (enum match)m;
    if (o->beta < 0) return err_set(e, ERR_CONFIG, "--beta is %g; it must be above 0", o->beta);
    if (args->num_positional && (o->data || o->template || o->max_length || o->batch_size))
        return err_set(e, ERR_CONFIG,
                       "a config brings data, template and sizes; override it by key=value");
    if (!args->num_positional && (!o->model || !o->data)) {
        err_set(e, ERR_CONFIG, "cria eval needs a config, or --model and --data");
        return err_hint(e, "cria eval CONFIG | --model DIR [--adapter DIR] --data F[,F]");
    }
    if (o->adapter && !o->model) return err_set(e, ERR_CONFIG, "--adapter needs --model");
    if (o->max_length < 0 || o->max_length > 1 << 24 || o->batch_size < 0 ||
        o->batch_size > 1 << 20 || r->threads < 0 || r->threads > 4096)
        return err_set(e, ERR_CONFIG, "--max-length, --batch-size or --threads is out of range");
    o->threads = (int)r->threads;
    return OK;
}

static enum status run_with_config(struct request *r, const struct cli_args *args, struct err *e)
{
    struct config c = {0};
    if (!args->num_positional) return run(r, e);
    int has_file = !strchr(args->positional[0], '=');
    enum status s =
        config_load(&c, has_file ? args->positional[0] : NULL, args->positional + has_file,
                    args->num_positional - (size_t)has_file, e);
    r->options.config = &c;
    if (!s) s = run(r, e);
    config_free(&c);
    return s;
}

enum status verb_eval(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    struct request r = {.options = {.max_new_tokens = 512, .prep = &watch_preparing_quietly},
                        .match_name = "both"};
    struct eval_options *o = &r.options;
    struct cli_option options[] = {
        {"--model", CLI_TEXT, &o->model, "DIR", "model directory; default: what CONFIG trained", 0},
        {"--adapter", CLI_TEXT, &o->adapter, "DIR", "LoRA adapter, cria's or PEFT's", 0},
        {"--ref-model", CLI_TEXT, &o->ref_model, "DIR",
         "reference of preferences; default: CONFIG's, the model without its adapter, or none", 0},
        {"--beta", CLI_REAL, &o->beta, "B", "of preferences: what rewards are multiplied by (0.1)",
         0},
        {"--data", CLI_TEXT, &o->data, "F[,F]", "JSON or JSONL files, or one prepared .h5", 0},
        {"--template", CLI_TEXT, &o->template, "T", "default: what cria.json says", 0},
        {"--max-length", CLI_INT, &o->max_length, "N", "tokens looked at (the model's context)", 0},
        {"--batch-size", CLI_INT, &o->batch_size, "N", "documents at once (8)", 0},
        {"--generate", CLI_FLAG, &o->answers, NULL, "also answer each document's last question", 0},
        {"--match", CLI_TEXT, &r.match_name, "M", "exact, prefix or both: what counts (both)", 0},
        {"--max-new-tokens", CLI_INT, &o->max_new_tokens, "N", "tokens of an answer (512)", 0},
        {"--device", CLI_TEXT, &o->device, "D", "auto, cpu or cuda (CONFIG's, or auto)", 0},
        {"--threads", CLI_INT, &r.threads, "N", "CPU threads; 0: all (0)", 0},
        {"--json", CLI_FLAG, &r.json, NULL, "the result as JSON on stdout", 0},
    };
    struct cli_args args = {
        .options = options,
        .num_options = sizeof options / sizeof *options,
        .about =
            "With CONFIG: the model or adapter in its output_dir (the base while there is\n"
            "none), on eval_dataset or on the documents val_size holds out. key=value behind\n"
            "it overrides a key. A generated answer matches exactly when both texts are equal\n"
            "but for white space around them, by prefix when it begins with the expected one.\n"
            "Of preferences it says how often the chosen reply has more reward, and by how much."};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    TRY(check(&r, &args, e));
    return run_with_config(&r, &args, e);
}

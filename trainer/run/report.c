#include "run/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "base/mem.h"
#include "run/chart.h"
#include "run/html_data.h"
#include "run/metrics.h"

#define SMOOTHED_FROM 30 /* logged losses; with fewer the curve is drawn as it is */

/* --- curves --- */

/* Points of one name in the history; x and y lie in one block. */
struct curve {
    double *x, *y;
    size_t n;
};

static void curve_free(struct curve *c) { mem_free(c->x); }

static enum status curve_read(struct curve *c, const json_t *history, const char *key,
                              struct err *e)
{
    size_t i, lines = json_array_size(history);
    json_t *line;
    *c = (struct curve){.x = mem_calloc(lines + 1, 2 * sizeof(double))};
    if (!c->x) return err_set(e, ERR_MEMORY, "no memory for a curve of %zu points", lines);
    c->y = c->x + lines + 1;
    json_array_foreach(history, i, line)
    {
        json_t *value = json_object_get(line, key);
        if (!value) continue;
        c->x[c->n] = (double)json_integer_value(json_object_get(line, "step"));
        c->y[c->n++] = json_is_number(value) ? json_number_value(value) : NAN;
    }
    return OK;
}

/* Exponential mean over about a thirtieth of the points, corrected for its beginning. */
static void smooth(const struct curve *c, double *out)
{
    double keep = 1 - 30.0 / ((double)c->n + 30), mean = 0, weight = 0;
    for (size_t i = 0; i < c->n; i++) {
        if (isfinite(c->y[i])) {
            mean = keep * mean + (1 - keep) * c->y[i];
            weight = keep * weight + (1 - keep);
        }
        out[i] = weight > 0 ? mean / weight : NAN;
    }
}

static enum status write_loss(struct html *h, const json_t *history, struct err *e)
{
    struct curve loss = {0}, eval = {0};
    double *smoothed = NULL;
    struct chart_series series[CHART_SERIES_MAX];
    size_t n = 0;
    enum status s = curve_read(&loss, history, "loss", e);
    if (!s) s = curve_read(&eval, history, "eval_loss", e);
    int soft = loss.n >= SMOOTHED_FROM;
    if (!s && soft) {
        smoothed = mem_calloc(loss.n, sizeof *smoothed);
        s = smoothed ? OK : err_set(e, ERR_MEMORY, "no memory for a curve");
    }
    if (!s) {
        if (soft) smooth(&loss, smoothed);
        if (soft) series[n++] = (struct chart_series){"training", 2, loss.x, loss.y, loss.n, 0};
        series[n++] = (struct chart_series){soft ? "smoothed" : "training", 0,      loss.x,
                                            soft ? smoothed : loss.y,       loss.n, 0};
        if (eval.n) series[n++] = (struct chart_series){"evaluation", 1, eval.x, eval.y, eval.n, 1};
        chart_write(h, &(struct chart){"loss", series, n, 0});
    }
    mem_free(smoothed);
    curve_free(&loss);
    curve_free(&eval);
    return s;
}

/* One name over the steps, and maybe the evaluation's beside it. */
static enum status write_curve(struct html *h, const json_t *history, const char *title,
                               const char *key, const char *eval_key, int from_zero, struct err *e)
{
    struct curve a = {0}, b = {0};
    enum status s = curve_read(&a, history, key, e);
    if (!s && eval_key) s = curve_read(&b, history, eval_key, e);
    struct chart_series series[] = {{b.n ? "training" : title, 0, a.x, a.y, a.n, 0},
                                    {"evaluation", 1, b.x, b.y, b.n, 1}};
    if (!s) chart_write(h, &(struct chart){title, series, b.n ? 2 : 1, from_zero});
    curve_free(&a);
    curve_free(&b);
    return s;
}

/* Several names over the steps, in one chart; those that no line has are left out. */
struct curve_name {
    const char *key, *name;
    int dots;
};

static enum status write_together(struct html *h, const json_t *history, const char *title,
                                  const struct curve_name *names, size_t n, struct err *e)
{
    struct curve curves[CHART_SERIES_MAX] = {0};
    struct chart_series series[CHART_SERIES_MAX];
    size_t shown = 0;
    enum status s = OK;
    for (size_t i = 0; !s && i < n; i++) {
        struct curve *c = &curves[i];
        s = curve_read(c, history, names[i].key, e);
        if (s || !c->n) continue;
        series[shown++] =
            (struct chart_series){names[i].name, (int)i, c->x, c->y, c->n, names[i].dots};
    }
    if (!s && shown) chart_write(h, &(struct chart){title, series, shown, 0});
    for (size_t i = 0; i < n; i++) curve_free(&curves[i]);
    return s;
}

static enum status write_rewards(struct html *h, const json_t *history, struct err *e)
{
    static const struct curve_name rewards[] = {{"rewards/chosen", "chosen", 0},
                                                {"rewards/rejected", "rejected", 0},
                                                {"rewards/margins", "margin", 0}},
                                   held_out[] = {{"eval_rewards/chosen", "chosen", 1},
                                                 {"eval_rewards/rejected", "rejected", 1},
                                                 {"eval_rewards/margins", "margin", 1}},
                                   right[] = {{"rewards/accuracies", "training", 0},
                                              {"eval_rewards/accuracies", "evaluation", 1}},
                                   logps[] = {{"logps/chosen", "chosen", 0},
                                              {"logps/rejected", "rejected", 0}};
    TRY(write_together(h, history, "rewards", rewards, 3, e));
    TRY(write_together(h, history, "rewards of the evaluation", held_out, 3, e));
    TRY(write_together(h, history, "pairs whose chosen reply has more reward", right, 2, e));
    return write_together(h, history, "log-probability of a reply", logps, 2, e);
}

/* The same numbers for those who cannot see curves: thinned to lines that are worth reading. */
static void write_log_table(struct html *h, const json_t *history, int aligns)
{
    static const char *const of_texts[] = {"loss",      "mean_token_accuracy", "learning_rate",
                                           "grad_norm", "tokens_per_second",   "eval_loss"};
    static const char *const of_pairs[] = {
        "loss",          "rewards/chosen", "rewards/rejected",       "rewards/accuracies",
        "learning_rate", "eval_loss",      "eval_rewards/accuracies"};
    const char *const *keys = aligns ? of_pairs : of_texts;
    size_t num_keys =
        aligns ? sizeof of_pairs / sizeof *of_pairs : sizeof of_texts / sizeof *of_texts;
    size_t n = json_array_size(history), every = n / 200 + 1;
    html_put(h, "<details><summary>The same as a table</summary>");
    html_table(h, aligns ? "#step|#loss|#reward of chosen|#of rejected|#right|#learning "
                           "rate|#evaluation loss|#right there"
                         : "#step|#loss|#accuracy|#learning rate|#gradient norm|#tokens/"
                           "s|#evaluation loss");
    for (size_t i = 0; i < n; i++) {
        json_t *line = json_array_get(history, i);
        if (i % every && i + 1 < n && !json_object_get(line, "eval_loss")) continue;
        html_format(h, "<tr><td class=n>%lld</td>",
                    (long long)json_integer_value(json_object_get(line, "step")));
        for (size_t k = 0; k < num_keys; k++) {
            json_t *v = json_object_get(line, keys[k]);
            if (json_is_number(v))
                html_format(h, "<td class=n>%.5g</td>", json_number_value(v));
            else
                html_put(h, "<td></td>");
        }
        html_put(h, "</tr>\n");
    }
    html_table_end(h);
    html_put(h, "</details>\n");
}

static enum status write_curves(struct html *h, const json_t *history, int aligns, struct err *e)
{
    html_section(h, "Curves");
    html_put(h, "<div class=charts>\n");
    TRY(write_loss(h, history, e));
    if (aligns) TRY(write_rewards(h, history, e));
    TRY(write_curve(h, history, "accuracy of trained tokens", "mean_token_accuracy",
                    "eval_mean_token_accuracy", 0, e));
    TRY(write_curve(h, history, "learning rate", "learning_rate", NULL, 1, e));
    TRY(write_curve(h, history, "gradient norm, before clipping", "grad_norm", NULL, 1, e));
    TRY(write_curve(h, history, "tokens per second", "tokens_per_second", NULL, 1, e));
    TRY(write_curve(h, history, "share of the measured GEMM rate", "floor_share", NULL, 1, e));
    html_put(h, "</div>\n");
    write_log_table(h, history, aligns);
    html_close(h);
    return OK;
}

/* --- the head --- */

static void count_parameters(const struct session *s, int64_t *all, int64_t *trained)
{
    *all = *trained = 0;
    for (int32_t i = 0; i < s->engine.params.count; i++) {
        const struct param *p = &s->engine.params.params[i];
        *all += (int64_t)p->n;
        if (p->trainable) *trained += (int64_t)p->n;
    }
}

static const char *duration(double seconds, char out[32])
{
    long long t = (long long)(seconds + 0.5);
    if (seconds < 10)
        snprintf(out, 32, "%.1f s", seconds);
    else if (t < 60)
        snprintf(out, 32, "%lld s", t);
    else if (t < 3600)
        snprintf(out, 32, "%lld min %02lld s", t / 60, t % 60);
    else
        snprintf(out, 32, "%lld h %02lld min", t / 3600, t / 60 % 60);
    return out;
}

/* First, last and lowest finite value of a name. 0: there is none. */
static int summarise(const json_t *history, const char *key, double *first, double *last,
                     double *low)
{
    size_t i;
    int any = 0;
    json_t *line;
    json_array_foreach(history, i, line)
    {
        json_t *value = json_object_get(line, key);
        if (!json_is_number(value)) continue;
        *last = json_number_value(value);
        if (!any) *first = *low = *last;
        if (*last < *low) *low = *last;
        any = 1;
    }
    return any;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 0: there are no values, or no memory to sort them. */
static int median(const json_t *history, const char *key, double *out)
{
    struct curve c;
    struct err ignored = {0};
    if (curve_read(&c, history, key, &ignored)) return 0;
    if (c.n) {
        qsort(c.y, c.n, sizeof *c.y, by_size);
        *out = c.y[c.n / 2];
    }
    curve_free(&c);
    return c.n > 0;
}

static void write_loss_tiles(struct html *h, const json_t *history)
{
    double first, last, low;
    char value[64], note[64];
    if (summarise(history, "loss", &first, &last, &low)) {
        snprintf(value, sizeof value, "%.4f", last);
        snprintf(note, sizeof note, "%.4f at first", first);
        html_tile(h, "loss", value, note);
    }
    if (summarise(history, "eval_loss", &first, &last, &low)) {
        snprintf(value, sizeof value, "%.4f", last);
        snprintf(note, sizeof note, "lowest %.4f", low);
        html_tile(h, "evaluation loss", value, note);
    }
    int held_out = summarise(history, "eval_rewards/accuracies", &first, &last, &low);
    if (held_out || summarise(history, "rewards/accuracies", &first, &last, &low)) {
        snprintf(value, sizeof value, "%.1f %%", 100 * last);
        html_tile(h, "chosen ahead", value,
                  held_out ? "of the held-out pairs" : "of the last pairs");
    }
}

static void write_tiles(struct html *h, const struct report *r, const json_t *history)
{
    const struct session *s = r->session;
    const struct engine_memory *m = &s->engine.memory;
    char value[64], note[96], a[32], b[32];
    double rate;
    int64_t all, trained;
    html_put(h, "<div class=tiles>\n");
    snprintf(value, sizeof value, "%s / %s", text_count(s->done, a), text_count(s->total_steps, b));
    snprintf(note, sizeof note, "%.2f epochs", (double)s->done / (double)s->steps_per_epoch);
    html_tile(h, "steps", value, note);
    write_loss_tiles(h, history);
    snprintf(note, sizeof note, "in %s of this process", duration(r->seconds, b));
    html_tile(h, "tokens seen", text_count(s->num_tokens, a), note);
    if (median(history, "tokens_per_second", &rate))
        html_tile(h, "tokens per second", text_number(rate, a), "median of the logs");
    count_parameters(s, &all, &trained);
    snprintf(note, sizeof note, "of %s parameters", text_count(all, b));
    html_tile(h, "trained", text_count(trained, a), note);
    html_tile(h, "memory", text_bytes((double)m->run + (double)m->step + (double)m->scratch, a),
              "weights, states and activations");
    html_put(h, "</div>\n");
}

static void write_state(struct html *h, const struct report *r)
{
    static const char *const words[] = {"running", "finished", "stopped, to be resumed", "failed"};
    char now[64];
    time_t t = time(NULL);
    struct tm local;
    strftime(now, sizeof now, "%Y-%m-%d %H:%M", localtime_r(&t, &local));
    html_put(h, "<p><b>");
    html_string(h, words[r->phase]);
    html_format(h, "</b> <span class=faint>as of %s</span></p>\n", now);
    if (!r->message) return;
    html_put(h, "<p class=bad>");
    html_string(h, r->message);
    html_put(h, "</p>\n");
}

static void write_head(struct html *h, const struct report *r, const json_t *history)
{
    const struct session *s = r->session;
    const struct config *c = s->config;
    html_put(h, "<p class=faint>");
    html_format(h, "stage %s, ", config_word(c, KEY_stage));
    if (s->engine.has_lora)
        html_format(h, "LoRA of rank %d on ", (int)s->lora.r);
    else
        html_put(h, "all weights of ");
    html_put(h, "<bdi>");
    html_string(h, c->model_name_or_path);
    html_format(h, "</bdi> (%s)", s->model.family->name);
    if (s->template) {
        html_put(h, ", template ");
        html_string(h, s->template->name);
    }
    html_put(h, "</p>\n");
    write_state(h, r);
    write_tiles(h, r, history);
}

/* --- answers --- */

static void write_answer(struct html *h, const char *heading, const char *text, int cut)
{
    html_put(h, "<div>");
    html_element(h, "h4", heading);
    if (text && text[0]) {
        html_put(h, "<div class=t dir=auto tabindex=0>");
        html_string(h, text);
        html_put(h, "</div>");
    } else {
        html_element(h, "p class=faint", text ? "(nothing)" : "(not asked)");
    }
    if (cut) html_format(h, "<p class=faint>… cut after %d tokens</p>", ANSWER_TOKENS);
    html_put(h, "</div>\n");
}

static void write_answers(struct html *h, const struct session *s)
{
    const struct answers *a = &s->answers;
    if (!a->n) return;
    html_section(h, "Answers before and after");
    html_format(h,
                "<p class=faint>Greedy, at most %d tokens, by the weights before the first step "
                "and after the last. %s</p>\n",
                ANSWER_TOKENS,
                config_is_set(s->config, KEY_sample_prompts) ? "Prompts from sample_prompts."
                : a->held_out                                ? "Prompts of held-out documents."
                              : "Prompts of documents that are trained on.");
    for (size_t i = 0; i < a->n; i++) {
        const struct answer *it = &a->items[i];
        html_format(h, "<h3>Prompt %zu", i + 1);
        if (it->origin[0]) {
            html_put(h, " <span class=faint><bdi>");
            html_string(h, it->origin);
            html_put(h, "</bdi></span>");
        }
        html_put(h, "</h3>\n<div class=\"t prompt\" dir=auto tabindex=0>");
        html_string(h, it->prompt);
        html_put(h, "</div>\n<div class=answers>");
        write_answer(h, "before", it->text[ANSWER_BEFORE], it->cut[ANSWER_BEFORE]);
        write_answer(h, "after", it->text[ANSWER_AFTER], it->cut[ANSWER_AFTER]);
        if (it->reference) write_answer(h, "the data says", it->reference, 0);
        html_put(h, "</div>\n");
    }
    html_close(h);
}

/* --- data --- */

static void write_epoch(struct html *h, const struct session *s)
{
    const struct loader_report *l = loader_report(s->train_loader);
    char a[32], b[32], c[32];
    html_format(h, "<p>An epoch has %s documents with %s tokens, %s of them trained (%.1f&nbsp;%%)",
                text_count(l->documents, a), text_count(l->tokens, b), text_count(l->supervised, c),
                l->tokens ? 100.0 * (double)l->supervised / (double)l->tokens : 0);
    if (s->eval_loader)
        html_format(h, "; %s documents are for evaluation",
                    text_count(loader_report(s->eval_loader)->documents, a));
    html_put(h, ". ");
    if (l->pieces)
        html_format(h, "%s documents are longer than max_length and are cut into %s pieces. ",
                    text_count(l->cut_documents, a), text_count(l->pieces, b));
    else if (l->cut_documents)
        html_format(h, "%s documents are longer than max_length and lose %s tokens. ",
                    text_count(l->cut_documents, a), text_count(l->cut_tokens, b));
    if (l->dropped_documents)
        html_format(h, "%s documents have nothing to learn within max_length and are left out.",
                    text_count(l->dropped_documents, a));
    html_put(h, "</p>\n");
}

static enum status write_data(struct html *h, const struct session *s, struct err *e)
{
    const char *text = store_info(s->store)->report;
    json_t *report = NULL;
    html_section(h, "Data");
    write_epoch(h, s);
    TRY(json_parse_text(text, strlen(text), store_path(s->store), &report, e));
    html_data(h, report);
    json_decref(report);
    html_close(h);
    return OK;
}

/* --- config and machine --- */

static enum status write_key(struct html *h, const struct config *c, enum config_key key,
                             struct err *e)
{
    char place[300];
    struct buf value;
    const char *unused = config_unused(c, key);
    buf_init(&value, 1 << 20);
    enum status s = config_value_text(c, key, &value);
    if (!s) {
        config_where(c, key, place, sizeof place);
        html_put(h, unused ? "<tr class=unused>" : "<tr>");
        html_element(h, "th scope=row", config_name(key));
        html_put(h, "<td class=v><bdi>");
        html_text(h, value.data, value.len);
        html_put(h, "</bdi></td>");
        if (unused) snprintf(place, sizeof place, "not used: needs %s", unused);
        html_element(h, "td", place);
        html_put(h, "</tr>\n");
    }
    buf_free(&value);
    return s ? err_set(e, s, "no room for %s in the report", config_name(key)) : OK;
}

/* The keys that somebody set, or those that nobody did. */
static enum status write_keys(struct html *h, const struct config *c, int set, struct err *e)
{
    const char *section = "";
    html_table(h, "key|value|from");
    for (int key = 0; key < CONFIG_NUM_KEYS; key++) {
        if ((config_is_set(c, (enum config_key)key) != 0) != set) continue;
        if (strcmp(section, config_section((enum config_key)key))) {
            section = config_section((enum config_key)key);
            html_put(h, "<tr><th colspan=3 scope=rowgroup class=faint>");
            html_string(h, section);
            html_put(h, "</th></tr>\n");
        }
        TRY(write_key(h, c, (enum config_key)key, e));
    }
    html_table_end(h);
    return OK;
}

static enum status write_config(struct html *h, const struct config *c, struct err *e)
{
    html_section(h, "Config");
    TRY(write_keys(h, c, 1, e));
    html_put(h, "<details><summary>Everything else is as by default</summary>\n");
    TRY(write_keys(h, c, 0, e));
    html_put(h, "</details>\n");
    html_close(h);
    return OK;
}

static void write_machine(struct html *h, const struct session *s)
{
    const struct engine_memory *m = &s->engine.memory;
    char machine[256], text[64];
    s->engine.device.k->describe(&s->engine.device, machine, sizeof machine);
    html_section(h, "Machine");
    html_put(h, "<div class=wide><table><tbody>\n");
    html_fact(h, "cria", CRIA_VERSION);
    html_fact(h, "device", machine);
    snprintf(text, sizeof text, "%d", s->engine.device.threads);
    html_fact(h, "threads", text);
    html_fact(h, "run arena", text_bytes((double)m->run, text));
    html_fact(h, "step arena", text_bytes((double)m->step, text));
    html_fact(h, "scratch arena", text_bytes((double)m->scratch, text));
    html_fact(h, "base weights", s->engine.base_hash);
    html_fact(h, "dataset", store_info(s->store)->content_hash);
    html_fact(h, "tokenizer", tokenizer_hash(s->tokenizer));
    html_put(h, "</tbody></table></div>\n");
    html_close(h);
}

/* --- the page --- */

static enum status write_page(struct html *h, const struct report *r, const json_t *history,
                              struct err *e)
{
    const struct session *s = r->session;
    write_head(h, r, history);
    TRY(write_curves(h, history, s->aligns, e));
    write_answers(h, s);
    TRY(write_data(h, s, e));
    TRY(write_config(h, s->config, e));
    write_machine(h, s);
    return html_end(h, e);
}

/* The last component of the output's path. */
static void name_run(const char *dir, char *out, size_t size)
{
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    size_t from = n;
    while (from && dir[from - 1] != '/') from--;
    snprintf(out, size, "%.*s", (int)(n - from), dir + from);
}

enum status report_write(const struct report *r, struct err *e)
{
    const char *dir = r->session->config->output_dir;
    char path[IO_PATH_MAX], metrics[IO_PATH_MAX], title[256];
    struct html h;
    json_t *history;
    TRY(io_join(path, sizeof path, dir, REPORT_FILE, e));
    TRY(io_join(metrics, sizeof metrics, dir, "metrics.jsonl", e));
    TRY(metrics_history(metrics, &history, e));
    name_run(dir, title, sizeof title);
    html_begin(&h, title, HTML_CHARTS);
    enum status s = write_page(&h, r, history, e);
    if (!s) s = io_write_file(path, h.text.data, h.text.len, e);
    html_free(&h);
    json_decref(history);
    return s ? err_wrap(e, "writing %s", path) : OK;
}

#include "run/report_curves.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "run/chart.h"

#define SMOOTHED_FROM 30 /* logged losses; with fewer the curve is drawn as it is */

void curve_free(struct curve *c) { mem_free(c->x); }

enum status curve_read(struct curve *c, const json_t *history, const char *key, struct err *e)
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

enum status report_write_curves(struct html *h, const json_t *history, int aligns, struct err *e)
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

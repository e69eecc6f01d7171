#include "run/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/json.h"
#include "run/html_data.h"
#include "run/metrics.h"
#include "run/report_curves.h"

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
    double rate = 0;
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
    TRY(report_write_curves(h, history, s->aligns, e));
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

/* Of a dataset file: how it was made, how much of it is trained, and documents token by token. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "run/facts.h"
#include "run/inspect.h"
#include "run/token_view.h"

#define LABEL 11 /* columns of a turn's role */

static const char *const roles[] = {"system", "user", "assistant", "tool", "text"};

static const char *role_name(int32_t role)
{
    return role >= 0 && (size_t)role < sizeof roles / sizeof *roles ? roles[role] : "?";
}

/* What a turn is called: replies of a preference record by their part in it. */
static const char *turn_name(const struct sample *d, int64_t t)
{
    if (t < 0) return "";
    const struct sample_turn *turn = &d->turns[t];
    if (d->kind == KIND_SFT || turn->start < d->chosen) return role_name(turn->role);
    return turn->start < d->rejected ? "chosen" : "rejected";
}

/* --- facts --- */

/* Per source what prepare alone knows; only names when the file holds no account. */
static json_t *sources(const struct store_info *info)
{
    struct err ignored = {0};
    json_t *report = NULL, *out = json_array();
    if (json_parse_text(info->report, strlen(info->report), "report", &report, &ignored))
        report = NULL;
    for (size_t i = 0; i < info->num_sources; i++) {
        json_t *s = json_array_get(json_object_get(report, "sources"), i);
        json_t *row =
            json_pack("{s:s%}", "file", info->sources[i].path, strlen(info->sources[i].path));
        static const char *const keys[] = {"format", "records"};
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            if (json_object_get(s, keys[k]))
                json_object_set(row, keys[k], json_object_get(s, keys[k]));
        json_array_append_new(out, row);
    }
    json_decref(report);
    return out;
}

static json_t *making(const struct inspection *in)
{
    const struct store_settings *s = &store_info(in->store)->settings;
    return json_pack("{s:s, s:s, s:b, s:s, s:i, s:s, s:s}", "template",
                     s->template_name[0] ? s->template_name : "none: plain text", "train_on",
                     s->train_on, "tokenize_whole", s->tokenize_whole, "tokenizer_hash",
                     s->tokenizer_hash, "vocabulary", (int)s->vocab_size, "content_hash",
                     store_info(in->store)->content_hash, "texts",
                     in->tokenizer ? "decoded by this tokenizer"
                                   : "ids alone: name the tokenizer with --tokenizer DIR, or "
                                     "inspect the config that has it");
}

/* What a run would cut, and how: as asked for, as the config says, or as the file was prepared. */
struct cutting {
    int32_t max_length; /* 0: not known */
    int pieces;
};

static struct cutting cutting_of(const struct inspection *in)
{
    const struct config *c = in->options.config;
    const char *text = store_info(in->store)->report;
    struct err ignored = {0};
    json_t *report = NULL;
    struct cutting cut = {0};
    if (c) cut = (struct cutting){(int32_t)c->max_length, c->stage == CONFIG_STAGE_PT};
    if (!c && !json_parse_text(text, strlen(text), "report", &report, &ignored)) {
        json_int_t n = json_integer_value(json_object_get(report, "max_length"));
        cut.max_length = n > 0 && n <= INT32_MAX ? (int32_t)n : 0;
        cut.pieces = json_is_true(json_object_get(report, "pieces"));
        json_decref(report);
    }
    if (in->options.max_length) cut.max_length = in->options.max_length;
    return cut;
}

enum status inspect_dataset(struct inspection *in, struct err *e)
{
    const struct store_info *info = store_info(in->store);
    const struct cutting cut = cutting_of(in);
    TRY(audit_open(&in->audit, in->store, cut.max_length, cut.pieces, e));
    json_t *files = sources(info);
    double share =
        info->num_tokens ? 100.0 * (double)info->num_targets / (double)info->num_tokens : 0;
    int failed =
        json_object_set_new(in->facts, "kind", json_string("dataset")) ||
        json_object_set_new(in->facts, "path", json_string(store_path(in->store))) ||
        json_object_set_new(in->facts, "holds",
                            json_string(kind_about((enum record_kind)info->settings.kind))) ||
        json_object_set_new(in->facts, "documents", json_integer(info->num_documents)) ||
        json_object_set_new(in->facts, "tokens", json_integer(info->num_tokens)) ||
        json_object_set_new(in->facts, "supervised", json_integer(info->num_targets)) ||
        json_object_set_new(in->facts, "supervised_percent", json_real(share)) ||
        json_object_set_new(in->facts, "made_with", making(in)) ||
        json_object_set(in->facts, "sources", files) || mem_failed();
    json_decref(files);
    if (failed)
        return err_set(e, ERR_MEMORY, "no memory for the facts of %s", store_path(in->store));
    TRY(audit_facts(&in->audit, in->facts, e));
    if (in->options.from < 0 || in->options.from >= info->num_documents)
        return err_set(e, ERR_CONFIG, "there is no document %lld; the first is 0, the last %lld",
                       (long long)in->options.from, (long long)info->num_documents - 1);
    return OK;
}

/* --- documents --- */

static int64_t last_shown(const struct inspection *in)
{
    int64_t n = store_info(in->store)->num_documents, rest = n - in->options.from;
    return in->options.from + (in->options.limit < rest ? in->options.limit : rest);
}

/* Turn t of the document ends before this token; turn -1 is what comes before the first. */
static size_t turn_end(const struct sample *d, int64_t t)
{
    size_t end = t + 1 < (int64_t)d->num_turns ? (size_t)d->turns[t + 1].start : d->n;
    return end < d->n ? end : d->n;
}

static void describe(const struct inspection *in, int64_t number, const struct sample *d, char *out,
                     size_t size)
{
    char origin[300];
    struct store_targets t = store_count_targets(d->weights, (int64_t)d->n);
    dataset_origin(in->store, d->source, d->line, origin, sizeof origin);
    int n = snprintf(out, size, "document %lld: %s; %zu tokens, %d trained", (long long)number,
                     origin, d->n, (int)t.count);
    if (d->kind != KIND_SFT && n >= 0 && (size_t)n < size)
        n += snprintf(out + n, size - (size_t)n, ": prompt %d, chosen %d, rejected %d",
                      (int)d->chosen, (int)(d->rejected - d->chosen),
                      (int)((int64_t)d->n - d->rejected));
    if ((in->audit.flags[number] & AUDIT_CUT) && n >= 0 && (size_t)n < size)
        n += snprintf(out + n, size - (size_t)n, "; cut by max_length %d",
                      (int)in->audit.max_length);
    if ((in->audit.flags[number] & AUDIT_COPY) && n >= 0 && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, "; the same as document %lld",
                 (long long)in->audit.original[number]);
}

/* Calls `show` for every document asked for. */
static enum status each(struct inspection *in,
                        enum status (*show)(struct inspection *in, int64_t number,
                                            const struct sample *d, void *to, struct err *e),
                        void *to, struct err *e)
{
    struct sample d = {0};
    enum status s = OK;
    for (int64_t i = in->options.from; !s && i < last_shown(in); i++) {
        s = store_document(in->store, i, &d, e);
        if (!s) s = show(in, i, &d, to, e);
    }
    sample_free(&d);
    return s;
}

/* --- documents in a terminal --- */

struct writing {
    const struct inspect_look *look;
    struct buf *out;
    struct buf text; /* of one cell, fit for a terminal */
    int trained;     /* what is open now */
    int first;       /* no cell of this turn yet */
};

static enum status set_trained(struct writing *w, int trained)
{
    if (w->trained == trained) return OK;
    w->trained = trained;
    if (w->look->color) return buf_puts(w->out, trained ? "\033[1;32m" : "\033[0m");
    return buf_puts(w->out, trained ? "{+" : "+}");
}

static enum status put_boundary(struct writing *w)
{
    if (!w->look->boundaries || w->first) return OK;
    return buf_puts(w->out, w->look->color ? "\033[2;39m¦\033[0m" : "¦");
}

/* Lines are set in below the label; a trained line end is shown as one. */
static enum status put_lines(struct writing *w)
{
    const char *at = w->text.data ? w->text.data : "";
    for (; *at; at++) {
        if (*at != '\n') {
            TRY(buf_putc(w->out, *at));
            continue;
        }
        if (w->trained) TRY(buf_puts(w->out, "↵"));
        TRY(buf_printf(w->out, "\n%*s", LABEL, ""));
    }
    return OK;
}

static enum status put_cell(struct writing *w, const struct token_cell *c)
{
    int trained = c->weight != 0;
    if (w->look->boundaries && w->look->color) TRY(set_trained(w, 0));
    if (w->trained != trained && !trained) TRY(set_trained(w, 0));
    TRY(put_boundary(w));
    TRY(set_trained(w, trained));
    w->first = 0;
    buf_clear(&w->text);
    TRY(text_for_terminal(c->bytes, c->n, &w->text));
    if (!c->special || !w->look->color) return put_lines(w);
    TRY(buf_puts(w->out, trained ? "\033[4m" : "\033[36m"));
    TRY(put_lines(w));
    return buf_puts(w->out, trained ? "\033[24m" : "\033[39m");
}

static enum status put_turn(struct writing *w, struct token_view *v, size_t end, const char *label,
                            struct err *e)
{
    enum status s = buf_printf(w->out, "%-*s", LABEL, label);
    w->first = 1;
    while (!s && v->at < end) {
        struct token_cell cell;
        TRY(token_view_next(v, end, &cell, e));
        s = put_cell(w, &cell);
    }
    if (!s) s = set_trained(w, 0);
    if (!s) s = buf_putc(w->out, '\n');
    return s ? err_set(e, s, "no room for so many documents; give a smaller --limit") : OK;
}

static enum status show_text(struct inspection *in, int64_t number, const struct sample *d,
                             void *to, struct err *e)
{
    struct writing *w = to;
    struct token_view v;
    char title[400];
    describe(in, number, d, title, sizeof title);
    enum status s = buf_putc(w->out, '\n');
    if (!s) s = text_for_terminal(title, strlen(title), w->out);
    if (!s) s = buf_putc(w->out, '\n');
    if (s) return err_set(e, s, "no room for so many documents; give a smaller --limit");
    token_view_init(&v, in->tokenizer, d);
    for (int64_t t = -1; !s && t < (int64_t)d->num_turns; t++) {
        size_t end = turn_end(d, t);
        if (v.at < end) s = put_turn(w, &v, end, turn_name(d, t), e);
    }
    token_view_free(&v);
    return s;
}

enum status inspect_documents_text(struct inspection *in, const struct inspect_look *look,
                                   struct buf *out, struct err *e)
{
    struct writing w = {.look = look, .out = out};
    if (last_shown(in) == in->options.from) return OK;
    if (buf_puts(out, look->color ? "\ntrained tokens are \033[1;32mbold and green\033[0m\n"
                                  : "\ntrained tokens are {+between such marks+}\n"))
        return err_set(e, ERR_MEMORY, "no memory for the text");
    buf_init(&w.text, (size_t)1 << 24);
    enum status s = each(in, show_text, &w, e);
    buf_free(&w.text);
    return s;
}

/* --- documents on a page --- */

static void put_cell_html(struct html *h, const struct sample *d, const struct token_cell *c)
{
    const char *at = c->bytes, *end = at + c->n, *stop;
    int trained = c->weight != 0;
    html_format(h, trained ? "<mark%s title=\"" : "<span%s title=\"",
                c->special ? " class=sp" : "");
    for (size_t i = 0; i < c->count; i++)
        html_format(h, "%s%d", i ? " " : "", (int)d->ids[c->first + i]);
    if (trained && c->weight != 1) html_format(h, ", weight %g", (double)c->weight);
    html_put(h, "\">");
    while (trained && (stop = memchr(at, '\n', (size_t)(end - at)))) { /* seen, since trained */
        html_text(h, at, (size_t)(stop - at));
        html_put(h, "<span class=c>↵</span>\n");
        at = stop + 1;
    }
    html_text(h, at, (size_t)(end - at));
    html_put(h, trained ? "</mark>" : "</span>");
}

/* Where max_length ends a text; each reply of a preference record has an end of its own. */
static void put_cut_html(struct html *h, const struct inspection *in, const struct sample *d,
                         const struct token_cell *c)
{
    size_t at = (size_t)in->audit.max_length;
    if (d->kind == KIND_SFT && at && c->first <= at && at < c->first + c->count)
        html_format(h, "<b class=cut title=\"max_length %zu: the rest is cut\"></b>", at);
}

static enum status show_html(struct inspection *in, int64_t number, const struct sample *d,
                             void *to, struct err *e)
{
    struct html *h = to;
    struct token_view v;
    struct token_cell cell;
    char title[400];
    enum status s = OK;
    describe(in, number, d, title, sizeof title);
    unsigned flags = in->audit.flags[number];
    html_format(h, "<article class=doc data-source=%d data-flags=\"%s%s\">", (int)d->source,
                flags & AUDIT_CUT ? "cut " : "", flags & (AUDIT_COPY | AUDIT_COPIED) ? "copy" : "");
    html_element(h, "h3", title);
    token_view_init(&v, in->tokenizer, d);
    for (int64_t t = -1; !s && t < (int64_t)d->num_turns; t++) {
        size_t end = turn_end(d, t);
        if (v.at >= end) continue;
        html_put(h, "\n<div class=turn>");
        html_element(h, "b", turn_name(d, t));
        html_put(h, "<div class=t dir=auto>");
        while (!s && v.at < end) {
            s = token_view_next(&v, end, &cell, e);
            if (!s) put_cut_html(h, in, d, &cell);
            if (!s) put_cell_html(h, d, &cell);
        }
        html_put(h, "</div></div>");
    }
    html_put(h, "</article>\n");
    token_view_free(&v);
    return s;
}

/* Shown by the script that answers to it. */
static void put_search(struct html *h, const struct inspection *in)
{
    const struct store_info *info = store_info(in->store);
    html_put(h, "<form id=find class=find hidden><label>Text <input type=search id=find-text "
                "autocomplete=off></label>\n<label>Source <select id=find-source>"
                "<option value=\"\">all</option>");
    for (size_t i = 0; i < info->num_sources; i++) {
        html_format(h, "<option value=%zu>", i);
        html_string(h, info->sources[i].name);
        html_put(h, "</option>");
    }
    html_put(h, "</select></label>\n<label><input type=checkbox id=find-cut> truncated</label>\n"
                "<label><input type=checkbox id=find-copy> duplicate</label>\n"
                "<output id=find-count aria-live=polite></output></form>\n");
}

enum status inspect_documents_html(struct inspection *in, struct html *h, struct err *e)
{
    html_section(h, "documents");
    put_search(h, in);
    html_format(h,
                "<p class=faint>Numbers %lld to %lld. <mark>Trained tokens</mark> look like this. "
                "A token's id is shown under the pointer.</p>\n<input type=checkbox id=tokens> "
                "<label for=tokens>outline every token</label>\n<div>\n",
                (long long)in->options.from, (long long)last_shown(in) - 1);
    enum status s = each(in, show_html, h, e);
    html_put(h, "</div>\n");
    html_close(h);
    return s;
}

/* --- documents for programs --- */

static enum status show_json(struct inspection *in, int64_t number, const struct sample *d,
                             void *to, struct err *e)
{
    const struct store_info *info = store_info(in->store);
    json_t *ids = json_array(), *weights = json_array(), *turns = json_array();
    for (size_t i = 0; i < d->n; i++) {
        json_array_append_new(ids, json_integer(d->ids[i]));
        json_array_append_new(weights, json_real((double)d->weights[i]));
    }
    for (size_t t = 0; t < d->num_turns; t++)
        json_array_append_new(turns, json_pack("{s:s, s:i}", "role", role_name(d->turns[t].role),
                                               "start", (int)d->turns[t].start));
    json_t *o = json_pack("{s:I, s:s, s:I, s:o, s:o, s:o}", "document", (json_int_t)number,
                          "source", info->sources[d->source].name, "line", (json_int_t)d->line,
                          "ids", ids, "weights", weights, "turns", turns);
    unsigned flags = in->audit.flags[number];
    json_object_set_new(o, "cut",
                        in->audit.max_length ? json_boolean(flags & AUDIT_CUT) : json_null());
    json_object_set_new(
        o, "same_as", flags & AUDIT_COPY ? json_integer(in->audit.original[number]) : json_null());
    if (d->kind != KIND_SFT) {
        json_object_set_new(o, "chosen", json_integer(d->chosen));
        json_object_set_new(o, "rejected", json_integer(d->rejected));
    }
    struct buf text;
    buf_init(&text, (size_t)1 << 28);
    enum status s =
        o ? OK : err_set(e, ERR_MEMORY, "no memory for document %lld", (long long)number);
    if (!s && in->tokenizer) s = tokenizer_decode(in->tokenizer, d->ids, d->n, 0, &text, e);
    if (!s && in->tokenizer)
        json_object_set_new(o, "text", json_stringn(text.data ? text.data : "", text.len));
    buf_free(&text);
    if (!s && (json_array_append(to, o) || mem_failed()))
        s = err_set(e, ERR_MEMORY, "no memory for the JSON form");
    json_decref(o);
    return s;
}

enum status inspect_documents_json(struct inspection *in, json_t *shown, struct err *e)
{
    return each(in, show_json, shown, e);
}

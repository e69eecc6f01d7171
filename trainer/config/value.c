#include "config/value.h"

#include <math.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/size.h"

#define SHOWN 80 /* characters of a value that a message repeats */

struct config_block {
    struct config_block *next;
    alignas(max_align_t) char bytes[];
};

void *config_take(struct config *c, size_t bytes)
{
    size_t size;
    if (size_add(bytes, sizeof(struct config_block), &size)) return NULL;
    struct config_block *b = mem_alloc(size);
    if (!b) return NULL;
    b->next = c->blocks;
    c->blocks = b;
    return b->bytes;
}

const char *config_copy(struct config *c, const char *text, size_t n)
{
    char *copy = config_take(c, n + 1);
    if (!copy) return NULL;
    memcpy(copy, text, n);
    copy[n] = 0;
    return copy;
}

void config_free(struct config *c)
{
    while (c->blocks) {
        struct config_block *next = c->blocks->next;
        mem_free(c->blocks);
        c->blocks = next;
    }
    *c = (struct config){0};
}

void *config_field(struct config *c, enum config_key key)
{
    return (char *)c + config_rows[key].offset;
}

const void *config_field_of(const struct config *c, enum config_key key)
{
    return (const char *)c + config_rows[key].offset;
}

int config_parse_number(const char *text, double *out)
{
    size_t i = text[0] == '-' || text[0] == '+', digits = strspn(text + i, "0123456789");
    i += digits;
    if (text[i] == '.') {
        size_t more = strspn(text + i + 1, "0123456789");
        digits += more;
        i += 1 + more;
    }
    if (!digits) return 1;
    if (text[i] == 'e' || text[i] == 'E') {
        i += 1 + (text[i + 1] == '-' || text[i + 1] == '+');
        size_t more = strspn(text + i, "0123456789");
        if (!more) return 1;
        i += more;
    }
    *out = strtod(text, NULL); /* the C locale: nobody here calls setlocale */
    return text[i] || !isfinite(*out);
}

int config_is_null(const struct config_scalar *s)
{
    return s->plain && (!s->text[0] || !strcmp(s->text, "~") || !strcasecmp(s->text, "null"));
}

static int is_given(const struct config_scalar *s) { return s->text && !config_is_null(s); }

/* What a setter knows: where to put the value, and where it was written. */
struct target {
    struct config *c;
    const struct config_row *row;
    void *field;
    const char *file;
    struct err *e;
};

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for the configuration");
}

static enum status set_string(const struct target *t, const struct config_scalar *s)
{
    int none = !s->text[0] || !strcasecmp(s->text, "none");
    *(const char **)t->field = none ? NULL : s->text;
    return OK;
}

static enum status number(const struct target *t, const struct config_scalar *s, double *out)
{
    const struct config_row *row = t->row;
    if (config_parse_number(s->text, out))
        return err_at(t->e, ERR_CONFIG, t->file, s->line, s->column, "%s: '%.*s' is not a number",
                      row->name, SHOWN, s->text);
    if (*out < row->low || *out > row->high)
        return err_at(t->e, ERR_CONFIG, t->file, s->line, s->column,
                      "%s: %.*s is out of range, %.15g to %.15g", row->name, SHOWN, s->text,
                      row->low, row->high);
    return OK;
}

static enum status set_real(const struct target *t, const struct config_scalar *s)
{
    double x;
    TRY(number(t, s, &x));
    *(double *)t->field = x + 0; /* no negative zero */
    return OK;
}

static enum status set_int(const struct target *t, const struct config_scalar *s)
{
    double x;
    TRY(number(t, s, &x));
    if (x != floor(x))
        return err_at(t->e, ERR_CONFIG, t->file, s->line, s->column,
                      "%s: %.*s is not a whole number", t->row->name, SHOWN, s->text);
    *(int64_t *)t->field = (int64_t)x;
    return OK;
}

static enum status set_steps(const struct target *t, const struct config_scalar *s)
{
    if (!strcasecmp(s->text, "epoch")) {
        *(int64_t *)t->field = CONFIG_EPOCH;
    } else if (!strcasecmp(s->text, "none")) {
        *(int64_t *)t->field = 0;
    } else {
        enum status status = set_int(t, s);
        if (status) return err_hint(t->e, "a number of steps, epoch or none"), status;
    }
    return OK;
}

static enum status set_flag(const struct target *t, const struct config_scalar *s)
{
    int flag = config_parse_flag(s->text);
    if (flag < 0)
        return err_at(t->e, ERR_CONFIG, t->file, s->line, s->column,
                      "%s: '%.*s' is neither true nor false", t->row->name, SHOWN, s->text);
    *(int *)t->field = flag;
    return OK;
}

/* "a, b or c" */
static void join_words(const char *const *words, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; words[i] && used < size; i++) {
        const char *between = !i ? "" : words[i + 1] ? ", " : " or ";
        used += (size_t)snprintf(out + used, size - used, "%s%s", between, words[i]);
    }
}

static int find_word(const char *const *words, const char *text)
{
    for (int i = 0; words && words[i]; i++)
        if (!strcasecmp(words[i], text)) return i;
    return -1;
}

/* Which of the row's words it is. */
static enum status word(const struct target *t, const struct config_scalar *s, int *at)
{
    const struct config_row *row = t->row;
    char all[256];
    *at = find_word(row->words, s->text);
    if (*at >= 0) return OK;
    join_words(row->words, all, sizeof all);
    if (find_word(row->later, s->text) >= 0) {
        err_at(t->e, ERR_UNSUPPORTED, t->file, s->line, s->column, "%s: %s is not supported yet",
               row->name, s->text);
        return err_hint(t->e, "this version knows %s", all);
    }
    size_t n = 0;
    while (row->words[n]) n++;
    const char *near = config_nearest(s->text, row->words, n);
    err_at(t->e, ERR_CONFIG, t->file, s->line, s->column, "%s: '%.*s' is not %s", row->name, SHOWN,
           s->text, all);
    return near ? err_hint(t->e, "did you mean %s?", near) : ERR_CONFIG;
}

static enum status set_choice(const struct target *t, const struct config_scalar *s)
{
    int at;
    TRY(word(t, s, &at));
    *(int *)t->field = at;
    return OK;
}

/* Text with commas as a list; [a, b] and {…} never come here. */
static enum status split(const struct target *t, const struct config_scalar *s,
                         struct config_item **items, size_t *n)
{
    size_t count = 1;
    int cut = t->row->kind != KIND_TEXTS;
    for (const char *p = s->text; *p; p++) count += cut && *p == ',';
    if (!s->text[0]) count = 0;
    struct config_item *out = config_take(t->c, count * sizeof *out);
    if (!out) return no_memory(t->e);
    const char *at = s->text;
    for (size_t i = 0; i < count; i++) {
        size_t length = cut ? strcspn(at, ",") : strlen(at);
        const char *from = at, *to = at + length;
        while (from < to && *from == ' ') from++;
        while (to > from && to[-1] == ' ') to--;
        out[i] = (struct config_item){.path = *s};
        out[i].path.text = config_copy(t->c, from, (size_t)(to - from));
        if (!out[i].path.text) return no_memory(t->e);
        at += length + 1;
    }
    *items = out;
    *n = count;
    return OK;
}

static enum status set_list(const struct target *t, const struct config_item *items, size_t n)
{
    const char **out = config_take(t->c, n * sizeof *out);
    if (!out) return no_memory(t->e);
    for (size_t i = 0; i < n; i++) {
        if (items[i].format.text || items[i].num_names)
            return err_at(t->e, ERR_CONFIG, t->file, items[i].path.line, items[i].path.column,
                          "%s: a list of names, not of mappings", t->row->name);
        out[i] = items[i].path.text;
        int at;
        if (!t->row->words) continue;
        TRY(word(t, &items[i].path, &at));
        out[i] = t->row->words[at];
    }
    *(struct config_list *)t->field = (struct config_list){out, n};
    return OK;
}

/* A number of a dataset's; not given: as it is. */
static enum status member(const struct target *t, const struct config_scalar *s, const char *name,
                          double low, double high, double *out)
{
    double x;
    if (!is_given(s)) return OK;
    if (config_parse_number(s->text, &x) || !(x >= low) || x > high) {
        err_at(t->e, ERR_CONFIG, t->file, s->line, s->column, "%s: %.*s is no number from %g to %g",
               name, SHOWN, s->text, low, high);
        return err_hint(t->e, "a dataset's %s", name);
    }
    *out = x;
    return OK;
}

static enum status whole_member(const struct target *t, const struct config_scalar *s,
                                const char *name, int64_t *out)
{
    double x = (double)*out;
    TRY(member(t, s, name, 1, 1e9, &x));
    if (x != floor(x))
        return err_at(t->e, ERR_CONFIG, t->file, s->line, s->column,
                      "%s: %.*s is not a whole number", name, SHOWN, s->text);
    *out = (int64_t)x;
    return OK;
}

static enum status set_dataset(const struct target *t, const struct config_item *item,
                               struct config_dataset *out)
{
    const char *format = item->format.text, *template = item->template.text;
    *out =
        (struct config_dataset){.path = item->path.text,
                                .split = is_given(&item->split) ? item->split.text : NULL,
                                .format = format && *format ? format : "auto",
                                .sample_by = item->sample_by.text ? item->sample_by.text : "line",
                                .template = template && *template ? template : NULL,
                                .fraction = 1,
                                .repeat = 1,
                                .names = item->names,
                                .num_names = item->num_names,
                                .line = item->path.line};
    TRY(member(t, &item->weight, "weight", 1e-6, 1e6, &out->weight));
    TRY(member(t, &item->fraction, "fraction", 1e-9, 1, &out->fraction));
    TRY(whole_member(t, &item->max_samples, "max_samples", &out->max_samples));
    return whole_member(t, &item->repeat, "repeat", &out->repeat);
}

static enum status set_datasets(const struct target *t, const struct config_item *items, size_t n)
{
    struct config_dataset *out = config_take(t->c, n * sizeof *out);
    if (!out) return no_memory(t->e);
    for (size_t i = 0; i < n; i++) TRY(set_dataset(t, &items[i], &out[i]));
    *(struct config_datasets *)t->field = (struct config_datasets){out, n};
    return OK;
}

static enum status set_items(const struct target *t, const struct config_value *v)
{
    struct config_item *parts = NULL;
    const struct config_item *items = v->items;
    size_t n = v->n;
    if (!v->is_list) {
        TRY(split(t, &v->scalar, &parts, &n));
        items = parts;
    }
    for (size_t i = 0; i < n; i++)
        if (!items[i].path.text[0])
            return err_at(t->e, ERR_CONFIG, t->file, items[i].path.line, items[i].path.column,
                          "%s: item %zu is empty", t->row->name, i + 1);
    if (v->is_list && !n)
        return err_at(t->e, ERR_CONFIG, t->file, v->scalar.line, v->scalar.column,
                      "%s: the list is empty", t->row->name);
    return t->row->kind == KIND_DATASETS ? set_datasets(t, items, n) : set_list(t, items, n);
}

static enum status set_scalar(const struct target *t, const struct config_scalar *s)
{
    static enum status (*const setters[])(const struct target *, const struct config_scalar *) = {
        [KIND_STRING] = set_string, [KIND_INT] = set_int,       [KIND_REAL] = set_real,
        [KIND_FLAG] = set_flag,     [KIND_CHOICE] = set_choice, [KIND_STEPS] = set_steps,
    };
    return setters[t->row->kind](t, s);
}

enum status config_set(struct config *c, enum config_key key, const struct config_value *v,
                       const char *file, int *null, struct err *e)
{
    const struct config_row *row = &config_rows[key];
    struct target t = {c, row, config_field(c, key), file, e};
    int takes_list =
        row->kind == KIND_LIST || row->kind == KIND_TEXTS || row->kind == KIND_DATASETS;
    *null = 0;
    if (v->is_list && !takes_list)
        return err_at(e, ERR_CONFIG, file, v->scalar.line, v->scalar.column,
                      "%s: wants one value, not a list", row->name);
    if (v->is_list) return set_items(&t, v);
    if (config_is_null(&v->scalar) && find_word(row->words, v->scalar.text) < 0) {
        *null = 1;
        return config_reset(c, key, e);
    }
    struct config_value meant = *v;
    meant.scalar.text = config_synonym(key, v->scalar.text);
    return takes_list ? set_items(&t, &meant) : set_scalar(&t, &meant.scalar);
}

enum status config_reset(struct config *c, enum config_key key, struct err *e)
{
    const struct config_row *row = &config_rows[key];
    struct config_value preset = {.scalar = {.text = row->preset}};
    int null;
    c->origin[key] = (struct config_origin){.spelling = row->name};
    return config_set(c, key, &preset, "default", &null, e);
}

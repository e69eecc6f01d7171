/* The resolved config and the help text, both from the table. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/quote.h"
#include "config/value.h"

/* The shortest decimal that reads back the same. */
static enum status put_real(struct buf *out, double x)
{
    char text[40];
    for (int digits = 15; digits <= 17; digits++) { /* %g drops zeros behind the point */
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    return buf_puts(out, text);
}

static enum status put_list(struct buf *out, const struct config_list *list)
{
    if (!list->n) return buf_puts(out, "null");
    TRY(buf_putc(out, '['));
    for (size_t i = 0; i < list->n; i++) {
        if (i) TRY(buf_puts(out, ", "));
        TRY(quote_yaml(out, list->items[i]));
    }
    return buf_putc(out, ']');
}

/* Roles with a list of what stands for them. */
static enum status put_names(struct buf *out, const struct config_dataset *d)
{
    for (size_t i = 0; i < d->num_names; i++) {
        int first = !i || strcmp(d->names[i - 1].ours, d->names[i].ours);
        int last = i + 1 == d->num_names || strcmp(d->names[i + 1].ours, d->names[i].ours);
        int is_role = !strncmp(d->names[i].ours, "role_", 5);
        if (first) TRY(buf_printf(out, ", %s: %s", d->names[i].ours, is_role ? "[" : ""));
        if (!first) TRY(buf_puts(out, ", "));
        TRY(quote_yaml(out, d->names[i].theirs));
        if (last && is_role) TRY(buf_putc(out, ']'));
    }
    return OK;
}

/* What is not by default. */
static enum status put_mixing(struct buf *out, const struct config_dataset *d)
{
    if (d->template) {
        TRY(buf_puts(out, ", template: "));
        TRY(quote_yaml(out, d->template));
    }
    if (d->weight > 0) {
        TRY(buf_puts(out, ", weight: "));
        TRY(put_real(out, d->weight));
    }
    if (d->fraction < 1) {
        TRY(buf_puts(out, ", fraction: "));
        TRY(put_real(out, d->fraction));
    }
    if (d->max_samples) TRY(buf_printf(out, ", max_samples: %" PRId64, d->max_samples));
    return d->repeat > 1 ? buf_printf(out, ", repeat: %" PRId64, d->repeat) : OK;
}

static enum status put_datasets(struct buf *out, const struct config_datasets *sets)
{
    if (!sets->n) return buf_puts(out, "null");
    TRY(buf_putc(out, '['));
    for (size_t i = 0; i < sets->n; i++) {
        TRY(buf_puts(out, i ? ", {path: " : "{path: "));
        TRY(quote_yaml(out, sets->items[i].path));
        TRY(buf_puts(out, ", format: "));
        TRY(quote_yaml(out, sets->items[i].format));
        if (strcmp(sets->items[i].sample_by, "line") != 0)
            TRY(buf_printf(out, ", sample_by: %s", sets->items[i].sample_by));
        TRY(put_mixing(out, &sets->items[i]));
        TRY(put_names(out, &sets->items[i]));
        TRY(buf_putc(out, '}'));
    }
    return buf_putc(out, ']');
}

enum status config_value_text(const struct config *c, enum config_key key, struct buf *out)
{
    const void *field = config_field_of(c, key);
    int64_t n;
    switch (config_rows[key].kind) {
    case KIND_STRING:
        return *(const char *const *)field ? quote_yaml(out, *(const char *const *)field)
                                           : buf_puts(out, "null");
    case KIND_STEPS:
        n = *(const int64_t *)field;
        if (n <= 0) return buf_puts(out, n ? "epoch" : "none");
        return buf_printf(out, "%" PRId64, n);
    case KIND_INT: return buf_printf(out, "%" PRId64, *(const int64_t *)field);
    case KIND_REAL: return put_real(out, *(const double *)field);
    case KIND_FLAG: return buf_puts(out, *(const int *)field ? "true" : "false");
    case KIND_CHOICE: return buf_puts(out, config_word(c, key));
    case KIND_LIST:
    case KIND_TEXTS: return put_list(out, field);
    case KIND_DATASETS: return put_datasets(out, field);
    }
    return OK;
}

int config_has(const struct config *c, enum config_key key, const char *word)
{
    const struct config_list *list = config_field_of(c, key);
    for (size_t i = 0; i < list->n; i++)
        if (!strcmp(list->items[i], word)) return 1;
    return 0;
}

const char *config_section(enum config_key key)
{
    const char *title = "";
    for (size_t i = 0; i < config_outline_length; i++) {
        if (config_outline[i].title) title = config_outline[i].title;
        if (!config_outline[i].title && config_outline[i].key == (int)key) break;
    }
    return title;
}

const char *config_unused(const struct config *c, enum config_key key)
{
    const char *wants;
    enum config_key because;
    return config_applies(c, key, &wants, &because) ? NULL : wants;
}

static enum status put_pair(struct buf *out, const struct config *c, enum config_key key)
{
    const char *wants;
    enum config_key because;
    char place[300];
    int applies = config_applies(c, key, &wants, &because);
    config_where(c, key, place, sizeof place);
    for (char *at = place; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7F) *at = '?'; /* a comment is one line */
    TRY(buf_printf(out, "%s%s: ", applies ? "" : "# ", config_name(key)));
    TRY(config_value_text(c, key, out));
    if (applies) return buf_printf(out, " # %s\n", place);
    return buf_printf(out, " (not used: needs %s)\n", wants);
}

enum status config_resolve(const struct config *c, struct buf *out)
{
    TRY(buf_puts(out, "# Every key, its value and where it came from.\n"));
    for (size_t i = 0; i < config_outline_length; i++) {
        const struct config_outline *at = &config_outline[i];
        if (at->title)
            TRY(buf_printf(out, "\n# %s\n", at->title));
        else
            TRY(put_pair(out, c, (enum config_key)at->key));
    }
    return OK;
}

enum status config_resolve_set(const struct config *c, struct buf *out)
{
    for (int key = 0; key < CONFIG_NUM_KEYS; key++) {
        if (!config_is_set(c, (enum config_key)key)) continue;
        TRY(buf_puts(out, "  "));
        TRY(put_pair(out, c, (enum config_key)key));
    }
    return OK;
}

/* "  label a, b, c\n"; nothing without words. */
static enum status put_words(struct buf *out, const char *label, const char *const *words)
{
    if (!words || !words[0]) return OK;
    TRY(buf_printf(out, "      %s ", label));
    for (size_t i = 0; words[i]; i++) TRY(buf_printf(out, i ? ", %s" : "%s", words[i]));
    return buf_putc(out, '\n');
}

static enum status put_help(struct buf *out, enum config_key key)
{
    const struct config_row *row = &config_rows[key];
    const char *spellings[16] = {0};
    size_t n = 0;
    for (size_t i = 0; i < config_num_aliases && n + 1 < sizeof spellings / sizeof *spellings; i++)
        if (config_aliases[i].key == key) spellings[n++] = config_aliases[i].spelling;
    TRY(buf_printf(out, "  %s: %s", row->name, config_kind_text(row->kind)));
    if (row->preset[0]) TRY(buf_printf(out, ", default %s", row->preset));
    TRY(buf_printf(out, "\n      %s\n", row->help));
    TRY(put_words(out, "one of", row->words));
    return put_words(out, "also written", spellings);
}

enum status config_help(struct buf *out)
{
    for (size_t i = 0; i < config_outline_length; i++) {
        const struct config_outline *at = &config_outline[i];
        if (at->title)
            TRY(buf_printf(out, "%s%s\n", i ? "\n" : "", at->title));
        else
            TRY(put_help(out, (enum config_key)at->key));
    }
    return OK;
}

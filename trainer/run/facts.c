#include "run/facts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/tokenizer/utf8.h"

#define COLUMNS_MAX 24
#define BAR_COLUMNS 30 /* of a histogram's largest bar in a terminal */
#define CELL_MAX ((size_t)1 << 20)

json_t *facts_real(double v)
{
    if (isfinite(v)) return json_real(v);
    return json_string(isnan(v) ? "not a number" : v > 0 ? "infinite" : "minus infinite");
}

/* --- values --- */

static int is_column_of_numbers(const json_t *v) { return json_is_number(v); }

static enum status value_text(const json_t *v, struct buf *out)
{
    char number[32];
    size_t i;
    json_t *item;
    switch (json_typeof(v)) {
    case JSON_STRING: return buf_append(out, json_string_value(v), json_string_length(v));
    case JSON_INTEGER: return buf_puts(out, text_count(json_integer_value(v), number));
    case JSON_REAL: return buf_puts(out, text_number(json_real_value(v), number));
    case JSON_TRUE: return buf_puts(out, "yes");
    case JSON_FALSE: return buf_puts(out, "no");
    case JSON_NULL: return buf_puts(out, "none");
    case JSON_ARRAY:
        json_array_foreach(v, i, item)
        {
            if (i) TRY(buf_puts(out, ", "));
            TRY(value_text(item, out));
        }
        return OK;
    case JSON_OBJECT: break;
    }
    return OK;
}

static const char *heading(const char *key, char out[64])
{
    snprintf(out, 64, "%s", key);
    for (char *at = out; *at; at++)
        if (*at == '_') *at = ' ';
    return out;
}

static int is_table(const json_t *v)
{
    return json_is_array(v) && json_is_object(json_array_get(v, 0));
}

/* The largest count of a histogram; 0: the table is none. */
static json_int_t histogram_top(const json_t *table)
{
    const json_t *first = json_array_get(table, 0), *row;
    json_int_t top = 0;
    size_t i;
    if (json_object_size(first) != 2 || !json_is_integer(json_object_get(first, "documents")))
        return 0;
    json_array_foreach(table, i, row)
    {
        json_int_t n = json_integer_value(json_object_get(row, "documents"));
        if (n > top) top = n;
    }
    return top;
}

static double bar_of(const json_t *row, json_int_t top)
{
    return (double)json_integer_value(json_object_get(row, "documents")) / (double)top;
}

static int is_inner(const json_t *v) { return json_is_object(v) || is_table(v); }

/* Those of the top that the caller shows. */
static int is_title(const char *key) { return !strcmp(key, "kind") || !strcmp(key, "path"); }

/* --- as text --- */

enum status text_for_terminal(const char *bytes, size_t n, struct buf *out)
{
    for (size_t at = 0; at < n;) {
        uint32_t c;
        int length = utf8_decode((const unsigned char *)bytes + at, n - at, &c);
        if (length < 0)
            TRY(buf_puts(out, UTF8_REPLACEMENT));
        else if (text_is_hidden(c))
            TRY(buf_printf(out, c > 0xFFFF ? "\\U%08x" : "\\u%04x", (unsigned)c));
        else
            TRY(buf_append(out, bytes + at, (size_t)length));
        at += (size_t)(length < 0 ? -length : length);
    }
    return OK;
}

/* Columns a terminal gives to well-formed text, roughly: one a character. */
static int width(const char *text)
{
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

/* The value as it will stand in a line, in `cell`, which is cleared first. */
static enum status line_text(const json_t *v, struct buf *cell)
{
    struct buf raw;
    buf_init(&raw, CELL_MAX);
    buf_clear(cell);
    enum status s = v ? value_text(v, &raw) : OK;
    for (size_t i = 0; !s && i < raw.len; i++)
        if (raw.data[i] == '\n' || raw.data[i] == '\t') raw.data[i] = ' ';
    if (!s) s = text_for_terminal(raw.data ? raw.data : "", raw.len, cell);
    if (!s && !cell->data) s = buf_puts(cell, "");
    buf_free(&raw);
    return s;
}

static enum status pad(struct buf *out, int n)
{
    for (; n > 0; n--) TRY(buf_putc(out, ' '));
    return OK;
}

static enum status put_cell(struct buf *out, const char *text, int columns, int right)
{
    int rest = columns - width(text);
    if (right) TRY(pad(out, rest));
    TRY(buf_puts(out, text));
    return right ? OK : pad(out, rest);
}

static enum status list_text(const json_t *object, int top, struct buf *out)
{
    const char *key;
    json_t *v;
    char name[64];
    int widest = 0;
    struct buf cell;
    enum status s = OK;
    buf_init(&cell, CELL_MAX);
    json_object_foreach((json_t *)object, key, v) if (!is_inner(v) && (int)strlen(key) > widest)
        widest = (int)strlen(key);
    json_object_foreach((json_t *)object, key, v)
    {
        if (s || is_inner(v) || (top && is_title(key))) continue;
        s = line_text(v, &cell);
        if (!s) s = buf_puts(out, "  ");
        if (!s) s = put_cell(out, heading(key, name), widest + 2, 0);
        if (!s) s = buf_printf(out, "%s\n", cell.data);
    }
    buf_free(&cell);
    return s;
}

static enum status bar_text(double share, struct buf *out)
{
    TRY(buf_puts(out, "  "));
    for (int i = 0; i < (int)ceil(share * BAR_COLUMNS); i++) TRY(buf_puts(out, "█"));
    return OK;
}

static enum status row_text(const json_t *row, const char *const *keys, const int *widths, int n,
                            json_int_t top, struct buf *cell, struct buf *out)
{
    TRY(buf_puts(out, "  "));
    for (int k = 0; k < n; k++) {
        json_t *v = json_object_get(row, keys[k]);
        TRY(line_text(v, cell));
        if (k) TRY(buf_puts(out, "  "));
        TRY(put_cell(out, cell->data, k + 1 < n || is_column_of_numbers(v) ? widths[k] : 0,
                     is_column_of_numbers(v)));
    }
    if (top) TRY(bar_text(bar_of(row, top), out));
    return buf_putc(out, '\n');
}

static int columns_of(const json_t *table, const char *keys[COLUMNS_MAX])
{
    const char *key;
    json_t *v;
    int n = 0;
    json_object_foreach(json_array_get(table, 0), key, v) if (n < COLUMNS_MAX) keys[n++] = key;
    return n;
}

static enum status measure(const json_t *table, const char *const *keys, int n, size_t rows,
                           int *widths, struct buf *cell)
{
    for (int k = 0; k < n; k++) {
        widths[k] = (int)strlen(keys[k]);
        for (size_t i = 0; i < rows; i++) {
            TRY(line_text(json_object_get(json_array_get(table, i), keys[k]), cell));
            if (width(cell->data) > widths[k]) widths[k] = width(cell->data);
        }
    }
    return OK;
}

static enum status table_text(const json_t *table, struct buf *cell, struct buf *out)
{
    const char *keys[COLUMNS_MAX];
    char name[64];
    int widths[COLUMNS_MAX], n = columns_of(table, keys);
    json_int_t top = histogram_top(table);
    size_t all = json_array_size(table), rows = all < FACTS_ROWS_MAX ? all : FACTS_ROWS_MAX;
    TRY(measure(table, keys, n, rows, widths, cell));
    TRY(buf_puts(out, "  "));
    for (int k = 0; k < n; k++) {
        int right = is_column_of_numbers(json_object_get(json_array_get(table, 0), keys[k]));
        if (k) TRY(buf_puts(out, "  "));
        TRY(put_cell(out, heading(keys[k], name), k + 1 < n || right ? widths[k] : 0, right));
    }
    TRY(buf_putc(out, '\n'));
    for (size_t i = 0; i < rows; i++)
        TRY(row_text(json_array_get(table, i), keys, widths, n, top, cell, out));
    return rows < all ? buf_printf(out, "  ... %zu more\n", all - rows) : OK;
}

enum status facts_text(const json_t *facts, struct buf *out)
{
    const char *key;
    json_t *v;
    char name[64];
    struct buf cell;
    enum status s = list_text(facts, 1, out);
    buf_init(&cell, CELL_MAX);
    json_object_foreach((json_t *)facts, key, v)
    {
        if (s || !is_inner(v)) continue;
        s = buf_printf(out, "\n%s\n", heading(key, name));
        if (!s) s = is_table(v) ? table_text(v, &cell, out) : list_text(v, 0, out);
    }
    buf_free(&cell);
    return s;
}

/* --- as a page --- */

static void put_value(struct html *h, const json_t *v)
{
    struct buf text;
    buf_init(&text, CELL_MAX);
    enum status s = v ? value_text(v, &text) : OK;
    if (s && !h->failed) h->failed = s;
    if (!s && text.len) {
        html_put(h, "<bdi>");
        html_text(h, text.data, text.len);
        html_put(h, "</bdi>");
    }
    buf_free(&text);
}

static void list_html(struct html *h, const json_t *object, int top)
{
    const char *key;
    json_t *v;
    char name[64];
    int any = 0;
    json_object_foreach((json_t *)object, key, v)
    {
        if (is_inner(v) || (top && is_title(key))) continue;
        if (!any++) html_put(h, "<div class=wide><table><tbody>\n");
        html_put(h, "<tr>");
        html_element(h, "th scope=row", heading(key, name));
        html_put(h, "<td>");
        put_value(h, v);
        html_put(h, "</td></tr>\n");
    }
    if (any) html_put(h, "</tbody></table></div>\n");
}

static void table_html(struct html *h, const json_t *table)
{
    const char *keys[COLUMNS_MAX];
    char name[64];
    int n = columns_of(table, keys);
    json_int_t top = histogram_top(table);
    size_t i;
    json_t *row;
    html_put(h, "<div class=wide><table><thead><tr>");
    for (int k = 0; k < n; k++) {
        int right = is_column_of_numbers(json_object_get(json_array_get(table, 0), keys[k]));
        html_put(h, right ? "<th scope=col class=n>" : "<th scope=col>");
        html_string(h, heading(keys[k], name));
        html_put(h, "</th>");
    }
    if (top) html_put(h, "<th scope=col>of the largest</th>");
    html_put(h, "</tr></thead><tbody>\n");
    json_array_foreach(table, i, row)
    {
        html_put(h, "<tr>");
        for (int k = 0; k < n; k++) {
            json_t *v = json_object_get(row, keys[k]);
            html_put(h, is_column_of_numbers(v) ? "<td class=n>" : "<td>");
            put_value(h, v);
            html_put(h, "</td>");
        }
        if (top) html_bar(h, bar_of(row, top));
        html_put(h, "</tr>\n");
    }
    html_put(h, "</tbody></table></div>\n");
}

void facts_html(struct html *h, const json_t *facts)
{
    const char *key;
    json_t *v;
    char name[64];
    list_html(h, facts, 1);
    json_object_foreach((json_t *)facts, key, v)
    {
        if (!is_inner(v)) continue;
        html_section(h, heading(key, name));
        if (is_table(v))
            table_html(h, v);
        else
            list_html(h, v, 0);
        html_close(h);
    }
}

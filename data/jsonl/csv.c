#include "data/jsonl/csv.h"

#include <string.h>

#include "base/mem.h"

void csv_follow(struct csv_extent *x, const char *data, size_t size, char separator)
{
    for (; x->n < size && !x->complete; x->n++) {
        char c = data[x->n];
        if (x->state == CSV_QUOTED) {
            if (c == '"') x->state = CSV_QUOTE_CLOSED;
            continue;
        }
        if (c == '\n') {
            x->complete = 1;
            return;
        }
        if (c == '"' && x->state == CSV_FIELD_START)
            x->state = CSV_QUOTED;
        else if (c == '"' && x->state == CSV_QUOTE_CLOSED)
            x->state = CSV_QUOTED; /* the second of two */
        else
            x->state = c == separator ? CSV_FIELD_START : CSV_PLAIN;
    }
}

/* ---- fields ---- */

/* What is left of a record. */
struct cursor {
    const char *at, *end;
    char separator;
    int more; /* another field follows */
};

static struct cursor begin(const char *data, size_t n, char separator)
{
    if (n && data[n - 1] == '\r') n--;
    return (struct cursor){data, data + n, separator, 1};
}

/* Steps over the separator behind a field. */
static enum status end_field(struct cursor *x, struct err *e)
{
    x->more = x->at < x->end;
    if (!x->more) return OK;
    if (*x->at != x->separator) {
        err_set(e, ERR_FORMAT, "text behind a closing quote");
        return err_hint(e, "a quote inside a quoted field is written twice: \"\"");
    }
    x->at++;
    return OK;
}

/* The quoted field at x->at, its doubled quotes made one in `text` (room for all of it). */
static enum status quoted(struct cursor *x, char *text, size_t *n, struct err *e)
{
    *n = 0;
    for (x->at++; x->at < x->end; x->at++) {
        if (*x->at == '"' && (x->at + 1 == x->end || x->at[1] != '"')) {
            x->at++;
            return end_field(x, e);
        }
        if (*x->at == '"') x->at++;
        text[(*n)++] = *x->at;
    }
    err_set(e, ERR_FORMAT, "a quoted field without its closing quote");
    return err_hint(e, "a quote inside a quoted field is written twice: \"\"");
}

/* The next field as a string: *out is the caller's. `text` has room for the record. */
static enum status next_field(struct cursor *x, char *text, json_t **out, struct err *e)
{
    size_t n;
    const char *from = text;
    *out = NULL;
    if (x->at < x->end && *x->at == '"') {
        TRY(quoted(x, text, &n, e));
    } else {
        from = x->at;
        const char *stop = memchr(from, x->separator, (size_t)(x->end - from));
        n = (size_t)((stop ? stop : x->end) - from);
        x->at += n;
        TRY(end_field(x, e));
    }
    if (memchr(from, 0, n)) return err_set(e, ERR_FORMAT, "a zero byte in a field");
    mem_failed();
    if ((*out = json_stringn(from, n))) return OK;
    if (mem_failed()) return err_set(e, ERR_MEMORY, "no memory for a record");
    err_set(e, ERR_FORMAT, "not UTF-8");
    return err_hint(e, "the file must be UTF-8; convert it, e.g. iconv -f LATIN1 -t UTF-8");
}

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for a record");
}

/* ---- records ---- */

/* Whether an earlier column has the last one's name. */
static int is_double(const json_t *names)
{
    size_t n = json_array_size(names);
    for (size_t i = 0; i + 1 < n; i++)
        if (json_equal(json_array_get(names, i), json_array_get(names, n - 1))) return 1;
    return 0;
}

static enum status read_header(struct cursor *x, char *text, json_t *names, struct err *e)
{
    json_t *name;
    while (x->more) {
        if (json_array_size(names) == CSV_COLUMNS_MAX)
            return err_set(e, ERR_FORMAT, "more than %d columns", CSV_COLUMNS_MAX);
        TRY(next_field(x, text, &name, e));
        if (json_array_append_new(names, name)) return no_memory(e);
        if (!is_double(names)) continue;
        err_set(e, ERR_FORMAT, "two columns are called \"%.60s\"", json_string_value(name));
        return err_hint(e, "rename one of them");
    }
    return OK;
}

static enum status read_object(struct cursor *x, char *text, const json_t *header, json_t *record,
                               struct err *e)
{
    json_t *value;
    size_t n = 0, columns = json_array_size(header);
    for (; x->more; n++) {
        TRY(next_field(x, text, &value, e));
        const json_t *name = json_array_get(header, n);
        if (!name)
            json_decref(value);
        else if (json_object_set_new_nocheck(record, json_string_value(name), value))
            return no_memory(e);
    }
    if (n == columns) return OK;
    err_set(e, ERR_FORMAT, "%zu fields, where the header names %zu columns", n, columns);
    return err_hint(e, "put fields that hold commas or line breaks in double quotes");
}

enum status csv_header(const char *data, size_t n, char separator, json_t **out, struct err *e)
{
    struct cursor x = begin(data, n, separator);
    char *text = mem_alloc(n + 1);
    *out = json_array();
    enum status s = text && *out ? read_header(&x, text, *out, e) : no_memory(e);
    mem_free(text);
    if (s) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}

enum status csv_object(const char *data, size_t n, char separator, const json_t *header,
                       json_t **out, struct err *e)
{
    struct cursor x = begin(data, n, separator);
    char *text = mem_alloc(n + 1);
    *out = json_object();
    enum status s = text && *out ? read_object(&x, text, header, *out, e) : no_memory(e);
    mem_free(text);
    if (s) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}

#include "data/jsonl/jsonl.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/size.h"
#include "data/jsonl/csv.h"
#include "data/jsonl/window.h"

enum form { FORM_LINES, FORM_ARRAY, FORM_CSV, FORM_TEXT, FORM_EMPTY };

struct jsonl {
    struct window in;
    int started, done; /* of the array */
    enum form form;
    enum jsonl_unit unit; /* of plain text */
    char separator;       /* of CSV */
    json_t *header;       /* its columns */
    size_t max_record;
    int64_t number;
    json_t *value;
};

int jsonl_is_array(const struct jsonl *j) { return j->form == FORM_ARRAY; }
int jsonl_is_json(const struct jsonl *j) { return j->form == FORM_LINES || j->form == FORM_ARRAY; }

const char *jsonl_path(const struct jsonl *j) { return j->in.path; }

int64_t jsonl_offset(const struct jsonl *j)
{
    return stream_is_packed(j->in.stream) ? stream_offset(j->in.stream) : j->in.consumed;
}

void jsonl_close(struct jsonl *j)
{
    if (!j) return;
    json_decref(j->value);
    json_decref(j->header);
    window_close(&j->in);
    mem_free(j);
}

/* The record's verdict when it cannot be used; *e is filled by the caller. */
static enum status bad(struct jsonl_record *out)
{
    out->kind = JSONL_BAD;
    return OK;
}

static enum status too_large(struct jsonl *j, struct jsonl_record *out, struct err *e)
{
    err_at(e, ERR_FORMAT, j->in.path, (long)out->line, 0, "record %lld is larger than %zu bytes",
           (long long)out->number, j->max_record);
    err_hint(e, "is a line break or a bracket missing? split the record otherwise");
    return bad(out);
}

/* What to do about what the parser says; without a better idea it is the shape of the file. */
static const char *advice(const struct jsonl *j, const char *complaint)
{
    static const struct {
        const char *says, *advice;
    } known[] = {
        {"decode byte", "the file must be UTF-8; convert it, e.g. iconv -f LATIN1 -t UTF-8"},
        {"UTF-8", "the file must be UTF-8; convert it, e.g. iconv -f LATIN1 -t UTF-8"},
        {"invalid Unicode", "half of a surrogate pair is no character: take it out of the text"},
        {"zero character", "take it out of the text"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strstr(complaint, known[i].says)) return known[i].advice;
    return j->form == FORM_LINES ? "JSONL holds one whole object a line; put records that span "
                                   "lines into an array"
                                 : "check this record with a JSON validator";
}

/* Gives the parser's complaint the place in the file, and a hint. */
static void place_error(const struct jsonl *j, const struct jsonl_record *out, long first_column,
                        struct err *e)
{
    if (e->line <= 1) e->column += first_column - 1;
    e->line = (long)out->line + (e->line > 0 ? e->line - 1 : 0);
    err_hint(e, "%s", advice(j, e->message));
}

static enum status parse_json(const struct jsonl *j, const struct jsonl_text *text,
                              struct jsonl_record *out, json_t **value, struct err *e)
{
    enum status s = json_parse_text(text->data, text->n, j->in.path, value, e);
    if (s == ERR_MEMORY) return s;
    if (s) {
        place_error(j, out, text->column, e);
        return bad(out);
    }
    if (!json_is_object(*value)) {
        err_at(e, ERR_FORMAT, j->in.path, (long)out->line, text->column,
               "record %lld is not an object", (long long)out->number);
        err_hint(e, "a record looks like {\"instruction\": ..., \"output\": ...}");
        return bad(out);
    }
    return OK;
}

/* A whole plain text as {"text": ...}. */
static enum status text_object(const struct jsonl_text *text, json_t **value, struct err *e)
{
    if (memchr(text->data, 0, text->n)) {
        err_set(e, ERR_FORMAT, "a zero byte in plain text");
        return err_hint(e, "is it a text file at all?");
    }
    mem_failed();
    json_t *string = json_stringn(text->data, text->n);
    *value = string ? json_object() : NULL;
    if (string && !*value) json_decref(string);
    if (*value && !json_object_set_new_nocheck(*value, "text", string)) return OK;
    if (mem_failed()) return err_set(e, ERR_MEMORY, "no memory for a record");
    err_set(e, ERR_FORMAT, "not UTF-8");
    return err_hint(e, "the file must be UTF-8; convert it, e.g. iconv -f LATIN1 -t UTF-8");
}

enum status jsonl_parse(const struct jsonl *j, const struct jsonl_text *text,
                        struct jsonl_record *out, json_t **value, struct err *e)
{
    enum status s = OK;
    *value = NULL;
    out->kind = JSONL_RECORD;
    if (j->form == FORM_CSV)
        s = csv_object(text->data, text->n, j->separator, j->header, value, e);
    else if (j->form == FORM_TEXT)
        s = text_object(text, value, e);
    else
        TRY(parse_json(j, text, out, value, e));
    out->value = *value;
    if (!s || s == ERR_MEMORY) return s;
    snprintf(e->file, sizeof e->file, "%s", j->in.path);
    e->line = (long)out->line;
    return bad(out);
}

static void begin_record(struct jsonl *j, struct jsonl_record *out)
{
    out->number = ++j->number;
    out->line = j->in.line;
    out->place = j->form == FORM_ARRAY ? out->number : out->line;
}

/* The n bytes at data[at] are the record's. */
static void found(struct jsonl *j, size_t n, struct jsonl_record *out, struct jsonl_text *text)
{
    text->data = j->in.data + j->in.at;
    text->n = n;
    out->kind = JSONL_RECORD;
    window_consume(&j->in, n);
}

static enum status find_line(struct jsonl *j, struct jsonl_record *out, struct jsonl_text *text,
                             struct err *e)
{
    int c;
    TRY(window_skip_space(&j->in, &c, e));
    if (c < 0) return OK;
    begin_record(j, out);
    text->column = window_column(&j->in);
    const char *nl = NULL;
    for (size_t seen = 0;;) {
        nl = memchr(j->in.data + j->in.at + seen, '\n', j->in.end - j->in.at - seen);
        seen = nl ? (size_t)(nl - (j->in.data + j->in.at)) : j->in.end - j->in.at;
        if (seen > j->max_record) {
            TRY(window_discard_line(&j->in, e));
            return too_large(j, out, e);
        }
        if (nl || j->in.eof) break;
        TRY(window_fill(&j->in, e));
    }
    found(j, nl ? (size_t)(nl - (j->in.data + j->in.at)) : j->in.end - j->in.at, out, text);
    if (nl) window_consume(&j->in, 1);
    return OK;
}

/* How far a JSON value has been followed. */
struct extent {
    size_t n;     /* bytes belonging to it so far, that are kept */
    size_t depth; /* open brackets */
    int begun, in_string, escaped, complete;
};

/* Follows the value over data[at+x->n .. end). Brackets are counted, not matched: the parser does
 * that afterwards. */
static void follow(struct jsonl *j, struct extent *x)
{
    for (; j->in.at + x->n < j->in.end && !x->complete; x->n++) {
        char c = j->in.data[j->in.at + x->n];
        if (x->in_string) {
            if (x->escaped)
                x->escaped = 0;
            else if (c == '\\')
                x->escaped = 1;
            else if (c == '"')
                x->in_string = 0, x->complete = !x->depth;
            continue;
        }
        int close = c == '}' || c == ']';
        if (!x->depth && x->begun && (window_is_space(c) || c == ',' || close)) {
            x->complete = 1; /* a number or word ends before this byte */
            break;
        }
        x->begun = 1;
        if (c == '"')
            x->in_string = 1;
        else if (c == '{' || c == '[')
            x->depth++;
        else if (close && x->depth)
            x->complete = !--x->depth;
    }
}

/* After the closing bracket nothing but white space may follow. */
static enum status array_end(struct jsonl *j, struct err *e)
{
    int c;
    window_consume(&j->in, 1);
    j->done = 1;
    TRY(window_skip_space(&j->in, &c, e));
    if (c < 0) return OK;
    err_at(e, ERR_FORMAT, j->in.path, j->in.line, window_column(&j->in),
           "text behind the end of the array");
    return err_hint(e, "a file holds one array; join several into one, or write JSONL");
}

/* Over what stands before the next element: the opening bracket or a comma. At the end of the
 * array j->done is set. */
static enum status array_step(struct jsonl *j, struct err *e)
{
    int c, opening = !j->started;
    TRY(window_skip_space(&j->in, &c, e));
    if (c == ']') return array_end(j, e);
    if (opening || c == ',') {
        j->started = 1;
        window_consume(&j->in, 1);
        TRY(window_skip_space(&j->in, &c, e));
        if (c == ']' && opening) return array_end(j, e);
        if (c >= 0 && c != ']' && c != ',') return OK;
    }
    if (c < 0) {
        err_at(e, ERR_FORMAT, j->in.path, j->in.line, window_column(&j->in),
               "the file ends inside the array");
        return err_hint(e, "it seems cut off: fetch or write it again");
    }
    err_at(e, ERR_FORMAT, j->in.path, j->in.line, window_column(&j->in),
           "\"%c\" where %s should stand", c, c == ']' || c == ',' ? "an object" : "a comma or ]");
    return err_hint(e, "check the file with a JSON validator");
}

static enum status find_element(struct jsonl *j, struct jsonl_record *out, struct jsonl_text *text,
                                struct err *e)
{
    if (!j->done) TRY(array_step(j, e));
    if (j->done) return OK;
    begin_record(j, out);
    text->column = window_column(&j->in);
    struct extent x = {0};
    int oversized = 0;
    for (;;) {
        follow(j, &x);
        if (x.n > j->max_record) oversized = 1;
        if (x.complete) break;
        if (j->in.eof) {
            err_at(e, ERR_FORMAT, j->in.path, (long)out->line, text->column,
                   "the file ends inside record %lld, which begins here", (long long)out->number);
            return err_hint(e, "it seems cut off: fetch or write it again");
        }
        if (oversized) { /* nothing of it is kept */
            window_consume(&j->in, x.n);
            x.n = 0;
        }
        TRY(window_fill(&j->in, e));
    }
    if (!oversized) {
        found(j, x.n, out, text);
        return OK;
    }
    window_consume(&j->in, x.n);
    return too_large(j, out, e);
}

/* ---- CSV ---- */

static enum status find_row(struct jsonl *j, struct jsonl_record *out, struct jsonl_text *text,
                            struct err *e)
{
    struct csv_extent x = {0};
    int c, oversized = 0;
    TRY(window_skip_blank_lines(&j->in, j->max_record, &c, e));
    if (c < 0) return OK;
    begin_record(j, out);
    text->column = window_column(&j->in);
    for (;;) {
        csv_follow(&x, j->in.data + j->in.at, j->in.end - j->in.at, j->separator);
        if (x.n > j->max_record) oversized = 1;
        if (x.complete || j->in.eof) break;
        if (oversized) { /* nothing of it is kept */
            window_consume(&j->in, x.n);
            x.n = 0;
        }
        TRY(window_fill(&j->in, e));
    }
    if (!x.complete && x.state == CSV_QUOTED) {
        err_at(e, ERR_FORMAT, j->in.path, (long)out->line, 0,
               "the file ends inside a quoted field of record %lld, which begins here",
               (long long)out->number);
        return err_hint(e, "it seems cut off, or a quote is not closed");
    }
    if (oversized)
        window_consume(&j->in, x.n);
    else
        found(j, x.n, out, text);
    if (x.complete) window_consume(&j->in, 1);
    return oversized ? too_large(j, out, e) : OK;
}

static enum status read_header(struct jsonl *j, struct err *e)
{
    struct jsonl_record r = {.kind = JSONL_END};
    struct jsonl_text text;
    TRY(find_row(j, &r, &text, e));
    if (r.kind == JSONL_BAD) return e->code;
    j->number = 0;
    if (r.kind == JSONL_END) {
        j->form = FORM_EMPTY;
        return OK;
    }
    enum status s = csv_header(text.data, text.n, j->separator, &j->header, e);
    if (s == ERR_MEMORY || !s) return s;
    snprintf(e->file, sizeof e->file, "%s", j->in.path);
    e->line = (long)r.line;
    return err_wrap(e, "the header");
}

/* ---- plain text ---- */

/* How far a text has been followed. */
struct text_extent {
    size_t n;
    int blank, complete; /* blank: nothing but white space on the line so far */
};

static void follow_text(const struct jsonl *j, struct text_extent *x)
{
    const char *data = j->in.data + j->in.at;
    for (size_t size = j->in.end - j->in.at; x->n < size && !x->complete; x->n++) {
        if (data[x->n] != '\n') {
            x->blank &= window_is_space(data[x->n]);
            continue;
        }
        x->complete = j->unit == JSONL_LINE || (j->unit == JSONL_PARAGRAPH && x->blank);
        if (x->complete) return;
        x->blank = 1;
    }
}

static enum status find_text(struct jsonl *j, struct jsonl_record *out, struct jsonl_text *text,
                             struct err *e)
{
    struct text_extent x = {0};
    int c, oversized = 0;
    TRY(window_skip_blank_lines(&j->in, j->max_record, &c, e));
    if (c < 0) return OK;
    begin_record(j, out);
    text->column = 1;
    for (;;) {
        follow_text(j, &x);
        if (x.n > j->max_record) oversized = 1;
        if (x.complete || j->in.eof) break;
        if (oversized) { /* nothing of it is kept */
            window_consume(&j->in, x.n);
            x = (struct text_extent){.blank = x.blank};
        }
        TRY(window_fill(&j->in, e));
    }
    size_t rest = x.complete; /* the line's end */
    if (oversized)
        window_consume(&j->in, x.n);
    else
        found(j, x.n, out, text);
    window_consume(&j->in, rest);
    if (oversized) return too_large(j, out, e);
    while (text->n && window_is_space(text->data[text->n - 1])) text->n--;
    return OK;
}

enum status jsonl_find(struct jsonl *j, struct jsonl_record *out, struct jsonl_text *text,
                       struct err *e)
{
    *out = (struct jsonl_record){.kind = JSONL_END};
    switch (j->form) {
    case FORM_LINES: return find_line(j, out, text, e);
    case FORM_ARRAY: return find_element(j, out, text, e);
    case FORM_CSV: return find_row(j, out, text, e);
    case FORM_TEXT: return find_text(j, out, text, e);
    case FORM_EMPTY: break;
    }
    return OK;
}

enum status jsonl_next(struct jsonl *j, struct jsonl_record *out, struct err *e)
{
    struct jsonl_text text;
    json_decref(j->value);
    j->value = NULL;
    TRY(jsonl_find(j, out, &text, e));
    return out->kind == JSONL_RECORD ? jsonl_parse(j, &text, out, &j->value, e) : OK;
}

/* ---- opening ---- */

/* What the name's ending says, before .gz and .zst; FORM_EMPTY: nothing. */
static enum form named_form(const char *path, char *separator)
{
    static const struct {
        const char *ending;
        enum form form;
        char separator;
    } forms[] = {{".csv", FORM_CSV, ','},
                 {".tsv", FORM_CSV, '\t'},
                 {".txt", FORM_TEXT, 0},
                 {".text", FORM_TEXT, 0},
                 {".md", FORM_TEXT, 0}};
    static const char *const packed[] = {".gz", ".zst", ".zstd"};
    size_t n = strlen(path);
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++) {
        size_t m = strlen(packed[i]);
        if (n > m && !strncasecmp(path + n - m, packed[i], m)) n -= m;
    }
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        size_t m = strlen(forms[i].ending);
        if (n <= m || strncasecmp(path + n - m, forms[i].ending, m)) continue;
        *separator = forms[i].separator;
        return forms[i].form;
    }
    return FORM_EMPTY;
}

static enum status begin(struct jsonl *j, struct err *e)
{
    int c;
    while (j->in.end < 4 && !j->in.eof) TRY(window_fill(&j->in, e));
    if (j->in.end >= 3 && !memcmp(j->in.data, "\xef\xbb\xbf", 3)) {
        window_consume(&j->in, 3);
        j->in.line_start = j->in.consumed;
    }
    j->form = named_form(j->in.path, &j->separator);
    if (j->form == FORM_CSV) return read_header(j, e);
    if (j->form == FORM_TEXT) return OK;
    TRY(window_skip_space(&j->in, &c, e));
    if (c < 0)
        j->form = FORM_EMPTY;
    else if (c == '{')
        j->form = FORM_LINES;
    else if (c == '[')
        j->form = FORM_ARRAY;
    else {
        err_at(e, ERR_FORMAT, j->in.path, j->in.line, window_column(&j->in),
               "neither JSONL nor a JSON array: begins with byte 0x%02x", c);
        return err_hint(e,
                        "a dataset holds one JSON object a line, or one array of objects; CSV is "
                        "called .csv, plain text .txt");
    }
    return OK;
}

enum status jsonl_open(struct jsonl **out, const char *path, const struct jsonl_options *options,
                       struct err *e)
{
    *out = NULL;
    struct jsonl *j = mem_calloc(1, sizeof *j);
    if (!j) return err_set(e, ERR_MEMORY, "no memory to read %s", path);
    j->max_record = options && options->max_record ? options->max_record : JSONL_MAX_RECORD;
    j->unit = options ? options->unit : JSONL_LINE;
    enum status s = window_open(&j->in, path, e);
    if (!s) s = begin(j, e);
    if (s)
        jsonl_close(j);
    else
        *out = j;
    return s;
}

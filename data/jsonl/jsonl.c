#include "data/jsonl/jsonl.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/size.h"
#include "data/jsonl/csv.h"
#include "data/jsonl/stream.h"

enum { CHUNK = 1 << 18 }; /* bytes read at a time */

enum form { FORM_LINES, FORM_ARRAY, FORM_CSV, FORM_TEXT, FORM_EMPTY };

/* data[at..end) is read but not consumed; `line` and `line_start` belong to data[at]. */
struct jsonl {
    struct stream *stream;
    int eof, started, done; /* started, done: of the array */
    enum form form;
    enum jsonl_unit unit; /* of plain text */
    char separator;       /* of CSV */
    json_t *header;       /* its columns */
    char *path;
    char *data;
    size_t at, end, cap, max_record;
    int64_t consumed;   /* bytes before data[at] in the text */
    int64_t line;       /* 1-based */
    int64_t line_start; /* offset at which the line begins */
    int64_t number;
    json_t *value;
};

int jsonl_is_array(const struct jsonl *j) { return j->form == FORM_ARRAY; }
int jsonl_is_json(const struct jsonl *j) { return j->form == FORM_LINES || j->form == FORM_ARRAY; }

const char *jsonl_path(const struct jsonl *j) { return j->path; }

int64_t jsonl_offset(const struct jsonl *j)
{
    return stream_is_packed(j->stream) ? stream_offset(j->stream) : j->consumed;
}

/* Column of data[at], counted in bytes. */
static long column(const struct jsonl *j) { return (long)(j->consumed - j->line_start) + 1; }

/* Reads more behind data[end), growing the buffer when a record fills it. OK with eof set at the
 * end; ERR_IO, ERR_MEMORY. */
static enum status fill(struct jsonl *j, struct err *e)
{
    if (j->at && j->cap - j->end < CHUNK) {
        memmove(j->data, j->data + j->at, j->end - j->at);
        j->end -= j->at;
        j->at = 0;
    }
    if (j->cap - j->end < CHUNK) {
        size_t cap = size_max(2 * j->cap, 2 * (size_t)CHUNK);
        char *p = mem_resize(j->data, cap, 1);
        if (!p) return err_set(e, ERR_MEMORY, "no memory to read %s", j->path);
        j->data = p;
        j->cap = cap;
    }
    size_t n;
    TRY(stream_read(j->stream, j->data + j->end, CHUNK, &n, e));
    if (n == 0) j->eof = 1;
    j->end += n;
    return OK;
}

/* Moves over data[at..at+n), keeping count of lines. */
static void consume(struct jsonl *j, size_t n)
{
    const char *p = j->data + j->at, *stop = p + n, *nl;
    while ((nl = memchr(p, '\n', (size_t)(stop - p)))) {
        j->line++;
        j->line_start = j->consumed + (nl + 1 - (j->data + j->at));
        p = nl + 1;
    }
    j->at += n;
    j->consumed += (int64_t)n;
}

static int is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* Over white space; *c is the byte behind it, -1 at the end of the file. */
static enum status skip_space(struct jsonl *j, int *c, struct err *e)
{
    for (;;) {
        size_t n = 0;
        while (j->at + n < j->end && is_space(j->data[j->at + n])) n++;
        if (n) consume(j, n);
        if (j->at < j->end) {
            *c = (unsigned char)j->data[j->at];
            return OK;
        }
        *c = -1;
        if (j->eof) return OK;
        TRY(fill(j, e));
    }
}

void jsonl_close(struct jsonl *j)
{
    if (!j) return;
    json_decref(j->value);
    json_decref(j->header);
    stream_close(j->stream);
    mem_free(j->path);
    mem_free(j->data);
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
    err_at(e, ERR_FORMAT, j->path, (long)out->line, 0, "record %lld is larger than %zu bytes",
           (long long)out->number, j->max_record);
    err_hint(e, "is a line break or a bracket missing? split the record otherwise");
    return bad(out);
}

/* Gives the parser's complaint the place in the file, and a hint. */
static void place_error(const struct jsonl *j, const struct jsonl_record *out, long first_column,
                        struct err *e)
{
    if (e->line <= 1) e->column += first_column - 1;
    e->line = (long)out->line + (e->line > 0 ? e->line - 1 : 0);
    if (strstr(e->message, "decode byte") || strstr(e->message, "UTF-8"))
        err_hint(e, "the file must be UTF-8; convert it, e.g. iconv -f LATIN1 -t UTF-8");
    else if (j->form == FORM_LINES)
        err_hint(e, "JSONL holds one whole object a line; put records that span lines into "
                    "an array");
    else
        err_hint(e, "check this record with a JSON validator");
}

static enum status parse_json(const struct jsonl *j, const struct jsonl_text *text,
                              struct jsonl_record *out, json_t **value, struct err *e)
{
    enum status s = json_parse_text(text->data, text->n, j->path, value, e);
    if (s == ERR_MEMORY) return s;
    if (s) {
        place_error(j, out, text->column, e);
        return bad(out);
    }
    if (!json_is_object(*value)) {
        err_at(e, ERR_FORMAT, j->path, (long)out->line, text->column,
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
    snprintf(e->file, sizeof e->file, "%s", j->path);
    e->line = (long)out->line;
    return bad(out);
}

static void begin_record(struct jsonl *j, struct jsonl_record *out)
{
    out->number = ++j->number;
    out->line = j->line;
    out->place = j->form == FORM_ARRAY ? out->number : out->line;
}

/* Drops the rest of a line that is too long to keep. */
static enum status discard_line(struct jsonl *j, struct err *e)
{
    for (;;) {
        const char *p = j->data + j->at, *nl = memchr(p, '\n', j->end - j->at);
        consume(j, nl ? (size_t)(nl - p) + 1 : j->end - j->at);
        if (nl || j->eof) return OK;
        TRY(fill(j, e));
    }
}

/* The n bytes at data[at] are the record's. */
static void found(struct jsonl *j, size_t n, struct jsonl_record *out, struct jsonl_text *text)
{
    text->data = j->data + j->at;
    text->n = n;
    out->kind = JSONL_RECORD;
    consume(j, n);
}

static enum status find_line(struct jsonl *j, struct jsonl_record *out, struct jsonl_text *text,
                             struct err *e)
{
    int c;
    TRY(skip_space(j, &c, e));
    if (c < 0) return OK;
    begin_record(j, out);
    text->column = column(j);
    const char *nl = NULL;
    for (size_t seen = 0;;) {
        nl = memchr(j->data + j->at + seen, '\n', j->end - j->at - seen);
        seen = nl ? (size_t)(nl - (j->data + j->at)) : j->end - j->at;
        if (seen > j->max_record) {
            TRY(discard_line(j, e));
            return too_large(j, out, e);
        }
        if (nl || j->eof) break;
        TRY(fill(j, e));
    }
    found(j, nl ? (size_t)(nl - (j->data + j->at)) : j->end - j->at, out, text);
    if (nl) consume(j, 1);
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
    for (; j->at + x->n < j->end && !x->complete; x->n++) {
        char c = j->data[j->at + x->n];
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
        if (!x->depth && x->begun && (is_space(c) || c == ',' || close)) {
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
    consume(j, 1);
    j->done = 1;
    TRY(skip_space(j, &c, e));
    if (c < 0) return OK;
    err_at(e, ERR_FORMAT, j->path, j->line, column(j), "text behind the end of the array");
    return err_hint(e, "a file holds one array; join several into one, or write JSONL");
}

/* Over what stands before the next element: the opening bracket or a comma. At the end of the
 * array j->done is set. */
static enum status array_step(struct jsonl *j, struct err *e)
{
    int c, opening = !j->started;
    TRY(skip_space(j, &c, e));
    if (c == ']') return array_end(j, e);
    if (opening || c == ',') {
        j->started = 1;
        consume(j, 1);
        TRY(skip_space(j, &c, e));
        if (c == ']' && opening) return array_end(j, e);
        if (c >= 0 && c != ']' && c != ',') return OK;
    }
    if (c < 0) {
        err_at(e, ERR_FORMAT, j->path, j->line, column(j), "the file ends inside the array");
        return err_hint(e, "it seems cut off: fetch or write it again");
    }
    err_at(e, ERR_FORMAT, j->path, j->line, column(j), "\"%c\" where %s should stand", c,
           c == ']' || c == ',' ? "an object" : "a comma or ]");
    return err_hint(e, "check the file with a JSON validator");
}

static enum status find_element(struct jsonl *j, struct jsonl_record *out, struct jsonl_text *text,
                                struct err *e)
{
    if (!j->done) TRY(array_step(j, e));
    if (j->done) return OK;
    begin_record(j, out);
    text->column = column(j);
    struct extent x = {0};
    int oversized = 0;
    for (;;) {
        follow(j, &x);
        if (x.n > j->max_record) oversized = 1;
        if (x.complete) break;
        if (j->eof) {
            err_at(e, ERR_FORMAT, j->path, (long)out->line, text->column,
                   "the file ends inside record %lld, which begins here", (long long)out->number);
            return err_hint(e, "it seems cut off: fetch or write it again");
        }
        if (oversized) { /* nothing of it is kept */
            consume(j, x.n);
            x.n = 0;
        }
        TRY(fill(j, e));
    }
    if (!oversized) {
        found(j, x.n, out, text);
        return OK;
    }
    consume(j, x.n);
    return too_large(j, out, e);
}

/* ---- CSV ---- */

/* Over white space up to the first line with something on it; *c as skip_space. */
static enum status skip_blank_lines(struct jsonl *j, int *c, struct err *e)
{
    for (;;) {
        size_t n = 0, line = 0; /* where the last line begins */
        while (j->at + n < j->end && is_space(j->data[j->at + n])) {
            n++;
            if (j->data[j->at + n - 1] == '\n') line = n;
        }
        int blank = j->at + n == j->end;
        if (!blank || j->eof) {
            *c = blank ? -1 : 0;
            consume(j, blank ? n : line);
            return OK;
        }
        consume(j, n > j->max_record ? n : line);
        TRY(fill(j, e));
    }
}

static enum status find_row(struct jsonl *j, struct jsonl_record *out, struct jsonl_text *text,
                            struct err *e)
{
    struct csv_extent x = {0};
    int c, oversized = 0;
    TRY(skip_blank_lines(j, &c, e));
    if (c < 0) return OK;
    begin_record(j, out);
    text->column = column(j);
    for (;;) {
        csv_follow(&x, j->data + j->at, j->end - j->at, j->separator);
        if (x.n > j->max_record) oversized = 1;
        if (x.complete || j->eof) break;
        if (oversized) { /* nothing of it is kept */
            consume(j, x.n);
            x.n = 0;
        }
        TRY(fill(j, e));
    }
    if (!x.complete && x.state == CSV_QUOTED) {
        err_at(e, ERR_FORMAT, j->path, (long)out->line, 0,
               "the file ends inside a quoted field of record %lld, which begins here",
               (long long)out->number);
        return err_hint(e, "it seems cut off, or a quote is not closed");
    }
    if (oversized)
        consume(j, x.n);
    else
        found(j, x.n, out, text);
    if (x.complete) consume(j, 1);
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
    snprintf(e->file, sizeof e->file, "%s", j->path);
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
    const char *data = j->data + j->at;
    for (size_t size = j->end - j->at; x->n < size && !x->complete; x->n++) {
        if (data[x->n] != '\n') {
            x->blank &= is_space(data[x->n]);
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
    TRY(skip_blank_lines(j, &c, e));
    if (c < 0) return OK;
    begin_record(j, out);
    text->column = 1;
    for (;;) {
        follow_text(j, &x);
        if (x.n > j->max_record) oversized = 1;
        if (x.complete || j->eof) break;
        if (oversized) { /* nothing of it is kept */
            consume(j, x.n);
            x = (struct text_extent){.blank = x.blank};
        }
        TRY(fill(j, e));
    }
    size_t rest = x.complete; /* the line's end */
    if (oversized)
        consume(j, x.n);
    else
        found(j, x.n, out, text);
    consume(j, rest);
    if (oversized) return too_large(j, out, e);
    while (text->n && is_space(text->data[text->n - 1])) text->n--;
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
    while (j->end < 4 && !j->eof) TRY(fill(j, e));
    if (j->end >= 3 && !memcmp(j->data, "\xef\xbb\xbf", 3)) {
        consume(j, 3);
        j->line_start = j->consumed;
    }
    j->form = named_form(j->path, &j->separator);
    if (j->form == FORM_CSV) return read_header(j, e);
    if (j->form == FORM_TEXT) return OK;
    TRY(skip_space(j, &c, e));
    if (c < 0)
        j->form = FORM_EMPTY;
    else if (c == '{')
        j->form = FORM_LINES;
    else if (c == '[')
        j->form = FORM_ARRAY;
    else {
        err_at(e, ERR_FORMAT, j->path, j->line, column(j),
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
    j->line = 1;
    j->max_record = options && options->max_record ? options->max_record : JSONL_MAX_RECORD;
    j->unit = options ? options->unit : JSONL_LINE;
    enum status s = (j->path = mem_strdup(path)) ? OK : ERR_MEMORY;
    if (s) err_set(e, s, "no memory to read %s", path);
    if (!s) s = stream_open(&j->stream, path, e);
    if (!s) s = begin(j, e);
    if (s)
        jsonl_close(j);
    else
        *out = j;
    return s;
}

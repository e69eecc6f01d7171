/* A user's own template: a small YAML file with the fields of struct template. TEMPLATES.md is
 * its manual. Of YAML it takes one mapping of scalars; roles may be written {prefix, suffix}. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/quote.h"
#include "data/template/pattern.h"

enum kind { PATTERN, TEXT, FLAG, NAME, ASSISTANT };

#define COMMA(field, use) FIELD_##field,
#define ALONE(field) FIELD_##field,
enum field_id {
    TEMPLATE_PATTERNS(COMMA) TEMPLATE_TEXTS(ALONE) TEMPLATE_FLAGS(ALONE) FIELD_name,
    FIELD_about,
    FIELD_assistant,
    NUM_FIELDS
};
#undef COMMA
#undef ALONE

static const struct field {
    const char *name;
    enum kind kind;
    unsigned use; /* enum pattern_use, or-ed */
} fields[NUM_FIELDS] = {
#define X(field, use) {#field, PATTERN, use},
    TEMPLATE_PATTERNS(X)
#undef X
#define X(field) {#field, TEXT, 0},
        TEMPLATE_TEXTS(X)
#undef X
#define X(field) {#field, FLAG, 0},
            TEMPLATE_FLAGS(X)
#undef X
                {"name", NAME, 0},
    {"about", TEXT, 0},
    {"assistant", ASSISTANT, 0},
};

/* Where a field was given; line 0: it was not. */
struct place {
    long line, column;
};

struct reading {
    yaml_parser_t parser;
    yaml_event_t event; /* the one looked at */
    const char *file;
    struct err *e;
    struct place places[NUM_FIELDS];
    const char *text[NUM_FIELDS]; /* NULL: not given */
    int flag[NUM_FIELDS];
    char *own; /* [room] strings end to end; never moved */
    size_t used, room;
};

static enum status no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for a template");
}

/* ---- errors ---- */

static enum status fail_at(const struct reading *r, struct place at, const char *hint,
                           const char *what)
{
    err_at(r->e, ERR_CONFIG, r->file, at.line, at.column, "%s", what);
    return hint ? err_hint(r->e, "%s", hint) : ERR_CONFIG;
}

static struct place here(const struct reading *r)
{
    const yaml_mark_t *m = &r->event.start_mark;
    return (struct place){(long)m->line + 1, (long)m->column + 1};
}

static enum status fail(const struct reading *r, const char *hint, const char *what)
{
    return fail_at(r, here(r), hint, what);
}

/* About the value of a field. */
static enum status fail_field(const struct reading *r, enum field_id f, const char *hint,
                              const char *what)
{
    char text[400];
    snprintf(text, sizeof text, "%s: %s", fields[f].name, what);
    return fail_at(r, r->places[f], hint, text);
}

static enum status unknown_key(const struct reading *r, const char *key)
{
    char what[200], known[300] = "";
    size_t at = 0;
    for (int f = 0; f < NUM_FIELDS && at < sizeof known; f++)
        at +=
            (size_t)snprintf(known + at, sizeof known - at, "%s%s", f ? ", " : "", fields[f].name);
    snprintf(what, sizeof what, "a template has no '%.80s'", key);
    fail(r, NULL, what);
    return err_hint(r->e, "it has %s", known);
}

/* ---- YAML ---- */

static enum status parser_failed(const struct reading *r)
{
    const yaml_parser_t *p = &r->parser;
    char what[200];
    if (p->error == YAML_MEMORY_ERROR) return no_memory(r->e);
    snprintf(what, sizeof what, "not valid YAML: %s", p->problem ? p->problem : "cannot be read");
    struct place at = {(long)p->problem_mark.line + 1, (long)p->problem_mark.column + 1};
    return fail_at(r, at, "one name: \"text\" a line; \\n in double quotes is the end of a line",
                   what);
}

static enum status next(struct reading *r)
{
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event)) return parser_failed(r);
    const yaml_event_t *v = &r->event;
    int marked = v->type == YAML_ALIAS_EVENT;
    if (v->type == YAML_SCALAR_EVENT) marked = v->data.scalar.anchor || v->data.scalar.tag;
    if (v->type == YAML_SEQUENCE_START_EVENT)
        marked = v->data.sequence_start.anchor || v->data.sequence_start.tag;
    if (v->type == YAML_MAPPING_START_EVENT)
        marked = v->data.mapping_start.anchor || v->data.mapping_start.tag;
    return marked ? fail(r, "write the value out", "anchors, aliases and tags are not supported")
                  : OK;
}

/* Appends to the string that is being put together at own + used. */
static enum status grow_string(struct reading *r, size_t *n, const char *s, size_t length)
{
    if (length >= r->room - r->used - *n) /* cannot be: a file's strings are shorter than it */
        return no_memory(r->e);
    memcpy(r->own + r->used + *n, s, length);
    *n += length;
    r->own[r->used + *n] = 0;
    return OK;
}

static const char *end_string(struct reading *r, size_t n)
{
    const char *s = r->own + r->used;
    r->own[r->used + n] = 0;
    r->used += n + 1;
    return s;
}

static enum status add_scalar(struct reading *r, size_t *n, const char *what)
{
    if (r->event.type != YAML_SCALAR_EVENT) return fail(r, NULL, what);
    const char *s = (const char *)r->event.data.scalar.value;
    size_t length = r->event.data.scalar.length;
    if (memchr(s, 0, length)) return fail(r, NULL, "a zero byte");
    return grow_string(r, n, s, length);
}

static int is_null(const struct reading *r)
{
    const char *s = (const char *)r->event.data.scalar.value;
    return r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*s || !strcmp(s, "~") || !strcasecmp(s, "null"));
}

/* {prefix: ..., suffix: ...}, its start being looked at. Of what is missing *out is "". */
static enum status read_role(struct reading *r, const char *out[2])
{
    static const char *const names[] = {"prefix", "suffix"};
    static const char *const wants = "a role wants prefix and suffix, as text";
    out[0] = out[1] = NULL;
    for (;;) {
        size_t n = 0;
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) break;
        if (r->event.type != YAML_SCALAR_EVENT) return fail(r, NULL, wants);
        const char *key = (const char *)r->event.data.scalar.value;
        int which = !strcmp(key, names[1]);
        if (strcmp(key, names[which]) != 0)
            return fail(r, "a role is written {prefix: \"...\", suffix: \"...\"}", wants);
        if (out[which]) return fail(r, NULL, "given twice");
        TRY(next(r));
        TRY(add_scalar(r, &n, wants));
        out[which] = end_string(r, n);
    }
    for (int i = 0; i < 2; i++)
        if (!out[i]) out[i] = "";
    return OK;
}

static enum status read_role_pattern(struct reading *r, enum field_id f)
{
    const char *parts[2];
    size_t n = 0;
    TRY(read_role(r, parts));
    TRY(grow_string(r, &n, parts[0], strlen(parts[0])));
    TRY(grow_string(r, &n, "{content}", 9));
    TRY(grow_string(r, &n, parts[1], strlen(parts[1])));
    r->text[f] = end_string(r, n);
    return OK;
}

/* Where the last token of a pattern ends; NULL: it has none. */
static const char *behind_last_token(const char *pattern)
{
    const char *end = NULL;
    struct element x;
    while (pattern_next(&pattern, &x))
        if (element_is_token(&x)) end = pattern;
    return end;
}

/* The prefix is the prompt; of the suffix all up to the last token is trained. */
static enum status read_assistant(struct reading *r)
{
    static const enum field_id made[] = {FIELD_prompt, FIELD_reply, FIELD_tail};
    const char *parts[2], *end;
    size_t n = 0;
    if (r->event.type != YAML_MAPPING_START_EVENT)
        return fail(r, "or prompt: \"...\" and reply: \"...\", where reply is what is trained",
                    "assistant wants {prefix: \"...\", suffix: \"...\"}");
    for (size_t i = 0; i < 3; i++)
        if (r->places[made[i]].line)
            return fail(r, "keep assistant, or the three",
                        "assistant says what prompt, reply and "
                        "tail say");
    TRY(read_role(r, parts));
    if (!(end = behind_last_token(parts[1])))
        return fail_field(r, FIELD_assistant, "end it with {eos} or the model's end token",
                          "its suffix has no end token, so the model would never stop");
    TRY(grow_string(r, &n, "{content}", 9));
    TRY(grow_string(r, &n, parts[1], (size_t)(end - parts[1])));
    r->text[FIELD_prompt] = parts[0];
    r->text[FIELD_reply] = end_string(r, n);
    r->text[FIELD_tail] = end;
    for (size_t i = 0; i < 3; i++) r->places[made[i]] = r->places[FIELD_assistant];
    return OK;
}

/* Tokens as a list: joined to one pattern. */
static enum status read_tokens(struct reading *r, enum field_id f)
{
    size_t n = 0;
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) break;
        TRY(add_scalar(r, &n, "end wants tokens, such as \"{eos}\""));
    }
    r->text[f] = end_string(r, n);
    return OK;
}

static enum status read_flag(struct reading *r, enum field_id f)
{
    static const char *const words[] = {"false", "no", "off", "true", "yes", "on"};
    if (r->event.type == YAML_SCALAR_EVENT)
        for (int i = 0; i < 6; i++)
            if (!strcasecmp((const char *)r->event.data.scalar.value, words[i])) {
                r->flag[f] = i >= 3;
                return OK;
            }
    return fail(r, "true or false", "neither true nor false");
}

static enum status read_value(struct reading *r, enum field_id f)
{
    size_t n = 0;
    yaml_event_type_t type = r->event.type;
    if (fields[f].kind == FLAG) return read_flag(r, f);
    if (fields[f].kind == ASSISTANT) return read_assistant(r);
    if (type == YAML_MAPPING_START_EVENT && fields[f].use & USE_ROLE)
        return read_role_pattern(r, f);
    if (type == YAML_SEQUENCE_START_EVENT && f == FIELD_end) return read_tokens(r, f);
    if (type == YAML_SCALAR_EVENT && is_null(r)) {
        r->places[f].line = 0;
        return OK;
    }
    TRY(add_scalar(r, &n, "wants text"));
    r->text[f] = end_string(r, n);
    return OK;
}

static enum status read_pair(struct reading *r)
{
    if (r->event.type != YAML_SCALAR_EVENT) return fail(r, NULL, "a name must be plain text");
    const char *key = (const char *)r->event.data.scalar.value;
    int f = 0;
    if (!strcmp(key, "end_tokens")) key = fields[FIELD_end].name;
    while (f < NUM_FIELDS && strcmp(key, fields[f].name) != 0) f++;
    if (f == NUM_FIELDS) return unknown_key(r, key);
    int made = f == FIELD_prompt || f == FIELD_reply || f == FIELD_tail;
    if (r->places[f].line)
        return fail(r, made ? "it, or assistant, has said it before" : NULL, "given twice");
    TRY(next(r));
    r->places[f] = here(r);
    return read_value(r, (enum field_id)f);
}

static enum status read_document(struct reading *r)
{
    static const char *const wants = "user: \"...{content}...\" and the like, one a line";
    for (int i = 0; i < 3; i++) { /* stream, document, mapping */
        TRY(next(r));
        if (r->event.type == YAML_STREAM_END_EVENT) return fail(r, wants, "the file is empty");
    }
    if (r->event.type != YAML_MAPPING_START_EVENT) return fail(r, wants, "a template is a mapping");
    for (;;) {
        TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) break;
        TRY(read_pair(r));
    }
    TRY(next(r)); /* the document's end */
    TRY(next(r));
    return r->event.type == YAML_STREAM_END_EVENT
               ? OK
               : fail(r, "a file holds one template", "a second document");
}

/* ---- what it says, checked ---- */

/* The spelling of a special token has something that is no letter, which {contnet} has not. */
static int looks_like_token(const struct element *x)
{
    int odd = 0;
    for (size_t i = 0; i < x->n; i++) {
        if ((unsigned char)x->s[i] < 0x20) return 0;
        odd |= !isalnum((unsigned char)x->s[i]) && x->s[i] != '_' && x->s[i] != ' ';
    }
    return odd && x->n < 128;
}

static enum status check_pattern(const struct reading *r, enum field_id f)
{
    const char *p = r->text[f];
    struct element x;
    char what[240];
    int contents = pattern_count(p, "content"), want = (fields[f].use & USE_CONTENT) != 0;
    while (pattern_next(&p, &x)) {
        if (!x.is_name || element_is(&x, "content") || element_is(&x, "input") ||
            element_is(&x, "bos") || element_is(&x, "eos") || looks_like_token(&x))
            continue;
        snprintf(what, sizeof what, "{%.*s} stands for nothing", (int)(x.n < 80 ? x.n : 80), x.s);
        return fail_field(r, f,
                          "known are {content}, {input}, {bos}, {eos} and special tokens "
                          "such as {<|im_end|>}; {{ is a brace",
                          what);
    }
    if (contents != want) {
        snprintf(what, sizeof what, "has {content} %s", contents ? "too often" : "nowhere");
        return fail_field(r, f,
                          want ? "it stands for the turn's text, and is needed once"
                               : "it has its place in system, user, tool and reply",
                          what);
    }
    if (pattern_count(r->text[f], "input") != (f == FIELD_user_input))
        return fail_field(r, f, "{input} has its place in user_input, once",
                          f == FIELD_user_input ? "has {input} not once" : "has {input}");
    return OK;
}

static int is_among(const struct element *token, const char *pattern)
{
    struct element x;
    while (pattern_next(&pattern, &x))
        if (element_is_token(&x) && x.n == token->n && !memcmp(x.s, token->s, x.n)) return 1;
    return 0;
}

/* Every trained turn ends in a token at which generation stops. */
static enum status check_end(const struct reading *r, enum field_id f)
{
    const char *p = r->text[f];
    struct element x = {0};
    while (pattern_next(&p, &x)) {}
    if (x.is_name && element_is_token(&x) && is_among(&x, r->text[FIELD_end])) return OK;
    return fail_field(r, f,
                      "end it with {eos} or the model's end token; text behind that goes "
                      "into tail",
                      "does not end in an end token, so the model would never stop");
}

static enum status check_end_tokens(const struct reading *r)
{
    const char *p = r->text[FIELD_end];
    struct element x;
    int n = 0;
    while (pattern_next(&p, &x)) {
        if (!element_is_token(&x))
            return fail_field(r, FIELD_end, "name tokens: [\"{<|im_end|>}\", \"{eos}\"]",
                              "has text that is no token");
        n++;
    }
    return n >= 1 && n <= 4 ? OK : fail_field(r, FIELD_end, NULL, "one to four tokens");
}

/* The system text is stripped as one with the user's, which Jinja does from outside. */
static enum status check_system(const struct reading *r)
{
    const char *p = r->text[FIELD_system];
    struct element x;
    if (!r->flag[FIELD_system_in_user]) return OK;
    while (pattern_next(&p, &x))
        if (element_is_token(&x))
            return fail_field(r, FIELD_system, "write its text alone, or system_in_user: false",
                              "a token cannot stand in a user's text");
    if (r->flag[FIELD_strip] && isspace((unsigned char)*r->text[FIELD_system]))
        return fail_field(r, FIELD_system, "leave the white space out, or set strip: false",
                          "begins with white space, which strip takes away");
    return r->text[FIELD_default_system_input]
               ? fail_field(r, FIELD_default_system_input, "leave it out",
                            "does not go with system_in_user")
               : OK;
}

static enum status check_name(const struct reading *r)
{
    const char *s = r->text[FIELD_name];
    size_t n = strlen(s);
    int good = n && n < TEMPLATE_NAME_MAX;
    for (size_t i = 0; i < n; i++) good &= isalnum((unsigned char)s[i]) || strchr("-_.", s[i]);
    return good ? OK
                : fail_field(r, FIELD_name, "give it a name: of letters, digits, - _ and .",
                             "no name for a template");
}

/* "dir/my.yaml" gives "my". */
static enum status name_by_file(struct reading *r)
{
    const char *slash = strrchr(r->file, '/'), *base = slash ? slash + 1 : r->file;
    const char *dot = strrchr(base, '.');
    size_t n = 0, length = dot ? (size_t)(dot - base) : strlen(base);
    TRY(grow_string(r, &n, base, length < TEMPLATE_NAME_MAX ? length : TEMPLATE_NAME_MAX));
    r->text[FIELD_name] = end_string(r, n);
    return OK;
}

/* Without `end`: the token that ends the reply. */
static enum status end_by_reply(struct reading *r)
{
    const char *p = r->text[FIELD_reply], *from = p, *last = NULL, *behind = NULL;
    struct element x;
    size_t n = 0;
    for (; pattern_next(&p, &x); from = p)
        if (element_is_token(&x)) last = from, behind = p;
    r->places[FIELD_end] = r->places[FIELD_reply];
    if (last) TRY(grow_string(r, &n, last, (size_t)(behind - last)));
    r->text[FIELD_end] = end_string(r, n);
    return last ? OK : check_end(r, FIELD_reply);
}

static enum status check(struct reading *r)
{
    static const enum field_id empty[] = {FIELD_start, FIELD_between, FIELD_prompt, FIELD_tail};
    for (int f = 0; f < NUM_FIELDS; f++) {
        if (r->text[f] || !(fields[f].use & USE_NEEDED)) continue;
        err_at(r->e, ERR_CONFIG, r->file, 0, 0, "the template does not say %s", fields[f].name);
        return err_hint(r->e,
                        f == FIELD_reply
                            ? "add reply: \"{content}{eos}\", or assistant: {prefix, suffix}"
                            : "add %s: \"...{content}...\"",
                        fields[f].name);
    }
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        if (!r->text[empty[i]]) r->text[empty[i]] = "";
    if (!r->text[FIELD_name]) TRY(name_by_file(r));
    if (!r->text[FIELD_end]) TRY(end_by_reply(r));
    TRY(check_name(r));
    for (int f = 0; f < NUM_FIELDS; f++)
        if (r->text[f] && fields[f].kind == PATTERN) TRY(check_pattern(r, (enum field_id)f));
    TRY(check_end_tokens(r));
    TRY(check_end(r, FIELD_reply));
    if (r->text[FIELD_last_reply]) TRY(check_end(r, FIELD_last_reply));
    return check_system(r);
}

static struct template *make(const struct reading *r)
{
    struct template *t = mem_calloc(1, sizeof *t);
    if (!t) return NULL;
#define P(field, use) t->field = r->text[FIELD_##field];
#define X(field) t->field = r->text[FIELD_##field];
    TEMPLATE_PATTERNS(P)
    TEMPLATE_TEXTS(X)
    X(name)
    X(about)
#undef P
#undef X
#define X(field) t->field = r->flag[FIELD_##field];
    TEMPLATE_FLAGS(X)
#undef X
    if (!t->about) t->about = "a template of its own";
    t->own = r->own;
    return t;
}

/* ---- from outside ---- */

enum status template_parse(const struct template **out, const char *text, size_t n,
                           const char *file, struct err *e)
{
    struct reading r = {.file = file, .e = e, .room = 4 * n + 1024};
    *out = NULL;
    if (n > TEMPLATE_FILE_MAX) {
        err_at(e, ERR_CONFIG, file, 0, 0, "too large for a template");
        return err_hint(e, "it is a page of name: \"text\" lines");
    }
    if (!(r.own = mem_alloc(r.room))) return no_memory(e);
    if (!yaml_parser_initialize(&r.parser)) {
        mem_free(r.own);
        return no_memory(e);
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    enum status s = read_document(&r);
    yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    if (!s) s = check(&r);
    if (!s && !(*out = make(&r))) s = no_memory(e);
    if (s) mem_free(r.own);
    return s;
}

int template_is_file(const char *name)
{
    static const char *const ends[] = {".yaml", ".yml", ".json"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t m = strlen(ends[i]);
        if (n > m && !strcasecmp(name + n - m, ends[i])) return 1;
    }
    return 0;
}

enum status template_open(const struct template **out, const char *name, struct err *e)
{
    struct buf text;
    *out = NULL;
    if (!template_is_file(name)) {
        *out = template_find(name);
        return *out ? OK : err_set(e, ERR_CONFIG, "there is no template \"%s\"", name);
    }
    buf_init(&text, TEMPLATE_FILE_MAX + 1);
    enum status s = io_read_file(name, &text, e);
    if (s == ERR_FORMAT) s = err_at(e, ERR_CONFIG, name, 0, 0, "too large for a template");
    if (!s) s = template_parse(out, text.data ? text.data : "", text.len, name, e);
    buf_free(&text);
    return s;
}

void template_close(const struct template *t)
{
    if (!t || !t->own) return;
    mem_free(t->own);
    mem_free((void *)(uintptr_t)t);
}

/* ---- back to text ---- */

static enum status put_text(struct buf *out, const char *name, const char *text)
{
    if (!text) return OK;
    TRY(buf_printf(out, "%s: ", name));
    TRY(quote_yaml(out, text));
    return buf_putc(out, '\n');
}

enum status template_write(const struct template *t, struct buf *out)
{
    TRY(put_text(out, "name", t->name));
    TRY(put_text(out, "about", t->about));
#define P(field, use) TRY(put_text(out, #field, t->field));
#define X(field) TRY(put_text(out, #field, t->field));
    TEMPLATE_PATTERNS(P)
    TEMPLATE_TEXTS(X)
#undef P
#undef X
#define X(field) \
    if (t->field) TRY(buf_puts(out, #field ": true\n"));
    TEMPLATE_FLAGS(X)
#undef X
    return OK;
}

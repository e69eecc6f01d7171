/* A template file's YAML: one mapping of scalars; roles may be written {prefix, suffix}. */
#include "data/template/reading.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

const struct reading_field reading_fields[NUM_FIELDS] = {
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

enum status reading_no_memory(struct err *e)
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
enum status reading_fail(const struct reading *r, enum field_id f, const char *hint,
                         const char *what)
{
    char text[400];
    snprintf(text, sizeof text, "%s: %s", reading_fields[f].name, what);
    return fail_at(r, r->places[f], hint, text);
}

static enum status unknown_key(const struct reading *r, const char *key)
{
    char what[200], known[300] = "";
    size_t at = 0;
    for (int f = 0; f < NUM_FIELDS && at < sizeof known; f++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", f ? ", " : "",
                               reading_fields[f].name);
    snprintf(what, sizeof what, "a template has no '%.80s'", key);
    fail(r, NULL, what);
    return err_hint(r->e, "it has %s", known);
}

/* ---- YAML ---- */

static enum status parser_failed(const struct reading *r)
{
    const yaml_parser_t *p = &r->parser;
    char what[200];
    if (p->error == YAML_MEMORY_ERROR) return reading_no_memory(r->e);
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
enum status reading_grow(struct reading *r, size_t *n, const char *s, size_t length)
{
    if (length >= r->room - r->used - *n) /* cannot be: a file's strings are shorter than it */
        return reading_no_memory(r->e);
    memcpy(r->own + r->used + *n, s, length);
    *n += length;
    r->own[r->used + *n] = 0;
    return OK;
}

const char *reading_end(struct reading *r, size_t n)
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
    return reading_grow(r, n, s, length);
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
        out[which] = reading_end(r, n);
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
    TRY(reading_grow(r, &n, parts[0], strlen(parts[0])));
    TRY(reading_grow(r, &n, "{content}", 9));
    TRY(reading_grow(r, &n, parts[1], strlen(parts[1])));
    r->text[f] = reading_end(r, n);
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
        return reading_fail(r, FIELD_assistant, "end it with {eos} or the model's end token",
                            "its suffix has no end token, so the model would never stop");
    TRY(reading_grow(r, &n, "{content}", 9));
    TRY(reading_grow(r, &n, parts[1], (size_t)(end - parts[1])));
    r->text[FIELD_prompt] = parts[0];
    r->text[FIELD_reply] = reading_end(r, n);
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
    r->text[f] = reading_end(r, n);
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
    if (reading_fields[f].kind == FLAG) return read_flag(r, f);
    if (reading_fields[f].kind == ASSISTANT) return read_assistant(r);
    if (type == YAML_MAPPING_START_EVENT && reading_fields[f].use & USE_ROLE)
        return read_role_pattern(r, f);
    if (type == YAML_SEQUENCE_START_EVENT && f == FIELD_end) return read_tokens(r, f);
    if (type == YAML_SCALAR_EVENT && is_null(r)) {
        r->places[f].line = 0;
        return OK;
    }
    TRY(add_scalar(r, &n, "wants text"));
    r->text[f] = reading_end(r, n);
    return OK;
}

static enum status read_pair(struct reading *r)
{
    if (r->event.type != YAML_SCALAR_EVENT) return fail(r, NULL, "a name must be plain text");
    const char *key = (const char *)r->event.data.scalar.value;
    int f = 0;
    if (!strcmp(key, "end_tokens")) key = reading_fields[FIELD_end].name;
    while (f < NUM_FIELDS && strcmp(key, reading_fields[f].name) != 0) f++;
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

enum status reading_read(struct reading *r, const char *text, size_t n)
{
    if (!yaml_parser_initialize(&r->parser)) return reading_no_memory(r->e);
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, n);
    enum status s = read_document(r);
    yaml_event_delete(&r->event);
    yaml_parser_delete(&r->parser);
    return s;
}

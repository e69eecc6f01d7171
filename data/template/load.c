/* A user's own template: a small YAML file with the fields of struct template. TEMPLATES.md is
 * its manual. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/quote.h"
#include "data/template/reading.h"

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
    if (!(r.own = mem_alloc(r.room))) return reading_no_memory(e);
    enum status s = reading_read(&r, text, n);
    if (!s) s = reading_check(&r);
    if (!s && !(*out = make(&r))) s = reading_no_memory(e);
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

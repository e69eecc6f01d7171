/* A template as Transformers reads it. One text for all rows: what render.c does with the fields,
 * in Jinja. */
#include <string.h>

#include "data/template/pattern.h"

#define IF(condition) "{% if " condition " %}"
#define ELIF(condition) "{% elif " condition " %}"
#define END_IF "{% endif %}"
#define BEHIND_REPLY "not loop.first and messages[loop.index0 - 1]['role'] == 'assistant'"

/* A string literal: what stands between the quotes. */
static enum status put_escaped(struct buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n') {
            TRY(buf_puts(out, "\\n"));
            continue;
        }
        if (s[i] == '\\' || s[i] == '\'') TRY(buf_putc(out, '\\'));
        TRY(buf_putc(out, s[i]));
    }
    return OK;
}

/* An expression under way: terms joined by +, neighbouring text in one literal. */
struct expression {
    struct buf *out;
    int begun, open; /* open: inside a literal */
};

static enum status put_term(struct expression *x, const char *term)
{
    if (x->open) TRY(buf_putc(x->out, '\''));
    if (x->begun) TRY(buf_puts(x->out, " + "));
    x->open = 0;
    x->begun = 1;
    return buf_puts(x->out, term);
}

static enum status put_literal(struct expression *x, const char *s, size_t n)
{
    if (!x->open) TRY(put_term(x, "'"));
    x->open = 1;
    return put_escaped(x->out, s, n);
}

/* `content` stands for {content}. */
static enum status put_pattern(struct expression *x, const char *pattern, const char *content)
{
    struct element it;
    while (pattern && pattern_next(&pattern, &it)) {
        if (element_is(&it, "content"))
            TRY(put_term(x, content));
        else if (element_is(&it, "input"))
            TRY(put_term(x, "message['input']"));
        else if (element_is(&it, "bos"))
            TRY(put_term(x, "bos_token"));
        else if (element_is(&it, "eos"))
            TRY(put_term(x, "eos_token"));
        else
            TRY(put_literal(x, it.s, it.n));
    }
    return OK;
}

static enum status end_expression(struct expression *x)
{
    if (x->open) TRY(buf_putc(x->out, '\''));
    return x->begun ? OK : buf_puts(x->out, "''");
}

/* "{{ a + b + c }}", nothing for no text. */
static enum status put_output(struct buf *out, const char *a, const char *b, const char *c,
                              const char *content)
{
    struct expression x = {.out = out};
    if (!(a && *a) && !(b && *b) && !(c && *c)) return OK;
    TRY(buf_puts(out, "{{ "));
    TRY(put_pattern(&x, a, content));
    TRY(put_pattern(&x, b, content));
    TRY(put_pattern(&x, c, content));
    TRY(end_expression(&x));
    return buf_puts(out, " }}");
}

/* The system pattern with a default text for its content, as an expression. */
static enum status put_default(struct buf *out, const struct template *t, const char *text)
{
    struct expression x = {.out = out};
    const char *p = t->system;
    struct element it;
    while (pattern_next(&p, &it)) {
        const char *one = element_is(&it, "bos") ? "bos_token" : "eos_token";
        if (element_is(&it, "content"))
            TRY(put_literal(&x, text, strlen(text)));
        else if (element_is(&it, "bos") || element_is(&it, "eos"))
            TRY(put_term(&x, one));
        else
            TRY(put_literal(&x, it.s, it.n));
    }
    return end_expression(&x);
}

/* The default system turn, before the first message that is none. */
static enum status put_default_turn(struct buf *out, const struct template *t)
{
    if (!t->default_system || t->system_in_user) return OK;
    TRY(buf_puts(out, IF("loop.first and message['role'] != 'system'") "{{ "));
    TRY(put_default(out, t, t->default_system_input ? t->default_system_input : t->default_system));
    if (t->default_system_input) {
        TRY(buf_puts(out, " if message['input'] else "));
        TRY(put_default(out, t, t->default_system));
    }
    return buf_puts(out, " }}" END_IF);
}

static enum status put_system(struct buf *out, const struct template *t, const char *content)
{
    struct expression x = {.out = out};
    TRY(buf_puts(out, IF("message['role'] == 'system'")));
    if (t->system_in_user) {
        TRY(buf_puts(out, "{% set ns.system = "));
        TRY(put_pattern(&x, t->system, "message['content']"));
        TRY(end_expression(&x));
        if (t->skip_empty_system) TRY(buf_puts(out, " if message['content'] else ''"));
        return buf_puts(out, " %}");
    }
    if (t->skip_empty_system) TRY(buf_puts(out, IF("message['content']")));
    TRY(put_output(out, t->system, NULL, NULL, content));
    return t->skip_empty_system ? buf_puts(out, END_IF) : OK;
}

static enum status put_between(struct buf *out, const struct template *t)
{
    if (!*t->between) return OK;
    TRY(buf_puts(out, IF(BEHIND_REPLY)));
    TRY(put_output(out, t->between, NULL, NULL, ""));
    return buf_puts(out, END_IF);
}

static enum status put_user(struct buf *out, const struct template *t, const char *content)
{
    const char *both = content;
    if (t->system_in_user)
        both = t->strip ? "(ns.system + message['content']) | trim"
                        : "(ns.system + message['content'])";
    TRY(buf_puts(out, t->tool ? ELIF("message['role'] == 'user'")
                              : ELIF("message['role'] in ['user', 'tool']")));
    TRY(put_between(out, t));
    if (t->user_input) {
        TRY(buf_puts(out, IF("message['input']")));
        TRY(put_output(out, t->user_input, NULL, NULL, both));
        TRY(buf_puts(out, "{% else %}"));
    }
    TRY(put_output(out, t->user, NULL, NULL, both));
    if (t->user_input) TRY(buf_puts(out, END_IF));
    if (t->system_in_user) TRY(buf_puts(out, "{% set ns.system = '' %}"));
    if (!t->tool) return OK;
    TRY(buf_puts(out, ELIF("message['role'] == 'tool'")));
    TRY(put_between(out, t));
    return put_output(out, t->tool, NULL, NULL, content);
}

static enum status put_assistant(struct buf *out, const struct template *t, const char *content)
{
    TRY(buf_puts(out, ELIF("message['role'] == 'assistant'")));
    if (t->last_reply) {
        TRY(buf_puts(out, IF("loop.last")));
        TRY(put_output(out, t->prompt, t->last_reply, t->tail, content));
        TRY(buf_puts(out, "{% else %}"));
    }
    TRY(put_output(out, t->prompt, t->reply, t->tail, content));
    return t->last_reply ? buf_puts(out, END_IF) : OK;
}

static int writes_bos(const struct template *t)
{
#define X(field, use) \
    if (pattern_count(t->field, "bos")) return 1;
    TEMPLATE_PATTERNS(X)
#undef X
    return 0;
}

enum status template_jinja(const struct template *t, int adds_bos, struct buf *out)
{
    const char *content = t->strip ? "message['content'] | trim" : "message['content']";
    if (adds_bos && !writes_bos(t)) TRY(buf_puts(out, "{{ bos_token }}"));
    TRY(put_output(out, t->start, NULL, NULL, ""));
    if (t->system_in_user) {
        TRY(buf_puts(out, "{% set ns = namespace(system="));
        if (t->default_system)
            TRY(put_default(out, t, t->default_system));
        else
            TRY(buf_puts(out, "''"));
        TRY(buf_puts(out, ") %}"));
    }
    TRY(buf_puts(out, "{% for message in messages %}"));
    TRY(put_default_turn(out, t));
    TRY(put_system(out, t, content));
    TRY(put_user(out, t, content));
    TRY(put_assistant(out, t, content));
    TRY(buf_puts(out, END_IF "{% endfor %}"));
    if (!*t->prompt) return OK;
    TRY(buf_puts(out, IF("add_generation_prompt")));
    TRY(put_output(out, t->prompt, NULL, NULL, ""));
    return buf_puts(out, END_IF);
}

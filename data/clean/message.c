#include "data/clean/message.h"

#include <string.h>
#include <strings.h>

#include "data/clean/chars.h"

static const char *find(const char *p, const char *end, const char *what)
{
    return p < end ? memmem(p, (size_t)(end - p), what, strlen(what)) : NULL;
}

static int starts(const char *p, const char *end, const char *with)
{
    size_t n = strlen(with);
    return (size_t)(end - p) >= n && !memcmp(p, with, n);
}

static struct text content(const struct buf *b)
{
    return (struct text){b->len ? b->data : "", b->len};
}

static enum status put(struct buf *out, const char *from, const char *to)
{
    return buf_append(out, from, (size_t)(to - from));
}

/* ---- before: <div.*?> and <span.*?> ---- */

static enum status drop_tags(struct text t, const char *tag, struct buf *out)
{
    const char *p = t.data, *end = p + t.n, *from;
    while ((from = find(p, end, tag))) {
        const char *line = memchr(from, '\n', (size_t)(end - from));
        if (!line) line = end;
        const char *gt = memchr(from, '>', (size_t)(line - from));
        TRY(put(out, p, gt ? from : line));
        p = gt ? gt + 1 : line;
    }
    return put(out, p, end);
}

/* ---- behind ---- */

#define COPY "Copy code"
#define FENCE "```"

/* Where `\s*?` and a fence end what stands at p: the end of the shortest text of one character or
 * more, NULL if no fence follows. `last`: the last fence there is, or NULL. *behind: the fence's
 * end. */
static const char *code_end(const char *p, const char *last, const char **behind)
{
    size_t first = 1;
    while (p + first < last && (p[first] & 0xc0) == 0x80) first++;
    if (!last || p + first > last) return NULL;
    const char *fence = find(p + first, last + 3, FENCE), *to = fence;
    *behind = fence + 3;
    while (to > p + first && chars_space_before(p + first, to)) {
        do to--;
        while ((*to & 0xc0) == 0x80);
    }
    return to;
}

/* ```\s*(.*?)(?:Copy code)+(.+?)\s*?``` becomes a fence, the language, a line end, the code. */
static enum status rebuild_code(struct text t, struct buf *out)
{
    const char *p = t.data, *end = p + t.n, *fence, *last = NULL;
    for (size_t i = t.n; i-- > 0 && !last;)
        if (starts(p + i, end, FENCE)) last = p + i;
    while ((fence = find(p, end, FENCE))) {
        const char *language = chars_skip_space(fence + 3, end), *code, *to, *behind;
        const char *copy = find(language, end, COPY);
        if (!copy) break;
        code = copy + strlen(COPY);
        while (starts(code, end, COPY)) code += strlen(COPY);
        while (!(to = code_end(code, last, &behind)) && code > copy + strlen(COPY))
            code -= strlen(COPY);
        if (!to) break;
        TRY(put(out, p, fence));
        TRY(buf_puts(out, FENCE));
        TRY(put(out, language, copy));
        TRY(buf_putc(out, '\n'));
        TRY(put(out, code, to));
        TRY(buf_puts(out, "\n" FENCE));
        p = behind;
    }
    return put(out, p, end);
}

static const char *digits(const char *p, const char *end)
{
    for (size_t n; (n = chars_digit(p, end)); p += n) continue;
    return p;
}

/* Behind \d+ `middle` \d+ at p, NULL if that is not there. */
static const char *two_numbers(const char *p, const char *end, const char *middle)
{
    const char *q = digits(p, end);
    if (q == p || !starts(q, end, middle)) return NULL;
    p = q + strlen(middle);
    q = digits(p, end);
    return q == p ? NULL : q;
}

/* Copy\d+ chars / \d+ words */
static enum status drop_counts(struct text t, struct buf *out)
{
    const char *p = t.data, *end = p + t.n, *from, *q;
    const char *look = p;
    while ((from = find(look, end, "Copy"))) {
        q = two_numbers(from + 4, end, " chars / ");
        look = from + 4;
        if (!q || !starts(q, end, " words")) continue;
        TRY(put(out, p, from));
        p = look = q + strlen(" words");
    }
    return put(out, p, end);
}

/* The first "Copy code", from p to the line's end, with nothing but white space between it and a
 * fence, whose end is *behind. */
static const char *empty_copy(const char *p, const char *line, const char *end, const char **behind)
{
    for (; (p = find(p, line, COPY)); p++) {
        const char *q = chars_skip_space(p + strlen(COPY), end);
        if (!starts(q, end, FENCE)) continue;
        *behind = q + 3;
        return p;
    }
    return NULL;
}

/* ```(.*?)Copy code\s*``` */
static enum status drop_empty_code(struct text t, struct buf *out)
{
    const char *p = t.data, *end = p + t.n, *look = p, *fence, *line = NULL, *copy = NULL, *behind;
    while ((fence = find(look, end, FENCE))) {
        look = fence + 1;
        if (!line || fence >= line || (copy && copy < fence + 3)) {
            line = memchr(fence, '\n', (size_t)(end - fence));
            if (!line) line = end;
            copy = empty_copy(fence + 3, line, end, &behind);
        }
        if (!copy) continue;
        TRY(put(out, p, fence));
        p = look = behind;
        line = NULL;
        copy = NULL;
    }
    return put(out, p, end);
}

static enum status drop_lines(struct text t, struct buf *out)
{
    const char *p = t.data, *end = p + t.n, *from;
    for (; (from = find(p, end, "\n\n\n")); p = from + 3) TRY(put(out, p, from + 1));
    return put(out, p, end);
}

static enum status pass(enum status (*fn)(struct text, struct buf *), struct text *t,
                        struct buf *out)
{
    buf_clear(out);
    TRY(fn(*t, out));
    *t = content(out);
    return OK;
}

static enum status polish(struct message_tools *x, struct text *t)
{
    *t = text_strip(*t);
    TRY(pass(rebuild_code, t, &x->a));
    const char *q = two_numbers(t->data, t->data + t->n, " / ");
    if (q) *t = (struct text){q, (size_t)(t->data + t->n - q)};
    TRY(pass(drop_counts, t, &x->b));
    TRY(pass(drop_empty_code, t, &x->a));
    TRY(pass(drop_lines, t, &x->b));
    *t = text_strip(*t);
    return OK;
}

enum status message_to_markdown(struct message_tools *x, struct text html, struct text *out)
{
    size_t most = 16 * html.n + 65536;
    buf_clear(&x->a);
    buf_clear(&x->b);
    x->a.max = x->b.max = x->markdown.piece.max = most;
    enum status s = drop_tags(html, "<div", &x->a);
    if (!s) s = drop_tags(content(&x->a), "<span", &x->b);
    if (!s) s = page_read(&x->html, content(&x->b));
    buf_clear(&x->b);
    if (!s) s = markdown_write(&x->markdown, &x->html, &x->b);
    *out = content(&x->b);
    if (!s) s = polish(x, out);
    return s == ERR_FORMAT ? ERR_DATA : s;
}

void message_tools_free(struct message_tools *t)
{
    page_free(&t->html);
    markdown_free(&t->markdown);
    buf_free(&t->a);
    buf_free(&t->b);
}

int message_has_markup(struct text t)
{
    static const char *const tags[] = {"p>",  "div>", "pre>", "code>", "li>",     "ol>",
                                       "ul>", "td>",  "tr>",  "span>", "strong>", "em>",
                                       "a>",  "h1>",  "h2>",  "h3>",   "table>"};
    const char *p = t.data, *end = p + t.n;
    for (; (p = find(p, end, "</")); p += 2)
        for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
            if (starts(p + 2, end, tags[i])) return 1;
    return 0;
}

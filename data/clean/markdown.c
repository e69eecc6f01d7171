#include "data/clean/markdown.h"

#include <stdio.h>
#include <string.h>

#include "data/clean/chars.h"

/* ---- looking at the tree ---- */

static struct page_node *at(const struct markdown *m, int32_t id)
{
    return id >= 0 ? &m->html->nodes[id] : NULL;
}

static enum page_tag tag_at(const struct markdown *m, int32_t id)
{
    return id >= 0 ? at(m, id)->tag : HTML_OTHER;
}

/* Lists, tables and their parts. */
static int is_nest(enum page_tag t)
{
    switch (t) {
    case HTML_ol:
    case HTML_ul:
    case HTML_li:
    case HTML_table:
    case HTML_thead:
    case HTML_tbody:
    case HTML_tfoot:
    case HTML_tr:
    case HTML_td:
    case HTML_th: return 1;
    default: return 0;
    }
}

/* Of an element named h and digits, whatever stands behind them: their number; -1: it is none. */
static long heading(const struct markdown *m, const struct page_node *node)
{
    struct text name = page_text(m->html, node);
    if (node->tag || name.n < 2 || name.data[0] != 'h') return -1;
    long n = -1;
    for (size_t i = 1; i < name.n && name.data[i] >= '0' && name.data[i] <= '9' && n < 1000000; i++)
        n = (n < 0 ? 0 : n) * 10 + (name.data[i] - '0');
    return n;
}

/* Headings and cells hold no blocks. */
static int makes_inline(const struct markdown *m, const struct page_node *node)
{
    struct text name = page_text(m->html, node);
    return node->tag == HTML_td || node->tag == HTML_th ||
           (!node->tag && name.n > 1 && name.data[0] == 'h' && name.data[1] >= '1' &&
            name.data[1] <= '6');
}

/* A sibling that counts: none, and text without a character, do not. */
static int is_there(const struct markdown *m, int32_t id)
{
    return id >= 0 && (at(m, id)->kind == HTML_ELEMENT || at(m, id)->n);
}

/* ---- writing ---- */

static enum status put(struct markdown *m, const char *s, size_t n)
{
    enum status st = buf_append(m->out, s, n);
    return st == ERR_FORMAT ? ERR_DATA : st;
}

static enum status puts_(struct markdown *m, const char *s) { return put(m, s, strlen(s)); }

static enum status put_text(struct markdown *m, struct text t) { return put(m, t.data, t.n); }

static enum status repeat(struct markdown *m, const char *s, size_t times)
{
    for (size_t i = 0; i < times; i++) TRY(puts_(m, s));
    return OK;
}

/* Takes what was written from `start` on back; valid until the next time. */
static enum status take(struct markdown *m, size_t start, struct text *out)
{
    buf_clear(&m->piece);
    TRY(buf_append(&m->piece, m->out->data + start, m->out->len - start));
    m->out->len = start;
    *out = (struct text){m->piece.data, m->piece.len};
    return OK;
}

/* `mark` at the beginning of every line, an empty last one included. */
static enum status put_lines(struct markdown *m, const char *mark, struct text t)
{
    const char *p = t.data, *end = p + t.n, *nl;
    if (!t.n) return OK;
    TRY(puts_(m, mark));
    for (; (nl = memchr(p, '\n', (size_t)(end - p))); p = nl + 1) {
        TRY(put(m, p, (size_t)(nl + 1 - p)));
        TRY(puts_(m, mark));
    }
    return put(m, p, (size_t)(end - p));
}

static struct text strip_end(struct text t)
{
    struct text bare = text_strip(t);
    return bare.n ? (struct text){t.data, (size_t)(bare.data + bare.n - t.data)}
                  : (struct text){t.data, 0};
}

/* White space around the text, down to one space on either side. */
struct chomped {
    const char *before, *after;
    struct text text;
};

static struct chomped chomp(struct text t)
{
    return (struct chomped){t.n && t.data[0] == ' ' ? " " : "",
                            t.n && t.data[t.n - 1] == ' ' ? " " : "", text_strip(t)};
}

/* ---- the elements ----
 *
 * Each gets the node, where its content begins in m->out, and whether it is within a heading or
 * cell, and rewrites that content. */

struct element {
    int32_t id;
    long index; /* among its parent's children */
    struct page_node *node;
    size_t start;
    int is_inline;
    const char *mark;
};

typedef enum status element_fn(struct markdown *m, const struct element *x);

static enum status write_marked(struct markdown *m, const struct element *x)
{
    struct text t;
    TRY(take(m, x->start, &t));
    struct chomped c = chomp(t);
    if (!c.text.n) return OK;
    TRY(puts_(m, c.before));
    TRY(puts_(m, x->mark));
    TRY(put_text(m, c.text));
    TRY(puts_(m, x->mark));
    return puts_(m, c.after);
}

static enum status write_code(struct markdown *m, const struct element *x)
{
    return tag_at(m, x->node->parent) == HTML_pre ? OK : write_marked(m, x);
}

/* ' "TITLE"' with the quotes in it escaped. */
static enum status put_title(struct markdown *m, struct text title)
{
    if (!title.n) return OK;
    TRY(puts_(m, " \""));
    for (size_t i = 0; i < title.n; i++) {
        if (title.data[i] == '"') TRY(puts_(m, "\\"));
        TRY(put(m, title.data + i, 1));
    }
    return puts_(m, "\"");
}

/* Whether t is `href` but for escaped underscores. */
static int is_address(struct text t, struct text href)
{
    size_t j = 0;
    for (size_t i = 0; i < t.n; i++, j++) {
        if (t.data[i] == '\\' && i + 1 < t.n && t.data[i + 1] == '_') i++;
        if (j == href.n || t.data[i] != href.data[j]) return 0;
    }
    return j == href.n;
}

static enum status write_link(struct markdown *m, const struct element *x)
{
    struct text t, href = page_attribute(m->html, x->node, HTML_HREF),
                   title = page_attribute(m->html, x->node, HTML_TITLE);
    TRY(take(m, x->start, &t));
    struct chomped c = chomp(t);
    if (!c.text.n || !href.n) return put_text(m, c.text);
    if (!title.n && is_address(c.text, href)) {
        TRY(puts_(m, "<"));
        TRY(put_text(m, href));
        return puts_(m, ">");
    }
    TRY(puts_(m, c.before));
    TRY(puts_(m, "["));
    TRY(put_text(m, c.text));
    TRY(puts_(m, "]("));
    TRY(put_text(m, href));
    TRY(put_title(m, title));
    TRY(puts_(m, ")"));
    return puts_(m, c.after);
}

static enum status write_image(struct markdown *m, const struct element *x)
{
    struct text t, alt = page_attribute(m->html, x->node, HTML_ALT);
    TRY(take(m, x->start, &t)); /* what lies in an image that was left open is not shown */
    if (x->is_inline) return put_text(m, alt);
    TRY(puts_(m, "!["));
    TRY(put_text(m, alt));
    TRY(puts_(m, "]("));
    TRY(put_text(m, page_attribute(m->html, x->node, HTML_SRC)));
    TRY(put_title(m, page_attribute(m->html, x->node, HTML_TITLE)));
    return puts_(m, ")");
}

static enum status write_break(struct markdown *m, const struct element *x)
{
    m->out->len = x->start;
    return x->is_inline ? OK : puts_(m, "  \n");
}

static enum status write_rule(struct markdown *m, const struct element *x)
{
    m->out->len = x->start;
    return puts_(m, "\n\n---\n\n");
}

static enum status write_quote(struct markdown *m, const struct element *x)
{
    struct text t;
    if (x->is_inline) return OK;
    TRY(take(m, x->start, &t));
    if (!t.n) return OK;
    TRY(puts_(m, "\n"));
    TRY(put_lines(m, "> ", t));
    return puts_(m, "\n\n");
}

static enum status write_paragraph(struct markdown *m, const struct element *x)
{
    return x->is_inline || m->out->len == x->start ? OK : puts_(m, "\n\n");
}

static enum status write_pre(struct markdown *m, const struct element *x)
{
    struct text t;
    TRY(take(m, x->start, &t));
    if (!t.n) return OK;
    TRY(puts_(m, "\n```\n"));
    TRY(put_text(m, t));
    return puts_(m, "\n```\n");
}

static enum status write_heading(struct markdown *m, const struct element *x)
{
    struct text t;
    long level = heading(m, x->node);
    if (x->is_inline) return OK;
    TRY(take(m, x->start, &t));
    t = strip_end(t);
    if (level > 2) {
        TRY(repeat(m, "#", (size_t)level));
        TRY(puts_(m, " "));
        TRY(put_text(m, t));
        return puts_(m, "\n\n");
    }
    if (!t.n) return OK;
    TRY(put_text(m, t));
    TRY(puts_(m, "\n"));
    TRY(repeat(m, level == 1 ? "=" : "-", chars_count(t)));
    return puts_(m, "\n\n");
}

static enum status write_list(struct markdown *m, const struct element *x)
{
    struct text t;
    enum page_tag next = tag_at(m, x->node->next);
    int is_nested = 0;
    for (int32_t id = x->id; id >= 0; id = at(m, id)->parent) is_nested |= tag_at(m, id) == HTML_li;
    if (!is_nested)
        return is_there(m, x->node->next) && next != HTML_ul && next != HTML_ol ? puts_(m, "\n")
                                                                                : OK;
    TRY(take(m, x->start, &t));
    TRY(puts_(m, "\n"));
    size_t start = m->out->len;
    TRY(put_lines(m, "\t", t));
    struct text all = {m->out->data + start, m->out->len - start};
    m->out->len = start + strip_end(all).n;
    return OK;
}

/* Python's int(): white space around, a sign, digits. 1 if it is none of that. */
static long start_of(struct text t)
{
    t = text_strip(t);
    size_t i = t.n && (t.data[0] == '-' || t.data[0] == '+');
    long v = 0;
    if (i == t.n || t.n > 10) return 1;
    for (size_t k = i; k < t.n; k++) {
        if (t.data[k] < '0' || t.data[k] > '9') return 1;
        v = v * 10 + (t.data[k] - '0');
    }
    return t.data[0] == '-' ? -v : v;
}

static enum status put_bullet(struct markdown *m, const struct element *x)
{
    static const char *const bullets[] = {"* ", "+ ", "- "};
    char text[32];
    int depth = 0;
    if (tag_at(m, x->node->parent) == HTML_ol) {
        struct text start = page_attribute(m->html, at(m, x->node->parent), HTML_START);
        snprintf(text, sizeof text, "%ld. ", (start.n ? start_of(start) : 1) + x->index);
        return puts_(m, text);
    }
    for (int32_t id = x->node->parent; id >= 0; id = at(m, id)->parent)
        depth += tag_at(m, id) == HTML_ul;
    return puts_(m, bullets[(depth + 2) % 3]);
}

static enum status write_item(struct markdown *m, const struct element *x)
{
    struct text t;
    TRY(take(m, x->start, &t));
    TRY(put_bullet(m, x));
    TRY(put_text(m, text_strip(t)));
    return puts_(m, "\n");
}

static enum status write_table(struct markdown *m, const struct element *x)
{
    struct text t;
    TRY(take(m, x->start, &t));
    TRY(puts_(m, "\n\n"));
    TRY(put_text(m, t));
    return puts_(m, "\n");
}

static enum status write_cell(struct markdown *m, const struct element *x)
{
    struct text t;
    TRY(take(m, x->start, &t));
    TRY(puts_(m, " "));
    TRY(put_text(m, t));
    return puts_(m, " |");
}

/* All cells below a node, tables in tables included; *heads: how many are <th>. */
static size_t count_cells(const struct markdown *m, int32_t top, size_t *heads)
{
    size_t n = 0;
    int32_t id = at(m, top)->first;
    *heads = 0;
    while (id >= 0) {
        n += tag_at(m, id) == HTML_td || tag_at(m, id) == HTML_th;
        *heads += tag_at(m, id) == HTML_th;
        if (at(m, id)->first >= 0) {
            id = at(m, id)->first;
            continue;
        }
        while (id != top && at(m, id)->next < 0) id = at(m, id)->parent;
        if (id == top) break;
        id = at(m, id)->next;
    }
    return n;
}

/* "| a | a |\n" */
static enum status put_row(struct markdown *m, const char *cell, size_t n)
{
    TRY(puts_(m, "| "));
    for (size_t i = 0; i < n; i++) {
        TRY(puts_(m, i ? " | " : ""));
        TRY(puts_(m, cell));
    }
    return puts_(m, " |\n");
}

static enum status write_row(struct markdown *m, const struct element *x)
{
    struct text t;
    size_t heads, n = count_cells(m, x->id, &heads);
    int32_t parent = x->node->parent;
    int is_first = !is_there(m, x->node->prev);
    enum page_tag above = tag_at(m, parent);
    TRY(take(m, x->start, &t));
    if (is_first && heads != n &&
        (above == HTML_table || (above == HTML_tbody && !is_there(m, at(m, parent)->prev)))) {
        TRY(put_row(m, "", n));
        TRY(put_row(m, "---", n));
    }
    TRY(puts_(m, "|"));
    TRY(put_text(m, t));
    TRY(puts_(m, "\n"));
    return is_first && heads == n ? put_row(m, "---", n) : OK;
}

static const struct {
    element_fn *write;
    const char *mark;
} elements[NUM_HTML_TAGS] = {
    [HTML_a] = {write_link, NULL},         [HTML_b] = {write_marked, "**"},
    [HTML_blockquote] = {write_quote, ""}, [HTML_br] = {write_break, NULL},
    [HTML_code] = {write_code, "`"},       [HTML_del] = {write_marked, "~~"},
    [HTML_em] = {write_marked, "*"},       [HTML_hr] = {write_rule, NULL},
    [HTML_i] = {write_marked, "*"},        [HTML_img] = {write_image, NULL},
    [HTML_kbd] = {write_code, "`"},        [HTML_li] = {write_item, NULL},
    [HTML_list] = {write_list, NULL},      [HTML_ol] = {write_list, NULL},
    [HTML_p] = {write_paragraph, NULL},    [HTML_pre] = {write_pre, NULL},
    [HTML_s] = {write_marked, "~~"},       [HTML_samp] = {write_code, "`"},
    [HTML_strong] = {write_marked, "**"},  [HTML_sub] = {write_marked, ""},
    [HTML_sup] = {write_marked, ""},       [HTML_table] = {write_table, NULL},
    [HTML_td] = {write_cell, NULL},        [HTML_th] = {write_cell, NULL},
    [HTML_tr] = {write_row, NULL},         [HTML_ul] = {write_list, NULL},
};

/* ---- text ---- */

/* Runs of spaces and tabs are one space, but in <pre>; * and _ are escaped, but in code. */
static enum status write_text(struct markdown *m, const struct page_node *node)
{
    struct text t = page_text(m->html, node);
    const struct page_node *parent = at(m, node->parent);
    enum page_tag above = parent->tag, next = tag_at(m, node->next);
    int in_code = above == HTML_code || above == HTML_pre;
    int in_pre = above == HTML_pre || (above == HTML_code && tag_at(m, parent->parent) == HTML_pre);
    size_t start = m->out->len;
    for (size_t i = 0; i < t.n; i++) {
        char c = t.data[i];
        if ((c == ' ' || c == '\t') && !in_pre) {
            while (i + 1 < t.n && (t.data[i + 1] == ' ' || t.data[i + 1] == '\t')) i++;
            c = ' ';
        }
        if ((c == '*' || c == '_') && !in_code) TRY(put(m, "\\", 1));
        TRY(put(m, &c, 1));
    }
    if (above == HTML_li && (!is_there(m, node->next) || next == HTML_ul || next == HTML_ol)) {
        struct text all = {m->out->data + start, m->out->len - start};
        m->out->len = start + strip_end(all).n;
    }
    return OK;
}

/* ---- the walk ---- */

/* White space at the ends of a list or table, or beside its parts, is taken out. The child behind
 * one that was taken out is passed over, since markdownify changes the list it walks along. */
static void drop_blanks(struct markdown *m, int32_t id)
{
    for (int32_t child = at(m, id)->first, next; child >= 0; child = next) {
        const struct page_node *x = at(m, child);
        next = x->next;
        if (x->kind == HTML_ELEMENT || text_strip(page_text(m->html, x)).n) continue;
        if (is_there(m, x->prev) && is_there(m, x->next) && !is_nest(tag_at(m, x->prev)) &&
            !is_nest(tag_at(m, x->next)))
            continue;
        page_unlink(m->html, child);
        if (next >= 0) next = at(m, next)->next;
    }
}

static enum status write_node(struct markdown *m, int32_t id, long index, int is_inline)
{
    struct page_node *node = at(m, id);
    size_t start = m->out->len;
    int within = is_inline || (id && makes_inline(m, node));
    if (is_nest(node->tag)) drop_blanks(m, id);
    long number = 0;
    for (int32_t child = node->first; child >= 0; child = at(m, child)->next, number++) {
        if (at(m, child)->kind == HTML_ELEMENT)
            TRY(write_node(m, child, number, within));
        else if (at(m, child)->kind == HTML_TEXT)
            TRY(write_text(m, at(m, child)));
    }
    const struct element x = {id, index, node, start, is_inline, elements[node->tag].mark};
    if (elements[node->tag].write) return elements[node->tag].write(m, &x);
    return id && heading(m, node) >= 0 ? write_heading(m, &x) : OK;
}

enum status markdown_write(struct markdown *m, struct page *h, struct buf *out)
{
    m->html = h;
    m->out = out;
    if (!m->piece.max) buf_init(&m->piece, out->max);
    return write_node(m, 0, 0, 0);
}

void markdown_free(struct markdown *m) { buf_free(&m->piece); }

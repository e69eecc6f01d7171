/* The scanner of Python 3.11's html.parser and _markupbase: regular expressions there, functions
 * here, named after the methods they stand for. */
#include <string.h>
#include <strings.h>

#include "data/clean/chars.h"
#include "data/clean/entities.h"
#include "data/clean/page_build.h"

/* Bytes that may be looked at, times the text's length: unclosed markup is looked at again and
 * again, without bound. */
#define PATIENCE 64

/* The text is gone over twice, as feed() and close() do: what the first time was incomplete is
 * text the second time (`final`). */
struct scan {
    const char *begin, *end, *at;
    struct page_builder *b;
    enum page_tag verbatim; /* HTML_script or HTML_style: inside of it */
    int final;
    size_t fuel;
};

/* Where a piece of markup ends; NULL: it does not (incomplete). */
struct found {
    const char *end;
};

static int spend(struct scan *s, size_t n)
{
    if (n > s->fuel) return 0;
    s->fuel -= n;
    return 1;
}

/* The first `c` in p[..end), NULL if there is none; ERR_DATA out of patience. */
static enum status seek(struct scan *s, const char *p, char c, const char **out)
{
    *out = p < s->end ? memchr(p, c, (size_t)(s->end - p)) : NULL;
    return spend(s, (size_t)((*out ? *out : s->end) - p) + 1) ? OK : ERR_DATA;
}

static struct text between(const char *from, const char *to)
{
    return (struct text){from, (size_t)(to - from)};
}

static int starts(const struct scan *s, const char *p, const char *with)
{
    size_t n = strlen(with);
    return (size_t)(s->end - p) >= n && !memcmp(p, with, n);
}

static int is_letter(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }
static int is_alnum(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }

static int in_tag_name(char c) { return c && !strchr("\t\n\r\f />", c); }

/* ---- tags ---- */

/* (?:\s|/(?!>))* */
static const char *skip_filler(const struct scan *s, const char *p)
{
    for (;;) {
        size_t n = chars_space(p, s->end);
        if (!n && p < s->end && *p == '/' && !starts(s, p, "/>")) n = 1;
        if (!n) return p;
        p += n;
    }
}

struct attribute {
    struct text name, value;
};

/* The value behind the equals signs at q, if there is one: *out is its end, `after` otherwise. */
static const char *scan_value(const struct scan *s, const char *q, const char *after,
                              struct text *value)
{
    const char *signs = q;
    while (q < s->end && *q == '=') q++;
    const char *v = chars_skip_space(q, s->end);
    if (v < s->end && (*v == '"' || *v == '\'')) {
        const char *close = memchr(v + 1, *v, (size_t)(s->end - v - 1));
        if (close) {
            *value = between(v + 1, close);
            return close + 1;
        }
        if (v > q) return v; /* an empty value before the white space that was skipped */
        if (q - signs == 1) return after;
        v = q - 1; /* the last equals sign begins a bare value */
    }
    const char *p = v;
    while (p < s->end && *p != '>' && !chars_space(p, s->end)) p++;
    *value = between(v, p);
    return p;
}

/* The attribute at p and the filler behind it; NULL: there is none. */
static const char *scan_attribute(const struct scan *s, const char *p, struct attribute *a)
{
    const char *from = p;
    char before = p[-1];
    if (before != '"' && before != '\'' && before != '/' && !chars_space_before(s->begin, p))
        return NULL;
    if (p == s->end || *p == '/' || *p == '>' || chars_space(p, s->end)) return NULL;
    do p++;
    while (p < s->end && !strchr("/=>", *p ? *p : 'x') && !chars_space(p, s->end));
    a->name = between(from, p);
    a->value = (struct text){"", 0};
    const char *q = chars_skip_space(p, s->end);
    if (q < s->end && *q == '=') p = scan_value(s, q, p, &a->value);
    return skip_filler(s, p);
}

/* check_for_whole_start_tag */
static struct found whole_start_tag(const struct scan *s, const char *p, const char *name_end)
{
    struct attribute a;
    const char *next;
    for (p = name_end; p < s->end && (*p == '/' || chars_space(p, s->end));)
        p += *p == '/' ? 1 : chars_space(p, s->end);
    while ((next = scan_attribute(s, p, &a))) p = next;
    p = chars_skip_space(p, s->end);
    if (p == s->end) return (struct found){NULL};
    if (*p == '>') return (struct found){p + 1};
    if (*p == '/') return (struct found){starts(s, p, "/>") ? p + 2 : NULL};
    return (struct found){is_letter(*p) || *p == '=' ? NULL : p};
}

#define NAME_MAX 128 /* bytes of a tag's name; longer ones are as good as unknown */

static struct text lower(struct text name, char out[NAME_MAX])
{
    size_t n = name.n < NAME_MAX ? name.n : NAME_MAX;
    for (size_t i = 0; i < n; i++)
        out[i] =
            (char)(name.data[i] >= 'A' && name.data[i] <= 'Z' ? name.data[i] | 32 : name.data[i]);
    return (struct text){out, n};
}

static enum status open_element(struct scan *s, struct text name, const char *attributes,
                                const char *end, int slash)
{
    struct attribute a;
    enum page_tag tag;
    TRY(page_build_start(s->b, name, &tag));
    for (const char *p = attributes; p < end && (p = scan_attribute(s, p, &a));)
        TRY(page_build_attribute(s->b, a.name, a.value));
    if (!slash && (tag == HTML_script || tag == HTML_style)) s->verbatim = tag;
    return page_build_opened(s->b, name, slash);
}

static enum status parse_starttag(struct scan *s, const char *p, struct found *out)
{
    struct attribute a;
    char lowered[NAME_MAX];
    const char *name_end = p + 1, *k, *next;
    while (name_end < s->end && in_tag_name(*name_end)) name_end++;
    *out = whole_start_tag(s, p, name_end);
    if (!spend(s, (size_t)((out->end ? out->end : s->end) - p))) return ERR_DATA;
    if (!out->end) return OK;
    const char *attributes = k = skip_filler(s, name_end);
    while (k < out->end && (next = scan_attribute(s, k, &a))) k = next;
    struct text rest = text_strip(k < out->end ? between(k, out->end) : (struct text){"", 0});
    int slash = rest.n == 2 && !memcmp(rest.data, "/>", 2);
    if (!slash && !(rest.n == 1 && *rest.data == '>'))
        return page_build_data(s->b, between(p, out->end));
    return open_element(s, lower(between(p + 1, name_end), lowered), attributes, out->end, slash);
}

/* </\s*([a-zA-Z][-.a-zA-Z0-9:_]*)\s*>, its end or NULL. */
static const char *plain_end_tag(const struct scan *s, const char *p, struct text *name)
{
    const char *from = chars_skip_space(p + 2, s->end), *to = from;
    if (from == s->end || !is_letter(*from)) return NULL;
    while (to < s->end && (is_alnum(*to) || (*to && strchr("-.:_", *to)))) to++;
    *name = between(from, to);
    to = chars_skip_space(to, s->end);
    return to < s->end && *to == '>' ? to + 1 : NULL;
}

static enum status parse_endtag(struct scan *s, const char *p, struct found *out)
{
    struct text name;
    char lowered[NAME_MAX];
    const char *gt;
    TRY(seek(s, p + 1, '>', &gt));
    *out = (struct found){gt ? gt + 1 : NULL};
    if (!gt) return OK;
    const char *end = plain_end_tag(s, p, &name);
    if (end) {
        s->verbatim = HTML_OTHER;
        out->end = end;
        return page_build_stop(s->b, lower(name, lowered));
    }
    if (p + 2 == gt) return OK; /* </> */
    if (!is_letter(p[2])) return page_build_node(s->b, HTML_COMMENT, between(p + 2, gt));
    const char *to = p + 2;
    while (in_tag_name(*to)) to++;
    name = between(p + 2, to);
    TRY(seek(s, skip_filler(s, to), '>', &gt));
    out->end = gt ? gt + 1 : s->end;
    return page_build_stop(s->b, lower(name, lowered));
}

/* ---- declarations ---- */

/* The first `first` \s* `last` from p on, its end in *end. */
static enum status seek_pair(struct scan *s, const char *p, const char *first, char last,
                             const char **at, const char **end)
{
    for (;; p = *at + 1) {
        TRY(seek(s, p, *first, at));
        if (!*at) return OK;
        const char *q = *at;
        for (const char *c = first; *c; c++) {
            if (c > first && *first == ']') q = chars_skip_space(q, s->end);
            if (q == s->end || *q != *c) goto next;
            q++;
        }
        q = chars_skip_space(q, s->end);
        if (!spend(s, (size_t)(q - *at))) return ERR_DATA;
        if (q < s->end && *q == last) {
            *end = q + 1;
            return OK;
        }
    next:;
    }
}

/* [a-zA-Z][-_.a-zA-Z0-9]*\s* at p. */
static const char *scan_name(const struct scan *s, const char *p, struct text *name)
{
    const char *to = p;
    while (to < s->end && (is_alnum(*to) || (*to && strchr("-_.", *to)))) to++;
    *name = between(p, to);
    return chars_skip_space(to, s->end);
}

static int one_of(struct text name, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == name.n && !strncasecmp(*list, name.data, name.n)) return 1;
    return 0;
}

static enum status parse_marked_section(struct scan *s, const char *p, struct found *out)
{
    static const char *const standard[] = {"temp", "cdata", "ignore", "include", "rcdata", NULL};
    static const char *const office[] = {"if", "else", "endif", NULL};
    struct text name;
    const char *at, *end;
    *out = (struct found){NULL};
    if (p + 3 == s->end) return OK;
    if (!is_letter(p[3])) return ERR_DATA;
    if (scan_name(s, p + 3, &name) == s->end) return OK;
    if (one_of(name, standard))
        TRY(seek_pair(s, p + 3, "]]", '>', &at, &end));
    else if (one_of(name, office))
        TRY(seek_pair(s, p + 3, "]", '>', &at, &end));
    else
        return ERR_DATA;
    if (!at) return OK;
    out->end = end;
    struct text content = between(p + 3, at);
    if (content.n >= 6 && !strncasecmp(content.data, "CDATA[", 6)) content = between(p + 9, at);
    return page_build_node(s->b, HTML_TEXT, content);
}

static enum status parse_comment(struct scan *s, const char *p, struct found *out)
{
    const char *at, *end;
    TRY(seek_pair(s, p + 4, "--", '>', &at, &end));
    *out = (struct found){at ? end : NULL};
    return at ? page_build_node(s->b, HTML_COMMENT, between(p + 4, at)) : OK;
}

/* <!DOCTYPE ...>, <! ...> and <? ...>: up to the next '>'. */
static enum status parse_to_gt(struct scan *s, const char *p, struct found *out)
{
    const char *gt, *from = p + 2;
    int doctype = s->end - p >= 9 && !strncasecmp(p, "<!doctype", 9);
    TRY(seek(s, doctype ? p + 9 : from, '>', &gt));
    *out = (struct found){gt ? gt + 1 : NULL};
    if (!gt) return OK;
    if (doctype) from = gt - from > 8 ? from + 8 : gt;
    return page_build_node(s->b, p[1] == '?' ? HTML_TEXT : HTML_COMMENT, between(from, gt));
}

/* ---- goahead ---- */

/* A '<' at s->at. *stop: it cannot be told what this is before the end is known. */
static enum status take_markup(struct scan *s, int *stop)
{
    const char *p = s->at, *k;
    struct found f = {NULL};
    if (p + 1 < s->end && is_letter(p[1]))
        TRY(parse_starttag(s, p, &f));
    else if (starts(s, p, "</"))
        TRY(parse_endtag(s, p, &f));
    else if (starts(s, p, "<!--"))
        TRY(parse_comment(s, p, &f));
    else if (starts(s, p, "<!["))
        TRY(parse_marked_section(s, p, &f));
    else if (starts(s, p, "<?") || starts(s, p, "<!"))
        TRY(parse_to_gt(s, p, &f));
    else if (p + 1 < s->end) {
        f.end = p + 1;
        TRY(page_build_data(s->b, between(p, f.end)));
    } else {
        *stop = 1;
        return OK;
    }
    if (f.end) {
        s->at = f.end;
        return OK;
    }
    if (!s->final) {
        *stop = 1;
        return OK;
    }
    TRY(seek(s, p + 1, '>', &k));
    if (k) {
        k++;
    } else {
        TRY(seek(s, p + 1, '<', &k));
        if (!k) k = p + 1;
    }
    s->at = k;
    return page_build_data(s->b, between(p, k));
}

/* &#123; at s->at */
static enum status take_number(struct scan *s, int *stop)
{
    const char *p = s->at + 2, *semicolon;
    int hex = p < s->end && (*p | 32) == 'x';
    const char *from = p + hex, *to = from;
    while (to < s->end &&
           ((*to >= '0' && *to <= '9') || (hex && (*to | 32) >= 'a' && (*to | 32) <= 'f')))
        to++;
    int more =
        to < s->end && !((*to >= '0' && *to <= '9') || ((*to | 32) >= 'a' && (*to | 32) <= 'f'));
    if (to > from && more) {
        s->at = to + (*to == ';');
        s->b->has_data = 1;
        enum status st = entity_put_number(&s->b->data, between(from, to), hex);
        return st == ERR_FORMAT ? ERR_DATA : st;
    }
    *stop = 1;
    TRY(seek(s, s->at, ';', &semicolon));
    if (!semicolon) return OK;
    s->at += 2;
    return page_build_data(s->b, between(s->at - 2, s->at));
}

/* &name; at s->at */
static enum status take_reference(struct scan *s, int *stop)
{
    const char *p = s->at + 1, *to = p;
    if (p < s->end && *p == '#') return take_number(s, stop);
    if (p == s->end) {
        *stop = 1;
        return OK;
    }
    if (!is_letter(*p)) {
        s->at = p;
        return page_build_data(s->b, between(p - 1, p));
    }
    while (to < s->end && (is_alnum(*to) || *to == '-' || *to == '.')) to++;
    while (to == s->end && to > p && !is_alnum(to[-1])) to--;
    if (to == s->end) { /* no character behind the name: it may go on, or it is text */
        *stop = 1;
        if (s->final && to - p == 1) s->at++;
        return OK;
    }
    s->at = to + (*to == ';');
    const char *text = entity_find(p, (size_t)(to - p), 0);
    if (text) return page_build_data(s->b, (struct text){text, strlen(text)});
    return page_build_data(s->b, between(p - 1, to));
}

/* The next place that is not plain text; NULL: none before the end tag of a script was found. */
static enum status interesting(struct scan *s, const char **out)
{
    static const char *const names[] = {"script", "style"};
    const char *p = s->at;
    if (!s->verbatim) {
        while (p < s->end && *p != '<' && *p != '&') p++;
        *out = p;
        return OK;
    }
    const char *name = names[s->verbatim == HTML_style];
    for (size_t n = strlen(name);; p++) {
        TRY(seek(s, p, '<', &p));
        *out = p;
        if (!p) return OK;
        if (!starts(s, p, "</")) continue;
        const char *q = chars_skip_space(p + 2, s->end);
        if ((size_t)(s->end - q) < n || strncasecmp(q, name, n)) continue;
        q = chars_skip_space(q + n, s->end);
        if (q < s->end && *q == '>') return OK;
    }
}

static enum status go(struct scan *s)
{
    int stop = 0;
    while (s->at < s->end && !stop) {
        const char *j;
        TRY(interesting(s, &j));
        if (!j) break;
        if (j > s->at) TRY(page_build_data(s->b, between(s->at, j)));
        s->at = j;
        if (j == s->end) break;
        TRY(*j == '<' ? take_markup(s, &stop) : take_reference(s, &stop));
    }
    if (!s->final || s->at == s->end || s->verbatim) return OK;
    return page_build_data(s->b, between(s->at, s->end));
}

enum status page_read(struct page *h, struct text source)
{
    struct page_builder b;
    enum status st = page_build_begin(&b, h);
    struct scan s = {.begin = source.data,
                     .end = source.data + source.n,
                     .at = source.data,
                     .b = &b,
                     .fuel = PATIENCE * source.n + 1024};
    if (!st) st = go(&s);
    s.final = 1;
    if (!st) st = go(&s);
    if (!st) st = page_build_end(&b);
    page_build_free(&b);
    return st;
}

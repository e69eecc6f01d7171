#include "data/tokenizer/tok_lists.h"

#include <string.h>

#include "data/tokenizer/utf8.h"

/* ---- finding them ---- */

static int is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && is_space(*p)) p++;
    return p;
}

/* Behind the string that begins at p, or NULL. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end; p++) {
        if (*p == '"') return p + 1;
        if (*p == '\\') p++;
    }
    return NULL;
}

/* Behind the value that begins at p, or NULL; the commas right inside its brackets. */
static const char *skip_value(const char *p, const char *end, size_t *commas)
{
    size_t depth = 0;
    *commas = 0;
    while (p < end) {
        char c = *p;
        if (c == '"') {
            p = skip_string(p, end);
            if (!p || !depth) return p;
            continue;
        }
        if (!depth && (c == ',' || c == '}' || c == ']')) return p; /* behind a number or a word */
        if (c == ',' && depth == 1) ++*commas;
        if (c == '{' || c == '[') depth++;
        p++;
        if ((c == '}' || c == ']') && !--depth) return p;
    }
    return NULL;
}

struct member {
    const char *key, *key_end, *value;
};

/* The next member of the object that p, behind its bracket or behind a value, is inside of. */
static int next_member(const char *p, const char *end, int first, struct member *out)
{
    p = skip_space(p, end);
    if (!first && (p == end || *p++ != ',')) return 0;
    out->key = skip_space(p, end);
    if (out->key == end || *out->key != '"') return 0;
    out->key_end = skip_string(out->key, end);
    if (!out->key_end) return 0;
    p = skip_space(out->key_end, end);
    if (p == end || *p != ':') return 0;
    out->value = skip_space(p + 1, end);
    return out->value < end;
}

static int is_named(const struct member *m, const char *name)
{
    size_t n = strlen(name);
    return (size_t)(m->key_end - m->key) == n + 2 && !memcmp(m->key + 1, name, n);
}

static void find_lists(const char *model, const char *end, struct token_lists *out)
{
    struct member m;
    const char *p = model + 1;
    for (int first = 1; next_member(p, end, first, &m); first = 0) {
        size_t commas;
        p = skip_value(m.value, end, &commas);
        if (!p) return;
        struct token_list list = {m.value + 1, p - 1, commas + 1};
        if (is_named(&m, "vocab") && *m.value == '{') out->vocab = list;
        if (is_named(&m, "merges") && *m.value == '[') out->merges = list;
    }
}

void token_lists_find(const char *text, size_t n, struct token_lists *out)
{
    const char *end = text + n, *p = skip_space(text, end);
    struct member m;
    *out = (struct token_lists){0};
    if (p == end || *p++ != '{') return;
    for (int first = 1; next_member(p, end, first, &m); first = 0) {
        size_t commas;
        if (is_named(&m, "model") && *m.value == '{') {
            find_lists(m.value, end, out);
            return;
        }
        p = skip_value(m.value, end, &commas);
        if (!p) return;
    }
}

enum status token_lists_rest(const char *text, size_t n, const struct token_lists *l,
                             struct buf *out)
{
    const struct token_list *first = &l->vocab, *second = &l->merges;
    if (second->start && second->start < first->start) first = second, second = &l->vocab;
    const struct token_list *order[] = {first, second};
    const char *at = text;
    for (int i = 0; i < 2; i++) {
        if (!order[i]->start) continue;
        TRY(buf_append(out, at, (size_t)(order[i]->start - at)));
        at = order[i]->end;
    }
    return buf_append(out, at, (size_t)(text + n - at));
}

/* ---- reading them ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The four digits at w->at as a number, -1 when they are none. */
static int32_t read_hex(struct token_walk *w)
{
    int32_t v = 0;
    if (w->end - w->at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*w->at++);
        if (digit < 0) return -1;
        v = v << 4 | digit;
    }
    return v;
}

/* Behind "\u": the character, or -1. No U+0000, no half of a pair. */
static int32_t read_unicode(struct token_walk *w)
{
    int32_t high = read_hex(w);
    if (high <= 0 || (high >= 0xDC00 && high <= 0xDFFF)) return -1;
    if (high < 0xD800 || high > 0xDBFF) return high;
    if (w->end - w->at < 6 || w->at[0] != '\\' || w->at[1] != 'u') return -1;
    w->at += 2;
    int32_t low = read_hex(w);
    return low < 0xDC00 || low > 0xDFFF ? -1 : 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

/* Behind a backslash: appends what it stands for. */
static enum token_walk_result read_escape(struct token_walk *w, struct buf *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c[4];
    size_t n = 1;
    if (w->at == w->end) return WALK_BAD;
    const char *known = *w->at ? strchr(from, *w->at) : NULL;
    if (known) {
        c[0] = to[known - from];
        w->at++;
    } else {
        if (*w->at++ != 'u') return WALK_BAD;
        int32_t cp = read_unicode(w);
        if (cp < 0) return WALK_BAD;
        n = (size_t)utf8_encode((uint32_t)cp, c);
    }
    return buf_append(out, c, n) ? WALK_NO_MEMORY : WALK_ENTRY;
}

static enum token_walk_result read_escaped(struct token_walk *w, const char *start,
                                           struct buf *scratch, struct token_text *out)
{
    buf_clear(scratch);
    for (;;) {
        if (buf_append(scratch, start, (size_t)(w->at - start))) return WALK_NO_MEMORY;
        if (w->at == w->end || (unsigned char)*w->at < 0x20) return WALK_BAD;
        if (*w->at++ == '"') break;
        enum token_walk_result r = read_escape(w, scratch);
        if (r != WALK_ENTRY) return r;
        start = w->at;
        while (w->at < w->end && *w->at != '"' && *w->at != '\\' && (unsigned char)*w->at >= 0x20)
            w->at++;
    }
    *out = (struct token_text){scratch->data, scratch->len};
    return WALK_ENTRY;
}

/* A string; mostly it stands in the text as it is. */
static enum token_walk_result read_string(struct token_walk *w, struct buf *scratch,
                                          struct token_text *out)
{
    if (w->at == w->end || *w->at != '"') return WALK_BAD;
    const char *start = ++w->at;
    while (w->at < w->end && *w->at != '"' && *w->at != '\\' && (unsigned char)*w->at >= 0x20)
        w->at++;
    if (w->at == w->end || *w->at != '"') return read_escaped(w, start, scratch, out);
    *out = (struct token_text){start, (size_t)(w->at++ - start)};
    return WALK_ENTRY;
}

/* Over white space to `c`, and over it. */
static int take(struct token_walk *w, char c)
{
    w->at = skip_space(w->at, w->end);
    if (w->at == w->end || *w->at != c) return 0;
    w->at = skip_space(w->at + 1, w->end);
    return 1;
}

/* To the next entry. */
static enum token_walk_result step(struct token_walk *w)
{
    w->at = skip_space(w->at, w->end);
    if (!w->begun) {
        w->begun = 1;
        return w->at == w->end ? WALK_END : WALK_ENTRY;
    }
    if (w->at == w->end) return WALK_END;
    return take(w, ',') ? WALK_ENTRY : WALK_BAD;
}

enum token_walk_result token_walk_vocab(struct token_walk *w, struct token_text *spelling,
                                        long long *id)
{
    enum token_walk_result r = step(w);
    if (r == WALK_ENTRY) r = read_string(w, &w->scratch[0], spelling);
    if (r != WALK_ENTRY) return r;
    if (!take(w, ':')) return WALK_BAD;
    const char *digits = w->at;
    for (*id = 0; w->at < w->end && *w->at >= '0' && *w->at <= '9' && *id < 1LL << 40; w->at++)
        *id = *id * 10 + (*w->at - '0');
    if (w->at == digits) *id = -1;
    if (w->at < w->end && !strchr(",}] \t\r\n", *w->at)) *id = -1;
    return *digits == '0' && w->at > digits + 1 ? WALK_BAD : WALK_ENTRY;
}

enum token_walk_result token_walk_merge(struct token_walk *w, struct token_text part[2])
{
    enum token_walk_result r;
    do {
        r = step(w);
        if (r != WALK_ENTRY) return r;
        if (take(w, '[')) {
            r = read_string(w, &w->scratch[0], &part[0]);
            if (r == WALK_ENTRY && !take(w, ',')) r = WALK_BAD;
            if (r == WALK_ENTRY) r = read_string(w, &w->scratch[1], &part[1]);
            return r == WALK_ENTRY && !take(w, ']') ? WALK_BAD : r;
        }
        r = read_string(w, &w->scratch[0], &part[0]);
        if (r != WALK_ENTRY) return r;
    } while (part[0].n >= 8 && !memcmp(part[0].data, "#version", 8));
    const char *end = part[0].data + part[0].n, *space = memchr(part[0].data, ' ', part[0].n);
    if (!space || memchr(space + 1, ' ', (size_t)(end - space - 1))) return WALK_BAD;
    part[1] = (struct token_text){space + 1, (size_t)(end - space - 1)};
    part[0].n = (size_t)(space - part[0].data);
    return WALK_ENTRY;
}

#include "data/tokenizer/added.h"

#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "data/tokenizer/utf8.h"

void added_matcher_free(struct added_matcher *m)
{
    mem_free(m->nodes);
    *m = (struct added_matcher){0};
}

static int32_t new_node(struct added_matcher *m, unsigned char byte)
{
    if (m->count + 1 >= m->cap) {
        if (m->cap > INT32_MAX / 4) return -1;
        int32_t cap = m->cap ? m->cap * 2 : 256;
        struct added_node *nodes = mem_resize(m->nodes, (size_t)cap, sizeof *nodes);
        if (!nodes) return -1;
        m->nodes = nodes;
        m->cap = cap;
    }
    if (!m->count) m->count = 1;
    m->nodes[m->count] = (struct added_node){.child = -1, .sibling = -1, .id = -1, .byte = byte};
    return m->count++;
}

static int32_t child_of(const struct added_matcher *m, int32_t node, unsigned char byte)
{
    int32_t c = m->nodes[node].child;
    while (c >= 0 && m->nodes[c].byte != byte) c = m->nodes[c].sibling;
    return c;
}

enum status added_matcher_put(struct added_matcher *m, const char *pattern, size_t n, int32_t id,
                              unsigned flags)
{
    int32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)pattern[i];
        int32_t next = i ? child_of(m, node, byte) : m->root[byte] ? m->root[byte] : -1;
        if (next < 0) {
            next = new_node(m, byte);
            if (next < 0) return ERR_MEMORY;
            if (!i) {
                m->root[byte] = next;
                m->only_first = byte;
                m->firsts++;
            } else {
                m->nodes[next].sibling = m->nodes[node].child;
                m->nodes[node].child = next;
            }
        }
        node = next;
    }
    m->nodes[node].id = id;
    m->nodes[node].flags = (unsigned char)flags;
    return OK;
}

/* The longest pattern at the leftmost place from `at` on; its node, or 0. */
static int32_t find(const struct added_matcher *m, const char *text, size_t n, size_t at,
                    size_t *start, size_t *end)
{
    for (; at < n; at++) {
        const char *first = m->firsts == 1 ? memchr(text + at, m->only_first, n - at) : text + at;
        if (!first) return 0;
        at = (size_t)(first - text);
        int32_t node = m->root[(unsigned char)text[at]], found = 0;
        for (size_t i = at + 1; node > 0; i++) {
            if (m->nodes[node].id >= 0) {
                found = node;
                *start = at;
                *end = i;
            }
            if (i >= n) break;
            node = child_of(m, node, (unsigned char)text[i]);
        }
        if (found) return found;
    }
    return 0;
}

/* White_Space of Unicode. */
static int is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

/* \w: Alphabetic, marks, decimal digits, connectors, join controls. */
static int is_word(uint32_t c)
{
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return 1;
    default: /* the join controls, and the circled and squared letters, which are Alphabetic */
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
               (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
               (c >= 0x1F170 && c <= 0x1F189);
    }
}

/* The character before text[at], its start in *start; at > 0. */
static uint32_t char_before(const char *text, size_t at, size_t *start)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t i = at - 1;
    while (i && (p[i] & 0xC0) == 0x80) i--;
    uint32_t c = 0;
    (void)utf8_decode(p + i, at - i, &c);
    *start = i;
    return c;
}

static int is_single_word(const char *text, size_t n, size_t start, size_t end)
{
    size_t before;
    uint32_t after;
    if (start && is_word(char_before(text, start, &before))) return 0;
    return end == n || utf8_decode((const unsigned char *)text + end, n - end, &after) < 0 ||
           !is_word(after);
}

static size_t strip_left(const char *text, size_t start)
{
    size_t before;
    while (start && is_space(char_before(text, start, &before))) start = before;
    return start;
}

static size_t strip_right(const char *text, size_t n, size_t end)
{
    while (end < n) {
        uint32_t c;
        int len = utf8_decode((const unsigned char *)text + end, n - end, &c);
        if (len < 0 || !is_space(c)) break;
        end += (size_t)len;
    }
    return end;
}

int added_next(const struct added_matcher *m, struct added_walk *w, struct added_piece *piece)
{
    if (w->has_pending) {
        *piece = w->pending;
        w->has_pending = 0;
        return 1;
    }
    size_t start, end;
    int32_t node;
    while (m->count && (node = find(m, w->text, w->n, w->at, &start, &end)) > 0) {
        unsigned flags = m->nodes[node].flags;
        w->at = end;
        if (flags & ADDED_SINGLE_WORD && !is_single_word(w->text, w->n, start, end)) continue;
        if (flags & ADDED_LSTRIP) {
            start = strip_left(w->text, start);
            if (start < w->from) start = w->from;
        }
        if (flags & ADDED_RSTRIP) end = strip_right(w->text, w->n, end);
        *piece = (struct added_piece){start, end, m->nodes[node].id};
        if (w->from < start) {
            w->pending = *piece;
            w->has_pending = 1;
            *piece = (struct added_piece){w->from, start, -1};
        }
        w->from = end;
        return 1;
    }
    w->at = w->n;
    if (w->from >= w->n) return 0;
    *piece = (struct added_piece){w->from, w->n, -1};
    w->from = w->n;
    return 1;
}

#include "data/formats/conversation.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

static const struct {
    const char *name, *text;
} drops[] = {
#define X(id, name, text) {name, text},
    DROP_TABLE(X)
#undef X
};

static const struct {
    const char *name;
    enum role role;
} roles[] = {
#define X(name, role) {name, role},
    ROLE_TABLE(X)
#undef X
};

int role_find(struct text name, enum role *out)
{
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (name.n != strlen(roles[i].name) || memcmp(name.data, roles[i].name, name.n)) continue;
        *out = roles[i].role;
        return 1;
    }
    return 0;
}

const char *drop_name(enum drop_reason r) { return drops[r].name; }
const char *drop_text(enum drop_reason r) { return drops[r].text; }

void conversation_clear(struct conversation *c)
{
    for (size_t i = 0; i < c->num_own; i++) buf_free(&c->own[i]);
    c->num_turns = c->num_own = 0;
    c->plain = 0;
    c->kind = KIND_SFT;
    c->chosen = c->rejected = (struct reply){0};
    c->drop = DROP_NONE;
    c->repairs = 0;
    c->more = 0;
}

void conversation_free(struct conversation *c)
{
    conversation_clear(c);
    mem_free(c->turns);
    mem_free(c->own);
    buf_free(&c->tree);
    *c = (struct conversation){0};
}

enum status conversation_add(struct conversation *c, enum role role, struct text text)
{
    if (c->num_turns == c->cap_turns) {
        size_t cap = c->cap_turns ? 2 * c->cap_turns : 8;
        struct turn *p = mem_resize(c->turns, cap, sizeof *p);
        if (!p) return ERR_MEMORY;
        c->turns = p;
        c->cap_turns = cap;
    }
    c->turns[c->num_turns++] = (struct turn){.role = role, .text = text, .weight = 1};
    return OK;
}

struct buf *conversation_block(struct conversation *c, size_t capacity)
{
    if (c->num_own == c->cap_own) {
        size_t cap = c->cap_own ? 2 * c->cap_own : 4;
        struct buf *p = mem_resize(c->own, cap, sizeof *p);
        if (!p) return NULL;
        c->own = p;
        c->cap_own = cap;
    }
    struct buf *b = &c->own[c->num_own];
    buf_init(b, capacity);
    if (buf_reserve(b, capacity)) return NULL;
    c->num_own++;
    return b;
}

/* Length of the white-space character that s[0..n) begins with, 0 if none. What Python's str.strip
 * takes away, since the reference templates strip with it. */
static size_t space_at(const char *s, size_t n)
{
    static const char *const wide[] = {
        "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
        "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
        "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80",
    };
    if (!n) return 0;
    unsigned char c = (unsigned char)s[0];
    if (c < 0x80) return c == ' ' || (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x1f);
    if (c < 0xc2 || c > 0xe3) return 0;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        size_t m = strlen(wide[i]);
        if (m <= n && !memcmp(s, wide[i], m)) return m;
    }
    return 0;
}

struct text text_strip(struct text t)
{
    size_t m;
    while ((m = space_at(t.data, t.n))) t.data += m, t.n -= m;
    while (t.n) {
        size_t back = 1;
        while (back < 3 && back < t.n && (t.data[t.n - back] & 0xc0) == 0x80) back++;
        m = space_at(t.data + t.n - back, back);
        if (m != back) break;
        t.n -= m;
    }
    return t;
}

int text_same(struct text a, struct text b)
{
    return a.n == b.n && (!a.n || !memcmp(a.data, b.data, a.n));
}

int text_is_blank(struct text t) { return text_strip(t).n == 0; }

static void remove_turns(struct conversation *c, size_t from, size_t count)
{
    memmove(&c->turns[from], &c->turns[from + count],
            (c->num_turns - from - count) * sizeof *c->turns);
    c->num_turns -= count;
}

/* Of the replies of a preference record. */
static enum drop_reason replies_verdict(const struct conversation *c)
{
    const struct reply *x = &c->chosen, *y = &c->rejected;
    if (!x->given && !y->given) return DROP_NO_REPLY;
    if (x->given && text_is_blank(x->text)) return DROP_EMPTY_REPLY;
    if (y->given && text_is_blank(y->text)) return DROP_EMPTY_REPLY;
    return x->given && y->given && text_same(x->text, y->text) ? DROP_IDENTICAL : DROP_NONE;
}

static enum drop_reason plain_verdict(const struct conversation *c)
{
    for (size_t i = 0; i < c->num_turns; i++) {
        const struct turn *t = &c->turns[i];
        if (t->role == ROLE_USER || !text_is_blank(t->text)) continue;
        return t->role == ROLE_TEXT ? DROP_EMPTY_TEXT : DROP_EMPTY_REPLY;
    }
    return DROP_NONE;
}

static enum drop_reason roles_verdict(const struct conversation *c, size_t first)
{
    for (size_t i = first; i < c->num_turns; i++) {
        if (c->turns[i].role == ROLE_SYSTEM) return DROP_SYSTEM_PLACE;
        if (c->turns[i].role > ROLE_TOOL) return DROP_UNKNOWN_ROLE;
    }
    return DROP_NONE;
}

/* Replies and what asks for them, by turns; only tool turns may follow one another. */
static int alternates(const struct conversation *c, size_t first)
{
    if (first < c->num_turns && c->turns[first].role != ROLE_USER) return 0;
    for (size_t i = first + 1; i < c->num_turns; i++) {
        enum role before = c->turns[i - 1].role, role = c->turns[i].role;
        int after_reply = before == ROLE_ASSISTANT;
        if (role == ROLE_TOOL && before == ROLE_TOOL) continue;
        if (after_reply != (role == ROLE_USER || role == ROLE_TOOL)) return 0;
    }
    return 1;
}

static int asks(const struct turn *t) { return t->role == ROLE_USER || t->role == ROLE_TOOL; }

static enum drop_reason empty_verdict(const struct conversation *c, size_t first)
{
    for (size_t i = first; i < c->num_turns; i++) {
        const struct turn *t = &c->turns[i];
        if (t->role == ROLE_TOOL || !text_is_blank(t->text)) continue;
        return t->role == ROLE_ASSISTANT ? DROP_EMPTY_REPLY : DROP_EMPTY_TURN;
    }
    return DROP_NONE;
}

/* Of the turns; those of a preference record are a prompt, which ends with a question. */
static enum drop_reason verdict(struct conversation *c)
{
    size_t first = c->num_turns && c->turns[0].role == ROLE_SYSTEM;
    int prompt = c->kind != KIND_SFT;
    enum drop_reason bad = roles_verdict(c, first);
    if (bad) return bad;
    if (first < c->num_turns && c->turns[first].role == ROLE_ASSISTANT) {
        remove_turns(c, first, 1);
        c->repairs |= REPAIR_LEADING_REPLY;
    }
    while (!prompt && c->num_turns > first + 1 && asks(&c->turns[c->num_turns - 1])) {
        c->num_turns--;
        c->repairs |= REPAIR_TRAILING_QUESTION;
    }
    if (!alternates(c, first)) return DROP_ROLES;
    if (prompt && c->num_turns == first) return DROP_NO_REPLY;
    if (prompt && !asks(&c->turns[c->num_turns - 1])) return DROP_ROLES;
    if (!prompt && c->num_turns < first + 2) return DROP_NO_REPLY;
    return empty_verdict(c, first);
}

void conversation_finish(struct conversation *c)
{
    if (!c->drop) c->drop = c->plain ? plain_verdict(c) : verdict(c);
    if (!c->drop && c->kind != KIND_SFT) c->drop = replies_verdict(c);
    if (c->drop) c->repairs = 0;
}

#include "data/tokenizer/cuts.h"

#include "data/tokenizer/utf8.h"

#define SPACE 0x2581

/* How a side of a merge stands at the boundary. */
enum edge {
    EDGE_INSIDE, /* the boundary is inside a character: no cut is ever asked for there */
    EDGE_PART,   /* only a part of the character at the boundary */
    EDGE_WHOLE
};

static enum edge tail(const unsigned char *p, size_t n, uint32_t *cp)
{
    size_t at = n - 1;
    while (at && n - at < 4 && (p[at] & 0xC0) == 0x80) at--;
    if ((p[at] & 0xC0) == 0x80) return EDGE_PART;
    return utf8_decode(p + at, n - at, cp) == (int)(n - at) ? EDGE_WHOLE : EDGE_INSIDE;
}

static enum edge head(const unsigned char *p, size_t n, uint32_t *cp)
{
    if ((*p & 0xC0) == 0x80) return EDGE_INSIDE;
    return utf8_decode(p, n, cp) > 0 ? EDGE_WHOLE : EDGE_PART;
}

static uint32_t bit_of(uint32_t a, uint32_t b)
{
    return (uint32_t)(((uint64_t)a << 21 | b) * 0x9E3779B97F4A7C15u >> (64 - CUTS_BITS));
}

static int get(const uint64_t *bits, uint32_t bit) { return bits[bit / 64] >> bit % 64 & 1; }

static void set(uint64_t *bits, uint32_t bit) { bits[bit / 64] |= (uint64_t)1 << bit % 64; }

void cuts_join(struct cuts *c, const char *left, size_t left_n, const char *right, size_t right_n)
{
    const unsigned char *l = (const unsigned char *)left, *r = (const unsigned char *)right;
    uint32_t a = 0, b = 0;
    enum edge of_left = tail(l, left_n, &a), of_right = head(r, right_n, &b);
    if (of_left == EDGE_INSIDE || of_right == EDGE_INSIDE) return;
    if (of_left == EDGE_WHOLE && of_right == EDGE_WHOLE)
        set(c->pairs, bit_of(a, b));
    else
        set(c->parts, (uint32_t)l[left_n - 1] << 8 | *r);
}

static unsigned state_of(const struct cuts *c, uint32_t cp)
{
    return cp < 0x10000 ? c->states[cp] : c->states[0xFFFF];
}

/* Whether nothing joins character a, which ends in byte `last`, to b, which begins with `first`. */
static int is_cut(const struct cuts *c, uint32_t a, unsigned char last, uint32_t b,
                  unsigned char first)
{
    unsigned states = state_of(c, a) | state_of(c, b);
    if (states) return !(states & CUTS_STUCK);
    return !get(c->pairs, bit_of(a, b)) && !get(c->parts, (uint32_t)last << 8 | first);
}

void cuts_finish(struct cuts *c)
{
    for (uint32_t a = 0; a < 128; a++)
        for (uint32_t b = 0; b < 128; b++)
            if (is_cut(c, a, (unsigned char)a, b, (unsigned char)b)) set(c->ascii[a], b);
}

size_t cuts_find(const struct cuts *c, const char *text, size_t n, size_t at, size_t *ends,
                 size_t max)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t count = 0, len;
    if (at == n) return 0;
    uint32_t before = utf8_read(p + at, &len);
    for (at += len; at < n; at += len) {
        uint32_t here = p[at];
        int cut;
        if ((here | before) < 0x80) {
            len = 1;
            cut = get(c->ascii[before], here);
        } else {
            here = utf8_read(p + at, &len);
            cut = c->words && here == SPACE     ? before != SPACE
                  : c->words && before == SPACE ? 0
                                                : is_cut(c, before, p[at - 1], here, p[at]);
        }
        before = here;
        if (!cut) continue;
        ends[count++] = at;
        if (count == max) return count;
    }
    ends[count++] = n;
    return count;
}

#include "data/clean/filters.h"

#include <string.h>

#include "data/clean/chars.h"
#include "data/tokenizer/utf8.h"

/* Bytes at p that lower to `c`: U+0130 lowers to an i and a dot, U+212A to a k. */
static size_t lowers_to(const char *p, const char *end, char c)
{
    if (p < end && (*p == c || (*p >= 'A' && *p <= 'Z' && (*p | 32) == c))) return 1;
    if (c == 'i' && end - p >= 2 && !memcmp(p, "\xc4\xb0", 2)) return 2;
    if (c == 'k' && end - p >= 3 && !memcmp(p, "\xe2\x84\xaa", 3)) return 3;
    return 0;
}

static int word_at(const char *p, const char *end, const char *word)
{
    for (size_t n; *word; word++, p += n) {
        if (!(n = lowers_to(p, end, *word))) return 0;
        if (n == 2 && word[1]) return 0; /* the dot stands before the next letter */
    }
    return 1;
}

int filter_blocked(struct text t, const char *const *words, size_t num_words)
{
    const char *end = t.data + t.n;
    for (const char *p = t.data; p < end; p++)
        for (size_t i = 0; i < num_words; i++)
            if (word_at(p, end, words[i])) return 1;
    return 0;
}

int filter_repeats(struct text t)
{
    const char *end = t.data + t.n, *before = NULL;
    size_t n, run = 0;
    for (const char *p = t.data; p < end; p += utf8_length((unsigned char)*p)) {
        n = chars_digit(p, end);
        run = !n ? 0 : before && !memcmp(before, p, n) ? run + 1 : 1;
        before = n ? p : NULL;
        if (run == 9) return 1;
    }
    return 0;
}

int filter_numbering(struct text t)
{
    static const char item[] = "\n1. ";
    const char *p = t.data, *end = p + t.n, *first = NULL;
    for (; (p = memmem(p, (size_t)(end - p), item, 4)); p += 4) {
        if (first && !memchr(first, '2', (size_t)(p - first))) return 1;
        first = p + 4;
    }
    return 0;
}

int filter_refusal(struct text t)
{
    static const char text[] = "Too many requests in 1 hour. Try again later.";
    return t.n >= sizeof text - 1 && !memcmp(t.data, text, sizeof text - 1);
}

#include "data/tokenizer/normalize.h"

#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "data/tokenizer/utf8.h"

#define WORK_MAX ((size_t)1 << 33)
#define REPLACE_PART 4096   /* bytes at a time */
#define META "\xE2\x96\x81" /* U+2581, the visible space */

void normalizer_work_init(struct normalizer_work *w)
{
    *w = (struct normalizer_work){0};
    buf_init(&w->a, WORK_MAX);
    buf_init(&w->b, WORK_MAX);
}

void normalizer_work_free(struct normalizer_work *w)
{
    buf_free(&w->a);
    buf_free(&w->b);
    mem_free(w->chars);
    w->chars = NULL;
    w->char_cap = 0;
}

/* One byte becomes a few, as in " " to U+2581: by far the most frequent step. */
static enum status replace_byte(const struct normalizer_step *step, const char *text, size_t n,
                                struct buf *out)
{
    char to[4] = {0};
    size_t to_n = strlen(step->to);
    memcpy(to, step->to, to_n);
    for (size_t part; n; text += part, n -= part) {
        part = n < REPLACE_PART ? n : REPLACE_PART;
        TRY(buf_reserve(out, part * (to_n ? to_n : 1) + sizeof to));
        char *at = out->data + out->len;
        for (size_t i = 0; i < part; i++) {
            int hit = text[i] == *step->from;
            if (hit)
                memcpy(at, to, sizeof to);
            else
                *at = text[i];
            at += hit ? to_n : 1;
        }
        *at = 0;
        out->len = (size_t)(at - out->data);
    }
    return OK;
}

static enum status replace(const struct normalizer_step *step, const char *text, size_t n,
                           struct buf *out)
{
    size_t from = strlen(step->from), to = strlen(step->to);
    const char *end = text + n;
    if (from == 1 && to <= 4) return replace_byte(step, text, n, out);
    while (text < end) {
        const char *hit = from ? memmem(text, (size_t)(end - text), step->from, from) : NULL;
        TRY(buf_append(out, text, (size_t)((hit ? hit : end) - text)));
        if (!hit) break;
        TRY(buf_append(out, step->to, to));
        text = hit + from;
    }
    return OK;
}

/* Nothing below U+0300 changes under NFC, alone or beside others of its kind. */
static int is_below_marks(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] >= 0xCC) return 0;
    return 1;
}

/* Characters whose combining class or composition came after Unicode 9, whose tables the reference
 * uses: to it they are plain, so text is normalized between them. Measured over all characters.
 * U+11A7 is plain to everybody but utf8proc, which loses it behind a Hangul syllable. */
static const uint32_t plain_to_reference[][2] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x11A7, 0x11A7},
    {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},
    {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E},
    {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11935, 0x11935}, {0x11938, 0x11938},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};

static int is_plain_to_reference(uint32_t cp)
{
    size_t low = 0, high = sizeof plain_to_reference / sizeof *plain_to_reference;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (cp > plain_to_reference[middle][1])
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof plain_to_reference / sizeof *plain_to_reference &&
           cp >= plain_to_reference[low][0];
}

/* Bytes before the next such character, whose own length goes to *skip. */
static size_t reach(const char *text, size_t n, size_t *skip)
{
    size_t i = 0;
    for (*skip = 0; i < n; i += utf8_length((unsigned char)text[i])) {
        uint32_t cp = 0;
        if ((unsigned char)text[i] < 0xDF) continue; /* below U+07C0 */
        int len = utf8_decode((const unsigned char *)text + i, n - i, &cp);
        if (!is_plain_to_reference(cp)) continue;
        *skip = (size_t)len;
        break;
    }
    return i;
}

static enum status nfc_part(struct normalizer_work *w, const char *text, size_t n, struct buf *out)
{
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t got = utf8proc_decompose(p, (utf8proc_ssize_t)n, w->chars,
                                              (utf8proc_ssize_t)w->char_cap, options);
    if (got < 0) return ERR_FORMAT; /* text is well formed, so only a length can be at fault */
    if ((size_t)got >= w->char_cap) {
        size_t cap = (size_t)got + (size_t)got / 2 + 64; /* reencode wants one more for a zero */
        int32_t *chars = mem_resize(w->chars, cap, sizeof *chars);
        if (!chars) return ERR_MEMORY;
        w->chars = chars;
        w->char_cap = cap;
        got = utf8proc_decompose(p, (utf8proc_ssize_t)n, chars, (utf8proc_ssize_t)cap, options);
        if (got < 0) return ERR_FORMAT;
    }
    got = utf8proc_reencode(w->chars, got, options);
    if (got < 0) return ERR_FORMAT;
    return buf_append(out, w->chars, (size_t)got);
}

static enum status nfc(struct normalizer_work *w, const char *text, size_t n, struct buf *out)
{
    while (n) {
        size_t skip, part = reach(text, n, &skip);
        TRY(nfc_part(w, text, part, out));
        TRY(buf_append(out, text + part, skip));
        text += part + skip;
        n -= part + skip;
    }
    return OK;
}

static int ends_with(const struct buf *b, const char *s, size_t n)
{
    return b->len >= n && !memcmp(b->data + b->len - n, s, n);
}

/* As sentencepiece's normalizer.cc does it when its character map is the identity. */
static enum status sentencepiece(const struct normalizer_step *step, const char *text, size_t n,
                                 int text_start, int prefix, struct buf *out)
{
    int after_space = step->remove_extra && text_start;
    size_t i = 0;
    while (after_space && i < n && text[i] == ' ') i++;
    if (i == n) return OK;
    if (prefix && step->add_prefix) TRY(buf_append(out, META, 3));
    while (i < n) {
        if (text[i] == ' ') {
            if (!(after_space && step->remove_extra)) TRY(buf_append(out, META, 3));
            after_space = 1;
            i++;
            continue;
        }
        const char *space = memchr(text + i, ' ', n - i);
        size_t until = space ? (size_t)(space - text) : n;
        TRY(buf_append(out, text + i, until - i));
        after_space = 0;
        i = until;
    }
    while (step->remove_extra && ends_with(out, META, 3)) out->len -= 3;
    return OK;
}

static enum status apply_step(const struct normalizer_step *step, struct normalizer_work *w,
                              const char *text, size_t n, int text_start, int prefix,
                              struct buf *out)
{
    switch (step->kind) {
    case NORMALIZE_PREPEND:
        if (prefix && n) TRY(buf_puts(out, step->to));
        return buf_append(out, text, n);
    case NORMALIZE_REPLACE: return replace(step, text, n, out);
    case NORMALIZE_NFC: return nfc(w, text, n, out);
    case NORMALIZE_SENTENCEPIECE: return sentencepiece(step, text, n, text_start, prefix, out);
    }
    return OK;
}

static int is_needed(const struct normalizer_step *step, const char *text, size_t n, int prefix)
{
    if (step->kind == NORMALIZE_PREPEND) return prefix && n;
    if (step->kind == NORMALIZE_NFC) return !is_below_marks(text, n);
    return 1;
}

enum status normalizer_apply(const struct normalizer *z, struct normalizer_work *w,
                             const char *text, size_t n, int text_start, int prefix,
                             const char **out, size_t *out_n)
{
    struct buf *to = &w->a;
    for (int i = 0; i < z->count; i++) {
        if (!is_needed(&z->steps[i], text, n, prefix)) continue;
        buf_clear(to);
        TRY(buf_reserve(to, n)); /* so that data is there even when the result is empty */
        TRY(apply_step(&z->steps[i], w, text, n, text_start, prefix, to));
        text = to->data;
        n = to->len;
        to = to == &w->a ? &w->b : &w->a;
    }
    *out = text;
    *out_n = n;
    return OK;
}

const char *normalize_library_version(void) { return utf8proc_version(); }

/* encode.c - from text to ids, in the order of the reference:
 *
 *   text -> added tokens found in it as it stands -> each stretch between them normalized
 *        -> added tokens found in the normalized stretch -> pre-tokens -> symbols -> merges
 */
#include <string.h>

#include "base/mem.h"
#include "data/tokenizer/model.h"
#include "data/tokenizer/utf8.h"
#include "data/tokenizer/words.h"

#define TEXT_MAX ((size_t)1 << 30) /* bytes in one call */
#define CLEAN_MAX ((size_t)1 << 33)
#define WORD_MAX 8 /* bytes; a longer word with foreign letters, or a very long one, is cut */

struct tokenizer_scratch {
    struct bpe_work bpe;
    struct normalizer_work normal;
    struct buf clean;          /* the text with ill-formed parts replaced */
    struct buf pre[PRE_STEPS]; /* what a pre-tokenizer step rewrote */
    struct splitter_scratch *split;
    struct words *words;
    struct id_list parts; /* of a word that was cut */
};

struct job {
    const struct tokenizer *t;
    struct tokenizer_scratch *s;
    struct id_list *out;
    struct err *e;
};

struct tokenizer_scratch *tokenizer_scratch_create(void)
{
    struct tokenizer_scratch *s = mem_calloc(1, sizeof *s);
    if (!s) return NULL;
    normalizer_work_init(&s->normal);
    buf_init(&s->clean, CLEAN_MAX);
    for (int i = 0; i < PRE_STEPS; i++) buf_init(&s->pre[i], CLEAN_MAX);
    s->split = splitter_scratch_create();
    s->words = words_create();
    if (s->split && s->words) return s;
    tokenizer_scratch_destroy(s);
    return NULL;
}

void tokenizer_scratch_destroy(struct tokenizer_scratch *s)
{
    if (!s) return;
    bpe_work_free(&s->bpe);
    normalizer_work_free(&s->normal);
    buf_free(&s->clean);
    for (int i = 0; i < PRE_STEPS; i++) buf_free(&s->pre[i]);
    splitter_scratch_destroy(s->split);
    words_destroy(s->words);
    id_list_free(&s->parts);
    mem_free(s);
}

static enum status no_memory(const struct job *j, enum status s)
{
    return err_set(j->e, s,
                   s == ERR_MEMORY ? "no memory to tokenize" : "text too long to tokenize");
}

static enum status bytes_to_symbols(const struct job *j, const char *text, size_t n)
{
    int32_t *ids = j->s->bpe.ids;
    for (size_t i = 0; i < n; i++) {
        ids[i] = j->t->byte_ids[(unsigned char)text[i]];
        if (ids[i] < 0)
            return err_set(j->e, ERR_DATA, "byte 0x%02X has no token and there is no unknown token",
                           (unsigned char)text[i]);
    }
    j->s->bpe.len = n;
    return OK;
}

/* The bytes of a character as tokens, appended; 0 when one of them has none. */
static int add_byte_tokens(const struct tokenizer *t, struct bpe_work *w, const char *c, size_t n)
{
    if (!t->byte_fallback) return 0;
    for (size_t i = 0; i < n; i++)
        if (t->byte_ids[(unsigned char)c[i]] < 0) return 0;
    for (size_t i = 0; i < n; i++) w->ids[w->len++] = t->byte_ids[(unsigned char)c[i]];
    return 1;
}

static int32_t symbol_of(const struct tokenizer *t, const char *c, size_t n, uint32_t cp)
{
    if (cp < 0x10000) return t->char_ids[cp];
    int32_t id = vocab_find(tokenizer_symbols(t), c, n);
    return t->alphabet == ALPHABET_CHARS && id >= t->model_size ? -1 : id;
}

/* An unknown token waits for the next known character, as in the reference: byte tokens overtake
 * it. bpe.ids has room for n + 1. */
static enum status chars_to_symbols(const struct job *j, const char *text, size_t n)
{
    const struct tokenizer *t = j->t;
    struct bpe_work *w = &j->s->bpe;
    int32_t waiting = -1;
    w->len = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = 0;
        size_t len = (size_t)utf8_decode((const unsigned char *)text + i, n - i, &cp);
        int32_t id = symbol_of(t, text + i, len, cp);
        if (id >= 0) {
            if (waiting >= 0) w->ids[w->len++] = waiting;
            waiting = -1;
            w->ids[w->len++] = id;
        } else if (!add_byte_tokens(t, w, text + i, len)) {
            if (t->unknown < 0)
                return err_set(j->e, ERR_DATA, "U+%04X has no token and there is no unknown token",
                               (unsigned)cp);
            if (waiting >= 0 && !t->fuse_unknown) w->ids[w->len++] = waiting;
            waiting = t->unknown;
        }
        i += len;
    }
    if (waiting >= 0) w->ids[w->len++] = waiting;
    return OK;
}

/* A .model's symbols that are no pieces become bytes or the unknown piece; runs of it are one.
 * Reads bpe.ids from the back of a copy, since symbols may grow: room for 4 a symbol. */
static enum status resolve_symbols(const struct job *j)
{
    const struct tokenizer *t = j->t;
    struct bpe_work *w = &j->s->bpe;
    size_t n = w->len, fused = 0;
    int foreign = 0;
    for (size_t i = 0; i < n; i++) foreign |= w->ids[i] >= t->model_size || w->ids[i] == t->unknown;
    if (!foreign) return OK;
    enum status s = bpe_reserve(w, n * 5);
    if (s) return no_memory(j, s);
    memmove(w->ids + n * 4, w->ids, n * sizeof *w->ids);
    w->len = 0;
    for (size_t i = n * 4; i < n * 5; i++) {
        size_t len = 0;
        const char *c = w->ids[i] < t->model_size ? NULL : vocab_text(&t->symbols, w->ids[i], &len);
        if (c && add_byte_tokens(t, w, c, len)) continue;
        w->ids[w->len++] = c ? t->unknown : w->ids[i];
    }
    for (size_t i = 0; i < w->len; i++)
        if (w->ids[i] != t->unknown || !fused || w->ids[fused - 1] != t->unknown)
            w->ids[fused++] = w->ids[i];
    w->len = fused;
    return OK;
}

/* ---- words ---- */

/* Merges text[0..n) into bpe.ids. */
static enum status merge_word(const struct job *j, const char *text, size_t n)
{
    const struct tokenizer *t = j->t;
    struct bpe_work *w = &j->s->bpe;
    enum status s = bpe_reserve(w, n + 1);
    if (s) return no_memory(j, s);
    TRY(t->alphabet == ALPHABET_BYTES ? bytes_to_symbols(j, text, n)
                                      : chars_to_symbols(j, text, n));
    s = bpe_merge(&t->merges, w);
    if (s) return no_memory(j, s);
    return t->alphabet == ALPHABET_SENTENCEPIECE ? resolve_symbols(j) : OK;
}

/* A part of a word that was cut. */
static enum status make_part(void *ctx, const char *text, size_t n, const int32_t **ids,
                             size_t *count)
{
    const struct job *j = ctx;
    TRY(merge_word(j, text, n));
    *ids = j->s->bpe.ids;
    *count = j->s->bpe.len;
    return OK;
}

/* Whether pre-tokens are cut before words are looked up: where they are no words yet, but whole
 * sentences. */
static int cuts_first(const struct tokenizer *t)
{
    return t->alphabet != ALPHABET_BYTES && !t->ignore_merges;
}

static int is_worth_cutting(const char *text, size_t n)
{
    return n > WORDS_LONG_BYTES || (n > WORD_MAX && (unsigned char)text[n - 1] >= 0x80);
}

/* The ids of a word that was not met before. */
static enum status make_word(void *ctx, const char *text, size_t n, const int32_t **ids,
                             size_t *count)
{
    const struct job *j = ctx;
    const struct tokenizer *t = j->t;
    struct id_list *parts = &j->s->parts;
    size_t ends[WORDS_BATCH], at = 0, found;
    const struct word_maker maker = {make_part, ctx, 1};
    parts->len = 0;
    if (t->ignore_merges) {
        int32_t id = vocab_find(tokenizer_symbols(t), text, n);
        if (id >= 0 && id < t->model_size) {
            if (id_list_append(parts, &id, 1)) return no_memory(j, ERR_MEMORY);
            goto out;
        }
    }
    if (cuts_first(t) || !is_worth_cutting(text, n)) return make_part(ctx, text, n, ids, count);
    while ((found = cuts_find(t->cuts, text, n, at, ends, WORDS_BATCH))) {
        enum status s = words_encode(j->s->words, &maker, text, n, at, ends, found, parts);
        if (s) return s == ERR_MEMORY ? no_memory(j, s) : s;
        at = ends[found - 1];
    }
out:
    *ids = parts->ids;
    *count = parts->len;
    return OK;
}

static enum status encode_words(const struct job *j, const char *text, size_t n, size_t start,
                                const size_t *ends, size_t count)
{
    const struct word_maker maker = {make_word, (void *)j, 0};
    enum status s = words_encode(j->s->words, &maker, text, n, start, ends, count, j->out);
    return s == ERR_MEMORY ? no_memory(j, s) : s;
}

static enum status encode_pretoken(const struct job *j, const char *text, size_t n)
{
    size_t ends[WORDS_BATCH], at = 0, count;
    if (!cuts_first(j->t)) return n ? encode_words(j, text, n, 0, &n, 1) : OK;
    while ((count = cuts_find(j->t->cuts, text, n, at, ends, WORDS_BATCH))) {
        TRY(encode_words(j, text, n, at, ends, count));
        at = ends[count - 1];
    }
    return OK;
}

/* ---- pre-tokens ---- */

/* Where a stretch stands: at the text's start; where a prefix may go. */
struct place {
    int start, prefix;
};

static enum status apply_pre(const struct job *j, int step, const char *text, size_t n,
                             struct place place);

static enum status split_pieces(const struct job *j, int step, const char *text, size_t n,
                                struct place place)
{
    const struct tokenizer *t = j->t;
    size_t ends[WORDS_BATCH], at = 0;
    int count;
    while ((count = splitter_cut(t->pre[step].splitter, j->s->split, text, n, at, ends,
                                 WORDS_BATCH)) > 0) {
        if (step + 1 == t->pre_count && !cuts_first(t)) {
            TRY(encode_words(j, text, n, at, ends, (size_t)count));
            at = ends[count - 1];
        }
        for (int i = 0; at < ends[count - 1]; at = ends[i++]) {
            TRY(apply_pre(j, step + 1, text + at, ends[i] - at, place));
            place = (struct place){0, 1};
        }
    }
    if (count == SPLIT_NO_MEMORY) return no_memory(j, ERR_MEMORY);
    if (count < 0)
        return err_set(j->e, ERR_DATA, "a text of %zu bytes is too much for the split pattern", n);
    return OK;
}

/* Whether the step puts its prefix in front of a stretch that does not start with it. */
static int wants_prefix(const struct pre_step *p, struct place place)
{
    return p->prefix == PREFIX_ALWAYS ? place.prefix : p->prefix == PREFIX_FIRST && place.start;
}

static enum status rewrite_spaces(const struct pre_step *p, const char *text, size_t n,
                                  struct place place, struct buf *out)
{
    const char *mark = p->replacement;
    size_t mark_n = strlen(mark);
    buf_clear(out);
    int marked = n && (*text == ' ' || (n >= mark_n && !memcmp(text, mark, mark_n)));
    if (n && !marked && wants_prefix(p, place)) TRY(buf_puts(out, mark));
    for (const char *end = text + n; text < end;) {
        const char *space = memchr(text, ' ', (size_t)(end - text));
        TRY(buf_append(out, text, (size_t)((space ? space : end) - text)));
        if (!space) break;
        TRY(buf_puts(out, mark));
        text = space + 1;
    }
    return OK;
}

static enum status metaspace_pieces(const struct job *j, int step, const char *text, size_t n,
                                    struct place place)
{
    const struct pre_step *p = &j->t->pre[step];
    struct buf *b = &j->s->pre[step];
    enum status s = rewrite_spaces(p, text, n, place, b);
    if (s) return no_memory(j, s);
    if (!b->len) return OK;
    if (!p->split) return apply_pre(j, step + 1, b->data, b->len, place);
    size_t mark_n = strlen(p->replacement);
    for (const char *at = b->data, *end = b->data + b->len; at < end;) {
        size_t skip = utf8_length((unsigned char)*at);
        const char *next = memmem(at + skip, (size_t)(end - at) - skip, p->replacement, mark_n);
        if (!next) next = end;
        TRY(apply_pre(j, step + 1, at, (size_t)(next - at), place));
        place = (struct place){0, 1};
        at = next;
    }
    return OK;
}

static enum status prefix_space(const struct job *j, int step, const char *text, size_t n,
                                struct place place)
{
    struct buf *b = &j->s->pre[step];
    if (*text == ' ' || !wants_prefix(&j->t->pre[step], place))
        return apply_pre(j, step + 1, text, n, place);
    buf_clear(b);
    enum status s = buf_putc(b, ' ');
    if (!s) s = buf_append(b, text, n);
    return s ? no_memory(j, s) : apply_pre(j, step + 1, b->data, b->len, place);
}

static enum status apply_pre(const struct job *j, int step, const char *text, size_t n,
                             struct place place)
{
    if (step == j->t->pre_count) return encode_pretoken(j, text, n);
    switch (j->t->pre[step].kind) {
    case PRE_METASPACE: return metaspace_pieces(j, step, text, n, place);
    case PRE_SPLIT: return split_pieces(j, step, text, n, place);
    case PRE_PREFIX_SPACE: return prefix_space(j, step, text, n, place);
    }
    return OK;
}

/* A stretch between added tokens of the first kind. */
static enum status encode_stretch(const struct job *j, const char *text, size_t n,
                                  struct place place, int plain)
{
    static const struct added_matcher nothing;
    struct added_walk walk = {0};
    struct added_piece piece;
    enum status s = normalizer_apply(&j->t->normalizer, &j->s->normal, text, n, place.start,
                                     place.prefix, &walk.text, &walk.n);
    if (s) return no_memory(j, s);
    const struct added_matcher *m = plain ? &nothing : &j->t->normalized_matcher;
    while (added_next(m, &walk, &piece)) {
        if (piece.id >= 0) {
            s = id_list_append(j->out, &piece.id, 1);
            if (s) return no_memory(j, s);
        } else {
            struct place here = piece.start ? (struct place){0, 1} : place;
            TRY(apply_pre(j, 0, walk.text + piece.start, piece.end - piece.start, here));
        }
    }
    return OK;
}

static enum status encode_text(const struct job *j, const char *text, size_t n, unsigned flags)
{
    static const struct added_matcher nothing;
    const struct added_matcher *m = flags & TOK_PLAIN ? &nothing : &j->t->raw_matcher;
    struct added_walk walk = {.text = text, .n = n};
    struct added_piece piece;
    while (added_next(m, &walk, &piece)) {
        if (piece.id >= 0) {
            enum status s = id_list_append(j->out, &piece.id, 1);
            if (s) return no_memory(j, s);
            continue;
        }
        int start = !piece.start && flags & TOK_TEXT_START;
        int prefix = piece.start || flags & (TOK_TEXT_START | TOK_AFTER_ADDED);
        TRY(encode_stretch(j, text + piece.start, piece.end - piece.start,
                           (struct place){start, prefix}, flags & TOK_PLAIN));
    }
    return OK;
}

enum status tokenizer_encode(const struct tokenizer *t, struct tokenizer_scratch *s,
                             const char *text, size_t n, unsigned flags, struct id_list *out,
                             struct err *e)
{
    struct job j = {t, s, out, e};
    if (n > TEXT_MAX)
        return err_set(e, ERR_DATA, "a text of %zu bytes; at most %zu go in one call", n, TEXT_MAX);
    TRY(words_claim(s->words, t->serial, e));
    if (utf8_valid_prefix(text, n) != n) {
        buf_clear(&s->clean);
        enum status failed = utf8_append_lossy(&s->clean, text, n);
        if (failed) return no_memory(&j, failed);
        text = s->clean.data;
        n = s->clean.len;
    }
    size_t before = out->len;
    enum status failed = encode_text(&j, text, n, flags);
    if (failed) out->len = before; /* nothing or all of it */
    return failed;
}

#include "data/tokenizer/words.h"

#include <endian.h>
#include <string.h>

#include "base/mem.h"

#define SHORT_BYTES 15
#define SHORT_IDS 4
#define SHORT_BITS 17 /* of the number of buckets: 8 MB a thread */
#define LONG_IDS 7
#define LONG_BITS 15       /* 2 MB a thread */
#define COUNT_SHIFT 24     /* ids are below 1 << 24: VOCAB_SIZE_MAX */
#define KIND_SHIFT 7       /* in the byte that holds a length */
#define ID_MASK 0x00FFFFFF /* of an id that has a count above it */

/* Up to 15 bytes of text, zeros, and in the last byte length and kind. */
struct short_key {
    uint64_t low, high;
};

struct short_word {
    struct short_key key;
    int32_t ids[SHORT_IDS]; /* the first one has their number above it */
};

struct bucket { /* one cache line */
    struct short_word words[2];
};

struct long_word { /* one cache line */
    uint8_t length, count;
    char text[WORDS_LONG_BYTES];
    int32_t ids[LONG_IDS];
};

struct words {
    struct bucket *buckets;
    struct long_word *longs;
    uint64_t owner; /* serial of the tokenizer they are of; 0: there are none */
};

struct words *words_create(void) { return mem_calloc(1, sizeof(struct words)); }

void words_destroy(struct words *w)
{
    if (!w) return;
    mem_pages_free(w->buckets, sizeof *w->buckets << SHORT_BITS);
    mem_pages_free(w->longs, sizeof *w->longs << LONG_BITS);
    mem_free(w);
}

static enum status make_room(struct words *w, struct err *e)
{
    if (!w->buckets) w->buckets = mem_pages(sizeof *w->buckets << SHORT_BITS);
    if (!w->longs) w->longs = mem_pages(sizeof *w->longs << LONG_BITS);
    if (w->buckets && w->longs) return OK;
    return err_set(e, ERR_MEMORY, "no memory for the tokenizer's words");
}

enum status words_claim(struct words *w, uint64_t serial, struct err *e)
{
    if (w->owner == serial) return OK;
    TRY(make_room(w, e));
    if (w->owner) {
        memset(w->buckets, 0, sizeof *w->buckets << SHORT_BITS);
        memset(w->longs, 0, sizeof *w->longs << LONG_BITS);
    }
    w->owner = serial;
    return OK;
}

/* `readable`: bytes that are there from text on, n or more. */
static inline struct short_key key_of(const char *text, size_t n, size_t readable, unsigned kind)
{
    static const unsigned char ones[32] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                                           0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    struct short_key key = {0}, mask;
    if (readable >= 16) {
        memcpy(&key, text, 16);
        memcpy(&mask, ones + 16 - n, 16);
        key.low &= mask.low;
        key.high &= mask.high;
    } else {
        memcpy(&key, text, n);
    }
    key.high |= htole64((uint64_t)(n | kind << KIND_SHIFT) << 56);
    return key;
}

static inline uint32_t bucket_of(struct short_key key)
{
    uint64_t h = key.low * 0x9E3779B97F4A7C15u ^ (key.high ^ key.low >> 32) * 0xD6E8FEB86659FD93u;
    return (uint32_t)((h ^ h >> 29) * 0xBF58476D1CE4E5B9u >> (64 - SHORT_BITS));
}

static inline int same(struct short_key a, struct short_key b)
{
    return !((a.low ^ b.low) | (a.high ^ b.high));
}

static void keep_short(struct bucket *b, struct short_key key, const int32_t *ids, size_t count)
{
    b->words[1] = b->words[0];
    b->words[0].key = key;
    memcpy(b->words[0].ids, ids, count * sizeof *ids);
    b->words[0].ids[0] |= (int32_t)count << COUNT_SHIFT;
}

static struct long_word *long_slot(const struct words *w, const char *text, size_t n)
{
    uint64_t h = n, part;
    for (; n > 8; text += 8, n -= 8) {
        memcpy(&part, text, 8);
        h = (h ^ part) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    part = 0;
    memcpy(&part, text, n);
    h = (h ^ part) * 0xD6E8FEB86659FD93u;
    return &w->longs[(h ^ h >> 29) * 0xBF58476D1CE4E5B9u >> (64 - LONG_BITS)];
}

/* Long words of foreign letters are not kept: they are cut, and their parts are. */
static int is_kept(const char *text, size_t n, int kind)
{
    return n > SHORT_BYTES && n <= WORDS_LONG_BYTES && (kind || (unsigned char)text[n - 1] < 0x80);
}

/* A word that is not among the short ones: from the long ones, or made and kept. */
static enum status encode_slowly(struct words *w, const struct word_maker *maker, const char *text,
                                 size_t n, struct bucket *b, struct short_key key,
                                 struct id_list *out)
{
    struct long_word *slot = is_kept(text, n, maker->kind) ? long_slot(w, text, n) : NULL;
    unsigned length = (unsigned)n | (unsigned)maker->kind << KIND_SHIFT;
    if (slot && slot->length == length && !memcmp(slot->text, text, n))
        return id_list_append(out, slot->ids, slot->count);
    const int32_t *ids;
    size_t count;
    TRY(maker->make(maker->ctx, text, n, &ids, &count));
    if (b && count <= SHORT_IDS && count) {
        keep_short(b, key, ids, count);
    } else if (slot && count <= LONG_IDS) {
        slot->length = (uint8_t)length;
        slot->count = (uint8_t)count;
        memcpy(slot->text, text, n);
        memcpy(slot->ids, ids, count * sizeof *ids);
    }
    return id_list_append(out, ids, count);
}

struct lookup {
    const char *text;
    size_t n;
    struct short_key key;
    struct bucket *bucket; /* NULL: not a short word */
};

static void look_ahead(struct words *w, unsigned kind, const char *text, size_t n, size_t start,
                       const size_t *ends, size_t count, struct lookup *looks)
{
    for (size_t i = 0; i < count; start = ends[i++]) {
        struct lookup *l = &looks[i];
        l->text = text + start;
        l->n = ends[i] - start;
        l->bucket = NULL;
        if (l->n > SHORT_BYTES) continue;
        l->key = key_of(l->text, l->n, n - start, kind);
        l->bucket = &w->buckets[bucket_of(l->key)];
        __builtin_prefetch(l->bucket);
    }
}

enum status words_encode(struct words *w, const struct word_maker *maker, const char *text,
                         size_t n, size_t start, const size_t *ends, size_t count,
                         struct id_list *out)
{
    struct lookup looks[WORDS_BATCH];
    look_ahead(w, (unsigned)maker->kind, text, n, start, ends, count, looks);
    TRY(id_list_reserve(out, WORDS_BATCH * SHORT_IDS));
    int32_t *to = out->ids + out->len;
    for (size_t i = 0; i < count; i++) {
        const struct lookup *l = &looks[i];
        if (l->bucket) {
            const struct short_word *both = l->bucket->words;
            int second = same(both[1].key, l->key);
            if (second | same(both[0].key, l->key)) {
                memcpy(to, both[second].ids, sizeof both->ids);
                int32_t first = *to;
                *to = first & ID_MASK;
                to += first >> COUNT_SHIFT;
                continue;
            }
        }
        out->len = (size_t)(to - out->ids);
        TRY(encode_slowly(w, maker, l->text, l->n, l->bucket, l->key, out));
        TRY(id_list_reserve(out, WORDS_BATCH * SHORT_IDS));
        to = out->ids + out->len;
    }
    out->len = (size_t)(to - out->ids);
    return OK;
}

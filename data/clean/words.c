#include "data/clean/words.h"

#include <utf8proc.h>

#include "base/mem.h"
#include "data/tokenizer/utf8.h"

#define SEED 0x9e3779b97f4a7c15u

enum part { PART_NONE, PART_OF_WORD, PART_ALONE };

static enum part part_of(uint32_t cp)
{
    if (cp < 0x80) {
        int is = (cp >= '0' && cp <= '9') || ((cp | 32) >= 'a' && (cp | 32) <= 'z');
        return is ? PART_OF_WORD : PART_NONE;
    }
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: break;
    default: return PART_NONE;
    }
    int alone = (cp >= 0xe00 && cp <= 0xeff) || (cp >= 0x3040 && cp <= 0x30ff) ||
                (cp >= 0x3400 && cp <= 0x9fff) || (cp >= 0xf900 && cp <= 0xfaff) ||
                (cp >= 0x20000 && cp <= 0x3ffff);
    return alone ? PART_ALONE : PART_OF_WORD;
}

static uint64_t add_character(uint64_t hash, uint32_t cp)
{
    uint32_t lower = cp < 0x80 ? (cp >= 'A' && cp <= 'Z' ? cp | 32 : cp)
                               : (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    hash = (hash ^ lower) * 0x100000001b3u;
    return hash ^ hash >> 29;
}

static enum status append(struct word_list *w, uint64_t hash)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? 2 * w->cap : 256;
        uint64_t *p = mem_resize(w->hashes, cap, sizeof *p);
        if (!p) return ERR_MEMORY;
        w->hashes = p;
        w->cap = cap;
    }
    w->hashes[w->n++] = words_mix(hash);
    return OK;
}

enum status words_append(struct word_list *w, struct text t)
{
    uint64_t hash = SEED;
    int in_word = 0;
    size_t n;
    for (size_t i = 0; i < t.n; i += n) {
        uint32_t cp = utf8_read((const unsigned char *)t.data + i, &n);
        enum part part = part_of(cp);
        if (part != PART_OF_WORD && in_word) {
            TRY(append(w, hash));
            in_word = 0;
        }
        if (part == PART_ALONE) TRY(append(w, add_character(SEED, cp)));
        if (part != PART_OF_WORD) continue;
        hash = add_character(in_word ? hash : SEED, cp);
        in_word = 1;
    }
    return in_word ? append(w, hash) : OK;
}

void words_free(struct word_list *w)
{
    mem_free(w->hashes);
    *w = (struct word_list){0};
}

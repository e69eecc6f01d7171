/* Any bytes as merges and a word of their symbols: bpe_merge gives what the definition gives, and
 * so does merging over cuts. */
#include <string.h>

#include "data/tokenizer/bpe.h"
#include "data/tokenizer/cuts.h"
#include "fuzz/fuzz.h"

#define LETTERS 6
#define SYMBOLS 64
#define SPELLING 48
#define WORD_MAX 200

struct language {
    struct merge_table merges;
    struct cuts cuts;
    char spelling[SYMBOLS][SPELLING];
    int32_t symbols;
};

static const char *const letters[LETTERS] = {"a",           "b", "1", "\xC3\xA9", "\xE4\xB8\xAD",
                                             "\xE5\x9B\xBD"};

static size_t merge_plainly(const struct merge_table *m, int32_t *ids, size_t n)
{
    for (;;) {
        const struct merge *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const struct merge *here = merge_table_find(m, ids[i], ids[i + 1]);
            if (here && (!best || here->rank < best->rank)) best = here, at = i;
        }
        if (!best) return n;
        ids[at] = best->id;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void add_merge(struct language *l, int32_t left, int32_t right, int32_t rank)
{
    char joined[SPELLING * 2];
    snprintf(joined, sizeof joined, "%s%s", l->spelling[left], l->spelling[right]);
    if (strlen(joined) >= SPELLING) return;
    int32_t id = 0;
    while (id < l->symbols && strcmp(l->spelling[id], joined)) id++;
    if (id == SYMBOLS) return;
    if (id == l->symbols) memcpy(l->spelling[l->symbols++], joined, strlen(joined) + 1);
    FUZZ_MUST(!merge_table_put(&l->merges, left, right, rank, id));
    cuts_join(&l->cuts, l->spelling[left], strlen(l->spelling[left]), l->spelling[right],
              strlen(l->spelling[right]));
}

static size_t merge(const struct language *l, struct bpe_work *w, const int32_t *ids, size_t n,
                    int32_t *out)
{
    FUZZ_MUST(!bpe_reserve(w, n));
    memcpy(w->ids, ids, n * sizeof *ids);
    w->len = n;
    FUZZ_MUST(!bpe_merge(&l->merges, w));
    memcpy(out, w->ids, w->len * sizeof *out);
    return w->len;
}

static size_t merge_parts(const struct language *l, struct bpe_work *w, const int32_t *ids,
                          size_t n, int32_t *out)
{
    static char text[WORD_MAX * 3];
    static size_t ends[WORD_MAX];
    size_t bytes = 0, at = 0, part = 0, count = 0, done = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(text + bytes, letters[ids[i]], strlen(letters[ids[i]]));
        bytes += strlen(letters[ids[i]]);
    }
    size_t cuts = cuts_find(&l->cuts, text, bytes, 0, ends, WORD_MAX);
    for (size_t i = 0; i < n; i++) {
        at += strlen(letters[ids[i]]);
        if (part >= cuts || at != ends[part]) continue;
        count += merge(l, w, ids + done, i + 1 - done, out + count);
        done = i + 1;
        part++;
    }
    FUZZ_MUST(part == cuts && done == n);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct language l;
    static struct bpe_work w; /* kept: still reachable at exit */
    static int32_t ids[WORD_MAX], want[WORD_MAX], got[WORD_MAX];
    if (size < 2 || size > 1000) return 0;
    size_t merges = data[0] % 64, n = 0;
    const uint8_t *at = data + 1, *end = data + size;
    memset(&l, 0, sizeof l);
    for (; l.symbols < LETTERS; l.symbols++)
        snprintf(l.spelling[l.symbols], SPELLING, "%s", letters[l.symbols]);
    for (; merges && end - at >= 3; merges--, at += 3)
        add_merge(&l, at[0] % l.symbols, at[1] % l.symbols, at[2] % 32);
    cuts_finish(&l.cuts);
    for (; at < end && n < WORD_MAX; at++) ids[n++] = *at % LETTERS;
    if (n) {
        memcpy(want, ids, n * sizeof *ids);
        size_t plain = merge_plainly(&l.merges, want, n);
        FUZZ_MUST(merge(&l, &w, ids, n, got) == plain);
        FUZZ_MUST(!memcmp(got, want, plain * sizeof *got));
        FUZZ_MUST(merge_parts(&l, &w, ids, n, got) == plain);
        FUZZ_MUST(!memcmp(got, want, plain * sizeof *got));
    }
    merge_table_free(&l.merges);
    return 0;
}

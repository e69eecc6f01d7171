/* The hand-made parts of the tokenizer against what they stand for: splitters against PCRE2,
 * merging by a heap and over cuts against the plainest form of BPE. */
#include "support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "data/tokenizer/ascii.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/classes.h"
#include "data/tokenizer/cuts.h"
#include "data/tokenizer/normalize.h"
#include "data/tokenizer/scan.h"
#include "data/tokenizer/split.h"
#include "data/tokenizer/utf8.h"

static uint64_t random_below(uint64_t *state, uint64_t n)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (*state >> 33) % n;
}

/* ---- splitters ---- */

static const char *const patterns[] = {scan_llama3_pattern, scan_qwen_pattern, scan_gpt2_pattern};

static size_t cut_all(const struct splitter *s, struct splitter_scratch *scratch, const char *text,
                      size_t n, size_t *ends, int step)
{
    size_t count = 0, at = 0;
    int got;
    while ((got = splitter_cut(s, scratch, text, n, at, ends + count, step)) > 0) {
        count += (size_t)got;
        at = ends[count - 1];
    }
    assert_int_equal(got, 0);
    return count;
}

struct pair {
    struct splitter *fast, *slow;
    struct splitter_scratch *scratch;
};

static struct pair open_pair(const char *pattern)
{
    struct err e = {0};
    struct pair p;
    CHECK_OK(splitter_create(&p.fast, pattern, SPLIT_PATTERN, &e), &e);
    CHECK_OK(splitter_create(&p.slow, pattern, SPLIT_REFERENCE, &e), &e);
    p.scratch = splitter_scratch_create();
    assert_non_null(p.scratch);
    return p;
}

static void close_pair(struct pair *p)
{
    splitter_destroy(p->fast);
    splitter_destroy(p->slow);
    splitter_scratch_destroy(p->scratch);
}

#define TEXT_BYTES 256

static void compare(const struct pair *p, const char *text, size_t n)
{
    size_t a[TEXT_BYTES + 64], b[TEXT_BYTES + 64];
    /* A copy of its own, so that a sanitizer sees a read behind it. */
    char *copy = mem_alloc(n + 1);
    assert_non_null(copy);
    memcpy(copy, text, n);
    size_t fast = cut_all(p->fast, p->scratch, copy, n, a, 7);
    size_t slow = cut_all(p->slow, p->scratch, copy, n, b, 64);
    if (fast != slow || memcmp(a, b, fast * sizeof *a)) {
        print_error("cut differently:");
        for (size_t i = 0; i < n; i++) print_error(" %02X", (unsigned char)text[i]);
        print_error("\n");
        for (size_t i = 0; i < fast; i++) print_error(" %zu", a[i]);
        print_error(" scanned\n");
        for (size_t i = 0; i < slow; i++) print_error(" %zu", b[i]);
        print_error(" by PCRE2\n");
        fail();
    }
    mem_free(copy);
}

/* Characters that the patterns tell apart, some often. */
static uint32_t any_char(uint64_t *state)
{
    static const uint32_t telling[] = {
        ' ',    ' ',   ' ',    '\n', '\r',  '\t',    '\'',     's',    'S',  't',
        'r',    'e',   'V',    'l',  'L',   'd',     'M',      '1',    '2',  '.',
        '!',    0x17F, 0x212A, 0xA0, 0x85,  0x3000,  0x2028,   0x180E, 0xB2, 0x661,
        0x4E2D, 0x301, 0x200D, 0xE9, 0x416, 0x1F600, 0x10FFFF, 0x0,    0x1C, '_'};
    uint64_t kind = random_below(state, 8);
    if (kind < 5) return telling[random_below(state, sizeof telling / sizeof *telling)];
    if (kind == 5) return (uint32_t)random_below(state, 128);
    uint32_t cp = (uint32_t)random_below(state, kind == 6 ? 0x3100 : 0x110000);
    return cp >= 0xD800 && cp <= 0xDFFF ? 'x' : cp;
}

static void test_splitters_on_anything(void **state)
{
    (void)state;
    uint64_t seed = 20;
    for (size_t k = 0; k < sizeof patterns / sizeof *patterns; k++) {
        struct pair p = open_pair(patterns[k]);
        for (int round = 0; round < 60000; round++) {
            char text[TEXT_BYTES];
            size_t n = 0, chars = random_below(&seed, 24);
            for (size_t i = 0; i < chars; i++) n += (size_t)utf8_encode(any_char(&seed), text + n);
            compare(&p, text, n);
        }
        close_pair(&p);
    }
}

/* Every character between others of each class. */
static void test_splitters_on_every_character(void **state)
{
    (void)state;
    static const char *const around[][2] = {{"a", "b"}, {" ", " "}, {"1", "."}, {"'", "a"}};
    for (size_t k = 0; k < sizeof patterns / sizeof *patterns; k++) {
        struct pair p = open_pair(patterns[k]);
        for (uint32_t cp = 0; cp<0x110000; cp += cp> 0x32400 && cp < 0xE0000 ? 61 : 1) {
            if (cp >= 0xD800 && cp <= 0xDFFF) continue;
            char text[TEXT_BYTES];
            size_t n = 0;
            for (size_t i = 0; i < sizeof around / sizeof *around; i++) {
                text[n++] = *around[i][0];
                n += (size_t)utf8_encode(cp, text + n);
                text[n++] = *around[i][1];
            }
            compare(&p, text, n);
        }
        close_pair(&p);
    }
}

/* Long stretches of ASCII, which are cut many pieces at a time; now and then something else. */
static void test_splitters_on_ascii(void **state)
{
    (void)state;
    static const char often[] = "    aesTl''''\n\n\r\t19..!s";
    uint64_t seed = 21;
    for (size_t k = 0; k < sizeof patterns / sizeof *patterns; k++) {
        struct pair p = open_pair(patterns[k]);
        for (int round = 0; round < 40000; round++) {
            char text[TEXT_BYTES];
            size_t n = 0, bytes = 16 + random_below(&seed, TEXT_BYTES - 24);
            uint64_t runs = 1 + random_below(&seed, 6), foreign = 20 + random_below(&seed, 200);
            while (n < bytes) {
                if (n && (unsigned char)text[n - 1] < 0x80 && !random_below(&seed, runs)) {
                    text[n] = text[n - 1];
                    n++;
                } else if (random_below(&seed, foreign)) {
                    text[n++] = often[random_below(&seed, sizeof often - 1)];
                } else {
                    n += (size_t)utf8_encode(any_char(&seed), text + n);
                }
            }
            compare(&p, text, n);
        }
        close_pair(&p);
    }
}

/* Every row of five characters that rules tell apart, in front of words. */
static void test_splitters_on_every_row(void **state)
{
    (void)state;
    static const char signs[] = " \n\t'sl1.";
    enum { SIGNS = sizeof signs - 1, LENGTH = 5 };
    for (size_t k = 0; k < sizeof patterns / sizeof *patterns; k++) {
        struct pair p = open_pair(patterns[k]);
        int rows = 1;
        for (int i = 0; i < LENGTH; i++) rows *= SIGNS;
        for (int row = 0; row < rows; row++) {
            char text[] = ".....b c d. ef\n gh 12  ij";
            for (int i = 0, rest = row; i < LENGTH; i++, rest /= SIGNS)
                text[i] = signs[rest % SIGNS];
            compare(&p, text, sizeof text - 1);
        }
        close_pair(&p);
    }
}

static void check_masks(const unsigned char *p)
{
    struct ascii_masks a = ascii_look(p), b = ascii_look_portable(p);
    assert_memory_equal(&a, &b, sizeof a);
    for (int i = 0; i < ASCII_SPAN; i++) {
        int c = p[i], lower = c | 32;
        assert_int_equal(a.high >> i & 1, c >= 0x80);
        assert_int_equal(a.letters >> i & 1, c < 0x80 && lower >= 'a' && lower <= 'z');
        assert_int_equal(a.numbers >> i & 1, c >= '0' && c <= '9');
        assert_int_equal(a.spaces >> i & 1, c == ' ' || (c >= 9 && c <= 13));
        assert_int_equal(a.newlines >> i & 1, c == '\n' || c == '\r');
        assert_int_equal(a.blanks >> i & 1, c == ' ');
        assert_int_equal(a.quotes >> i & 1, c == '\'');
    }
}

static void test_ascii_masks(void **state)
{
    (void)state;
    unsigned char bytes[ASCII_SPAN];
    uint64_t seed = 22;
    for (int c = 0; c < 256; c++) {
        memset(bytes, c, sizeof bytes);
        check_masks(bytes);
    }
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < ASCII_SPAN; i++) bytes[i] = (unsigned char)random_below(&seed, 256);
        check_masks(bytes);
    }
}

static void test_only_known_patterns_are_scanned(void **state)
{
    (void)state;
    assert_non_null(scanner_find(scan_llama3_pattern));
    assert_null(scanner_find("\\s+"));
    assert_null(scanner_find(""));
}

/* ---- merging ---- */

/* Of all merges the lowest rank, the leftmost of equals; from the definition. */
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

#define LETTERS 5
#define MERGES 60

struct language { /* symbols are spelled with letters that are different characters */
    struct merge_table merges;
    struct cuts cuts;
    char spelling[LETTERS + MERGES][512];
    int32_t symbols;
};

static const char *const letters[LETTERS] = {"a", "b", "\xC3\xA9", "\xE4\xB8\xAD", "\xE5\x9B\xBD"};

static int32_t find_symbol(const struct language *l, const char *spelling)
{
    for (int32_t i = 0; i < l->symbols; i++)
        if (!strcmp(l->spelling[i], spelling)) return i;
    return -1;
}

/* Ranks need not grow with what is built on them, and several ways may lead to one symbol. */
static void invent(struct language *l, uint64_t *seed)
{
    memset(l, 0, sizeof *l);
    for (; l->symbols < LETTERS; l->symbols++)
        snprintf(l->spelling[l->symbols], sizeof l->spelling[0], "%s", letters[l->symbols]);
    for (int i = 0; i < MERGES; i++) {
        char joined[1024];
        int32_t left = (int32_t)random_below(seed, (uint64_t)l->symbols);
        int32_t right = (int32_t)random_below(seed, (uint64_t)l->symbols);
        snprintf(joined, sizeof joined, "%s%s", l->spelling[left], l->spelling[right]);
        if (strlen(joined) >= 64) continue;
        int32_t id = find_symbol(l, joined);
        if (id < 0) {
            id = l->symbols++;
            memcpy(l->spelling[id], joined, strlen(joined) + 1);
        }
        int32_t rank = (int32_t)random_below(seed, 40);
        assert_int_equal(merge_table_put(&l->merges, left, right, rank, id), OK);
        cuts_join(&l->cuts, l->spelling[left], strlen(l->spelling[left]), l->spelling[right],
                  strlen(l->spelling[right]));
    }
    cuts_finish(&l->cuts);
}

#define LONGEST 300

static size_t merge_fast(const struct language *l, struct bpe_work *w, const int32_t *ids, size_t n,
                         int32_t *out)
{
    assert_int_equal(bpe_reserve(w, n), OK);
    memcpy(w->ids, ids, n * sizeof *ids);
    w->len = n;
    assert_int_equal(bpe_merge(&l->merges, w), OK);
    memcpy(out, w->ids, w->len * sizeof *out);
    return w->len;
}

/* Over cuts: each part alone. */
static size_t merge_parts(const struct language *l, struct bpe_work *w, const int32_t *ids,
                          size_t n, int32_t *out)
{
    char text[LONGEST * 4];
    size_t ends[LONGEST], at = 0, bytes = 0, part = 0, count = 0, done = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(text + bytes, letters[ids[i]], strlen(letters[ids[i]]));
        bytes += strlen(letters[ids[i]]);
    }
    size_t cuts = cuts_find(&l->cuts, text, bytes, 0, ends, LONGEST);
    for (size_t i = 0; i < n; i++) {
        at += strlen(letters[ids[i]]);
        if (part >= cuts || at != ends[part]) continue;
        count += merge_fast(l, w, ids + done, i + 1 - done, out + count);
        done = i + 1;
        part++;
    }
    assert_int_equal(part, cuts);
    assert_int_equal(done, n);
    return count;
}

static void test_merges(void **state)
{
    (void)state;
    static struct language l;
    uint64_t seed = 7;
    struct bpe_work w = {0};
    for (int round = 0; round < 300; round++) {
        invent(&l, &seed);
        for (int k = 0; k < 20; k++) {
            int32_t ids[LONGEST], plain[LONGEST], fast[LONGEST], parts[LONGEST];
            size_t n = 1 + random_below(&seed, k < 10 ? 45 : LONGEST);
            for (size_t i = 0; i < n; i++)
                ids[i] = k % 5 ? (int32_t)random_below(&seed, LETTERS) : (int32_t)(k % 3);
            memcpy(plain, ids, n * sizeof *ids);
            size_t want = merge_plainly(&l.merges, plain, n);
            assert_int_equal(merge_fast(&l, &w, ids, n, fast), want);
            assert_memory_equal(fast, plain, want * sizeof *plain);
            assert_int_equal(merge_parts(&l, &w, ids, n, parts), want);
            assert_memory_equal(parts, plain, want * sizeof *plain);
        }
        merge_table_free(&l.merges);
    }
    bpe_work_free(&w);
}

/* ---- composing ---- */

/* utf8proc takes U+11A7 for a trailing jamo and loses it; the references leave it. */
static void test_nfc_keeps_u11a7(void **state)
{
    (void)state;
    static const char text[] = "\xEC\x96\xB4\xE1\x86\xA7\xE1\x86\xA8"
                               "e\xCC\x81";
    static const char want[] = "\xEC\x96\xB4\xE1\x86\xA7\xE1\x86\xA8"
                               "\xC3\xA9";
    const struct normalizer z = {.steps = {{.kind = NORMALIZE_NFC}}, .count = 1};
    struct normalizer_work w;
    const char *out;
    size_t n;
    normalizer_work_init(&w);
    assert_int_equal(normalizer_apply(&z, &w, text, sizeof text - 1, 1, 1, &out, &n), OK);
    assert_int_equal(n, sizeof want - 1);
    assert_memory_equal(out, want, n);
    normalizer_work_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_splitters_on_anything),
        cmocka_unit_test(test_splitters_on_every_character),
        cmocka_unit_test(test_splitters_on_ascii),
        cmocka_unit_test(test_splitters_on_every_row),
        cmocka_unit_test(test_ascii_masks),
        cmocka_unit_test(test_only_known_patterns_are_scanned),
        cmocka_unit_test(test_merges),
        cmocka_unit_test(test_nfc_keeps_u11a7),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

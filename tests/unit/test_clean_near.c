/* Near-duplicates: planted ones are found, others are left alone, and in which time. The index
 * takes a document at a time, so 50,000 of them take 50,000 times what one takes plus rarer
 * rehashing; CRIA_NEAR_DOCUMENTS=50000 measures it. */
#include "support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/rng.h"
#include "data/clean/near.h"

#define DOCUMENTS 6000
#define WORDS 20000 /* in the vocabulary */

static struct mt19937 rng;

static uint32_t below(uint32_t n) { return mt19937_next(&rng) % n; }

/* A word by its rank: frequent ones come often, as in texts. */
static uint32_t word(void)
{
    double u = (double)mt19937_next(&rng) / 4294967296.0;
    return (uint32_t)(u * u * u * WORDS);
}

struct document {
    uint32_t words[700];
    size_t n;
};

static struct document new_document(void)
{
    struct document d = {.n = 60 + below(540)};
    for (size_t i = 0; i < d.n; i++) d.words[i] = word();
    return d;
}

/* Another version: up to four words in a hundred are others, and a sentence is put behind. */
static struct document new_version(const struct document *d, int *edits)
{
    struct document v = *d;
    *edits = (int)((size_t)(1 + below(4)) * d->n / 100);
    for (int i = 0; i < *edits; i++) v.words[below((uint32_t)v.n)] = word();
    for (size_t i = 0; i < d->n / 30; i++) v.words[v.n++] = word();
    return v;
}

/* Its text; `other`: with other punctuation and case, which must not matter. */
static void sign(const struct document *d, int other, struct near_signature *out)
{
    struct buf text;
    struct word_list w = {0};
    struct err e = {0};
    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < d->n; i++)
        CHECK_OK(buf_printf(&text, other ? "W%u,  " : "w%u ", d->words[i]), &e);
    CHECK_OK(words_append(&w, (struct text){text.data, text.len}), &e);
    assert_int_equal(w.n, d->n);
    near_sign(&w, out);
    words_free(&w);
    buf_free(&text);
}

static void test_planted(void **state)
{
    (void)state;
    struct err e = {0};
    struct near *near;
    struct near_signature s;
    const char *wanted = getenv("CRIA_NEAR_DOCUMENTS");
    uint32_t count = wanted ? (uint32_t)strtoul(wanted, NULL, 10) : DOCUMENTS, number;
    int planted = 0, found = 0, others = 0, wrong = 0, edits;
    double began = clock_seconds();
    mt19937_seed(&rng, 7);
    CHECK_OK(near_open(&near, 0.7), &e);
    for (uint32_t i = 0; i < count; i++) {
        struct document d = new_document();
        sign(&d, 0, &s);
        others++;
        wrong += near_find(near, &s, &number);
        CHECK_OK(near_add(near, &s, i), &e);
        if (i % 5) continue;
        struct document v = new_version(&d, &edits);
        sign(&v, 1, &s);
        planted++;
        found += near_find(near, &s, &number) && number == i;
    }
    print_message("%d of %d near-duplicates found, %d of %d others taken for some; %.2f s, %.0f "
                  "bytes a document\n",
                  found, planted, wrong, others, clock_seconds() - began,
                  (double)near_bytes(near) / count);
    near_close(near);
    assert_true(found >= 0.95 * planted);
    assert_true(wrong <= 0.01 * others);
}

/* The estimate follows the index it stands for. */
static void test_threshold(void **state)
{
    (void)state;
    struct err e = {0};
    struct near_signature a, b;
    uint32_t number;
    static const struct {
        size_t same; /* of 100 words in a row, the others differ */
        double at;
        int is_near;
    } cases[] = {{100, 1, 1}, {98, 0.8, 1}, {60, 0.7, 0}, {60, 0.4, 1}, {0, 0.4, 0}};
    mt19937_seed(&rng, 3);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct document d = {.n = 100}, v;
        struct near *near;
        for (size_t i = 0; i < d.n; i++) d.words[i] = below(1u << 30);
        v = d;
        for (size_t i = cases[k].same; i < v.n; i++) v.words[i] = below(1u << 30);
        CHECK_OK(near_open(&near, cases[k].at), &e);
        sign(&d, 0, &a);
        sign(&v, 0, &b);
        CHECK_OK(near_add(near, &a, 17), &e);
        assert_int_equal(near_find(near, &b, &number), cases[k].is_near);
        if (cases[k].is_near) assert_int_equal(number, 17);
        near_close(near);
    }
}

/* Texts of fewer words than a shingle are compared whole; of none, with others of none. */
static void test_short(void **state)
{
    (void)state;
    static const char *const texts[] = {"two", "two words", "Two, words!", "", "..."};
    static const int known[] = {0, 0, 1, 0, 1};
    struct err e = {0};
    struct near *near;
    struct near_signature s;
    uint32_t number;
    CHECK_OK(near_open(&near, 0.7), &e);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct word_list w = {0};
        CHECK_OK(words_append(&w, (struct text){texts[i], strlen(texts[i])}), &e);
        near_sign(&w, &s);
        assert_int_equal(near_find(near, &s, &number), known[i]);
        CHECK_OK(near_add(near, &s, (uint32_t)i), &e);
        words_free(&w);
    }
    near_close(near);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted),
        cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

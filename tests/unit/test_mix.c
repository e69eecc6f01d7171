/* data/loader/mix: what an epoch takes of each source, what is held out, and that no prompt is on
 * both sides; the same for the same seed, and the loader's order of stages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "data/loader/mix.h"
#include "data/store/store.h"
#include "support/check.h"

/* Three sources; every fifth document has the prompt of the one five before it. */
static const int counts[] = {100, 40, 10};
#define ALL 150

static char folder[] = "/tmp/cria-mix-XXXXXX", path[64];
static struct store *store;
static int32_t sources[ALL], prompts[ALL];

static enum status write_documents(struct err *e)
{
    static const struct store_settings settings = {.vocab_size = 500};
    static const struct store_source files[] = {{"a", "a", ""}, {"b", "b", ""}, {"c", "c", ""}};
    struct store_writer *w;
    TRY(store_writer_open(&w, path, &settings, files, 3, e));
    enum status s = OK;
    for (int d = 0, source = 0, left = counts[0]; d < ALL && !s; d++, left--) {
        if (!left) left = counts[++source];
        sources[d] = source;
        prompts[d] = d % 5 == 0 && d >= 5 ? prompts[d - 5] : d;
        int32_t ids[] = {1, 2 + prompts[d], 7, 200 + d};
        float weights[] = {0, 0, 0, 1};
        struct sample x = {.ids = ids, .weights = weights, .n = 4, .source = source, .line = d + 1};
        s = store_writer_append(w, &x, e);
    }
    if (!s) s = store_writer_commit(w, NULL, e);
    store_writer_close(w);
    return s;
}

static struct mix make(const struct mix_options *o)
{
    struct err e = {0};
    struct mix m;
    CHECK_OK(mix_make(&m, store, o, &e), &e);
    int64_t taken[3] = {0}, held[3] = {0};
    for (int64_t i = 0; i < m.train.num_documents; i++) taken[sources[m.train.documents[i]]]++;
    for (int64_t i = 0; i < m.eval.num_documents; i++) held[sources[m.eval.documents[i]]]++;
    for (int s = 0; s < 3; s++) {
        assert_int_equal(m.accounts[s].documents, counts[s]);
        assert_int_equal(m.accounts[s].taken, taken[s]);
        assert_int_equal(m.accounts[s].held_out, held[s]);
    }
    return m;
}

static void test_plain(void **state)
{
    (void)state;
    struct mix m = make(&(struct mix_options){.seed = 1});
    assert_int_equal(m.train.num_documents, ALL);
    assert_int_equal(m.train.num_stages, 0);
    for (int d = 0; d < ALL; d++) assert_int_equal(m.train.documents[d], d);
    assert_int_equal(m.eval.num_documents, 0);
    mix_free(&m);
}

/* Caps and fractions: exact counts, a document once, in file order, by the seed. */
static void test_cut_down(void **state)
{
    (void)state;
    const struct mix_source ask[] = {{1, 1, 30, 1}, {1, 0.25, 0, 1}, {1, 1, 1000, 2}};
    struct mix_options o = {.sources = ask, .seed = 3};
    struct mix a = make(&o), b = make(&o);
    o.seed = 4;
    struct mix c = make(&o);
    assert_int_equal(a.accounts[0].taken, 30);
    assert_int_equal(a.accounts[0].left_out, 70);
    assert_int_equal(a.accounts[1].taken, 10);
    assert_int_equal(a.accounts[2].taken, 20);
    for (int64_t i = 1; i < 50; i++) assert_true(a.train.documents[i] > a.train.documents[i - 1]);
    assert_memory_equal(a.train.documents, b.train.documents, 60 * sizeof(int64_t));
    assert_true(memcmp(a.train.documents, c.train.documents, 60 * sizeof(int64_t)) != 0);
    mix_free(&a);
    mix_free(&b);
    mix_free(&c);
}

static void test_weights(void **state)
{
    (void)state;
    struct mix_source ask[] = {{0.5, 1, 0, 1}, {0.25, 1, 0, 1}, {0.25, 1, 0, 1}};
    struct mix_options o = {.sources = ask, .strategy = MIX_UNDER, .seed = 1};
    struct mix m = make(&o); /* 10 of c are a quarter */
    assert_int_equal(m.accounts[0].taken, 20);
    assert_int_equal(m.accounts[1].taken, 10);
    assert_int_equal(m.accounts[2].taken, 10);
    mix_free(&m);
    o.strategy = MIX_OVER; /* 100 of a are a half */
    m = make(&o);
    assert_int_equal(m.accounts[0].taken, 100);
    assert_int_equal(m.accounts[1].taken, 50);
    assert_int_equal(m.accounts[2].taken, 50);
    int times[ALL] = {0};
    for (int64_t i = 0; i < m.train.num_documents; i++) times[m.train.documents[i]]++;
    for (int d = 0; d < ALL; d++) /* every document as often as the others, but for one pass */
        assert_true(sources[d] == 0   ? times[d] == 1
                    : sources[d] == 1 ? times[d] == 1 || times[d] == 2
                                      : times[d] == 5);
    mix_free(&m);
    ask[2].repeat = 4;
    o.strategy = MIX_UNDER;
    m = make(&o); /* 40 of c are a quarter, and so are 40 of b; 80 of a */
    assert_int_equal(m.accounts[0].taken, 80);
    assert_int_equal(m.accounts[1].taken, 40);
    assert_int_equal(m.accounts[2].taken, 40);
    mix_free(&m);
}

/* No prompt on both sides, nothing lost, whatever the seed. */
static void test_no_overlap(void **state)
{
    (void)state;
    const struct mix_source ask[] = {{1, 1, 0, 1}, {1, 1, 20, 3}, {1, 1, 0, 1}};
    int64_t by_hash = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct mix_options o = {.sources = ask,
                                .val_size = seed % 3 ? 0.1 : 7,
                                .by_hash = seed % 3 == 1,
                                .order = (enum mix_order)(seed % 2),
                                .seed = seed};
        struct mix m = make(&o);
        int held[ALL] = {0}, left_out = 0;
        for (int64_t i = 0; i < m.eval.num_documents; i++) held[prompts[m.eval.documents[i]]] = 1;
        for (int64_t i = 0; i < m.train.num_documents; i++)
            assert_false(held[prompts[m.train.documents[i]]]);
        for (int s = 0; s < 3; s++) left_out += (int)m.accounts[s].left_out;
        assert_int_equal(left_out, 20);
        int64_t own = m.eval.num_documents - m.moved;
        if (o.by_hash)
            by_hash += m.eval.num_documents;
        else
            assert_int_equal(own, seed % 3 ? 13 : 7); /* ceil(0.1 * 130) */
        mix_free(&m);
    }
    assert_true(by_hash > 20 * 130 / 20 && by_hash < 20 * 130 / 5);
}

/* By hash a document stays on its side when sources before it change. */
static void test_hash_is_stable(void **state)
{
    (void)state;
    const struct mix_source ask[] = {{1, 1, 5, 1}, {1, 1, 0, 1}, {1, 1, 0, 1}};
    struct mix_options o = {.val_size = 0.2, .by_hash = 1, .seed = 9};
    struct mix all = make(&o);
    o.sources = ask;
    struct mix fewer = make(&o);
    assert_int_equal(all.accounts[1].held_out, fewer.accounts[1].held_out);
    assert_int_equal(all.accounts[2].held_out, fewer.accounts[2].held_out);
    mix_free(&all);
    mix_free(&fewer);
}

/* Source after source, each pass of each shuffled by itself; packed too; any step at any time. */
static void test_progressive(void **state)
{
    (void)state;
    const struct mix_source ask[] = {{1, 1, 0, 1}, {1, 1, 0, 2}, {1, 1, 0, 1}};
    struct mix_options o = {.sources = ask, .order = MIX_PROGRESSIVE, .seed = 5};
    struct mix m = make(&o);
    struct err e = {0};
    assert_int_equal(m.train.num_stages, 4);
    for (int packing = 0; packing < 2; packing++) {
        struct loader_options lo = {.max_length = packing ? 12 : 8,
                                    .batch_size = packing ? 1 : 5,
                                    .accumulation = 2,
                                    .packing = packing,
                                    .shuffle = 1,
                                    .seed = 5};
        struct loader *l;
        CHECK_OK(loader_open(&l, store, m.train, &lo, &e), &e);
        int64_t steps = loader_report(l)->steps_per_epoch, at = 0;
        int64_t order[2][190];
        for (int epoch = 0; epoch < 2; epoch++, at = 0)
            for (int64_t k = 0; k < steps; k++) {
                struct loader_step step;
                CHECK_OK(loader_step(l, epoch * steps + k, &step, &e), &e);
                for (int32_t micro = 0; micro < step.micro_batches; micro++) {
                    struct batch b;
                    CHECK_OK(loader_batch(l, epoch * steps + k, micro, &b, &e), &e);
                    for (int32_t i = 0; i < b.num_segments; i++)
                        order[epoch][at++] = b.documents[b.segments[i].start];
                }
            }
        static const int ends[] = {100, 140, 180, 190};
        for (int epoch = 0; epoch < 2; epoch++)
            for (int stage = 0, first = 0; stage < 4; first = ends[stage++]) {
                int times[ALL] = {0}, ascending = 1;
                for (int i = first; i < ends[stage]; i++) {
                    assert_int_equal(sources[order[epoch][i]], stage < 2 ? stage : stage - 1);
                    assert_int_equal(times[order[epoch][i]]++, 0);
                    ascending &= i == first || order[epoch][i] > order[epoch][i - 1];
                }
                assert_false(ascending);
            }
        assert_true(memcmp(order[0], order[1], sizeof order[0]) != 0);
        assert_true(memcmp(order[0] + 100, order[0] + 140, 40 * sizeof(int64_t)) != 0);
        loader_close(l);
    }
    mix_free(&m);
}

static void test_refusals(void **state)
{
    (void)state;
    struct err e = {0};
    struct mix m;
    struct mix_source ask[] = {{1e-6, 1, 0, 1}, {1, 1, 0, 1}, {1e6, 1, 0, 1}};
    struct mix_options o = {.val_size = 2, .by_hash = 1};
    assert_int_equal(mix_make(&m, store, &o, &e), ERR_CONFIG);
    assert_non_null(strstr(e.hint, "val_split: document"));
    o = (struct mix_options){.val_size = ALL};
    assert_int_equal(mix_make(&m, store, &o, &e), ERR_CONFIG);
    o = (struct mix_options){.val_size = ALL - 1,
                             .seed = 3}; /* its prompt may be held out as well */
    if (mix_make(&m, store, &o, &e) == OK) mix_free(&m);
    o = (struct mix_options){.sources = ask, .strategy = MIX_OVER};
    assert_int_equal(mix_make(&m, store, &o, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "too long"));
    for (long k = 1; k < 40; k++) {
        o = (struct mix_options){.val_size = 0.1, .seed = 1};
        mem_fail_after(k);
        enum status s = mix_make(&m, store, &o, &e);
        mem_fail_after(0);
        if (s) assert_int_equal(s, ERR_MEMORY);
        mix_free(&m);
        if (!s) return;
    }
    fail_msg("never enough memory");
}

static int setup(void **state)
{
    (void)state;
    struct err e = {0};
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/data.h5", folder);
    return write_documents(&e) || store_open(&store, path, &e);
}

static int teardown(void **state)
{
    (void)state;
    struct err e = {0};
    store_close(store);
    return io_remove_tree(folder, &e) != OK;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),          cmocka_unit_test(test_cut_down),
        cmocka_unit_test(test_weights),        cmocka_unit_test(test_no_overlap),
        cmocka_unit_test(test_hash_is_stable), cmocka_unit_test(test_progressive),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

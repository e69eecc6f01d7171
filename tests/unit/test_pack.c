/* Best-fit decreasing against what TRL makes of a small set and against a slow, plain rendering of
 * the rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "data/pack/pack.h"

/* trl 1.16.0, _pack_bfd over one table, seq_length 20; rows end in -1. */
static void test_golden(void **state)
{
    (void)state;
    static const int32_t lengths[] = {20, 5,  7,  40, 13, 0, 12, 3, 40, 0, 2, 1, 7, 12,
                                      3,  8,  13, 1,  20, 3, 0,  3, 8,  5, 2, 8, 2, 1,
                                      2,  20, 20, 12, 2,  2, 0,  0, 3,  3, 2, 2};
    static const int want[] = {0,  -1, 3,  -1, 8,  -1, 18, -1, 29, -1, 30, -1, 4,  2,  -1, 16, 12,
                               -1, 6,  15, -1, 13, 22, -1, 31, 25, -1, 1,  23, 7,  14, 19, 11, -1,
                               21, 36, 37, 10, 24, 26, 28, 32, 17, -1, 33, 38, 39, 27, -1};
    struct pack p;
    struct err e = {0};
    int at = 0;
    assert_int_equal(pack_best_fit(&p, lengths, 40, 20, &e), OK);
    for (int64_t b = 0; b < p.num_bins; b++) {
        for (int64_t i = p.starts[b]; i < p.starts[b + 1]; i++)
            assert_int_equal(p.items[i], want[at++]);
        assert_int_equal(want[at++], -1);
    }
    assert_int_equal(at, sizeof want / sizeof *want);
    pack_free(&p);
}

/* The rule as written: longest first, then the fullest bin it fits, of equal ones the one that
 * has been so full for longest. `bin_of[i]` -1: empty. Returns how many bins. */
static int slow_pack(const int32_t *lengths, int n, int32_t capacity, int *order, int *bin_of)
{
    int32_t *space = calloc((size_t)n, sizeof *space);
    int *since = calloc((size_t)n, sizeof *since), count = 0, bins = 0;
    for (int32_t length = capacity; length >= 1; length--)
        for (int i = 0; i < n; i++)
            if ((lengths[i] < capacity ? lengths[i] : capacity) == length) order[count++] = i;
    for (int i = 0; i < n; i++) bin_of[i] = -1;
    for (int k = 0; k < count; k++) {
        int32_t length = lengths[order[k]] < capacity ? lengths[order[k]] : capacity;
        int best = -1;
        for (int b = 0; b < bins; b++) {
            if (space[b] < length) continue;
            if (best < 0 || space[b] < space[best] ||
                (space[b] == space[best] && since[b] < since[best]))
                best = b;
        }
        if (best < 0) {
            best = bins++;
            space[best] = capacity;
        }
        space[best] -= length;
        since[best] = k;
        bin_of[order[k]] = best;
    }
    free(space);
    free(since);
    return bins;
}

static void check_against_slow(const int32_t *lengths, int n, int32_t capacity)
{
    int *order = calloc((size_t)n + 1, sizeof *order),
        *bin_of = calloc((size_t)n + 1, sizeof *order);
    int *rank = calloc((size_t)n + 1, sizeof *rank), seen = 0, kept = 0;
    struct pack p;
    struct err e = {0};
    assert_int_equal(pack_best_fit(&p, lengths, n, capacity, &e), OK);
    assert_int_equal(p.num_bins, slow_pack(lengths, n, capacity, order, bin_of));
    for (int i = 0; i < n; i++) kept += lengths[i] > 0;
    for (int k = 0; k < kept; k++) rank[order[k]] = k;
    assert_int_equal(p.starts[0], 0);
    for (int64_t b = 0; b < p.num_bins; b++) {
        int64_t fill = 0;
        for (int64_t i = p.starts[b]; i < p.starts[b + 1]; i++, seen++) {
            int32_t d = p.items[i];
            assert_int_equal(bin_of[d], b);
            if (i > p.starts[b]) assert_true(rank[p.items[i - 1]] < rank[d]);
            fill += lengths[d] < capacity ? lengths[d] : capacity;
        }
        assert_true(fill >= 1 && fill <= capacity);
    }
    assert_int_equal(seen, kept);
    pack_free(&p);
    free(order);
    free(bin_of);
    free(rank);
}

static void test_against_slow(void **state)
{
    (void)state;
    static const int32_t capacities[] = {1, 2, 3, 7, 8, 9, 64, 100, 1000, INT32_MAX};
    struct mt19937 m;
    mt19937_seed(&m, 3);
    for (int round = 0; round < 60; round++) {
        int32_t lengths[300];
        int n = (int)(mt19937_next(&m) % 300), longest = 1 + (int)(mt19937_next(&m) % 120);
        for (int i = 0; i < n; i++)
            lengths[i] = (int32_t)(mt19937_next(&m) % (uint32_t)(longest + 1));
        int32_t capacity = capacities[round % 10];
        if (capacity == INT32_MAX) { /* the slow one walks over all lengths: 300 * 120 suffices */
            struct pack p, q;
            struct err e = {0};
            assert_int_equal(pack_best_fit(&p, lengths, n, INT32_MAX, &e), OK);
            assert_int_equal(pack_best_fit(&q, lengths, n, 300 * 120, &e), OK);
            assert_int_equal(p.num_bins, q.num_bins);
            assert_true(p.num_bins <= 1);
            assert_memory_equal(p.items, q.items, (size_t)p.starts[p.num_bins] * sizeof *p.items);
            pack_free(&p);
            pack_free(&q);
            capacity = 300 * 120;
        }
        check_against_slow(lengths, n, capacity);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    static const int32_t lengths[] = {3, 4, 5, 6};
    enum status s = ERR_MEMORY;
    long n = 0;
    while (s) {
        struct pack p;
        struct err e = {0};
        mem_fail_after(++n);
        s = pack_best_fit(&p, lengths, 4, 10, &e);
        mem_fail_after(0);
        assert_true(!s || (s == ERR_MEMORY && e.code == s));
        pack_free(&p);
    }
    assert_true(n > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_against_slow),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

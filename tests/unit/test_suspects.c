/* run/suspects: which documents of a step had the highest losses. */
#include "support/check.h"

#include <math.h>

#include "run/suspects.h"

#define ROWS 9

/* Three pieces of document 5 (keys 5, 90, 91), document 2 between them, and document 7. */
static const int32_t documents[ROWS] = {5, 5, 5, 2, 2, 5, 5, 7, 7};
static const int32_t keys[ROWS] = {5, 90, 90, 2, 2, 91, 91, 7, 7};
static const int32_t rows[ROWS] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
static const float weights[ROWS] = {1, 1, 1, 1, 3, 1, 1, 1, 1};
static const struct batch batch = {
    .N = ROWS, .documents = documents, .keys = keys, .S = ROWS, .rows = rows, .weights = weights};

static void check(const struct suspects *s, int at, int64_t document, double loss)
{
    assert_true(at < s->n);
    assert_int_equal(s->worst[at].document, document);
    assert_true(s->worst[at].loss == loss || (isnan(loss) && isnan(s->worst[at].loss)));
}

/* A piece is judged by itself, also where another of the same text stands beside it. */
static void test_pieces(void **state)
{
    (void)state;
    static const float logp[ROWS] = {-9, -1, -3, -4, -8, -5, -5, -6, -6};
    struct suspects s;
    suspects_clear(&s);
    suspects_add(&s, &batch, logp);
    assert_int_equal(s.n, 3);
    check(&s, 0, 5, 9);
    check(&s, 1, 2, 7);
    check(&s, 2, 7, 6);
}

static void test_not_a_number(void **state)
{
    (void)state;
    static const float first[ROWS] = {-9, -1, -3, -4, -8, -5, -5, -6, -6};
    const float then[ROWS] = {-1, -1, -1, -1, -1, -20, -20, NAN, -1};
    struct suspects s;
    suspects_clear(&s);
    suspects_add(&s, &batch, first);
    suspects_add(&s, &batch, then);
    assert_int_equal(s.n, 3);
    check(&s, 0, 7, NAN);
    check(&s, 1, 5, 20);
    check(&s, 2, 2, 7);
}

/* The four highest of many. */
static void test_most(void **state)
{
    (void)state;
    struct suspects s;
    suspects_clear(&s);
    for (int32_t d = 0; d < 20; d++) {
        const int32_t row = 0, document = d, losses[20] = {3,  9, 14, 1, 0,  7,  19, 4,  2,  8,
                                                           11, 5, 17, 6, 16, 13, 10, 12, 15, 18};
        const float weight = 1, logp = -(float)losses[d];
        const struct batch b = {.N = 1,
                                .documents = &document,
                                .keys = &document,
                                .S = 1,
                                .rows = &row,
                                .weights = &weight};
        suspects_add(&s, &b, &logp);
    }
    assert_int_equal(s.n, SUSPECTS_MAX);
    check(&s, 0, 6, 19);
    check(&s, 1, 19, 18);
    check(&s, 2, 12, 17);
    check(&s, 3, 14, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_not_a_number),
        cmocka_unit_test(test_most),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

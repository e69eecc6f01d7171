/* test_sampling.c - the next token: what the host draws, and that a device (the emulator, under
 * shuffled schedules) draws the same from the same logits, over many rows and every option. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "kernels/sampling.h"
#include "run/sampler.h"
#include "support/check.h"

extern void emu_set_seed(uint64_t seed);

enum { MOST_V = 5003 };

/* The weights are those of the exponential function, and never grow where logits fall. */
static void test_weights(void **state)
{
    uint32_t last = UINT32_MAX;
    (void)state;
    assert_int_equal(sampling_weight(3, 3, 1), 1u << 31);
    for (int i = 0; i <= 40000; i++) {
        float z = (float)-i * 0x1p-10f;
        uint32_t w = sampling_weight(z, 0, 1.4426950408889634f);
        assert_true(w <= last);
        assert_true(fabs((double)w - exp((double)z) * 0x1p31) <=
                    1 + 1e-6 * exp((double)z) * 0x1p31);
        last = w;
    }
    assert_int_equal(sampling_weight(-INFINITY, 0, 1), 0);
    assert_int_equal(sampling_weight(INFINITY, INFINITY, 1), 1u << 31);
    assert_int_equal(sampling_weight(-FLT_MAX, FLT_MAX, FLT_MAX), 0);
}

static void test_keys(void **state)
{
    const float rising[] = {-INFINITY, -FLT_MAX, -1, -FLT_MIN, 0, FLT_MIN, 1, FLT_MAX, INFINITY};
    (void)state;
    for (size_t i = 0; i < sizeof rising / sizeof *rising; i++) {
        assert_true(sampling_logit(sampling_key(rising[i])) == rising[i]);
        if (i) assert_true(sampling_key(rising[i]) > sampling_key(rising[i - 1]));
    }
    assert_int_equal(sampling_key(-0.0f), sampling_key(0));
}

/* Of a row whose probabilities are 1/2, 1/4, 1/8, 1/8: shares, and what top_k and top_p leave. */
static void test_shares(void **state)
{
    static const struct {
        int32_t top_k;
        double top_p, share[4];
    } cases[] = {{0, 1, {0.5, 0.25, 0.125, 0.125}},
                 {2, 1, {2 / 3.0, 1 / 3.0, 0, 0}},
                 {3, 1, {4 / 7.0, 2 / 7.0, 1 / 7.0, 0}},
                 {0, 0.75, {2 / 3.0, 1 / 3.0, 0, 0}},
                 {0, 0.76, {4 / 7.0, 2 / 7.0, 1 / 7.0, 0}},
                 {2, 0.6, {1, 0, 0, 0}},
                 {0, 0.001, {1, 0, 0, 0}}};
    const float logits[] = {logf(8), logf(4), logf(2), logf(2)};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sampler s;
        struct err e = {0};
        struct sampler_options o = {1, cases[i].top_p, cases[i].top_k, 5};
        int count[4] = {0};
        CHECK_OK(sampler_init(&s, &o, 4, &e), &e);
        for (uint32_t step = 0; step < 20000; step++) count[sampler_draw(&s, logits, i, step)]++;
        for (int v = 0; v < 4; v++) assert_true(fabs(count[v] / 2e4 - cases[i].share[v]) < 0.015);
        sampler_free(&s);
    }
}

/* --- host against device --- */

struct pair {
    struct device d;
    void *logits;
    int32_t *id;
};

static void open_pair(struct pair *p, enum dtype type)
{
    struct err e = {0};
    void *id;
    CHECK_OK(device_open_type(&p->d, "cuda", type, 0, &e), &e);
    CHECK_OK(p->d.k->alloc(&p->d, MOST_V * sizeof(float), &p->logits, &e), &e);
    CHECK_OK(p->d.k->alloc(&p->d, sizeof *p->id, &id, &e), &e);
    p->id = id;
}

static void close_pair(struct pair *p)
{
    p->d.k->release(&p->d, p->logits, MOST_V * sizeof(float));
    p->d.k->release(&p->d, p->id, sizeof *p->id);
    device_close(&p->d);
}

/* logits: as the device holds them, on return */
static int32_t draw_there(struct pair *p, float *logits, int32_t V, const struct kern_sample *how)
{
    struct err e = {0};
    int32_t id = -2;
    p->d.k->upload_floats(&p->d, p->logits, logits, (size_t)V);
    p->d.k->sample(&p->d, p->id, p->logits, V, how);
    p->d.k->download(&p->d, &id, p->id, sizeof id);
    p->d.k->download_floats(&p->d, logits, p->logits, (size_t)V);
    CHECK_OK(p->d.k->sync(&p->d, &e), &e);
    return id;
}

/* Rows of three kinds: normal; whole numbers, so that most are ties; few that count. */
static void fill(float *logits, int32_t V, uint64_t number)
{
    rng_fill_normal(rng_key(number, RNG_INIT, 0), logits, V, 0, number % 3 == 2 ? 8 : 2);
    for (int32_t i = 0; number % 3 == 1 && i < V; i++) logits[i] = rintf(logits[i]);
    for (int32_t i = 0; number % 7 == 3 && i < V; i += 5) logits[i] = -INFINITY;
    if (number % 11 == 4) logits[V / 2] = -0.0f;
}

static void compare_draws(enum dtype type)
{
    static const int32_t sizes[] = {1, 7, 301, 1100, MOST_V};
    static const double temperatures[] = {0, 0.7, 1, 3, 1e-30}, shares[] = {1, 0.9, 0.5, 1e-9};
    static const int32_t top[] = {0, 1, 40, 300};
    static float logits[MOST_V];
    struct pair p;
    open_pair(&p, type);
    for (uint64_t n = 0; n < 240; n++) {
        int32_t V = sizes[n % 5];
        struct sampler_options o = {temperatures[n / 5 % 5], shares[n / 2 % 4], top[n / 3 % 4], n};
        struct sampler s;
        struct err e = {0};
        emu_set_seed(n);
        fill(logits, V, n);
        CHECK_OK(sampler_init(&s, &o, V, &e), &e);
        struct kern_sample how = sampler_request(&s, n, 3);
        int32_t there = draw_there(&p, logits, V, &how);
        assert_int_equal(sampler_draw(&s, logits, n, 3), there);
        sampler_free(&s);
    }
    close_pair(&p);
}

static void test_device_fp32(void **state)
{
    (void)state;
    compare_draws(DTYPE_F32);
}

static void test_device_bf16(void **state)
{
    (void)state;
    compare_draws(DTYPE_BF16);
}

/* The ends of the random number: the first and the last token that stay. All equal; a NaN. */
static void test_device_ends(void **state)
{
    float logits[100] = {0};
    struct kern_sample how = {.scale = 1, .top_p = 1, .word = UINT32_MAX};
    struct pair p;
    (void)state;
    open_pair(&p, DTYPE_F32);
    assert_int_equal(draw_there(&p, logits, 100, &how), 99);
    how.top_k = 10;
    assert_int_equal(draw_there(&p, logits, 100, &how), 9);
    how.word = 0;
    assert_int_equal(draw_there(&p, logits, 100, &how), 0);
    logits[63] = NAN;
    assert_int_equal(draw_there(&p, logits, 100, &how), -1);
    how.scale = 0;
    assert_int_equal(draw_there(&p, logits, 100, &how), -1);
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),     cmocka_unit_test(test_keys),
        cmocka_unit_test(test_shares),      cmocka_unit_test(test_device_fp32),
        cmocka_unit_test(test_device_bf16), cmocka_unit_test(test_device_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The maps of optimiser states in 8 bits against bitsandbytes' own, and the way into them: the CPU
 * at every level of its instructions takes the nearest number. (The curve is in test_curves.c.) */
#include "support/check.h"

#include <math.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/rng.h"
#include "kernels/codes.h"
#include "kernels/kernels.h"

enum { COUNT = 64 * CODES_BLOCK - 100 };

static void check_map(const json_t *golden, const char *key, enum codes_kind kind)
{
    const json_t *map = json_object_get(json_object_get(golden, "eight_bit"), key);
    assert_int_equal(json_array_size(map), 256);
    for (int code = 0; code < 256; code++) {
        double want = json_number_value(json_array_get(map, (size_t)code));
        double have = (double)codes_number(kind, code);
        assert_true(fabs(have - want) <= 2e-7 * fabs(want));
    }
}

static void test_maps(void **state)
{
    struct err e = {0};
    json_t *golden;
    (void)state;
    CHECK_OK(json_parse_file("tests/golden/curves/alpaca_full_8bit.json", &golden, &e), &e);
    check_map(golden, "signed_map", CODES_SIGNED);
    check_map(golden, "unsigned_map", CODES_UNSIGNED);
    json_decref(golden);
}

/* No code's number is nearer to x/max than the given one's, but for 1e-4 of the way to the next. */
static void check_nearest(enum codes_kind kind, double x, uint8_t code)
{
    double off = fabs((double)codes_number(kind, code) - x), least = off;
    double step =
        fabs((double)codes_number(kind, code ? code - 1 : 1) - (double)codes_number(kind, code));
    for (int c = 0; c < 256; c++) least = fmin(least, fabs((double)codes_number(kind, c) - x));
    if (off > least + 1e-4 * step + 1e-7 * fabs(x)) fail_msg("%.9g became code %d", x, code);
}

/* With betas of 0 the moments are the gradient and its square: of eight decades, and of zero. */
static void test_nearest(void **state)
{
    static float grad[COUNT], param[COUNT], m_max[64], v_max[64], one = 1;
    static uint8_t m[COUNT], v[COUNT];
    struct device d = {0};
    struct err e = {0};
    setenv("CRIA_SIMD", *state, 1);
    if (device_open(&d, "cpu", 2, &e)) {
        unsetenv("CRIA_SIMD");
        skip();
    }
    rng_fill_uniform(rng_key(3, RNG_INIT, 0), grad, COUNT, -1, 1);
    rng_fill_uniform(rng_key(4, RNG_INIT, 0), param, COUNT, -8, 0);
    for (int i = 0; i < COUNT; i++) grad[i] *= i % 50 ? powf(10, param[i]) : 0;
    for (int i = 0; i < CODES_BLOCK; i++) grad[i] = 0; /* a block of nothing */
    struct kern_adamw_8bit k = {
        .a = {.n = COUNT, .param = param, .grad = grad, .scale = &one, .bias1 = 1, .bias2 = 1},
        .m = m,
        .v = v,
        .m_max = m_max,
        .v_max = v_max};
    d.k->adamw_8bit(&d, &k);
    for (int i = 0; i < COUNT; i++) {
        double of_m = (double)m_max[i / CODES_BLOCK], of_v = (double)v_max[i / CODES_BLOCK];
        check_nearest(CODES_SIGNED, of_m > 0 ? grad[i] / of_m : 0, m[i]);
        check_nearest(CODES_UNSIGNED, of_v > 0 ? grad[i] * grad[i] / of_v : 0, v[i]);
        if (i < CODES_BLOCK) assert_true(m[i] == 127 && v[i] == 0 && of_m == 0 && of_v == 0);
    }
    one = NAN; /* a step whose norm is not finite */
    uint8_t before = m[COUNT - 1];
    grad[COUNT - 1] = -grad[COUNT - 1];
    d.k->adamw_8bit(&d, &k);
    assert_int_equal(m[COUNT - 1], before);
    device_close(&d);
    unsetenv("CRIA_SIMD");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_maps),
        {"nearest, portable", test_nearest, NULL, NULL, "portable"},
        {"nearest, avx2", test_nearest, NULL, NULL, "avx2"},
        {"nearest, avx512", test_nearest, NULL, NULL, "avx512"},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

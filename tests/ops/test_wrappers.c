/* test_wrappers.c - every PTX wrapper against what it must do, and random numbers made on the
 * device. Linked with the emulator, where the twins answer, or with the CUDA backend, where the
 * device does (skipped without a GPU). Says a line a wrapper: name, values compared, wrong ones,
 * the worst error and its bound. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/kernels.h"

enum { MOST = 64 };

/* In emulation: the check of tests/emu/broken_wrappers.h. */
extern enum status cuda_check_broken(struct device *d, int32_t first, struct kern_check *out,
                                     int32_t room, int32_t *count, struct err *e)
    __attribute__((weak));

static void say(const struct kern_check *c)
{
    print_message("wrapper \"%s\" %d %d %.3g %g\n", c->name, c->values, c->wrong, c->worst,
                  c->bound);
}

/* One by itself: its line, or nothing where there is none of that number. */
static int check_one(struct device *d, int32_t number)
{
    struct kern_check check = {0};
    struct err e = {0};
    int32_t count = 0;
    if (d->k->check(d, number, &check, 1, &count, &e)) {
        print_message("wrapper \"%s\" failed: %s\n", count ? check.name : "", e.message);
        return 1;
    }
    if (count) say(&check);
    return count && check.wrong;
}

static void test_wrappers(void **state)
{
    struct device d;
    struct err e = {0};
    struct kern_check check[MOST];
    int32_t count = 0, wrong = 0;
    (void)state;
    assert_int_equal(device_open(&d, "cuda", 0, &e), OK);
    if (d.k->check(&d, 0, check, MOST, &count, &e)) fail_msg("%s", e.message);
    for (int32_t i = 0; i < count; i++) {
        say(&check[i]);
        assert_true(check[i].values > 0);
        wrong += check[i].wrong;
    }
    assert_true(count >= 10 && count < MOST);
    assert_int_equal(wrong, 0);
    assert_int_equal(d.k->check(&d, 0, check, 3, &count, &e), OK);
    assert_int_equal(count, 3);
    assert_int_equal(d.k->check(&d, 2, &check[3], 1, &count, &e), OK);
    assert_string_equal(check[3].name, check[2].name);
    assert_int_equal(d.k->check(&d, MOST, check, MOST, &count, &e), OK);
    assert_int_equal(count, 0);
    device_close(&d);
}

/* Wrong ones are told, each by its own row and no other. */
static void test_broken(void **state)
{
    static const char *const broken[] = {"cp.async",
                                         "ldmatrix.x4.trans",
                                         "ldmatrix.x2",
                                         "mma.m16n8k16 exact",
                                         "mma.m16n8k16",
                                         "bf16 rounding",
                                         "cp.async.bulk.tensor load",
                                         "wgmma rows columns",
                                         "wgmma registers columns"};
    struct device d;
    struct err e = {0};
    struct kern_check check[MOST];
    int32_t count = 0, told = 0;
    (void)state;
    if (!cuda_check_broken) skip();
    assert_int_equal(device_open(&d, "cuda", 0, &e), OK);
    assert_int_equal(cuda_check_broken(&d, 0, check, MOST, &count, &e), OK);
    for (int32_t i = 0; i < count; i++) {
        int wanted = 0;
        for (size_t k = 0; k < sizeof broken / sizeof *broken; k++)
            wanted |= !strcmp(check[i].name, broken[k]);
        if ((check[i].wrong > 0) != wanted)
            fail_msg("%s: %d wrong of %d", check[i].name, check[i].wrong, check[i].values);
        told += wanted;
    }
    assert_int_equal(told, sizeof broken / sizeof *broken);
    device_close(&d);
}

static float *take(struct device *d, size_t n)
{
    struct err e = {0};
    void *p = NULL;
    assert_int_equal(d->k->alloc(d, n * sizeof(float), &p, &e), OK);
    return p;
}

/* Those of the host, in fp32 but for roundings, in bf16 but for one more; from any place on. */
static void test_normal(void **state)
{
    enum { N = 10007, FIRST = 4096 };
    static const enum dtype types[] = {DTYPE_F32, DTYPE_BF16};
    struct rng_key key = rng_key(3, RNG_INIT, 4);
    static float wanted[N], got[N];
    (void)state;
    rng_fill_normal(key, wanted, N, 0, 0.02f);
    for (int i = 0; i < 2; i++) {
        struct device d;
        struct err e = {0};
        assert_int_equal(device_open_type(&d, "cuda", types[i], 0, &e), OK);
        float *floats = take(&d, N), *values = take(&d, N);
        d.k->fill_normal(&d, floats, 1, N, key, 0, 0.02f);
        d.k->download(&d, got, floats, sizeof got);
        for (int j = 0; j < N; j++) assert_true(fabsf(got[j] - wanted[j]) < 1e-6f * 0.02f * 6);
        d.k->fill_normal(&d, values, 0, N - FIRST, key, FIRST, 0.02f);
        d.k->download_floats(&d, got, values, N - FIRST);
        for (int j = 0; j < N - FIRST; j++)
            assert_true(fabsf(got[j] - wanted[j + FIRST]) <=
                        (i ? fabsf(wanted[j + FIRST]) / 255 : 0) + 1e-6f * 0.02f * 6);
        assert_int_equal(d.k->sync(&d, &e), OK);
        d.k->release(&d, floats, 0);
        d.k->release(&d, values, 0);
        device_close(&d);
    }
}

/* An argument: the wrapper of that number alone, since one that faults ends the others. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrappers),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_normal),
    };
    struct device d;
    struct err e = {0};
    if (device_open(&d, "cuda", 0, &e)) {
        print_message("skipped, no GPU: %s\n", e.message);
        return 77;
    }
    int one = argc > 1, wrong = one ? check_one(&d, (int32_t)strtol(argv[1], NULL, 10)) : 0;
    device_close(&d);
    if (one) return wrong;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

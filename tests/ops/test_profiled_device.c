/* test_profiled_device.c - a profiled device computes what it did, and tells what that was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "kernels/profile.h"

enum { N = 8, I = 16, O = 4 };

static float x[N * I], w[O * I], y[N * O], again[N * O], dx[N * I];

static void open_cpu(struct device *d)
{
    struct err e = {0};
    assert_int_equal(device_open(d, "cpu", 1, &e), OK);
    rng_fill_uniform(rng_key(1, RNG_INIT, 1), x, N * I, -1, 1);
    rng_fill_uniform(rng_key(1, RNG_INIT, 2), w, O * I, -1, 1);
}

static void forward(struct device *d, float *out)
{
    d->k->linear_forward(d, out, x, w, NULL, NULL, N, I, O, O, I, 0);
}

static void test_product(void **state)
{
    struct device d;
    struct profile p;
    struct profile_row rows[NUM_PROFILE_OPS];
    struct profile_rates slow_products = {1, 1e9}, slow_memory = {1e9, 1};
    struct err e = {0};
    (void)state;
    open_cpu(&d);
    const struct kernels *plain = d.k;
    forward(&d, y);
    assert_int_equal(profile_attach(&p, &d, &e), OK);
    forward(&d, again);
    d.k->linear_backward_input(&d, dx, y, w, N, I, O, I, O, 1);
    profile_detach(&p, &d);
    assert_ptr_equal(d.k, plain);
    forward(&d, again);
    assert_memory_equal(y, again, sizeof y);
    assert_int_equal(p.count, 2);
    assert_int_equal(p.calls[0].op, PROFILE_linear_forward);
    assert_ptr_equal(p.calls[0].product.w, w);
    assert_int_equal(p.calls[0].product.accumulate, 0);
    assert_int_equal(p.calls[1].product.accumulate, 1);
    assert_ptr_equal(p.calls[1].product.x, dx);
    profile_sum(&p, &slow_products, rows);
    const struct profile_row *row = &rows[PROFILE_linear_forward];
    assert_int_equal(row->calls, 1);
    assert_true(row->arithmetic && row->floor == row->flops && row->seconds > 0);
    assert_true(row->flops == 2 * N * I * O);
    assert_true(row->bytes == 4 * (N * I + I * O + N * O));
    profile_sum(&p, &slow_memory, rows);
    assert_true(!row->arithmetic && row->floor == row->bytes);
    profile_free(&p);
    device_close(&d);
}

static void test_attention_pairs(void **state)
{
    static float q[N * I], lse[N], scratch[1 << 20];
    const struct segment two[] = {{0, 3, 0, 0, 0, 0}, {3, 5, 2, 0, 2, 0}};
    struct kern_attention a = {.N = N,
                               .H = 1,
                               .KV = 1,
                               .D = I,
                               .window = 4,
                               .scale = 1,
                               .segments = two,
                               .num_segments = 2,
                               .q = q,
                               .k = q,
                               .v = q,
                               .o = x,
                               .ldq = I,
                               .ldk = I,
                               .ldv = I,
                               .ldo = I,
                               .lse = lse};
    struct device d;
    struct profile p;
    struct err e = {0};
    (void)state;
    open_cpu(&d);
    assert_true(d.k->attention_scratch(&d, &a) <= sizeof scratch);
    assert_int_equal(profile_attach(&p, &d, &e), OK);
    d.k->attention_forward(&d, &a, scratch);
    /* 1 + 2 + 3 of the first; 3, then the window's 4 of each other row of the second */
    assert_true(p.calls[0].flops == 2.0 * 2 * (6 + 3 + 4 * 4) * I);
    profile_detach(&p, &d);
    profile_free(&p);
    device_close(&d);
}

static void test_host(void **state)
{
    struct device d;
    struct profile p;
    struct err e = {0};
    (void)state;
    open_cpu(&d);
    assert_true(profile_begin(&d) == 0);
    profile_end(&d, PROFILE_data, 0);
    assert_int_equal(profile_attach(&p, &d, &e), OK);
    for (int i = 0; i < 3000; i++) profile_end(&d, PROFILE_data, profile_begin(&d));
    assert_int_equal(p.count, 3000);
    assert_false(p.failed);
    assert_int_equal(p.calls[2999].op, PROFILE_data);
    mem_fail_after(1);
    for (int i = 0; i < 3000; i++) profile_end(&d, PROFILE_data, profile_begin(&d));
    mem_fail_after(0);
    assert_true(p.failed && p.count == p.room);
    profile_detach(&p, &d);
    profile_free(&p);
    mem_fail_after(1);
    assert_int_equal(profile_attach(&p, &d, &e), ERR_MEMORY);
    assert_true(device_copy_peak(&d, 0.01) == 0);
    mem_fail_after(0);
    assert_true(device_copy_peak(&d, 0.01) > 0);
    assert_true(profile_begin(&d) == 0);
    device_close(&d);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(profile_op_name(PROFILE_adamw), "adamw");
    assert_string_equal(profile_op_text(PROFILE_adamw), "AdamW");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_attention_pairs),
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

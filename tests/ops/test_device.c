/* test_device.c - opening, memory, the null backend, and the numbers around a step. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "kernels/kernels.h"

static void test_names(void **state)
{
    struct device d = {0};
    struct err e = {0};
    (void)state;
    device_close(&d);
    assert_int_equal(device_open(&d, "tpu", 0, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "tpu"));
    assert_true(e.hint[0]);
    device_close(&d);
    assert_int_equal(device_open(&d, "cpu", 2, &e), OK);
    assert_string_equal(d.k->name, "cpu");
    assert_int_equal(d.threads, 2);
    assert_int_equal(dtype_size(d.type), 4);
    assert_string_equal(dtype_name(DTYPE_BF16), "bf16");
    assert_int_equal(dtype_size(DTYPE_F16), 2);
    device_close(&d);
    assert_null(d.k);
}

/* The level of vector instructions decides bits, so it is named; a wrong one is refused. */
static void test_levels(void **state)
{
    struct device d = {0};
    struct err e = {0};
    char text[256];
    (void)state;
    assert_int_equal(setenv("CRIA_SIMD", "portable", 1), 0);
    assert_int_equal(device_open(&d, "cpu", 1, &e), OK);
    d.k->describe(&d, text, sizeof text);
    assert_non_null(strstr(text, "portable"));
    device_close(&d);
    assert_int_equal(setenv("CRIA_SIMD", "mmx", 1), 0);
    assert_int_equal(device_open(&d, "cpu", 1, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "mmx"));
    assert_non_null(strstr(e.hint, "avx512"));
    assert_int_equal(unsetenv("CRIA_SIMD"), 0);
    assert_int_equal(device_open(&d, "cpu", 1, &e), OK);
    device_close(&d);
}

/* So does the library behind the products. */
static void test_products(void **state)
{
    struct device d = {0};
    struct err e = {0};
    char text[256];
    (void)state;
    assert_int_equal(setenv("CRIA_GEMM", "cblas", 1), 0);
    assert_int_equal(device_open(&d, "cpu", 1, &e), OK);
    d.k->describe(&d, text, sizeof text);
    assert_null(strstr(text, "oneDNN"));
    device_close(&d);
    assert_int_equal(setenv("CRIA_GEMM", "mkl", 1), 0);
    assert_int_equal(device_open(&d, "cpu", 1, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "mkl"));
    assert_non_null(strstr(e.hint, "onednn"));
    assert_int_equal(unsetenv("CRIA_GEMM"), 0);
    assert_int_equal(device_open(&d, "cpu", 1, &e), OK);
    device_close(&d);
}

/* One engine: a wish for the plain one is no wish. */
static void test_attention(void **state)
{
    struct device d;
    struct err e = {0};
    (void)state;
    assert_int_equal(device_open(&d, "cpu", 1, &e), OK);
    assert_int_equal(device_set_attention(&d, ATTENTION_AUTO, 80, &e), OK);
    assert_int_equal(device_set_attention(&d, ATTENTION_PLAIN, 80, &e), OK);
    assert_int_equal(device_set_attention(&d, ATTENTION_FLASH, 64, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "flash is not to be had on the device \"cpu\" in f32"));
    assert_non_null(strstr(e.hint, "attention: auto"));
    assert_int_equal(device_set_attention(&d, ATTENTION_HOPPER, 64, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "hopper is not to be had on the device \"cpu\" in f32"));
    device_close(&d);
    assert_int_equal(device_open(&d, "null", 1, &e), OK); /* plans for whatever it is */
    assert_int_equal(device_set_attention(&d, ATTENTION_FLASH, 64, &e), OK);
    device_close(&d);
}

static void test_memory(void **state)
{
    struct device d;
    struct err e = {0};
    void *p = NULL;
    (void)state;
    assert_int_equal(device_open(&d, "cpu", 1, &e), OK);
    assert_int_equal(d.k->alloc(&d, 1000, &p, &e), OK);
    assert_int_equal((uintptr_t)p % 256, 0);
    for (int i = 0; i < 1000; i++) assert_int_equal(((char *)p)[i], 0);
    d.k->release(&d, p, 1000);
    mem_fail_after(1);
    assert_int_equal(d.k->alloc(&d, 1000, &p, &e), ERR_MEMORY);
    assert_true(device_gemm_peak(&d, 0.01) == 0);
    mem_fail_after(0);
    assert_int_equal(d.k->alloc(&d, SIZE_MAX / 2, &p, &e), ERR_MEMORY);
    assert_true(device_gemm_peak(&d, 0.01) > 0);
    device_close(&d);
}

static void test_null(void **state)
{
    struct device d;
    struct err e = {0};
    void *p[3];
    float out[4] = {1, 2, 3, 4};
    (void)state;
    assert_int_equal(device_open(&d, "null", 1, &e), OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(d.k->alloc(&d, (size_t)(i ? i : 1) << 33, &p[i], &e), OK);
    assert_true(p[0] != p[1] && p[1] != p[2] && p[0] != p[2]);
    d.k->upload(&d, p[0], out, sizeof out);
    d.k->zero(&d, p[0], 1 << 20);
    d.k->linear_forward(&d, p[0], p[1], p[2], NULL, NULL, 5, 6, 7, 7, 6, 0);
    d.k->grad_norm(&d, p[0], p[1], 100, 1, 1, p[2]);
    assert_int_equal(d.k->sync(&d, &e), OK);
    d.k->download(&d, out, p[0], sizeof out);
    for (int i = 0; i < 4; i++) assert_true(out[i] == 0);
    assert_int_equal(d.k->norm_scratch(&d, 50, 1, 7), kernels_cpu.norm_scratch(&d, 50, 1, 7));
    assert_true(device_gemm_peak(&d, 1) == 0);
    for (int i = 0; i < 3; i++) d.k->release(&d, p[i], (size_t)(i ? i : 1) << 33);
    assert_int_equal(d.k->alloc(&d, SIZE_MAX / 2, &p[0], &e), ERR_MEMORY);
    device_close(&d);
}

/* A gradient that is not finite shows in the norm, and AdamW then changes nothing. */
static void test_not_finite(void **state)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    struct device d;
    struct err e = {0};
    (void)state;
    assert_int_equal(device_open(&d, "cpu", 1, &e), OK);
    for (int i = 0; i < 3; i++) {
        float grad[3] = {1, bad[i], 2}, out[2], p[3] = {1, 2, 3}, m[3] = {4, 5, 6},
              v[3] = {7, 8, 9};
        double scratch[1];
        struct kern_adamw a = {.n = 3,
                               .param = p,
                               .m = m,
                               .v = v,
                               .grad = grad,
                               .scale = out + 1,
                               .lr = 0.1f,
                               .beta1 = 0.9f,
                               .beta2 = 0.999f,
                               .eps = 1e-8f,
                               .weight_decay = 0.1f,
                               .bias1 = 1,
                               .bias2 = 1};
        assert_true(d.k->grad_norm_scratch(&d, 3) <= sizeof scratch);
        d.k->grad_norm(&d, out, grad, 3, 1, i == 0 ? 0.f : 1.f, scratch);
        assert_false(isfinite(out[0]));
        assert_false(isfinite(out[1]));
        d.k->adamw(&d, &a);
        assert_true(p[0] == 1 && p[2] == 3 && m[1] == 5 && v[2] == 9);
    }
    device_close(&d);
}

/* A NaN in reaches what depends on it, and comes out as NaN. */
static void test_nan_travels(void **state)
{
    struct device d;
    struct err e = {0};
    float q[32] = {0}, k[32] = {0}, v[32] = {0}, o[32], lse[2], gate[2] = {NAN, 1}, out[2];
    float scratch[65536];
    struct segment s = {0, 2, 0, 0, 0, 0};
    struct kern_attention a = {2, 1, 1, 16, 0, 1, &s, 1, 0, q, k, v, 16, 16, 16, 16, o, lse, 0};
    (void)state;
    assert_int_equal(device_open(&d, "cpu", 1, &e), OK);
    k[16] = NAN; /* of the second row, which the first does not see */
    assert_true(d.k->attention_scratch(&d, &a) <= sizeof scratch);
    d.k->attention_forward(&d, &a, scratch);
    assert_true(o[0] == 0 && isnan(o[16]) && isfinite(lse[0]) && isnan(lse[1]));
    d.k->swiglu_forward(&d, out, gate, gate, 1, 2, 2, 2, 2);
    assert_true(isnan(out[0]) && isfinite(out[1]));
    device_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),      cmocka_unit_test(test_levels),
        cmocka_unit_test(test_products),   cmocka_unit_test(test_attention),
        cmocka_unit_test(test_memory),     cmocka_unit_test(test_null),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_nan_travels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

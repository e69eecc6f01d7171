/* test_ops.c - runs the op-case table: parity with fp64, gradients, same bits, guards. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/harness.h"

static const struct op_setting on_cpu = {"cpu", DTYPE_F32, 2, ATTENTION_AUTO, 0};

/* Once for every level of vector instructions that the machine has; the portable one takes the
 * CBLAS for the large products, so that both libraries are held against the table. */
static int set_level(void **state)
{
    const char *level = *state;
    struct device d = {0};
    struct err e = {0};
    if (setenv("CRIA_SIMD", level, 1)) return -1;
    if (strcmp(level, "portable") == 0 && setenv("CRIA_GEMM", "cblas", 1)) return -1;
    if (device_open(&d, "cpu", 1, &e)) {
        print_message("%s\n", e.message);
        *state = NULL;
    }
    device_close(&d);
    return 0;
}

static int leave_level(void **state)
{
    (void)state;
    return unsetenv("CRIA_SIMD") || unsetenv("CRIA_GEMM");
}

/* A panel's lines share their products with v, so that a NaN which some of them do not see reaches
 * those as well, of the same segment; on the CPU that is let be. */
static int concerns(const struct op_case *c) { return !c->nan; }

static void test_parity_and_guards(void **state)
{
    if (!*state) skip();
    for (int i = 0; i < num_op_cases; i++) {
        struct op_run r;
        if (!concerns(&op_cases[i])) continue;
        run_make(&r, i, DTYPE_F32);
        run_exact(&r);
        run_naive(&r);
        run_device(&r, &on_cpu);
        run_compare(&r);
        run_free(&r);
    }
}

static void test_same_bits(void **state)
{
    static const int threads[] = {2, 2, 3, 7};
    if (!*state) skip();
    for (int i = 0; i < num_op_cases; i++) {
        struct op_run r;
        size_t n;
        struct op_setting setting = {"cpu", DTYPE_F32, 1, ATTENTION_AUTO, 0};
        if (!concerns(&op_cases[i])) continue;
        run_make(&r, i, DTYPE_F32);
        float *one = run_snapshot(&r, &setting, &n);
        for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
            setting.threads = threads[t];
            float *other = run_snapshot(&r, &setting, &n);
            if (memcmp(one, other, n * sizeof *one) != 0)
                fail_msg("case %d (%s): %d threads give other bits than one", i,
                         op_rows[r.c->op].name, threads[t]);
            free(other);
        }
        free(one);
        run_free(&r);
    }
}

/* sum over results of result * its incoming gradient, after a run of the fp64 reference. */
static double weighted_sum(struct op_run *r)
{
    double sum = 0;
    run_exact(r);
    for (int i = 0; i < r->num_buffers; i++) {
        const struct op_buffer *b = &r->b[i];
        if (b->role == OP_IN || b->gradient < 0) continue;
        for (size_t j = 0; j < run_dense(b); j++)
            sum += b->exact[j] * r->b[b->gradient].original[j];
    }
    return sum;
}

/* d sum / d buffer along a random direction: by the reference's gradient and by differences. */
static void check_gradient(struct op_run *r, struct op_buffer *b, uint64_t seed)
{
    struct op_buffer *g = &r->b[b->gradient];
    float *direction = run_take(run_dense(b), sizeof *direction);
    double step = 1e-5, sum[2], told = 0, scale = 0;
    rng_fill_normal(rng_key(seed, RNG_INIT, 2), direction, (int64_t)run_dense(b), 0, 1);
    for (int side = 0; side < 2; side++) {
        run_reset(r);
        for (size_t j = 0; j < run_dense(b); j++)
            b->exact[j] += (side ? step : -step) * (double)direction[j];
        sum[side] = weighted_sum(r);
    }
    run_reset(r);
    if (g->role == OP_OUT) /* rows that the op leaves alone are no gradient */
        memset(g->exact, 0, run_dense(g) * sizeof *g->exact);
    run_exact(r);
    for (size_t j = 0; j < run_dense(b); j++) {
        double part = (g->exact[j] - (g->role == OP_ADD ? g->original[j] : 0)) * direction[j];
        told += part, scale += fabs(part);
    }
    double found = (sum[1] - sum[0]) / (2 * step);
    free(direction);
    if (fabs(found - told) > 1e-7 * scale + 1e-8)
        fail_msg("case %d (%s): d%s is %.12g along a direction, differences say %.12g",
                 (int)(r->c - op_cases), op_rows[r->c->op].name, b->name, told, found);
}

static void test_reference_gradients(void **state)
{
    (void)state;
    for (int i = 0; i < num_op_cases; i++) {
        struct op_run r;
        run_make(&r, i, DTYPE_F32);
        for (int j = 0; j < r.num_buffers; j++) {
            struct op_buffer *b = &r.b[j];
            int operand = b->role == OP_IN || r.c->op == OP_rope;
            if (operand && b->gradient >= 0 && run_dense(b)) check_gradient(&r, b, (uint64_t)j);
        }
        run_free(&r);
    }
}

#define AT_LEVEL(test, level)                                 \
    {                                                         \
#test ", " level, test, set_level, leave_level, level \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_gradients), AT_LEVEL(test_parity_and_guards, "portable"),
        AT_LEVEL(test_same_bits, "portable"),       AT_LEVEL(test_parity_and_guards, "avx2"),
        AT_LEVEL(test_same_bits, "avx2"),           AT_LEVEL(test_parity_and_guards, "avx512"),
        AT_LEVEL(test_same_bits, "avx512"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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

#include "ops/ops.h"

enum { GUARD = 64 };
static const uint32_t poison = 0x7fc0dead; /* a NaN no computation makes */

static void fill_poison(float *p, size_t n)
{
    for (size_t i = 0; i < n; i++) memcpy(p + i, &poison, sizeof poison);
}

static int is_poison(const float *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(p + i, &poison, sizeof poison) != 0) return 0;
    return 1;
}

static void *take(size_t count, size_t each)
{
    void *p = calloc(count ? count : 1, each);
    assert_non_null(p);
    return p;
}

static size_t dense(const struct op_buffer *b) { return (size_t)b->rows * (size_t)b->cols; }
static size_t wide(const struct op_buffer *b) { return (size_t)b->rows * (size_t)b->ld; }

/* Puts the first values into all three copies. */
static void reset_buffer(struct op_buffer *b)
{
    fill_poison(b->device - GUARD, wide(b) + 2 * GUARD);
    for (size_t i = 0; i < dense(b); i++) {
        b->exact[i] = b->original[i];
        b->naive[i] = (float)b->original[i];
        b->device[i / (size_t)b->cols * (size_t)b->ld + i % (size_t)b->cols] = b->naive[i];
    }
}

static void make_buffer(struct op_buffer *b, uint64_t number)
{
    size_t n = dense(b);
    b->device = (float *)take(wide(b) + 2 * GUARD, sizeof(float)) + GUARD;
    b->exact = take(n, sizeof(double));
    b->original = take(n, sizeof(double));
    b->naive = take(n, sizeof(float));
    rng_fill_uniform(rng_key(number, RNG_INIT, 1), b->naive, (int64_t)n, b->low, b->high);
    for (size_t i = 0; i < n; i++) b->original[i] = (double)b->naive[i];
    reset_buffer(b);
}

static void run_make(struct op_run *r, int number)
{
    *r = (struct op_run){.c = &op_cases[number]};
    op_ints_init(&r->n, r->c, number);
    op_rows[r->c->op].declare(r);
    for (int i = 0; i < r->num_buffers; i++)
        make_buffer(&r->b[i], (uint64_t)number * OP_BUFFERS + (uint64_t)i);
}

static void run_free(struct op_run *r)
{
    for (int i = 0; i < r->num_buffers; i++) {
        free(r->b[i].device - GUARD);
        free(r->b[i].exact);
        free(r->b[i].original);
        free(r->b[i].naive);
    }
}

static void run_reset(struct op_run *r)
{
    for (int i = 0; i < r->num_buffers; i++) reset_buffer(&r->b[i]);
}

/* Scratch holds NaN before, and its guards after. */
static void run_device(struct op_run *r, int threads)
{
    struct device d = {0};
    struct err e = {0};
    const struct op_row *op = &op_rows[r->c->op];
    assert_int_equal(device_open(&d, "cpu", threads, &e), OK);
    assert_int_equal(d.threads, threads);
    size_t bytes = op->scratch ? op->scratch(&d, r) : 0, floats = bytes / sizeof(float);
    float *scratch = NULL;
    assert_int_equal(posix_memalign((void **)&scratch, 64, bytes + 2 * GUARD * sizeof(float)), 0);
    fill_poison(scratch, floats + 2 * GUARD);
    op->device(&d, r, scratch + GUARD);
    assert_true(is_poison(scratch, GUARD));
    assert_true(is_poison(scratch + GUARD + floats, GUARD));
    free(scratch);
    device_close(&d);
}

static void run_exact(struct op_run *r)
{
    double *b[OP_BUFFERS];
    for (int i = 0; i < r->num_buffers; i++) b[i] = r->b[i].exact;
    op_rows[r->c->op].exact(r->c, &r->n, b);
}

static void run_naive(struct op_run *r)
{
    float *b[OP_BUFFERS];
    for (int i = 0; i < r->num_buffers; i++) b[i] = r->b[i].naive;
    op_rows[r->c->op].naive(r->c, &r->n, b);
}

static void report(const struct op_run *r, const struct op_buffer *b, const char *what)
{
    fail_msg("case %d (%s), buffer %s: %s", (int)(r->c - op_cases), op_rows[r->c->op].name, b->name,
             what);
}

static void check_guards(const struct op_run *r, const struct op_buffer *b)
{
    size_t gap = (size_t)(b->ld - b->cols);
    if (!is_poison(b->device - GUARD, GUARD)) report(r, b, "written before its begin");
    if (!is_poison(b->device + wide(b), GUARD)) report(r, b, "written past its end");
    for (int32_t i = 0; i < b->rows; i++)
        if (!is_poison(b->device + (size_t)(i + 1) * (size_t)b->ld - gap, gap))
            report(r, b, "written between rows");
}

static void check_parity(const struct op_run *r, const struct op_buffer *b)
{
    double error = 0, naive = 0, norm = 0;
    char text[160];
    for (size_t i = 0; i < dense(b); i++) {
        double x = b->exact[i];
        double y = (double)b->device[i / (size_t)b->cols * (size_t)b->ld + i % (size_t)b->cols];
        if (b->role == OP_IN && y != b->original[i]) report(r, b, "an input changed");
        error += (y - x) * (y - x);
        naive += ((double)b->naive[i] - x) * ((double)b->naive[i] - x);
        norm += x * x;
    }
    if (sqrt(error) <= 2 * sqrt(naive) + 2e-7 * sqrt(norm)) return;
    snprintf(text, sizeof text, "relative error %.3g, naive fp32 %.3g", sqrt(error / norm),
             sqrt(naive / norm));
    report(r, b, text);
}

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

static void test_parity_and_guards(void **state)
{
    if (!*state) skip();
    for (int i = 0; i < num_op_cases; i++) {
        struct op_run r;
        run_make(&r, i);
        run_exact(&r);
        run_naive(&r);
        run_device(&r, 2);
        for (int j = 0; j < r.num_buffers; j++) {
            check_guards(&r, &r.b[j]);
            check_parity(&r, &r.b[j]);
        }
        run_free(&r);
    }
}

/* The bits of every buffer after a run on so many threads. */
static float *snapshot(struct op_run *r, int threads, size_t *total)
{
    *total = 0;
    for (int i = 0; i < r->num_buffers; i++) *total += wide(&r->b[i]);
    float *bits = take(*total, sizeof *bits), *to = bits;
    run_reset(r);
    run_device(r, threads);
    for (int i = 0; i < r->num_buffers; i++) {
        memcpy(to, r->b[i].device, wide(&r->b[i]) * sizeof *to);
        to += wide(&r->b[i]);
    }
    return bits;
}

static void test_same_bits(void **state)
{
    static const int threads[] = {2, 2, 3, 7};
    if (!*state) skip();
    for (int i = 0; i < num_op_cases; i++) {
        struct op_run r;
        size_t n;
        run_make(&r, i);
        float *one = snapshot(&r, 1, &n);
        for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
            float *other = snapshot(&r, threads[t], &n);
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
        for (size_t j = 0; j < dense(b); j++) sum += b->exact[j] * r->b[b->gradient].original[j];
    }
    return sum;
}

/* d sum / d buffer along a random direction: by the reference's gradient and by differences. */
static void check_gradient(struct op_run *r, struct op_buffer *b, uint64_t seed)
{
    struct op_buffer *g = &r->b[b->gradient];
    float *direction = take(dense(b), sizeof *direction);
    double step = 1e-5, sum[2], told = 0, scale = 0;
    rng_fill_normal(rng_key(seed, RNG_INIT, 2), direction, (int64_t)dense(b), 0, 1);
    for (int side = 0; side < 2; side++) {
        run_reset(r);
        for (size_t j = 0; j < dense(b); j++)
            b->exact[j] += (side ? step : -step) * (double)direction[j];
        sum[side] = weighted_sum(r);
    }
    run_reset(r);
    if (g->role == OP_OUT) /* rows that the op leaves alone are no gradient */
        memset(g->exact, 0, dense(g) * sizeof *g->exact);
    run_exact(r);
    for (size_t j = 0; j < dense(b); j++) {
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
        run_make(&r, i);
        for (int j = 0; j < r.num_buffers; j++) {
            struct op_buffer *b = &r.b[j];
            int operand = b->role == OP_IN || r.c->op == OP_rope;
            if (operand && b->gradient >= 0 && dense(b)) check_gradient(&r, b, (uint64_t)j);
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

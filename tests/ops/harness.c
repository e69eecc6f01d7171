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

enum { GUARD = 64 }; /* elements before and behind */

/* NaNs that no computation makes. */
static const uint32_t poison = 0x7fc0dead;
static const uint16_t poison_16 = 0x7fdb;

void *run_take(size_t count, size_t each)
{
    void *p = calloc(count ? count : 1, each);
    assert_non_null(p);
    return p;
}

size_t run_dense(const struct op_buffer *b) { return (size_t)b->rows * (size_t)b->cols; }
static size_t wide(const struct op_buffer *b) { return (size_t)b->rows * (size_t)b->ld; }

/* Where dense element i lies among the wide ones. */
static size_t place(const struct op_buffer *b, size_t i)
{
    return i / (size_t)b->cols * (size_t)b->ld + i % (size_t)b->cols;
}

static void report(const struct op_run *r, const struct op_buffer *b, const char *what)
{
    fail_msg("case %d (%s), buffer %s: %s", (int)(r->c - op_cases), op_rows[r->c->op].name,
             b ? b->name : "scratch", what);
}

/* --- elements of a device's type --- */

static uint16_t round_16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static float widen_16(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static enum dtype type_of(const struct op_run *r, const struct op_buffer *b)
{
    return b->floats ? DTYPE_F32 : r->type;
}

static void put(void *image, enum dtype t, size_t i, float f)
{
    if (t == DTYPE_F32)
        ((float *)image)[i] = f;
    else
        ((uint16_t *)image)[i] = round_16(f);
}

static void put_poison(void *image, enum dtype t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (t == DTYPE_F32)
            ((uint32_t *)image)[i] = poison;
        else
            ((uint16_t *)image)[i] = poison_16;
    }
}

static int is_poison(const void *image, enum dtype t, size_t first, size_t n)
{
    for (size_t i = first; i < first + n; i++)
        if (t == DTYPE_F32 ? ((const uint32_t *)image)[i] != poison
                           : ((const uint16_t *)image)[i] != poison_16)
            return 0;
    return 1;
}

/* --- making --- */

void run_reset(struct op_run *r)
{
    for (int i = 0; i < r->num_buffers; i++) {
        struct op_buffer *b = &r->b[i];
        for (size_t j = 0; j < run_dense(b); j++) {
            b->exact[j] = b->original[j];
            b->naive[j] = (float)b->original[j];
        }
    }
}

static void make_buffer(const struct op_run *r, struct op_buffer *b, uint64_t number)
{
    size_t n = run_dense(b);
    b->host = run_take(wide(b), sizeof(float));
    b->exact = run_take(n, sizeof(double));
    b->original = run_take(n, sizeof(double));
    b->naive = run_take(n, sizeof(float));
    rng_fill_uniform(rng_key(number, RNG_INIT, 1), b->naive, (int64_t)n, b->low, b->high);
    for (size_t i = 0; i < n; i++) {
        float f = b->naive[i];
        b->original[i] = (double)(type_of(r, b) == DTYPE_F32 ? f : widen_16(round_16(f)));
    }
}

/* Attention: of each segment that has some rows, values of three are no numbers, and a key of one
 * is none; nor is anything of rows that are nobody's. */
static void put_nan(struct op_run *r)
{
    struct op_buffer *k = &r->b[ATT_K], *v = &r->b[ATT_V];
    int32_t end = 0;
    for (int32_t i = 0; i < r->n.num_segments; i++) {
        const struct segment *s = &r->n.segments[i];
        for (size_t at = (size_t)(end * v->cols); at < (size_t)(s->start * v->cols); at++)
            if (r->c->cut == CUT_RAGGED) k->original[at] = v->original[at] = (double)NAN;
        end = s->start + s->length;
        if (s->length < 20) continue;
        double *half = v->original + (s->start + s->length / 2) * v->cols;
        double *later = v->original + (s->start + s->length * 2 / 3) * v->cols;
        half[0] = half[v->cols - 1] = (double)NAN;
        later[1] = (double)INFINITY, later[v->cols / 2] = (double)-INFINITY;
        k->original[(s->start + s->length * 5 / 6) * k->cols + 1] = (double)NAN;
    }
}

void run_make(struct op_run *r, int number, enum dtype type)
{
    *r = (struct op_run){.c = &op_cases[number], .type = type};
    op_ints_init(&r->n, r->c, number);
    op_rows[r->c->op].declare(r);
    for (int i = 0; i < r->num_buffers; i++)
        make_buffer(r, &r->b[i], (uint64_t)number * OP_BUFFERS + (uint64_t)i);
    if (r->c->nan) put_nan(r);
    run_reset(r);
}

void run_free(struct op_run *r)
{
    for (int i = 0; i < r->num_buffers; i++) {
        free(r->b[i].host);
        free(r->b[i].exact);
        free(r->b[i].original);
        free(r->b[i].naive);
    }
}

/* --- on the device --- */

static size_t image_bytes(const struct op_run *r, const struct op_buffer *b)
{
    return (wide(b) + 2 * GUARD) * dtype_size(type_of(r, b));
}

static char *take_device(struct device *d, size_t bytes)
{
    struct err e = {0};
    void *p = NULL;
    assert_int_equal(d->k->alloc(d, bytes, &p, &e), OK);
    return p;
}

/* First values between guards. */
static void to_device(struct op_run *r, struct op_buffer *b, struct device *d)
{
    enum dtype t = type_of(r, b);
    void *image = run_take(1, image_bytes(r, b));
    char *at = take_device(d, image_bytes(r, b));
    put_poison(image, t, wide(b) + 2 * GUARD);
    for (size_t i = 0; i < run_dense(b); i++)
        put(image, t, GUARD + place(b, i), (float)b->original[i]);
    d->k->upload(d, at, image, image_bytes(r, b));
    b->device = at + GUARD * dtype_size(t);
    free(image);
}

static void check_guards(const struct op_run *r, const struct op_buffer *b, const void *image)
{
    enum dtype t = type_of(r, b);
    size_t gap = (size_t)(b->ld - b->cols);
    if (!is_poison(image, t, 0, GUARD)) report(r, b, "written before its begin");
    if (!is_poison(image, t, GUARD + wide(b), GUARD)) report(r, b, "written past its end");
    for (int32_t i = 0; i < b->rows; i++)
        if (!is_poison(image, t, GUARD + (size_t)(i + 1) * (size_t)b->ld - gap, gap))
            report(r, b, "written between rows");
}

static void from_device(struct op_run *r, struct op_buffer *b, struct device *d)
{
    enum dtype t = type_of(r, b);
    char *at = (char *)b->device - GUARD * dtype_size(t);
    void *image = run_take(1, image_bytes(r, b));
    d->k->download(d, image, at, image_bytes(r, b));
    check_guards(r, b, image);
    for (size_t i = 0; i < wide(b); i++)
        b->host[i] =
            t == DTYPE_F32 ? ((float *)image)[GUARD + i] : widen_16(((uint16_t *)image)[GUARD + i]);
    d->k->release(d, at, image_bytes(r, b));
    free(image);
}

static void with_scratch(struct op_run *r, struct device *d)
{
    const struct op_row *op = &op_rows[r->c->op];
    size_t bytes = op->scratch ? op->scratch(d, r) : 0, floats = bytes / sizeof(float);
    size_t total = (floats + 2 * GUARD) * sizeof(float);
    void *image = run_take(1, total);
    char *at = take_device(d, total);
    put_poison(image, DTYPE_F32, floats + 2 * GUARD);
    d->k->upload(d, at, image, total);
    op->device(d, r, at + GUARD * sizeof(float));
    d->k->download(d, image, at, total);
    if (!is_poison(image, DTYPE_F32, 0, GUARD)) report(r, NULL, "written before its begin");
    if (!is_poison(image, DTYPE_F32, GUARD + floats, GUARD))
        report(r, NULL, "written past its end");
    d->k->release(d, at, total);
    free(image);
}

void run_device(struct op_run *r, const struct op_setting *s)
{
    struct device d;
    struct err e = {0};
    assert_int_equal(device_open_type(&d, s->device, s->type, s->threads, &e), OK);
    d.attention = s->attention;
    r->bf16 = s->bf16;
    r->on_device = (struct op_ints *)take_device(&d, sizeof r->n);
    d.k->upload(&d, r->on_device, &r->n, sizeof r->n);
    for (int i = 0; i < r->num_buffers; i++) to_device(r, &r->b[i], &d);
    with_scratch(r, &d);
    for (int i = 0; i < r->num_buffers; i++) from_device(r, &r->b[i], &d);
    d.k->release(&d, r->on_device, sizeof r->n);
    if (d.k->sync(&d, &e)) fail_msg("case %d: %s", (int)(r->c - op_cases), e.message);
    device_close(&d);
}

float *run_snapshot(struct op_run *r, const struct op_setting *s, size_t *floats)
{
    *floats = 0;
    for (int i = 0; i < r->num_buffers; i++) *floats += wide(&r->b[i]);
    float *bits = run_take(*floats, sizeof *bits), *to = bits;
    run_device(r, s);
    for (int i = 0; i < r->num_buffers; i++) {
        memcpy(to, r->b[i].host, wide(&r->b[i]) * sizeof *to);
        to += wide(&r->b[i]);
    }
    return bits;
}

/* --- the references --- */

void run_exact(struct op_run *r)
{
    double *b[OP_BUFFERS];
    for (int i = 0; i < r->num_buffers; i++) b[i] = r->b[i].exact;
    op_rows[r->c->op].exact(r->c, &r->n, b);
}

void run_naive(struct op_run *r)
{
    float *b[OP_BUFFERS];
    for (int i = 0; i < r->num_buffers; i++) b[i] = r->b[i].naive;
    op_rows[r->c->op].naive(r->c, &r->n, b);
}

static void compare(const struct op_run *r, const struct op_buffer *b)
{
    double error = 0, naive = 0, norm = 0, floor;
    char text[160];
    for (size_t i = 0; i < run_dense(b); i++) {
        double x = b->exact[i], y = (double)b->host[place(b, i)];
        if (b->role == OP_IN && y != b->original[i] && !isnan(b->original[i]))
            report(r, b, "an input changed");
        if (!isfinite(x) != !isfinite(y)) report(r, b, "finite on one side alone");
        if (!isfinite(x)) continue;
        error += (y - x) * (y - x);
        naive += ((double)b->naive[i] - x) * ((double)b->naive[i] - x);
        norm += x * x;
    }
    floor = r->type == DTYPE_F32 ? OP_FLOOR : r->bf16 > 0 ? r->bf16 : op_rows[r->c->op].bf16;
    if (sqrt(error) <= 2 * sqrt(naive) + floor * sqrt(norm)) return;
    snprintf(text, sizeof text, "relative error %.3g, naive fp32 %.3g", sqrt(error / norm),
             sqrt(naive / norm));
    report(r, b, text);
}

void run_compare(const struct op_run *r)
{
    for (int i = 0; i < r->num_buffers; i++) compare(r, &r->b[i]);
}

/* test_cuda_device.c - the backend around its kernels, in emulation: finding a device, memory and
 * copies of any size, and the updates that only a bf16 device has. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/codes.h"
#include "kernels/cuda/attention.h"
#include "kernels/emu/runtime.h"
#include "kernels/kernels.h"

/* Of the emulator: the device's compute capability, which starts at 90. */
extern void emu_set_capability(int capability);

static struct device open_cuda(enum dtype type)
{
    struct device d;
    struct err e = {0};
    assert_int_equal(device_open_type(&d, "cuda", type, 0, &e), OK);
    return d;
}

/* What "auto" is, opened once; *why as device_open_best says. */
static void check_best(const char *name, struct err *why)
{
    struct device d;
    struct err e = {0};
    int opened = emu_devices_opened();
    assert_int_equal(device_open_best(&d, 0, 1, why, &e), OK);
    assert_string_equal(d.k->name, name);
    assert_int_equal(d.type, strcmp(name, "cuda") ? DTYPE_F32 : DTYPE_BF16);
    assert_true(emu_devices_opened() <= opened + 1);
    device_close(&d);
}

static void *take(struct device *d, size_t bytes)
{
    struct err e = {0};
    void *p = NULL;
    assert_int_equal(d->k->alloc(d, bytes, &p, &e), OK);
    assert_int_equal((uintptr_t)p % 256, 0);
    return p;
}

static void sync(struct device *d)
{
    struct err e = {0};
    assert_int_equal(d->k->sync(d, &e), OK);
}

static void test_finding(void **state)
{
    static const struct {
        int count;
        cudaError_t answer;
        const char *message, *hint;
    } cases[] = {
        {0, cudaSuccess, "no NVIDIA GPU", "device: cpu"},
        {0, cudaErrorNoDevice, "no NVIDIA GPU", "device: cpu"},
        {0, cudaErrorInsufficientDriver, "the NVIDIA driver is too old", "update the driver"},
        {0, cudaErrorInvalidValue, "cannot be used", "nvidia-smi"},
    };
    struct device d = {0};
    struct err e = {0};
    char text[320];
    (void)state;
    check_best("cuda", &e);
    assert_int_equal(e.code, OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emu_set_devices(cases[i].count, cases[i].answer);
        assert_int_equal(device_open(&d, "cuda", 0, &e), ERR_DEVICE);
        assert_non_null(strstr(e.message, cases[i].message));
        assert_non_null(strstr(e.hint, cases[i].hint));
        assert_null(strchr(e.message, '\n'));
        check_best("cpu", &e);
        assert_int_equal(e.code, ERR_DEVICE);
        device_close(&d);
    }
    emu_set_devices(1, cudaSuccess);
    assert_int_equal(device_open_type(&d, "cuda", DTYPE_F16, 0, &e), ERR_UNSUPPORTED);
    device_close(&d);
    assert_int_equal(device_open_type(&d, "cpu", DTYPE_BF16, 0, &e), ERR_UNSUPPORTED);
    assert_int_equal(device_open(&d, "cuda", 0, &e), OK);
    assert_int_equal(d.type, DTYPE_BF16);
    d.k->describe(&d, text, sizeof text);
    assert_non_null(strstr(text, "emulator"));
    device_close(&d);
}

/* auto is plain until a device has run the other one, and the fingerprint tells which it is. */
static void test_attention(void **state)
{
    static const struct {
        enum attention_engine wish;
        enum dtype type;
        int32_t D;
        const char *engine; /* NULL: refused */
    } cases[] = {
        {ATTENTION_AUTO, DTYPE_BF16, 128, "plain"},   {ATTENTION_PLAIN, DTYPE_BF16, 64, "plain"},
        {ATTENTION_FLASH, DTYPE_BF16, 64, "flash"},   {ATTENTION_FLASH, DTYPE_BF16, 128, "flash"},
        {ATTENTION_FLASH, DTYPE_BF16, 96, NULL},      {ATTENTION_FLASH, DTYPE_F32, 64, NULL},
        {ATTENTION_HOPPER, DTYPE_BF16, 64, "hopper"}, {ATTENTION_HOPPER, DTYPE_BF16, 128, "hopper"},
        {ATTENTION_HOPPER, DTYPE_BF16, 80, NULL},     {ATTENTION_HOPPER, DTYPE_F32, 128, NULL},
        {ATTENTION_CUDNN, DTYPE_BF16, 96, "cudnn"},   {ATTENTION_CUDNN, DTYPE_F32, 64, NULL}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct device d = open_cuda(cases[i].type);
        struct err e = {0};
        char text[320], want[32];
        enum status status = device_set_attention(&d, cases[i].wish, cases[i].D, &e);
        assert_int_equal(status, cases[i].engine ? OK : ERR_UNSUPPORTED);
        if (cases[i].engine) {
            assert_string_equal(d.k->attention_engine(&d, cases[i].D), cases[i].engine);
            snprintf(want, sizeof want, ", %s attention", cases[i].engine);
            d.k->describe(&d, text, sizeof text);
            assert_non_null(strstr(text, want));
        }
        device_close(&d);
    }
}

/* Attention for one kind of GPU is refused by another. */
static void test_attention_elsewhere(void **state)
{
    static const int others[] = {80, 89, 100, 120};
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct err e = {0};
        emu_set_capability(others[i]);
        struct device d = open_cuda(DTYPE_BF16);
        assert_int_equal(device_set_attention(&d, ATTENTION_HOPPER, 128, &e), ERR_UNSUPPORTED);
        assert_non_null(strstr(e.message, "hopper is not to be had on the device \"cuda\""));
        assert_non_null(strstr(e.hint, "capability 9.0"));
        device_close(&d);
    }
    emu_set_capability(90);
}

/* A document of 150 rows, three rows of nobody, a document of 60. */
enum { NAN_N = 213, NAN_HEADS = 2, NAN_Q = NAN_HEADS * 128 };

static void attend(struct device *d, int32_t D, float *o, const float *q, const float *k,
                   const float *v)
{
    static const struct segment cut[] = {{0, 150, 0, 0, 0, 0}, {153, 60, 0, 0, 0, 1}};
    struct err e = {0};
    struct segment *segments = take(d, sizeof cut);
    void *rows[4];
    struct kern_attention a = {.N = NAN_N, .H = NAN_HEADS, .KV = 1, .D = D, .scale = 0.1f};
    d->k->upload(d, segments, cut, sizeof cut);
    a.segments = segments, a.num_segments = 2;
    for (int i = 0; i < 4; i++) rows[i] = take(d, (size_t)NAN_N * NAN_Q * 2);
    d->k->upload_floats(d, rows[0], q, (size_t)NAN_N * (size_t)(NAN_HEADS * D));
    d->k->upload_floats(d, rows[1], k, (size_t)NAN_N * (size_t)D);
    d->k->upload_floats(d, rows[2], v, (size_t)NAN_N * (size_t)D);
    a.q = rows[0], a.k = rows[1], a.v = rows[2], a.o = rows[3];
    a.ldq = a.ldo = NAN_HEADS * D, a.ldk = a.ldv = D;
    assert_int_equal(device_set_attention(d, ATTENTION_HOPPER, D, &e), OK);
    size_t bytes = d->k->attention_scratch(d, &a);
    void *scratch = take(d, bytes);
    d->k->attention_forward(d, &a, scratch);
    d->k->download_floats(d, o, a.o, (size_t)NAN_N * (size_t)(NAN_HEADS * D));
    sync(d);
    d->k->release(d, scratch, bytes);
    for (int i = 0; i < 4; i++) d->k->release(d, rows[i], (size_t)NAN_N * NAN_Q * 2);
    d->k->release(d, segments, sizeof cut);
}

/* What a row does not see has no say in it, not even as NaN. */
static void test_hidden_nan(void **state)
{
    static float q[NAN_N * NAN_Q], k[NAN_N * 128], v[NAN_N * 128], o[2][NAN_N * NAN_Q];
    struct device d = open_cuda(DTYPE_BF16);
    (void)state;
    for (int32_t D = 64; D <= 128; D *= 2) {
        const int bad[] = {100, 150, 151, 152, 200}, columns = NAN_HEADS * D;
        for (int i = 0; i < NAN_N * columns; i++) q[i] = (float)(i * 37 % 23) / 8 - 1.25f;
        for (int i = 0; i < NAN_N * D; i++) k[i] = (float)(i * 29 % 19) / 8 - 1;
        for (int i = 0; i < NAN_N * D; i++) v[i] = (float)(i * 31 % 17) / 8 - 1;
        attend(&d, D, o[0], q, k, v);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
            k[bad[i] * D + 5] = v[bad[i] * D + 7] = v[bad[i] * D] = NAN;
        attend(&d, D, o[1], q, k, v);
        for (int row = 0; row < NAN_N; row++)
            for (int c = 0; c < columns && (row < 150 || row > 152); c++) {
                float was = o[0][row * columns + c], is = o[1][row * columns + c];
                if (row < 100 || (row > 152 && row < 200))
                    assert_true(fabsf(is - was) <= 0x1p-8f * fabsf(was) + 1e-3f);
                else
                    assert_true(isnan(is));
            }
    }
    device_close(&d);
}

/* What auto takes by rules, were there any but the last; a call has its rows in so many segments.
 */
static void test_attention_rules(void **state)
{
    static const struct attention_rule rules[] = {{90, 128, 2048, ATTENTION_FLASH},
                                                  {80, 0, 512, ATTENTION_FLASH},
                                                  {0, 64, 0, ATTENTION_FLASH},
                                                  {0, 0, 0, ATTENTION_PLAIN}};
    static const struct {
        int capability;
        int32_t N, segments, D;
        enum attention_engine engine;
    } cases[] = {{90, 2048, 1, 128, ATTENTION_FLASH}, {90, 8192, 4, 128, ATTENTION_FLASH},
                 {90, 8192, 5, 128, ATTENTION_PLAIN}, {89, 2048, 1, 128, ATTENTION_PLAIN},
                 {80, 512, 1, 96, ATTENTION_FLASH},   {80, 511, 1, 96, ATTENTION_PLAIN},
                 {89, 1, 1, 64, ATTENTION_FLASH},     {90, 0, 0, 128, ATTENTION_PLAIN}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kern_attention a = {
            .N = cases[i].N, .num_segments = cases[i].segments, .D = cases[i].D};
        assert_int_equal(attention_pick(rules, cases[i].capability, &a), cases[i].engine);
    }
}

/* Copies larger than a staging half, at odd sizes, one behind the other. */
static void test_copies(void **state)
{
    enum { N = (9 << 20) + 13 };
    struct device d = open_cuda(DTYPE_F32);
    unsigned char *from = malloc(N), *back = malloc(N);
    char *to = take(&d, N + 5);
    (void)state;
    assert_true(from && back);
    for (int round = 0; round < 2; round++) {
        emu_set_seed((uint64_t)round);
        for (size_t i = 0; i < N; i++) from[i] = (unsigned char)(i * 7 + i / 251 + (size_t)round);
        d.k->upload(&d, to, from, N);
        d.k->upload(&d, to + N, "abcde", 5);
        memset(from, 0xee, 100); /* an upload has taken its bytes */
        d.k->download(&d, back, to, N);
        for (size_t i = 100; i < N; i++) assert_true(back[i] == from[i]);
        for (size_t i = 0; i < 100; i++)
            assert_true(back[i] == (unsigned char)(i * 7 + (size_t)round));
    }
    for (int i = 0; i < 5000; i++) /* many small ones go round both halves */
        d.k->upload(&d, to + 4 * (size_t)i, &i, sizeof i);
    d.k->copy_rows(&d, to + 40000, 8, to, 4, 100, 4);
    d.k->zero(&d, to, 8);
    d.k->download(&d, back, to, 50000);
    for (int i = 2; i < 5000; i++) assert_memory_equal(back + 4 * i, &i, sizeof i);
    for (int i = 0; i < 100; i++) assert_memory_equal(back + 40000 + 8 * i, &i, sizeof i);
    for (int i = 0; i < 8; i++) assert_int_equal(back[i], 0);
    sync(&d);
    d.k->release(&d, to, N + 5);
    device_close(&d);
    free(from);
    free(back);
}

/* fp32 on the host's side, bf16 on the device's, rounded to the nearest even. */
/* Each answer is what lay there when it was asked for, whatever is queued behind. */
static void test_answers(void **state)
{
    enum { BYTES = 3000, MORE = 100000 };
    static unsigned char from[MORE], got[MORE];
    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++) {
        emu_set_seed(seed);
        struct device d = open_cuda(DTYPE_BF16);
        unsigned char *x = take(&d, MORE);
        memset(from, 7, sizeof from);
        d.k->upload(&d, x, from, BYTES);
        d.k->answer_begin(&d, 0, x, BYTES);
        d.k->zero(&d, x, BYTES);
        d.k->answer_begin(&d, 1, x + 1, BYTES - 1);
        d.k->answer_end(&d, 0, got, BYTES);
        assert_memory_equal(got, from, BYTES);
        d.k->upload(&d, x, from, MORE);
        d.k->answer_begin(&d, 0, x, MORE); /* more than the slot had room for */
        d.k->answer_end(&d, 1, got, BYTES - 1);
        for (int i = 0; i < BYTES - 1; i++) assert_int_equal(got[i], 0);
        d.k->zero(&d, x, MORE);
        d.k->answer_end(&d, 0, got, MORE);
        assert_memory_equal(got, from, MORE);
        sync(&d);
        d.k->release(&d, x, MORE);
        device_close(&d);
    }
    emu_set_seed(0);
}

static void test_floats(void **state)
{
    enum { N = 1500001 };
    static const struct {
        float from, to;
    } known[] = {{1, 1},
                 {1.00390625f, 1},         /* a tie, down to even */
                 {1.01171875f, 1.015625f}, /* a tie, up to even */
                 {-3.3333333f, -3.328125f},
                 {3.4e38f, INFINITY},
                 {-INFINITY, -INFINITY}};
    enum { KNOWN = sizeof known / sizeof *known };
    struct device d = open_cuda(DTYPE_BF16);
    float *from = malloc(N * sizeof *from), *back = malloc(N * sizeof *back);
    void *to = take(&d, N * 2);
    (void)state;
    assert_true(from && back);
    for (int i = 0; i < N; i++) from[i] = i < KNOWN ? known[i].from : (float)(i % 256);
    from[N - 1] = NAN;
    d.k->upload_floats(&d, to, from, N);
    d.k->download_floats(&d, back, to, N);
    for (int i = 0; i < N - 1; i++) assert_true(back[i] == (i < KNOWN ? known[i].to : from[i]));
    assert_true(isnan(back[N - 1]));
    d.k->release(&d, to, N * 2);
    device_close(&d);
    free(from);
    free(back);
}

static void test_memory(void **state)
{
    struct device d = open_cuda(DTYPE_BF16);
    struct err e = {0};
    unsigned char bytes[1000];
    void *p = take(&d, sizeof bytes), *q = NULL;
    (void)state;
    d.k->download(&d, bytes, p, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) assert_int_equal(bytes[i], 0);
    emu_set_memory(0); /* what is used already is all there is */
    assert_int_equal(d.k->alloc(&d, 1, &q, &e), ERR_MEMORY);
    assert_null(q);
    assert_non_null(strstr(e.message, "0 of"));
    emu_set_memory((size_t)8 << 30);
    assert_int_equal(d.k->alloc(&d, 1, &q, &e), OK);
    d.k->release(&d, q, 1);
    d.k->release(&d, p, sizeof bytes);
    d.k->release(&d, NULL, 0);
    sync(&d);
    device_close(&d);
}

static void test_refusal(void **state)
{
    struct device d = open_cuda(DTYPE_F32);
    struct err e = {0};
    struct segment s = {.length = 1};
    struct kern_attention a = {
        .N = 1, .H = 1, .KV = 1, .D = 257, .segments = &s, .num_segments = 1};
    (void)state;
    d.k->attention_forward(&d, &a, NULL);
    assert_int_equal(d.k->sync(&d, &e), ERR_DEVICE);
    assert_non_null(strstr(e.message, "heads of more than 256"));
    device_close(&d);
}

enum { PARAMS = 4099 };

struct adam {
    float *param, *m, *v, *grad, *scale;
    void *data;
};

static struct adam adam_make(struct device *d)
{
    struct adam a;
    float values[PARAMS], one = 1;
    float **all[] = {&a.param, &a.m, &a.v, &a.grad};
    for (int i = 0; i < 4; i++) {
        *all[i] = take(d, sizeof values);
        rng_fill_uniform(rng_key((uint64_t)i, RNG_INIT, 0), values, PARAMS, i == 2 ? 0 : -1, 1);
        d->k->upload(d, *all[i], values, sizeof values);
        if (i == 0) {
            a.data = take(d, PARAMS * dtype_size(d->type));
            d->k->upload_floats(d, a.data, values, PARAMS);
        }
    }
    a.scale = take(d, sizeof one);
    d->k->upload(d, a.scale, &one, sizeof one);
    return a;
}

static void adam_free(struct device *d, struct adam *a)
{
    void *all[] = {a->param, a->m, a->v, a->grad, a->scale, a->data};
    for (int i = 0; i < 6; i++) d->k->release(d, all[i], 0);
}

static struct kern_adamw arguments(const struct adam *a, int masters, uint64_t step)
{
    return (struct kern_adamw){.n = PARAMS,
                               .param = masters ? a->param : NULL,
                               .m = a->m,
                               .v = a->v,
                               .grad = a->grad,
                               .scale = a->scale,
                               .lr = 1e-3f,
                               .beta1 = 0.9f,
                               .beta2 = 0.999f,
                               .eps = 1e-8f,
                               .bias1 = 1,
                               .bias2 = 1,
                               .data = a->data,
                               .rounding = rng_key(7, RNG_ROUND, step),
                               .first = 8};
}

/* The copy is the parameter, rounded. */
static void test_masters(void **state)
{
    struct device d = open_cuda(DTYPE_BF16);
    struct adam a = adam_make(&d);
    struct kern_adamw k = arguments(&a, 1, 0);
    float param[PARAMS], data[PARAMS], again[PARAMS];
    (void)state;
    d.k->adamw(&d, &k);
    d.k->download(&d, param, a.param, sizeof param);
    d.k->download_floats(&d, data, a.data, PARAMS);
    d.k->upload_floats(&d, a.data, param, PARAMS);
    d.k->download_floats(&d, again, a.data, PARAMS);
    assert_memory_equal(data, again, sizeof data);
    adam_free(&d, &a);
    device_close(&d);
}

/* A range that begins anywhere gets the bits of one that begins aligned. */
static void test_misaligned(void **state)
{
    struct device d = open_cuda(DTYPE_BF16);
    (void)state;
    for (int masters = 0; masters < 2; masters++) {
        struct adam a = adam_make(&d), b = adam_make(&d);
        struct kern_adamw whole = arguments(&a, masters, 0), rest = arguments(&b, masters, 0);
        float param[2][PARAMS], data[2][PARAMS];
        size_t first = 4; /* 8 bytes of data: not 16-aligned */
        d.k->adamw(&d, &whole);
        rest.n = first;
        d.k->adamw(&d, &rest);
        rest.n = PARAMS - first, rest.first += first;
        rest.param = masters ? rest.param + first : NULL;
        rest.m += first, rest.v += first, rest.grad += first;
        rest.data = (char *)rest.data + first * dtype_size(d.type);
        d.k->adamw(&d, &rest);
        for (int i = 0; i < 2; i++) {
            d.k->download(&d, param[i], i ? b.param : a.param, sizeof *param);
            d.k->download_floats(&d, data[i], i ? b.data : a.data, PARAMS);
        }
        assert_memory_equal(param[0], param[1], sizeof *param);
        assert_memory_equal(data[0], data[1], sizeof *data);
        adam_free(&d, &a);
        adam_free(&d, &b);
    }
    device_close(&d);
}

/* 8-bit states anywhere give the bits of those that lie aligned. */
static void test_misaligned_codes(void **state)
{
    struct device d = open_cuda(DTYPE_BF16);
    (void)state;
    for (int masters = 0; masters < 2; masters++) {
        float data[2][PARAMS], max[2][2 * PARAMS / CODES_BLOCK + 2];
        uint8_t codes[2][PARAMS];
        for (int i = 0; i < 2; i++) {
            struct adam a = adam_make(&d);
            struct kern_adamw_8bit k = {.a = arguments(&a, masters, 0),
                                        .m = (uint8_t *)a.m + i,
                                        .v = (uint8_t *)a.m + 8224 + 3 * i,
                                        .m_max = a.v,
                                        .v_max = a.v + PARAMS / CODES_BLOCK + 1};
            d.k->zero(&d, a.m, PARAMS * sizeof(float));
            for (int step = 0; step < 3; step++) d.k->adamw_8bit(&d, &k);
            d.k->download_floats(&d, data[i], a.data, PARAMS);
            d.k->download(&d, codes[i], k.m, PARAMS);
            d.k->download(&d, max[i], a.v, sizeof *max);
            adam_free(&d, &a);
        }
        assert_memory_equal(data[0], data[1], sizeof *data);
        assert_memory_equal(codes[0], codes[1], sizeof *codes);
        assert_memory_equal(max[0], max[1], sizeof *max);
    }
    device_close(&d);
}

/* Without masters: each value is a neighbour of the exact one, and right in the mean. */
static void test_stochastic_rounding(void **state)
{
    enum { STEPS = 64 };
    struct device d = open_cuda(DTYPE_BF16), exact = open_cuda(DTYPE_F32);
    double bias = 0, error = 0;
    (void)state;
    for (uint64_t step = 0; step < STEPS; step++) {
        struct adam a = adam_make(&d), b = adam_make(&exact);
        struct kern_adamw k = arguments(&a, 0, step), l = arguments(&b, 1, step);
        float from[PARAMS], rounded[PARAMS], right[PARAMS];
        d.k->download_floats(&d, from, a.data, PARAMS);
        exact.k->upload(&exact, b.param, from, sizeof from);
        d.k->adamw(&d, &k);
        exact.k->adamw(&exact, &l);
        d.k->download_floats(&d, rounded, a.data, PARAMS);
        exact.k->download(&exact, right, b.param, sizeof right);
        for (int i = 0; i < PARAMS; i++) {
            double off = (double)rounded[i] - (double)right[i];
            assert_true(fabs(off) <= fabs((double)right[i]) / 128 + 1e-30);
            bias += off, error += fabs(off);
        }
        adam_free(&d, &a);
        adam_free(&exact, &b);
    }
    assert_true(error / PARAMS / STEPS > 1e-5); /* something was rounded */
    assert_true(fabs(bias) < 0.02 * error);
    device_close(&d);
    device_close(&exact);
}

/* Rows 0 to 39 and 40 to 69, one head of 64; of what cuDNN takes and what it does not. */
enum { DNN_ROWS = 70, DNN_D = 64 };

static struct kern_attention two_documents(struct device *d)
{
    static const struct segment cut[] = {{0, 40, 0, 0, 0, 0}, {40, 30, 0, 0, 0, 1}};
    struct segment *segments = take(d, sizeof cut);
    char *rows = take(d, 4 * DNN_ROWS * DNN_D * 2);
    size_t each = DNN_ROWS * DNN_D * 2;
    d->k->upload(d, segments, cut, sizeof cut);
    return (struct kern_attention){.N = DNN_ROWS,
                                   .H = 1,
                                   .KV = 1,
                                   .D = DNN_D,
                                   .scale = 0.1f,
                                   .segments = segments,
                                   .num_segments = 2,
                                   .longest = segments_longest(cut, 2),
                                   .q = rows,
                                   .k = rows + each,
                                   .v = rows + 2 * each,
                                   .o = rows + 3 * each,
                                   .lse = take(d, DNN_ROWS * sizeof(float)),
                                   .ldq = DNN_D,
                                   .ldk = DNN_D,
                                   .ldv = DNN_D,
                                   .ldo = DNN_D};
}

/* How many of cuDNN's plans a call with its gradients takes: two, or none. */
static long plans_of(struct device *d, const struct kern_attention *a, size_t gradients_off)
{
    struct err e = {0};
    size_t each = DNN_ROWS * DNN_D * 2;
    char *rows = take(d, 4 * each + 16), *grad = rows + gradients_off;
    struct kern_attention_grad g = {rows,  grad + each, grad + 2 * each, grad + 3 * each, DNN_D,
                                    DNN_D, DNN_D};
    size_t bytes = d->k->attention_scratch(d, a);
    void *scratch = take(d, bytes);
    long before = emu_cudnn_runs();
    d->k->attention_forward(d, a, scratch);
    d->k->attention_backward(d, a, &g, scratch);
    assert_int_equal(d->k->sync(d, &e), OK);
    d->k->release(d, scratch, bytes);
    d->k->release(d, rows, 4 * each + 16);
    return emu_cudnn_runs() - before;
}

static void test_cudnn(void **state)
{
    struct device d = open_cuda(DTYPE_BF16);
    struct err e = {0};
    char text[320];
    (void)state;
    assert_int_equal(device_set_attention(&d, ATTENTION_CUDNN, DNN_D, &e), OK);
    d.k->describe(&d, text, sizeof text);
    assert_non_null(strstr(text, ", cudnn attention (cuDNN 9"));
    struct kern_attention a = two_documents(&d), b = a;
    assert_int_equal(plans_of(&d, &a, 0), 2);
    assert_int_equal(plans_of(&d, &a, 0), 2); /* by the plans made before */
    b.window = 5;
    assert_int_equal(plans_of(&d, &b, 0), 2);
    b = a, b.longest = 0; /* not known */
    assert_int_equal(plans_of(&d, &b, 0), 0);
    b = a, b.lse = take(&d, DNN_ROWS * sizeof(float)), b.ldq = DNN_D + 1, b.N = 1;
    b.num_segments = 0;
    assert_int_equal(plans_of(&d, &b, 0), 0);
    assert_int_equal(plans_of(&d, &a, 2), 1); /* gradients that are not aligned */
    d.k->release(&d, b.lse, DNN_ROWS * sizeof(float));
    d.k->release(&d, (void *)(uintptr_t)a.q, 4 * DNN_ROWS * DNN_D * 2);
    d.k->release(&d, (void *)(uintptr_t)a.segments, 2 * sizeof(struct segment));
    d.k->release(&d, a.lse, DNN_ROWS * sizeof(float));
    device_close(&d);
}

static void test_no_cudnn(void **state)
{
    struct err e = {0};
    (void)state;
    emu_set_cudnn(0);
    struct device d = open_cuda(DTYPE_BF16);
    assert_int_equal(device_set_attention(&d, ATTENTION_CUDNN, 128, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "cudnn is not to be had on the device \"cuda\" in bf16"));
    assert_non_null(strstr(e.hint, "nvidia-cudnn-cu13"));
    device_close(&d);
    emu_set_cudnn(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finding),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_attention_elsewhere),
        cmocka_unit_test(test_hidden_nan),
        cmocka_unit_test(test_attention_rules),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_floats),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_masters),
        cmocka_unit_test(test_misaligned),
        cmocka_unit_test(test_misaligned_codes),
        cmocka_unit_test(test_stochastic_rounding),
        cmocka_unit_test(test_cudnn),
        cmocka_unit_test(test_no_cudnn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

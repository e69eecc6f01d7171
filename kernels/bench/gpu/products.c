/* products.c - the rates that the others are held against: the copy, and products. */
#include <stdio.h>

#include "kernels/bench/gpu/bench.h"

struct copy_call {
    void *to, *from;
    int32_t rows;
};

enum { COPY_ROW = 1 << 16 };

static void copy(void *p)
{
    struct copy_call *c = p;
    bench.device.k->copy_rows(&bench.device, c->to, COPY_ROW, c->from, COPY_ROW, c->rows, COPY_ROW);
}

void bench_copy(void)
{
    struct copy_call c = {.rows = bench.small ? 4 : 1 << 15}; /* 2 GB */
    size_t bytes = (size_t)c.rows * COPY_ROW;
    char shape[BENCH_SHAPE];
    c.to = bench_take(bytes), c.from = bench_values(bytes / dtype_size(bench.device.type));
    snprintf(shape, sizeof shape, "%zu MB", bytes >> 20);
    bench.copy_rate =
        bench_print_bytes("copy", shape, bench_median_ms(copy, &c), 2 * (double)bytes);
    bench_give_back();
}

/* --- products --- */

struct product_call {
    int32_t N, I, O;
    void *y, *x, *w;
    float *dw;
};

static void product_forward(void *p)
{
    struct product_call *c = p;
    bench.device.k->linear_forward(&bench.device, c->y, c->x, c->w, NULL, NULL, c->N, c->I, c->O,
                                   c->O, c->I, 0);
}

static void product_input(void *p)
{
    struct product_call *c = p;
    bench.device.k->linear_backward_input(&bench.device, c->x, c->y, c->w, c->N, c->I, c->O, c->I,
                                          c->O, 0);
}

static void product_weight(void *p)
{
    struct product_call *c = p;
    bench.device.k->linear_backward_weight(&bench.device, c->dw, c->y, c->x, c->N, c->I, c->O, c->O,
                                           c->I);
}

static void bench_product(int32_t N, int32_t I, int32_t O, int largest)
{
    struct product_call c = {.N = N, .I = I, .O = O};
    double flops = 2.0 * N * I * O;
    char shape[BENCH_SHAPE];
    c.y = bench_values((size_t)N * (size_t)O), c.x = bench_values((size_t)N * (size_t)I);
    c.w = bench_values((size_t)O * (size_t)I), c.dw = bench_floats((size_t)O * (size_t)I);
    snprintf(shape, sizeof shape, "%dx%dx%d", N, I, O);
    double rate =
        bench_print_flops("linear forward", shape, bench_median_ms(product_forward, &c), flops);
    if (largest) {
        bench.gemm_rate = rate;
    } else {
        bench_print_flops("linear by input", shape, bench_median_ms(product_input, &c), flops);
        bench_print_flops("linear by weight", shape, bench_median_ms(product_weight, &c), flops);
    }
    bench_give_back();
}

/* The largest first: the others' shares are of it. The rest are an 8B Llama-3's at 4096 rows. */
void bench_gemm(void)
{
    static const int32_t shapes[][3] = {
        {4096, 4096, 6144}, {4096, 4096, 4096}, {4096, 4096, 28672}, {4096, 14336, 4096}};
    if (bench.small) {
        bench_product(64, 32, 32, 1);
        bench_product(33, 40, 24, 0);
        return;
    }
    bench_product(8192, 8192, 8192, 1);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        bench_product(shapes[i][0], shapes[i][1], shapes[i][2], 0);
}

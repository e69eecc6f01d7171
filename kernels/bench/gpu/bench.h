/* bench.h - what the GPU's benchmarks share: the device, memory of a case, time, lines of JSON.
 *
 * A benchmark is one program, bench_gpu (main.c), and a file a concept: products.c, passes.c,
 * attention.c, decode.c, head.c. A case takes what it needs (bench_take and what fills it), times
 * calls (bench_median_ms), prints a line each (bench_print_*) and gives all of it back
 * (bench_give_back). Nothing is returned to anybody: where something fails the program says so and
 * ends with 1.
 *
 * A line has the entry, its shape, milliseconds, the FLOPs or bytes that it cannot do without, the
 * rate, and `share`: of the rate that the largest product or the copy reached in this same run,
 * where they were run before it (else 1).
 */
#ifndef CRIA_KERNELS_BENCH_GPU_BENCH_H
#define CRIA_KERNELS_BENCH_GPU_BENCH_H

#include "kernels/cuda/cuda.h"

enum { BENCH_SHAPE = 64 }; /* bytes of a shape's text */

struct gpu_bench {
    struct device device;
    int small;                   /* toy shapes, each call once: for the emulator */
    unsigned engines;            /* of attention: 1 << enum attention_engine; 0: all of them */
    int one_length;              /* of attention: 4096 rows alone */
    const char *engine;          /* whose lines are being printed, or "" */
    double copy_rate, gemm_rate; /* bytes and FLOPs a second; 0: not measured */
};
extern struct gpu_bench bench;

_Noreturn void bench_fail(const char *what);

/* Device memory, random numbers in it (n of them; the device's type, or fp32), and i * step %
 * below. They stay until bench_give_back, which waits for the device. */
void *bench_take(size_t bytes);
void *bench_numbers(size_t n, int floats, float std);
void *bench_values(size_t n); /* the device's type, standard deviation 1 */
void *bench_floats(size_t n);
void *bench_ints(int32_t n, int32_t step, int32_t below);
void bench_give_back(void);

/* Median milliseconds of a call in the backend's own stream, by events, behind a warm-up. A slow
 * call is made less often, down to once. */
double bench_median_ms(void (*call)(void *), void *with);

/* A line; returns FLOPs or bytes a second. */
double bench_print_flops(const char *entry, const char *shape, double ms, double flops);
double bench_print_bytes(const char *entry, const char *shape, double ms, double bytes);

/* The parts, a file each but for the first two. */
void bench_copy(void);
void bench_gemm(void);
void bench_passes(void);
void bench_attention(void);
void bench_decode(void);
void bench_head(void);

void bench_open(void);
void bench_close(void);

#endif

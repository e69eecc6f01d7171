#include "kernels/bench/gpu/bench.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum { WARM_UP = 2, MOST_CALLS = 20, MOST_BUFFERS = 16 };
#define ENOUGH_MS 150.0f /* of calls: more add nothing */

struct gpu_bench bench = {.engine = ""};

static cudaEvent_t begin_event, end_event;
static struct {
    void *p;
    size_t bytes;
} taken[MOST_BUFFERS];
static int num_taken;

void bench_fail(const char *what)
{
    fprintf(stderr, "bench_gpu: %s\n", what);
    exit(1);
}

void bench_open(void)
{
    struct err e = {0};
    char about[320];
    if (device_open(&bench.device, "cuda", 0, &e)) bench_fail(e.message);
    if (cudaEventCreateWithFlags(&begin_event, cudaEventDefault) ||
        cudaEventCreateWithFlags(&end_event, cudaEventDefault))
        bench_fail("no events");
    bench.device.k->describe(&bench.device, about, sizeof about);
    printf("{\"device\": \"%s\"}\n", about);
}

void bench_close(void)
{
    cudaEventDestroy(begin_event);
    cudaEventDestroy(end_event);
    device_close(&bench.device);
}

static void sync(void)
{
    struct err e = {0};
    if (bench.device.k->sync(&bench.device, &e)) bench_fail(e.message);
}

/* --- memory --- */

void *bench_take(size_t bytes)
{
    struct err e = {0};
    if (num_taken == MOST_BUFFERS) bench_fail("a case takes too many buffers");
    if (bench.device.k->alloc(&bench.device, bytes, &taken[num_taken].p, &e)) bench_fail(e.message);
    taken[num_taken].bytes = bytes;
    return taken[num_taken++].p;
}

void bench_give_back(void)
{
    sync();
    while (num_taken) {
        num_taken--;
        bench.device.k->release(&bench.device, taken[num_taken].p, taken[num_taken].bytes);
    }
}

void *bench_numbers(size_t n, int floats, float std)
{
    void *p = bench_take(n * (floats ? sizeof(float) : dtype_size(bench.device.type)));
    struct rng_key key = rng_key(1, RNG_INIT, (uint64_t)num_taken);
    bench.device.k->fill_normal(&bench.device, p, floats, n, key, 0, std);
    return p;
}

void *bench_values(size_t n) { return bench_numbers(n, 0, 1); }
void *bench_floats(size_t n) { return bench_numbers(n, 1, 1); }

void *bench_ints(int32_t n, int32_t step, int32_t below)
{
    int32_t *host = mem_calloc((size_t)n, sizeof *host);
    void *p = bench_take((size_t)n * sizeof *host);
    if (!host) bench_fail("no memory");
    for (int32_t i = 0; i < n; i++) host[i] = (int32_t)((int64_t)i * step % below);
    bench.device.k->upload(&bench.device, p, host, (size_t)n * sizeof *host);
    mem_free(host);
    return p;
}

/* --- time --- */

static float one_call(void (*call)(void *), void *with)
{
    float ms = 0;
    cudaEventRecord(begin_event, cuda_state(&bench.device)->compute);
    call(with);
    cudaEventRecord(end_event, cuda_state(&bench.device)->compute);
    cudaEventSynchronize(end_event);
    cudaEventElapsedTime(&ms, begin_event, end_event);
    return ms;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double bench_median_ms(void (*call)(void *), void *with)
{
    float ms[MOST_CALLS], sum = one_call(call, with);
    int n = 0;
    ms[n++] = sum;
    if (sum < ENOUGH_MS && !bench.small) {
        for (int i = 1; i < WARM_UP; i++) (void)one_call(call, with);
        for (n = 0, sum = 0; n < MOST_CALLS && (n < 3 || sum < ENOUGH_MS); n++)
            sum += ms[n] = one_call(call, with);
    }
    sync();
    qsort(ms, (size_t)n, sizeof *ms, by_size);
    return (double)ms[n / 2];
}

/* --- lines --- */

double bench_print_flops(const char *entry, const char *shape, double ms, double flops)
{
    double rate = flops / ms * 1e3;
    printf("{\"entry\": \"%s\", \"shape\": \"%s\", \"ms\": %.6g, \"flops\": %.6g, "
           "\"tflops\": %.5g, \"share\": %.4g, \"engine\": \"%s\"}\n",
           entry, shape, ms, flops, rate / 1e12, bench.gemm_rate > 0 ? rate / bench.gemm_rate : 1,
           bench.engine);
    fflush(stdout);
    return rate;
}

double bench_print_bytes(const char *entry, const char *shape, double ms, double bytes)
{
    double rate = bytes / ms * 1e3;
    printf("{\"entry\": \"%s\", \"shape\": \"%s\", \"ms\": %.6g, \"bytes\": %.6g, "
           "\"gb_per_second\": %.5g, \"share\": %.4g}\n",
           entry, shape, ms, bytes, rate / 1e9, bench.copy_rate > 0 ? rate / bench.copy_rate : 1);
    fflush(stdout);
    return rate;
}

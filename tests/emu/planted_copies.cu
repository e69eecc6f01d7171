/* planted_copies.cu - block inputs that wait on the host, by copies.c itself, with one of the waits
 * between the streams left out.
 *
 * As an offloaded region does it: a number is made, sent to the host, its place used for something
 * else and the number brought back there. */
#include "emu/planted.h"

#include "kernels/emu/runtime.h"

namespace
{

enum planted fault;
int waits; /* so many so far */

/* In order: of the copy out, behind it, of the copy in, behind it. */
cudaError_t planted_wait(cudaStream_t s, cudaEvent_t e, unsigned flags)
{
    static const enum planted skip[] = {PLANTED_copies_out_early, PLANTED_copies_out_reused,
                                        PLANTED_copies_in_early, PLANTED_copies_in_read};
    if (fault == skip[waits++ % 4]) return cudaSuccess;
    return cudaStreamWaitEvent(s, e, flags);
}

} // namespace

#define cudaStreamWaitEvent planted_wait
#define cuda_note planted_note
#define cuda_copies_open planted_copies_open
#define cuda_copies_close planted_copies_close
#define cuda_host_alloc planted_host_alloc
#define cuda_host_release planted_host_release
#define cuda_copy_out planted_copy_out
#define cuda_copy_in planted_copy_in
#define cuda_copy_wait planted_copy_wait
#include "kernels/cuda/copies.c"
#undef cudaStreamWaitEvent

void planted_note(struct device *, cudaError_t, const char *) {}

enum { COUNT = 64, TIMES = 3 };

static void put(struct device *d, float *at, float value)
{
    emu_enqueue(cuda_state(d)->compute, [=] {
        for (int i = 0; i < COUNT; i++) at[i] = value;
    });
}

static void take(struct device *d, float *to, const float *at)
{
    emu_enqueue(cuda_state(d)->compute, [=] { *to = at[COUNT - 1]; });
}

int planted_copies_run(enum planted p)
{
    struct cuda_state state = {};
    struct device d = {};
    struct err e;
    void *host, *memory;
    float other[TIMES], back[TIMES];
    d.state = &state;
    fault = p, waits = 0;
    cudaStreamCreateWithFlags(&state.compute, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&state.copy, cudaStreamNonBlocking);
    if (planted_copies_open(&state.copies, &e)) return 2;
    if (planted_host_alloc(&d, COUNT * sizeof(float), &host, &e)) return 2;
    cudaMalloc(&memory, COUNT * sizeof(float));
    float *x = (float *)memory;
    for (int i = 0; i < TIMES; i++) {
        put(&d, x, (float)i + 1);
        planted_copy_out(&d, host, x, COUNT * sizeof(float));
        planted_copy_wait(&d);
        put(&d, x, -1);
        take(&d, &other[i], x);
        planted_copy_in(&d, x, host, COUNT * sizeof(float));
        planted_copy_wait(&d);
        take(&d, &back[i], x);
    }
    cudaStreamSynchronize(state.compute);
    planted_host_release(&d, host, COUNT * sizeof(float));
    planted_copies_close(&state.copies);
    cudaFree(memory);
    cudaStreamDestroy(state.copy);
    cudaStreamDestroy(state.compute);
    for (int i = 0; i < TIMES; i++)
        if (other[i] != -1 || back[i] != (float)i + 1) return 1;
    return 0;
}

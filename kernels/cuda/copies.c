/* copies.c - copies between the device and pinned memory of the host, beside the kernels.
 *
 * Both streams wait for each other by one event each way:
 *
 *     compute  ... x made | ready -> ........ next block ......... | <- copied | x's memory used
 * again copy                  ready | x to the host ........ copied
 *
 * `ready` holds a copy back until compute has made what is copied, or is done with what lies where
 * it goes; `copied` holds compute back until all copies begun so far are over. A stream takes an
 * event as it stood when it was told to wait, so each event serves one copy after the other.
 */
#include <string.h>

#include "kernels/cuda/cuda.h"

enum status cuda_copies_open(struct cuda_copies *c, struct err *e)
{
    cudaError_t error = cudaEventCreateWithFlags(&c->ready, cudaEventDisableTiming);
    if (!error) error = cudaEventCreateWithFlags(&c->copied, cudaEventDisableTiming);
    for (int i = 0; i < KERN_COPY_MARKS && !error; i++)
        error = cudaEventCreateWithFlags(&c->marks[i], cudaEventDisableTiming);
    if (!error) return OK;
    return err_set(e, ERR_DEVICE, "no events for copies: %s", cudaGetErrorString(error));
}

void cuda_copies_close(struct cuda_copies *c)
{
    if (c->ready) cudaEventDestroy(c->ready);
    if (c->copied) cudaEventDestroy(c->copied);
    for (int i = 0; i < KERN_COPY_MARKS; i++)
        if (c->marks[i]) cudaEventDestroy(c->marks[i]);
    memset(c, 0, sizeof *c);
}

enum status cuda_host_alloc(struct device *d, size_t bytes, void **out, struct err *e)
{
    (void)d;
    cudaError_t error = cudaHostAlloc(out, bytes ? bytes : 1, cudaHostAllocDefault);
    if (!error) return OK;
    (void)cudaGetLastError();
    *out = NULL;
    err_set(e, ERR_MEMORY, "cannot pin %zu bytes of the host's memory: %s", bytes,
            cudaGetErrorString(error));
    return err_hint(e, "gradient_checkpointing: full keeps them on the GPU");
}

void cuda_host_release(struct device *d, void *p, size_t bytes)
{
    (void)bytes;
    if (!p) return;
    cuda_note(d, cudaStreamSynchronize(cuda_state(d)->copy), "copies");
    cuda_note(d, cudaFreeHost(p), "release");
}

static void copy(struct device *d, void *to, const void *from, size_t bytes,
                 enum cudaMemcpyKind kind)
{
    struct cuda_state *s = cuda_state(d);
    cuda_note(d, cudaEventRecord(s->copies.ready, s->compute), "copies");
    cuda_note(d, cudaStreamWaitEvent(s->copy, s->copies.ready, 0), "copies");
    cuda_trace_begin(d, s->copy, kind == cudaMemcpyDeviceToHost ? "offload" : "bring back");
    cuda_note(d, cudaMemcpyAsync(to, from, bytes, kind, s->copy), "copies");
    cuda_trace_end(d);
    cuda_note(d, cudaEventRecord(s->copies.copied, s->copy), "copies");
}

void cuda_copy_out(struct device *d, void *to, const void *from, size_t bytes)
{
    copy(d, to, from, bytes, cudaMemcpyDeviceToHost);
}

void cuda_copy_in(struct device *d, void *to, const void *from, size_t bytes)
{
    copy(d, to, from, bytes, cudaMemcpyHostToDevice);
}

void cuda_copy_wait(struct device *d)
{
    struct cuda_state *s = cuda_state(d);
    cuda_note(d, cudaStreamWaitEvent(s->compute, s->copies.copied, 0), "copies");
}

void cuda_copy_mark(struct device *d, int mark)
{
    struct cuda_state *s = cuda_state(d);
    cuda_note(d, cudaEventRecord(s->copies.marks[mark], s->copy), "copies");
}

void cuda_copy_until(struct device *d, int mark)
{
    cuda_note(d, cudaEventSynchronize(cuda_state(d)->copies.marks[mark]), "copies");
}

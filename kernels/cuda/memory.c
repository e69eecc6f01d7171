/* memory.c - device memory, and the way in and out of it.
 *
 * An upload has taken its bytes from the host when it returns. They go pinned half -> device half
 * in the copy stream and device half -> destination in the compute stream, so that the bus works
 * beside the kernels and the order of calls is kept. See cuda.h.
 */
#include <string.h>

#include "kernels/cuda/cuda.h"

enum { ALIGN = 256 };

/* --- staging --- */

enum status cuda_staging_open(struct cuda_staging *s, struct err *e)
{
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < CUDA_HALVES && !error; i++) {
        error = cudaHostAlloc((void **)&s->pinned[i], CUDA_HALF_BYTES, cudaHostAllocDefault);
        if (!error) error = cudaMalloc((void **)&s->device[i], CUDA_HALF_BYTES);
        if (!error) error = cudaEventCreateWithFlags(&s->copied[i], cudaEventDisableTiming);
        if (!error) error = cudaEventCreateWithFlags(&s->arrived[i], cudaEventDisableTiming);
    }
    if (!error) return OK;
    return err_set(e, ERR_DEVICE, "no buffers for copies: %s", cudaGetErrorString(error));
}

void cuda_staging_close(struct cuda_staging *s)
{
    for (int i = 0; i < CUDA_HALVES; i++) {
        if (s->copied[i]) cudaEventDestroy(s->copied[i]);
        if (s->arrived[i]) cudaEventDestroy(s->arrived[i]);
        if (s->device[i]) cudaFree(s->device[i]);
        if (s->pinned[i]) cudaFreeHost(s->pinned[i]);
    }
    *s = (struct cuda_staging){0};
}

/* Room for up to `bytes` in the current half, or in the other one once it is free. */
static size_t stage_room(struct device *d, size_t bytes)
{
    struct cuda_staging *s = &cuda_state(d)->staging;
    size_t left = CUDA_HALF_BYTES - s->used;
    if (left < bytes && left < CUDA_HALF_BYTES / 2) {
        s->half = (s->half + 1) % CUDA_HALVES;
        s->used = 0;
        cuda_note(d, cudaEventSynchronize(s->arrived[s->half]), "upload");
        left = CUDA_HALF_BYTES;
    }
    return bytes < left ? bytes : left;
}

/* Puts `bytes` (at most what stage_room gave) on their way to the device half; the compute stream
 * waits for them. Returns where they will be. */
static void *stage(struct device *d, const void *from, size_t bytes)
{
    struct cuda_state *c = cuda_state(d);
    struct cuda_staging *s = &c->staging;
    char *pinned = s->pinned[s->half] + s->used, *device = s->device[s->half] + s->used;
    memcpy(pinned, from, bytes);
    s->used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if (s->used > CUDA_HALF_BYTES) s->used = CUDA_HALF_BYTES;
    cuda_trace_begin(d, c->copy, "copy in");
    cuda_note(d, cudaMemcpyAsync(device, pinned, bytes, cudaMemcpyHostToDevice, c->copy), "upload");
    cuda_trace_end(d);
    cuda_note(d, cudaEventRecord(s->copied[s->half], c->copy), "upload");
    cuda_note(d, cudaStreamWaitEvent(c->compute, s->copied[s->half], 0), "upload");
    return device;
}

/* To be called when what takes from the half has been queued. */
static void stage_done(struct device *d)
{
    struct cuda_state *c = cuda_state(d);
    struct cuda_staging *s = &c->staging;
    cuda_note(d, cudaEventRecord(s->arrived[s->half], c->compute), "upload");
}

void cuda_upload(struct device *d, void *to, const void *from, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        size_t n = stage_room(d, bytes - done);
        void *device = stage(d, (const char *)from + done, n);
        cuda_trace_begin(d, cuda_state(d)->compute, "copy into place");
        cuda_note(d,
                  cudaMemcpyAsync((char *)to + done, device, n, cudaMemcpyDeviceToDevice,
                                  cuda_state(d)->compute),
                  "upload");
        cuda_trace_end(d);
        stage_done(d);
        done += n;
    }
}

void cuda_upload_floats(struct device *d, void *to, const float *from, size_t n)
{
    if (d->type == DTYPE_F32) {
        cuda_upload(d, to, from, n * sizeof *from);
        return;
    }
    for (size_t done = 0; done < n;) {
        size_t count = stage_room(d, (n - done) * sizeof *from) / sizeof *from;
        const float *device = stage(d, from + done, count * sizeof *from);
        cuda_cast_from_float(d, (char *)to + done * dtype_size(d->type), device, count);
        stage_done(d);
        done += count;
    }
}

/* Through a pinned half, whose uploads are waited for on the way. */
void cuda_download(struct device *d, void *to, const void *from, size_t bytes)
{
    struct cuda_state *c = cuda_state(d);
    struct cuda_staging *s = &c->staging;
    for (size_t done = 0; done < bytes;) {
        size_t n = bytes - done < CUDA_HALF_BYTES ? bytes - done : CUDA_HALF_BYTES;
        cuda_note(d, cudaEventSynchronize(s->arrived[s->half]), "download");
        cuda_trace_begin(d, c->compute, "copy out");
        cuda_note(d,
                  cudaMemcpyAsync(s->pinned[s->half], (const char *)from + done, n,
                                  cudaMemcpyDeviceToHost, c->compute),
                  "download");
        cuda_trace_end(d);
        cuda_note(d, cudaStreamSynchronize(c->compute), "download");
        memcpy((char *)to + done, s->pinned[s->half], n);
        done += n;
    }
}

void cuda_download_floats(struct device *d, float *to, const void *from, size_t n)
{
    const size_t each = CUDA_WORKSPACE / sizeof *to;
    if (d->type == DTYPE_F32) {
        cuda_download(d, to, from, n * sizeof *to);
        return;
    }
    for (size_t done = 0; done < n; done += each) {
        size_t count = n - done < each ? n - done : each;
        float *device = cuda_state(d)->workspace;
        cuda_cast_to_float(d, device, (const char *)from + done * dtype_size(d->type), count);
        cuda_download(d, to + done, device, count * sizeof *to);
    }
}

/* --- answers --- */

/* Pinned memory for this many bytes, twice what there was if it is not enough. */
static cudaError_t answer_room(struct cuda_answer *a, size_t bytes)
{
    size_t size = bytes > 2 * a->size ? bytes : 2 * a->size;
    cudaError_t error =
        a->ready ? cudaSuccess : cudaEventCreateWithFlags(&a->ready, cudaEventDisableTiming);
    if (error || bytes <= a->size) return error;
    if (a->pinned) cudaFreeHost(a->pinned);
    a->pinned = NULL;
    a->size = 0;
    error = cudaHostAlloc((void **)&a->pinned, size, cudaHostAllocDefault);
    if (!error) a->size = size;
    return error;
}

void cuda_answer_begin(struct device *d, int slot, const void *from, size_t bytes)
{
    struct cuda_state *c = cuda_state(d);
    struct cuda_answer *a = &c->answers[slot];
    cudaError_t error = answer_room(a, bytes);
    cuda_note(d, error, "answer");
    if (error) return;
    cuda_trace_begin(d, c->compute, "copy out");
    cuda_note(d, cudaMemcpyAsync(a->pinned, from, bytes, cudaMemcpyDeviceToHost, c->compute),
              "answer");
    cuda_trace_end(d);
    cuda_note(d, cudaEventRecord(a->ready, c->compute), "answer");
}

void cuda_answer_end(struct device *d, int slot, void *to, size_t bytes)
{
    struct cuda_answer *a = &cuda_state(d)->answers[slot];
    if (a->size < bytes) { /* begin has failed, and sync will say so */
        memset(to, 0, bytes);
        return;
    }
    cuda_note(d, cudaEventSynchronize(a->ready), "answer");
    memcpy(to, a->pinned, bytes);
}

void cuda_answers_close(struct cuda_state *s)
{
    for (struct cuda_answer *a = s->answers; a < s->answers + KERN_ANSWERS; a++) {
        if (a->ready) cudaEventDestroy(a->ready);
        if (a->pinned) cudaFreeHost(a->pinned);
        *a = (struct cuda_answer){0};
    }
}

/* --- on the device --- */

enum status cuda_alloc(struct device *d, size_t bytes, void **out, struct err *e)
{
    cudaError_t error = cudaMalloc(out, bytes ? bytes : 1);
    if (!error) {
        cuda_zero(d, *out, bytes);
        return OK;
    }
    size_t left = 0, total = 0;
    (void)cudaGetLastError(); /* told here; it is no error of what is queued */
    *out = NULL;
    if (error != cudaErrorMemoryAllocation)
        return err_set(e, ERR_DEVICE, "cannot allocate: %s", cudaGetErrorString(error));
    if (cudaMemGetInfo(&left, &total)) left = total = 0;
    err_set(e, ERR_MEMORY, "cannot allocate %zu bytes on the GPU: %zu of %zu are free", bytes, left,
            total);
    return err_hint(e, "lower max_length or per_device_train_batch_size; cria plan shows the sum");
}

void cuda_memory(const struct device *d, size_t *free_bytes, size_t *total)
{
    (void)d;
    if (cudaMemGetInfo(free_bytes, total)) *free_bytes = *total = 0;
}

void cuda_release(struct device *d, void *p, size_t bytes)
{
    (void)bytes;
    if (p) cuda_note(d, cudaFree(p), "release");
}

void cuda_copy_rows(struct device *d, void *to, size_t to_stride, const void *from,
                    size_t from_stride, int32_t rows, size_t row_bytes)
{
    if (rows <= 0 || !row_bytes) return;
    cuda_trace_begin(d, cuda_state(d)->compute, "copy of rows");
    cuda_note(d,
              cudaMemcpy2DAsync(to, to_stride, from, from_stride, row_bytes, (size_t)rows,
                                cudaMemcpyDeviceToDevice, cuda_state(d)->compute),
              "copy of rows");
    cuda_trace_end(d);
}

void cuda_zero(struct device *d, void *p, size_t bytes)
{
    if (!bytes) return;
    cuda_trace_begin(d, cuda_state(d)->compute, "zeros");
    cuda_note(d, cudaMemsetAsync(p, 0, bytes, cuda_state(d)->compute), "zero");
    cuda_trace_end(d);
}

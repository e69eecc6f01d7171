/* null.c - a backend that computes nothing: for plans, shapes and tests of graphs.
 *
 * Its memory is address space only: distinct, aligned, and a fault to touch. Downloads give
 * zeros. Scratch sizes are the CPU's, since plans made here are for the CPU.
 */
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/kernels.h"

#pragma GCC diagnostic ignored "-Wunused-parameter" /* that is what this file is about */

static enum status null_open(struct device *d, struct err *e)
{
    if (d->threads > 0) omp_set_num_threads(d->threads);
    d->threads = omp_get_max_threads();
    return OK;
}

static void null_close(struct device *d) {}

static void null_describe(const struct device *d, char *out, size_t size)
{
    snprintf(out, size, "null");
}

static enum status null_alloc(struct device *d, size_t bytes, void **out, struct err *e)
{
    void *p = mmap(NULL, bytes ? bytes : 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    *out = p == MAP_FAILED ? NULL : p;
    return *out ? OK : err_set(e, ERR_MEMORY, "no address space for %zu bytes", bytes);
}

static void null_release(struct device *d, void *p, size_t bytes)
{
    if (p) munmap(p, bytes ? bytes : 1);
}

static void null_upload(struct device *d, void *to, const void *from, size_t bytes) {}

static void null_download(struct device *d, void *to, const void *from, size_t bytes)
{
    if (bytes) memset(to, 0, bytes);
}

static void null_zero(struct device *d, void *p, size_t bytes) {}

static enum status null_sync(struct device *d, struct err *e) { return OK; }

static void null_copy_rows(struct device *d, void *to, size_t to_stride, const void *from,
                           size_t from_stride, int32_t rows, size_t row_bytes)
{
}

/* As if it had memory of its own, so that what a GPU would send to the host can be planned. */
static void null_copy_out(struct device *d, void *to, const void *from, size_t bytes) {}
static void null_copy_in(struct device *d, void *to, const void *from, size_t bytes) {}
static void null_copy_wait(struct device *d) {}

static void null_upload_floats(struct device *d, void *to, const float *from, size_t n) {}

static void null_download_floats(struct device *d, float *to, const void *from, size_t n)
{
    memset(to, 0, n * sizeof *to);
}

static void null_embedding_forward(struct device *d, void *out, const void *table,
                                   const int32_t *ids, int32_t N, int32_t C)
{
}

static void null_embedding_backward(struct device *d, float *dtable, const void *dout,
                                    const int32_t *ids, int32_t N, int32_t C)
{
}

static void null_norm_forward(struct device *d, void *y, float *rstd, const void *x, const void *w,
                              int32_t N, int32_t G, int32_t D, int32_t ldy, int32_t ldx, float eps)
{
}

static void null_norm_backward(struct device *d, void *dx, float *dw, const void *dy, const void *x,
                               const void *w, const float *rstd, int32_t N, int32_t G, int32_t D,
                               int32_t lddx, int32_t lddy, int32_t ldx, int accumulate,
                               void *scratch)
{
}

static void null_rope(struct device *d, void *x, const float *table, const int32_t *position,
                      int32_t N, int32_t G, int32_t D, int32_t ldx, int inverse)
{
}

static void null_linear_forward(struct device *d, void *y, const void *x, const void *w,
                                const void *bias, const void *addend, int32_t N, int32_t I,
                                int32_t O, int32_t ldy, int32_t ldx, int32_t ld_addend)
{
}

static void null_linear_backward_input(struct device *d, void *dx, const void *dy, const void *w,
                                       int32_t N, int32_t I, int32_t O, int32_t lddx, int32_t lddy,
                                       int accumulate)
{
}

static void null_linear_backward_weight(struct device *d, float *dw, const void *dy, const void *x,
                                        int32_t N, int32_t I, int32_t O, int32_t lddy, int32_t ldx)
{
}

static void null_linear_backward_bias(struct device *d, float *db, const void *dy, int32_t N,
                                      int32_t O, int32_t lddy)
{
}

static void null_lora_forward(struct device *d, void *y, const struct kern_lora *l, void *scratch)
{
}

static void null_lora_backward(struct device *d, void *dx, float *da, const void *dy,
                               const struct kern_lora *l, int32_t lddx, int accumulate,
                               void *scratch)
{
}

static void null_attention_forward(struct device *d, const struct kern_attention *a, void *scratch)
{
}

static void null_attention_backward(struct device *d, const struct kern_attention *a,
                                    const struct kern_attention_grad *g, void *scratch)
{
}

static void null_swiglu_forward(struct device *d, void *out, const void *gate, const void *up,
                                int32_t N, int32_t F, int32_t ldo, int32_t ldg, int32_t ldu)
{
}

static void null_swiglu_backward(struct device *d, void *dgate, void *dup, const void *dout,
                                 const void *gate, const void *up, int32_t N, int32_t F,
                                 int32_t lddo, int32_t ldg, int32_t ldu, int32_t lddg, int32_t lddu)
{
}

static void null_head_forward(struct device *d, const struct kern_head *h, void *scratch) {}

static void null_head_backward_input(struct device *d, void *dx_out, const float *dlogp,
                                     const struct kern_head *h, int32_t N, int32_t lddx,
                                     int accumulate)
{
}

static void null_head_backward_weight(struct device *d, float *dw, const float *dlogp,
                                      const struct kern_head *h, void *scratch)
{
}

static void null_grad_norm(struct device *d, float out[2], const float *grad, size_t n,
                           float inv_weight, float max_norm, void *scratch)
{
}

static void null_adamw(struct device *d, const struct kern_adamw *a) {}
static void null_adamw_8bit(struct device *d, const struct kern_adamw_8bit *k) {}

/* Scratch sizes: the CPU's, entry by entry. */

static size_t null_norm_scratch(const struct device *d, int32_t N, int32_t G, int32_t D)
{
    return kernels_cpu.norm_scratch(d, N, G, D);
}

static size_t null_lora_scratch(const struct device *d, const struct kern_lora *l)
{
    return kernels_cpu.lora_scratch(d, l);
}

static size_t null_attention_scratch(const struct device *d, const struct kern_attention *a)
{
    return kernels_cpu.attention_scratch(d, a);
}

static size_t null_head_scratch(const struct device *d, const struct kern_head *h)
{
    return kernels_cpu.head_scratch(d, h);
}

static struct kern_head_cut null_head_cut(const struct device *d, const struct kern_head *h)
{
    return kernels_cpu.head_cut(d, h);
}

static size_t null_grad_norm_scratch(const struct device *d, size_t n)
{
    return kernels_cpu.grad_norm_scratch(d, n);
}

const struct kernels kernels_null = {
    .name = "null",
    .open = null_open,
    .close = null_close,
    .describe = null_describe,
    .alloc = null_alloc,
    .release = null_release,
    .upload = null_upload,
    .download = null_download,
    .copy_rows = null_copy_rows,
    .zero = null_zero,
    .sync = null_sync,
    .host_alloc = null_alloc,
    .host_release = null_release,
    .copy_out = null_copy_out,
    .copy_in = null_copy_in,
    .copy_wait = null_copy_wait,
    .upload_floats = null_upload_floats,
    .download_floats = null_download_floats,
    .embedding_forward = null_embedding_forward,
    .embedding_backward = null_embedding_backward,
    .norm_forward = null_norm_forward,
    .norm_backward = null_norm_backward,
    .norm_scratch = null_norm_scratch,
    .rope = null_rope,
    .linear_forward = null_linear_forward,
    .linear_backward_input = null_linear_backward_input,
    .linear_backward_weight = null_linear_backward_weight,
    .linear_backward_bias = null_linear_backward_bias,
    .lora_forward = null_lora_forward,
    .lora_backward = null_lora_backward,
    .lora_scratch = null_lora_scratch,
    .attention_forward = null_attention_forward,
    .attention_backward = null_attention_backward,
    .attention_scratch = null_attention_scratch,
    .swiglu_forward = null_swiglu_forward,
    .swiglu_backward = null_swiglu_backward,
    .head_forward = null_head_forward,
    .head_backward_input = null_head_backward_input,
    .head_backward_weight = null_head_backward_weight,
    .head_scratch = null_head_scratch,
    .head_cut = null_head_cut,
    .grad_norm = null_grad_norm,
    .grad_norm_scratch = null_grad_norm_scratch,
    .adamw = null_adamw,
    .adamw_8bit = null_adamw_8bit,
};

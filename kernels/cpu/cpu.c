/* cpu.c - the CPU's table, and memory: device memory is host memory, calls run at once. */
#include "kernels/cpu/cpu.h"

#include <omp.h>
#include <stdio.h>

#include "base/mem.h"
#include "kernels/cpu/blas.h"

static enum status cpu_open(struct device *d, struct err *e)
{
    if (d->type != DTYPE_F32)
        return err_set(e, ERR_UNSUPPORTED, "the CPU computes in f32, not in %s",
                       dtype_name(d->type));
    TRY(cpu_simd_choose(e));
    TRY(cpu_blas_choose(e));
    static int all; /* before anybody asked for fewer */
    if (!all) all = omp_get_max_threads();
    omp_set_num_threads(d->threads > 0 ? d->threads : all);
    d->threads = omp_get_max_threads();
    return OK;
}

static void cpu_close(struct device *d) { (void)d; }

static void cpu_describe(const struct device *d, char *out, size_t size)
{
    char blas[192];
    cpu_blas_describe(blas, sizeof blas);
    snprintf(out, size, "cpu %s, %s, %d threads", cpu_simd_name(cpu_simd), blas, d->threads);
}

/* mem_pages aligns to a page, so 256 is met. */
static enum status cpu_alloc(struct device *d, size_t bytes, void **out, struct err *e)
{
    (void)d;
    *out = mem_pages(bytes ? bytes : 1);
    if (*out) return OK;
    err_set(e, ERR_MEMORY, "cannot allocate %zu bytes", bytes);
    return err_hint(e, "lower max_length or per_device_train_batch_size; cria plan shows the sum");
}

static void cpu_release(struct device *d, void *p, size_t bytes)
{
    (void)d;
    mem_pages_free(p, bytes ? bytes : 1);
}

static void cpu_copy(struct device *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    if (bytes) memmove(to, from, bytes);
}

/* Gradients are hundreds of megabytes: one thread alone would keep the others waiting. */
static void cpu_zero(struct device *d, void *p, size_t bytes)
{
    const size_t piece = (size_t)1 << 20;
#pragma omp parallel for num_threads(d->threads) schedule(static) if (bytes > piece)
    for (size_t at = 0; at < bytes; at += piece)
        memset((char *)p + at, 0, bytes - at < piece ? bytes - at : piece);
}

static enum status cpu_sync(struct device *d, struct err *e)
{
    (void)d, (void)e;
    return OK;
}

static void cpu_copy_rows(struct device *d, void *to, size_t to_stride, const void *from,
                          size_t from_stride, int32_t rows, size_t row_bytes)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t r = 0; r < rows; r++)
        cpu_copy(d, (char *)to + (size_t)r * to_stride,
                 (const char *)from + (size_t)r * from_stride, row_bytes);
}

static void cpu_upload_floats(struct device *d, void *to, const float *from, size_t n)
{
    cpu_copy(d, to, from, n * sizeof(float));
}

static void cpu_download_floats(struct device *d, float *to, const void *from, size_t n)
{
    cpu_copy(d, to, from, n * sizeof(float));
}

const struct kernels kernels_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .copy_rows = cpu_copy_rows,
    .zero = cpu_zero,
    .sync = cpu_sync,
    .upload_floats = cpu_upload_floats,
    .download_floats = cpu_download_floats,
    .embedding_forward = cpu_embedding_forward,
    .embedding_backward = cpu_embedding_backward,
    .norm_forward = cpu_norm_forward,
    .norm_backward = cpu_norm_backward,
    .norm_scratch = cpu_norm_scratch,
    .rope = cpu_rope,
    .linear_forward = cpu_linear_forward,
    .linear_backward_input = cpu_linear_backward_input,
    .linear_backward_weight = cpu_linear_backward_weight,
    .linear_backward_bias = cpu_linear_backward_bias,
    .lora_forward = cpu_lora_forward,
    .lora_backward = cpu_lora_backward,
    .lora_scratch = cpu_lora_scratch,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .attention_scratch = cpu_attention_scratch,
    .swiglu_forward = cpu_swiglu_forward,
    .swiglu_backward = cpu_swiglu_backward,
    .head_forward = cpu_head_forward,
    .head_backward_input = cpu_head_backward_input,
    .head_backward_weight = cpu_head_backward_weight,
    .head_scratch = cpu_head_scratch,
    .head_cut = cpu_head_cut,
    .grad_norm = cpu_grad_norm,
    .grad_norm_scratch = cpu_grad_norm_scratch,
    .adamw = cpu_adamw,
    .adamw_8bit = cpu_adamw_8bit,
};

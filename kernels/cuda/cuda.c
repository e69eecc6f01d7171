/* cuda.c - the CUDA backend's table; opening, closing, waiting. */
#include "kernels/cuda/cuda.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/cuda/gemm.h"

/* The oldest device that the kernels are compiled for; rows of the tiles of products. */
enum { OLDEST_CAPABILITY = 80, ROW_MULTIPLE = 128 };

void cuda_note(struct device *d, cudaError_t error, const char *what)
{
    struct cuda_state *s = cuda_state(d);
    if (!error || s->failed) return;
    s->failed = error;
    s->failed_in = what;
}

/* Why there is no device to be had, in one line. */
static enum status find_device(struct cuda_state *s, struct err *e)
{
    struct cudaDeviceProp p;
    int count = 0, driver = 0, runtime = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaErrorInsufficientDriver) (void)cudaDriverGetVersion(&driver);
    if (error == cudaErrorInsufficientDriver && driver) { /* 0: there is none at all */
        (void)cudaRuntimeGetVersion(&runtime);
        err_set(e, ERR_DEVICE,
                "the NVIDIA driver is too old: it knows CUDA %d.%d, cria wants %d.%d",
                driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
        return err_hint(e, "update the driver, or use device: cpu");
    }
    if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ||
        (!error && count < 1)) {
        err_set(e, ERR_DEVICE, "this machine has no NVIDIA GPU that CUDA sees");
        return err_hint(e, "use device: cpu");
    }
    if (!error) error = cudaSetDevice(0);
    if (!error) error = cudaGetDeviceProperties(&p, 0);
    if (error) {
        err_set(e, ERR_DEVICE, "the GPU cannot be used: %s", cudaGetErrorString(error));
        return err_hint(e, "see what nvidia-smi says, or use device: cpu");
    }
    s->capability = 10 * p.major + p.minor;
    s->shared_most = p.sharedMemPerBlockOptin;
    (void)cudaDriverGetVersion(&s->driver);
    snprintf(s->name, sizeof s->name, "%s", p.name);
    if (s->capability >= OLDEST_CAPABILITY) return OK;
    err_set(e, ERR_DEVICE, "%s is too old: it has compute capability %d.%d, cria wants %d.%d",
            s->name, p.major, p.minor, OLDEST_CAPABILITY / 10, OLDEST_CAPABILITY % 10);
    return err_hint(e, "use device: cpu");
}

static void cuda_close(struct device *d)
{
    struct cuda_state *s = cuda_state(d);
    struct err ignored = {0};
    if (!s) return;
    if (s->compute) (void)cudaStreamSynchronize(s->compute);
    (void)cuda_trace(d, 0, &ignored);
    cuda_graphs_close(d);
    cuda_cudnn_close(d);
    gemm_close(d);
    cuda_staging_close(&s->staging);
    cuda_copies_close(&s->copies);
    cuda_answers_close(s);
    if (s->workspace) (void)cudaFree(s->workspace);
    if (s->copy) (void)cudaStreamDestroy(s->copy);
    if (s->compute) (void)cudaStreamDestroy(s->compute);
    mem_free(s);
    d->state = NULL;
}

static enum status open_parts(struct device *d, struct err *e)
{
    struct cuda_state *s = cuda_state(d);
    TRY(find_device(s, e));
    cudaError_t error = cudaStreamCreateWithFlags(&s->compute, cudaStreamNonBlocking);
    if (!error) error = cudaStreamCreateWithFlags(&s->copy, cudaStreamNonBlocking);
    if (!error) error = cudaMalloc(&s->workspace, CUDA_WORKSPACE);
    if (error)
        return err_set(e, ERR_DEVICE, "the GPU gives no stream or workspace: %s",
                       cudaGetErrorString(error));
    TRY(cuda_staging_open(&s->staging, e));
    TRY(cuda_copies_open(&s->copies, e));
    return gemm_open(d, e);
}

static enum status cuda_open(struct device *d, struct err *e)
{
    if (d->type != DTYPE_F32 && d->type != DTYPE_BF16)
        return err_set(e, ERR_UNSUPPORTED, "the GPU computes in f32 or bf16, not in %s",
                       dtype_name(d->type));
    d->state = mem_calloc(1, sizeof(struct cuda_state));
    if (!d->state) return err_set(e, ERR_MEMORY, "no memory for the GPU's state");
    d->threads = 1;
    enum status status = open_parts(d, e);
    if (status) cuda_close(d);
    return status;
}

static void cuda_describe(const struct device *d, char *out, size_t size)
{
    const struct cuda_state *s = cuda_state(d);
    const char *attention = cuda_attention_engine(d, 128);
    int blas = gemm_version(d), dnn = cuda_cudnn_version(d);
    char library[32] = "";
    if (d->attention == ATTENTION_CUDNN && dnn)
        snprintf(library, sizeof library, " (cuDNN %d)", dnn);
    snprintf(out, size, "cuda, %s, sm_%d, driver %d.%d, cuBLASLt %d, %s, %s attention%s", s->name,
             s->capability, s->driver / 1000, s->driver % 1000 / 10, blas, dtype_name(d->type),
             attention ? attention : "plain", library);
}

static enum status cuda_sync(struct device *d, struct err *e)
{
    struct cuda_state *s = cuda_state(d);
    cuda_note(d, cudaStreamSynchronize(s->compute), "what was queued");
    if (!s->failed) return OK;
    err_set(e, ERR_DEVICE, "the GPU failed in %s: %s", s->failed_in, cudaGetErrorString(s->failed));
    return err_hint(e, "compute-sanitizer finds the place; device: cpu computes the same");
}

const struct kernels kernels_cuda = {
    .name = "cuda",
    .row_multiple = ROW_MULTIPLE,
    .open = cuda_open,
    .close = cuda_close,
    .describe = cuda_describe,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .upload = cuda_upload,
    .download = cuda_download,
    .copy_rows = cuda_copy_rows,
    .zero = cuda_zero,
    .sync = cuda_sync,
    .upload_floats = cuda_upload_floats,
    .download_floats = cuda_download_floats,
    .memory = cuda_memory,
    .fill_normal = cuda_fill_normal,
    .host_alloc = cuda_host_alloc,
    .host_release = cuda_host_release,
    .copy_out = cuda_copy_out,
    .copy_in = cuda_copy_in,
    .copy_wait = cuda_copy_wait,
    .copy_mark = cuda_copy_mark,
    .copy_until = cuda_copy_until,
    .cast = cuda_cast_from_float,
    .sample = cuda_sample,
    .check = cuda_check,
    .trace = cuda_trace,
    .trace_count = cuda_trace_count,
    .trace_read = cuda_trace_read,
    .answer_begin = cuda_answer_begin,
    .answer_end = cuda_answer_end,
    .graph_begin = cuda_graph_begin,
    .graph_end = cuda_graph_end,
    .graph_counts = cuda_graph_counts,
    .range = cuda_range,
    .embedding_forward = cuda_embedding_forward,
    .embedding_backward = cuda_embedding_backward,
    .norm_forward = cuda_norm_forward,
    .norm_backward = cuda_norm_backward,
    .norm_scratch = cuda_norm_scratch,
    .rope = cuda_rope,
    .linear_forward = cuda_linear_forward,
    .linear_backward_input = cuda_linear_backward_input,
    .linear_backward_weight = cuda_linear_backward_weight,
    .linear_backward_bias = cuda_linear_backward_bias,
    .lora_forward = cuda_lora_forward,
    .lora_backward = cuda_lora_backward,
    .lora_scratch = cuda_lora_scratch,
    .attention_forward = cuda_attention_forward,
    .attention_backward = cuda_attention_backward,
    .attention_scratch = cuda_attention_scratch,
    .attention_engine = cuda_attention_engine,
    .swiglu_forward = cuda_swiglu_forward,
    .swiglu_backward = cuda_swiglu_backward,
    .head_forward = cuda_head_forward,
    .head_backward_input = cuda_head_backward_input,
    .head_backward_weight = cuda_head_backward_weight,
    .head_scratch = cuda_head_scratch,
    .head_cut = cuda_head_cut,
    .grad_norm = cuda_grad_norm,
    .grad_norm_scratch = cuda_grad_norm_scratch,
    .products = gemm_products,
    .product_algorithm = gemm_algorithm,
    .adamw = cuda_adamw,
    .adamw_8bit = cuda_adamw_8bit,
};

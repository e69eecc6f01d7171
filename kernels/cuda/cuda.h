/* cuda.h - what the files of the CUDA backend share on the host's side: state, launches, entries.
 *
 * Kernel files (.cu) are compiled by nvcc, and unchanged by the host's compiler with CUDA_EMU
 * defined, against kernels/emu; files in C talk to the CUDA runtime or to its stand-in. Both give
 * one table of the same name, `kernels_cuda`: a program is linked with one of them or none.
 *
 * Everything runs in one stream, in order; uploads and copies to and from pinned memory go through
 * a second one beside it. Pointers in
 * arguments are device pointers, but for what is read at the call: `parts` of struct kern_lora.
 * Errors are kept (`failed`) and told by sync.
 */
#ifndef CRIA_KERNELS_CUDA_CUDA_H
#define CRIA_KERNELS_CUDA_CUDA_H

#ifdef CUDA_EMU
#include "kernels/emu/runtime.h"
#else
#include <cuda_runtime_api.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#include "kernels/kernels.h"

/* Uploads are written into a pinned half, copied to the device half of the same place by the copy
 * stream, and from there to where they belong by the compute stream, in order. A half is used
 * again when all that came through it has arrived. */
#ifdef CUDA_EMU /* small, so that all of it is used, and filled quickly */
enum { CUDA_HALVES = 2, CUDA_HALF_BYTES = 64 << 10, CUDA_WORKSPACE = 1 << 20 };
#else
enum { CUDA_HALVES = 2, CUDA_HALF_BYTES = 4 << 20, CUDA_WORKSPACE = 32 << 20 };
#endif

struct cuda_staging {
    char *pinned[CUDA_HALVES], *device[CUDA_HALVES];
    cudaEvent_t copied[CUDA_HALVES];  /* the copy stream has filled the device half */
    cudaEvent_t arrived[CUDA_HALVES]; /* the compute stream has emptied it */
    int half;
    size_t used;
};

struct cuda_copies {
    cudaEvent_t ready;                  /* compute has come so far that the last copy may begin */
    cudaEvent_t copied;                 /* all copies begun so far are over */
    cudaEvent_t marks[KERN_COPY_MARKS]; /* those before copy_mark are */
};

/* What is on its way to the host, in pinned memory of its own. */
struct cuda_answer {
    char *pinned;
    size_t size;
    cudaEvent_t ready;
};

struct cuda_trace;  /* trace.c */
struct cuda_graphs; /* graph.c */

struct cuda_state {
    cudaStream_t compute, copy;
    struct cuda_trace *trace;   /* NULL: nobody wants to know */
    struct cuda_graphs *graphs; /* NULL: none yet */
    void *workspace; /* CUDA_WORKSPACE bytes, the compute stream's: for split products, and for sums
                        in two stages by entries that are given no scratch */
    struct gemm_engine *gemm;
    struct cudnn_engine *cudnn; /* NULL: not asked for yet */
    struct cuda_staging staging;
    struct cuda_copies copies;
    struct cuda_answer answers[KERN_ANSWERS];
    cudaError_t failed;    /* the first error of anything queued */
    const char *failed_in; /* and what it was queued for */
    char name[256];        /* of the device */
    int capability;        /* 90: sm_90 */
    size_t shared_most;    /* bytes of shared memory a block may have */
    int driver;            /* 13000: CUDA 13.0 */
};

static inline struct cuda_state *cuda_state(const struct device *d)
{
    return (struct cuda_state *)d->state;
}

/* Notes the first error. */
void cuda_note(struct device *d, cudaError_t error, const char *what);

/* --- memory.c --- */
enum status cuda_staging_open(struct cuda_staging *s, struct err *e); /* ERR_DEVICE, ERR_MEMORY */
void cuda_staging_close(struct cuda_staging *s);
enum status cuda_alloc(struct device *d, size_t bytes, void **out, struct err *e);
void cuda_release(struct device *d, void *p, size_t bytes);
void cuda_upload(struct device *d, void *to, const void *from, size_t bytes);
void cuda_download(struct device *d, void *to, const void *from, size_t bytes);
void cuda_answer_begin(struct device *d, int slot, const void *from, size_t bytes);
void cuda_answer_end(struct device *d, int slot, void *to, size_t bytes);
void cuda_answers_close(struct cuda_state *s);
void cuda_upload_floats(struct device *d, void *to, const float *from, size_t n);
void cuda_download_floats(struct device *d, float *to, const void *from, size_t n);
void cuda_copy_rows(struct device *d, void *to, size_t to_stride, const void *from,
                    size_t from_stride, int32_t rows, size_t row_bytes);
void cuda_zero(struct device *d, void *p, size_t bytes);

/* --- copies.c --- */
enum status cuda_copies_open(struct cuda_copies *c, struct err *e); /* ERR_DEVICE */
void cuda_copies_close(struct cuda_copies *c);
enum status cuda_host_alloc(struct device *d, size_t bytes, void **out, struct err *e);
void cuda_host_release(struct device *d, void *p, size_t bytes);
void cuda_copy_out(struct device *d, void *to, const void *from, size_t bytes);
void cuda_copy_in(struct device *d, void *to, const void *from, size_t bytes);
void cuda_copy_wait(struct device *d);
void cuda_copy_mark(struct device *d, int mark);
void cuda_copy_until(struct device *d, int mark);

/* --- trace.c: where the device's time goes; contracts of the first four in kernels.h --- */
enum status cuda_trace(struct device *d, int on, struct err *e);
size_t cuda_trace_count(const struct device *d);
enum status cuda_trace_read(struct device *d, struct kern_span *out, struct err *e);
void cuda_range(struct device *d, const char *name);
/* Around each piece of work put into `stream`. Not nested. Next to nothing without a trace. */
void cuda_trace_begin(struct device *d, cudaStream_t stream, const char *name);
/* The same for a kernel, by the source text of its launch from the kernel on. */
void cuda_trace_launch(struct device *d, const char *text);
void cuda_trace_end(struct device *d);

/* --- graph.c; contracts in kernels.h --- */
enum kern_graph cuda_graph_begin(struct device *d, const void *key, size_t size);
enum status cuda_graph_end(struct device *d, struct err *e);
void cuda_graph_counts(const struct device *d, struct kern_graphs *out);
void cuda_graphs_close(struct device *d);

/* --- cast.cu: `n` elements between fp32 and the device's type --- */
void cuda_cast_from_float(struct device *d, void *to, const float *from, size_t n);
void cuda_cast_to_float(struct device *d, float *to, const void *from, size_t n);

/* --- the entries; contracts in kernels.h --- */
void cuda_memory(const struct device *d, size_t *free_bytes, size_t *total);
void cuda_fill_normal(struct device *d, void *out, int floats, size_t n, struct rng_key key,
                      uint64_t first, float std);
void cuda_sample(struct device *d, int32_t *id, const void *logits, int32_t V,
                 const struct kern_sample *s);
enum status cuda_check(struct device *d, int32_t first, struct kern_check *out, int32_t room,
                       int32_t *count, struct err *e);
void cuda_embedding_forward(struct device *d, void *out, const void *table, const int32_t *ids,
                            int32_t N, int32_t C);
void cuda_embedding_backward(struct device *d, float *dtable, const void *dout, const int32_t *ids,
                             int32_t N, int32_t C);
void cuda_norm_forward(struct device *d, void *y, float *rstd, const void *x, const void *w,
                       int32_t N, int32_t G, int32_t D, int32_t ldy, int32_t ldx, float eps);
void cuda_norm_backward(struct device *d, void *dx, float *dw, const void *dy, const void *x,
                        const void *w, const float *rstd, int32_t N, int32_t G, int32_t D,
                        int32_t lddx, int32_t lddy, int32_t ldx, int accumulate, void *scratch);
size_t cuda_norm_scratch(const struct device *d, int32_t N, int32_t G, int32_t D);
void cuda_rope(struct device *d, void *x, const float *table, const int32_t *position, int32_t N,
               int32_t G, int32_t D, int32_t ldx, int inverse);
void cuda_linear_forward(struct device *d, void *y, const void *x, const void *w, const void *bias,
                         const void *addend, int32_t N, int32_t I, int32_t O, int32_t ldy,
                         int32_t ldx, int32_t ld_addend);
void cuda_linear_backward_input(struct device *d, void *dx, const void *dy, const void *w,
                                int32_t N, int32_t I, int32_t O, int32_t lddx, int32_t lddy,
                                int accumulate);
void cuda_linear_backward_weight(struct device *d, float *dw, const void *dy, const void *x,
                                 int32_t N, int32_t I, int32_t O, int32_t lddy, int32_t ldx);
void cuda_linear_backward_bias(struct device *d, float *db, const void *dy, int32_t N, int32_t O,
                               int32_t lddy);
void cuda_lora_forward(struct device *d, void *y, const struct kern_lora *l, void *scratch);
void cuda_lora_backward(struct device *d, void *dx, float *da, const void *dy,
                        const struct kern_lora *l, int32_t lddx, int accumulate, void *scratch);
size_t cuda_lora_scratch(const struct device *d, const struct kern_lora *l);
void cuda_attention_forward(struct device *d, const struct kern_attention *a, void *scratch);
void cuda_attention_backward(struct device *d, const struct kern_attention *a,
                             const struct kern_attention_grad *g, void *scratch);
const char *cuda_attention_engine(const struct device *d, int32_t D);
size_t cuda_attention_scratch(const struct device *d, const struct kern_attention *a);
/* The engines behind attention.c, with the entries' contracts. Flash takes what it fits. */
int cuda_flash_attention_fits(const struct device *d, const struct kern_attention *a);
int cuda_hopper_attention_fits(const struct device *d, const struct kern_attention *a);
void cuda_plain_attention_forward(struct device *d, const struct kern_attention *a, void *scratch);
void cuda_plain_attention_backward(struct device *d, const struct kern_attention *a,
                                   const struct kern_attention_grad *g, void *scratch);
size_t cuda_plain_attention_scratch(const struct device *d, const struct kern_attention *a);
void cuda_flash_attention_forward(struct device *d, const struct kern_attention *a, void *scratch);
void cuda_flash_attention_backward(struct device *d, const struct kern_attention *a,
                                   const struct kern_attention_grad *g, void *scratch);
size_t cuda_flash_attention_scratch(const struct device *d, const struct kern_attention *a);
int cuda_decode_attention_fits(const struct device *d, const struct kern_attention *a);
void cuda_decode_attention_forward(struct device *d, const struct kern_attention *a, void *scratch);
size_t cuda_decode_attention_scratch(const struct device *d, const struct kern_attention *a);
void cuda_hopper_attention_forward(struct device *d, const struct kern_attention *a, void *scratch);
size_t cuda_hopper_attention_scratch(const struct device *d, const struct kern_attention *a);
size_t cuda_hopper_attention_backward_scratch(const struct kern_attention *a);
void cuda_hopper_attention_backward(struct device *d, const struct kern_attention *a,
                                    const struct kern_attention_grad *g, void *scratch);
int cuda_cudnn_attention_fits(const struct device *d, const struct kern_attention *a);
void cuda_cudnn_attention_forward(struct device *d, const struct kern_attention *a, void *scratch);
void cuda_cudnn_attention_backward(struct device *d, const struct kern_attention *a,
                                   const struct kern_attention_grad *g, void *scratch);
size_t cuda_cudnn_attention_scratch(const struct device *d, const struct kern_attention *a);
void cuda_cudnn_close(struct device *d);
int cuda_cudnn_version(const struct device *d); /* as it counts; 0: not in use */
void cuda_swiglu_forward(struct device *d, void *out, const void *gate, const void *up, int32_t N,
                         int32_t F, int32_t ldo, int32_t ldg, int32_t ldu);
void cuda_swiglu_backward(struct device *d, void *dgate, void *dup, const void *dout,
                          const void *gate, const void *up, int32_t N, int32_t F, int32_t lddo,
                          int32_t ldg, int32_t ldu, int32_t lddg, int32_t lddu);
void cuda_head_forward(struct device *d, const struct kern_head *h, void *scratch);
void cuda_head_backward_input(struct device *d, void *dx_out, const float *dlogp,
                              const struct kern_head *h, int32_t N, int32_t lddx, int accumulate);
void cuda_head_backward_weight(struct device *d, float *dw, const float *dlogp,
                               const struct kern_head *h, void *scratch);
size_t cuda_head_scratch(const struct device *d, const struct kern_head *h);
struct kern_head_cut cuda_head_cut(const struct device *d, const struct kern_head *h);
void cuda_grad_norm(struct device *d, float out[2], const float *grad, size_t n, float inv_weight,
                    float max_norm, void *scratch);
size_t cuda_grad_norm_scratch(const struct device *d, size_t n);
void cuda_adamw(struct device *d, const struct kern_adamw *a);
void cuda_adamw_8bit(struct device *d, const struct kern_adamw_8bit *k);

#ifdef __cplusplus
}
#endif

#endif

/* kernels.h - THE contract between the trainer and a machine.
 *
 * A backend is one const table of functions (`struct kernels`) over raw pointers
 * and shapes; it knows no tape and no model. A `struct device` is an open backend.
 * Calls are queued in order and may run later; `sync` waits and returns the first
 * failure of anything queued. Nothing here allocates but `open` and `alloc`.
 *
 * Letters, everywhere the same: N rows (tokens) of the micro-batch, C hidden,
 * I in and O out features, H query heads, KV key heads, D head size, F ffn,
 * V vocabulary, R rank, S supervised rows.
 *
 * Types. Activations, their gradients and base weights are of the device's
 * `type` (CPU: fp32; void * here). What is `float *` is fp32 on every device:
 * statistics, log-probabilities, parameter gradients, adapters, optimiser states.
 *
 * Layout. Matrices are row-major. `ld*` is a row stride in elements: a
 * matrix may be a block of columns of a wider one. Weights are [O, I], as in the
 * Hugging Face files.
 *
 * Each entry says whether it overwrites or accumulates. Outputs come first.
 * Outputs never overlap inputs unless the entry says "in place".
 *
 * Determinism. Every entry gives the same bits for the same call, whatever the
 * thread count: sums go in an order fixed by the shapes alone.
 *
 * Scratch. An entry with a `scratch` argument needs as many bytes as its *_scratch
 * companion says for the same shapes, aligned to 64, content undefined.
 */
#ifndef CRIA_KERNELS_KERNELS_H
#define CRIA_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "base/segment.h"
#include "base/status.h"

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16 };

size_t dtype_size(enum dtype t); /* bytes an element */
const char *dtype_name(enum dtype t);

/* Which kernels compute attention, where a device has several: its choice; those without
 * instructions of one kind of GPU; flash attention on tensor cores; the same by the instructions of
 * sm_90a; cuDNN's (the last three are experimental: not run on a device yet). */
enum attention_engine {
    ATTENTION_AUTO,
    ATTENTION_PLAIN,
    ATTENTION_FLASH,
    ATTENTION_HOPPER,
    ATTENTION_CUDNN
};

struct kernels;

struct device {
    const struct kernels *k;
    enum dtype type;                 /* of activations and base weights */
    enum attention_engine attention; /* a wish; set it before scratch is asked for */
    size_t graphs; /* bytes of its memory that graph_begin may keep work in; a wish, at first 0 */
    int threads;   /* CPU: OpenMP threads in use */
    void *state;   /* the backend's own; NULL on the CPU */
};

/* y[:, first : first+out] += scale * h[:, rank_first : rank_first+rank] B^T */
struct kern_lora_part {
    int32_t first, out;       /* columns of y this projection owns */
    int32_t rank_first, rank; /* its rows of the stacked A, columns of h */
    float scale;
    const float *b;  /* [out, rank] */
    float *db;       /* [out, rank]; backward accumulates */
    uint32_t module; /* part of the dropout key */
};

/* Which elements of x a module drops: element (row, column) of `module` goes when the word of
 * counter (document, position, column/4, module), word column%4, is below p * 2^32. Kept ones are
 * multiplied by 1/(1-p). p = 0: nothing is dropped and the rest is not looked at. */
struct kern_dropout {
    float p;
    const struct rng_key *key; /* of (seed, step); [1], of the device */
    const int32_t *document;   /* [N], the document's number in the dataset */
    const int32_t *position;   /* [N] */
};

/* LoRA over projections that share an input x [N, I]: A of all parts stacked [R, I]. */
struct kern_lora {
    int32_t N, I, R;
    int32_t ldx, ldy;
    const void *x;  /* [N, I] */
    const float *a; /* [R, I] */
    float *h; /* [N, R], h = drop(x) A^T; forward writes (the parts' columns), backward reads */
    const struct kern_lora_part *parts;
    int32_t num_parts;
    struct kern_dropout dropout;
};

/* Variable-length causal attention over segments (base/segment.h); GQA: query head h uses key
 * head h*KV/H. o = softmax(q k^T * scale + mask) v in fp32, cast to the device's type.
 * Rows of no segment are left alone in every output. In backward a prefix lies in rows of other
 * segments of its document, to whose dk and dv it adds. */
struct kern_attention {
    int32_t N; /* query rows */
    int32_t H, KV, D;
    int32_t window; /* keys a row sees, itself included; 0 = all */
    float scale;
    const struct segment *segments;
    int32_t num_segments;
    int32_t first_row;     /* row number of q's, o's and lse's first row: 0 but in decoding, where
                              k and v are a cache and the segment's rows count within it */
    const void *q, *k, *v; /* [N, H*D], [rows, KV*D], [rows, KV*D] */
    int32_t ldq, ldk, ldv, ldo;
    void *o;         /* [N, H*D] forward writes; backward reads */
    float *lse;      /* [N, H] log-sum-exp of the scaled scores; forward writes (NULL: not
                        wanted), backward reads */
    int32_t longest; /* rows of the longest segment, where the host knows it and no segment has a
                        prefix; else 0, and some engines are not to be had */
};

struct kern_attention_grad {
    const void *d_o;    /* [N, H*D], row stride ldo of the forward */
    void *dq, *dk, *dv; /* overwritten; row strides below */
    int32_t lddq, lddk, lddv;
};

/* The head by its contract: supervised rows only, logits never whole.
 * For s < S with x_s = x[row[s]] and z = W x_s:  lse = log sum exp z, logp = z[target] - lse. */
struct kern_head {
    int32_t S, C, V, ldx;
    const void *x;         /* [*, C] */
    const void *w;         /* [V, C] */
    const int32_t *row;    /* [S], ascending; several may be the same where their dlogp is 0 */
    const int32_t *target; /* [S] */
    float *logp, *lse;     /* [S] */
    float *mean_logit;     /* [S] mean over V of z */
    uint8_t *hit;          /* [S] 1 when the target is the argmax (first of equals) */
    float *entropy;        /* [S] or NULL: not wanted */
    float *sum_p2;         /* [S] log sum p^2, or NULL */
    void *dx;           /* [S, C] d logp / d x_s = w[target] - sum_v p_v w_v, unscaled; or NULL */
    const float *dlogp; /* [S] loss gradient by logp if known beforehand, with dw; else NULL */
    float *dw;          /* [V, C] += sum_s dlogp[s] d logp_s / d W; NULL: not wanted */
    const int32_t *dw_row; /* [num_dw_rows] ascending: dw has only these rows of W, in this order */
    int32_t num_dw_rows;   /* 0: dw has all of them */
    int late_dw;           /* head_backward_weight will follow, in the same scratch */
};

/* How many supervised rows and words of the vocabulary a backend's head takes at once. */
struct kern_head_cut {
    int32_t rows, words;
};

/* One AdamW update of a flat range (SEMANTICS H), with g = *scale * grad:
 *   m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  p *= 1 - lr wd;
 *   p -= (lr / bc1) m / (sqrt(v) / sqrt(bc2) + eps),  bc_i = 1 - b_i^t */
struct kern_adamw {
    size_t n;
    float *param, *m, *v; /* [n] in place */
    const float *grad;    /* [n] */
    const float *scale;   /* device scalar; not finite: nothing is changed */
    float lr, beta1, beta2, eps, weight_decay;
    float bias1, bias2; /* bc_1, bc_2 */
    void *data;         /* [n] of a bf16 device: the new parameters, rounded; NULL: not wanted */
    /* param NULL: data is all there is; it is updated in fp32 and rounded stochastically, element
     * i by word (first + i) % 4 of counter ((first + i) / 4, 0, 0, 0). */
    struct rng_key rounding;
    uint64_t first;
};

/* How a token is drawn from logits; kernels/sampling.h has the arithmetic. */
struct kern_sample {
    float scale; /* log2(e) / temperature; 0: the largest logit, of equal ones the first */
    double top_p;
    int32_t top_k; /* 0: all */
    uint32_t word; /* at random */
};

/* The same with states of 8 bits, blockwise (codes.h): decoded, updated in fp32, used as they then
 * are for the parameter, and coded again. All zero: both states are 0. */
struct kern_adamw_8bit {
    struct kern_adamw a;  /* its m and v are not looked at */
    uint8_t *m, *v;       /* [n] codes, signed and unsigned, in place */
    float *m_max, *v_max; /* [ceil(n / CODES_BLOCK)] largest magnitudes, in place */
};

/* What `check` found of one instruction. */
struct kern_check {
    const char *name;
    int32_t values, wrong; /* compared; of these not as they must be */
    double worst, bound;   /* in units of the last place of the sum of the terms' magnitudes, where
                              sums may be rounded; bound 0: bit for bit */
};

/* A piece of a device's work, a kernel, product or copy, by the device's own clock. */
struct kern_span {
    char name[48];
    int copy;              /* in the stream of uploads, beside the other one */
    double began, seconds; /* began: as clock_seconds counts, as nearly as the clocks can be set */
};

enum { KERN_ANSWERS = 4, KERN_COPY_MARKS = 32 };

/* What is to be done about work that may have been queued before. */
enum kern_graph {
    KERN_GRAPH_NONE,     /* queue it; graph_end is not due */
    KERN_GRAPH_RECORDS,  /* queue it, then graph_end */
    KERN_GRAPH_REPLAYED, /* nothing: it is queued */
};

enum { KERN_GRAPH_KEY = 64 }; /* bytes at most */

/* How often each happened, and what there is now. */
struct kern_graphs {
    int64_t plain, recorded, replayed;
    int32_t held;
    size_t bytes;
};

/* A kind of dense product and the algorithm that a library's rule gives it, a line of text each. */
struct kern_product {
    char shape[160], algorithm[160];
};

struct kernels {
    const char *name;
    int32_t row_multiple; /* what N had best be a multiple of; 0: of nothing */

    /* --- device and memory --- */
    /* d->threads holds the wish, 0 = all; d->type too: ERR_DEVICE, ERR_MEMORY, ERR_UNSUPPORTED. */
    enum status (*open)(struct device *d, struct err *e);
    void (*close)(struct device *d);
    /* What decides the bits of results beside the inputs: libraries, versions, core type, threads.
     */
    void (*describe)(const struct device *d, char *out, size_t size);
    /* `bytes` of device memory, 256-aligned, zeroed: ERR_MEMORY. */
    enum status (*alloc)(struct device *d, size_t bytes, void **out, struct err *e);
    void (*release)(struct device *d, void *p, size_t bytes);
    void (*upload)(struct device *d, void *to, const void *host_from, size_t bytes);
    void (*download)(struct device *d, void *host_to, const void *from, size_t bytes); /* waits */
    /* `rows` rows of row_bytes; strides in bytes */
    void (*copy_rows)(struct device *d, void *to, size_t to_stride, const void *from,
                      size_t from_stride, int32_t rows, size_t row_bytes);
    void (*zero)(struct device *d, void *p, size_t bytes);
    enum status (*sync)(struct device *d, struct err *e); /* ERR_DEVICE */
    /* upload and download of n elements of the device's type, fp32 on the host's side */
    void (*upload_floats)(struct device *d, void *to, const float *host_from, size_t n);
    void (*download_floats)(struct device *d, float *host_to, const void *from, size_t n);

    /* --- what only a device with memory and instructions of its own has (optional, NULL) --- */
    /* Bytes free and in all, of the device, whoever uses the rest. */
    void (*memory)(const struct device *d, size_t *free_bytes, size_t *total);
    /* n numbers of N(0, std), fp32 or of the device's type: those rng_fill_normal gives from
     * element `first` (a multiple of 4) on, but for a rounding or two. */
    void (*fill_normal)(struct device *d, void *out, int floats, size_t n, struct rng_key key,
                        uint64_t first, float std);
    /* Memory of the host that copies run to and from beside the device's work (pinned); content
     * undefined. ERR_MEMORY. Releasing waits for copies. */
    enum status (*host_alloc)(struct device *d, size_t bytes, void **out, struct err *e);
    void (*host_release)(struct device *d, void *p, size_t bytes);
    /* Copies to and from it, beside what is queued: each begins when all that was queued before it
     * has run, and ends before what is queued behind the next copy_wait begins. Copies run in
     * order. Until then neither side may be written to, and what is copied to may not be read. */
    void (*copy_out)(struct device *d, void *host_to, const void *from, size_t bytes);
    void (*copy_in)(struct device *d, void *to, const void *host_from, size_t bytes);
    void (*copy_wait)(struct device *d);
    /* Marks the copies begun so far, by a number below KERN_COPY_MARKS (optional); copy_until waits
     * on the host until those marked last by it are over. */
    void (*copy_mark)(struct device *d, int mark);
    void (*copy_until)(struct device *d, int mark);
    /* to [n] of the device's type = from [n] of fp32, both on the device (optional, goes with
     * copy_mark). */
    void (*cast)(struct device *d, void *to, const float *from, size_t n);
    /* *id (of the device) = the token drawn from logits [V] of the device's type, as
     * kernels/sampling.h has it; -1: one of them is not a number. */
    void (*sample)(struct device *d, int32_t *id, const void *logits, int32_t V,
                   const struct kern_sample *s);
    /* Runs every instruction that kernels use beyond CUDA's language and compares what it does with
     * what it must do: some milliseconds. Fills *count of `room`, from the `first` on: what a
     * device cannot bear takes all behind it along, and can be told apart only by processes that
     * ask for one each. Allocates. ERR_DEVICE, ERR_MEMORY.
     */
    enum status (*check)(struct device *d, int32_t first, struct kern_check *out, int32_t room,
                         int32_t *count, struct err *e);

    /* --- what only a device has that computes behind the host's back (optional, all or none) ---
     */
    /* From now on (or no more) a span is kept of each piece of work that is queued. Waits.
     * ERR_DEVICE, ERR_MEMORY. */
    enum status (*trace)(struct device *d, int on, struct err *e);
    /* Spans kept since trace or trace_read. */
    size_t (*trace_count)(const struct device *d);
    /* Waits, hands out all of them in the order of queueing, and forgets them. ERR_DEVICE,
     * ERR_MEMORY (some could not be kept). */
    enum status (*trace_read)(struct device *d, struct kern_span *out, struct err *e);
    /* `download` in two, so that what is queued behind it is not waited for: the first queues the
     * copy, the second waits for no more than that and has the bytes. KERN_ANSWERS of them may be
     * under way, by `slot`. Allocates where there are more bytes than ever before in that slot. */
    void (*answer_begin)(struct device *d, int slot, const void *from, size_t bytes);
    void (*answer_end)(struct device *d, int slot, void *host_to, size_t bytes);
    /* Around work that is queued again and again, known by a key (bytes, none of them padding).
     * What is queued in between may depend on nothing but the key and what then lies in the
     * device's memory: addresses and arguments by value are those of the recording. While one is
     * recorded nothing may be waited for, read back, uploaded or allocated, and copies must have
     * been waited for at the end. d->graphs 0, or a trace: always KERN_GRAPH_NONE. */
    enum kern_graph (*graph_begin)(struct device *d, const void *key, size_t size);
    /* ERR_DEVICE: nothing that was queued since graph_begin has run or will, and no key will be
     * recorded or replayed from now on. */
    enum status (*graph_end)(struct device *d, struct err *e);
    void (*graph_counts)(const struct device *d, struct kern_graphs *out);
    /* Begins a range of this name of the host's doings for the vendor's tools; NULL: ends the
     * innermost. */
    void (*range)(struct device *d, const char *name);
    /* The kinds of products there have been (the last thousand or so): up to `room` of them to
     * out, in no order; returns how many there are. Any thread may ask. */
    int32_t (*products)(const struct device *d, struct kern_product *out, int32_t room);
    /* Fills p->algorithm with what p->shape would get now. ERR_FORMAT: no such shape. ERR_DEVICE.
     */
    enum status (*product_algorithm)(struct device *d, struct kern_product *p, struct err *e);

    /* --- embedding: out[n] = table[ids[n]]; dtable[ids[n]] += dout[n], rows in order; backward
     * passes over negative ids --- */
    void (*embedding_forward)(struct device *d, void *out, const void *table, const int32_t *ids,
                              int32_t N, int32_t C);
    void (*embedding_backward)(struct device *d, float *dtable, const void *dout,
                               const int32_t *ids, int32_t N, int32_t C);

    /* --- RMSNorm over groups: row n, group g is D values at x + n*ldx + g*D; w [D] for all groups.
     * rstd[n*G+g] = 1/sqrt(mean x^2 + eps), fp32; y = cast(x * rstd) * w (SEMANTICS D).
     * backward: dx = or += (accumulate); dw [D] += (each NULL: not wanted). --- */
    void (*norm_forward)(struct device *d, void *y, float *rstd, const void *x, const void *w,
                         int32_t N, int32_t G, int32_t D, int32_t ldy, int32_t ldx, float eps);
    void (*norm_backward)(struct device *d, void *dx, float *dw, const void *dy, const void *x,
                          const void *w, const float *rstd, int32_t N, int32_t G, int32_t D,
                          int32_t lddx, int32_t lddy, int32_t ldx, int accumulate, void *scratch);
    size_t (*norm_scratch)(const struct device *d, int32_t N, int32_t G, int32_t D);

    /* --- rotary embedding, in place on G heads of D: halves (x1, x2) at angle position*f_j become
     * (x1 cos - x2 sin, x2 cos + x1 sin); inverse = 1 turns back (the gradient).
     * table [positions, D]: row p holds cos(p f_j), j < D/2, then sin(p f_j). --- */
    void (*rope)(struct device *d, void *x, const float *table, const int32_t *position, int32_t N,
                 int32_t G, int32_t D, int32_t ldx, int inverse);

    /* --- linear: y = x w^T + bias + addend, each optional (NULL); y may be addend (in place) ---
     */
    void (*linear_forward)(struct device *d, void *y, const void *x, const void *w,
                           const void *bias, const void *addend, int32_t N, int32_t I, int32_t O,
                           int32_t ldy, int32_t ldx, int32_t ld_addend);
    /* dx = or += dy w */
    void (*linear_backward_input)(struct device *d, void *dx, const void *dy, const void *w,
                                  int32_t N, int32_t I, int32_t O, int32_t lddx, int32_t lddy,
                                  int accumulate);
    /* dw [O, I] += dy^T x */
    void (*linear_backward_weight)(struct device *d, float *dw, const void *dy, const void *x,
                                   int32_t N, int32_t I, int32_t O, int32_t lddy, int32_t ldx);
    /* db [O] += column sums of dy */
    void (*linear_backward_bias)(struct device *d, float *db, const void *dy, int32_t N, int32_t O,
                                 int32_t lddy);

    /* --- LoRA: forward writes h and adds to y; backward reads h, adds to da [R, I] and each db,
     * and dx = or += (NULL: not wanted) --- */
    void (*lora_forward)(struct device *d, void *y, const struct kern_lora *l, void *scratch);
    void (*lora_backward)(struct device *d, void *dx, float *da, const void *dy,
                          const struct kern_lora *l, int32_t lddx, int accumulate, void *scratch);
    size_t (*lora_scratch)(const struct device *d, const struct kern_lora *l);

    /* --- attention --- */
    void (*attention_forward)(struct device *d, const struct kern_attention *a, void *scratch);
    void (*attention_backward)(struct device *d, const struct kern_attention *a,
                               const struct kern_attention_grad *g, void *scratch);
    /* first_row > 0: for fewer rows too, wherever they lie. */
    size_t (*attention_scratch)(const struct device *d, const struct kern_attention *a);
    /* Which engine heads of D get, as d->attention stands (ATTENTION_AUTO: long segments); NULL:
     * the wish is not to be had. A call whose rows are not 16-aligned goes the plain way in any
     * case. (Optional: one engine.) */
    const char *(*attention_engine)(const struct device *d, int32_t D);

    /* --- SwiGLU: out = silu(gate) * up; the gradients are overwritten --- */
    void (*swiglu_forward)(struct device *d, void *out, const void *gate, const void *up, int32_t N,
                           int32_t F, int32_t ldo, int32_t ldg, int32_t ldu);
    void (*swiglu_backward)(struct device *d, void *dgate, void *dup, const void *dout,
                            const void *gate, const void *up, int32_t N, int32_t F, int32_t lddo,
                            int32_t ldg, int32_t ldu, int32_t lddg, int32_t lddu);

    /* --- head --- */
    void (*head_forward)(struct device *d, const struct kern_head *h, void *scratch);
    /* dx_out[row[s]] = or += dlogp[s] * h->dx[s]; overwriting clears the other rows of N */
    void (*head_backward_input)(struct device *d, void *dx_out, const float *dlogp,
                                const struct kern_head *h, int32_t N, int32_t lddx, int accumulate);
    /* dw += sum_s dlogp[s] d logp_s / d W, by recomputing the chunks: when dlogp was not known */
    void (*head_backward_weight)(struct device *d, float *dw, const float *dlogp,
                                 const struct kern_head *h, void *scratch);
    size_t (*head_scratch)(const struct device *d, const struct kern_head *h);
    struct kern_head_cut (*head_cut)(const struct device *d, const struct kern_head *h);

    /* --- optimiser --- */
    /* out[0] = ||grad|| * inv_weight; out[1] = inv_weight * min(1, max_norm / (out[0] + 1e-6)),
     * max_norm = 0: no clipping; a norm that is not finite makes out[1] NaN, so that adamw changes
     * nothing. Both device scalars. */
    void (*grad_norm)(struct device *d, float out[2], const float *grad, size_t n, float inv_weight,
                      float max_norm, void *scratch);
    size_t (*grad_norm_scratch)(const struct device *d, size_t n);
    void (*adamw)(struct device *d, const struct kern_adamw *a);
    void (*adamw_8bit)(struct device *d, const struct kern_adamw_8bit *k);
};

extern const struct kernels kernels_cpu;  /* fp32, oneDNN or a CBLAS, OpenMP */
extern const struct kernels kernels_null; /* computes nothing: shapes, plans and tests of graphs */
/* NVIDIA GPUs, bf16 or fp32. In a program that is linked with kernels/cuda, or with its emulation.
 */
extern const struct kernels kernels_cuda __attribute__((weak));

/* Opens the backend of this name ("cpu", "null", "cuda") with so many CPU threads (0: all cores
 * this process may use). "cuda" computes in bf16. ERR_CONFIG for an unknown one, ERR_DEVICE where
 * this program has no such backend, and what `open` returns. */
MUST_CHECK enum status device_open(struct device *d, const char *name, int threads, struct err *e);
/* The same in `type`. ERR_UNSUPPORTED: not on this device. */
MUST_CHECK enum status device_open_type(struct device *d, const char *name, enum dtype type,
                                        int threads, struct err *e);

/* Opens "cuda" (in bf16, or in fp32) where that can be, else "cpu"; then, if this program has the
 * backend, *why says in one line what is missing (why->code is set), for whoever wants to be told.
 * Errors of opening the CPU. */
MUST_CHECK enum status device_open_best(struct device *d, int fp32, int threads, struct err *why,
                                        struct err *e);
void device_close(struct device *d); /* a zeroed one is fine */

/* Sets the wish for attention over heads of D: ERR_UNSUPPORTED where the device has no such
 * engine in its type. */
MUST_CHECK enum status device_set_attention(struct device *d, enum attention_engine wish, int32_t D,
                                            struct err *e);

/* Sustained fp32 (or device-type) GEMM rate in FLOP/s, measured now on one square product for
 * about `seconds`, larger where that takes too little time: the speed of light that progress lines
 * compare with. */
double device_gemm_peak(struct device *d, double seconds);

/* Sustained bytes a second, read and written, between this device and its memory: the better of a
 * copy and an AdamW pass over blocks of 64 MB, or of 512 where that takes no time, measured now for
 * about `seconds`. (On a CPU a copy first reads what it will overwrite, which an update in place
 * need not.) 0: not on this device, or no memory. */
double device_copy_peak(struct device *d, double seconds);

/* Runs one product of each kind (forward, by the input, `weight`: by the weight) with N rows, I in
 * and O out features, cut to the sizes from which on no BLAS wants more workspace, on memory of its
 * own: afterwards the process holds what such products will ever need. ERR_MEMORY, ERR_DEVICE. */
MUST_CHECK enum status device_touch_products(struct device *d, int32_t N, int32_t I, int32_t O,
                                             int weight, struct err *e);

#endif

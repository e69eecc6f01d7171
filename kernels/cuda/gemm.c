#include "kernels/cuda/gemm.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/cuda/cublaslt.h"

/* What decides the algorithm. All fields are compared as bytes, so padding is cleared. */
struct shape {
    int32_t M, N, K, lda, ldb, ldc, ldc0;
    int32_t type, out, turn_a, turn_b, bias, add;
    int32_t align[4]; /* of a, b, c, c0: 16, 8, 4 or 2 bytes */
};

struct choice {
    struct shape shape;
    cublasLtMatmulAlgo_t algorithm;
    int used;
};

/* A step has some tens of shapes; a full table starts anew, which costs time only. */
enum { CHOICES = 1024 };

struct gemm_engine {
    const struct cublaslt *lt;
    cublasLtHandle_t handle;
    struct choice choices[CHOICES];
    int count;
};

/* cuBLASLt's view of a product: all matrices by columns, so a and b change places. */
struct layouts {
    const struct cublaslt *lt;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t a, b, c, d;
};

int gemm_version(const struct device *d)
{
    return (int)cuda_state(d)->gemm->lt->cublasLtGetVersion();
}

enum status gemm_open(struct device *d, struct err *e)
{
    struct gemm_engine *g = mem_calloc(1, sizeof *g);
    if (!g) return err_set(e, ERR_MEMORY, "no memory for cuBLASLt's choices");
    g->lt = cublaslt_load(e);
    if (!g->lt) {
        mem_free(g);
        return e->code;
    }
    if (g->lt->cublasLtCreate(&g->handle) != CUBLAS_STATUS_SUCCESS) {
        mem_free(g);
        return err_set(e, ERR_DEVICE, "cuBLASLt does not start");
    }
    cuda_state(d)->gemm = g;
    return OK;
}

void gemm_close(struct device *d)
{
    struct gemm_engine *g = cuda_state(d)->gemm;
    if (g) g->lt->cublasLtDestroy(g->handle);
    mem_free(g);
    cuda_state(d)->gemm = NULL;
}

static int32_t alignment(const void *p, int32_t ld, size_t size)
{
    uintptr_t bits = (uintptr_t)p | ((uintptr_t)ld * size) | 16;
    return (int32_t)(bits & -bits);
}

static struct shape shape_of(const struct gemm *g)
{
    struct shape s;
    size_t in = dtype_size(g->type), out = dtype_size(g->out);
    memset(&s, 0, sizeof s);
    s.M = g->M, s.N = g->N, s.K = g->K;
    s.lda = g->lda, s.ldb = g->ldb, s.ldc = g->ldc, s.ldc0 = g->beta != 0 ? g->ldc0 : g->ldc;
    s.type = (int32_t)g->type, s.out = (int32_t)g->out;
    s.turn_a = g->turn_a, s.turn_b = g->turn_b, s.bias = g->bias != NULL, s.add = g->beta != 0;
    s.align[0] = alignment(g->a, g->lda, in);
    s.align[1] = alignment(g->b, g->ldb, in);
    s.align[2] = alignment(g->c, g->ldc, out);
    s.align[3] = g->beta != 0 ? alignment(g->c0, g->ldc0, out) : s.align[2];
    return s;
}

static cudaDataType_t library_type(enum dtype t)
{
    return t == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static void set(const struct layouts *l, cublasLtMatmulDescAttributes_t what, const void *value,
                size_t size)
{
    l->lt->cublasLtMatmulDescSetAttribute(l->operation, what, value, size);
}

/* A row-major [rows, cols] matrix is a column-major [cols, rows] one. */
static cublasStatus_t layout(const struct layouts *l, cublasLtMatrixLayout_t *out, enum dtype t,
                             int32_t rows, int32_t cols, int32_t ld)
{
    return l->lt->cublasLtMatrixLayoutCreate(out, library_type(t), (uint64_t)cols, (uint64_t)rows,
                                             ld);
}

static void layouts_free(struct layouts *l)
{
    if (l->operation) l->lt->cublasLtMatmulDescDestroy(l->operation);
    if (l->a) l->lt->cublasLtMatrixLayoutDestroy(l->a);
    if (l->b) l->lt->cublasLtMatrixLayoutDestroy(l->b);
    if (l->c) l->lt->cublasLtMatrixLayoutDestroy(l->c);
    if (l->d) l->lt->cublasLtMatrixLayoutDestroy(l->d);
}

static cublasStatus_t layouts_init(struct layouts *l, const struct cublaslt *lt,
                                   const struct gemm *g, const struct shape *s)
{
    const cublasOperation_t turn[] = {CUBLAS_OP_N, CUBLAS_OP_T};
    cublasStatus_t status;
    *l = (struct layouts){.lt = lt};
    status = lt->cublasLtMatmulDescCreate(&l->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status) return status;
    set(l, CUBLASLT_MATMUL_DESC_TRANSA, &turn[g->turn_b != 0], sizeof *turn);
    set(l, CUBLASLT_MATMUL_DESC_TRANSB, &turn[g->turn_a != 0], sizeof *turn);
    if (g->bias) {
        const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        const cudaDataType_t type = library_type(g->type);
        set(l, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
        set(l, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias);
        set(l, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &type, sizeof type);
    }
    int32_t K = g->K, N = g->N, M = g->M;
    status = layout(l, &l->a, g->type, g->turn_b ? N : K, g->turn_b ? K : N, g->ldb);
    if (!status) status = layout(l, &l->b, g->type, g->turn_a ? K : M, g->turn_a ? M : K, g->lda);
    if (!status) status = layout(l, &l->c, g->out, M, N, s->ldc0);
    if (!status) status = layout(l, &l->d, g->out, M, N, g->ldc);
    return status;
}

/* The heuristic's first choice. Split sums are added in an order of their own kernel, never as
 * blocks happen to finish. */
static cublasStatus_t ask(struct gemm_engine *e, const struct layouts *l, const struct shape *s,
                          cublasLtMatmulAlgo_t *out)
{
    const uint64_t workspace = CUDA_WORKSPACE;
    const uint32_t sums = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE |
                          CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    const cublasLtMatmulPreferenceAttributes_t bytes[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES};
    cublasLtMatmulPreference_t p = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasStatus_t status = e->lt->cublasLtMatmulPreferenceCreate(&p);
    if (status) return status;
    e->lt->cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                &workspace, sizeof workspace);
    e->lt->cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                &sums, sizeof sums);
    for (int i = 0; i < 4; i++) {
        uint32_t align = (uint32_t)s->align[i];
        e->lt->cublasLtMatmulPreferenceSetAttribute(p, bytes[i], &align, sizeof align);
    }
    status = e->lt->cublasLtMatmulAlgoGetHeuristic(e->handle, l->operation, l->a, l->b, l->c, l->d,
                                                   p, 1, &found, &count);
    e->lt->cublasLtMatmulPreferenceDestroy(p);
    if (status) return status;
    if (!count) return CUBLAS_STATUS_NOT_SUPPORTED;
    *out = found.algo;
    return CUBLAS_STATUS_SUCCESS;
}

static uint64_t hash(const struct shape *s)
{
    const unsigned char *p = (const unsigned char *)s;
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < sizeof *s; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static cublasStatus_t choose(struct gemm_engine *e, const struct layouts *l, const struct shape *s,
                             const cublasLtMatmulAlgo_t **out)
{
    size_t at = hash(s) % CHOICES;
    if (e->count > CHOICES / 2) {
        memset(e->choices, 0, sizeof e->choices);
        e->count = 0;
    }
    while (e->choices[at].used && memcmp(&e->choices[at].shape, s, sizeof *s) != 0)
        at = (at + 1) % CHOICES;
    struct choice *c = &e->choices[at];
    *out = &c->algorithm;
    if (c->used) return CUBLAS_STATUS_SUCCESS;
    cublasStatus_t status = ask(e, l, s, &c->algorithm);
    if (status) return status;
    c->shape = *s;
    c->used = 1;
    e->count++;
    return CUBLAS_STATUS_SUCCESS;
}

void gemm_run(struct device *d, const struct gemm *g)
{
    struct cuda_state *state = cuda_state(d);
    struct layouts l;
    const cublasLtMatmulAlgo_t *algorithm;
    if (g->M <= 0 || g->N <= 0) return;
    assert(g->K > 0 || (g->beta == 1 && g->c == g->c0 && !g->bias));
    if (g->K <= 0) return;
    struct shape s = shape_of(g);
    cublasStatus_t status = layouts_init(&l, state->gemm->lt, g, &s);
    if (!status) status = choose(state->gemm, &l, &s, &algorithm);
    gemm_trace(d, g);
    if (!status)
        status = state->gemm->lt->cublasLtMatmul(
            state->gemm->handle, l.operation, &g->alpha, g->b, l.a, g->a, l.b, &g->beta,
            g->beta != 0 ? g->c0 : g->c, l.c, g->c, l.d, algorithm, state->workspace,
            CUDA_WORKSPACE, state->compute);
    cuda_trace_end(d);
    layouts_free(&l);
    if (status) cuda_note(d, cudaErrorNotSupported, state->gemm->lt->cublasLtGetStatusName(status));
}

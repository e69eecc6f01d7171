#include "kernels/cuda/gemm.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/gemm_shape.h"

struct choice {
    struct gemm_shape shape;
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
    pthread_mutex_t lock; /* a checkpoint is written beside the thread that fills the table */
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
    pthread_mutex_init(&g->lock, NULL);
    cuda_state(d)->gemm = g;
    return OK;
}

void gemm_close(struct device *d)
{
    struct gemm_engine *g = cuda_state(d)->gemm;
    if (g) g->lt->cublasLtDestroy(g->handle);
    if (g) pthread_mutex_destroy(&g->lock);
    mem_free(g);
    cuda_state(d)->gemm = NULL;
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
                                   const struct gemm *g, const struct gemm_shape *s)
{
    const cublasOperation_t turn[] = {CUBLAS_OP_N, CUBLAS_OP_T};
    cublasStatus_t status;
    *l = (struct layouts){.lt = lt};
    status = lt->cublasLtMatmulDescCreate(&l->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status) return status;
    set(l, CUBLASLT_MATMUL_DESC_TRANSA, &turn[g->turn_b != 0], sizeof *turn);
    set(l, CUBLASLT_MATMUL_DESC_TRANSB, &turn[g->turn_a != 0], sizeof *turn);
    if (s->bias) {
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
static cublasStatus_t ask(struct gemm_engine *e, const struct layouts *l,
                          const struct gemm_shape *s, cublasLtMatmulAlgo_t *out)
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

static uint64_t hash(const struct gemm_shape *s)
{
    const unsigned char *p = (const unsigned char *)s;
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < sizeof *s; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static cublasStatus_t choose(struct gemm_engine *e, const struct layouts *l,
                             const struct gemm_shape *s, const cublasLtMatmulAlgo_t **out)
{
    size_t at = hash(s) % CHOICES;
    if (e->count > CHOICES / 2) {
        pthread_mutex_lock(&e->lock);
        memset(e->choices, 0, sizeof e->choices);
        e->count = 0;
        pthread_mutex_unlock(&e->lock);
    }
    while (e->choices[at].used && memcmp(&e->choices[at].shape, s, sizeof *s) != 0)
        at = (at + 1) % CHOICES;
    struct choice *c = &e->choices[at];
    *out = &c->algorithm;
    if (c->used) return CUBLAS_STATUS_SUCCESS;
    cublasLtMatmulAlgo_t found;
    cublasStatus_t status = ask(e, l, s, &found);
    if (status) return status;
    pthread_mutex_lock(&e->lock);
    c->algorithm = found;
    c->shape = *s;
    c->used = 1;
    e->count++;
    pthread_mutex_unlock(&e->lock);
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
    struct gemm_shape s = gemm_shape_of(g);
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

/* --- what was chosen --- */

/* The configuration as cuBLASLt tells it; an attribute that this algorithm lacks is left out. */
static void describe(const struct cublaslt *lt, const cublasLtMatmulAlgo_t *algorithm, char *out,
                     size_t size)
{
    static const struct {
        const char *name;
        cublasLtMatmulAlgoConfigAttributes_t what;
    } rows[] = {{"algorithm", CUBLASLT_ALGO_CONFIG_ID},
                {"tile", CUBLASLT_ALGO_CONFIG_TILE_ID},
                {"split", CUBLASLT_ALGO_CONFIG_SPLITK_NUM},
                {"reduction", CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME},
                {"swizzle", CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING},
                {"custom", CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION},
                {"stages", CUBLASLT_ALGO_CONFIG_STAGES_ID},
                {"inner", CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID},
                {"cluster", CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID}};
    size_t used = 0;
    out[0] = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && used < size; i++) {
        int32_t value = 0; /* some are of 2 bytes */
        size_t written = 0;
        if (lt->cublasLtMatmulAlgoConfigGetAttribute(algorithm, rows[i].what, &value, sizeof value,
                                                     &written) != CUBLAS_STATUS_SUCCESS)
            (void)lt->cublasLtMatmulAlgoConfigGetAttribute(algorithm, rows[i].what, &value,
                                                           sizeof(uint16_t), &written);
        if (written)
            used += (size_t)snprintf(out + used, size - used, "%s%s %d", used ? ", " : "",
                                     rows[i].name, value);
    }
}

int32_t gemm_products(const struct device *d, struct kern_product *out, int32_t room)
{
    struct gemm_engine *g = cuda_state(d)->gemm;
    int32_t n = 0;
    pthread_mutex_lock(&g->lock);
    for (int i = 0; i < CHOICES; i++) {
        const struct choice *c = &g->choices[i];
        if (!c->used || n++ >= room) continue;
        gemm_shape_text(&c->shape, out[n - 1].shape, sizeof out->shape);
        describe(g->lt, &c->algorithm, out[n - 1].algorithm, sizeof out->algorithm);
    }
    pthread_mutex_unlock(&g->lock);
    return n;
}

enum status gemm_algorithm(struct device *d, struct kern_product *p, struct err *e)
{
    struct gemm_engine *engine = cuda_state(d)->gemm;
    struct gemm_shape s;
    struct layouts l;
    cublasLtMatmulAlgo_t algorithm;
    TRY(gemm_shape_parse(&s, p->shape, e));
    struct gemm g = gemm_of_shape(&s);
    cublasStatus_t status = layouts_init(&l, engine->lt, &g, &s);
    if (!status) status = ask(engine, &l, &s, &algorithm);
    layouts_free(&l);
    if (status)
        snprintf(p->algorithm, sizeof p->algorithm, "none: %s",
                 engine->lt->cublasLtGetStatusName(status));
    else
        describe(engine->lt, &algorithm, p->algorithm, sizeof p->algorithm);
    return OK;
}

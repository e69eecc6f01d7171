/* head.c - log-probabilities of the targets; logits are never whole.
 *
 * z = W x_s;  lse = log sum exp z;  logp = z[target] - lse;  p = exp(z - lse)
 * dx_s = W[target] - sum_v p_v W_v;  dW += sum_s dlogp_s (onehot(target) - p) x_s^T
 * entropy = lse - sum p z;  sum_p2 = log sum p^2;  mean_logit = mean z
 * x [*, C] gathered by row[], W [V, C], everything else [S].
 *
 * Rows go in chunks, a chunk through the vocabulary in blocks (head_block.h): e = exp(z - ref) is
 * made of the logits while they are in the cache, and its product with W follows at once: dx is
 * that, but for the target's word, over sum e. The weight's gradient needs sum e first: where it is
 * taken along, a chunk's blocks are kept, the target's e becomes minus the sum of the others, and
 * the factor -dlogp / sum e goes into x, which is smaller. Where dlogp is known later, the blocks
 * are made again, with ref = lse.
 *
 * FLOPs: 2 S C V for each product: logits, dx, dW. Bytes: W twice a chunk; the blocks of a chunk
 * that keeps them, written and read once.
 * Deterministic: tiles have fixed sizes, a product of a tile is one call on one thread, a row's
 * sums are added block by block in double.
 */
#include "base/size.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/head_block.h"

/* Rows at a time. W is turned and read anew for each chunk; kept blocks are LOGITS floats at most,
 * but of no fewer than ROWS_LEAST rows. */
enum { ROWS_LEAST = 256, ROWS_KEPT = 512, ROWS_MOST = 1024, LOGITS = 16 << 20 };

static int keeps(const struct kern_head *h) { return h->dw || h->late_dw; }

static int32_t chunk_rows(const struct kern_head *h, int keep)
{
    int32_t fit = cpu_max(ROWS_LEAST, LOGITS / cpu_max(h->V, 1) / 32 * 32);
    return cpu_max(1, cpu_min(h->S, keep ? cpu_min(fit, ROWS_KEPT) : ROWS_MOST));
}

struct kern_head_cut cpu_head_cut(const struct device *d, const struct kern_head *h)
{
    (void)d;
    return (struct kern_head_cut){chunk_rows(h, h->dw != NULL), cpu_min(h->V, HEAD_WORDS)};
}

/* --- scratch --- */

struct sizes {
    size_t xs, wt, e, rows, tiles;
};

static struct sizes sizes(const struct kern_head *h, int keep)
{
    size_t rows = (size_t)chunk_rows(h, keep), C = (size_t)h->C;
    size_t words = (size_t)(keep ? h->V : cpu_min(h->V, HEAD_WORDS));
    size_t strips = (size_t)cpu_blocks(HEAD_WORDS, HEAD_STRIP);
    return (struct sizes){.xs = size_align(rows * C * sizeof(float), 64),
                          .wt = size_align(HEAD_WORDS * C * sizeof(float), 64),
                          .e = size_align(rows * words * sizeof(float), 64),
                          .rows = size_align(rows * sizeof(struct head_row), 64),
                          .tiles = rows * strips * sizeof(struct head_tile)};
}

static size_t sum(const struct sizes *s) { return s->xs + s->wt + s->e + s->rows + s->tiles; }

size_t cpu_head_scratch(const struct device *d, const struct kern_head *h)
{
    (void)d;
    struct sizes once = sizes(h, 0), kept = sizes(h, 1);
    return keeps(h) ? size_max(sum(&kept), h->dw ? 0 : sum(&once)) : sum(&once);
}

static struct head_pass begin(struct device *d, const struct kern_head *h, int keep, char *scratch)
{
    struct sizes s = sizes(h, keep);
    char *e = scratch + s.xs + s.wt, *rows = e + s.e;
    return (struct head_pass){.d = d,
                              .h = h,
                              .keep = keep,
                              .xs = (float *)scratch,
                              .wt = (float *)(scratch + s.xs),
                              .e = (float *)e,
                              .rows = (struct head_row *)rows,
                              .tiles = (struct head_tile *)(rows + s.rows)};
}

/* --- rows --- */

CPU_INLINE float dot_any(const float *x, const float *y, int32_t n)
{
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int32_t i = 0; i < n; i++) s += x[i] * y[i];
    return s;
}
CPU_LEVELS(float, dot, (const float *x, const float *y, int32_t n), (x, y, n))

static const float *target_row(const struct kern_head *h, int32_t s)
{
    return (const float *)h->w + (size_t)h->target[s] * (size_t)h->C;
}

/* Inputs of the next rows, and their anchors: their targets' logits, or `lse`. */
static void gather(struct head_pass *p, int32_t s0, int32_t count, const float *lse)
{
    const struct kern_head *h = p->h;
    p->s0 = s0, p->count = count;
#pragma omp parallel for num_threads(p->d->threads) schedule(static)
    for (int32_t i = 0; i < count; i++) {
        float *x = p->xs + (size_t)i * (size_t)h->C;
        memcpy(x, (const float *)h->x + (size_t)h->row[s0 + i] * (size_t)h->ldx,
               (size_t)h->C * sizeof *x);
        p->rows[i] = (struct head_row){
            .ref = lse ? lse[s0 + i] : dot(x, target_row(h, s0 + i), h->C), .top = -INFINITY};
    }
}

/* dx = (others W[target] - dx) / all */
CPU_INLINE void finish_gradient_any(float *dx, const float *w, int32_t C, float others, float f)
{
#pragma omp simd
    for (int32_t c = 0; c < C; c++) dx[c] = others * w[c] - f * dx[c];
}
CPU_LEVELS(void, finish_gradient, (float *dx, const float *w, int32_t C, float others, float f),
           (dx, w, C, others, f))

static double target_e(const struct head_row *r)
{
    return exp((double)r->at_target - (double)r->ref);
}

static void finish_row(const struct head_pass *p, int32_t i)
{
    const struct kern_head *h = p->h;
    const struct head_row *r = &p->rows[i];
    int32_t s = p->s0 + i;
    double below = (double)r->at_target - (double)r->ref, e = target_e(r);
    double all = r->e + e, log_all = log(all);
    h->hit[s] = r->first == h->target[s];
    h->lse[s] = (float)((double)r->ref + log_all);
    h->logp[s] = (float)(r->e < e ? -log1p(r->e / e) : below - log_all);
    h->mean_logit[s] = (float)(r->z / h->V);
    if (h->entropy) h->entropy[s] = (float)(log_all - (r->ez + e * below) / all);
    if (h->sum_p2) h->sum_p2[s] = (float)(log(r->e2 + e * e) - 2 * log_all);
    if (p->dx)
        finish_gradient(p->dx + (size_t)i * (size_t)h->C, target_row(h, s), h->C,
                        (float)(r->e / all), (float)(1 / all));
}

static void pass_vocabulary(struct head_pass *p)
{
    for (int32_t v0 = 0; v0 < p->h->V; v0 += HEAD_WORDS)
        head_block_pass(p, v0, cpu_min(HEAD_WORDS, p->h->V - v0));
}

/* --- the weight's gradient, from kept blocks --- */

/* The target's e becomes what makes the row's sum 0; xs *= -dlogp / sum e. */
static void weigh_rows(struct head_pass *p, const float *dlogp)
{
    const struct kern_head *h = p->h;
#pragma omp parallel for num_threads(p->d->threads) schedule(static)
    for (int32_t i = 0; i < p->count; i++) {
        int32_t target = h->target[p->s0 + i], v0 = target / HEAD_WORDS * HEAD_WORDS;
        int32_t n = cpu_min(HEAD_WORDS, h->V - v0);
        float *e = head_block_at(p, v0) + (size_t)i * (size_t)n + (target - v0);
        float *x = p->xs + (size_t)i * (size_t)h->C;
        const struct head_row *r = &p->rows[i];
        float f = (float)(-(double)dlogp[p->s0 + i] / (r->e + target_e(r)));
        *e = (float)-r->e;
#pragma omp simd
        for (int32_t c = 0; c < h->C; c++) x[c] *= f;
    }
}

/* How many of dw's rows are of words below v. */
static int32_t rows_below(const struct kern_head *h, int32_t v)
{
    int32_t low = 0, high = h->num_dw_rows;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (h->dw_row[middle] < v)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Words v ... v+n-1, within a block; alone: on this thread. Where dw has only some of them, their
 * columns move to the front: they ascend, so none is overwritten before it is read. */
static void add_words(const struct head_pass *p, float *dw, int32_t v, int32_t n, int alone)
{
    const struct kern_head *h = p->h;
    int32_t v0 = v / HEAD_WORDS * HEAD_WORDS, words = cpu_min(HEAD_WORDS, h->V - v0), at = v;
    float *e = head_block_at(p, v0) + (v - v0);
    if (h->num_dw_rows) {
        at = rows_below(h, v), n = rows_below(h, v + n) - at;
        for (int32_t i = 0; i < p->count; i++)
            for (int32_t k = 0; k < n; k++)
                e[(size_t)i * (size_t)words + k] =
                    e[(size_t)i * (size_t)words + (h->dw_row[at + k] - v)];
    }
    float *to = dw + (size_t)at * (size_t)h->C;
    if (alone && n)
        cpu_gemm_turned(n, h->C, p->count, e, words, p->xs, h->C, to, h->C);
    else
        cpu_gemm(BLAS_TURNED, BLAS_PLAIN, n, h->C, p->count, e, words, p->xs, h->C, 1, to, h->C);
}

static void add_weight_gradient(const struct head_pass *p, float *dw)
{
    int32_t V = p->h->V;
    if (p->h->C > CPU_TURNED_WIDTH) {
        for (int32_t v = 0; v < V; v += HEAD_WORDS)
            add_words(p, dw, v, cpu_min(HEAD_WORDS, V - v), 0);
        return;
    }
#pragma omp parallel for num_threads(p->d->threads) schedule(dynamic)
    for (int32_t v = 0; v < V; v += CPU_TURNED_ROWS)
        add_words(p, dw, v, cpu_min(CPU_TURNED_ROWS, V - v), 1);
}

/* --- the entries --- */

void cpu_head_forward(struct device *d, const struct kern_head *h, void *scratch)
{
    int32_t chunk = chunk_rows(h, h->dw != NULL);
    struct head_pass p = begin(d, h, h->dw != NULL, scratch);
    for (int32_t s0 = 0; s0 < h->S; s0 += chunk) {
        gather(&p, s0, cpu_min(chunk, h->S - s0), NULL);
        p.dx = h->dx ? (float *)h->dx + (size_t)s0 * (size_t)h->C : NULL;
        pass_vocabulary(&p);
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int32_t i = 0; i < p.count; i++) finish_row(&p, i);
        if (!h->dw) continue;
        weigh_rows(&p, h->dlogp);
        add_weight_gradient(&p, h->dw);
    }
}

void cpu_head_backward_weight(struct device *d, float *dw, const float *dlogp,
                              const struct kern_head *h, void *scratch)
{
    int32_t chunk = chunk_rows(h, 1);
    struct head_pass p = begin(d, h, 1, scratch);
    for (int32_t s0 = 0; s0 < h->S; s0 += chunk) {
        gather(&p, s0, cpu_min(chunk, h->S - s0), h->lse);
        pass_vocabulary(&p);
        weigh_rows(&p, dlogp);
        add_weight_gradient(&p, dw);
    }
}

void cpu_head_backward_input(struct device *d, void *dx_out, const float *dlogp,
                             const struct kern_head *h, int32_t N, int32_t lddx, int accumulate)
{
    if (!accumulate) {
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int32_t n = 0; n < N; n++)
            memset((float *)dx_out + (size_t)n * lddx, 0, (size_t)h->C * sizeof(float));
    }
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t s = 0; s < h->S; s++) {
        float *to = (float *)dx_out + (size_t)h->row[s] * lddx, f = dlogp[s];
        const float *from = (const float *)h->dx + (size_t)s * h->C;
#pragma omp simd
        for (int32_t c = 0; c < h->C; c++) to[c] += f * from[c];
    }
}

/* optim.c - the gradient's norm and AdamW over flat ranges.
 *
 * out[0] = ||grad|| w;  out[1] = w min(1, max_norm / (out[0] + 1e-6)), NaN if the norm is not
 * finite. Bytes: n floats read. The squares are summed in double over blocks of 4096 and the
 * blocks added in order: the same bits on any thread count, and no overflow.
 *
 * AdamW: kernels.h has the equations. Bytes: 4 n floats read, 3 n written; 15 FLOP each. Every
 * parameter on its own.
 */
#include "kernels/cpu/cpu.h"

enum { BLOCK = 4096 };

static size_t norm_blocks(size_t n) { return n / BLOCK + (n % BLOCK != 0); }

size_t cpu_grad_norm_scratch(const struct device *d, size_t n)
{
    (void)d;
    return norm_blocks(n) * sizeof(double);
}

CPU_INLINE double block_sum_any(const float *g, size_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += (double)g[i] * (double)g[i];
    return sum;
}
CPU_LEVELS(double, block_sum, (const float *g, size_t n), (g, n))

void cpu_grad_norm(struct device *d, float out[2], const float *grad, size_t n, float inv_weight,
                   float max_norm, void *scratch)
{
    double *partial = scratch, sum = 0;
    size_t blocks = norm_blocks(n);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (size_t b = 0; b < blocks; b++) {
        size_t first = b * BLOCK, count = n - first < BLOCK ? n - first : BLOCK;
        partial[b] = block_sum(grad + first, count);
    }
    for (size_t b = 0; b < blocks; b++) sum += partial[b];
    float norm = (float)(sqrt(sum) * (double)inv_weight), scale = inv_weight;
    if (max_norm > 0 && max_norm / (norm + 1e-6f) < 1) scale *= max_norm / (norm + 1e-6f);
    out[0] = norm;
    out[1] = isfinite(norm) ? scale : NAN;
}

/* p, m and v of one range; the caller has folded lr / bc1, 1 / sqrt(bc2) and 1 - lr wd. */
CPU_INLINE void update_any(float *p, float *m, float *v, const float *grad, size_t n, float scale,
                           float beta1, float beta2, float eps, float step, float inv_root,
                           float decay)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float g = scale * grad[i];
        float mi = beta1 * m[i] + (1 - beta1) * g, vi = beta2 * v[i] + (1 - beta2) * g * g;
        m[i] = mi;
        v[i] = vi;
        p[i] = p[i] * decay - step * mi / (sqrtf(vi) * inv_root + eps);
    }
}
CPU_LEVELS(void, update,
           (float *p, float *m, float *v, const float *grad, size_t n, float scale, float beta1,
            float beta2, float eps, float step, float inv_root, float decay),
           (p, m, v, grad, n, scale, beta1, beta2, eps, step, inv_root, decay))

void cpu_adamw(struct device *d, const struct kern_adamw *a)
{
    if (!isfinite(*a->scale)) return;
    size_t blocks = norm_blocks(a->n);
    float step = a->lr / a->bias1, inv_root = 1 / sqrtf(a->bias2);
    float decay = 1 - a->lr * a->weight_decay;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (size_t b = 0; b < blocks; b++) {
        size_t at = b * BLOCK, count = a->n - at < BLOCK ? a->n - at : BLOCK;
        update(a->param + at, a->m + at, a->v + at, a->grad + at, count, *a->scale, a->beta1,
               a->beta2, a->eps, step, inv_root, decay);
    }
}

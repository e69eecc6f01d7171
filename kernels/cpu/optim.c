/* optim.c - the gradient's norm and AdamW over flat ranges.
 *
 * out[0] = ||grad|| w;  out[1] = w min(1, max_norm / (out[0] + 1e-6)), NaN if the norm is not
 * finite. Bytes: n floats read. The squares are summed in double over blocks of 4096 and the
 * blocks added in order: the same bits on any thread count, and no overflow.
 *
 * AdamW: kernels.h has the equations. Bytes: 4 n floats read, 3 n written; 15 FLOP each. Every
 * parameter on its own.
 *
 * AdamW with states of 8 bits: codes.h has the maps. Bytes: 2 n floats and 2 n codes read, n floats
 * and 2 n codes written; about 60 FLOP each, most of them comparisons that find a code's decade.
 * Every block of 256 on its own.
 */
#include "kernels/codes.h"
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

/* --- states of 8 bits --- */

struct coded_update {
    const struct kern_adamw_8bit *k;
    float step, inv_root, decay;
    struct codes_map m, v;
};

static void make_map(struct codes_map *map, enum codes_kind kind)
{
    for (int code = 0; code < 256; code++) map->number[code] = codes_number(kind, code);
    for (int r = 0; r < CODES_ROWS; r++) map->row[r] = codes_make_row(kind, r);
}

CPU_INLINE int32_t rank_of(float x, const struct codes_row *row)
{
    float gain = 0, first = row->first;
#pragma GCC unroll 8
    for (int r = 1; r < CODES_ROWS; r++) {
        int up = x > row[r].above;
        gain = up ? row[r].gain : gain;
        first = up ? row[r].first : first;
    }
    return codes_rank(x, gain, first);
}

CPU_INLINE float inverse_of(float max) { return max > 0 ? 1 / max : 0; }

CPU_INLINE void code_signed(uint8_t *code, const float *x, size_t n, float max,
                            const struct codes_row *row)
{
    float inverse = inverse_of(max);
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float y = x[i] * inverse;
        int32_t rank = rank_of(fabsf(y), row), least = rank > 127 ? 127 : rank;
        code[i] = (uint8_t)(y < 0 ? 127 - least : 127 + rank);
    }
}

CPU_INLINE void code_unsigned(uint8_t *code, const float *x, size_t n, float max,
                              const struct codes_row *row)
{
    float inverse = inverse_of(max);
#pragma omp simd
    for (size_t i = 0; i < n; i++) code[i] = (uint8_t)(rank_of(x[i] * inverse, row) - 1);
}

CPU_INLINE void update_coded_any(const struct coded_update *u, size_t block)
{
    const struct kern_adamw *a = &u->k->a;
    size_t first = block * CODES_BLOCK;
    size_t n = a->n - first < CODES_BLOCK ? a->n - first : CODES_BLOCK;
    float m[CODES_BLOCK], v[CODES_BLOCK], *p = a->param + first;
    uint8_t *cm = u->k->m + first, *cv = u->k->v + first;
    const float *grad = a->grad + first;
    float m_max = u->k->m_max[block], v_max = u->k->v_max[block], m_new = 0, v_new = 0;
    float scale = *a->scale, beta1 = a->beta1, beta2 = a->beta2, eps = a->eps;
#pragma omp simd reduction(max : m_new, v_new)
    for (size_t i = 0; i < n; i++) {
        float g = scale * grad[i];
        float mi = beta1 * (u->m.number[cm[i]] * m_max) + (1 - beta1) * g;
        float vi = beta2 * (u->v.number[cv[i]] * v_max) + (1 - beta2) * g * g;
        m[i] = mi;
        v[i] = vi;
        m_new = fabsf(mi) > m_new ? fabsf(mi) : m_new;
        v_new = vi > v_new ? vi : v_new;
        p[i] = p[i] * u->decay - u->step * mi / (sqrtf(vi) * u->inv_root + eps);
    }
    code_signed(cm, m, n, m_new, u->m.row);
    code_unsigned(cv, v, n, v_new, u->v.row);
    u->k->m_max[block] = m_new;
    u->k->v_max[block] = v_new;
}
CPU_LEVELS(void, update_coded, (const struct coded_update *u, size_t block), (u, block))

void cpu_adamw_8bit(struct device *d, const struct kern_adamw_8bit *k)
{
    const struct kern_adamw *a = &k->a;
    size_t blocks = (a->n + CODES_BLOCK - 1) / CODES_BLOCK;
    struct coded_update u;
    if (!isfinite(*a->scale)) return;
    u.k = k;
    u.step = a->lr / a->bias1;
    u.inv_root = 1 / sqrtf(a->bias2);
    u.decay = 1 - a->lr * a->weight_decay;
    make_map(&u.m, CODES_SIGNED);
    make_map(&u.v, CODES_UNSIGNED);
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (size_t b = 0; b < blocks; b++) update_coded(&u, b);
}

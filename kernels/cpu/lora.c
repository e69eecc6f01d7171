/* lora.c - low-rank updates of projections that share an input.
 *
 * Forward   for each part: h = drop(x) A^T;  y[:, its columns] += scale h B^T
 * Backward  dh = scale dy B;  dB += scale dy^T h;  dA += dh^T drop(x);  dx (+)= drop'(dh A)
 * x [N, I], A [R, I] stacked over the parts, B [out, rank], h [N, R]; y and dy have stride ldy.
 * FLOPs: forward 2 N (R I + sum rank out), backward twice that. Bytes: x and dx once a part with
 * dropout (masks differ), once in all without; y and dy once.
 * r-wide products are memory-bound and OpenBLAS packs as if they were not (28 GF/s); here A and B
 * are turned once a call so that cpu_product runs along ranks, outputs or inputs.
 * Deterministic: rows are independent; dA is summed by threads that own columns of I, dB by
 * threads that own outputs, both along the rows in order.
 */
#include <omp.h>

#include "base/size.h"
#include "kernels/cpu/cpu.h"

enum {
    ROWS = 64,    /* rows of x at a time */
    DEPTH = 512,  /* columns of x that are dropped out at a time: 128 KB, half of an L2's share */
    COLUMNS = 64, /* outputs or inputs a thread owns in the weight gradients */
    STRIP = 128,  /* rows that a strip of COLUMNS goes over before the next rank: 32 KB, an L1 */
    LANE = 16
};

static size_t padded(int32_t rank) { return size_align((size_t)rank, LANE); }

/* Scratch, in floats: what the parts' turned weights take, then N R of dh, then the threads'. */
struct plan {
    size_t a, b, dh, thread, total;
};

static struct plan plan_scratch(const struct device *d, const struct kern_lora *l)
{
    struct plan p = {0};
    size_t widest = padded(l->R);
    for (int32_t i = 0; i < l->num_parts; i++) {
        const struct kern_lora_part *part = &l->parts[i];
        p.a += padded(part->rank) * (size_t)l->I;
        p.b += padded(part->rank) * size_align((size_t)part->out, LANE);
    }
    p.dh = size_align((size_t)l->N * (size_t)l->R, LANE);
    p.thread = ROWS * (DEPTH + widest) + 3 * ROWS * COLUMNS;
    p.total = p.a + p.b + p.dh + p.thread * (size_t)d->threads;
    return p;
}

size_t cpu_lora_scratch(const struct device *d, const struct kern_lora *l)
{
    return plan_scratch(d, l).total * sizeof(float);
}

/* to [columns, ld] = scale from[rows, columns]^T, zeros in the columns rows ... ld. */
static void turn(struct device *d, float *to, size_t ld, const float *from, int32_t rows,
                 int32_t columns, float scale)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t j = 0; j < columns; j++)
        for (size_t i = 0; i < ld; i++)
            to[j * ld + i] = i < (size_t)rows ? scale * from[i * (size_t)columns + (size_t)j] : 0.f;
}

/* to[n][j] = x[n][first + j] * keep, `rows` rows and `width` columns, row stride ld. */
static void drop(float *to, size_t ld, float *keep, const struct kern_lora *l, uint32_t module,
                 int32_t n0, int32_t rows, int32_t first, int32_t width)
{
    const float *x = l->x;
    for (int32_t n = 0; n < rows; n++) {
        const float *from = x + (size_t)(n0 + n) * l->ldx + first;
        float *row = to + (size_t)n * ld, *k = keep ? keep + (size_t)n * ld : row;
        cpu_dropout_row(k, &l->dropout, module, n0 + n, first, width);
#pragma omp simd
        for (int32_t j = 0; j < width; j++) row[j] = from[j] * k[j];
    }
}

/* h of one part for `rows` rows: tile [rows, padded rank] = drop(x) A^T, then copied. */
static void project(float *dropped, float *tile, const float *at, const struct kern_lora *l,
                    const struct kern_lora_part *part, int32_t n0, int32_t rows)
{
    const float *x = l->x;
    size_t width = padded(part->rank);
    memset(tile, 0, (size_t)rows * width * sizeof(float));
    for (int32_t i0 = 0; i0 < l->I; i0 += DEPTH) {
        int32_t depth = cpu_min(DEPTH, l->I - i0);
        const float *from = x + (size_t)n0 * l->ldx + i0;
        size_t ld = (size_t)l->ldx;
        if (l->dropout.p > 0) {
            drop(dropped, DEPTH, NULL, l, part->module, n0, rows, i0, depth);
            from = dropped, ld = DEPTH;
        }
        cpu_product(tile, width, from, ld, 1, at + (size_t)i0 * width, width, rows, (int)width,
                    depth);
    }
    for (int32_t n = 0; n < rows; n++)
        memcpy(l->h + (size_t)(n0 + n) * l->R + part->rank_first, tile + (size_t)n * width,
               (size_t)part->rank * sizeof(float));
}

void cpu_lora_forward(struct device *d, void *y, const struct kern_lora *l, void *scratch)
{
    struct plan p = plan_scratch(d, l);
    float *a = scratch, *b = a + p.a, *threads = b + p.b;
    for (int32_t i = 0; i < l->num_parts; i++) {
        const struct kern_lora_part *part = &l->parts[i];
        turn(d, a, padded(part->rank), l->a + (size_t)part->rank_first * l->I, part->rank, l->I, 1);
        turn(d, b, size_align((size_t)part->out, LANE), part->b, part->out, part->rank,
             part->scale);
        a += padded(part->rank) * (size_t)l->I;
        b += (size_t)part->rank * size_align((size_t)part->out, LANE);
    }
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t block = 0; block < cpu_blocks(l->N, ROWS); block++) {
        int32_t n0 = block * ROWS, rows = cpu_min(ROWS, l->N - n0);
        float *dropped = threads + p.thread * (size_t)omp_get_thread_num();
        float *tile = dropped + ROWS * DEPTH;
        const float *at = scratch, *bt = (const float *)scratch + p.a;
        for (int32_t i = 0; i < l->num_parts; i++) {
            const struct kern_lora_part *part = &l->parts[i];
            size_t width = padded(part->rank), ld = size_align((size_t)part->out, LANE);
            project(dropped, tile, at, l, part, n0, rows);
            cpu_product((float *)y + (size_t)n0 * l->ldy + part->first, (size_t)l->ldy, tile, width,
                        1, bt, ld, rows, part->out, part->rank);
            at += width * (size_t)l->I;
            bt += (size_t)part->rank * ld;
        }
    }
}

/* dh [N, R] = scale dy B, columns that no part owns are zero. */
static void gradient_of_h(struct device *d, float *dh, float *turned, float *threads, size_t stride,
                          const float *dy, const struct kern_lora *l)
{
    float *b = turned;
    for (int32_t i = 0; i < l->num_parts; i++) {
        const struct kern_lora_part *part = &l->parts[i];
        size_t width = padded(part->rank);
        for (int32_t o = 0; o < part->out; o++)
            for (size_t r = 0; r < width; r++)
                b[(size_t)o * width + r] =
                    r < (size_t)part->rank ? part->scale * part->b[(size_t)o * part->rank + r] : 0;
        b += (size_t)part->out * width;
    }
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t block = 0; block < cpu_blocks(l->N, ROWS); block++) {
        int32_t n0 = block * ROWS, rows = cpu_min(ROWS, l->N - n0);
        float *tile = threads + stride * (size_t)omp_get_thread_num();
        const float *weights = turned;
        memset(dh + (size_t)n0 * l->R, 0, (size_t)rows * l->R * sizeof(float));
        for (int32_t i = 0; i < l->num_parts; i++) {
            const struct kern_lora_part *part = &l->parts[i];
            size_t width = padded(part->rank);
            memset(tile, 0, (size_t)rows * width * sizeof(float));
            cpu_product(tile, width, dy + (size_t)n0 * l->ldy + part->first, (size_t)l->ldy, 1,
                        weights, width, rows, (int)width, part->out);
            for (int32_t n = 0; n < rows; n++)
                memcpy(dh + (size_t)(n0 + n) * l->R + part->rank_first, tile + (size_t)n * width,
                       (size_t)part->rank * sizeof(float));
            weights += (size_t)part->out * width;
        }
    }
}

/* db [out, rank] += scale dy^T h for `width` outputs from o0: h^T dy in a tile, then turned. */
static void gradient_of_b(float *tile, const float *dy, const struct kern_lora *l,
                          const struct kern_lora_part *part, int32_t o0, int32_t width)
{
    memset(tile, 0, (size_t)part->rank * COLUMNS * sizeof(float));
    for (int32_t n0 = 0; n0 < l->N; n0 += STRIP)
        cpu_product(tile, COLUMNS, l->h + (size_t)n0 * l->R + part->rank_first, 1, (size_t)l->R,
                    dy + (size_t)n0 * l->ldy + part->first + o0, (size_t)l->ldy, part->rank, width,
                    cpu_min(STRIP, l->N - n0));
    for (int32_t o = 0; o < width; o++)
        for (int32_t r = 0; r < part->rank; r++)
            part->db[(size_t)(o0 + o) * part->rank + r] +=
                part->scale * tile[(size_t)r * COLUMNS + o];
}

/* da and dx for `width` columns of x from i0, all parts under one mask (none). */
static void gradient_plain(float *dx, float *da, const float *dh, const struct kern_lora *l,
                           int32_t lddx, int32_t i0, int32_t width)
{
    size_t R = (size_t)l->R, I = (size_t)l->I;
    for (int32_t n0 = 0; n0 < l->N; n0 += STRIP) {
        int32_t rows = cpu_min(STRIP, l->N - n0);
        const float *dhn = dh + (size_t)n0 * R, *x = (const float *)l->x + (size_t)n0 * l->ldx + i0;
        cpu_product(da + i0, I, dhn, 1, R, x, (size_t)l->ldx, l->R, width, rows);
        if (dx)
            cpu_product(dx + (size_t)n0 * lddx + i0, (size_t)lddx, dhn, R, 1, l->a + i0, I, rows,
                        width, l->R);
    }
}

/* The same under a mask a part: rows in blocks, since mask and masked x live in tiles. */
static void gradient_dropped(float *dx, float *da, const float *dh, float *tiles,
                             const struct kern_lora *l, int32_t lddx, int32_t i0, int32_t width)
{
    float *keep = tiles, *x = keep + ROWS * COLUMNS, *g = x + ROWS * COLUMNS;
    size_t R = (size_t)l->R, I = (size_t)l->I;
    for (int32_t i = 0; i < l->num_parts; i++) {
        const struct kern_lora_part *part = &l->parts[i];
        size_t a_at = (size_t)part->rank_first * I + (size_t)i0;
        for (int32_t n0 = 0; n0 < l->N; n0 += ROWS) {
            int32_t rows = cpu_min(ROWS, l->N - n0);
            const float *dhn = dh + (size_t)n0 * R + part->rank_first;
            drop(x, COLUMNS, keep, l, part->module, n0, rows, i0, width);
            cpu_product(da + a_at, I, dhn, 1, R, x, COLUMNS, part->rank, width, rows);
            if (!dx) continue;
            memset(g, 0, (size_t)rows * COLUMNS * sizeof(float));
            cpu_product(g, COLUMNS, dhn, R, 1, l->a + a_at, I, rows, width, part->rank);
            for (int32_t n = 0; n < rows; n++) {
                float *row = dx + (size_t)(n0 + n) * lddx + i0;
#pragma omp simd
                for (int32_t j = 0; j < width; j++)
                    row[j] += g[n * COLUMNS + j] * keep[n * COLUMNS + j];
            }
        }
    }
}

void cpu_lora_backward(struct device *d, void *dx, float *da, const void *dy,
                       const struct kern_lora *l, int32_t lddx, int accumulate, void *scratch)
{
    struct plan p = plan_scratch(d, l);
    float *turned = scratch, *dh = turned + p.a + p.b, *threads = dh + p.dh;
    gradient_of_h(d, dh, turned, threads, p.thread, dy, l);
    for (int32_t i = 0; i < l->num_parts; i++) {
        const struct kern_lora_part *part = &l->parts[i];
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int32_t block = 0; block < cpu_blocks(part->out, COLUMNS); block++)
            gradient_of_b(threads + p.thread * (size_t)omp_get_thread_num(), dy, l, part,
                          block * COLUMNS, cpu_min(COLUMNS, part->out - block * COLUMNS));
    }
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t block = 0; block < cpu_blocks(l->I, COLUMNS); block++) {
        int32_t i0 = block * COLUMNS, width = cpu_min(COLUMNS, l->I - i0);
        if (dx && !accumulate)
            for (int32_t n = 0; n < l->N; n++)
                memset((float *)dx + (size_t)n * lddx + i0, 0, (size_t)width * sizeof(float));
        if (l->dropout.p > 0)
            gradient_dropped(dx, da, dh, threads + p.thread * (size_t)omp_get_thread_num(), l, lddx,
                             i0, width);
        else
            gradient_plain(dx, da, dh, l, lddx, i0, width);
    }
}

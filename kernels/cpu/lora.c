/* lora.c - low-rank updates of projections that share an input.
 *
 * Forward   for each part: h = drop(x) A^T;  y[:, its columns] += scale h B^T
 * Backward  dh = scale dy B;  dB += scale dy^T h;  dA += dh^T drop(x);  dx (+)= drop'(dh A)
 * x [N, I], A [R, I] stacked over the parts, B [out, rank], h [N, R]; y and dy have stride ldy.
 * FLOPs: forward 2 N (R I + sum rank out), backward twice that. Bytes: x and dx once a part with
 * dropout (masks differ), once in all without; y and dy once.
 * r-wide products are memory-bound and OpenBLAS packs as if they were not (28 GF/s). Here a block
 * of ROWS rows goes through all of a pass while it is in the L2 cache: forward x to h to y;
 * backward dy to dh and dB, then x to dA and dh to dx.
 * Deterministic: rows are independent. dA and dB are summed over chunks of rows, cut by N alone,
 * each of which has partial sums of its own; these are added in order.
 */
#include <omp.h>

#include "base/size.h"
#include "kernels/cpu/cpu.h"

enum {
    ROWS = 64,    /* rows at a time */
    WIDE = 512,   /* columns of dy and x at a time: 128 KB of ROWS rows */
    COLUMNS = 64, /* columns of a weight gradient at a time: 16 KB of ROWS rows, and all that an
                     AVX-512 block of the product is wide */
    CHUNKS = 16,  /* partial sums at most */
    LANE = 16
};

typedef void product(float *c, size_t ldc, const float *a, size_t stride_a, size_t stride_k,
                     const float *b, size_t ldb, int rows, int width, int depth);

static size_t weight_floats(const struct kern_lora_part *p)
{
    return size_align((size_t)p->rank * (size_t)p->out, LANE);
}

/* Scratch in floats. Forward: A and the parts' B turned; backward: for each chunk a dA and the
 * parts' dB, turned. Then the threads'. Grows with N. */
struct plan {
    size_t a, sums, chunks, thread, total;
};

static struct plan plan_scratch(const struct device *d, const struct kern_lora *l)
{
    struct plan p = {0};
    p.a = size_align((size_t)l->R * (size_t)l->I, LANE);
    p.sums = p.a;
    for (int32_t i = 0; i < l->num_parts; i++) p.sums += weight_floats(&l->parts[i]);
    p.chunks = (size_t)cpu_max(1, cpu_min(CHUNKS, cpu_blocks(l->N, ROWS)));
    p.thread = size_align(ROWS * size_max(WIDE, (size_t)l->R + 3 * COLUMNS), LANE);
    p.total = p.sums * p.chunks + p.thread * (size_t)d->threads;
    return p;
}

size_t cpu_lora_scratch(const struct device *d, const struct kern_lora *l)
{
    return plan_scratch(d, l).total * sizeof(float);
}

/* Ranks side by side in the stacked A, of one part or several: one product's worth. */
struct run {
    int32_t first, ranks;
};

/* The run from part *i on; *i becomes the part behind it. */
static struct run next_run(const struct kern_lora *l, int32_t *i)
{
    struct run run = {l->parts[*i].rank_first, 0};
    do run.ranks += l->parts[(*i)++].rank;
    while (*i < l->num_parts && l->parts[*i].rank_first == run.first + run.ranks);
    return run;
}

/* to [columns, rows] = scale from [rows, columns]^T */
static void turn(struct device *d, float *to, const float *from, int32_t rows, int32_t columns,
                 float scale)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t j = 0; j < columns; j++)
        for (size_t i = 0; i < (size_t)rows; i++)
            to[(size_t)j * rows + i] = scale * from[i * (size_t)columns + (size_t)j];
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

/* h of `rows` rows; at = A^T [I, R]. */
static void project(float *dropped, const float *at, const struct kern_lora *l, int32_t n0,
                    int32_t rows)
{
    const float *x = (const float *)l->x + (size_t)n0 * l->ldx;
    size_t R = (size_t)l->R;
    for (int32_t i = 0; l->dropout.p == 0 && i < l->num_parts;) {
        struct run run = next_run(l, &i);
        cpu_product_new(l->h + (size_t)n0 * R + run.first, R, x, (size_t)l->ldx, 1, at + run.first,
                        R, rows, run.ranks, l->I);
    }
    for (int32_t i = 0; l->dropout.p > 0 && i < l->num_parts; i++) {
        const struct kern_lora_part *part = &l->parts[i];
        for (int32_t i0 = 0; i0 < l->I; i0 += WIDE) {
            product *add = i0 ? cpu_product : cpu_product_new;
            int32_t depth = cpu_min(WIDE, l->I - i0);
            drop(dropped, WIDE, NULL, l, part->module, n0, rows, i0, depth);
            add(l->h + (size_t)n0 * R + part->rank_first, R, dropped, WIDE, 1,
                at + (size_t)i0 * R + part->rank_first, R, rows, part->rank, depth);
        }
    }
}

void cpu_lora_forward(struct device *d, void *y, const struct kern_lora *l, void *scratch)
{
    struct plan p = plan_scratch(d, l);
    float *at = scratch, *b = at + p.a, *threads = at + p.sums;
    turn(d, at, l->a, l->R, l->I, 1);
    for (int32_t i = 0; i < l->num_parts; i++) {
        const struct kern_lora_part *part = &l->parts[i];
        turn(d, b, part->b, part->out, part->rank, part->scale);
        b += weight_floats(part);
    }
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t block = 0; block < cpu_blocks(l->N, ROWS); block++) {
        int32_t n0 = block * ROWS, rows = cpu_min(ROWS, l->N - n0);
        const float *bt = (const float *)scratch + p.a;
        project(threads + p.thread * (size_t)omp_get_thread_num(), at, l, n0, rows);
        for (int32_t i = 0; i < l->num_parts; i++) {
            const struct kern_lora_part *part = &l->parts[i];
            cpu_product((float *)y + (size_t)n0 * l->ldy + part->first, (size_t)l->ldy,
                        l->h + (size_t)n0 * l->R + part->rank_first, (size_t)l->R, 1, bt,
                        (size_t)part->out, rows, part->out, part->rank);
            bt += weight_floats(part);
        }
    }
}

/* What a block of rows works with. `sums`: the chunk's; add: how the chunk's sums take this
 * block's, the first one starts them. */
struct backward {
    const struct kern_lora *l;
    float *dx, *sums;
    const float *dy;
    float *dh;    /* [ROWS, R] */
    float *tiles; /* three of [ROWS, COLUMNS] */
    int32_t lddx, n0, rows;
    product *add;
};

/* dh = scale dy B and dB += dy^T h (turned: h^T dy, unscaled) while columns of dy are in the
 * cache. */
static void read_dy(const struct backward *b, const struct kern_lora_part *part, float *db)
{
    const struct kern_lora *l = b->l;
    size_t R = (size_t)l->R, ldy = (size_t)l->ldy, out = (size_t)part->out;
    const float *dy = b->dy + (size_t)b->n0 * ldy + part->first;
    const float *h = l->h + (size_t)b->n0 * R + part->rank_first;
    float *dh = b->dh + part->rank_first;
    for (int32_t o = 0; o < part->out; o += WIDE) {
        int32_t wide = cpu_min(WIDE, part->out - o);
        cpu_product(dh, R, dy + o, ldy, 1, part->b + (size_t)o * part->rank, (size_t)part->rank,
                    b->rows, part->rank, wide);
        for (int32_t j = o; j < o + wide; j += COLUMNS)
            b->add(db + j, out, h, 1, R, dy + j, ldy, part->rank, cpu_min(COLUMNS, o + wide - j),
                   b->rows);
    }
    for (int32_t n = 0; n < b->rows; n++)
        for (int32_t r = 0; r < part->rank; r++) dh[(size_t)n * R + (size_t)r] *= part->scale;
}

/* dA += dh^T x and dx += dh A of a run under one mask (none). */
static void read_x(const struct backward *b, struct run run, product *add_dx)
{
    const struct kern_lora *l = b->l;
    size_t R = (size_t)l->R, I = (size_t)l->I, a_at = (size_t)run.first * I;
    const float *x = (const float *)l->x + (size_t)b->n0 * l->ldx, *dh = b->dh + run.first;
    for (int32_t i = 0; i < l->I; i += WIDE) {
        int32_t wide = cpu_min(WIDE, l->I - i);
        for (int32_t j = i; j < i + wide; j += COLUMNS)
            b->add(b->sums + a_at + j, I, dh, 1, R, x + j, (size_t)l->ldx, run.ranks,
                   cpu_min(COLUMNS, i + wide - j), b->rows);
        if (b->dx)
            add_dx(b->dx + (size_t)b->n0 * b->lddx + i, (size_t)b->lddx, dh, R, 1, l->a + a_at + i,
                   I, b->rows, wide, run.ranks);
    }
}

/* The same under the mask of one part; mask and masked x live in tiles. */
static void read_x_dropped(const struct backward *b, const struct kern_lora_part *part)
{
    const struct kern_lora *l = b->l;
    float *keep = b->tiles, *x = keep + ROWS * COLUMNS, *g = x + ROWS * COLUMNS;
    const float *dh = b->dh + part->rank_first;
    size_t R = (size_t)l->R, I = (size_t)l->I, a_at = (size_t)part->rank_first * I;
    for (int32_t i = 0; i < l->I; i += COLUMNS) {
        int32_t width = cpu_min(COLUMNS, l->I - i);
        drop(x, COLUMNS, keep, l, part->module, b->n0, b->rows, i, width);
        b->add(b->sums + a_at + i, I, dh, 1, R, x, COLUMNS, part->rank, width, b->rows);
        if (!b->dx) continue;
        cpu_product_new(g, COLUMNS, dh, R, 1, l->a + a_at + i, I, b->rows, width, part->rank);
        for (int32_t n = 0; n < b->rows; n++) {
            float *row = b->dx + (size_t)(b->n0 + n) * b->lddx + i;
#pragma omp simd
            for (int32_t j = 0; j < width; j++)
                row[j] += g[n * COLUMNS + j] * keep[n * COLUMNS + j];
        }
    }
}

static void backward_rows(const struct backward *b, int accumulate)
{
    const struct kern_lora *l = b->l;
    float *db = b->sums + size_align((size_t)l->R * (size_t)l->I, LANE);
    memset(b->dh, 0, (size_t)b->rows * (size_t)l->R * sizeof(float));
    for (int32_t i = 0; i < l->num_parts; i++) {
        read_dy(b, &l->parts[i], db);
        db += weight_floats(&l->parts[i]);
    }
    for (int32_t i = 0; l->dropout.p == 0 && i < l->num_parts;) {
        product *add_dx = i || accumulate ? cpu_product : cpu_product_new;
        read_x(b, next_run(l, &i), add_dx);
    }
    if (l->dropout.p == 0) return;
    if (b->dx && !accumulate)
        for (int32_t n = b->n0; n < b->n0 + b->rows; n++)
            memset(b->dx + (size_t)n * b->lddx, 0, (size_t)l->I * sizeof(float));
    for (int32_t i = 0; i < l->num_parts; i++) read_x_dropped(b, &l->parts[i]);
}

/* The first chunk's sums become those of all, `n` floats, added in order. */
static void join(struct device *d, float *sums, size_t stride, int32_t chunks, size_t n)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int64_t block = 0; block < (int64_t)((n + WIDE - 1) / WIDE); block++) {
        size_t first = (size_t)block * WIDE, end = size_min(n, first + WIDE);
        for (int32_t c = 1; c < chunks; c++) {
            const float *from = sums + (size_t)c * stride;
#pragma omp simd
            for (size_t i = first; i < end; i++) sums[i] += from[i];
        }
    }
}

static void add_gradients(struct device *d, float *da, const float *sums, const struct kern_lora *l)
{
    const float *db = sums + size_align((size_t)l->R * (size_t)l->I, LANE);
    for (int32_t i = 0; i < l->num_parts;) {
        struct run run = next_run(l, &i);
        size_t first = (size_t)run.first * l->I, end = first + (size_t)run.ranks * l->I;
#pragma omp parallel for simd num_threads(d->threads) schedule(static)
        for (size_t j = first; j < end; j++) da[j] += sums[j];
    }
    for (int32_t i = 0; i < l->num_parts; i++) {
        const struct kern_lora_part *part = &l->parts[i];
#pragma omp parallel for num_threads(d->threads) schedule(static)
        for (int32_t o = 0; o < part->out; o++)
            for (int32_t r = 0; r < part->rank; r++)
                part->db[(size_t)o * part->rank + r] += part->scale * db[(size_t)r * part->out + o];
        db += weight_floats(part);
    }
}

void cpu_lora_backward(struct device *d, void *dx, float *da, const void *dy,
                       const struct kern_lora *l, int32_t lddx, int accumulate, void *scratch)
{
    struct plan p = plan_scratch(d, l);
    float *sums = scratch, *threads = sums + p.sums * p.chunks;
    int32_t each = cpu_blocks(cpu_blocks(l->N, ROWS), (int32_t)p.chunks) * ROWS; /* rows a chunk */
    int32_t chunks = cpu_blocks(l->N, each);
    if (l->N == 0) return;
#pragma omp parallel for num_threads(d->threads) schedule(dynamic)
    for (int32_t chunk = 0; chunk < chunks; chunk++) {
        float *own = threads + p.thread * (size_t)omp_get_thread_num();
        struct backward b = {.l = l,
                             .dx = dx,
                             .sums = sums + (size_t)chunk * p.sums,
                             .dy = dy,
                             .dh = own,
                             .tiles = own + (size_t)ROWS * (size_t)l->R,
                             .lddx = lddx,
                             .add = cpu_product_new};
        int32_t end = cpu_min(l->N, (chunk + 1) * each);
        for (b.n0 = chunk * each; b.n0 < end; b.n0 += ROWS, b.add = cpu_product) {
            b.rows = cpu_min(ROWS, end - b.n0);
            backward_rows(&b, accumulate);
        }
    }
    join(d, sums, p.sums, chunks, p.sums);
    add_gradients(d, da, sums, l);
}

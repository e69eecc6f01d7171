/* lora.cu - low-rank updates of projections that share an input.
 *
 * Forward   for each part: h = drop(x) A^T;  y[:, its columns] += scale h B^T
 * Backward  dh = scale dy B;  dB += scale dy^T h;  dA += dh^T drop(x);  dx (+)= drop'(dh A)
 * x [N, I], A [R, I] stacked over the parts, B [out, rank], h [N, R]; y and dy have stride ldy.
 * All are products through gemm.h with bf16 operands and fp32 sums (DESIGN 3): A, B and h are cast
 * once a call, dh is rounded once. Parts whose ranks follow each other are one product with A, so
 * x is read once; with dropout each part has a mask, and x is dropped out for it, ROWS rows at a
 * time.
 * FLOPs: forward 2 N (R I + sum rank out), backward twice that.
 * Deterministic: gemm.h; masks are functions of key, document and position.
 */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/kernel.cuh"

enum { THREADS = 128, ROWS = 2048 };

/* --- dropout: 4 elements are the words of one counter --- */

struct mask {
    const struct rng_key *key;
    const int32_t *document, *position;
    uint32_t module, limit;
    float scale;
};

/* to[n] = keep x[n], or to[n] (+)= keep x[n]; grid (columns, rows). */
template <class T, bool ADD>
__global__ void __launch_bounds__(THREADS) drop_rows(T *to, const T *x, struct mask m, int32_t I,
                                                     int32_t ld_to, int32_t ldx, int accumulate)
{
    int32_t first = (int32_t)(blockIdx.x * THREADS + threadIdx.x) * 4;
    size_t n = blockIdx.y;
    if (first >= I) return;
    uint4 c = {(uint32_t)m.document[n], (uint32_t)m.position[n], (uint32_t)first / 4, m.module};
    uint4 random = random_words(*m.key, c);
    uint32_t word[4] = {random.x, random.y, random.z, random.w};
    UNROLL for (int i = 0; i < 4; i++)
    {
        if (first + i >= I) break;
        float keep = word[i] < m.limit ? 0 : m.scale;
        float value = keep * to_float(x[n * ldx + first + i]);
        T *at = to + n * ld_to + first + i;
        *at = from_float<T>(ADD && accumulate ? to_float(*at) + value : value);
    }
}

static struct mask mask_of(const struct kern_dropout *p, uint32_t module, int32_t row)
{
    struct mask m;
    m.key = p->key, m.document = p->document + row, m.position = p->position + row;
    m.module = module;
    m.limit = (uint32_t)((double)p->p * 4294967296.0); /* p < 1, so it fits */
    m.scale = 1 / (1 - p->p);
    return m;
}

/* --- scratch: what is cast, dh, and with dropout the masked x and its gradient --- */

template <class T> struct operands {
    T *a, *h, *dh, *x, *dx;
    T *b; /* of all parts, end to end */
};

static size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

static size_t rows_at_once(const struct kern_lora *l)
{
    return (size_t)(l->dropout.p > 0 && l->N > ROWS ? (int32_t)ROWS : l->N);
}

/* Places everything from `base`; returns the bytes. */
template <class T> static size_t place(struct operands<T> *o, char *base, const struct kern_lora *l)
{
    size_t at = 0, b = 0, rows = rows_at_once(l), I = (size_t)l->I;
    size_t nr = (size_t)l->N * (size_t)l->R, masked = l->dropout.p > 0 ? rows * I : 0;
    for (int32_t i = 0; i < l->num_parts; i++)
        b += (size_t)l->parts[i].out * (size_t)l->parts[i].rank;
    T **places[] = {&o->a, &o->b, &o->h, &o->dh, &o->x, &o->dx};
    size_t sizes[] = {(size_t)l->R * I, b, nr, nr, masked, masked};
    for (int i = 0; i < 6; i++) {
        *places[i] = (T *)(base + at);
        at += aligned(sizes[i] * sizeof(T));
    }
    return at;
}

size_t cuda_lora_scratch(const struct device *d, const struct kern_lora *l)
{
    size_t bytes = 0;
    WITH_TYPE(d, T, {
        struct operands<T> o;
        bytes = place(&o, NULL, l);
    });
    return bytes;
}

/* A and B in the device's type. */
template <class T>
static void cast_weights(struct device *d, struct operands<T> *o, const struct kern_lora *l)
{
    T *b = o->b;
    cuda_cast_from_float(d, o->a, l->a, (size_t)l->R * (size_t)l->I);
    for (int32_t i = 0; i < l->num_parts; i++) {
        size_t n = (size_t)l->parts[i].out * (size_t)l->parts[i].rank;
        cuda_cast_from_float(d, b, l->parts[i].b, n);
        b += n;
    }
}

/* --- runs: parts that share one product with A --- */

struct run {
    int32_t part, parts, rank_first, rank;
};

/* The run that begins at `part`; with dropout each part is one. */
static struct run run_at(const struct kern_lora *l, int32_t part)
{
    const struct kern_lora_part *p = &l->parts[part];
    struct run r = {part, 1, p->rank_first, p->rank};
    for (int32_t i = part + 1; !(l->dropout.p > 0) && i < l->num_parts; i++) {
        if (l->parts[i].rank_first != r.rank_first + r.rank) break;
        r.rank += l->parts[i].rank;
        r.parts++;
    }
    return r;
}

/* x of the run for `rows` rows from n0, dropped out where there is dropout; its stride in *ld. */
template <class T>
static const T *input(struct device *d, const struct operands<T> *o, const struct kern_lora *l,
                      const struct run &r, int32_t n0, int32_t rows, int32_t *ld)
{
    const T *x = (const T *)l->x + (size_t)n0 * l->ldx;
    *ld = l->ldx;
    if (!(l->dropout.p > 0)) return x;
    dim3 grid((unsigned)blocks_of(l->I, THREADS * 4), (unsigned)rows);
    launch(d, "lora dropout", drop_rows<T, false>, grid, THREADS, 0, o->x, x,
           mask_of(&l->dropout, l->parts[r.part].module, n0), l->I, l->I, l->ldx, 0);
    *ld = l->I;
    return o->x;
}

static struct gemm product(const struct device *d, int32_t M, int32_t N, int32_t K)
{
    struct gemm g = {};
    g.M = M, g.N = N, g.K = K;
    g.type = g.out = d->type;
    g.alpha = 1;
    return g;
}

template <class T>
static void forward(struct device *d, T *y, const struct kern_lora *l, char *base)
{
    struct operands<T> o;
    struct run r;
    int32_t each = (int32_t)rows_at_once(l);
    place(&o, base, l);
    cast_weights(d, &o, l);
    for (int32_t i = 0; i < l->num_parts; i += r.parts) {
        r = run_at(l, i);
        for (int32_t n0 = 0; n0 < l->N; n0 += each) {
            int32_t rows = l->N - n0 < each ? l->N - n0 : each;
            struct gemm g = product(d, rows, r.rank, l->I);
            g.out = DTYPE_F32;
            g.a = input(d, &o, l, r, n0, rows, &g.lda);
            g.b = o.a + (size_t)r.rank_first * l->I, g.ldb = l->I, g.turn_b = 1;
            g.c = l->h + (size_t)n0 * l->R + r.rank_first, g.ldc = l->R;
            gemm_run(d, &g);
        }
    }
    cuda_cast_from_float(d, o.h, l->h, (size_t)l->N * (size_t)l->R);
    for (int32_t i = 0; i < l->num_parts; i++) {
        const struct kern_lora_part *p = &l->parts[i];
        struct gemm g = product(d, l->N, p->out, p->rank);
        g.a = o.h + p->rank_first, g.lda = l->R;
        g.b = o.b, g.ldb = p->rank, g.turn_b = 1;
        g.c = y + p->first, g.c0 = g.c, g.ldc = g.ldc0 = l->ldy;
        g.alpha = p->scale, g.beta = 1;
        gemm_run(d, &g);
        o.b += (size_t)p->out * p->rank;
    }
}

void cuda_lora_forward(struct device *d, void *y, const struct kern_lora *l, void *scratch)
{
    if (l->N <= 0) return;
    WITH_TYPE(d, T, forward<T>(d, (T *)y, l, (char *)scratch));
}

/* dh of all parts, and their dB. */
template <class T>
static void gradients_of_b(struct device *d, const struct operands<T> *o, const T *dy,
                           const struct kern_lora *l)
{
    const T *b = o->b;
    cuda_cast_from_float(d, o->h, l->h, (size_t)l->N * (size_t)l->R);
    for (int32_t i = 0; i < l->num_parts; i++) {
        const struct kern_lora_part *p = &l->parts[i];
        struct gemm g = product(d, l->N, p->rank, p->out);
        g.a = dy + p->first, g.lda = l->ldy;
        g.b = b, g.ldb = p->rank;
        g.c = o->dh + p->rank_first, g.ldc = l->R;
        g.alpha = p->scale;
        gemm_run(d, &g);
        b += (size_t)p->out * p->rank;
        g = product(d, p->out, p->rank, l->N);
        g.out = DTYPE_F32;
        g.a = dy + p->first, g.lda = l->ldy, g.turn_a = 1;
        g.b = o->h + p->rank_first, g.ldb = l->R;
        g.c = p->db, g.c0 = p->db, g.ldc = g.ldc0 = p->rank;
        g.alpha = p->scale, g.beta = 1;
        gemm_run(d, &g);
    }
}

/* dx of `rows` rows from n0 (+)= drop'(dh A). */
template <class T>
static void gradient_of_x(struct device *d, T *dx, const struct operands<T> *o,
                          const struct kern_lora *l, const struct run &r, int32_t n0, int32_t rows,
                          int32_t lddx, int accumulate)
{
    int dropped = l->dropout.p > 0;
    T *to = dx + (size_t)n0 * lddx;
    struct gemm g = product(d, rows, l->I, r.rank);
    g.a = o->dh + (size_t)n0 * l->R + r.rank_first, g.lda = l->R;
    g.b = o->a + (size_t)r.rank_first * l->I, g.ldb = l->I;
    g.c = dropped ? o->dx : to, g.ldc = g.ldc0 = dropped ? l->I : lddx;
    if (!dropped && accumulate) g.c0 = g.c, g.beta = 1;
    gemm_run(d, &g);
    if (!dropped) return;
    dim3 grid((unsigned)blocks_of(l->I, THREADS * 4), (unsigned)rows);
    launch(d, "lora dropout", drop_rows<T, true>, grid, THREADS, 0, to, (const T *)o->dx,
           mask_of(&l->dropout, l->parts[r.part].module, n0), l->I, lddx, l->I, accumulate);
}

template <class T>
static void backward(struct device *d, T *dx, float *da, const T *dy, const struct kern_lora *l,
                     int32_t lddx, int accumulate, char *base)
{
    struct operands<T> o;
    struct run r;
    int32_t each = (int32_t)rows_at_once(l);
    place(&o, base, l);
    cast_weights(d, &o, l);
    gradients_of_b(d, &o, dy, l);
    for (int32_t i = 0; i < l->num_parts; i += r.parts) {
        r = run_at(l, i);
        for (int32_t n0 = 0; n0 < l->N; n0 += each) {
            int32_t rows = l->N - n0 < each ? l->N - n0 : each;
            struct gemm g = product(d, r.rank, l->I, rows);
            g.out = DTYPE_F32;
            g.a = o.dh + (size_t)n0 * l->R + r.rank_first, g.lda = l->R, g.turn_a = 1;
            g.b = input(d, &o, l, r, n0, rows, &g.ldb);
            g.c = da + (size_t)r.rank_first * l->I, g.c0 = g.c, g.ldc = g.ldc0 = l->I;
            g.beta = 1;
            gemm_run(d, &g);
            if (dx) gradient_of_x(d, dx, &o, l, r, n0, rows, lddx, accumulate || i > 0);
        }
    }
}

void cuda_lora_backward(struct device *d, void *dx, float *da, const void *dy,
                        const struct kern_lora *l, int32_t lddx, int accumulate, void *scratch)
{
    if (l->N <= 0) return;
    WITH_TYPE(d, T,
              backward<T>(d, (T *)dx, da, (const T *)dy, l, lddx, accumulate, (char *)scratch));
}

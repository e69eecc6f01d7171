/* attention_plain.cuh - what the plain forward and backward share: sizes, shared tiles.
 *
 * A block of 4 R threads owns R rows of one segment and one head: thread t row t/4 and columns
 * t%4, t%4 + 4, ... of what it sums up, NC of them at most. R rows of another operand at a time
 * pass through shared memory, all of it fp32, filled up with zeros to 4 NC columns; rows there are
 * 4 NC + 1 floats apart, so that a column of rows meets no bank twice.
 */
#ifndef CRIA_KERNELS_CUDA_ATTENTION_PLAIN_CUH
#define CRIA_KERNELS_CUDA_ATTENTION_PLAIN_CUH

#include "kernels/cuda/attention.cuh"

/* Sizes by D: columns a thread, and rows a tile: the backward's four tiles of D = 256 must fit
 * into the 99 KB of sm_89, and two sums of 64 columns into a thread's registers. */
template <int NC> struct plain {
    enum { R = NC > 32 ? 16 : 32, THREADS = 4 * R, STRIDE = 4 * NC + 1, TILE = R * STRIDE };
    enum {
        BLOCKS = NC > 16 ? 6 : 8
    }; /* of forward, on an SM: left alone, ptxas spills for a 7th */
};

static inline int plain_rows(int32_t D) { return D > 128 ? 16 : 32; }

/* Whether heads fit; else the error is noted. */
static inline int plain_fits(struct device *d, const struct kern_attention *a)
{
    if (a->D > 256) cuda_note(d, cudaErrorNotSupported, "attention over heads of more than 256");
    return a->D <= 256;
}

/* Calls with NC, the columns a thread, for head size D. */
#define WITH_COLUMNS(D, NC, ...) \
    do {                         \
        if ((D) <= 64) {         \
            enum { NC = 16 };    \
            __VA_ARGS__;         \
        } else if ((D) <= 128) { \
            enum { NC = 32 };    \
            __VA_ARGS__;         \
        } else {                 \
            enum { NC = 64 };    \
            __VA_ARGS__;         \
        }                        \
    } while (0)

/* to [R, 4 NC] = scale from [rows, D], zeros beside and below. All threads of the block. */
template <int NC, class T>
DEVICE void load_rows(float *to, const T *from, size_t ld, int32_t rows, int32_t D, float scale)
{
    typedef plain<NC> p;
    int32_t row = (int32_t)threadIdx.x / WARP_SIZE, lane = (int32_t)threadIdx.x % WARP_SIZE;
    for (; row < p::R; row += p::THREADS / WARP_SIZE)
        for (int32_t c = lane; c < 4 * NC; c += WARP_SIZE)
            to[row * p::STRIDE + c] =
                row < rows && c < D ? scale * to_float(from[(size_t)row * ld + c]) : 0;
}

/* out[i] = x . row part + 4 i of y: one row against every fourth of R rows. */
template <int NC>
DEVICE void inner_products(float (&out)[plain<NC>::R / 4], const float *x, const float *y,
                           int32_t D, int32_t part)
{
    typedef plain<NC> p;
    const float *mine = y + part * p::STRIDE;
    UNROLL for (int i = 0; i < p::R / 4; i++) out[i] = 0;
    UNROLL_4 for (int32_t c = 0; c < D; c++) UNROLL for (int i = 0; i < p::R / 4; i++) out[i] +=
        x[c] * mine[4 * i * p::STRIDE + c];
}

/* Stands for the weight of a pair that the mask hides, whose row add_rows leaves out: times 0 a NaN
 * in it would be one still. The compare is one instruction a row of 2 NC. */
DEVICE float hidden_weight() { return float_of_bits(0x7fc1deadu); }
DEVICE int is_hidden(float w) { return bits_of_float(w) == bits_of_float(hidden_weight()); }

/* sum[i] += w . column part + 4 i of y [R, 4 NC] */
template <int NC>
DEVICE void add_rows(float (&sum)[NC], const float *w, const float *y, int32_t part)
{
    typedef plain<NC> p;
    UNROLL_4 for (int j = 0; j < p::R; j++)
    {
        float weight = w[j];
        if (is_hidden(weight)) continue;
        UNROLL for (int i = 0; i < NC; i++) sum[i] += weight * y[j * p::STRIDE + part + 4 * i];
    }
}

/* The four lanes that share a row. */
DEVICE float row_sum(float v)
{
    v += __shfl_xor_sync(ALL_LANES, v, 1);
    return v + __shfl_xor_sync(ALL_LANES, v, 2);
}

DEVICE float row_max(float v)
{
    v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
    return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}

#endif

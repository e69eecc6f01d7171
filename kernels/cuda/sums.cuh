/* sums.cuh - column sums in two stages, and in an order fixed by the shapes.
 *
 * Whoever sums down the rows of a matrix writes one partial row a block, [parts, columns] fp32;
 * add_parts then adds the parts to the result. 8 parts are summed beside each other, each over
 * every eighth part in order, then those 8 in order: enough loads under way to run at speed.
 */
#ifndef CRIA_KERNELS_CUDA_SUMS_CUH
#define CRIA_KERNELS_CUDA_SUMS_CUH

#include "kernels/cuda/kernel.cuh"

enum { SUMS_COLUMNS = 32, SUMS_BESIDE = 8 };

/* to[c] += sum over parts of parts[p][c] */
static __global__ void __launch_bounds__(SUMS_COLUMNS *SUMS_BESIDE)
    add_parts(float *to, const float *parts, int32_t num_parts, int32_t columns)
{
    SHARED(float, beside, [SUMS_BESIDE][SUMS_COLUMNS]);
    int32_t x = (int32_t)threadIdx.x % SUMS_COLUMNS, y = (int32_t)threadIdx.x / SUMS_COLUMNS;
    int32_t c = (int32_t)blockIdx.x * SUMS_COLUMNS + x;
    float sum = 0;
    if (c < columns)
        for (int32_t p = y; p < num_parts; p += SUMS_BESIDE) sum += parts[(size_t)p * columns + c];
    beside[y][x] = sum;
    __syncthreads();
    if (y || c >= columns) return;
    for (int i = 1; i < SUMS_BESIDE; i++) sum += beside[i][x];
    to[c] += sum;
}

static inline void launch_add_parts(struct device *d, float *to, const float *parts,
                                    int32_t num_parts, int32_t columns)
{
    launch(d, "column sums", add_parts, (unsigned)blocks_of(columns, SUMS_COLUMNS),
           SUMS_COLUMNS * SUMS_BESIDE, 0, to, parts, num_parts, columns);
}

#endif

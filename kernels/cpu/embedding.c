/* embedding.c - out[n] = table[ids[n]];  dtable[ids[n]] += dout[n].
 *
 * table [V, C], out and dout [N, C]. Bytes: 2 N C floats forward, 3 N C backward; no arithmetic
 * but N C additions. Deterministic: the backward's threads own columns, and each walks the rows
 * in order, so an id that recurs is summed in row order. Negative ids have no row in dtable.
 */
#include "kernels/cpu/cpu.h"

void cpu_embedding_forward(struct device *d, void *out, const void *table, const int32_t *ids,
                           int32_t N, int32_t C)
{
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t n = 0; n < N; n++)
        memcpy((float *)out + (size_t)n * C, (const float *)table + (size_t)ids[n] * C,
               (size_t)C * sizeof(float));
}

enum { COLUMNS = 64 }; /* a thread's share: four cache lines */

void cpu_embedding_backward(struct device *d, float *dtable, const void *dout, const int32_t *ids,
                            int32_t N, int32_t C)
{
    const float *g = dout;
#pragma omp parallel for num_threads(d->threads) schedule(static)
    for (int32_t block = 0; block < cpu_blocks(C, COLUMNS); block++) {
        int32_t c0 = block * COLUMNS, c1 = cpu_min(c0 + COLUMNS, C);
        for (int32_t n = 0; n < N; n++) {
            if (ids[n] < 0) continue;
            float *to = dtable + (size_t)ids[n] * C;
            const float *from = g + (size_t)n * C;
#pragma omp simd
            for (int32_t c = c0; c < c1; c++) to[c] += from[c];
        }
    }
}

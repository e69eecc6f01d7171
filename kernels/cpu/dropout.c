/* dropout.c - which elements are kept, from the key alone.
 *
 * Element (row, column) of a module: counter (document, position, column/4, module), word
 * column % 4 of Philox; dropped when the word is below p 2^32, else scaled by 1/(1-p).
 * Nothing is stored: backward draws again. About 20 FLOP-equivalents an element.
 * Deterministic: a function of key, document and position; packing and threads do not show.
 */
#include "kernels/cpu/cpu.h"

void cpu_dropout_row(float *keep, const struct kern_dropout *d, uint32_t module, int32_t row,
                     int32_t first, int32_t n)
{
    uint64_t limit = (uint64_t)((double)d->p * 4294967296.0);
    float scale = 1 / (1 - d->p);
    uint32_t counter[4] = {(uint32_t)d->document[row], (uint32_t)d->position[row], 0, module};
    for (int32_t j = 0; j < n; j += 4) {
        uint32_t word[4];
        counter[2] = (uint32_t)(first + j) / 4;
        rng_words(d->key, counter, word);
        for (int32_t i = 0; i < cpu_min(4, n - j); i++) keep[j + i] = word[i] < limit ? 0 : scale;
    }
}

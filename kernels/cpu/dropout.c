/* dropout.c - which elements are kept, from the key alone.
 *
 * Element (row, column) of a module: counter (document, position, column/4, module), word
 * column % 4 of Philox4x32-10; dropped when the word is below p 2^32, else scaled by 1/(1-p).
 * Nothing is stored: backward draws again. 25 integer operations an element, 16 counters at a
 * time along vector lanes (base/rng.h's rng_words one by one is five times slower; tests/ops
 * holds them equal).
 * Deterministic: a function of key, document and position; packing and threads do not show.
 */
#include "kernels/cpu/cpu.h"

enum { LANES = 16 };

/* to[4 l + i] = word i of counter (a, b, first + l, module). */
CPU_INLINE void words_any(uint32_t *to, struct rng_key key, uint32_t a, uint32_t b, uint32_t first,
                          uint32_t module)
{
#pragma omp simd
    for (uint32_t l = 0; l < LANES; l++) {
        uint32_t c0 = a, c1 = b, c2 = first + l, c3 = module, k0 = key.word[0], k1 = key.word[1];
        for (int round = 0; round < 10; round++) {
            uint64_t u = (uint64_t)0xD2511F53u * c0, v = (uint64_t)0xCD9E8D57u * c2;
            c0 = (uint32_t)(v >> 32) ^ c1 ^ k0;
            c1 = (uint32_t)v;
            c2 = (uint32_t)(u >> 32) ^ c3 ^ k1;
            c3 = (uint32_t)u;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        to[4 * l] = c0, to[4 * l + 1] = c1, to[4 * l + 2] = c2, to[4 * l + 3] = c3;
    }
}
CPU_LEVELS(void, words,
           (uint32_t * to, struct rng_key key, uint32_t a, uint32_t b, uint32_t first,
            uint32_t module),
           (to, key, a, b, first, module))

CPU_INLINE void choose_any(float *keep, const uint32_t *word, int32_t n, uint32_t limit,
                           float scale)
{
#pragma omp simd
    for (int32_t j = 0; j < n; j++) keep[j] = word[j] < limit ? 0.f : scale;
}
CPU_LEVELS(void, choose,
           (float *keep, const uint32_t *word, int32_t n, uint32_t limit, float scale),
           (keep, word, n, limit, scale))

void cpu_dropout_row(float *keep, const struct kern_dropout *d, uint32_t module, int32_t row,
                     int32_t first, int32_t n)
{
    uint32_t limit = (uint32_t)((double)d->p * 4294967296.0); /* p < 1, so it fits */
    for (int32_t j = 0; j < n; j += 4 * LANES) {
        uint32_t word[4 * LANES];
        words(word, *d->key, (uint32_t)d->document[row], (uint32_t)d->position[row],
              (uint32_t)(first + j) / 4, module);
        choose(keep + j, word, cpu_min(4 * LANES, n - j), limit, 1 / (1 - d->p));
    }
}

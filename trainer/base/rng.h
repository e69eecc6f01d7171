/* rng.h - random numbers without a state: a value is a function of its key.
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC11). The key names what the number is for; the counter says which one. So
 * dropout does not depend on packing, micro-batching, ranks or threads, and
 * nothing needs saving for a resumed run to continue bit for bit.
 *
 * mt19937 is here for one purpose: the order of the data equals that of
 * torch.randperm (SEMANTICS H).
 */
#ifndef CRIA_BASE_RNG_H
#define CRIA_BASE_RNG_H

#include <stdint.h>

/* What random numbers are drawn for; part of the key, so streams never meet. */
enum rng_stream { RNG_INIT, RNG_DROPOUT, RNG_SAMPLE, RNG_SPLIT, RNG_ROUND, RNG_MIX };

struct rng_key {
    uint32_t word[2];
};

/* The key of `stream` under `seed`, narrowed by `sub` (a step, a parameter, a module). */
struct rng_key rng_key(uint64_t seed, enum rng_stream stream, uint64_t sub);

/* Four 32-bit words: Philox4x32-10 of counter (c0, c1, c2, c3) under the key. */
void rng_words(struct rng_key key, const uint32_t counter[4], uint32_t out[4]);

/* u in [0, 1) with 24 bits: word / 2^32 cut to a float. */
static inline float rng_unit(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

/* out[i] ~ U[low, high) or N(mean, std), i < n; element i depends on (key, i) alone. */
void rng_fill_uniform(struct rng_key key, float *out, int64_t n, float low, float high);
void rng_fill_normal(struct rng_key key, float *out, int64_t n, float mean, float std);

struct mt19937 {
    uint32_t state[624];
    int at;
};

void mt19937_seed(struct mt19937 *m, uint32_t seed);
uint32_t mt19937_next(struct mt19937 *m);

/* The permutation torch.randperm(n) gives on the CPU after manual_seed(seed). */
void rng_torch_permutation(uint64_t seed, int64_t n, int64_t *out);

#endif

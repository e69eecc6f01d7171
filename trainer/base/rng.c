#include "base/rng.h"

#include <math.h>

static uint64_t
mix(uint64_t x) /* splitmix64's finaliser: every input bit reaches every output bit */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

struct rng_key rng_key(uint64_t seed, enum rng_stream stream, uint64_t sub)
{
    uint64_t k = mix(mix(seed + ((uint64_t)stream << 56)) ^ sub);
    return (struct rng_key){{(uint32_t)k, (uint32_t)(k >> 32)}};
}

void rng_words(struct rng_key key, const uint32_t counter[4], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key.word[0], k1 = key.word[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static void words_at(struct rng_key key, int64_t block, uint32_t out[4])
{
    uint32_t counter[4] = {(uint32_t)block, (uint32_t)((uint64_t)block >> 32), 0, 0};
    rng_words(key, counter, out);
}

void rng_fill_uniform(struct rng_key key, float *out, int64_t n, float low, float high)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t w[4];
        words_at(key, i / 4, w);
        for (int j = 0; j < 4 && i + j < n; j++) out[i + j] = low + (high - low) * rng_unit(w[j]);
    }
}

void rng_fill_normal(struct rng_key key, float *out, int64_t n, float mean, float std)
{
    for (int64_t i = 0; i < n; i += 4) {
        uint32_t w[4];
        words_at(key, i / 4, w);
        for (int j = 0; j < 4 && i + j < n; j++) { /* Box-Muller; 1-u keeps the log finite */
            double radius = sqrt(-2 * log(1 - rng_unit(w[j & 2])));
            double angle = 2 * 3.14159265358979323846 * rng_unit(w[(j & 2) + 1]);
            out[i + j] = (float)(mean + std * radius * (j & 1 ? sin(angle) : cos(angle)));
        }
    }
}

void mt19937_seed(struct mt19937 *m, uint32_t seed)
{
    m->state[0] = seed;
    for (uint32_t i = 1; i < 624; i++)
        m->state[i] = 1812433253u * (m->state[i - 1] ^ (m->state[i - 1] >> 30)) + i;
    m->at = 624;
}

static void twist(struct mt19937 *m)
{
    uint32_t *s = m->state;
    for (int i = 0; i < 624; i++) {
        uint32_t y = (s[i] & 0x80000000u) | (s[(i + 1) % 624] & 0x7fffffffu);
        s[i] = s[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
    }
    m->at = 0;
}

uint32_t mt19937_next(struct mt19937 *m)
{
    if (m->at == 624) twist(m);
    uint32_t y = m->state[m->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

void rng_torch_permutation(uint64_t seed, int64_t n, int64_t *out)
{
    struct mt19937 m;
    mt19937_seed(&m, (uint32_t)seed);
    for (int64_t i = 0; i < n; i++) out[i] = i;
    for (int64_t i = 0; i + 1 < n; i++) {
        int64_t j = i + (int64_t)(mt19937_next(&m) % (uint64_t)(n - i)), t = out[i];
        out[i] = out[j];
        out[j] = t;
    }
}

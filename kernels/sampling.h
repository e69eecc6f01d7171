/* sampling.h - the arithmetic of drawing the next token, the same bits on every machine.
 *
 * A logit's weight e^((z - top) / temperature) is a whole number, in units of 2^-31 of the largest
 * one's: sums of weights are exact, so it does not matter in which order, or by how many threads,
 * they are added. A weight comes from one subtraction and one product in fp32, which every machine
 * rounds alike and none can contract, and from integers. Below 2^-31 it is 0, and such a token is
 * never drawn.
 *
 * Order: larger logits first, and of equal ones (0 and -0 are) the smaller id. With a temperature
 *   the first top_k stay (0: all); total is the sum of their weights
 *   of these the fewest first ones stay whose weights reach sampling_share(top_p, total)
 *   of these, by id, the first is drawn at which the running sum of weights is above
 *   sampling_target(their sum, word)
 * sampler.c does so by sorting, cuda/sample.cu by looking for the key at which the cut lies.
 */
#ifndef CRIA_KERNELS_SAMPLING_H
#define CRIA_KERNELS_SAMPLING_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define SAMPLING static __host__ __device__ __forceinline__
#else
#define SAMPLING static inline
#endif

/* Grows with the logit. Not for NaN. */
SAMPLING uint32_t sampling_key(float z)
{
    uint32_t bits;
    if (z == 0) z = 0; /* -0 */
    memcpy(&bits, &z, sizeof bits);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* The logit of a key. */
SAMPLING float sampling_logit(uint32_t key)
{
    uint32_t bits = key >> 31 ? key & 0x7fffffffu : ~key;
    float z;
    memcpy(&z, &bits, sizeof z);
    return z;
}

/* 2^31 e^((z - top) / temperature), rounded down, with scale = log2(e) / temperature. 2^-r by its
 * series in ln 2, to nine terms: off by 1e-7 at most, and 2^31 at r = 0. */
SAMPLING uint32_t sampling_weight(float z, float top, float scale)
{
    const uint32_t term[] = {2147483648u, 1488522236u, 515882496u, 119194166u, 20654775u,
                             2863360u,    330788u,     32755u,     2838u};
    float down = z == top ? 0 : (top - z) * scale;
    if (!(down < 32)) return 0;
    uint32_t fixed = (uint32_t)(down * 134217728.0f), r = fixed << 5; /* of 2^27, of 2^32 */
    uint32_t power = term[8];
    for (int i = 7; i >= 0; i--) power = term[i] - (uint32_t)((uint64_t)power * r >> 32);
    return power >> (fixed >> 27);
}

/* The sum that weights have to reach: of 1 to `total`. */
SAMPLING uint64_t sampling_share(double top_p, uint64_t total)
{
    double wanted = top_p * (double)total;
    uint64_t share = (uint64_t)wanted;
    if ((double)share < wanted) share++;
    if (share < 1) share = 1;
    return share < total ? share : total;
}

/* floor(total * word / 2^32) */
SAMPLING uint64_t sampling_target(uint64_t total, uint32_t word)
{
    return (total >> 32) * word + ((total & 0xffffffffu) * word >> 32);
}

#endif

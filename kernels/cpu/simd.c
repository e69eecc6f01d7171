#include "kernels/cpu/simd.h"

#include <stdlib.h>
#include <string.h>

enum simd cpu_simd = SIMD_PORTABLE;

static const char *const names[NUM_SIMD] = {"portable", "avx2", "avx512"};

const char *cpu_simd_name(enum simd level) { return names[level]; }

int cpu_simd_has(enum simd level)
{
#ifdef __x86_64__
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (level == SIMD_AVX2) return avx2;
    if (level == SIMD_AVX512)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    return level == SIMD_PORTABLE;
}

enum status cpu_simd_choose(struct err *e)
{
    const char *wish = getenv("CRIA_SIMD");
    int level = NUM_SIMD - 1;
    if (wish && *wish) {
        while (level >= 0 && strcmp(names[level], wish) != 0) level--;
        if (level < 0 || !cpu_simd_has(level)) {
            err_set(e, ERR_CONFIG, "CRIA_SIMD=%s: %s", wish,
                    level < 0 ? "there is no such level" : "this machine has not got it");
            return err_hint(e, "use portable, avx2 or avx512, or unset it for the best there is");
        }
    }
    while (!cpu_simd_has(level)) level--;
    cpu_simd = level;
    return OK;
}

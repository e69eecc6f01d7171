#include "run/precision.h"

#include <stdio.h>

#if defined(__x86_64__)
#include <cpuid.h>

const char *precision_bf16_unit(void)
{
    const unsigned amx = 1u << 22, avx512 = 1u << 5; /* CPUID leaf 7: EDX of 0, EAX of 1 */
    unsigned a, b, c, d;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && d & amx) return "AMX";
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && a & avx512) return "AVX512-BF16";
    return NULL;
}
#else
const char *precision_bf16_unit(void) { return NULL; }
#endif

static const char *const names[] = {
    [DTYPE_F32] = "fp32", [DTYPE_BF16] = "bf16", [DTYPE_F16] = "fp16"};

const char *precision_device(const struct config *c)
{
    static const char *const device_names[] = {[CONFIG_DEVICE_AUTO] = "auto",
                                               [CONFIG_DEVICE_CPU] = "cpu",
                                               [CONFIG_DEVICE_NULL] = "null",
                                               [CONFIG_DEVICE_CUDA] = "cuda"};
    return device_names[c->device];
}

struct precision precision_choose(const struct config *c, enum dtype device)
{
    struct precision p = {.name = names[device]};
    const char *unit = precision_bf16_unit();
    if (device == DTYPE_BF16) return p;
    if (!c->master_weights)
        snprintf(p.note, sizeof p.note,
                 "master_weights: false was asked for; weights of %s are their own masters",
                 p.name);
    if (c->precision != CONFIG_PRECISION_BF16) return p;
    if (unit)
        snprintf(p.note, sizeof p.note,
                 "precision: bf16 was asked for; this processor has %s, but this version computes "
                 "in %s on the CPU: %s is used",
                 unit, p.name, p.name);
    else
        snprintf(p.note, sizeof p.note,
                 "precision: bf16 was asked for; this processor has no bf16 products (neither AMX "
                 "nor AVX512-BF16), so they would be slower than %s: %s is used",
                 p.name, p.name);
    return p;
}

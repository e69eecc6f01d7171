#include "ckpt/file_type.h"

#include <string.h>

static const struct {
    const char *name;
    size_t size;
} types[] = {
#define X(name, bytes) {#name, bytes},
    FILE_TYPE_TABLE(X)
#undef X
};

const char *file_type_name(enum file_type t) { return types[t].name; }
size_t file_type_size(enum file_type t) { return types[t].size; }

enum file_type file_type_find(const char *name)
{
    int t = 0;
    while (t < FILE_TYPES && strcmp(types[t].name, name)) t++;
    return (enum file_type)t;
}

int file_type_is_real(enum file_type t)
{
    return t == FILE_F64 || t == FILE_F32 || t == FILE_BF16 || t == FILE_F16;
}

/* The bits of a value, and the value of bits. memcpy is how C says this; it costs nothing. */
static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static float from_bf16(uint16_t h) { return float_of((uint32_t)h << 16); }

static uint16_t to_bf16(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40); /* stays a NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Exponent and fraction moved into place stand 2^112 too low, denormals included, so one exact
 * product puts all of them right; what was infinity or NaN gets its exponent back. */
static float from_f16(uint16_t h)
{
    uint32_t u = bits_of(float_of((uint32_t)(h & 0x7fff) << 13) * 0x1p112f);
    if ((h & 0x7c00) == 0x7c00) u |= 0x7f800000;
    return float_of(u | (uint32_t)(h & 0x8000) << 16);
}

static uint16_t to_f16(float f)
{
    uint32_t u = bits_of(f), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x47800000) return (uint16_t)(sign | 0x7c00); /* 65536 and more */
    if (a < 0x38800000) { /* below 2^-14: adding 1/2 shifts and rounds in one */
        uint32_t d = bits_of(float_of(a) + 0.5f) - bits_of(0.5f);
        return (uint16_t)(sign | d);
    }
    a += 0xfff + (a >> 13 & 1); /* may carry into the exponent, up to infinity: as it should */
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}

#define TO_FLOAT(name, type, convert)                                   \
    static void name##_to_float(float *out, const char *from, size_t n) \
    {                                                                   \
        for (size_t i = 0; i < n; i++) {                                \
            type v;                                                     \
            memcpy(&v, from + i * sizeof v, sizeof v);                  \
            out[i] = convert(v);                                        \
        }                                                               \
    }
#define FROM_FLOAT(name, type, convert)                                   \
    static void name##_from_float(char *out, const float *from, size_t n) \
    {                                                                     \
        for (size_t i = 0; i < n; i++) {                                  \
            type v = convert(from[i]);                                    \
            memcpy(out + i * sizeof v, &v, sizeof v);                     \
        }                                                                 \
    }
TO_FLOAT(f64, double, (float))
FROM_FLOAT(f64, double, (double))
TO_FLOAT(bf16, uint16_t, from_bf16)
FROM_FLOAT(bf16, uint16_t, to_bf16)
TO_FLOAT(f16, uint16_t, from_f16)
FROM_FLOAT(f16, uint16_t, to_f16)

void file_type_to_float(enum file_type t, float *out, const void *from, size_t n)
{
    if (t == FILE_F32) memmove(out, from, n * sizeof *out);
    if (t == FILE_F64) f64_to_float(out, from, n);
    if (t == FILE_BF16) bf16_to_float(out, from, n);
    if (t == FILE_F16) f16_to_float(out, from, n);
}

void file_type_from_float(enum file_type t, void *out, const float *from, size_t n)
{
    if (t == FILE_F32) memmove(out, from, n * sizeof *from);
    if (t == FILE_F64) f64_from_float(out, from, n);
    if (t == FILE_BF16) bf16_from_float(out, from, n);
    if (t == FILE_F16) f16_from_float(out, from, n);
}

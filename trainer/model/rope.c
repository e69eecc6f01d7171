#include "model/rope.h"

#include <math.h>

/* Llama 3: long wavelengths are stretched by `factor`, short ones kept, those between blended. */
static float llama3_scaled(const struct rope_config *r, float f)
{
    float wavelength = 2 * (float)M_PI / f;
    float low = (float)((double)r->original_positions / r->low_freq);
    float high = (float)((double)r->original_positions / r->high_freq);
    if (wavelength < high) return f;
    if (wavelength > low) return f / (float)r->factor;
    float smooth = ((float)r->original_positions / wavelength - (float)r->low_freq) /
                   (float)(r->high_freq - r->low_freq);
    return (1 - smooth) * f / (float)r->factor + smooth * f;
}

void rope_frequencies(const struct model_config *c, float *freq)
{
    for (int32_t j = 0; j < c->head_dim / 2; j++) {
        float exponent = (float)(2 * j) / (float)c->head_dim;
        float f = 1.0f / (float)pow(c->rope.theta, exponent);
        switch (c->rope.kind) {
        case ROPE_DEFAULT: break;
        case ROPE_LINEAR: f /= (float)c->rope.factor; break;
        case ROPE_LLAMA3: f = llama3_scaled(&c->rope, f); break;
        }
        freq[j] = f;
    }
}

void rope_fill_table(const struct model_config *c, int32_t positions, const float *freq,
                     float *table)
{
    int32_t half = c->head_dim / 2;
    for (int32_t p = 0; p < positions; p++) {
        float *row = table + (size_t)p * (size_t)c->head_dim;
        for (int32_t j = 0; j < half; j++) {
            float angle = (float)p * freq[j];
            row[j] = cosf(angle);
            row[half + j] = sinf(angle);
        }
    }
}

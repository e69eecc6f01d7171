/* precision.h - where a run computes and in which type, and why that is not what was asked for. */
#ifndef CRIA_RUN_PRECISION_H
#define CRIA_RUN_PRECISION_H

#include "config/config.h"
#include "kernels/kernels.h"

struct precision {
    const char *name; /* of weights and activations, as the key precision spells it: "fp32" */
    char note[256];   /* empty: it is the one asked for */
};

/* The key device as the engine takes it: "auto", "cpu", "null", "cuda". */
const char *precision_device(const struct config *c);

/* What config asks for on a device of this type. */
struct precision precision_choose(const struct config *c, enum dtype device);

/* The unit by which this processor multiplies bf16: "AMX", "AVX512-BF16"; NULL: it has none. */
const char *precision_bf16_unit(void);

#endif

/* precision.h - the type a run computes in, and why it is not another one that was asked for. */
#ifndef CRIA_RUN_PRECISION_H
#define CRIA_RUN_PRECISION_H

#include "config/config.h"
#include "kernels/kernels.h"

struct precision {
    const char *name; /* of weights and activations, as the key precision spells it: "fp32" */
    char note[256];   /* empty: it is the one asked for */
};

/* What config asks for on a device of this type. */
struct precision precision_choose(const struct config *c, enum dtype device);

/* The unit by which this processor multiplies bf16: "AMX", "AVX512-BF16"; NULL: it has none. */
const char *precision_bf16_unit(void);

#endif

/* rope.h - the angles of rotary position embedding, scaled as config.json says. */
#ifndef CRIA_MODEL_ROPE_H
#define CRIA_MODEL_ROPE_H

#include "model/hf_config.h"

/* freq[j], j < head_dim/2: theta^(-2j/d) under the config's scaling (SEMANTICS D), fp32 throughout
 * as in transformers. */
void rope_frequencies(const struct model_config *c, float *freq);

/* table [positions, head_dim]: cos(p f_j) then sin(p f_j) a row, as kernels.h wants it. */
void rope_fill_table(const struct model_config *c, int32_t positions, const float *freq,
                     float *table);

#endif

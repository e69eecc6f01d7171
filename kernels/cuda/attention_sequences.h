/* attention_sequences.h - segments as cuDNN wants them (attention_sequences.cu). */
#ifndef CRIA_KERNELS_CUDA_ATTENTION_SEQUENCES_H
#define CRIA_KERNELS_CUDA_ATTENTION_SEQUENCES_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SEQUENCE_ARRAYS = 8 };

struct sequence_strides {
    int32_t arrays, ld[SEQUENCE_ARRAYS];
};

/* lengths [count], offsets [strides->arrays, count + 1]: of a's segments, at most `count`. */
void cuda_list_sequences(struct device *d, int32_t *lengths, int64_t *offsets, int32_t count,
                         const struct kern_attention *a, const struct sequence_strides *strides);

#ifdef __cplusplus
}
#endif

#endif

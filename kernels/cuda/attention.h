/* attention.h - which engine ATTENTION_AUTO takes: rules over shapes, as a device measured them. */
#ifndef CRIA_KERNELS_CUDA_ATTENTION_H
#define CRIA_KERNELS_CUDA_ATTENTION_H

#include "kernels/kernels.h"

/* A row of the table that tools/attention-rules makes of results of tools/gpu-check. It takes calls
 * on a device of this capability (90: sm_90; 0: any), over heads of D (0: any) and
 * segments that have `length` rows or more on average. */
struct attention_rule {
    int capability;
    int32_t D, length;
    enum attention_engine engine;
};

/* The engine of the first rule that takes the call; the last one must take all. */
enum attention_engine attention_pick(const struct attention_rule *rules, int capability,
                                     const struct kern_attention *a);

#endif

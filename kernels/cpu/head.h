/* head.h - what the head's two forms share: head.c, which can take the weight's gradient along, and
 * head_stream.c, which is faster where that is not wanted. */
#ifndef CRIA_KERNELS_CPU_HEAD_H
#define CRIA_KERNELS_CPU_HEAD_H

#include "kernels/kernels.h"

/* xs [rows, C] = scale[i] x[row[s0 + i]]; scale NULL: 1. */
void cpu_head_gather(struct device *d, float *xs, const struct kern_head *h, int32_t s0,
                     int32_t rows, const float *scale);

void cpu_head_stream(struct device *d, const struct kern_head *h, void *scratch);
size_t cpu_head_stream_scratch(const struct kern_head *h);
struct kern_head_cut cpu_head_stream_cut(const struct kern_head *h);

#endif

/* attention_sequences.cu - segments as cuDNN wants them: where each begins, how long it is.
 *
 * lengths [count] int32 rows; offsets [arrays, count + 1] int64: elements from a matrix's address
 * to the segment's first row, for each row stride. Segments that there are not have no rows, and
 * lie behind the last one. 4 + 8 arrays bytes a segment; a thread a segment.
 */
#include "kernels/cuda/attention_sequences.h"
#include "kernels/cuda/kernel.cuh"

enum { SEQUENCE_THREADS = 128 };

static __global__ void __launch_bounds__(SEQUENCE_THREADS)
    list_sequences(int32_t *lengths, int64_t *offsets, int32_t count,
                   const struct segment *segments, int32_t num_segments,
                   struct sequence_strides strides)
{
    int32_t i = (int32_t)(blockIdx.x * SEQUENCE_THREADS + threadIdx.x);
    int there = i < num_segments;
    if (i > count) return;
    struct segment s = segments[there ? i : num_segments - 1];
    int64_t row = there ? s.start : s.start + s.length;
    if (i < count) lengths[i] = there ? s.length : 0;
    UNROLL for (int a = 0; a < SEQUENCE_ARRAYS; a++) if (a < strides.arrays)
        offsets[(size_t)a * (size_t)(count + 1) + (size_t)i] = row * strides.ld[a];
}

void cuda_list_sequences(struct device *d, int32_t *lengths, int64_t *offsets, int32_t count,
                         const struct kern_attention *a, const struct sequence_strides *strides)
{
    launch(d, "attention sequences", list_sequences,
           (unsigned)blocks_of(count + 1, SEQUENCE_THREADS), SEQUENCE_THREADS, 0, lengths, offsets,
           count, a->segments, a->num_segments, *strides);
}

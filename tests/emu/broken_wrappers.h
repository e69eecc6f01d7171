/* broken_wrappers.h - put in front of kernels/cuda/wrappers.cu it makes cuda_check_broken of it,
 * the same check over wrappers that do something else: what a device would be told of. */
#include "kernels/cuda/hopper.cuh"

/* Two results of a lane in each other's place. */
static inline void multiply_and_swap(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    multiply_16x8x16(c, a, b);
    float second = c[1];
    c[1] = c[2], c[2] = second;
}

#define multiply_16x8x16 multiply_and_swap
#define cuda_check cuda_check_broken
extern "C" enum status cuda_check_broken(struct device *d, int32_t first, struct kern_check *out,
                                         int32_t room, int32_t *count, struct err *e);

#define copy_async_16(to, from, bytes) copy_async_16(to, from, 16) /* not filled up with zeros */
#define load_tiles_4_turned load_tiles_4
#define load_tiles_2 load_tiles_2_turned
#define bf16_bits(f) (bits_of_float(f) >> 16) /* cut, not rounded */
#define tma_load(to, map, box, barrier, column, row, count) \
    tma_load(to, map, box, barrier, column, row, (count)-1)
#define operand_columns(panel, bytes) operand_columns(panel, 0) /* the same panel again */

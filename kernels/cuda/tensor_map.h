/* tensor_map.h - what the copy engine of sm_90 (TMA) knows of a matrix in global memory.
 *
 * A map describes rows of bf16, `ld` elements apart, for boxes of 64 columns and up to `box` rows.
 * Tiles of ragged segments end anywhere, and what lies below a segment's last row is another's, or
 * nothing at all (NaN times a weight of 0 is NaN). So rows have two coordinates, y from 0 to box-1
 * and z, both `ld` apart, and the matrix begins `box` rows above the first one: row r is at y + z =
 * box + r. A box of `count` rows begins at y = box - count and z = r + count; what is below would
 * have y >= box, is outside, becomes zeros on the way in and is left alone on the way out. So
 * every row that is not asked for is neither read nor written, by hardware, and one map serves all
 * segments, which the device alone knows. The price is a stride twice; the manual's formula for
 * strides describes matrices without gaps, the encoder takes any multiple of 16.
 *
 * A map is a kernel's argument: `const __grid_constant__ struct tensor_map m`.
 */
#ifndef CRIA_KERNELS_CUDA_TENSOR_MAP_H
#define CRIA_KERNELS_CUDA_TENSOR_MAP_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifdef CUDA_EMU
#define TENSOR_MAP_ALIGNED /* passed by value, which gcc has a note about beyond 16 bytes */
#elif defined __cplusplus
#define TENSOR_MAP_ALIGNED alignas(64)
#else
#define TENSOR_MAP_ALIGNED _Alignas(64)
#endif

enum { TENSOR_MAP_COLUMNS = 64 }; /* of a box: 128 bytes, what is swizzled at once */

/* The driver's CUtensorMap, of which only its size is known; in emulation what is below. */
struct tensor_map {
    TENSOR_MAP_ALIGNED uint64_t word[16];
};

struct tensor_map_rows {
    uint64_t rows; /* address of row 0 */
    int64_t ld, num_rows;
    int32_t columns, box;
};

/* Fills a map of `num_rows` rows of `columns` elements; rows and ld*2 are 16-aligned, box is a
 * multiple of 8 up to 256 and at most ld*2. An error is noted (cuda_note): no driver that knows
 * maps, or arguments it does not take. */
void cuda_tensor_map(struct device *d, struct tensor_map *out, const void *rows, int32_t columns,
                     int64_t num_rows, int64_t ld, int32_t box);

#ifdef __cplusplus
}
#endif

#endif

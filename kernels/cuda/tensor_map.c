#include "kernels/cuda/tensor_map.h"

#include <string.h>

#ifdef CUDA_EMU

void cuda_tensor_map(struct device *d, struct tensor_map *out, const void *rows, int32_t columns,
                     int64_t num_rows, int64_t ld, int32_t box)
{
    struct tensor_map_rows m = {(uint64_t)(uintptr_t)rows, ld, num_rows, columns, box};
    memset(out, 0, sizeof *out);
    if ((uintptr_t)rows % 16 || ld % 8 || box % 8 || box < 8 || box > 256 || box > 2 * ld)
        cuda_note(d, cudaErrorInvalidValue, "a tensor map");
    memcpy(out, &m, sizeof m);
}

#else

#include <cuda.h>

typedef CUresult encode_function(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *,
                                 const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                 const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* From the driver that is there: no library of its own is linked for it. */
static encode_function *encoder(void)
{
    enum { SINCE = 12000 };
    void *found = NULL;
    enum cudaDriverEntryPointQueryResult answer;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, SINCE, cudaEnableDefault,
                                         &answer) ||
        answer != cudaDriverEntryPointSuccess)
        return NULL;
    return (encode_function *)found;
}

void cuda_tensor_map(struct device *d, struct tensor_map *out, const void *rows, int32_t columns,
                     int64_t num_rows, int64_t ld, int32_t box)
{
    encode_function *encode = encoder();
    cuuint64_t row_bytes = (cuuint64_t)ld * 2, strides[2] = {row_bytes, row_bytes};
    cuuint64_t sizes[3] = {(cuuint64_t)columns, (cuuint64_t)box, (cuuint64_t)(num_rows + box)};
    cuuint32_t each[3] = {1, 1, 1}, boxes[3] = {TENSOR_MAP_COLUMNS, (cuuint32_t)box, 1};
    void *begin = (void *)((uintptr_t)rows - (uintptr_t)box * row_bytes);
    CUtensorMap map;
    if (!encode) {
        cuda_note(d, cudaErrorNotSupported, "a tensor map");
        return;
    }
    if (encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, begin, sizes, strides, boxes, each,
               CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE))
        cuda_note(d, cudaErrorInvalidValue, "a tensor map");
    memcpy(out, &map, sizeof *out);
}

#endif

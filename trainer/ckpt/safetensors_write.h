/* safetensors_write.h - named tensors of float, streamed to safetensors files of any real type; and
 * tensors of bytes as they are.
 *
 * The layout is the reference writer's: tensors by type (wider first), then name; the header
 * padded with spaces to 8 bytes; metadata {"format": "pt"}, which transformers asks for. Values
 * come from an array or a callback in blocks and are rounded to nearest even on the way, so
 * writing needs a block of memory, not a copy of the model.
 *
 * Each file is written aside, fsynced and renamed; the index comes last. Replacing a model
 * directory file by file is safe for each file, not for the set: use commit.h for that.
 */
#ifndef CRIA_CKPT_SAFETENSORS_WRITE_H
#define CRIA_CKPT_SAFETENSORS_WRITE_H

#include "ckpt/safetensors.h"

#define TENSOR_SHARD_BYTES ((uint64_t)50000000000) /* transformers 5 starts a new shard here */

/* Elements first ... first+count-1 of a tensor to `out`; called front to back, in blocks. */
typedef enum status tensor_fill(void *context, size_t first, size_t count, float *out,
                                struct err *e);

/* The same of elements as they lie in the file. */
typedef enum status tensor_fill_bytes(void *context, size_t first, size_t count, void *out,
                                      struct err *e);

struct tensor_source {
    const char *name;
    enum file_type type; /* to store: F64, F32, BF16 or F16; with fill_bytes any */
    int rank;
    int64_t shape[TENSOR_RANK_MAX];
    const float *data; /* all elements; NULL: ask `fill` */
    tensor_fill *fill;
    tensor_fill_bytes *fill_bytes; /* asked before both */
    void *context;
};

/* One file. ERR_IO, ERR_DISK_FULL, ERR_MEMORY, ERR_SHAPE (a rank or size out of range),
 * ERR_UNSUPPORTED (not a type of real numbers, without fill_bytes), ERR_FORMAT (two tensors of one
 * name, or a name that is not UTF-8), or what `fill` returns. On failure a former file of this name
 * is as before.
 */
MUST_CHECK enum status tensor_file_write(const char *path, const struct tensor_source *sources,
                                         size_t count, struct err *e);

/* dir/model.safetensors, or when all together exceed shard_bytes
 * dir/model-00001-of-0000n.safetensors
 * ... and dir/model.safetensors.index.json. A tensor is never split. Files of an earlier model that
 * the new set would not replace are removed afterwards, since a reader might prefer them. Errors
 * as above. */
MUST_CHECK enum status tensor_dir_write(const char *dir, const struct tensor_source *sources,
                                        size_t count, uint64_t shard_bytes, struct err *e);

#endif

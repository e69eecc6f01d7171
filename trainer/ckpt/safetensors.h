/* safetensors.h - tensors of one file, or of a model directory and its shards, read by name.
 *
 *     struct tensor_files *f;
 *     if (tensor_files_open(&f, "dir", &e)) ...
 *     const struct tensor_info *t = tensor_files_find(f, "model.norm.weight");
 *     if (tensor_expect(f, t, "model.norm.weight", 1, (int64_t[]){C}, &e)) ...
 *     if (tensor_read_float(f, t, 0, t->count, dst, &e)) ...
 *     tensor_files_close(f);
 *
 * Opening reads and checks every header and no data. Data is read, never mapped, in blocks
 * straight to where it shall lie; F16 and BF16 become float on the way. Elements are in row-major
 * order, so part of a tensor (rows of a stacked parameter) is a range of elements.
 *
 * Files are hostile: header length, types, shapes, offsets, overlaps, holes, trailing bytes and
 * the shards' names are all checked, and every refusal names the file and, where there is one,
 * the tensor. After open, several threads may find and read.
 */
#ifndef CRIA_CKPT_SAFETENSORS_H
#define CRIA_CKPT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "ckpt/file_type.h"

#define TENSOR_RANK_MAX 8
#define TENSOR_HEADER_MAX ((uint64_t)100000000) /* bytes of JSON, as the reference allows */

/* Valid until tensor_files_close. */
struct tensor_info {
    const char *name;
    enum file_type type;
    int rank; /* 0: a scalar, one element */
    int64_t shape[TENSOR_RANK_MAX];
    size_t count;    /* elements; 0 when a dimension is 0 */
    uint64_t offset; /* of the first byte in its file */
    int file;        /* which of the files */
};

struct tensor_files; /* heap; owns its open files and all infos */

/* `path` is a safetensors file, or a directory with model.safetensors or
 * model.safetensors.index.json and the shards it names (which must lie in that same directory).
 * ERR_IO (absent, unreadable), ERR_FORMAT (anything wrong inside), ERR_MEMORY, ERR_UNSUPPORTED (a
 * pickled .bin or .pt file: the hint says how to convert it; an unknown type). */
MUST_CHECK enum status tensor_files_open(struct tensor_files **out, const char *path,
                                         struct err *e);
void tensor_files_close(struct tensor_files *f); /* NULL is fine */

size_t tensor_files_count(const struct tensor_files *f);
const struct tensor_info *tensor_files_at(const struct tensor_files *f, size_t i); /* by name */
const struct tensor_info *tensor_files_find(const struct tensor_files *f,
                                            const char *name); /* NULL: absent */

/* The file a tensor lies in, for messages. */
const char *tensor_file_path(const struct tensor_files *f, const struct tensor_info *t);

/* A string of the first file's __metadata__; NULL: absent. */
const char *tensor_files_metadata(const struct tensor_files *f, const char *key);

/* Is `t` there (`name` is for the message when it is NULL), does it hold real numbers, and has it
 * this shape? ERR_FORMAT (absent, or not real numbers), ERR_SHAPE ("model.norm.weight: shape [64],
 * config wants [128]"). */
MUST_CHECK enum status tensor_expect(const struct tensor_files *f, const struct tensor_info *t,
                                     const char *name, int rank, const int64_t *shape,
                                     struct err *e);

/* The same for elements of `type`, which need not be real numbers. */
MUST_CHECK enum status tensor_expect_type(const struct tensor_files *f, const struct tensor_info *t,
                                          const char *name, enum file_type type, int rank,
                                          const int64_t *shape, struct err *e);

/* Elements first ... first+count-1 as float into dst. ERR_IO, ERR_FORMAT (the file has shrunk, or
 * the range leaves the tensor), ERR_MEMORY, ERR_UNSUPPORTED (not a type of real numbers). */
MUST_CHECK enum status tensor_read_float(const struct tensor_files *f, const struct tensor_info *t,
                                         size_t first, size_t count, float *dst, struct err *e);

/* The same elements as they lie in the file (count * file_type_size bytes). ERR_IO, ERR_FORMAT. */
MUST_CHECK enum status tensor_read_bytes(const struct tensor_files *f, const struct tensor_info *t,
                                         size_t first, size_t count, void *dst, struct err *e);

/* "[4096, 1024]" into out[size], cut if need be. */
void tensor_shape_text(char *out, size_t size, int rank, const int64_t *shape);

#endif

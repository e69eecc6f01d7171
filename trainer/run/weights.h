/* weights.h - a model's numbers: from and to files of the Hugging Face layouts.
 *
 * Files are read by several threads at once (loading.h). engine.base_hash is a hash of what the
 * base's files hold, over the digests of its tensors (ckpt/tensor_load.h: type and bytes, in parts)
 * in the parameters' order: neither shards nor names nor the order in the files decide it, but the
 * type that weights are stored in does. A checkpoint's fingerprint calls it base_files, and the
 * reference's log-probabilities are kept by it. Until that hash was made of parts it was one over
 * all values as fp32, called base_weights: a run does not go on from a checkpoint that has that
 * one, and log-probabilities are computed again.
 */
#ifndef CRIA_RUN_WEIGHTS_H
#define CRIA_RUN_WEIGHTS_H

#include "ckpt/file_type.h"
#include "run/engine.h"

/* The base's parameters from a model directory. A tied head in the file is not looked at; what
 * the model does not have is an error, since a wrong family would otherwise pass. With
 * options.base_vocab the last rows of embedding and head are left alone. ERR_IO,
 * ERR_FORMAT, ERR_SHAPE, ERR_MEMORY, ERR_UNSUPPORTED. */
MUST_CHECK enum status weights_load_base(struct engine *g, const char *dir, struct err *e);

/* Rows first ... first+count-1 of embedding and head become the mean of those before them.
 * ERR_MEMORY. */
MUST_CHECK enum status weights_fill_rows(struct engine *g, int32_t first, int32_t count,
                                         struct err *e);

/* The adapter's, from PEFT's adapter_model.safetensors in `dir`. Errors as above. */
MUST_CHECK enum status weights_load_adapter(struct engine *g, const char *dir, struct err *e);

/* Base parameters to dir/model.safetensors (sharded when large), stored as `type`. ERR_IO,
 * ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status weights_save_base(struct engine *g, const char *dir, enum file_type type,
                                         struct err *e);

/* The adapter's to dir/adapter_model.safetensors. Errors as above. */
MUST_CHECK enum status weights_save_adapter(struct engine *g, const char *dir, enum file_type type,
                                            struct err *e);

/* Trainable parameters with both moments to one file and back: what resuming needs besides the
 * step. All is fp32, but moments of 8 bits are their codes (U8) and the largest magnitudes of their
 * blocks: decoded they would not come back as the same codes, since a block whose largest magnitude
 * is negative does not hold it. Loading checks that exactly these parameters are there. */
MUST_CHECK enum status weights_save_state(struct engine *g, const char *path, struct err *e);
MUST_CHECK enum status weights_load_state(struct engine *g, const char *path, struct err *e);

/* What the three above save of a training run, in memory: [3][elements] by the parameters' place in
 * the flat space, fp32: themselves, their moments (codes in the room of numbers). An engine whose
 * `copy` it is saves it, and asks nothing of its device. weights_copy waits for the device. */
size_t weights_copy_bytes(const struct engine *g);
void weights_copy(struct engine *g, float *to);

/* The most that any of these holds beside the engine's memory. */
size_t weights_memory(const struct engine *g);

#endif

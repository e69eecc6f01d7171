/* new_model.h - making models: from nothing (init), from a base and an adapter (merge). */
#ifndef CRIA_RUN_NEW_MODEL_H
#define CRIA_RUN_NEW_MODEL_H

#include "base/status.h"
#include "ckpt/file_type.h"

/* A new model directory with random weights for config.json (a file or a directory's), in its
 * dtype. Refuses a directory that exists and is not empty. ERR_CONFIG and what reading the config
 * and writing files can fail with. */
MUST_CHECK enum status new_model_init(const char *config_path, const char *out, uint64_t seed,
                                      struct err *e);

/* base + adapter -> out. `type` FILE_TYPES: as the base is stored. Errors as above. */
MUST_CHECK enum status new_model_merge(const char *base, const char *adapter, const char *out,
                                       enum file_type type, struct err *e);

#endif

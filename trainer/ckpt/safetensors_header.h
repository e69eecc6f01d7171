/* safetensors_header.h - one file's header, read and checked; what the reader's parts share. */
#ifndef CRIA_CKPT_SAFETENSORS_HEADER_H
#define CRIA_CKPT_SAFETENSORS_HEADER_H

#include "base/json.h"
#include "ckpt/safetensors.h"

struct tensor_shard {
    char *path;
    int fd;
};

struct tensor_files {
    struct tensor_shard *shards;
    int num_shards;
    struct tensor_info *infos; /* by name */
    size_t count, cap;
    json_t *metadata; /* of the first file; NULL: none */
};

/* A name from a file, fit for a message: short, and without control characters. */
struct tensor_shown {
    char text[120];
};
struct tensor_shown tensor_show(const char *name);

/* Opens the file, which stays open in shard `number`, checks its header, and adds the tensors that
 * `map` (an index's weight_map; NULL: all) puts there. Errors as tensor_files_open. */
MUST_CHECK enum status tensor_open_shard(struct tensor_files *f, int number, const char *path,
                                         const json_t *map, struct err *e);

/* ERR_FORMAT: what is wrong with the file, or with one of its tensors. */
enum status tensor_bad(const char *path, const char *tensor, struct err *e, const char *what);

/* ERR_UNSUPPORTED, and how to convert it. */
enum status tensor_refuse_pickle(const char *path, struct err *e);

#endif

/* hdf.h - HDF5 with our errors; private to data/store.
 *
 * The columns of a dataset file as one table, and the few HDF5 calls that writer and reader share.
 * HDF5's own printing is off; what it has to say becomes part of our message. Following links
 * into other files is off too.
 */
#ifndef CRIA_DATA_STORE_HDF_H
#define CRIA_DATA_STORE_HDF_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* ---- what a file is made of ---- */

/* name, dataset, HDF5 type in the file, in memory, C type, elements a chunk.
 * Not compressed (20 M tokens in documents of 200, this room's figures): a document read at random
 * costs 4 us a column; with shuffle and deflate 1, in chunks of 16 Ki, 270 us (ids) and 107 us
 * (weights), for a file of 36 instead of 160 MB. */
#define STORE_COLUMNS(X)                                                                     \
    X(TOKENS, "/tokens", H5T_STD_I32LE, H5T_NATIVE_INT32, int32_t, 16384)                    \
    X(WEIGHTS, "/weights", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, float, 16384)                   \
    X(OFFSET, "/documents/offset", H5T_STD_I64LE, H5T_NATIVE_INT64, int64_t, 2048)           \
    X(TURN_OFFSET, "/documents/turn_offset", H5T_STD_I64LE, H5T_NATIVE_INT64, int64_t, 2048) \
    X(LAST_TARGET, "/documents/last_target", H5T_STD_I32LE, H5T_NATIVE_INT32, int32_t, 4096) \
    X(NUM_TARGETS, "/documents/targets", H5T_STD_I32LE, H5T_NATIVE_INT32, int32_t, 4096)     \
    X(CHOSEN, "/documents/chosen", H5T_STD_I32LE, H5T_NATIVE_INT32, int32_t, 4096)           \
    X(REJECTED, "/documents/rejected", H5T_STD_I32LE, H5T_NATIVE_INT32, int32_t, 4096)       \
    X(WEIGHT_SUM, "/documents/weight", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, double, 2048)      \
    X(SOURCE, "/documents/source", H5T_STD_I32LE, H5T_NATIVE_INT32, int32_t, 4096)           \
    X(LINE, "/documents/line", H5T_STD_I64LE, H5T_NATIVE_INT64, int64_t, 2048)               \
    X(TURN_START, "/turns/start", H5T_STD_I32LE, H5T_NATIVE_INT32, int32_t, 4096)            \
    X(TURN_ROLE, "/turns/role", H5T_STD_I8LE, H5T_NATIVE_INT8, int8_t, 4096)

enum column_id {
#define X(id, name, file, memory, type, chunk) COLUMN_##id,
    STORE_COLUMNS(X)
#undef X
        NUM_COLUMNS
};

/* Text attributes that are a struct store_settings' members of the same name. */
#define STORE_SETTINGS(X) \
    X(tokenizer_hash)     \
    X(template_name)      \
    X(template_hash)      \
    X(train_on)           \
    X(compat)

#define STORE_FORMAT_NAME "cria dataset"

const char *column_name(enum column_id c);
size_t column_size(enum column_id c); /* bytes an element */
hsize_t column_chunk(enum column_id c);
hid_t column_file_type(enum column_id c); /* not to be closed */
hid_t column_memory_type(enum column_id c);

/* ---- calls ---- */

void hdf_init(void); /* before anything else; again is fine */

/* After a failed HDF5 call: err with `path`, what failed, and HDF5's innermost reason. `code`
 * unless the reason is an errno: then ERR_DISK_FULL or ERR_IO. Returns the code. */
enum status hdf_fail(struct err *e, enum status code, const char *path, const char *what);

/* A file access list for both sides: newest layout, no locks, everything closed with the file. */
hid_t hdf_access_list(void);

/* Gives a finished file its name: synced, renamed, and the folder it is in synced. ERR_IO,
 * ERR_DISK_FULL. */
MUST_CHECK enum status hdf_publish(const char *aside, const char *path, struct err *e);

/* Attributes of `file`'s root. Reading wants exactly that type, and one value: ERR_FORMAT. The
 * caller mem_frees *out. Texts have a fixed length everywhere: those of variable length live in
 * HDF5's global heap, which 1.10 reads without checks (a flipped bit there crashes it), while
 * all other metadata has checksums. */
MUST_CHECK enum status hdf_write_text(hid_t file, const char *name, const char *value,
                                      const char *path, struct err *e);
MUST_CHECK enum status hdf_write_int(hid_t file, const char *name, int64_t value, const char *path,
                                     struct err *e);
MUST_CHECK enum status hdf_read_text(hid_t file, const char *name, char **out, const char *path,
                                     struct err *e);
MUST_CHECK enum status hdf_read_int(hid_t file, const char *name, int64_t *out, const char *path,
                                    struct err *e);

/* One-dimensional datasets of texts. *out and *n are set on success alone. */
MUST_CHECK enum status hdf_write_texts(hid_t file, const char *name, const char *const *values,
                                       size_t n, const char *path, struct err *e);
MUST_CHECK enum status hdf_read_texts(hid_t file, const char *name, size_t max, char ***out,
                                      size_t *n, const char *path, struct err *e);
void hdf_free_texts(char **list, size_t n);

#endif

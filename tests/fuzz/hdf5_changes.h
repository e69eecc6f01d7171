/* hdf5_changes.h - hostile bytes as changes to an HDF5 file.
 *
 * What HDF5 checks by its sums (its own metadata) it refuses before cria sees it, so the input says
 * what to change through HDF5 itself. Nine bytes are one change: what and where (two bytes), and a
 * value (six of them, then how wide it is taken). That HDF5 refuses a change is fine.
 */
#ifndef CRIA_TESTS_FUZZ_HDF5_CHANGES_H
#define CRIA_TESTS_FUZZ_HDF5_CHANGES_H

#include <stddef.h>
#include <stdint.h>

#define HDF5_CHANGE 9 /* bytes */

struct hdf5_names {
    const char *const *names;
    unsigned count; /* > 0 */
};

/* What there is to change in a kind of file. */
struct hdf5_parts {
    struct hdf5_names numbers, texts; /* attributes */
    struct hdf5_names columns, lists; /* datasets: one element is changed only in columns */
};

#define HDF5_NAMES(array)                      \
    {                                          \
        array, sizeof(array) / sizeof *(array) \
    }

/* Applies the changes that data[0..size) says, 16 at most; bytes left over change nothing. */
void hdf5_change_file(const char *path, const struct hdf5_parts *p, const uint8_t *data,
                      size_t size);

#endif

/* file_type.h - the element types of tensor files, and their way to float and back.
 *
 * A file's types are its own affair: the machine computes in what kernels.h says. Here are only
 * the types a safetensors header may name, their sizes, and the conversions of the four that
 * hold real numbers. To float: exact, but for F64 (rounded to nearest even). From float: rounded
 * to nearest, ties to even; too large becomes infinity; a NaN stays a NaN of the same sign (its
 * payload is cut, and kept a quiet NaN).
 *
 * Rows stand in the order in which a writer places tensors: the reference implementation sorts by
 * type, wider ones first, then by name.
 */
#ifndef CRIA_CKPT_FILE_TYPE_H
#define CRIA_CKPT_FILE_TYPE_H

#include <stddef.h>
#include <stdint.h>

/* name in the header, bytes an element */
#define FILE_TYPE_TABLE(X) \
    X(U64, 8)              \
    X(I64, 8)              \
    X(F64, 8)              \
    X(C64, 8)              \
    X(F32, 4)              \
    X(U32, 4)              \
    X(I32, 4)              \
    X(BF16, 2)             \
    X(F16, 2)              \
    X(U16, 2)              \
    X(I16, 2)              \
    X(F8_E4M3, 1)          \
    X(F8_E5M2, 1)          \
    X(I8, 1)               \
    X(U8, 1)               \
    X(BOOL, 1)

enum file_type {
#define X(name, bytes) FILE_##name,
    FILE_TYPE_TABLE(X)
#undef X
        FILE_TYPES /* how many */
};

const char *file_type_name(enum file_type t); /* "BF16" */
size_t file_type_size(enum file_type t);      /* bytes an element */

/* The type of this name; FILE_TYPES when there is none. */
enum file_type file_type_find(const char *name);

/* Nonzero for F64, F32, BF16, F16: those the two functions below take. */
int file_type_is_real(enum file_type t);

/* n elements of type `t` at `from` (any alignment) to float. `from` may be the last bytes of
 * `out` itself only for F32. */
void file_type_to_float(enum file_type t, float *out, const void *from, size_t n);

/* n floats to type `t` at `out` (any alignment). */
void file_type_from_float(enum file_type t, void *out, const float *from, size_t n);

#endif

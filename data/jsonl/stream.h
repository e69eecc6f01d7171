/* stream.h - the bytes of a data file, unpacked on the way.
 *
 * gzip (zlib) and Zstandard (libzstd) are told by their first bytes, not by the file's name, and
 * unpacked as they are read: memory is one buffer and the decoder's window. Several members or
 * frames end to end are one text. Forms that hold no text at all (Parquet, Arrow, bzip2, xz, zip)
 * are refused with the command that turns them into something that is read.
 */
#ifndef CRIA_DATA_STREAM_H
#define CRIA_DATA_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct stream; /* heap: an open file */

/* ERR_IO, ERR_MEMORY; ERR_FORMAT: a form that is not read. */
MUST_CHECK enum status stream_open(struct stream **out, const char *path, struct err *e);
void stream_close(struct stream *s); /* NULL is fine */

/* Up to n bytes into `out`; *got is 0 at the end alone. ERR_IO, ERR_MEMORY; ERR_FORMAT: packed data
 * that are damaged or cut short. */
MUST_CHECK enum status stream_read(struct stream *s, void *out, size_t n, size_t *got,
                                   struct err *e);

int stream_is_packed(const struct stream *s);
int64_t stream_offset(const struct stream *s); /* bytes of the file used so far, for progress */

#endif

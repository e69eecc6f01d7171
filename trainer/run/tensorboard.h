/* tensorboard.h - scalars in the files that TensorBoard reads.
 *
 * A file is a row of records:  u64 length, u32 masked crc32c of those 8 bytes, payload, u32 masked
 * crc32c of the payload (all little endian; mask = ((c >> 15) | (c << 17)) + 0xa282ead8). A
 * payload is one tensorflow.Event in protobuf's wire form:
 *
 *     1 wall_time: double   2 step: varint   3 file_version: text (the first record alone)
 *     5 summary { 1 value { 1 tag: text   2 simple_value: float } ... }
 *     7 session_log { 1 status: START = 1 }
 *
 * Every process writes a file of its own, which begins with a session start at its first step:
 * TensorBoard then forgets what an interrupted process had written from that step on, so a resumed
 * run shows each step once. A record goes out in one write; TensorBoard may read along.
 */
#ifndef CRIA_RUN_TENSORBOARD_H
#define CRIA_RUN_TENSORBOARD_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/status.h"

#define TENSORBOARD_DIR "runs"                    /* in output_dir */
#define TENSORBOARD_PREFIX "events.out.tfevents." /* of the files in it */

struct tensorboard_scalar {
    const char *tag; /* "train/loss" */
    double value;
};

struct tensorboard {
    int fd; /* -1: not open */
    char path[IO_PATH_MAX];
    struct buf event, summary, value; /* being put together */
};

/* A new file in `dir`, which is made. first_step: the first that will be written. ERR_IO,
 * ERR_DISK_FULL, ERR_MEMORY. After a failure tensorboard_close is still due. */
MUST_CHECK enum status tensorboard_open(struct tensorboard *t, const char *dir, int64_t first_step,
                                        struct err *e);
void tensorboard_close(struct tensorboard *t); /* opened or failed to; again is fine */

/* One event. After a failure the file may end in half a record: write no more to it. ERR_IO,
 * ERR_DISK_FULL, ERR_MEMORY. */
MUST_CHECK enum status tensorboard_write(struct tensorboard *t, int64_t step,
                                         const struct tensorboard_scalar *scalars, size_t n,
                                         struct err *e);

/* Castagnoli's CRC (RFC 3720), and TensorFlow's mask over it. */
uint32_t crc32c(const void *bytes, size_t n);
uint32_t crc32c_mask(uint32_t crc);

#endif

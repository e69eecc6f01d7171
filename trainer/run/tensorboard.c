#include "run/tensorboard.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EVENT_MAX ((size_t)1 << 16)

enum wire { WIRE_VARINT, WIRE_DOUBLE, WIRE_BYTES, WIRE_FLOAT = 5 };

/* --- checksums --- */

uint32_t crc32c(const void *bytes, size_t n)
{
    static const uint32_t of_nibble[16] = {/* the polynomial 0x82F63B78, four bits at a time */
                                           0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1,
                                           0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
                                           0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9,
                                           0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75};
    const unsigned char *p = bytes;
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ of_nibble[crc & 15];
        crc = crc >> 4 ^ of_nibble[crc & 15];
    }
    return ~crc;
}

uint32_t crc32c_mask(uint32_t crc) { return (crc >> 15 | crc << 17) + 0xA282EAD8; }

/* --- protobuf's wire form --- */

static enum status put_little(struct buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) TRY(buf_putc(b, (char)(v >> 8 * i & 0xFF)));
    return OK;
}

static enum status put_varint(struct buf *b, uint64_t v)
{
    for (; v > 0x7F; v >>= 7) TRY(buf_putc(b, (char)((v & 0x7F) | 0x80)));
    return buf_putc(b, (char)v);
}

static enum status put_key(struct buf *b, int field, enum wire wire)
{
    return put_varint(b, (uint64_t)field << 3 | wire);
}

static enum status put_int(struct buf *b, int field, int64_t v)
{
    TRY(put_key(b, field, WIRE_VARINT));
    return put_varint(b, (uint64_t)v);
}

static enum status put_double(struct buf *b, int field, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    TRY(put_key(b, field, WIRE_DOUBLE));
    return put_little(b, bits, 8);
}

static enum status put_float(struct buf *b, int field, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    TRY(put_key(b, field, WIRE_FLOAT));
    return put_little(b, bits, 4);
}

static enum status put_bytes(struct buf *b, int field, const void *bytes, size_t n)
{
    TRY(put_key(b, field, WIRE_BYTES));
    TRY(put_varint(b, n));
    return buf_append(b, bytes, n);
}

/* --- events --- */

static enum status begin_event(struct tensorboard *t, int64_t step)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    buf_clear(&t->event);
    TRY(put_little(&t->event, 0, 8)); /* length and its checksum: known at the end */
    TRY(put_little(&t->event, 0, 4));
    TRY(put_double(&t->event, 1, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec));
    return put_int(&t->event, 2, step);
}

static void set_little(char *at, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) at[i] = (char)(v >> 8 * i & 0xFF);
}

static enum status end_event(struct tensorboard *t, struct err *e)
{
    size_t n = t->event.len - 12;
    uint32_t crc = crc32c_mask(crc32c(t->event.data + 12, n));
    set_little(t->event.data, n, 8);
    set_little(t->event.data + 8, crc32c_mask(crc32c(t->event.data, 8)), 4);
    if (put_little(&t->event, crc, 4)) return err_set(e, ERR_MEMORY, "no memory for %s", t->path);
    return io_write_all(t->fd, t->event.data, t->event.len, t->path, e);
}

static enum status put_scalar(struct tensorboard *t, const struct tensorboard_scalar *s)
{
    buf_clear(&t->value);
    TRY(put_bytes(&t->value, 1, s->tag, strlen(s->tag)));
    TRY(put_float(&t->value, 2, (float)s->value));
    return put_bytes(&t->summary, 1, t->value.data, t->value.len);
}

enum status tensorboard_write(struct tensorboard *t, int64_t step,
                              const struct tensorboard_scalar *scalars, size_t n, struct err *e)
{
    enum status s = begin_event(t, step);
    buf_clear(&t->summary);
    for (size_t i = 0; !s && i < n; i++) s = put_scalar(t, &scalars[i]);
    if (!s) s = put_bytes(&t->event, 5, t->summary.data ? t->summary.data : "", t->summary.len);
    return s ? err_set(e, s, "no room for an event of %s", t->path) : end_event(t, e);
}

/* --- files --- */

/* What every file begins with: the version, and from which step on it counts. */
static enum status write_head(struct tensorboard *t, int64_t first_step, struct err *e)
{
    static const char version[] = "brain.Event:2";
    static const char start[] = {1 << 3 | WIRE_VARINT, 1};
    enum status s = begin_event(t, 0);
    if (!s) s = put_bytes(&t->event, 3, version, sizeof version - 1);
    if (s) return err_set(e, s, "no memory for %s", t->path);
    TRY(end_event(t, e));
    s = begin_event(t, first_step);
    if (!s) s = put_bytes(&t->event, 7, start, sizeof start);
    return s ? err_set(e, s, "no memory for %s", t->path) : end_event(t, e);
}

enum status tensorboard_open(struct tensorboard *t, const char *dir, int64_t first_step,
                             struct err *e)
{
    char name[96];
    struct timespec now;
    *t = (struct tensorboard){.fd = -1};
    buf_init(&t->event, EVENT_MAX);
    buf_init(&t->summary, EVENT_MAX);
    buf_init(&t->value, EVENT_MAX);
    TRY(io_make_dirs(dir, e));
    clock_gettime(CLOCK_REALTIME, &now);
    /* TensorBoard reads files in the order of their names. */
    snprintf(name, sizeof name, TENSORBOARD_PREFIX "%010lld.%06ld.cria", (long long)now.tv_sec,
             now.tv_nsec / 1000);
    TRY(io_join(t->path, sizeof t->path, dir, name, e));
    t->fd = open(t->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (t->fd < 0) return err_errno(e, "%s", t->path);
    return write_head(t, first_step, e);
}

void tensorboard_close(struct tensorboard *t)
{
    if (t->fd >= 0) close(t->fd);
    t->fd = -1;
    buf_free(&t->event);
    buf_free(&t->summary);
    buf_free(&t->value);
}

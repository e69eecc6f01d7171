#include "data/jsonl/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/mem.h"
#include "base/size.h"

enum { IN_SIZE = 1 << 17, MAGIC_MAX = 8 };

enum packing { PLAIN, GZIP, ZSTD };

/* in[at..end) is read from the file and not used. */
struct stream {
    int fd, eof;
    enum packing packing;
    char *path;
    unsigned char *in;
    size_t at, end;
    int64_t used;
    z_stream gzip;
    int gzip_open, inside; /* inside: a member or frame has begun and not ended */
    ZSTD_DStream *zstd;
};

/* ---- the file ---- */

static enum status read_some(struct stream *s, void *out, size_t n, size_t *got, struct err *e)
{
    ssize_t r;
    do r = read(s->fd, out, n);
    while (r < 0 && errno == EINTR);
    if (r < 0 && errno == EISDIR) {
        err_set(e, ERR_IO, "%s is a folder", s->path);
        return err_hint(e, "name the files in it");
    }
    if (r < 0) return err_errno(e, "cannot read %s", s->path);
    if (r == 0) s->eof = 1;
    *got = (size_t)r;
    return OK;
}

/* Fills `in` with at least `least` bytes, or to the end of the file. */
static enum status fill(struct stream *s, size_t least, struct err *e)
{
    if (s->at) memmove(s->in, s->in + s->at, s->end - s->at);
    s->end -= s->at;
    s->at = 0;
    while (s->end < least && !s->eof) {
        size_t got;
        TRY(read_some(s, s->in + s->end, IN_SIZE - s->end, &got, e));
        s->end += got;
    }
    return OK;
}

static void use(struct stream *s, size_t n)
{
    s->at += n;
    s->used += (int64_t)n;
}

/* ---- what it is ---- */

static const struct {
    const char *magic;
    size_t n;
    const char *what, *hint; /* of what is not read; %s: the path, twice */
} refused[] = {
    {"PAR1", 4, "is Parquet",
     "convert it (pip install pyarrow): python -c \"import json, pyarrow.parquet as p; "
     "[print(json.dumps(r)) for b in p.ParquetFile('%s').iter_batches() for r in b.to_pylist()]\" "
     "> '%s.jsonl'"},
    {"ARROW1", 6, "is an Arrow file",
     "convert it: python -c \"import pandas; pandas.read_feather('%s')"
     ".to_json('%s.jsonl', orient='records', lines=True)\""},
    {"BZh", 3, "is compressed with bzip2", "pack it otherwise: bzcat %s | gzip > data.jsonl.gz"},
    {"\xfd"
     "7zXZ",
     5, "is compressed with xz", "pack it otherwise: xzcat %s | gzip > data.jsonl.gz"},
    {"PK\x03\x04", 4, "is a zip archive", "unpack it: unzip %s"},
    {"\xff\xfe", 2, "is UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8 %s > %s.utf8"},
    {"\xfe\xff", 2, "is UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8 %s > %s.utf8"},
};

static int begins(const struct stream *s, const char *magic, size_t n)
{
    return s->end - s->at >= n && !memcmp(s->in + s->at, magic, n);
}

static enum status refuse(const struct stream *s, size_t i, struct err *e)
{
    err_at(e, ERR_FORMAT, s->path, 0, 0, "the file %s", refused[i].what);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    return err_hint(e, refused[i].hint, s->path, s->path);
#pragma GCC diagnostic pop
}

static voidpf take(voidpf ctx, uInt count, uInt each)
{
    (void)ctx;
    return mem_calloc(count, each);
}

static void give_back(voidpf ctx, voidpf p)
{
    (void)ctx;
    mem_free(p);
}

static enum status recognise(struct stream *s, struct err *e)
{
    TRY(fill(s, MAGIC_MAX, e));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (begins(s, refused[i].magic, refused[i].n)) return refuse(s, i, e);
    if (begins(s, "\x1f\x8b", 2)) {
        s->packing = GZIP;
        s->gzip.zalloc = take;
        s->gzip.zfree = give_back;
        if (inflateInit2(&s->gzip, 15 + 16) != Z_OK)
            return err_set(e, ERR_MEMORY, "no memory to unpack %s", s->path);
        s->gzip_open = 1;
    } else if (begins(s, "\x28\xb5\x2f\xfd", 4)) {
        s->packing = ZSTD;
        if (!(s->zstd = ZSTD_createDStream()))
            return err_set(e, ERR_MEMORY, "no memory to unpack %s", s->path);
    }
    return OK;
}

enum status stream_open(struct stream **out, const char *path, struct err *e)
{
    *out = NULL;
    enum status st = OK;
    struct stream *s = mem_calloc(1, sizeof *s);
    if (!s) return err_set(e, ERR_MEMORY, "no memory to read %s", path);
    s->fd = -1;
    s->path = mem_strdup(path);
    s->in = mem_alloc(IN_SIZE);
    if (!s->path || !s->in)
        st = err_set(e, ERR_MEMORY, "no memory to read %s", path);
    else if ((s->fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
        st = err_errno(e, "cannot open %s", path);
        err_hint(e, "paths are taken from the current directory");
    }
    if (!st) st = recognise(s, e);
    if (st)
        stream_close(s);
    else
        *out = s;
    return st;
}

void stream_close(struct stream *s)
{
    if (!s) return;
    if (s->gzip_open) inflateEnd(&s->gzip);
    ZSTD_freeDStream(s->zstd);
    if (s->fd >= 0) close(s->fd);
    mem_free(s->path);
    mem_free(s->in);
    mem_free(s);
}

int stream_is_packed(const struct stream *s) { return s->packing != PLAIN; }
int64_t stream_offset(const struct stream *s) { return s->used; }

/* ---- unpacking ---- */

static enum status damaged(const struct stream *s, const char *why, struct err *e)
{
    err_at(e, ERR_FORMAT, s->path, 0, 0, "the compressed data are damaged behind byte %lld: %s",
           (long long)s->used, why);
    return err_hint(e, "fetch or write the file again");
}

static enum status read_gzip(struct stream *s, void *out, size_t n, size_t *got, struct err *e)
{
    z_stream *z = &s->gzip;
    z->next_in = s->in + s->at;
    z->avail_in = (uInt)(s->end - s->at);
    z->next_out = out;
    z->avail_out = (uInt)size_min(n, 1 << 30);
    size_t room = z->avail_out;
    if (!s->inside && !begins(s, "\x1f\x8b", 2)) return damaged(s, "something else follows", e);
    s->inside = 1;
    int r = inflate(z, Z_NO_FLUSH);
    use(s, (s->end - s->at) - z->avail_in);
    *got = room - z->avail_out;
    if (r == Z_STREAM_END) {
        s->inside = 0;
        r = inflateReset(z);
    }
    if (r == Z_MEM_ERROR) return err_set(e, ERR_MEMORY, "no memory to unpack %s", s->path);
    return r == Z_OK || r == Z_BUF_ERROR ? OK : damaged(s, z->msg ? z->msg : "not gzip", e);
}

static enum status read_zstd(struct stream *s, void *out, size_t n, size_t *got, struct err *e)
{
    ZSTD_inBuffer in = {s->in + s->at, s->end - s->at, 0};
    ZSTD_outBuffer to = {out, n, 0};
    size_t r = ZSTD_decompressStream(s->zstd, &to, &in);
    use(s, in.pos);
    *got = to.pos;
    if (ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation)
        return err_set(e, ERR_MEMORY, "no memory to unpack %s", s->path);
    if (ZSTD_getErrorCode(r) == ZSTD_error_frameParameter_windowTooLarge) {
        err_at(e, ERR_FORMAT, s->path, 0, 0, "packed with a window of more than 128 MB");
        return err_hint(e, "pack it anew: zstd -d --long=31 %s, then zstd", s->path);
    }
    if (ZSTD_isError(r)) return damaged(s, ZSTD_getErrorName(r), e);
    s->inside = r != 0;
    return OK;
}

static enum status read_packed(struct stream *s, void *out, size_t n, size_t *got, struct err *e)
{
    for (*got = 0; !*got;) {
        size_t before = s->end - s->at;
        if (before < MAGIC_MAX && !s->eof) {
            TRY(fill(s, MAGIC_MAX, e));
            before = s->end - s->at;
        }
        if (!before && !s->inside) return OK;
        TRY(s->packing == GZIP ? read_gzip(s, out, n, got, e) : read_zstd(s, out, n, got, e));
        if (*got || s->end - s->at != before || !s->eof || !s->inside) continue;
        err_at(e, ERR_FORMAT, s->path, 0, 0, "the compressed data end too early");
        return err_hint(e, "it seems cut off: fetch or write it again");
    }
    return OK;
}

enum status stream_read(struct stream *s, void *out, size_t n, size_t *got, struct err *e)
{
    if (s->packing != PLAIN) return read_packed(s, out, n, got, e);
    if (s->at < s->end) {
        *got = size_min(n, s->end - s->at);
        memcpy(out, s->in + s->at, *got);
        use(s, *got);
        return OK;
    }
    TRY(read_some(s, out, n, got, e));
    s->used += (int64_t)*got;
    return OK;
}

#include "data/store/latch.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/mem.h"

struct latch_info { /* what an access list carries */
    struct latch *latch;
};

struct latch_file {
    H5FD_t base; /* HDF5's part, first */
    struct latch *latch;
    int fd;
    haddr_t end_allocated, end_written; /* HDF5's eoa and eof */
};

/* Only for new files: the writer never opens one again. */
static H5FD_t *latch_open(const char *name, unsigned flags, hid_t list, haddr_t max)
{
    const struct latch_info *info = H5Pget_driver_info(list);
    (void)flags;
    (void)max;
    if (!info) return NULL;
    struct latch_file *f = mem_calloc(1, sizeof *f);
    if (!f) {
        info->latch->failed = ENOMEM;
        return NULL;
    }
    f->latch = info->latch;
    f->fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (f->fd >= 0) return &f->base;
    f->latch->failed = errno;
    mem_free(f);
    return NULL;
}

static herr_t latch_close(H5FD_t *file)
{
    struct latch_file *f = (struct latch_file *)file;
    if (close(f->fd) && !f->latch->failed) f->latch->failed = errno;
    mem_free(f);
    return 0;
}

static herr_t latch_query(const H5FD_t *file, unsigned long *flags)
{
    (void)file;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA |
             H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
    return 0;
}

static haddr_t latch_get_eoa(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const struct latch_file *)file)->end_allocated;
}

static herr_t latch_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t end)
{
    (void)type;
    ((struct latch_file *)file)->end_allocated = end;
    return 0;
}

static haddr_t latch_get_eof(const H5FD_t *file, H5FD_mem_t type)
{
    (void)type;
    return ((const struct latch_file *)file)->end_written;
}

/* Behind what was written there are zeros, as HDF5 expects of any driver. */
static herr_t latch_read(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t n,
                         void *out)
{
    struct latch_file *f = (struct latch_file *)file;
    char *to = out;
    (void)type;
    (void)transfer;
    while (n) {
        ssize_t got = pread(f->fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        to += got;
        at += (haddr_t)got;
        n -= (size_t)got;
    }
    for (; n; n--) *to++ = 0;
    return 0;
}

static herr_t latch_write(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t at, size_t n,
                          const void *bytes)
{
    struct latch_file *f = (struct latch_file *)file;
    const char *from = bytes;
    (void)type;
    (void)transfer;
    if (at + n > f->end_written) f->end_written = at + n;
    while (n && !f->latch->failed) {
        ssize_t put = pwrite(f->fd, from, n, (off_t)at);
        if (put < 0 && errno != EINTR) f->latch->failed = errno;
        if (put <= 0) continue;
        from += put;
        at += (haddr_t)put;
        n -= (size_t)put;
    }
    return 0;
}

static herr_t latch_truncate(H5FD_t *file, hid_t transfer, hbool_t closing)
{
    struct latch_file *f = (struct latch_file *)file;
    (void)transfer;
    (void)closing;
    if (f->end_written == f->end_allocated) return 0;
    if (!f->latch->failed && ftruncate(f->fd, (off_t)f->end_allocated)) f->latch->failed = errno;
    f->end_written = f->end_allocated;
    return 0;
}

static const H5FD_class_t latch_class = {
#ifdef H5FD_CLASS_VERSION /* from HDF5 1.14 on */
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)600, /* of the range for private use */
#endif
    .name = "cria_latch",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_WEAK,
    .fapl_size = sizeof(struct latch_info),
    .open = latch_open,
    .close = latch_close,
    .query = latch_query,
    .get_eoa = latch_get_eoa,
    .set_eoa = latch_set_eoa,
    .get_eof = latch_get_eof,
    .read = latch_read,
    .write = latch_write,
    .truncate = latch_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

herr_t latch_install(hid_t list, struct latch *latch)
{
    struct latch_info info = {latch};
    static hid_t driver =
        -1; /* kept: HDF5 1.10 reads a driver's class after its last file let go of it */
    if (H5Iget_type(driver) != H5I_VFL) driver = H5FDregister(&latch_class);
    return driver < 0 ? -1 : H5Pset_driver(list, driver, &info);
}

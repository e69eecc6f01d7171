#include "data/store/reference.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/mem.h"
#include "data/store/hdf.h"
#include "data/store/latch.h"

#define REFERENCE_FORMAT_NAME "cria reference"

/* dataset, member of struct reference_logps */
#define LOGPS(X)                           \
    X("/chosen", chosen)                   \
    X("/rejected", rejected)               \
    X("/chosen_shared", chosen_shared)     \
    X("/rejected_shared", rejected_shared) \
    X("/mismatch", mismatch)

/* Text attributes: members of struct reference_key. */
#define KEY_TEXTS(X) \
    X(base)          \
    X(adapter)       \
    X(precision)     \
    X(dataset)

struct reference {
    char *path, *aside;
    struct reference_key key; /* the strings are texts[] */
    char *texts[4];
    int64_t n, count;
    struct reference_logps *logps; /* [n] */
    uint8_t *done;                 /* [n] */
    int changed;
};

static enum status damaged(const struct reference *r, const char *what, struct err *e)
{
    err_at(e, ERR_FORMAT, r->path, 0, 0, "damaged reference file: %s", what);
    return err_hint(e, "remove it: it will be computed again");
}

/* ---- columns ---- */

/* All values of one member, gathered into `column` or spread from it. */
static void gather(const struct reference *r, size_t offset, double *column)
{
    for (int64_t d = 0; d < r->n; d++)
        memcpy(&column[d], (const char *)&r->logps[d] + offset, sizeof *column);
}

static void spread(struct reference *r, size_t offset, const double *column)
{
    for (int64_t d = 0; d < r->n; d++)
        memcpy((char *)&r->logps[d] + offset, &column[d], sizeof *column);
}

static int write_column(hid_t file, const char *name, hid_t file_type, hid_t memory_type, int64_t n,
                        const void *values)
{
    hsize_t size = (hsize_t)n;
    hid_t space = H5Screate_simple(1, &size, NULL);
    hid_t set = H5Dcreate2(file, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    int ok =
        set >= 0 && (!n || H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    if (set >= 0) H5Dclose(set);
    if (space >= 0) H5Sclose(space);
    return ok;
}

/* Plain bytes in this file, n of that type, or else ERR_FORMAT. */
static enum status read_column(struct reference *r, hid_t file, const char *name, hid_t file_type,
                               hid_t memory_type, void *out, struct err *e)
{
    hsize_t size = 0;
    enum status s = OK;
    hid_t type = -1, space = -1, list = -1, set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0 || (type = H5Dget_type(set)) < 0 || (space = H5Dget_space(set)) < 0 ||
        (list = H5Dget_create_plist(set)) < 0)
        s = hdf_fail(e, ERR_FORMAT, r->path, name);
    else if (H5Tequal(type, file_type) <= 0 || H5Sget_simple_extent_ndims(space) != 1 ||
             H5Sget_simple_extent_dims(space, &size, NULL) != 1 || size != (hsize_t)r->n ||
             H5Pget_layout(list) != H5D_CONTIGUOUS || H5Pget_external_count(list) != 0)
        s = damaged(r, name, e);
    else if (r->n && H5Dread(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) < 0)
        s = hdf_fail(e, ERR_FORMAT, r->path, name);
    if (list >= 0) H5Pclose(list);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (set >= 0) H5Dclose(set);
    return s;
}

/* ---- reading ---- */

static enum status differs(const struct reference *r, const char *what, const char *has,
                           const char *want, struct err *e)
{
    err_at(e, ERR_DATA, r->path, 0, 0,
           "reference log-probabilities made with %s '%s', this run has '%s'", what, has, want);
    return err_hint(e, "remove the file, or name another: they must be computed again");
}

static enum status check_number(const struct reference *r, hid_t file, const char *name,
                                int64_t want, struct err *e)
{
    int64_t has;
    char a[24], b[24];
    TRY(hdf_read_int(file, name, &has, r->path, e));
    if (has == want) return OK;
    snprintf(a, sizeof a, "%lld", (long long)has);
    snprintf(b, sizeof b, "%lld", (long long)want);
    return differs(r, name, a, b, e);
}

static enum status check_text(const struct reference *r, hid_t file, const char *name,
                              const char *want, struct err *e)
{
    char *has = NULL;
    TRY(hdf_read_text(file, name, &has, r->path, e));
    enum status s = strcmp(has, want) != 0 ? differs(r, name, has, want, e) : OK;
    mem_free(has);
    return s;
}

static enum status check_format(const struct reference *r, hid_t file, struct err *e)
{
    char *format = NULL;
    int64_t version;
    if (hdf_read_text(file, "format", &format, r->path, e)) {
        err_hint(e, "damaged, or no file of reference log-probabilities");
        return e->code;
    }
    int ours = !strcmp(format, REFERENCE_FORMAT_NAME);
    mem_free(format);
    if (!ours)
        return err_at(e, ERR_FORMAT, r->path, 0, 0,
                      "HDF5, but no file of reference log-probabilities");
    TRY(hdf_read_int(file, "format_version", &version, r->path, e));
    if (version == REFERENCE_FORMAT_VERSION) return OK;
    err_at(e, ERR_FORMAT, r->path, 0, 0, "reference file of version %lld, this is version %d",
           (long long)version, REFERENCE_FORMAT_VERSION);
    return err_hint(e, "remove it: it will be computed again");
}

static enum status check_key(const struct reference *r, hid_t file, struct err *e)
{
#define X(name) TRY(check_text(r, file, #name, r->key.name, e));
    KEY_TEXTS(X)
#undef X
    TRY(check_number(r, file, "max_length", r->key.max_length, e));
    return check_number(r, file, "num_documents", r->n, e);
}

static enum status check_values(struct reference *r, struct err *e)
{
    for (int64_t d = 0; d < r->n; d++) {
        const struct reference_logps *x = &r->logps[d];
        if (r->done[d] > 1) return damaged(r, "/done", e);
        if (!r->done[d]) continue;
#define X(name, member) \
    if (!isfinite(x->member)) return damaged(r, name, e);
        LOGPS(X)
#undef X
        if (x->partner < -1 || x->partner >= r->n) return damaged(r, "/partner", e);
        r->count++;
    }
    return OK;
}

static enum status read_all(struct reference *r, hid_t file, struct err *e)
{
    TRY(check_format(r, file, e));
    TRY(check_key(r, file, e));
    TRY(read_column(r, file, "/done", H5T_STD_U8LE, H5T_NATIVE_UINT8, r->done, e));
    double *column = mem_alloc((size_t)(r->n + 1) * sizeof *column);
    int64_t *partners = mem_alloc((size_t)(r->n + 1) * sizeof *partners);
    enum status s = column && partners ? OK : err_set(e, ERR_MEMORY, "%s", r->path);
#define X(name, member)                                                                   \
    if (!s) s = read_column(r, file, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, column, e); \
    if (!s) spread(r, offsetof(struct reference_logps, member), column);
    LOGPS(X)
#undef X
    if (!s) s = read_column(r, file, "/partner", H5T_STD_I64LE, H5T_NATIVE_INT64, partners, e);
    for (int64_t d = 0; !s && d < r->n; d++) r->logps[d].partner = partners[d];
    mem_free(column);
    mem_free(partners);
    return s ? s : check_values(r, e);
}

static enum status read_file(struct reference *r, struct err *e)
{
    if (access(r->path, F_OK) && errno == ENOENT) return OK;
    if (access(r->path, R_OK)) return err_errno(e, "%s", r->path);
    if (io_file_size(r->path) < 0)
        return err_at(e, ERR_FORMAT, r->path, 0, 0, "no HDF5 file, but a folder or a device");
    hid_t list = hdf_access_list();
    hid_t file = H5Fopen(r->path, H5F_ACC_RDONLY, list);
    if (list >= 0) H5Pclose(list);
    if (file < 0) {
        hdf_fail(e, ERR_FORMAT, r->path, "no HDF5 file, or cut short");
        return err_hint(e, "remove it: it will be computed again");
    }
    enum status s = read_all(r, file, e);
    H5Fclose(file);
    return s;
}

/* ---- writing ---- */

static enum status write_attributes(const struct reference *r, hid_t file, struct err *e)
{
    TRY(hdf_write_text(file, "format", REFERENCE_FORMAT_NAME, r->aside, e));
    TRY(hdf_write_int(file, "format_version", REFERENCE_FORMAT_VERSION, r->aside, e));
#define X(name) TRY(hdf_write_text(file, #name, r->key.name, r->aside, e));
    KEY_TEXTS(X)
#undef X
    TRY(hdf_write_int(file, "max_length", r->key.max_length, r->aside, e));
    return hdf_write_int(file, "num_documents", r->n, r->aside, e);
}

static enum status write_columns(const struct reference *r, hid_t file, struct err *e)
{
    double *column = mem_alloc((size_t)(r->n + 1) * sizeof *column);
    int64_t *partners = mem_alloc((size_t)(r->n + 1) * sizeof *partners);
    enum status s = column && partners ? OK : err_set(e, ERR_MEMORY, "%s", r->path);
    int ok = !s && write_column(file, "/done", H5T_STD_U8LE, H5T_NATIVE_UINT8, r->n, r->done);
#define X(name, member)                                                  \
    if (ok) gather(r, offsetof(struct reference_logps, member), column); \
    ok = ok && write_column(file, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, r->n, column);
    LOGPS(X)
#undef X
    for (int64_t d = 0; ok && d < r->n; d++) partners[d] = r->logps[d].partner;
    ok = ok && write_column(file, "/partner", H5T_STD_I64LE, H5T_NATIVE_INT64, r->n, partners);
    mem_free(column);
    mem_free(partners);
    return ok ? OK : s ? s : hdf_fail(e, ERR_IO, r->aside, "cannot be written");
}

/* Writes the aside file; what the disk said goes before what HDF5 made of it. */
static enum status write_aside(const struct reference *r, struct err *e)
{
    struct latch latch = {0};
    hid_t file = -1, list = hdf_access_list();
    if (unlink(r->aside) && errno != ENOENT) {
        if (list >= 0) H5Pclose(list);
        return err_errno(e, "%s", r->aside);
    }
    if (list >= 0 && latch_install(list, &latch) >= 0)
        file = H5Fcreate(r->aside, H5F_ACC_EXCL, H5P_DEFAULT, list);
    if (list >= 0) H5Pclose(list);
    enum status s = file < 0 ? hdf_fail(e, ERR_IO, r->aside, "cannot be created") : OK;
    if (!s) s = write_attributes(r, file, e);
    if (!s) s = write_columns(r, file, e);
    if (file >= 0 && H5Fclose(file) < 0 && !s)
        s = hdf_fail(e, ERR_IO, r->aside, "cannot be written");
    if (!latch.failed) return s;
    H5Eclear2(H5E_DEFAULT);
    if (latch.failed == ENOMEM) return err_set(e, ERR_MEMORY, "%s", r->aside);
    errno = latch.failed;
    return err_errno(e, "%s", r->aside);
}

enum status reference_save(struct reference *r, struct err *e)
{
    if (!r->changed) return OK;
    struct lock lock; /* runs of a sweep have one reference */
    lock_take(&lock, r->path);
    enum status s = write_aside(r, e);
    if (!s) s = hdf_publish(r->aside, r->path, e);
    lock_release(&lock);
    if (s)
        unlink(r->aside);
    else
        r->changed = 0;
    return s;
}

/* ---- the whole ---- */

static enum status open_parts(struct reference *r, const char *path,
                              const struct reference_key *key, struct err *e)
{
    size_t length = strlen(path), at = 0;
    if (length + sizeof ".tmp" > IO_PATH_MAX)
        return err_set(e, ERR_IO, "path too long: %.80s...", path);
    r->path = mem_strdup(path);
    r->aside = mem_alloc(length + sizeof ".tmp");
    r->logps = mem_calloc((size_t)r->n + 1, sizeof *r->logps);
    r->done = mem_calloc((size_t)r->n + 1, 1);
    int failed = !r->path || !r->aside || !r->logps || !r->done;
#define X(name)                                            \
    r->texts[at] = mem_strdup(key->name ? key->name : ""); \
    failed |= !r->texts[at];                               \
    r->key.name = r->texts[at++];
    KEY_TEXTS(X)
#undef X
    r->key.max_length = key->max_length;
    if (failed) return err_set(e, ERR_MEMORY, "%s", path);
    snprintf(r->aside, length + sizeof ".tmp", "%s.tmp", path);
    return read_file(r, e);
}

enum status reference_open(struct reference **out, const char *path,
                           const struct reference_key *key, int64_t num_documents, struct err *e)
{
    *out = NULL;
    if (num_documents < 0 || num_documents > INT32_MAX)
        return err_set(e, ERR_CONFIG, "%s: %lld documents", path, (long long)num_documents);
    struct reference *r = mem_calloc(1, sizeof *r);
    if (!r) return err_set(e, ERR_MEMORY, "%s", path);
    hdf_init();
    r->n = num_documents;
    enum status s = open_parts(r, path, key, e);
    if (s)
        reference_close(r);
    else
        *out = r;
    return s;
}

void reference_close(struct reference *r)
{
    if (!r) return;
    for (size_t i = 0; i < sizeof r->texts / sizeof *r->texts; i++) mem_free(r->texts[i]);
    mem_free(r->logps);
    mem_free(r->done);
    mem_free(r->path);
    mem_free(r->aside);
    mem_free(r);
}

const struct reference_logps *reference_get(const struct reference *r, int64_t document,
                                            int64_t partner)
{
    if (document < 0 || document >= r->n || !r->done[document]) return NULL;
    const struct reference_logps *x = &r->logps[document];
    return partner < 0 || x->partner == partner ? x : NULL;
}

enum status reference_set(struct reference *r, int64_t document, const struct reference_logps *x,
                          struct err *e)
{
    if (document < 0 || document >= r->n || x->partner < -1 || x->partner >= r->n)
        return err_set(e, ERR_DATA, "%s: document %lld, partner %lld: there are %lld", r->path,
                       (long long)document, (long long)x->partner, (long long)r->n);
#define X(name, member)                                                             \
    if (!isfinite(x->member))                                                       \
        return err_set(e, ERR_DATA, "%s: document %lld: %s is not finite", r->path, \
                       (long long)document, name + 1);
    LOGPS(X)
#undef X
    r->count += !r->done[document];
    r->done[document] = 1;
    r->logps[document] = *x;
    r->changed = 1;
    return OK;
}

int64_t reference_count(const struct reference *r) { return r->count; }

#include "data/store/hdf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/size.h"
#include "data/store/store.h"

#define TEXT_ATTRIBUTE_MAX ((size_t)1 << 16) /* bytes; what an HDF5 attribute holds */

const char *column_name(enum column_id c)
{
    static const char *const names[] = {
#define X(id, name, file, memory, type, chunk) name,
        STORE_COLUMNS(X)
#undef X
    };
    return names[c];
}

size_t column_size(enum column_id c)
{
    static const size_t sizes[] = {
#define X(id, name, file, memory, type, chunk) sizeof(type),
        STORE_COLUMNS(X)
#undef X
    };
    return sizes[c];
}

hsize_t column_chunk(enum column_id c)
{
    static const hsize_t chunks[] = {
#define X(id, name, file, memory, type, chunk) chunk,
        STORE_COLUMNS(X)
#undef X
    };
    return chunks[c];
}

/* HDF5's types are values of a running library, so these tables are filled at each call. */
hid_t column_file_type(enum column_id c)
{
    const hid_t types[] = {
#define X(id, name, file, memory, type, chunk) file,
        STORE_COLUMNS(X)
#undef X
    };
    return types[c];
}

hid_t column_memory_type(enum column_id c)
{
    const hid_t types[] = {
#define X(id, name, file, memory, type, chunk) memory,
        STORE_COLUMNS(X)
#undef X
    };
    return types[c];
}

void hdf_init(void)
{
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5Lunregister(H5L_TYPE_EXTERNAL); /* a dataset file must not make us open another file */
    H5Eclear2(H5E_DEFAULT);
}

struct reason {
    char text[256];
    int errno_value;
};

static herr_t keep_reason(unsigned n, const H5E_error2_t *entry, void *data)
{
    struct reason *r = data;
    const char *desc = entry->desc ? entry->desc : "";
    const char *number = strstr(desc, "errno = ");
    if (n == 0) snprintf(r->text, sizeof r->text, "%s", desc);
    if (number && !r->errno_value)
        r->errno_value = (int)strtol(number + strlen("errno = "), NULL, 10);
    return 0;
}

enum status hdf_fail(struct err *e, enum status code, const char *path, const char *what)
{
    struct reason r = {{0}, 0};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_reason, &r);
    H5Eclear2(H5E_DEFAULT);
    if (r.errno_value) {
        errno = r.errno_value;
        return err_errno(e, "%s: %s", path, what);
    }
    return err_at(e, code, path, 0, 0, "%s%s%s", what, r.text[0] ? ": HDF5: " : "", r.text);
}

hid_t hdf_access_list(void)
{
    hid_t list = H5Pcreate(H5P_FILE_ACCESS);
    if (list < 0) return list;
    if (H5Pset_libver_bounds(list, H5F_LIBVER_V110, H5F_LIBVER_V110) < 0 ||
        H5Pset_fclose_degree(list, H5F_CLOSE_STRONG) < 0 ||
        H5Pset_file_locking(list, 0, 1) < 0) { /* files are renamed into place, never shared */
        H5Pclose(list);
        return -1;
    }
    return list;
}

enum status hdf_publish(const char *aside, const char *path, struct err *e)
{
    char folder[IO_PATH_MAX];
    int fd = open(aside, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_errno(e, "%s", aside);
    enum status s = fsync(fd) ? err_errno(e, "%s", aside) : OK;
    close(fd);
    if (s) return s;
    if (rename(aside, path)) return err_errno(e, "%s", path);
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = 0;
    return io_sync_dir(slash ? folder : ".", e);
}

/* UTF-8 of `size` bytes, zeros behind the text; to be closed. */
static hid_t text_type(size_t size)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 &&
        (H5Tset_size(type, size ? size : 1) < 0 || H5Tset_strpad(type, H5T_STR_NULLPAD) < 0 ||
         H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

/* Bytes of a text type, 0 if `type` is no text of fixed length. */
static size_t text_size(hid_t type)
{
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0) return 0;
    return H5Tget_size(type);
}

static enum status attribute_fail(struct err *e, enum status code, const char *path,
                                  const char *name)
{
    char what[128];
    snprintf(what, sizeof what, "attribute %s", name);
    return hdf_fail(e, code, path, what);
}

static enum status write_attribute(hid_t file, const char *name, hid_t file_type, hid_t memory_type,
                                   const void *value, const char *path, struct err *e)
{
    enum status s = OK;
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = H5Acreate2(file, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (a < 0 || H5Awrite(a, memory_type, value) < 0) s = attribute_fail(e, ERR_IO, path, name);
    if (a >= 0) H5Aclose(a);
    if (space >= 0) H5Sclose(space);
    return s;
}

enum status hdf_write_text(hid_t file, const char *name, const char *value, const char *path,
                           struct err *e)
{
    hid_t type = text_type(strlen(value)); /* the empty one is written as a zero */
    enum status s = write_attribute(file, name, type, type, value, path, e);
    if (type >= 0) H5Tclose(type);
    return s;
}

enum status hdf_write_int(hid_t file, const char *name, int64_t value, const char *path,
                          struct err *e)
{
    return write_attribute(file, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value, path, e);
}

/* Opens a scalar attribute; *type is the file's, both to be closed by the caller. */
static enum status open_attribute(hid_t file, const char *name, hid_t *attribute, hid_t *type,
                                  const char *path, struct err *e)
{
    *type = -1;
    *attribute = H5Aopen(file, name, H5P_DEFAULT);
    if (*attribute < 0) return attribute_fail(e, ERR_FORMAT, path, name);
    *type = H5Aget_type(*attribute);
    hid_t space = H5Aget_space(*attribute);
    int one = space >= 0 && H5Sget_simple_extent_type(space) == H5S_SCALAR;
    if (space >= 0) H5Sclose(space);
    if (*type < 0) return attribute_fail(e, ERR_FORMAT, path, name);
    if (!one) return err_at(e, ERR_FORMAT, path, 0, 0, "attribute %s: one value is expected", name);
    return OK;
}

enum status hdf_read_text(hid_t file, const char *name, char **out, const char *path, struct err *e)
{
    hid_t a, type;
    size_t size;
    char *text = NULL;
    enum status s = open_attribute(file, name, &a, &type, path, e);
    if (s) goto out;
    if (!(size = text_size(type)) || size > TEXT_ATTRIBUTE_MAX) {
        s = err_at(e, ERR_FORMAT, path, 0, 0, "attribute %s: a string of fixed length is expected",
                   name);
        goto out;
    }
    if (!(text = mem_calloc(size + 1, 1)))
        s = err_set(e, ERR_MEMORY, "%s: attribute %s", path, name);
    else if (H5Aread(a, type, text) < 0)
        s = attribute_fail(e, ERR_FORMAT, path, name);
    else
        *out = text;
out:
    if (s) mem_free(text);
    if (type >= 0) H5Tclose(type);
    if (a >= 0) H5Aclose(a);
    return s;
}

enum status hdf_read_int(hid_t file, const char *name, int64_t *out, const char *path,
                         struct err *e)
{
    hid_t a, type;
    enum status s = open_attribute(file, name, &a, &type, path, e);
    if (!s && H5Tequal(type, H5T_STD_I64LE) <= 0)
        s = err_at(e, ERR_FORMAT, path, 0, 0, "attribute %s: a 64-bit integer is expected", name);
    if (!s && H5Aread(a, H5T_NATIVE_INT64, out) < 0) s = attribute_fail(e, ERR_FORMAT, path, name);
    if (type >= 0) H5Tclose(type);
    if (a >= 0) H5Aclose(a);
    return s;
}

enum status hdf_write_texts(hid_t file, const char *name, const char *const *values, size_t n,
                            const char *path, struct err *e)
{
    enum status s = OK;
    hsize_t count = n;
    size_t longest = 1, bytes;
    for (size_t i = 0; i < n; i++) longest = size_max(longest, strlen(values[i]));
    char *block = size_mul(n, longest, &bytes) ? NULL : mem_calloc(bytes + 1, 1);
    if (!block) return err_set(e, ERR_MEMORY, "%s: %s", path, name);
    for (size_t i = 0; i < n; i++) memcpy(block + i * longest, values[i], strlen(values[i]));
    hid_t type = text_type(longest), space = H5Screate_simple(1, &count, NULL);
    hid_t list = H5Pcreate(H5P_DATASET_CREATE), set = -1;
    if (list >= 0 && H5Pset_obj_track_times(list, 0) >= 0)
        set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    if (list >= 0) H5Pclose(list);
    if (set < 0 || (n && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, block) < 0))
        s = hdf_fail(e, ERR_IO, path, name);
    if (set >= 0) H5Dclose(set);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    mem_free(block);
    return s;
}

/* All of `set`, n texts of `size` bytes, as a list of texts of their own. */
static enum status copy_texts(hid_t set, hid_t type, size_t n, size_t size, char ***out,
                              const char *name, const char *path, struct err *e)
{
    enum status s = OK;
    char *block = mem_calloc(n + 1, size), **list = mem_calloc(n + 1, sizeof *list);
    if (!block || !list) s = err_set(e, ERR_MEMORY, "%s: %s", path, name);
    if (!s && n && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, block) < 0)
        s = hdf_fail(e, ERR_FORMAT, path, name);
    for (size_t i = 0; !s && i < n; i++)
        if (!(list[i] = mem_strndup(block + i * size, strnlen(block + i * size, size))))
            s = err_set(e, ERR_MEMORY, "%s: %s", path, name);
    mem_free(block);
    if (s && list) hdf_free_texts(list, n);
    if (!s) *out = list;
    return s;
}

void hdf_free_texts(char **list, size_t n)
{
    for (size_t i = 0; list && i < n; i++) mem_free(list[i]);
    mem_free(list);
}

enum status hdf_read_texts(hid_t file, const char *name, size_t max, char ***out, size_t *n,
                           const char *path, struct err *e)
{
    enum status s = OK;
    hid_t type = -1, space = -1, list = -1, set = H5Dopen2(file, name, H5P_DEFAULT);
    hsize_t count = 0;
    size_t size, bytes;
    if (set < 0 || (type = H5Dget_type(set)) < 0 || (space = H5Dget_space(set)) < 0 ||
        (list = H5Dget_create_plist(set)) < 0) {
        s = hdf_fail(e, ERR_FORMAT, path, name);
        goto out;
    }
    if (!(size = text_size(type)) || H5Sget_simple_extent_ndims(space) != 1 ||
        H5Sget_simple_extent_dims(space, &count, NULL) != 1 || count > max) {
        s = err_at(e, ERR_FORMAT, path, 0, 0,
                   "%s: a list of at most %zu strings of fixed length is expected", name, max);
        goto out;
    }
    /* Plain bytes that the file can hold; nothing outside it (external storage). */
    int64_t file_size = io_file_size(path);
    if (size_mul((size_t)count, size, &bytes) || file_size < 0 || bytes > (size_t)file_size ||
        size > (size_t)file_size || H5Pget_layout(list) != H5D_CONTIGUOUS ||
        H5Pget_external_count(list) != 0) {
        s = err_at(e, ERR_FORMAT, path, 0, 0, "%s has less in the file than its shape says", name);
        goto out;
    }
    *n = (size_t)count;
    s = copy_texts(set, type, *n, size, out, name, path, e);
out:
    if (list >= 0) H5Pclose(list);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (set >= 0) H5Dclose(set);
    return s;
}

void store_library_version(char *out, size_t size)
{
    unsigned version[3] = {0};
    if (H5get_libversion(&version[0], &version[1], &version[2]) < 0) version[0] = 0;
    snprintf(out, size, "%u.%u.%u", version[0], version[1], version[2]);
}

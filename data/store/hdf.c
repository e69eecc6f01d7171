#include "data/store/hdf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

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
    if (number && !r->errno_value) r->errno_value = atoi(number + strlen("errno = "));
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

/* Variable-length UTF-8; to be closed. */
static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 &&
        (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
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
    hid_t type = text_type();
    enum status s = write_attribute(file, name, type, type, &value, path, e);
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
    hid_t a, type, memory = -1;
    char *text = NULL;
    enum status s = open_attribute(file, name, &a, &type, path, e);
    if (s) goto out;
    if (H5Tis_variable_str(type) <= 0) {
        s = err_at(e, ERR_FORMAT, path, 0, 0, "attribute %s: a string is expected", name);
        goto out;
    }
    if ((memory = H5Tcopy(type)) < 0 || H5Aread(a, memory, &text) < 0) {
        s = attribute_fail(e, ERR_FORMAT, path, name);
        goto out;
    }
    *out = mem_strdup(text ? text : "");
    if (!*out) s = err_set(e, ERR_MEMORY, "%s: attribute %s", path, name);
out:
    if (text) H5free_memory(text);
    if (memory >= 0) H5Tclose(memory);
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
    hsize_t size = n;
    hid_t type = text_type(), space = H5Screate_simple(1, &size, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (set < 0 || (n && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0))
        s = hdf_fail(e, ERR_IO, path, name);
    if (set >= 0) H5Dclose(set);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return s;
}

/* HDF5's strings of `set` into ours. */
static enum status copy_texts(hid_t set, hid_t type, hid_t space, size_t n, char **out,
                              const char *name, const char *path, struct err *e)
{
    enum status s = OK;
    char **theirs = mem_calloc(n + 1, sizeof *theirs);
    if (!theirs) return err_set(e, ERR_MEMORY, "%s: %s", path, name);
    if (n && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, theirs) < 0)
        s = hdf_fail(e, ERR_FORMAT, path, name);
    for (size_t i = 0; !s && i < n; i++)
        if (!(out[i] = mem_strdup(theirs[i] ? theirs[i] : "")))
            s = err_set(e, ERR_MEMORY, "%s: %s", path, name);
    if (n) H5Dvlen_reclaim(type, space, H5P_DEFAULT, theirs);
    mem_free(theirs);
    return s;
}

enum status hdf_read_texts(hid_t file, const char *name, size_t max, char ***out, size_t *n,
                           const char *path, struct err *e)
{
    enum status s = OK;
    hid_t type = -1, space = -1, set = H5Dopen2(file, name, H5P_DEFAULT);
    hsize_t size = 0;
    *out = NULL;
    *n = 0;
    if (set < 0 || (type = H5Dget_type(set)) < 0 || (space = H5Dget_space(set)) < 0) {
        s = hdf_fail(e, ERR_FORMAT, path, name);
        goto out;
    }
    if (H5Tis_variable_str(type) <= 0 || H5Sget_simple_extent_ndims(space) != 1 ||
        H5Sget_simple_extent_dims(space, &size, NULL) != 1 || size > max) {
        s = err_at(e, ERR_FORMAT, path, 0, 0, "%s: a list of at most %zu strings is expected", name,
                   max);
        goto out;
    }
    *n = (size_t)size;
    *out = mem_calloc(*n + 1, sizeof **out);
    s = *out ? copy_texts(set, type, space, *n, *out, name, path, e)
             : err_set(e, ERR_MEMORY, "%s: %s", path, name);
out:
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (set >= 0) H5Dclose(set);
    return s;
}

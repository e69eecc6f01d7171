#include "fuzz/hdf5_changes.h"

#include <string.h>

#include "data/store/hdf.h"
#include "fuzz/fuzz.h"

#define CHANGES_MAX 16

static int64_t value_of(const uint8_t *bytes)
{
    int64_t v = 0;
    for (int i = 0; i < 6; i++) v = v << 8 | bytes[i];
    if (bytes[6] & 1) v = (int8_t)bytes[5];
    if (bytes[6] & 2) v = (int64_t)((uint64_t)v << 16);
    return bytes[6] & 4 ? -v : v;
}

static void change_number(hid_t file, const char *name, int64_t value)
{
    int64_t values[8] = {value}; /* the attribute may have become several */
    hid_t a = H5Aopen(file, name, H5P_DEFAULT);
    if (a < 0) return;
    H5Awrite(a, H5T_NATIVE_INT64, values);
    H5Aclose(a);
}

/* Another value under that name, of a type or shape that may not be the one expected. */
static void replace_attribute(hid_t file, const char *name, int64_t value, unsigned how)
{
    hsize_t n = how & 7;
    hid_t type = how & 8 ? H5Tcopy(H5T_C_S1) : H5Tcopy(H5T_STD_I64LE);
    if (how & 8) H5Tset_size(type, 1 + (how >> 4));
    hid_t space = n ? H5Screate_simple(1, &n, NULL) : H5Screate(H5S_SCALAR);
    H5Adelete(file, name);
    hid_t a = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    char bytes[256];
    memset(bytes, (int)value, sizeof bytes);
    if (a >= 0) H5Awrite(a, type, bytes);
    if (a >= 0) H5Aclose(a);
    H5Sclose(space);
    H5Tclose(type);
}

static int is_real(hid_t set)
{
    hid_t type = set >= 0 ? H5Dget_type(set) : -1;
    int real = type >= 0 && H5Tget_class(type) == H5T_FLOAT;
    if (type >= 0) H5Tclose(type);
    return real;
}

static void change_element(hid_t file, const char *name, hsize_t at, int64_t value, int wide)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    hid_t space = set >= 0 ? H5Dget_space(set) : -1;
    hsize_t one = 1;
    hid_t memory = H5Screate_simple(1, &one, NULL);
    double real = wide ? (double)value : (double)value / 256;
    memcpy(&real, wide ? (void *)&value : (void *)&real, sizeof real); /* NaN and infinity too */
    int as_real = is_real(set);
    if (space >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, &at, NULL, &one, NULL) >= 0)
        H5Dwrite(set, as_real ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64, memory, space, H5P_DEFAULT,
                 as_real ? (void *)&real : (void *)&value);
    H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    if (set >= 0) H5Dclose(set);
}

static void change_extent(hid_t file, const char *name, hsize_t size)
{
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
    if (set < 0) return;
    H5Dset_extent(set, &size);
    H5Dclose(set);
}

/* Another dataset under that name. */
static void replace_dataset(hid_t file, const char *name, hsize_t size, unsigned how)
{
    static const hsize_t unlimited = H5S_UNLIMITED;
    hsize_t chunk = 1 + (how & 15);
    hid_t list = H5Pcreate(H5P_DATASET_CREATE), type = H5Tcopy(H5T_C_S1);
    hid_t space = how & 16 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &size, &unlimited);
    if (!(how & 16)) H5Pset_chunk(list, 1, &chunk);
    if (how & 32) H5Pset_deflate(list, 1);
    H5Tset_size(type, how & 64 ? H5T_VARIABLE : 1 + how % 7);
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t set = space < 0 ? -1
                          : H5Dcreate2(file, name, how & 128 ? H5T_STD_I32LE : type, space,
                                       H5P_DEFAULT, list, H5P_DEFAULT);
    if (set >= 0) H5Dclose(set);
    if (space >= 0) H5Sclose(space);
    H5Tclose(type);
    H5Pclose(list);
}

static const char *pick(const struct hdf5_names *n, unsigned which)
{
    return n->names[which % n->count];
}

static void change(hid_t file, const struct hdf5_parts *p, const uint8_t *bytes)
{
    unsigned what = bytes[0], where = bytes[1];
    int64_t value = value_of(bytes + 2);
    const char *column = pick(&p->columns, what / 8);
    hsize_t small = (hsize_t)(value & 1023);
    switch (what % 8) {
    case 0: change_number(file, pick(&p->numbers, where), value); break;
    case 1: replace_attribute(file, pick(&p->numbers, what / 8), value, where); break;
    case 2: replace_attribute(file, pick(&p->texts, what / 8), value, where); break;
    case 3: change_extent(file, column, small); break;
    case 4: replace_dataset(file, column, small, where); break;
    case 5: replace_dataset(file, pick(&p->lists, what / 8), small, where); break;
    default: change_element(file, column, where, value, bytes[8] & 8); break;
    }
}

void hdf5_change_file(const char *path, const struct hdf5_parts *p, const uint8_t *data,
                      size_t size)
{
    hid_t list = hdf_access_list(), file = H5Fopen(path, H5F_ACC_RDWR, list);
    FUZZ_MUST(file >= 0);
    for (size_t i = 0; i < CHANGES_MAX && (i + 1) * HDF5_CHANGE <= size; i++)
        change(file, p, data + i * HDF5_CHANGE);
    H5Fclose(file);
    H5Pclose(list);
}

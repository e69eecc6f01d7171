/* A dataset file whose content was changed: what HDF5 checks by its sums (its own metadata) it
 * refuses before we see it, so the input says what to change through HDF5 itself. Nine bytes are
 * one change: what and where (two bytes), and a value (six of them, then how wide it is taken).
 * Bytes left over say by their number which kind of file is changed. A file that is taken is then
 * read whole. */
#include <string.h>

#include "base/io.h"
#include "data/store/hdf.h"
#include "data/store/store.h"
#include "fuzz/fuzz.h"

#define DOCUMENTS 12
#define CHANGE 9
#define CHANGES_MAX 16

static const char *const numbers[] = {"format_version", "vocab_size", "tokenize_whole",
                                      "num_documents",  "num_tokens", "num_turns",
                                      "num_targets"};
static const char *const texts[] = {"format", "tokenizer_hash", "content_hash", "train_on", "kind"};
static const char *const lists[] = {"/report", "/sources/name", "/sources/path", "/sources/hash"};
enum { NUM_NUMBERS = 7, NUM_TEXTS = 5, NUM_LISTS = 4 };

/* --- the whole file --- */

static void append(struct store_writer *w, int32_t document, enum record_kind kind)
{
    struct sample s = {.source = document & 1, .line = document + 1, .kind = kind, .chosen = 3};
    int pair = kind == KIND_PAIR, desirable = document % 2;
    s.rejected = pair || !desirable ? 3 + pair : 4 + document;
    struct err e = {0};
    FUZZ_MUST(!sample_begin_turn(&s, ROLE_USER));
    for (int32_t i = 0; i < 4 + document + pair; i++) {
        if (i == 3) FUZZ_MUST(!sample_begin_turn(&s, ROLE_ASSISTANT));
        FUZZ_MUST(!sample_append(&s, &i, 1, i >= 3 ? 1.0f : 0.0f));
    }
    FUZZ_MUST(!store_writer_append(w, &s, &e));
    sample_free(&s);
}

static void make_file(enum record_kind kind, struct buf *out)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct store_writer *w = NULL;
    struct store_settings settings = {"0123", "alpaca", "4567", "assistant", "", 0, 64, (int)kind};
    struct store_source sources[] = {{"a.json", "data/a.json", "89ab"}, {"b", "b", "cdef"}};
    fuzz_path("whole.h5", path);
    FUZZ_MUST(!store_writer_open(&w, path, &settings, sources, 2, &e));
    for (int32_t i = 0; i < DOCUMENTS; i++) append(w, i, kind);
    FUZZ_MUST(!store_writer_commit(w, "{}", &e));
    store_writer_close(w);
    FUZZ_MUST(!io_read_file(path, out, &e));
}

/* --- changes; that HDF5 refuses one is fine --- */

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

static void change_element(hid_t file, enum column_id c, hsize_t at, int64_t value, int wide)
{
    hid_t set = H5Dopen2(file, column_name(c), H5P_DEFAULT);
    hid_t space = set >= 0 ? H5Dget_space(set) : -1;
    hsize_t one = 1;
    hid_t memory = H5Screate_simple(1, &one, NULL);
    double real = wide ? (double)value : (double)value / 256;
    memcpy(&real, wide ? (void *)&value : (void *)&real, sizeof real); /* NaN and infinity too */
    int is_real = c == COLUMN_WEIGHTS || c == COLUMN_WEIGHT_SUM;
    if (space >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, &at, NULL, &one, NULL) >= 0)
        H5Dwrite(set, is_real ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64, memory, space, H5P_DEFAULT,
                 is_real ? (void *)&real : (void *)&value);
    H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    if (set >= 0) H5Dclose(set);
}

static void change_extent(hid_t file, enum column_id c, hsize_t size)
{
    hid_t set = H5Dopen2(file, column_name(c), H5P_DEFAULT);
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

static void change(hid_t file, const uint8_t *bytes)
{
    unsigned what = bytes[0], where = bytes[1];
    int64_t value = value_of(bytes + 2);
    enum column_id c = (enum column_id)(what / 8 % NUM_COLUMNS);
    hsize_t small = (hsize_t)(value & 1023);
    switch (what % 8) {
    case 0: change_number(file, numbers[where % NUM_NUMBERS], value); break;
    case 1: replace_attribute(file, numbers[what / 8 % NUM_NUMBERS], value, where); break;
    case 2: replace_attribute(file, texts[what / 8 % NUM_TEXTS], value, where); break;
    case 3: change_extent(file, c, small); break;
    case 4: replace_dataset(file, column_name(c), small, where); break;
    case 5: replace_dataset(file, lists[what / 8 % NUM_LISTS], small, where); break;
    default: change_element(file, c, where, value, bytes[8] & 8); break;
    }
}

/* --- reading --- */

static void read_whole(struct store *s)
{
    struct sample document = {0};
    struct err e = {0};
    const struct store_info *info = store_info(s);
    for (int64_t d = 0; d < info->num_documents; d++) {
        int32_t source;
        int64_t line;
        fuzz_look_at(store_origin(s, d, &source, &line, &e), &e);
        enum status status = store_document(s, d, &document, &e);
        fuzz_look_at(status, &e);
        for (size_t i = 0; !status && i < document.n; i++)
            FUZZ_MUST(document.ids[i] >= 0 && document.ids[i] < info->settings.vocab_size);
        if (status || document.kind == KIND_SFT) continue;
        FUZZ_MUST(document.chosen >= 1 && document.chosen <= document.rejected);
        FUZZ_MUST((size_t)document.rejected <= document.n && (size_t)document.chosen < document.n);
    }
    sample_free(&document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct buf files[NUM_KINDS]; /* kept: still reachable at exit */
    enum record_kind kind = (enum record_kind)(size % CHANGE % NUM_KINDS);
    struct buf *whole = &files[kind];
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct store *s = NULL;
    if (!whole->max) buf_init(whole, 1 << 24);
    if (!whole->len) make_file(kind, whole);
    fuzz_write("data.h5", whole->data, whole->len, path);
    hid_t list = hdf_access_list(), file = H5Fopen(path, H5F_ACC_RDWR, list);
    FUZZ_MUST(file >= 0);
    for (size_t i = 0; i < CHANGES_MAX && (i + 1) * CHANGE <= size; i++)
        change(file, data + i * CHANGE);
    H5Fclose(file);
    H5Pclose(list);
    enum status status = store_open(&s, path, &e);
    fuzz_look_at(status, &e);
    FUZZ_MUST(!status || size >= CHANGE);
    if (!status) read_whole(s);
    store_close(s);
    return 0;
}

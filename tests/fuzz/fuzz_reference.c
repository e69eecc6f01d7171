/* A sidecar of reference log-probabilities whose content was changed (hdf5_changes.h). One that is
 * taken has only values that a run can use, takes more of them, and is read again as it was saved.
 * The number of bytes left over says which documents were done. */
#include <math.h>
#include <string.h>

#include "base/io.h"
#include "data/store/reference.h"
#include "fuzz/fuzz.h"
#include "fuzz/hdf5_changes.h"

#define DOCUMENTS 12

static const char *const numbers[] = {"format_version", "max_length", "num_documents"};
static const char *const texts[] = {"format", "base", "adapter", "precision", "dataset"};
static const char *const columns[] = {
    "/done", "/chosen", "/rejected", "/chosen_shared", "/rejected_shared", "/mismatch", "/partner"};
static const struct hdf5_parts parts = {HDF5_NAMES(numbers), HDF5_NAMES(texts), HDF5_NAMES(columns),
                                        HDF5_NAMES(columns)};
static const struct reference_key key = {"0123", "", "fp32", "4567", 512};

static struct reference_logps logps_of(int64_t d)
{
    double x = -(double)(d + 1);
    return (struct reference_logps){x, x - 1, x / 2, x / 3, x / 4, d % 3 - 1};
}

static void make_file(size_t kind, struct buf *out)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct reference *r = NULL;
    fuzz_path("whole.h5", path);
    remove(path);
    FUZZ_MUST(!reference_open(&r, path, &key, DOCUMENTS, &e));
    for (int64_t d = 0; d < DOCUMENTS; d++) {
        const struct reference_logps x = logps_of(d);
        if (d % HDF5_CHANGE >= (int64_t)kind) FUZZ_MUST(!reference_set(r, d, &x, &e));
    }
    FUZZ_MUST(!reference_save(r, &e));
    reference_close(r);
    FUZZ_MUST(!io_read_file(path, out, &e));
}

/* What is there can be used; how much is there. */
static int64_t look_at_all(const struct reference *r)
{
    int64_t count = 0;
    for (int64_t d = 0; d < DOCUMENTS; d++) {
        const struct reference_logps *x = reference_get(r, d, -1);
        if (!x) continue;
        FUZZ_MUST(isfinite(x->chosen) && isfinite(x->rejected) && isfinite(x->chosen_shared) &&
                  isfinite(x->rejected_shared) && isfinite(x->mismatch));
        FUZZ_MUST(x->partner >= -1 && x->partner < DOCUMENTS);
        count++;
    }
    FUZZ_MUST(count == reference_count(r));
    return count;
}

static void add_and_reopen(struct reference *r, const char *path, int64_t document)
{
    struct err e = {0};
    struct reference *again = NULL;
    const struct reference_logps x = logps_of(document);
    FUZZ_MUST(!reference_set(r, document, &x, &e));
    int64_t count = look_at_all(r);
    FUZZ_MUST(!reference_save(r, &e));
    FUZZ_MUST(!reference_open(&again, path, &key, DOCUMENTS, &e));
    FUZZ_MUST(look_at_all(again) == count);
    for (int64_t d = 0; d < DOCUMENTS; d++) {
        const struct reference_logps *a = reference_get(r, d, -1), *b = reference_get(again, d, -1);
        FUZZ_MUST(!a == !b && (!a || !memcmp(a, b, sizeof *a)));
    }
    reference_close(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct buf files[HDF5_CHANGE]; /* kept: still reachable at exit */
    size_t kind = size % HDF5_CHANGE;
    struct buf *whole = &files[kind];
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct reference *r = NULL;
    if (!whole->max) buf_init(whole, 1 << 24);
    if (!whole->len) make_file(kind, whole);
    fuzz_write("data.h5", whole->data, whole->len, path);
    hdf5_change_file(path, &parts, data, size);
    enum status status = reference_open(&r, path, &key, DOCUMENTS, &e);
    fuzz_look_at(status, &e);
    FUZZ_MUST(!status || size >= HDF5_CHANGE);
    if (!status) {
        look_at_all(r);
        add_and_reopen(r, path, (int64_t)(size % DOCUMENTS));
    }
    reference_close(r);
    return 0;
}

/* A dataset file whose content was changed (hdf5_changes.h). Bytes left over say by their number
 * which kind of file is changed. A file that is taken is then read whole. */
#include <string.h>

#include "base/io.h"
#include "data/store/hdf.h"
#include "data/store/store.h"
#include "fuzz/fuzz.h"
#include "fuzz/hdf5_changes.h"

#define DOCUMENTS 12

static const char *const numbers[] = {"format_version", "vocab_size", "tokenize_whole",
                                      "num_documents",  "num_tokens", "num_turns",
                                      "num_targets"};
static const char *const texts[] = {"format", "tokenizer_hash", "content_hash", "train_on", "kind"};
static const char *const lists[] = {"/report", "/sources/name", "/sources/path", "/sources/hash"};
static const char *const columns[] = {
#define X(id, name, file, memory, type, chunk) name,
    STORE_COLUMNS(X)
#undef X
};
static const struct hdf5_parts parts = {HDF5_NAMES(numbers), HDF5_NAMES(texts), HDF5_NAMES(columns),
                                        HDF5_NAMES(lists)};

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
    enum record_kind kind = (enum record_kind)(size % HDF5_CHANGE % NUM_KINDS);
    struct buf *whole = &files[kind];
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct store *s = NULL;
    if (!whole->max) buf_init(whole, 1 << 24);
    if (!whole->len) make_file(kind, whole);
    fuzz_write("data.h5", whole->data, whole->len, path);
    hdf5_change_file(path, &parts, data, size);
    enum status status = store_open(&s, path, &e);
    fuzz_look_at(status, &e);
    FUZZ_MUST(!status || size >= HDF5_CHANGE);
    if (!status) read_whole(s);
    store_close(s);
    return 0;
}

/* The writing half of store.h. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/aside.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "data/store/hdf.h"
#include "data/store/latch.h"
#include "data/store/store.h"

/* One growing dataset: a chunk is gathered in memory and written once, whole. */
struct column {
    hid_t set;
    char *staged; /* [chunk] */
    hsize_t fill, written;
};

struct store_writer {
    char *path, *aside;
    hid_t file; /* -1: closed */
    struct column columns[NUM_COLUMNS];
    struct hasher *hash;
    int64_t num_documents, num_tokens, num_turns, num_targets;
    size_t num_sources;
    int32_t vocab_size;
    int kind;
    struct latch latch;
    int created; /* the aside file is ours to remove */
    int failed;  /* something failed: the file cannot be committed any more */
};

static enum status write_failed(struct store_writer *w, const char *what, struct err *e)
{
    w->failed = 1;
    if (!w->latch.failed) return hdf_fail(e, ERR_IO, w->aside, what);
    H5Eclear2(H5E_DEFAULT);
    if (w->latch.failed == ENOMEM) return err_set(e, ERR_MEMORY, "%s: %s", w->aside, what);
    errno = w->latch.failed;
    return err_errno(e, "%s: %s", w->aside, what);
}

/* ---- columns ---- */

static enum status column_create(struct store_writer *w, enum column_id c, struct err *e)
{
    struct column *k = &w->columns[c];
    hsize_t zero = 0, unlimited = H5S_UNLIMITED, chunk = column_chunk(c);
    if (!(k->staged = mem_calloc(chunk, column_size(c))))
        return err_set(e, ERR_MEMORY, "%s: %s", w->path, column_name(c));
    hid_t space = H5Screate_simple(1, &zero, &unlimited), list = H5Pcreate(H5P_DATASET_CREATE);
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    if (H5Pset_chunk(list, 1, &chunk) >= 0 && H5Pset_obj_track_times(list, 0) >= 0 &&
        H5Pset_chunk_cache(access, 1, 0, 0) >= 0)
        k->set = H5Dcreate2(w->file, column_name(c), column_file_type(c), space, H5P_DEFAULT, list,
                            access);
    enum status s = k->set < 0 ? write_failed(w, column_name(c), e) : OK;
    if (access >= 0) H5Pclose(access);
    if (list >= 0) H5Pclose(list);
    if (space >= 0) H5Sclose(space);
    return s;
}

static enum status column_flush(struct store_writer *w, enum column_id c, struct err *e)
{
    struct column *k = &w->columns[c];
    hsize_t size = k->written + k->fill;
    if (!k->fill) return OK;
    hid_t memory = -1, space = -1;
    int ok = H5Dset_extent(k->set, &size) >= 0 && (space = H5Dget_space(k->set)) >= 0 &&
             (memory = H5Screate_simple(1, &k->fill, NULL)) >= 0 &&
             H5Sselect_hyperslab(space, H5S_SELECT_SET, &k->written, NULL, &k->fill, NULL) >= 0 &&
             H5Dwrite(k->set, column_memory_type(c), memory, space, H5P_DEFAULT, k->staged) >= 0;
    enum status s = ok && !w->latch.failed ? OK : write_failed(w, column_name(c), e);
    if (memory >= 0) H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    k->written = size;
    k->fill = 0;
    return s;
}

static enum status column_push(struct store_writer *w, enum column_id c, const void *values,
                               size_t n, struct err *e)
{
    struct column *k = &w->columns[c];
    size_t each = column_size(c), chunk = (size_t)column_chunk(c);
    const char *from = values;
    while (n) {
        size_t part = chunk - (size_t)k->fill < n ? chunk - (size_t)k->fill : n;
        memcpy(k->staged + (size_t)k->fill * each, from, part * each);
        k->fill += part;
        from += part * each;
        n -= part;
        if (k->fill == chunk) TRY(column_flush(w, c, e));
    }
    return OK;
}

/* ---- opening ---- */

static enum status create_file(struct store_writer *w, struct err *e)
{
    /* Removed rather than truncated: a link somebody left there is not written through. */
    if (unlink(w->aside) && errno != ENOENT) return err_errno(e, "%s", w->aside);
    hid_t access = hdf_access_list(), list = H5Pcreate(H5P_FILE_CREATE);
    aside_begin(w->aside);
    w->created = 1; /* a file can be there even if HDF5 then fails */
    /* No times are kept: the same documents make the same bytes. */
    if (access >= 0 && latch_install(access, &w->latch) >= 0 && list >= 0 &&
        H5Pset_obj_track_times(list, 0) >= 0)
        w->file = H5Fcreate(w->aside, H5F_ACC_EXCL, list, access);
    enum status s = w->file < 0 ? write_failed(w, "cannot be created", e) : OK;
    if (s == ERR_IO) err_hint(e, "its folder must be there, and writable");
    if (access >= 0) H5Pclose(access);
    if (list >= 0) H5Pclose(list);
    return s;
}

static enum status write_settings(struct store_writer *w, const struct store_settings *settings,
                                  struct err *e)
{
    TRY(hdf_write_text(w->file, "format", STORE_FORMAT_NAME, w->aside, e));
    TRY(hdf_write_int(w->file, "format_version", STORE_FORMAT_VERSION, w->aside, e));
#define X(name) \
    TRY(hdf_write_text(w->file, #name, settings->name ? settings->name : "", w->aside, e));
    STORE_SETTINGS(X)
#undef X
    TRY(hdf_write_text(w->file, "kind", kind_name((enum record_kind)settings->kind), w->aside, e));
    TRY(hdf_write_int(w->file, "vocab_size", settings->vocab_size, w->aside, e));
    return hdf_write_int(w->file, "tokenize_whole", settings->tokenize_whole != 0, w->aside, e);
}

static enum status create_group(struct store_writer *w, const char *name, struct err *e)
{
    hid_t list = H5Pcreate(H5P_GROUP_CREATE), group = -1;
    if (list >= 0 && H5Pset_obj_track_times(list, 0) >= 0)
        group = H5Gcreate2(w->file, name, H5P_DEFAULT, list, H5P_DEFAULT);
    enum status s = group < 0 ? write_failed(w, name, e) : OK;
    if (group >= 0) H5Gclose(group);
    if (list >= 0) H5Pclose(list);
    return s;
}

static enum status write_sources(struct store_writer *w, const struct store_source *sources,
                                 size_t n, struct err *e)
{
    static const char *const names[] = {"/sources/name", "/sources/path", "/sources/hash"};
    TRY(create_group(w, "/sources", e));
    const char **list = mem_calloc(n + 1, sizeof *list);
    if (!list) return err_set(e, ERR_MEMORY, "%s: sources", w->path);
    enum status s = OK;
    for (int k = 0; k < 3 && !s; k++) {
        for (size_t i = 0; i < n; i++) {
            const char *texts[] = {sources[i].name, sources[i].path, sources[i].hash};
            list[i] = texts[k] ? texts[k] : "";
        }
        s = hdf_write_texts(w->file, names[k], list, n, w->aside, e);
    }
    mem_free(list);
    return s;
}

static enum status open_parts(struct store_writer *w, const char *path,
                              const struct store_settings *settings,
                              const struct store_source *sources, struct err *e)
{
    size_t length = strlen(path);
    if (length + sizeof ".tmp" > IO_PATH_MAX)
        return err_set(e, ERR_IO, "path too long: %.80s...", path);
    w->path = mem_strdup(path);
    w->aside = mem_alloc(length + sizeof ".tmp");
    w->hash = hasher_create();
    if (!w->path || !w->aside || !w->hash) return err_set(e, ERR_MEMORY, "%s", path);
    snprintf(w->aside, length + sizeof ".tmp", "%s.tmp", path);
    TRY(create_file(w, e));
    TRY(write_settings(w, settings, e));
    TRY(write_sources(w, sources, w->num_sources, e));
    TRY(create_group(w, "/documents", e));
    TRY(create_group(w, "/turns", e));
    for (int c = 0; c < NUM_COLUMNS; c++) TRY(column_create(w, (enum column_id)c, e));
    int64_t zero = 0;
    TRY(column_push(w, COLUMN_OFFSET, &zero, 1, e));
    return column_push(w, COLUMN_TURN_OFFSET, &zero, 1, e);
}

enum status store_writer_open(struct store_writer **out, const char *path,
                              const struct store_settings *settings,
                              const struct store_source *sources, size_t num_sources, struct err *e)
{
    *out = NULL;
    if (settings->vocab_size < 1)
        return err_set(e, ERR_CONFIG, "%s: a vocabulary of %d tokens", path,
                       (int)settings->vocab_size);
    if (num_sources > STORE_MAX_SOURCES)
        return err_set(e, ERR_CONFIG, "%s: %zu source files, at most %d are possible", path,
                       num_sources, STORE_MAX_SOURCES);
    if (settings->kind < 0 || settings->kind >= NUM_KINDS)
        return err_set(e, ERR_CONFIG, "%s: documents of no known kind", path);
    struct store_writer *w = mem_calloc(1, sizeof *w);
    if (!w) return err_set(e, ERR_MEMORY, "%s", path);
    hdf_init();
    w->file = -1;
    w->vocab_size = settings->vocab_size;
    w->kind = settings->kind;
    w->num_sources = num_sources;
    for (int c = 0; c < NUM_COLUMNS; c++) w->columns[c].set = -1;
    enum status s = open_parts(w, path, settings, sources, e);
    if (s)
        store_writer_close(w);
    else
        *out = w;
    return s;
}

/* ---- documents ---- */

/* Of a preference record, whose weights follow from where its replies are. */
static const char *replies_fault(const struct store_writer *w, const struct sample *d)
{
    if ((int)d->kind != w->kind) return "it is of another kind than the file";
    if (d->kind == KIND_SFT) return NULL;
    const char *fault = store_replies_fault(w->kind, (int64_t)d->n, d->chosen, d->rejected);
    for (size_t i = 0; i < d->n && !fault; i++)
        if (d->weights[i] != (i < (size_t)d->chosen ? 0.0f : 1.0f))
            fault = "its weights are not 0 in the prompt and 1 in the replies";
    return fault;
}

/* NULL, or what is wrong with the sample. */
static const char *sample_fault(const struct store_writer *w, const struct sample *d)
{
    if (d->n < 1) return "it has no tokens";
    if (d->n > INT32_MAX) return "it has more tokens than a document can";
    for (size_t i = 0; i < d->n; i++) {
        if (d->ids[i] < 0 || d->ids[i] >= w->vocab_size) return "an id is outside the vocabulary";
        if (!(d->weights[i] >= 0) || isinf(d->weights[i]))
            return "a weight is negative or not finite";
    }
    if (d->weights[0] != 0) return "its first id is trained, but nothing precedes it";
    for (size_t t = 0; t < d->num_turns; t++) {
        const struct sample_turn *turn = &d->turns[t];
        if (turn->start < (t ? turn[-1].start : 0) || (size_t)turn->start > d->n)
            return "its turns do not ascend";
        if (turn->role < 0 || turn->role > ROLE_TEXT) return "a turn has no known role";
    }
    if (d->source < 0 || (size_t)d->source >= w->num_sources) return "its source is not listed";
    return replies_fault(w, d);
}

static void hash_sample(struct hasher *h, const struct sample *d, int32_t chosen, int32_t rejected)
{
    hasher_u64(h, d->n);
    hasher_u64(h, (uint64_t)chosen);
    hasher_u64(h, (uint64_t)rejected);
    hasher_u64(h, d->num_turns);
    hasher_u64(h, (uint64_t)d->source);
    hasher_u64(h, (uint64_t)d->line);
    hasher_bytes(h, d->ids, d->n * sizeof *d->ids);
    hasher_bytes(h, d->weights, d->n * sizeof *d->weights);
    if (d->num_turns) hasher_bytes(h, d->turns, d->num_turns * sizeof *d->turns);
}

static enum status push_turns(struct store_writer *w, const struct sample *d, struct err *e)
{
    for (size_t t = 0; t < d->num_turns; t++) {
        int8_t role = (int8_t)d->turns[t].role;
        TRY(column_push(w, COLUMN_TURN_START, &d->turns[t].start, 1, e));
        TRY(column_push(w, COLUMN_TURN_ROLE, &role, 1, e));
    }
    return column_push(w, COLUMN_TURN_OFFSET, &w->num_turns, 1, e);
}

enum status store_writer_append(struct store_writer *w, const struct sample *d, struct err *e)
{
    const char *fault = sample_fault(w, d);
    if (fault)
        return err_set(e, ERR_DATA, "source %d, record %lld cannot be stored: %s", (int)d->source,
                       (long long)d->line, fault);
    if (w->failed) return err_set(e, ERR_IO, "%s: an earlier write failed", w->aside);
    struct store_targets t = store_count_targets(d->weights, (int64_t)d->n);
    w->num_documents++;
    w->num_tokens += (int64_t)d->n;
    w->num_turns += (int64_t)d->num_turns;
    w->num_targets += t.count;
    int32_t chosen = d->kind == KIND_SFT ? (int32_t)d->n : d->chosen;
    int32_t rejected = d->kind == KIND_SFT ? (int32_t)d->n : d->rejected;
    hash_sample(w->hash, d, chosen, rejected);
    TRY(column_push(w, COLUMN_TOKENS, d->ids, d->n, e));
    TRY(column_push(w, COLUMN_WEIGHTS, d->weights, d->n, e));
    TRY(column_push(w, COLUMN_OFFSET, &w->num_tokens, 1, e));
    TRY(column_push(w, COLUMN_LAST_TARGET, &t.last, 1, e));
    TRY(column_push(w, COLUMN_NUM_TARGETS, &t.count, 1, e));
    TRY(column_push(w, COLUMN_CHOSEN, &chosen, 1, e));
    TRY(column_push(w, COLUMN_REJECTED, &rejected, 1, e));
    TRY(column_push(w, COLUMN_WEIGHT_SUM, &t.weight, 1, e));
    TRY(column_push(w, COLUMN_SOURCE, &d->source, 1, e));
    TRY(column_push(w, COLUMN_LINE, &d->line, 1, e));
    return push_turns(w, d, e);
}

/* ---- closing ---- */

static enum status write_totals(struct store_writer *w, const char *report, struct err *e)
{
    char hash[HASH_HEX_SIZE];
    for (int c = 0; c < NUM_COLUMNS; c++) TRY(column_flush(w, (enum column_id)c, e));
    hasher_hex(w->hash, hash);
    TRY(hdf_write_int(w->file, "num_documents", w->num_documents, w->aside, e));
    TRY(hdf_write_int(w->file, "num_tokens", w->num_tokens, w->aside, e));
    TRY(hdf_write_int(w->file, "num_turns", w->num_turns, w->aside, e));
    TRY(hdf_write_int(w->file, "num_targets", w->num_targets, w->aside, e));
    TRY(hdf_write_text(w->file, "content_hash", hash, w->aside, e));
    if (!report) report = "{}";
    return hdf_write_texts(w->file, "/report", &report, 1, w->aside, e);
}

static enum status close_file(struct store_writer *w, struct err *e)
{
    int bad = 0;
    for (int c = 0; c < NUM_COLUMNS; c++) {
        if (w->columns[c].set >= 0) bad |= H5Dclose(w->columns[c].set) < 0;
        w->columns[c].set = -1;
    }
    if (w->file >= 0) bad |= H5Fclose(w->file) < 0;
    w->file = -1;
    return bad || w->latch.failed ? write_failed(w, "cannot be written", e) : OK;
}

enum status store_writer_commit(struct store_writer *w, const char *report_json, struct err *e)
{
    if (w->failed) return err_set(e, ERR_IO, "%s: an earlier write failed", w->aside);
    TRY(write_totals(w, report_json, e));
    TRY(close_file(w, e));
    TRY(hdf_publish(w->aside, w->path, e));
    aside_end(w->aside);
    w->created = 0;
    return OK;
}

void store_writer_close(struct store_writer *w)
{
    if (!w) return;
    struct err ignored = {0};
    enum status gone = close_file(w, &ignored); /* a commit has said it, or nobody wants to know */
    (void)gone;
    if (w->created) unlink(w->aside), aside_end(w->aside);
    for (int c = 0; c < NUM_COLUMNS; c++) mem_free(w->columns[c].staged);
    hasher_destroy(w->hash);
    mem_free(w->path);
    mem_free(w->aside);
    mem_free(w);
}

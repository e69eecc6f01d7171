/* The reading half of store.h. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/size.h"
#include "data/store/hdf.h"
#include "data/store/store.h"

struct column {
    hid_t set, space;
    int64_t size;
};

struct text_list {
    char **texts;
    size_t n;
};

struct store {
    char *path;
    int64_t file_size;
    hid_t file; /* -1: not open */
    struct column columns[NUM_COLUMNS];
    struct store_info info;
    /* What info points to, and how it is freed. */
    char *texts[16]; /* attributes */
    size_t num_texts;
    struct text_list lists[4]; /* report; name, path and hash of the sources */
    struct store_source *sources;
    int64_t *offsets;
    int32_t *last_targets, *targets, *chosen, *rejected;
    double *weights;
};

static enum status damaged(const struct store *s, const char *what, struct err *e)
{
    err_at(e, ERR_FORMAT, s->path, 0, 0, "damaged dataset file: %s", what);
    return err_hint(e, "prepare the data again");
}

struct store_targets store_count_targets(const float *weights, int64_t n)
{
    struct store_targets t = {-1, 0, 0.0};
    for (int64_t i = 0; i < n; i++) {
        if (weights[i] == 0) continue;
        t.last = (int32_t)i;
        t.count++;
        t.weight += (double)weights[i];
    }
    return t;
}

const char *store_replies_fault(int kind, int64_t n, int32_t chosen, int32_t rejected)
{
    if (kind == KIND_SFT) return chosen == n && rejected == n ? NULL : "a text with replies";
    if (chosen < 1) return "nothing precedes its replies";
    if (rejected < chosen || rejected > n || chosen >= n) return "its replies do not lie in it";
    int given = (rejected > chosen) + (n > rejected), want = kind == KIND_PAIR ? 2 : 1;
    if (given == want) return NULL;
    return want == 2 ? "a pair with one reply" : "an unpaired record with two replies";
}

/* ---- columns ---- */

/* NULL, or why the dataset is not what FORMAT.md says. That all its bytes are in the file bounds
 * what we allocate for it. */
static const char *column_fault(const struct column *k, enum column_id c, int64_t file_size)
{
    hsize_t size = 0;
    size_t bytes;
    hid_t type = H5Dget_type(k->set), list = H5Dget_create_plist(k->set);
    int right_type = type >= 0 && H5Tequal(type, column_file_type(c)) > 0;
    int chunked = list >= 0 && H5Pget_layout(list) == H5D_CHUNKED;
    int plain = list >= 0 && H5Pget_nfilters(list) == 0;
    if (type >= 0) H5Tclose(type);
    if (list >= 0) H5Pclose(list);
    if (!right_type) return "has another type of number";
    if (H5Sget_simple_extent_ndims(k->space) != 1 ||
        H5Sget_simple_extent_dims(k->space, &size, NULL) != 1)
        return "has another number of dimensions than 1";
    if (!chunked || !plain) return "is compressed or not chunked";
    if (size_mul((size_t)size, column_size(c), &bytes) || bytes > (size_t)file_size ||
        H5Dget_storage_size(k->set) < bytes)
        return "has less in the file than its shape says";
    return NULL;
}

static enum status column_open(struct store *s, enum column_id c, struct err *e)
{
    struct column *k = &s->columns[c];
    hsize_t size = 0;
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    /* No chunk cache: HDF5 then reads just the bytes asked for; the system caches pages. */
    if (access >= 0 && H5Pset_chunk_cache(access, 1, 0, 0) >= 0)
        k->set = H5Dopen2(s->file, column_name(c), access);
    if (access >= 0) H5Pclose(access);
    if (k->set < 0 || (k->space = H5Dget_space(k->set)) < 0)
        return hdf_fail(e, ERR_FORMAT, s->path, column_name(c));
    const char *fault = column_fault(k, c, s->file_size);
    if (fault) return err_at(e, ERR_FORMAT, s->path, 0, 0, "%s %s", column_name(c), fault);
    H5Sget_simple_extent_dims(k->space, &size, NULL);
    k->size = (int64_t)size;
    return OK;
}

/* `n` elements from `first`; the caller has checked that they are there. */
static enum status column_read(struct store *s, enum column_id c, int64_t first, int64_t n,
                               void *out, struct err *e)
{
    struct column *k = &s->columns[c];
    hsize_t at = (hsize_t)first, count = (hsize_t)n;
    if (!n) return OK;
    hid_t memory = H5Screate_simple(1, &count, NULL);
    int ok = memory >= 0 &&
             H5Sselect_hyperslab(k->space, H5S_SELECT_SET, &at, NULL, &count, NULL) >= 0 &&
             H5Dread(k->set, column_memory_type(c), memory, k->space, H5P_DEFAULT, out) >= 0;
    if (memory >= 0) H5Sclose(memory);
    return ok ? OK : hdf_fail(e, ERR_FORMAT, s->path, column_name(c));
}

static enum status column_load(struct store *s, enum column_id c, void **out, struct err *e)
{
    /* column_open has found the bytes in the file, so the product cannot wrap */
    *out = mem_alloc((size_t)s->columns[c].size * column_size(c) + 1);
    if (!*out) return err_set(e, ERR_MEMORY, "%s: %s", s->path, column_name(c));
    return column_read(s, c, 0, s->columns[c].size, *out, e);
}

/* ---- attributes and sources ---- */

static enum status keep_text(struct store *s, const char *name, const char **out, struct err *e)
{
    char *text = NULL;
    TRY(hdf_read_text(s->file, name, &text, s->path, e));
    s->texts[s->num_texts++] = text;
    *out = text;
    return OK;
}

static enum status check_version(struct store *s, struct err *e)
{
    int64_t version;
    const char *format;
    if (keep_text(s, "format", &format, e)) {
        if (e->code == ERR_FORMAT)
            err_hint(e, "damaged, or no dataset file of cria's: prepare the data again");
        return e->code;
    }
    if (strcmp(format, STORE_FORMAT_NAME))
        return err_at(e, ERR_FORMAT, s->path, 0, 0, "HDF5, but no cria dataset file");
    TRY(hdf_read_int(s->file, "format_version", &version, s->path, e));
    if (version == STORE_FORMAT_VERSION) return OK;
    err_at(e, ERR_FORMAT, s->path, 0, 0, "dataset file of version %lld, this is version %d",
           (long long)version, STORE_FORMAT_VERSION);
    return err_hint(e, "prepare the data again");
}

static enum status read_settings(struct store *s, struct err *e)
{
    struct store_settings *t = &s->info.settings;
    int64_t vocab_size, whole;
    const char *kind_text;
    enum record_kind kind;
#define X(name) TRY(keep_text(s, #name, &t->name, e));
    STORE_SETTINGS(X)
#undef X
    TRY(keep_text(s, "kind", &kind_text, e));
    if (!kind_find(kind_text, &kind)) return damaged(s, "documents of no known kind", e);
    t->kind = kind;
    TRY(hdf_read_int(s->file, "vocab_size", &vocab_size, s->path, e));
    TRY(hdf_read_int(s->file, "tokenize_whole", &whole, s->path, e));
    if (vocab_size < 1 || vocab_size > INT32_MAX) return damaged(s, "vocab_size", e);
    t->vocab_size = (int32_t)vocab_size;
    t->tokenize_whole = whole != 0;
    return keep_text(s, "content_hash", &s->info.content_hash, e);
}

static enum status read_texts(struct store *s, struct err *e)
{
    static const char *const names[] = {"/report", "/sources/name", "/sources/path",
                                        "/sources/hash"};
    for (int k = 0; k < 4; k++) {
        struct text_list *l = &s->lists[k];
        TRY(hdf_read_texts(s->file, names[k], k ? STORE_MAX_SOURCES : 1, &l->texts, &l->n, s->path,
                           e));
    }
    size_t n = s->lists[1].n;
    if (s->lists[0].n != 1) return damaged(s, "/report", e);
    if (s->lists[2].n != n || s->lists[3].n != n)
        return damaged(s, "the lists in /sources differ in length", e);
    if (!(s->sources = mem_calloc(n + 1, sizeof *s->sources)))
        return err_set(e, ERR_MEMORY, "%s: sources", s->path);
    for (size_t i = 0; i < n; i++)
        s->sources[i] =
            (struct store_source){s->lists[1].texts[i], s->lists[2].texts[i], s->lists[3].texts[i]};
    s->info.report = s->lists[0].texts[0];
    s->info.sources = s->sources;
    s->info.num_sources = n;
    return OK;
}

/* ---- what the small arrays say ---- */

static enum status check_counts(struct store *s, struct err *e)
{
    static const char *const names[] = {"num_documents", "num_tokens", "num_turns", "num_targets"};
    struct store_info *f = &s->info;
    int64_t *counts[] = {&f->num_documents, &f->num_tokens, &f->num_turns, &f->num_targets};
    for (int k = 0; k < 4; k++) {
        TRY(hdf_read_int(s->file, names[k], counts[k], s->path, e));
        if (*counts[k] < 0 || *counts[k] >= INT64_MAX / 16) return damaged(s, names[k], e);
    }
    for (int c = 0; c < NUM_COLUMNS; c++) {
        int64_t want = f->num_documents;
        if (c == COLUMN_TOKENS || c == COLUMN_WEIGHTS) want = f->num_tokens;
        if (c == COLUMN_TURN_START || c == COLUMN_TURN_ROLE) want = f->num_turns;
        if (c == COLUMN_OFFSET || c == COLUMN_TURN_OFFSET) want++;
        if (s->columns[c].size == want) continue;
        err_at(e, ERR_FORMAT, s->path, 0, 0, "%s has %lld entries, %lld are expected",
               column_name((enum column_id)c), (long long)s->columns[c].size, (long long)want);
        return err_hint(e, "prepare the data again");
    }
    return OK;
}

/* The replies lie in the document, and are all that is trained of it. */
static enum status check_replies(struct store *s, int64_t d, int64_t length, struct err *e)
{
    const struct store_info *f = &s->info;
    const char *fault = store_replies_fault(f->settings.kind, length, f->chosen[d], f->rejected[d]);
    if (fault) return damaged(s, fault, e);
    int64_t trained = length - f->chosen[d];
    if (f->settings.kind == KIND_SFT || (f->targets[d] == trained && f->weights[d] == trained))
        return OK;
    return damaged(s, "a document's replies are not what is trained of it", e);
}

static enum status check_documents(struct store *s, struct err *e)
{
    const struct store_info *f = &s->info;
    int64_t targets = 0;
    if (f->offsets[0] != 0 || f->offsets[f->num_documents] != f->num_tokens)
        return damaged(s, "/documents/offset does not span /tokens", e);
    for (int64_t d = 0; d < f->num_documents; d++) {
        /* Falling or wild offsets: both are checked to lie within the tokens, so that their
         * difference cannot wrap. */
        if (f->offsets[d + 1] <= f->offsets[d] || f->offsets[d + 1] > f->num_tokens ||
            f->offsets[d + 1] - f->offsets[d] > INT32_MAX)
            return damaged(s, "/documents/offset does not rise", e);
        int64_t length = f->offsets[d + 1] - f->offsets[d];
        int32_t last = f->last_targets[d], count = f->targets[d];
        int none = last == -1 && count == 0 && f->weights[d] == 0;
        int some = last >= 1 && last < length && count >= 1 && count <= last && f->weights[d] > 0 &&
                   isfinite(f->weights[d]);
        if (!none && !some) return damaged(s, "a document's last_target, targets or weight", e);
        TRY(check_replies(s, d, length, e));
        targets += count;
    }
    return targets == f->num_targets ? OK : damaged(s, "num_targets", e);
}

static enum status load_documents(struct store *s, struct err *e)
{
    TRY(column_load(s, COLUMN_OFFSET, (void **)&s->offsets, e));
    TRY(column_load(s, COLUMN_LAST_TARGET, (void **)&s->last_targets, e));
    TRY(column_load(s, COLUMN_NUM_TARGETS, (void **)&s->targets, e));
    TRY(column_load(s, COLUMN_WEIGHT_SUM, (void **)&s->weights, e));
    TRY(column_load(s, COLUMN_CHOSEN, (void **)&s->chosen, e));
    TRY(column_load(s, COLUMN_REJECTED, (void **)&s->rejected, e));
    s->info.chosen = s->chosen;
    s->info.rejected = s->rejected;
    s->info.offsets = s->offsets;
    s->info.last_targets = s->last_targets;
    s->info.targets = s->targets;
    s->info.weights = s->weights;
    return check_documents(s, e);
}

/* ---- opening ---- */

static enum status open_parts(struct store *s, const char *path, struct err *e)
{
    if (!(s->path = mem_strdup(path))) return err_set(e, ERR_MEMORY, "%s", path);
    if (access(path, R_OK)) return err_errno(e, "%s", path);
    if ((s->file_size = io_file_size(path)) < 0)
        return err_at(e, ERR_FORMAT, path, 0, 0, "no HDF5 file, but a folder or a device");
    hid_t list = hdf_access_list();
    s->file = H5Fopen(path, H5F_ACC_RDONLY, list);
    if (list >= 0) H5Pclose(list);
    if (s->file < 0) {
        hdf_fail(e, ERR_FORMAT, path, "no HDF5 file, or cut short");
        return err_hint(e, "prepare the data again; in .cria-cache, remove the file first");
    }
    TRY(check_version(s, e));
    TRY(read_settings(s, e));
    TRY(read_texts(s, e));
    for (int c = 0; c < NUM_COLUMNS; c++) TRY(column_open(s, (enum column_id)c, e));
    TRY(check_counts(s, e));
    return load_documents(s, e);
}

enum status store_open(struct store **out, const char *path, struct err *e)
{
    *out = NULL;
    struct store *s = mem_calloc(1, sizeof *s);
    if (!s) return err_set(e, ERR_MEMORY, "%s", path);
    hdf_init();
    s->file = -1;
    for (int c = 0; c < NUM_COLUMNS; c++) s->columns[c].set = s->columns[c].space = -1;
    enum status st = open_parts(s, path, e);
    if (st)
        store_close(s);
    else
        *out = s;
    return st;
}

void store_close(struct store *s)
{
    if (!s) return;
    for (int c = 0; c < NUM_COLUMNS; c++) {
        if (s->columns[c].space >= 0) H5Sclose(s->columns[c].space);
        if (s->columns[c].set >= 0) H5Dclose(s->columns[c].set);
    }
    if (s->file >= 0) H5Fclose(s->file);
    for (int k = 0; k < 4; k++) hdf_free_texts(s->lists[k].texts, s->lists[k].n);
    for (size_t i = 0; i < s->num_texts; i++) mem_free(s->texts[i]);
    mem_free(s->sources);
    mem_free(s->offsets);
    mem_free(s->last_targets);
    mem_free(s->targets);
    mem_free(s->chosen);
    mem_free(s->rejected);
    mem_free(s->weights);
    mem_free(s->path);
    mem_free(s);
}

const struct store_info *store_info(const struct store *s) { return &s->info; }
const char *store_path(const struct store *s) { return s->path; }

static enum status differs(const struct store *s, const char *what, const char *has,
                           const char *want, struct err *e)
{
    err_at(e, ERR_DATA, s->path, 0, 0, "made with %s '%s', this run has '%s'", what, has, want);
    return err_hint(e, "prepare it again with this run's settings, or run with the file's");
}

static enum status expect_kind(const struct store *s, int want, struct err *e)
{
    int has = s->info.settings.kind;
    static const char *const stages[] = {"sft", "dpo", "kto"};
    if (want < 0 || want == has) return OK;
    err_at(e, ERR_DATA, s->path, 0, 0, "holds %s, this run wants %s",
           kind_about((enum record_kind)has), kind_about((enum record_kind)want));
    return err_hint(e, "set stage: %s", stages[has]);
}

enum status store_expect(const struct store *s, const struct store_settings *want, struct err *e)
{
    const struct store_settings *has = &s->info.settings;
    TRY(expect_kind(s, want->kind, e));
#define X(name)                                      \
    if (want->name && strcmp(want->name, has->name)) \
        return differs(s, #name, has->name, want->name, e);
    STORE_SETTINGS(X)
#undef X
    if (want->tokenize_whole >= 0 && !want->tokenize_whole != !has->tokenize_whole)
        return differs(s, "tokenize_whole", has->tokenize_whole ? "true" : "false",
                       want->tokenize_whole ? "true" : "false", e);
    if (want->vocab_size && want->vocab_size != has->vocab_size)
        return err_at(e, ERR_DATA, s->path, 0, 0, "made for %d tokens, this run has %d",
                      (int)has->vocab_size, (int)want->vocab_size);
    return OK;
}

/* ---- documents ---- */

static enum status bad_document(const struct store *s, int64_t document, const char *what,
                                struct err *e)
{
    err_at(e, ERR_FORMAT, s->path, 0, 0, "damaged dataset file: document %lld: %s",
           (long long)document, what);
    return err_hint(e, "prepare the data again");
}

/* Weights of a document from its id `first` on, by themselves. */
static enum status check_values(const struct store *s, int64_t document, int64_t first, int64_t n,
                                const float *weights, struct err *e)
{
    if (!first && n && weights[0] != 0)
        return bad_document(s, document, "its first id is trained", e);
    for (int64_t i = 0; i < n; i++)
        if (!(weights[i] >= 0) || isinf(weights[i]))
            return bad_document(s, document, "a weight is negative or not finite", e);
    return OK;
}

/* Its first n weights, against what it was listed with. */
static enum status check_weights(const struct store *s, int64_t document, int64_t n,
                                 const float *weights, struct err *e)
{
    const struct store_info *f = &s->info;
    if (f->settings.kind != KIND_SFT)
        for (int64_t i = 0; i < n; i++)
            if (weights[i] != (i < f->chosen[document] ? 0.0f : 1.0f))
                return bad_document(s, document, "a weight that its replies do not give it", e);
    struct store_targets t = store_count_targets(weights, n);
    int agrees = t.last <= f->last_targets[document] && t.count <= f->targets[document];
    if (n > f->last_targets[document])
        agrees = t.last == f->last_targets[document] && t.count == f->targets[document] &&
                 t.weight == f->weights[document];
    return agrees ? OK
                  : bad_document(s, document, "its weights are not those it was listed with", e);
}

enum status store_read_part(struct store *s, int64_t document, int64_t first, int64_t n,
                            int32_t *ids, float *weights, struct err *e)
{
    const int64_t at = s->info.offsets[document] + first;
    if (ids) {
        TRY(column_read(s, COLUMN_TOKENS, at, n, ids, e));
        for (int64_t i = 0; i < n; i++)
            if (ids[i] < 0 || ids[i] >= s->info.settings.vocab_size)
                return bad_document(s, document, "an id is outside the vocabulary", e);
    }
    if (!weights) return OK;
    TRY(column_read(s, COLUMN_WEIGHTS, at, n, weights, e));
    return check_values(s, document, first, n, weights, e);
}

enum status store_read(struct store *s, int64_t document, int64_t n, int32_t *ids, float *weights,
                       struct err *e)
{
    TRY(store_read_part(s, document, 0, n, ids, weights, e));
    return weights ? check_weights(s, document, n, weights, e) : OK;
}

enum status store_origin(struct store *s, int64_t document, int32_t *source, int64_t *line,
                         struct err *e)
{
    TRY(column_read(s, COLUMN_SOURCE, document, 1, source, e));
    TRY(column_read(s, COLUMN_LINE, document, 1, line, e));
    if (*source < 0 || (size_t)*source >= s->info.num_sources)
        return bad_document(s, document, "its source is not listed", e);
    return OK;
}

enum status store_sources(struct store *s, int32_t *out, struct err *e)
{
    int64_t n = s->info.num_documents;
    TRY(column_read(s, COLUMN_SOURCE, 0, n, out, e));
    for (int64_t d = 0; d < n; d++)
        if (out[d] < 0 || (size_t)out[d] >= s->info.num_sources)
            return bad_document(s, d, "its source is not listed", e);
    return OK;
}

static enum status reserve(const struct store *s, struct sample *out, size_t n, size_t turns,
                           struct err *e)
{
    void *p;
    if (n > out->cap) {
        if (!(p = mem_resize(out->ids, n, sizeof *out->ids))) goto memory;
        out->ids = p;
        if (!(p = mem_resize(out->weights, n, sizeof *out->weights))) goto memory;
        out->weights = p;
        out->cap = n;
    }
    if (turns > out->cap_turns) {
        if (!(p = mem_resize(out->turns, turns, sizeof *out->turns))) goto memory;
        out->turns = p;
        out->cap_turns = turns;
    }
    return OK;
memory:
    return err_set(e, ERR_MEMORY, "%s: a document of %zu tokens", s->path, n);
}

static enum status read_turns(struct store *s, int64_t document, struct sample *out, struct err *e)
{
    enum { BLOCK = 64 };
    int64_t bounds[2];
    TRY(column_read(s, COLUMN_TURN_OFFSET, document, 2, bounds, e));
    if (bounds[0] < 0 || bounds[1] < bounds[0] || bounds[1] > s->info.num_turns)
        return bad_document(s, document, "its turns lie outside /turns", e);
    TRY(reserve(s, out, 0, (size_t)(bounds[1] - bounds[0]), e));
    for (int64_t at = bounds[0]; at < bounds[1];) {
        int32_t starts[BLOCK];
        int8_t roles[BLOCK];
        int64_t n = bounds[1] - at < BLOCK ? bounds[1] - at : BLOCK;
        TRY(column_read(s, COLUMN_TURN_START, at, n, starts, e));
        TRY(column_read(s, COLUMN_TURN_ROLE, at, n, roles, e));
        for (int64_t i = 0; i < n; i++) {
            int32_t before = out->num_turns ? out->turns[out->num_turns - 1].start : 0;
            if (starts[i] < before || (size_t)starts[i] > out->n)
                return bad_document(s, document, "its turns do not ascend", e);
            if (roles[i] < 0 || roles[i] > ROLE_TEXT)
                return bad_document(s, document, "a turn has no known role", e);
            out->turns[out->num_turns++] = (struct sample_turn){starts[i], roles[i]};
        }
        at += n;
    }
    return OK;
}

enum status store_document(struct store *s, int64_t document, struct sample *out, struct err *e)
{
    int64_t n = s->info.offsets[document + 1] - s->info.offsets[document];
    out->n = out->num_turns = 0;
    TRY(reserve(s, out, (size_t)n, 0, e));
    TRY(store_read(s, document, n, out->ids, out->weights, e));
    out->n = (size_t)n;
    out->kind = (enum record_kind)s->info.settings.kind;
    out->chosen = s->info.chosen[document];
    out->rejected = s->info.rejected[document];
    TRY(store_origin(s, document, &out->source, &out->line, e));
    return read_turns(s, document, out, e);
}

/* The dataset file: what is written is read; what is damaged is refused, by name. */
#include "support/check.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/store/hdf.h"
#include "data/store/store.h"

#define VOCAB 1000
#define DOCUMENTS 40

static char folder[] = "/tmp/cria-store-XXXXXX";
static char good[64], bad[64], linked[64], pairs[64];

static const struct store_settings settings = {.tokenizer_hash = "aa11",
                                               .template_name = "alpaca",
                                               .template_hash = "bb22",
                                               .train_on = "assistant",
                                               .tokenize_whole = 1,
                                               .vocab_size = VOCAB};
static const struct store_source sources[] = {{"a.json", "data/a.json", "00ff"},
                                              {"\xc3\xa9.jsonl", "../\xc3\xa9.jsonl", "11ee"}};

/* Document d of the test's dataset, in memory of the caller's frame. */
struct made {
    int32_t ids[700];
    float weights[700];
    struct sample_turn turns[3];
    struct sample sample;
};

static void make_document(struct made *m, int d)
{
    struct sample *s = &m->sample;
    *s = (struct sample){.ids = m->ids, .weights = m->weights, .turns = m->turns};
    s->n = 1 + (size_t)(d * 37) % 700;
    for (size_t i = 0; i < s->n; i++) {
        m->ids[i] = (int32_t)((i * 31 + (size_t)d * 7) % VOCAB);
        m->weights[i] = i && d % 5 && (i * 7 + (size_t)d) % 3 == 0 ? 0.25f * (float)(1 + d % 4) : 0;
    }
    s->num_turns = (size_t)d % 4;
    for (size_t t = 0; t < s->num_turns; t++)
        m->turns[t] = (struct sample_turn){(int32_t)(t * s->n / 4), (int32_t)(t + (size_t)d) % 5};
    s->source = d % 2;
    s->line = d + 1;
}

static enum status write_documents(const char *path, int n, struct err *e)
{
    struct store_writer *w;
    struct made m;
    TRY(store_writer_open(&w, path, &settings, sources, 2, e));
    enum status s = OK;
    for (int d = 0; d < n && !s; d++) {
        make_document(&m, d);
        s = store_writer_append(w, &m.sample, e);
    }
    if (!s) s = store_writer_commit(w, "{\"documents\": 40}", e);
    store_writer_close(w);
    return s;
}

/* Document d of a preference dataset: d % 6 + 1 ids of prompt, then its replies. */
static void make_preference(struct made *m, int d, enum record_kind kind)
{
    int32_t prompt = d % 6 + 1, chosen = d % 5 + 1, rejected = d % 7 + 1;
    if (kind == KIND_UNPAIRED) *(d % 2 ? &chosen : &rejected) = 0;
    make_document(m, 1);
    m->sample.n = (size_t)(prompt + chosen + rejected);
    m->sample.num_turns = 0;
    m->sample.kind = kind;
    m->sample.chosen = prompt;
    m->sample.rejected = prompt + chosen;
    for (size_t i = 0; i < m->sample.n; i++) m->weights[i] = i >= (size_t)prompt;
}

static enum status write_preferences(const char *path, enum record_kind kind, struct err *e)
{
    struct store_settings want = settings;
    struct store_writer *w;
    struct made m;
    want.kind = kind;
    TRY(store_writer_open(&w, path, &want, sources, 2, e));
    enum status s = OK;
    for (int d = 0; d < DOCUMENTS && !s; d++) {
        make_preference(&m, d, kind);
        s = store_writer_append(w, &m.sample, e);
    }
    if (!s) s = store_writer_commit(w, NULL, e);
    store_writer_close(w);
    return s;
}

/* Opens and reads all there is. */
static enum status read_all(const char *path, struct err *e)
{
    struct store *s;
    struct sample got = {0};
    TRY(store_open(&s, path, e));
    enum status st = OK;
    for (int64_t d = 0; d < store_info(s)->num_documents && !st; d++)
        st = store_document(s, d, &got, e);
    mem_free(got.ids);
    mem_free(got.weights);
    mem_free(got.turns);
    store_close(s);
    return st;
}

/* A good file whose weights are a link into another file. The room switches such links off as soon
 * as it is used, so it is used in a child first. */
static int make_linked(void)
{
    struct err e = {0};
    int status = 1;
    pid_t child = fork();
    if (child == 0) _exit(write_documents(good, DOCUMENTS, &e) != OK);
    if (child < 0 || waitpid(child, &status, 0) != child || status) return 1;
    if (io_copy_file(good, linked, &e)) return 1;
    hid_t f = H5Fopen(linked, H5F_ACC_RDWR, H5P_DEFAULT);
    int bad_link =
        H5Ldelete(f, "/weights", H5P_DEFAULT) < 0 ||
        H5Lcreate_external(good, "/weights", f, "/weights", H5P_DEFAULT, H5P_DEFAULT) < 0;
    H5Fclose(f);
    return bad_link;
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return 1;
    snprintf(good, sizeof good, "%s/good.h5", folder);
    snprintf(bad, sizeof bad, "%s/bad.h5", folder);
    snprintf(pairs, sizeof pairs, "%s/pairs.h5", folder);
    snprintf(linked, sizeof linked, "%s/linked.h5", folder);
    struct err e = {0};
    return make_linked() || write_preferences(pairs, KIND_PAIR, &e);
}

static int teardown(void **state)
{
    (void)state;
    struct err e = {0};
    return io_remove_tree(folder, &e) != OK;
}

/* ---- whole files ---- */

static void check_info(const struct store *s)
{
    const struct store_info *f = store_info(s);
    assert_int_equal(f->num_documents, DOCUMENTS);
    assert_int_equal(f->num_sources, 2);
    assert_string_equal(f->sources[1].name, sources[1].name);
    assert_string_equal(f->sources[1].path, sources[1].path);
    assert_string_equal(f->sources[1].hash, sources[1].hash);
    assert_string_equal(f->settings.template_name, "alpaca");
    assert_string_equal(f->settings.compat, "");
    assert_int_equal(f->settings.vocab_size, VOCAB);
    assert_int_equal(f->settings.tokenize_whole, 1);
    assert_string_equal(f->report, "{\"documents\": 40}");
    assert_int_equal(strlen(f->content_hash), 32);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s;
    struct sample got = {0};
    int64_t tokens = 0, turns = 0, targets = 0;
    assert_int_equal(store_open(&s, good, &e), OK);
    check_info(s);
    const struct store_info *f = store_info(s);
    for (int k = 0; k < DOCUMENTS; k++) {
        int d = k * 17 % DOCUMENTS;
        struct made m;
        make_document(&m, d);
        struct store_targets t = store_count_targets(m.weights, (int64_t)m.sample.n);
        assert_int_equal(store_document(s, d, &got, &e), OK);
        assert_int_equal(got.n, m.sample.n);
        assert_memory_equal(got.ids, m.ids, got.n * sizeof *got.ids);
        assert_memory_equal(got.weights, m.weights, got.n * sizeof *got.weights);
        assert_int_equal(got.num_turns, m.sample.num_turns);
        if (got.num_turns)
            assert_memory_equal(got.turns, m.turns, got.num_turns * sizeof *got.turns);
        assert_int_equal(got.source, d % 2);
        assert_int_equal(got.line, d + 1);
        assert_int_equal(f->offsets[d + 1] - f->offsets[d], m.sample.n);
        assert_int_equal(f->last_targets[d], t.last);
        assert_int_equal(f->targets[d], t.count);
        assert_true(f->weights[d] == t.weight);
        tokens += (int64_t)got.n;
        turns += (int64_t)got.num_turns;
        targets += t.count;
    }
    assert_int_equal(f->num_tokens, tokens);
    assert_int_equal(f->num_turns, turns);
    assert_int_equal(f->num_targets, targets);
    mem_free(got.ids);
    mem_free(got.weights);
    mem_free(got.turns);
    store_close(s);
}

static void test_preferences(void **state)
{
    (void)state;
    for (int kind = KIND_PAIR; kind <= KIND_UNPAIRED; kind++) {
        struct err e = {0};
        struct store *s;
        struct sample got = {0};
        struct made m;
        assert_int_equal(write_preferences(bad, (enum record_kind)kind, &e), OK);
        assert_int_equal(store_open(&s, bad, &e), OK);
        assert_int_equal(store_info(s)->settings.kind, kind);
        for (int d = 0; d < DOCUMENTS; d++) {
            make_preference(&m, d, (enum record_kind)kind);
            assert_int_equal(store_document(s, d, &got, &e), OK);
            assert_int_equal(got.n, m.sample.n);
            assert_int_equal(got.kind, kind);
            assert_int_equal(got.chosen, m.sample.chosen);
            assert_int_equal(got.rejected, m.sample.rejected);
            assert_int_equal(store_info(s)->chosen[d], m.sample.chosen);
            assert_int_equal(store_info(s)->rejected[d], m.sample.rejected);
            assert_memory_equal(got.weights, m.weights, got.n * sizeof *got.weights);
        }
        struct store_settings want = {.tokenize_whole = -1, .kind = kind};
        assert_int_equal(store_expect(s, &want, &e), OK);
        want.kind = KIND_SFT;
        assert_int_equal(store_expect(s, &want, &e), ERR_DATA);
        assert_non_null(strstr(e.hint, kind == KIND_PAIR ? "dpo" : "kto"));
        sample_free(&got);
        store_close(s);
    }
}

/* Where replies must not start, of a document of 9 ids and how it is said. */
static void test_bad_replies(void **state)
{
    (void)state;
    static const struct {
        enum record_kind file, kind;
        int32_t chosen, rejected;
        const char *fault;
    } cases[] = {
        {KIND_PAIR, KIND_SFT, 9, 9, "another kind"},
        {KIND_SFT, KIND_PAIR, 3, 5, "another kind"},
        {KIND_PAIR, KIND_PAIR, 0, 5, "nothing precedes"},
        {KIND_PAIR, KIND_PAIR, -1, 5, "nothing precedes"},
        {KIND_PAIR, KIND_PAIR, 9, 9, "do not lie in it"},
        {KIND_PAIR, KIND_PAIR, 5, 4, "do not lie in it"},
        {KIND_PAIR, KIND_PAIR, 5, 10, "do not lie in it"},
        {KIND_PAIR, KIND_PAIR, 5, 5, "one reply"},
        {KIND_PAIR, KIND_PAIR, 5, 9, "one reply"},
        {KIND_UNPAIRED, KIND_UNPAIRED, 5, 7, "two replies"},
        {KIND_PAIR, KIND_PAIR, 4, 6, "not 0 in the prompt"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        struct store_settings want = settings;
        struct store_writer *w;
        struct made m;
        make_preference(&m, 2, KIND_PAIR); /* 3 + 3 + 3 */
        want.kind = cases[i].file;
        m.sample.kind = cases[i].kind;
        m.sample.chosen = cases[i].chosen;
        m.sample.rejected = cases[i].rejected;
        assert_int_equal(store_writer_open(&w, bad, &want, sources, 2, &e), OK);
        assert_int_equal(store_writer_append(w, &m.sample, &e), ERR_DATA);
        assert_non_null(strstr(e.message, cases[i].fault));
        store_writer_close(w);
    }
}

/* Many chunks, several documents a chunk and several chunks a document. */
static void test_large(void **state)
{
    (void)state;
    enum { LONG = 100000, SHORT = 5000 };
    struct err e = {0};
    struct store_writer *w;
    struct store *s;
    int32_t *ids = calloc(LONG, sizeof *ids), *got = calloc(LONG, sizeof *got);
    float *weights = calloc(LONG, sizeof *weights), *read = calloc(LONG, sizeof *read);
    for (int i = 0; i < LONG; i++) ids[i] = i % VOCAB;
    for (int i = LONG / 2; i < LONG; i++) weights[i] = 1;
    struct sample d = {.ids = ids, .weights = weights};
    assert_int_equal(store_writer_open(&w, bad, &settings, sources, 1, &e), OK);
    for (int k = 0; k < SHORT; k++) {
        d.n = k == SHORT / 2 ? LONG : 3;
        assert_int_equal(store_writer_append(w, &d, &e), OK);
    }
    assert_int_equal(store_writer_commit(w, NULL, &e), OK);
    store_writer_close(w);
    assert_int_equal(store_open(&s, bad, &e), OK);
    assert_string_equal(store_info(s)->report, "{}");
    assert_int_equal(store_info(s)->num_tokens, LONG + 3 * (SHORT - 1));
    assert_int_equal(store_info(s)->targets[SHORT / 2], LONG / 2);
    assert_int_equal(store_read(s, SHORT / 2, LONG, got, read, &e), OK);
    assert_memory_equal(got, ids, LONG * sizeof *ids);
    assert_memory_equal(read, weights, LONG * sizeof *weights);
    assert_int_equal(store_read(s, SHORT - 1, 2, got, NULL, &e), OK);
    assert_int_equal(got[1], 1);
    assert_int_equal(store_read(s, 0, 0, got, read, &e), OK);
    store_close(s);
    free(ids);
    free(got);
    free(weights);
    free(read);
}

static void test_empty(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s;
    assert_int_equal(write_documents(bad, 0, &e), OK);
    assert_int_equal(store_open(&s, bad, &e), OK);
    assert_int_equal(store_info(s)->num_documents, 0);
    assert_string_equal(store_path(s), bad);
    store_close(s);
}

/* The same documents give the same fingerprint; one weight changes it. */
static void test_content_hash(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *a, *b;
    struct made m;
    struct store_writer *w;
    assert_int_equal(write_documents(bad, DOCUMENTS, &e), OK);
    assert_int_equal(store_open(&a, good, &e), OK);
    assert_int_equal(store_open(&b, bad, &e), OK);
    assert_string_equal(store_info(a)->content_hash, store_info(b)->content_hash);
    store_close(b);
    assert_int_equal(store_writer_open(&w, bad, &settings, sources, 2, &e), OK);
    for (int d = 0; d < DOCUMENTS; d++) {
        make_document(&m, d);
        if (d == DOCUMENTS - 1) m.weights[1] += 1;
        assert_int_equal(store_writer_append(w, &m.sample, &e), OK);
    }
    assert_int_equal(store_writer_commit(w, NULL, &e), OK);
    store_writer_close(w);
    assert_int_equal(store_open(&b, bad, &e), OK);
    assert_string_not_equal(store_info(a)->content_hash, store_info(b)->content_hash);
    store_close(a);
    store_close(b);
}

static void test_expect(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s;
    struct store_settings want = settings;
    assert_int_equal(store_open(&s, good, &e), OK);
    assert_int_equal(store_expect(s, &settings, &e), OK);
    want.template_hash = "cc33";
    assert_int_equal(store_expect(s, &want, &e), ERR_DATA);
    assert_non_null(strstr(e.message, "template_hash 'bb22'"));
    want = (struct store_settings){.tokenize_whole = -1};
    assert_int_equal(store_expect(s, &want, &e), OK);
    want.tokenize_whole = 0;
    assert_int_equal(store_expect(s, &want, &e), ERR_DATA);
    want = (struct store_settings){.tokenize_whole = -1, .vocab_size = VOCAB + 1};
    assert_int_equal(store_expect(s, &want, &e), ERR_DATA);
    store_close(s);
}

/* ---- writing goes wrong ---- */

static void refuse(struct store_writer *w, struct made *m, const char *why)
{
    struct err e = {0};
    assert_int_equal(store_writer_append(w, &m->sample, &e), ERR_DATA);
    if (!strstr(e.message, why)) fail_msg("'%s' does not say '%s'", e.message, why);
    make_document(m, 7);
}

static void test_bad_samples(void **state)
{
    (void)state;
    struct err e = {0};
    struct store_writer *w;
    struct store *s;
    struct made m;
    struct store_settings none = {.vocab_size = 0};
    assert_int_equal(store_writer_open(&w, bad, &none, sources, 2, &e), ERR_CONFIG);
    assert_int_equal(
        store_writer_open(&w, bad, &settings, sources, STORE_MAX_SOURCES + (size_t)1, &e),
        ERR_CONFIG);
    assert_int_equal(store_writer_open(&w, bad, &settings, sources, 2, &e), OK);
    make_document(&m, 7);
    m.sample.n = 0;
    refuse(w, &m, "no tokens");
    m.ids[3] = VOCAB;
    refuse(w, &m, "vocabulary");
    m.ids[3] = -1;
    refuse(w, &m, "vocabulary");
    m.weights[2] = -1;
    refuse(w, &m, "weight");
    m.weights[2] = NAN;
    refuse(w, &m, "weight");
    m.weights[2] = INFINITY;
    refuse(w, &m, "weight");
    m.weights[0] = 1;
    refuse(w, &m, "first id");
    m.turns[1].start = -1;
    refuse(w, &m, "ascend");
    m.turns[2].start = (int32_t)m.sample.n + 1;
    refuse(w, &m, "ascend");
    m.turns[2].role = 5;
    refuse(w, &m, "role");
    m.sample.source = 2;
    refuse(w, &m, "source");
    assert_int_equal(store_writer_append(w, &m.sample, &e), OK);
    assert_int_equal(store_writer_commit(w, NULL, &e), OK);
    store_writer_close(w);
    assert_int_equal(store_open(&s, bad, &e), OK);
    assert_int_equal(store_info(s)->num_documents, 1);
    store_close(s);
}

/* Until the commit the old file stays; what is not committed leaves nothing. */
static void test_atomic(void **state)
{
    (void)state;
    struct err e = {0};
    struct store_writer *w;
    struct made m;
    char aside[80];
    snprintf(aside, sizeof aside, "%s.tmp", bad);
    assert_int_equal(io_write_file(bad, "old", 3, &e), OK);
    assert_int_equal(store_writer_open(&w, bad, &settings, sources, 2, &e), OK);
    make_document(&m, 3);
    assert_int_equal(store_writer_append(w, &m.sample, &e), OK);
    assert_true(io_exists(aside));
    assert_int_equal(io_file_size(bad), 3);
    store_writer_close(w);
    assert_false(io_exists(aside));
    assert_int_equal(io_file_size(bad), 3);
    snprintf(aside, sizeof aside, "%s/none/x.h5", folder);
    assert_int_equal(store_writer_open(&w, aside, &settings, sources, 2, &e), ERR_IO);
    assert_non_null(strstr(e.message, "none/x.h5"));
    store_writer_close(NULL);
    store_close(NULL);
}

/* A file that may not grow stands for a full disk: both come to HDF5 as a failed write. */
static void test_write_fails(void **state)
{
    (void)state;
    struct rlimit old, small;
    struct err e = {0};
    char aside[80];
    snprintf(aside, sizeof aside, "%s.tmp", bad);
    assert_int_equal(io_write_file(bad, "old", 3, &e), OK);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    for (rlim_t limit = 0; limit < 400000; limit += 9973) {
        small = (struct rlimit){limit, old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        enum status s = write_documents(bad, DOCUMENTS, &e);
        setrlimit(RLIMIT_FSIZE, &old);
        if (!s) break;
        assert_int_equal(s, ERR_DISK_FULL);
        assert_false(io_exists(aside));
        assert_int_equal(io_file_size(bad), 3);
    }
    assert_int_equal(write_documents(bad, DOCUMENTS, &e), OK);
    assert_int_equal(read_all(bad, &e), OK);
}

static void test_no_memory(void **state)
{
    (void)state;
    char aside[80];
    snprintf(aside, sizeof aside, "%s.tmp", bad);
    for (int half = 0; half < 2; half++) {
        enum status s = ERR_MEMORY;
        long n = 0;
        while (s) {
            struct err e = {0};
            mem_fail_after(++n);
            s = half ? read_all(good, &e) : write_documents(bad, 6, &e);
            mem_fail_after(0);
            assert_true(!s || (s == ERR_MEMORY && e.code == s));
            assert_false(io_exists(aside));
        }
        assert_true(n > 10);
    }
}

/* ---- damaged files ---- */

static void set_int(hid_t file, const char *name, int64_t value)
{
    hid_t a = H5Aopen(file, name, H5P_DEFAULT);
    assert_true(H5Awrite(a, H5T_NATIVE_INT64, &value) >= 0);
    H5Aclose(a);
}

/* Writes one element, given as a double, in whatever type the dataset has. */
static void set_one(hid_t file, const char *name, hsize_t at, double value)
{
    hsize_t one = 1;
    hid_t set = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(set);
    hid_t memory = H5Screate_simple(1, &one, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, &at, NULL, &one, NULL);
    assert_true(H5Dwrite(set, H5T_NATIVE_DOUBLE, memory, space, H5P_DEFAULT, &value) >= 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(set);
}

/* Puts an empty-handed dataset in place of another. */
static void replace(hid_t file, const char *name, hid_t type, int rank, int chunked, int deflate)
{
    hsize_t size[2] = {0, 1}, chunk[2] = {64, 1}, most[2] = {H5S_UNLIMITED, 1};
    hid_t old = H5Dopen2(file, name, H5P_DEFAULT), had = H5Dget_space(old);
    H5Sget_simple_extent_dims(had, size, NULL);
    hid_t space = H5Screate_simple(rank, size, chunked ? most : NULL);
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    if (chunked) H5Pset_chunk(list, rank, chunk);
    if (deflate) H5Pset_deflate(list, 1);
    H5Sclose(had);
    H5Dclose(old);
    H5Ldelete(file, name, H5P_DEFAULT);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dclose(set);
    H5Pclose(list);
    H5Sclose(space);
}

static void set_text(hid_t file, const char *name, const char *value)
{
    struct err e = {0};
    H5Adelete(file, name);
    assert_int_equal(hdf_write_text(file, name, value, "test", &e), OK);
}

static void text_as_int(hid_t file, const char *name)
{
    struct err e = {0};
    H5Adelete(file, name);
    assert_int_equal(hdf_write_int(file, name, 5, "test", &e), OK);
}

static void int_as_text(hid_t file, const char *name)
{
    struct err e = {0};
    H5Adelete(file, name);
    assert_int_equal(hdf_write_text(file, name, "5", "test", &e), OK);
}

/* A shape far larger than the bytes that are there, with a count that says the same. */
static void grow(hid_t file)
{
    hsize_t huge = (hsize_t)1 << 50;
    hid_t set = H5Dopen2(file, "/documents/last_target", H5P_DEFAULT);
    assert_true(H5Dset_extent(set, &huge) >= 0);
    H5Dclose(set);
    set_int(file, "num_documents", (int64_t)huge);
}

static void drop_source(hid_t file)
{
    struct err e = {0};
    const char *one[] = {"x"};
    H5Ldelete(file, "/sources/hash", H5P_DEFAULT);
    assert_int_equal(hdf_write_texts(file, "/sources/hash", one, 1, "test", &e), OK);
}

static void short_report(hid_t file)
{
    struct err e = {0};
    H5Ldelete(file, "/report", H5P_DEFAULT);
    assert_int_equal(hdf_write_texts(file, "/report", NULL, 0, "test", &e), OK);
}

/* A string of variable length, which other programs like to write. */
static void variable(hid_t file)
{
    const char *text = "x";
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, H5T_VARIABLE);
    H5Adelete(file, "compat");
    hid_t a = H5Acreate2(file, "compat", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(H5Awrite(a, type, &text) >= 0);
    H5Aclose(a);
    H5Sclose(space);
    H5Tclose(type);
}

#define F64 H5T_IEEE_F64LE
#define I32 H5T_STD_I32LE
/* what is done to a good file, what the message must name */
#define DAMAGES(X)                                                                     \
    X(set_int(f, "format_version", 1), "version 1")                                    \
    X(set_text(f, "format", "other"), "no cria dataset file")                          \
    X(H5Adelete(f, "format"), "attribute format")                                      \
    X(H5Ldelete(f, "/report", H5P_DEFAULT), "/report")                                 \
    X(H5Adelete(f, "num_turns"), "attribute num_turns")                                \
    X(text_as_int(f, "train_on"), "attribute train_on: a string")                      \
    X(int_as_text(f, "num_tokens"), "attribute num_tokens: a 64-bit integer")          \
    X(set_int(f, "vocab_size", 0), "vocab_size")                                       \
    X(set_int(f, "vocab_size", (int64_t)1 << 31), "vocab_size")                        \
    X(set_int(f, "vocab_size", 10), "outside the vocabulary")                          \
    X(set_text(f, "kind", "other"), "no known kind")                                   \
    X(set_text(f, "kind", "pair"), "its replies do not lie in it")                     \
    X(set_one(f, "/documents/chosen", 7, 2), "a text with replies")                    \
    X(set_int(f, "num_documents", 39), "/documents/offset has 41 entries")             \
    X(set_int(f, "num_documents", -1), "num_documents")                                \
    X(set_int(f, "num_documents", INT64_MAX), "num_documents")                         \
    X(set_int(f, "num_tokens", 3), "/tokens has")                                      \
    X(set_int(f, "num_turns", 3), "/turns/start has")                                  \
    X(set_int(f, "num_targets", 3), "num_targets")                                     \
    X(H5Ldelete(f, "/weights", H5P_DEFAULT), "/weights")                               \
    X(H5Ldelete(f, "/documents", H5P_DEFAULT), "/documents/offset")                    \
    X(H5Ldelete(f, "/sources/path", H5P_DEFAULT), "/sources/path")                     \
    X(replace(f, "/tokens", F64, 1, 1, 0), "/tokens has another type")                 \
    X(replace(f, "/tokens", H5T_STD_I32BE, 1, 1, 0), "/tokens has another type")       \
    X(replace(f, "/tokens", I32, 2, 1, 0), "/tokens has another number of dimensions") \
    X(replace(f, "/tokens", I32, 1, 0, 0), "/tokens is compressed or not chunked")     \
    X(replace(f, "/tokens", I32, 1, 1, 1), "/tokens is compressed or not chunked")     \
    X(replace(f, "/tokens", I32, 1, 1, 0), "/tokens has less in the file")             \
    X(replace(f, "/sources/name", I32, 1, 1, 0), "/sources/name: a list")              \
    X(drop_source(f), "/sources differ")                                               \
    X(short_report(f), "/report")                                                      \
    X(variable(f), "attribute compat: a string of fixed")                              \
    X(replace(f, "/report", H5T_C_S1, 1, 1, 0), "/report has less in the file")        \
    X(grow(f), "/documents/last_target has less in the file")                          \
    X(set_one(f, "/documents/offset", 0, 1), "/documents/offset does not span")        \
    X(set_one(f, "/documents/offset", 40, 9), "/documents/offset does not span")       \
    X(set_one(f, "/documents/offset", 5, 2), "/documents/offset does not rise")        \
    X(set_one(f, "/documents/offset", 5, -9e18), "/documents/offset does not rise")    \
    X(set_one(f, "/documents/offset", 5, 9e18), "/documents/offset does not rise")     \
    X(set_one(f, "/documents/last_target", 7, 1e6), "last_target")                     \
    X(set_one(f, "/documents/last_target", 7, 0), "last_target")                       \
    X(set_one(f, "/documents/last_target", 7, -2), "last_target")                      \
    X(set_one(f, "/documents/last_target", 5, 1), "last_target")                       \
    X(set_one(f, "/documents/targets", 7, -1), "last_target, targets")                 \
    X(set_one(f, "/documents/weight", 7, NAN), "targets or weight")                    \
    X(set_one(f, "/documents/weight", 7, 1e9), "document 7: its weights")              \
    X(set_one(f, "/documents/source", 7, 2), "document 7: its source")                 \
    X(set_one(f, "/documents/source", 7, -1), "document 7: its source")                \
    X(set_one(f, "/documents/turn_offset", 8, -1), "document 7: its turns lie")        \
    X(set_one(f, "/documents/turn_offset", 8, 1e15), "document 7: its turns lie")      \
    X(set_one(f, "/turns/start", 0, -1), "document 1: its turns do not ascend")        \
    X(set_one(f, "/turns/start", 0, 1e6), "document 1: its turns do not ascend")       \
    X(set_one(f, "/turns/role", 0, 5), "document 1: a turn has no known role")         \
    X(set_one(f, "/turns/role", 0, -1), "document 1: a turn has no known role")        \
    X(set_one(f, "/tokens", 0, -1), "document 0: an id is outside")                    \
    X(set_one(f, "/tokens", 0, VOCAB), "document 0: an id is outside")                 \
    X(set_one(f, "/weights", 0, 1), "document 0: its first id")                        \
    X(set_one(f, "/weights", 3, NAN), "document 1: a weight")                          \
    X(set_one(f, "/weights", 3, -1), "document 1: a weight")                           \
    X(set_one(f, "/weights", 3, INFINITY), "document 1: a weight")                     \
    X(set_one(f, "/weights", 3, 7), "document 1: its weights are not")

/* The same of a file of pairs; its document 7 has 2 + 3 + 1 ids. */
#define PAIR_DAMAGES(X)                                                          \
    X(set_text(f, "kind", "sft"), "a text with replies")                         \
    X(set_text(f, "kind", "unpaired"), "an unpaired record with two replies")    \
    X(set_one(f, "/documents/chosen", 7, 0), "nothing precedes its replies")     \
    X(set_one(f, "/documents/chosen", 7, -2e9), "nothing precedes its replies")  \
    X(set_one(f, "/documents/chosen", 7, 2e9), "its replies do not lie in it")   \
    X(set_one(f, "/documents/chosen", 7, 5), "a pair with one reply")            \
    X(set_one(f, "/documents/chosen", 7, 1), "replies are not what is trained")  \
    X(set_one(f, "/documents/rejected", 7, 1), "its replies do not lie in it")   \
    X(set_one(f, "/documents/rejected", 7, 2e9), "its replies do not lie in it") \
    X(set_one(f, "/documents/rejected", 7, 6), "a pair with one reply")          \
    X(set_one(f, "/weights", 5, 0.5), "document 1: a weight that its replies")   \
    X(H5Ldelete(f, "/documents/chosen", H5P_DEFAULT), "/documents/chosen")       \
    X(replace(f, "/documents/rejected", F64, 1, 1, 0), "/documents/rejected has another")

static void expect_refused(const char *what, const char *must_name)
{
    struct err e = {0};
    char text[1024];
    enum status s = read_all(bad, &e);
    err_format(&e, text, sizeof text);
    if (s != ERR_FORMAT) fail_msg("%s: %s: %s", what, status_name(s), text);
    if (!strstr(text, must_name) || !strstr(text, bad))
        fail_msg("%s: '%s' does not name '%s'", what, text, must_name);
}

static void test_damages(void **state)
{
    (void)state;
    struct err e = {0};
    hid_t f;
#define X(damage, must_name)                                         \
    assert_int_equal(io_copy_file(good, bad, &e), OK);               \
    assert_true((f = H5Fopen(bad, H5F_ACC_RDWR, H5P_DEFAULT)) >= 0); \
    damage;                                                          \
    H5Fclose(f);                                                     \
    expect_refused(#damage, must_name);
    DAMAGES(X)
#undef X
#define X(damage, must_name)                                         \
    assert_int_equal(io_copy_file(pairs, bad, &e), OK);              \
    assert_true((f = H5Fopen(bad, H5F_ACC_RDWR, H5P_DEFAULT)) >= 0); \
    damage;                                                          \
    H5Fclose(f);                                                     \
    expect_refused(#damage, must_name);
    PAIR_DAMAGES(X)
#undef X
}

static void test_not_ours(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s;
    unlink(bad);
    assert_int_equal(store_open(&s, bad, &e), ERR_IO);
    assert_int_equal(store_open(&s, folder, &e), ERR_FORMAT);
    assert_int_equal(io_write_file(bad, "", 0, &e), OK);
    expect_refused("empty", "no HDF5 file");
    assert_int_equal(io_write_file(bad, "{\"instruction\": \"\"}", 19, &e), OK);
    expect_refused("text", "no HDF5 file");
    hid_t f = H5Fcreate(bad, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(f);
    expect_refused("foreign", "attribute format");
    assert_int_equal(io_copy_file(linked, bad, &e), OK);
    expect_refused("linked", "/weights");
}

static void test_truncated(void **state)
{
    (void)state;
    struct err e = {0};
    int64_t size = io_file_size(good);
    for (int64_t cut = 0; cut < size; cut += cut < 4096 ? 61 : 9001) {
        assert_int_equal(io_copy_file(good, bad, &e), OK);
        assert_int_equal(truncate(bad, cut), 0);
        expect_refused("truncated", "no HDF5 file");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_large),
        cmocka_unit_test(test_empty),       cmocka_unit_test(test_content_hash),
        cmocka_unit_test(test_expect),      cmocka_unit_test(test_bad_samples),
        cmocka_unit_test(test_atomic),      cmocka_unit_test(test_write_fails),
        cmocka_unit_test(test_no_memory),   cmocka_unit_test(test_damages),
        cmocka_unit_test(test_preferences), cmocka_unit_test(test_bad_replies),
        cmocka_unit_test(test_not_ours),    cmocka_unit_test(test_truncated),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* The sidecar of reference log-probabilities: what is saved is read, half filled or whole; another
 * key is refused by name; damage is refused; a failed save leaves the file of before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "data/store/hdf.h"
#include "data/store/reference.h"

#define DOCUMENTS 50

static char folder[] = "/tmp/cria-reference-XXXXXX";
static char good[64], bad[64];
static const struct reference_key key = {"aa11", "", "fp32", "bb22", 1024};

static struct reference_logps logps_of(int d)
{
    return (struct reference_logps){-1.0 / 3 * d, -0.1 * d,  -0.25 * d,
                                    -0.1 * d,     -7e-5 * d, d % 3 ? -1 : (d + 1) % DOCUMENTS};
}

/* Every `step`-th document. */
static void fill(const char *path, int step)
{
    struct err e = {0};
    struct reference *r;
    assert_int_equal(reference_open(&r, path, &key, DOCUMENTS, &e), OK);
    for (int d = 0; d < DOCUMENTS; d += step) {
        struct reference_logps x = logps_of(d);
        assert_int_equal(reference_set(r, d, &x, &e), OK);
    }
    assert_int_equal(reference_save(r, &e), OK);
    reference_close(r);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) return 1;
    snprintf(good, sizeof good, "%s/good.h5", folder);
    snprintf(bad, sizeof bad, "%s/bad.h5", folder);
    fill(good, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    struct err e = {0};
    return io_remove_tree(folder, &e) != OK;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct err e = {0};
    struct reference *r;
    unlink(bad);
    fill(bad, 3); /* as after a kill; then the rest of them */
    for (int step = 3; step >= 1; step -= 2) {
        fill(bad, step);
        assert_int_equal(reference_open(&r, bad, &key, DOCUMENTS, &e), OK);
        assert_int_equal(reference_count(r), (DOCUMENTS + step - 1) / step);
        for (int d = 0; d < DOCUMENTS; d++) {
            const struct reference_logps want = logps_of(d), *got = reference_get(r, d, -1);
            assert_int_equal(!got, d % step != 0);
            if (got) assert_memory_equal(got, &want, sizeof want);
        }
        reference_close(r);
    }
}

static void test_partners(void **state)
{
    (void)state;
    struct err e = {0};
    struct reference *r;
    assert_int_equal(reference_open(&r, good, &key, DOCUMENTS, &e), OK);
    assert_non_null(reference_get(r, 3, 4));
    assert_null(reference_get(r, 3, 5));
    assert_null(reference_get(r, 4, 5)); /* has none */
    assert_non_null(reference_get(r, 4, -1));
    assert_null(reference_get(r, -1, -1));
    assert_null(reference_get(r, DOCUMENTS, -1));
    struct reference_logps x = logps_of(1);
    assert_int_equal(reference_set(r, DOCUMENTS, &x, &e), ERR_DATA);
    assert_int_equal(reference_set(r, -1, &x, &e), ERR_DATA);
    x.partner = DOCUMENTS;
    assert_int_equal(reference_set(r, 1, &x, &e), ERR_DATA);
    x = logps_of(1);
    x.rejected_shared = NAN;
    assert_int_equal(reference_set(r, 1, &x, &e), ERR_DATA);
    assert_non_null(strstr(e.message, "rejected_shared"));
    reference_close(r);
    assert_int_equal(reference_open(&r, bad, &key, -1, &e), ERR_CONFIG);
    assert_int_equal(reference_open(&r, bad, &key, (int64_t)1 << 31, &e), ERR_CONFIG);
}

static void test_other_keys(void **state)
{
    (void)state;
    static const struct {
        struct reference_key key;
        int64_t documents;
        const char *name;
    } cases[] = {
        {{"aa12", "", "fp32", "bb22", 1024}, DOCUMENTS, "base 'aa11', this run has 'aa12'"},
        {{"aa11", "x", "fp32", "bb22", 1024}, DOCUMENTS, "adapter '', this run has 'x'"},
        {{"aa11", "", "bf16", "bb22", 1024}, DOCUMENTS, "precision 'fp32'"},
        {{"aa11", "", "fp32", "", 1024}, DOCUMENTS, "dataset 'bb22', this run has ''"},
        {{"aa11", "", "fp32", NULL, 1024}, DOCUMENTS, "dataset 'bb22', this run has ''"},
        {{"aa11", "", "fp32", "bb22", 512}, DOCUMENTS, "max_length '1024', this run has '512'"},
        {{"aa11", "", "fp32", "bb22", 1024}, DOCUMENTS - 1, "num_documents '50'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        struct reference *r;
        assert_int_equal(reference_open(&r, good, &cases[i].key, cases[i].documents, &e), ERR_DATA);
        assert_non_null(strstr(e.message, cases[i].name));
        assert_non_null(strstr(e.hint, "computed again"));
    }
}

/* ---- damage ---- */

static void set_one(hid_t f, const char *name, hid_t type, const void *value, hsize_t at)
{
    hsize_t one = 1;
    hid_t set = H5Dopen2(f, name, H5P_DEFAULT), space = H5Dget_space(set);
    hid_t memory = H5Screate_simple(1, &one, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, &at, NULL, &one, NULL);
    assert_true(H5Dwrite(set, type, memory, space, H5P_DEFAULT, value) >= 0);
    H5Sclose(memory);
    H5Sclose(space);
    H5Dclose(set);
}

static void set_real(hid_t f, const char *name, double value)
{
    set_one(f, name, H5T_NATIVE_DOUBLE, &value, 7);
}

static void set_int(hid_t f, const char *name, int64_t value)
{
    set_one(f, name, H5T_NATIVE_INT64, &value, 7);
}

static void set_number(hid_t f, const char *name, int64_t value)
{
    hid_t a = H5Aopen(f, name, H5P_DEFAULT);
    assert_true(H5Awrite(a, H5T_NATIVE_INT64, &value) >= 0);
    H5Aclose(a);
}

static void resize(hid_t f, const char *name, hsize_t size)
{
    hid_t space = H5Screate_simple(1, &size, NULL);
    H5Ldelete(f, name, H5P_DEFAULT);
    hid_t set = H5Dcreate2(f, name, H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dclose(set);
    H5Sclose(space);
}

#define DAMAGES(X)                                                   \
    X(set_number(f, "format_version", 7), "version 7")               \
    X(H5Adelete(f, "format"), "attribute format")                    \
    X(H5Adelete(f, "base"), "attribute base")                        \
    X(H5Ldelete(f, "/chosen", H5P_DEFAULT), "/chosen")               \
    X(H5Ldelete(f, "/done", H5P_DEFAULT), "/done")                   \
    X(resize(f, "/mismatch", 49), "/mismatch")                       \
    X(resize(f, "/partner", 50), "/partner")                         \
    X(resize(f, "/chosen", (hsize_t)1 << 40), "/chosen")             \
    X(set_real(f, "/chosen", NAN), "/chosen")                        \
    X(set_real(f, "/rejected_shared", INFINITY), "/rejected_shared") \
    X(set_int(f, "/done", 2), "/done")                               \
    X(set_int(f, "/partner", 50), "/partner")                        \
    X(set_int(f, "/partner", -2), "/partner")

static void expect_refused(const char *what, const char *must_name)
{
    struct err e = {0};
    struct reference *r;
    char text[1024];
    enum status s = reference_open(&r, bad, &key, DOCUMENTS, &e);
    err_format(&e, text, sizeof text);
    if (s != ERR_FORMAT || !strstr(text, must_name) || !strstr(text, bad))
        fail_msg("%s: %s: '%s' does not name '%s'", what, status_name(s), text, must_name);
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
    int64_t size = io_file_size(good);
    for (int64_t cut = 0; cut < size; cut += 97) {
        assert_int_equal(io_copy_file(good, bad, &e), OK);
        assert_int_equal(truncate(bad, cut), 0);
        expect_refused("cut short", "no HDF5 file");
    }
}

/* A disk that is full: the file of the last save stays, and the next save can work. */
static void test_save_fails(void **state)
{
    (void)state;
    struct err e = {0};
    struct reference *r;
    struct rlimit before, little = {500, 0};
    unlink(bad);
    fill(bad, 3);
    assert_int_equal(reference_open(&r, bad, &key, DOCUMENTS, &e), OK);
    struct reference_logps x = logps_of(1);
    assert_int_equal(reference_set(r, 1, &x, &e), OK);
    getrlimit(RLIMIT_FSIZE, &before);
    little.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &little);
    enum status s = reference_save(r, &e);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(s, ERR_DISK_FULL);
    char aside[80];
    snprintf(aside, sizeof aside, "%s.tmp", bad);
    assert_false(io_exists(aside));
    struct reference *other;
    assert_int_equal(reference_open(&other, bad, &key, DOCUMENTS, &e), OK);
    assert_null(reference_get(other, 1, -1));
    reference_close(other);
    assert_int_equal(reference_save(r, &e), OK);
    reference_close(r);
    assert_int_equal(reference_open(&other, bad, &key, DOCUMENTS, &e), OK);
    assert_non_null(reference_get(other, 1, -1));
    reference_close(other);
}

static void test_no_memory(void **state)
{
    (void)state;
    enum status s = ERR_MEMORY;
    for (long k = 1; s; k++) {
        struct err e = {0};
        struct reference *r = NULL;
        struct reference_logps x = logps_of(1);
        struct err ignored = {0};
        mem_fail_after(k);
        s = reference_open(&r, good, &key, DOCUMENTS, &e);
        if (!s) s = reference_set(r, 1, &x, &ignored);
        if (!s) s = reference_save(r, &e);
        mem_fail_after(0);
        reference_close(r);
        if (s) assert_int_equal(s, ERR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_partners),
        cmocka_unit_test(test_other_keys), cmocka_unit_test(test_damages),
        cmocka_unit_test(test_save_fails), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

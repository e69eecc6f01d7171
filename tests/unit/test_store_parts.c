/* store_read_part: any part of a document by itself, and no more of it than was asked for. */
#include "support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/store/hdf.h"
#include "data/store/store.h"

#define VOCAB 1000
#define DOCUMENTS 3
#define LONG 259 /* ids of the document in the middle */
#define BAD 100  /* place of an id that must not be; a bad weight stands two behind it */

static char path[] = "/tmp/cria-parts-XXXXXX";
static int32_t ids[LONG];
static float weights[LONG];

static int write_file(void **state)
{
    (void)state;
    static const struct store_settings settings = {"aa", "alpaca", "bb",  "assistant",
                                                   "",   0,        VOCAB, 0};
    static const struct store_source source = {"a.json", "data/a.json", "00ff"};
    struct err e = {0};
    struct store_writer *w;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (int i = 0; i < LONG; i++) {
        ids[i] = i * 31 % VOCAB;
        weights[i] = i % 3 ? 0.25f * (float)(i % 5) : 0;
    }
    CHECK_OK(store_writer_open(&w, path, &settings, &source, 1, &e), &e);
    for (int d = 0; d < DOCUMENTS; d++) {
        struct sample s = {.ids = ids, .weights = weights, .n = d == 1 ? LONG : 5, .line = d + 1};
        CHECK_OK(store_writer_append(w, &s, &e), &e);
    }
    CHECK_OK(store_writer_commit(w, NULL, &e), &e);
    store_writer_close(w);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void test_every_part(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s;
    int32_t got[LONG + 1];
    float read[LONG + 1];
    CHECK_OK(store_open(&s, path, &e), &e);
    for (int first = 0; first <= LONG; first += 7)
        for (int n = 0; first + n <= LONG; n += 11) {
            got[n] = -7;
            read[n] = -7;
            CHECK_OK(store_read_part(s, 1, first, n, got, read, &e), &e);
            assert_memory_equal(got, ids + first, (size_t)n * sizeof *ids);
            assert_memory_equal(read, weights + first, (size_t)n * sizeof *weights);
            assert_true(got[n] == -7 && read[n] == -7);
        }
    CHECK_OK(store_read_part(s, 1, 5, 9, NULL, read, &e), &e);
    assert_memory_equal(read, weights + 5, 9 * sizeof *weights);
    CHECK_OK(store_read_part(s, 1, 5, 9, got, NULL, &e), &e);
    assert_memory_equal(got, ids + 5, 9 * sizeof *ids);
    store_close(s);
}

static void change(hid_t file, const char *name, hsize_t at, double value)
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

/* What is wrong in a part is refused there, and nowhere else. */
static void test_damaged_part(void **state)
{
    (void)state;
    struct err e = {0};
    struct store *s;
    int32_t got[LONG];
    float read[LONG];
    hid_t list = hdf_access_list(), file = H5Fopen(path, H5F_ACC_RDWR, list);
    assert_true(file >= 0);
    change(file, "/tokens", 5 + BAD, VOCAB);
    change(file, "/weights", 5 + BAD + 2, -1);
    H5Fclose(file);
    H5Pclose(list);
    CHECK_OK(store_open(&s, path, &e), &e);
    CHECK_OK(store_read_part(s, 1, 0, BAD, got, read, &e), &e);
    CHECK_OK(store_read_part(s, 1, BAD + 3, LONG - BAD - 3, got, read, &e), &e);
    assert_int_equal(store_read_part(s, 1, BAD, 1, got, NULL, &e), ERR_FORMAT);
    assert_non_null(strstr(e.message, "outside the vocabulary"));
    assert_int_equal(store_read_part(s, 1, BAD + 1, 2, got, read, &e), ERR_FORMAT);
    assert_non_null(strstr(e.message, "weight"));
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_part),
        cmocka_unit_test(test_damaged_part),
    };
    return cmocka_run_group_tests(tests, write_file, remove_file);
}

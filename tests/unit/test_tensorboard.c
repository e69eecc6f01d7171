/* Event files: checksums with known answers, and the records read back by a reader of our own. */
#include "run/tensorboard.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/check.h"

static void test_checksums(void **state)
{
    char block[32];
    (void)state;
    assert_int_equal(crc32c("", 0), 0);
    assert_int_equal(crc32c("123456789", 9), 0xE3069283);
    memset(block, 0, sizeof block); /* RFC 3720, B.4 */
    assert_int_equal(crc32c(block, sizeof block), 0x8A9136AA);
    memset(block, 0xFF, sizeof block);
    assert_int_equal(crc32c(block, sizeof block), 0x62A8AB43);
    for (int i = 0; i < 32; i++) block[i] = (char)i;
    assert_int_equal(crc32c(block, sizeof block), 0x46DD794E);
    assert_int_equal(crc32c_mask(0), 0xA282EAD8);
    assert_int_equal(crc32c_mask(0xE3069283), 0xC78AB0E5);
}

/* --- reading back --- */

static uint64_t little(const unsigned char *p, int n)
{
    uint64_t v = 0;
    for (int i = n; i-- > 0;) v = v << 8 | p[i];
    return v;
}

struct field {
    int number, wire;
    uint64_t value; /* of a number */
    const unsigned char *bytes;
    size_t n;
};

static uint64_t varint(const unsigned char **at)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        unsigned char byte = *(*at)++;
        v |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return v;
    }
}

static struct field next_field(const unsigned char **at)
{
    uint64_t key = varint(at);
    struct field f = {.number = (int)(key >> 3), .wire = (int)(key & 7)};
    if (f.wire == 0) f.value = varint(at);
    if (f.wire == 2) {
        f.n = varint(at);
        f.bytes = *at;
        *at += f.n;
    }
    if (f.wire == 1 || f.wire == 5) {
        f.value = little(*at, f.wire == 1 ? 8 : 4);
        *at += f.wire == 1 ? 8 : 4;
    }
    return f;
}

/* The next record's payload; NULL at the end. */
static const unsigned char *next_record(const unsigned char **at, const unsigned char *end,
                                        size_t *n)
{
    const unsigned char *p = *at;
    if (p == end) return NULL;
    assert_true(end - p > 16);
    *n = little(p, 8);
    assert_int_equal(little(p + 8, 4), crc32c_mask(crc32c(p, 8)));
    assert_true((size_t)(end - p) >= *n + 16);
    assert_int_equal(little(p + 12 + *n, 4), crc32c_mask(crc32c(p + 12, *n)));
    *at = p + *n + 16;
    return p + 12;
}

static void check_value(struct field f, const char *tag, float want)
{
    const unsigned char *at = f.bytes;
    float value;
    assert_int_equal(f.number, 1);
    struct field name = next_field(&at), number = next_field(&at);
    assert_int_equal(name.number, 1);
    assert_int_equal(name.n, strlen(tag));
    assert_memory_equal(name.bytes, tag, name.n);
    assert_int_equal(number.number, 2);
    assert_int_equal(number.wire, 5);
    uint32_t bits = (uint32_t)number.value;
    memcpy(&value, &bits, sizeof value);
    assert_true(value == want);
    assert_ptr_equal(at, f.bytes + f.n);
}

static void check_file(const struct buf *file)
{
    const unsigned char *at = (const unsigned char *)file->data, *end = at + file->len, *p;
    size_t n;
    p = next_record(&at, end, &n);
    struct field time = next_field(&p), step = next_field(&p), version = next_field(&p);
    double seconds;
    memcpy(&seconds, &time.value, sizeof seconds);
    assert_true(time.number == 1 && time.wire == 1 && seconds > 1e9);
    assert_true(step.number == 2 && step.value == 0);
    assert_int_equal(version.number, 3);
    assert_int_equal(version.n, 13);
    assert_memory_equal(version.bytes, "brain.Event:2", 13);
    p = next_record(&at, end, &n); /* the session's start at step 301 */
    next_field(&p);
    assert_int_equal(next_field(&p).value, 301);
    struct field session = next_field(&p);
    assert_int_equal(session.number, 7);
    const unsigned char *inner = session.bytes;
    struct field status = next_field(&inner);
    assert_true(status.number == 1 && status.value == 1);
    p = next_record(&at, end, &n);
    const unsigned char *stop = p + n;
    next_field(&p);
    assert_int_equal(next_field(&p).value, 302);
    struct field summary = next_field(&p);
    assert_ptr_equal(p, stop);
    assert_int_equal(summary.number, 5);
    inner = summary.bytes;
    check_value(next_field(&inner), "train/loss", 1.25f);
    check_value(next_field(&inner), "train/learning_rate", 2e-5f);
    assert_ptr_equal(inner, summary.bytes + summary.n);
    assert_null(next_record(&at, end, &n));
}

static void test_events(void **state)
{
    static const struct tensorboard_scalar scalars[] = {{"train/loss", 1.25},
                                                        {"train/learning_rate", 2e-5}};
    char dir[] = "/tmp/cria-events-XXXXXX";
    struct tensorboard t;
    struct err e = {0};
    struct buf file;
    (void)state;
    assert_non_null(mkdtemp(dir));
    CHECK_OK(tensorboard_open(&t, dir, 301, &e), &e);
    assert_non_null(strstr(t.path, "/events.out.tfevents."));
    CHECK_OK(tensorboard_write(&t, 302, scalars, 2, &e), &e);
    buf_init(&file, 1 << 20);
    CHECK_OK(io_read_file(t.path, &file, &e), &e); /* whole before it is closed */
    check_file(&file);
    buf_free(&file);
    tensorboard_close(&t);
    tensorboard_close(&t);
    CHECK_OK(io_remove_tree(dir, &e), &e);
}

static void test_failures(void **state)
{
    struct tensorboard t;
    struct err e = {0};
    struct tensorboard_scalar one = {"train/loss", 1};
    (void)state;
    assert_int_equal(tensorboard_open(&t, "/dev/null/runs", 1, &e), ERR_IO);
    tensorboard_close(&t);
    CHECK_OK(tensorboard_open(&t, "/tmp", 1, &e), &e);
    char path[IO_PATH_MAX];
    snprintf(path, sizeof path, "%s", t.path);
    char *tag = calloc(1, 1 << 17); /* more than an event may hold */
    memset(tag, 'a', (1 << 17) - 1);
    struct tensorboard_scalar long_tag = {tag, 1};
    assert_int_equal(tensorboard_write(&t, 2, &long_tag, 1, &e), ERR_FORMAT);
    CHECK_OK(tensorboard_write(&t, 2, &one, 1, &e), &e);
    free(tag);
    tensorboard_close(&t);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksums),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

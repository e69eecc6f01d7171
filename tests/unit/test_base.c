/* Everything in trainer/base. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/size.h"
#include "base/segment.h"

static void test_err(void **state)
{
    (void)state;
    struct err e = {0};
    char text[512];
    assert_int_equal(err_at(&e, ERR_FORMAT, "a.json", 3, 7, "bad %s", "byte"), ERR_FORMAT);
    err_wrap(&e, "tokenizer");
    err_hint(&e, "write it as UTF-8");
    err_hint(&e, "this one comes too late");
    err_format(&e, text, sizeof text);
    assert_string_equal(text, "a.json:3:7: tokenizer: bad byte (write it as UTF-8)");
    assert_int_equal(status_exit_code(ERR_FIT), 3);
}

static void test_buf(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    assert_int_equal(buf_puts(&b, "12345"), OK);
    assert_int_equal(buf_printf(&b, "%d", 678), OK);
    assert_int_equal(buf_puts(&b, "9ab"), ERR_FORMAT);
    assert_string_equal(b.data, "12345678");
    mem_fail_after(1);
    struct buf c;
    buf_init(&c, 10);
    assert_int_equal(buf_putc(&c, 'x'), ERR_MEMORY);
    mem_fail_after(0);
    buf_free(&b);
    buf_free(&c);
}

static void test_philox(void **state)
{
    (void)state; /* known answers of the Random123 distribution (kat_vectors, philox4x32 10) */
    uint32_t out[4], zero[4] = {0}, ones[4] = {~0u, ~0u, ~0u, ~0u};
    uint32_t want0[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    uint32_t want1[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    rng_words((struct rng_key){{0, 0}}, zero, out);
    assert_memory_equal(out, want0, sizeof out);
    rng_words((struct rng_key){{~0u, ~0u}}, ones, out);
    assert_memory_equal(out, want1, sizeof out);
}

static void test_torch_permutation(void **state)
{
    (void)state; /* torch.manual_seed(42); torch.randperm(10) */
    int64_t p[10], want[10] = {2, 6, 1, 8, 4, 5, 0, 9, 3, 7};
    rng_torch_permutation(42, 10, p);
    assert_memory_equal(p, want, sizeof p);
}

static void test_normal_moments(void **state)
{
    (void)state;
    enum { n = 100000 };
    float *x = malloc(n * sizeof *x);
    double sum = 0, squares = 0;
    rng_fill_normal(rng_key(1, RNG_INIT, 2), x, n, 3, 2);
    for (int i = 0; i < n; i++) sum += x[i], squares += (x[i] - 3.0) * (x[i] - 3.0);
    assert_true(sum / n > 2.98 && sum / n < 3.02);
    assert_true(squares / n > 3.9 && squares / n < 4.1);
    free(x);
}

static void test_io(void **state)
{
    (void)state;
    struct err e = {0};
    char dir[] = "/tmp/cria-test-XXXXXX", path[IO_PATH_MAX], copy[IO_PATH_MAX], hex[HASH_HEX_SIZE];
    assert_non_null(mkdtemp(dir));
    assert_int_equal(io_join(path, sizeof path, dir, "a/b/c", &e), OK);
    assert_int_equal(io_make_dirs(path, &e), OK);
    assert_int_equal(io_join(path, sizeof path, dir, "f", &e), OK);
    assert_int_equal(io_join(copy, sizeof copy, dir, "g", &e), OK);
    assert_int_equal(io_write_file(path, "hello", 5, &e), OK);
    assert_int_equal(io_copy_file(path, copy, &e), OK);
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(io_read_file(copy, &b, &e), OK);
    assert_string_equal(b.data, "hello");
    buf_free(&b);
    assert_int_equal(hash_file(path, hex, &e), OK);
    assert_string_equal(hex, "b5e9c1ad071b3e7fc779cfaa5e523818"); /* xxhash.xxh3_128_hexdigest */
    assert_int_equal(io_remove_tree(dir, &e), OK);
    assert_false(io_exists(dir));
    assert_int_equal(io_read_file(path, &b, &e), ERR_IO);
}

static void test_json(void **state)
{
    (void)state;
    struct err e = {0};
    json_t *v;
    const char *text = "{\"a\": 1,\n \"b\": tru}";
    assert_int_equal(json_parse_text(text, strlen(text), "x.json", &v, &e), ERR_FORMAT);
    assert_int_equal(e.line, 2);
    text = "{\"a\": 1, \"s\": null}";
    assert_int_equal(json_parse_text(text, strlen(text), "x.json", &v, &e), OK);
    int64_t a = 0;
    const char *s = "kept";
    assert_int_equal(json_get_int(v, "a", &a, "x.json", &e), OK);
    assert_int_equal(json_get_string(v, "s", &s, "x.json", &e), OK);
    assert_int_equal(a, 1);
    assert_string_equal(s, "kept");
    assert_int_equal(json_get_string(v, "a", &s, "x.json", &e), ERR_FORMAT);
    json_decref(v);
    text = "{\"model_max_length\": 1000000000000000019884624838656, \"n\": 7, \"x\": 1.5}";
    assert_int_equal(json_parse_text(text, strlen(text), "x.json", &v, &e), OK);
    assert_int_equal(json_get_int(v, "n", &a, "x.json", &e), OK);
    assert_int_equal(a, 7);
    assert_int_equal(json_get_int(v, "x", &a, "x.json", &e), ERR_FORMAT);
    json_decref(v);
}

static void test_arena(void **state)
{
    (void)state;
    struct arena a;
    arena_measure(&a);
    assert_null(arena_take(&a, 100));
    assert_null(arena_take(&a, 300));
    assert_int_equal(a.used, 256 + 512);
    size_t out = 7;
    assert_true(size_mul((size_t)1 << 40, (size_t)1 << 30, &out));
    assert_int_equal(out, 7);
}

/* Large enough for several threads: every page is there and empty. */
static void test_pages(void **state)
{
    size_t bytes = ((size_t)200 << 20) + 4097, page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (bytes + page - 1) / page;
    unsigned char *there = mem_calloc(pages, 1);
    char *p = mem_pages(bytes);
    (void)state;
    assert_true(there && p);
    assert_int_equal(mincore(p, bytes, there), 0);
    for (size_t i = 0; i < pages; i++) assert_true(there[i] & 1);
    for (size_t i = 0; i < bytes; i += 511) assert_int_equal(p[i], 0);
    p[bytes - 1] = 1;
    mem_pages_free(p, bytes);
    mem_free(there);
}

/* Against counting, for windows before, within and behind prefix and segment. */
static void test_pairs(void **state)
{
    static const struct segment segments[] = {
        {0, 5, 0, 0, 0, 0}, {5, 1, 0, 0, 0, 1}, {6, 7, 4, 0, 4, 0}, {13, 0, 0, 0, 0, 2}};
    (void)state;
    for (int32_t window = 0; window < 14; window++) {
        int64_t pairs = 0;
        for (int i = 0; i < 4; i++)
            for (int32_t r = 0; r < segments[i].length; r++) {
                int32_t seen = segments[i].prefix_length + r + 1;
                pairs += window && seen > window ? window : seen;
            }
        assert_true(segment_pairs(segments, 4, window) == (double)pairs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_err),
        cmocka_unit_test(test_buf),
        cmocka_unit_test(test_philox),
        cmocka_unit_test(test_torch_permutation),
        cmocka_unit_test(test_normal_moments),
        cmocka_unit_test(test_io),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* data/jsonl: both forms, dirt that is fine, dirt that is named, and failing allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/jsonl/jsonl.h"

static char path[] = "/tmp/cria_jsonl_XXXXXX";

static void put(const char *text, size_t n)
{
    struct err e = {0};
    assert_int_equal(io_write_file(path, text, n, &e), OK);
}

/* Reads everything and writes what came as "place=a;" for records with member "a", "place!;" for
 * bad ones, and " STATUS" at the end unless OK. The last error is left in *e. */
static void trace_max(const char *text, size_t n, size_t max, char out[512], struct err *e)
{
    struct jsonl *j = NULL;
    struct jsonl_record r;
    size_t at = 0;
    *e = (struct err){0};
    out[0] = 0;
    struct jsonl_options options = {.max_record = max};
    put(text, n);
    enum status s = jsonl_open(&j, path, &options, e);
    while (!s && !(s = jsonl_next(j, &r, e)) && r.kind != JSONL_END) {
        if (r.kind == JSONL_BAD)
            at += (size_t)snprintf(out + at, 512 - at, "%lld!;", (long long)r.place);
        else
            at += (size_t)snprintf(out + at, 512 - at, "%lld=%d;", (long long)r.place,
                                   (int)json_integer_value(json_object_get(r.value, "a")));
    }
    if (s)
        snprintf(out + at, 512 - at, " %s", status_name(s));
    else
        assert_int_equal(jsonl_offset(j), (long)n);
    jsonl_close(j);
}

static void trace(const char *text, char out[512], struct err *e)
{
    trace_max(text, strlen(text), 0, out, e);
}

static void test_good(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", ""},
        {" \n\n", ""},
        {"\xef\xbb\xbf", ""},
        {"{\"a\":1}", "1=1;"},
        {"\xef\xbb\xbf{\"a\":1}\r\n\r\n  {\"a\":2}  \n\n{\"a\":3}", "1=1;3=2;5=3;"},
        {"[]", ""},
        {" [ \n] \n", ""},
        {"[{\"a\":1},\n{\"a\":2} ,{\"a\":3}]\n", "1=1;2=2;3=3;"},
        {"\xef\xbb\xbf[{\"b\":\"]}\\\"{\",\"c\":[{}],\"a\":7}]", "1=7;"},
        {"[\n {\n  \"a\": 1\n },\r\n {\"a\": 2}\n]", "1=1;2=2;"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[512];
        struct err e;
        trace(cases[i].text, out, &e);
        assert_string_equal(out, cases[i].want);
    }
}

/* What comes, and what the last message must hold. */
static void test_bad(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want, *message;
    } cases[] = {
        {"hello", " ERR_FORMAT", ":1:1: neither JSONL nor a JSON array"},
        {"\xff\xfe{", " ERR_FORMAT", "UTF-16"},
        {"\x1f\x8b\x08\x01", " ERR_FORMAT", "the compressed data end too early"},
        {"\x1f\x8b\x07\x01", " ERR_FORMAT", "the compressed data are damaged"},
        {"\x28\xb5\x2f\xfd\xff", " ERR_FORMAT", "the compressed data "},
        {"PAR1....", " ERR_FORMAT", "pyarrow.parquet"},
        {"BZh9", " ERR_FORMAT", "bzcat"},
        {"{\"a\":1}\n{\"a\":\n{\"a\":3}\n", "1=1;2!;3=3;", ":2:"},
        {"{\"a\":1}\n{\"b\":\"\xe4\xb8\"}\n{\"a\":3}\n", "1=1;2!;3=3;", "must be UTF-8"},
        {"{\"a\":1}\n[1]\n7\n", "1=1;2!;3!;", ":3:1: record 3 is not an object"},
        {"{\"a\":1,\"a\":2}\n", "1!;", "duplicate"},
        {"{\n\"a\":1}\n", "1!;2!;", "one whole object a line"},
        {"[{\"a\":1}, 5, \"x\" ,{\"a\":4}]", "1=1;2!;3!;4=4;", "record 3 is not an object"},
        {"[{\"a\":1},\n\n {\"a\":\n tru},{\"a\":3}]", "1=1;2!;3=3;", ":4:"},
        {"[{\"a\":1},", "1=1; ERR_FORMAT", "the file ends inside the array"},
        {"[", " ERR_FORMAT", "the file ends inside the array"},
        {"[{\"a\":1},\n {\"a\":\"", "1=1; ERR_FORMAT", ":2:2: the file ends inside record 2"},
        {"[{\"a\":1},]", "1=1; ERR_FORMAT", ":1:10: \"]\" where an object should stand"},
        {"[{\"a\":1},,{}]", "1=1; ERR_FORMAT", ":1:10: \",\" where an object"},
        {"[{\"a\":1} {\"a\":2}]", "1=1; ERR_FORMAT", ":1:10: \"{\" where a comma or ]"},
        {"[{\"a\":1}]\n[{\"a\":2}]", "1=1; ERR_FORMAT", ":2:1: text behind the end"},
        {"[}]", "1!;", ":1:"},
        {"[{]]", "1!;", ":1:"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[512], text[2048];
        struct err e;
        trace(cases[i].text, out, &e);
        err_format(&e, text, sizeof text);
        if (strcmp(cases[i].want, out)) fail_msg("%s: %s", cases[i].text, out);
        if (!strstr(text, cases[i].message)) fail_msg("%s: %s", cases[i].text, text);
        assert_int_equal(strncmp(text, path, strlen(path)), 0);
    }
}

/* Records larger than the cap and than a read are skipped whole, in both forms. */
static void test_large(void **state)
{
    (void)state;
    enum { BIG = 1 << 20 };
    char *text = malloc(BIG + 256), out[512];
    struct err e;
    for (int array = 0; array < 2; array++) {
        size_t n =
            (size_t)snprintf(text, 64, array ? "[{\"a\":1},\n{\"b\":\"" : "{\"a\":1}\n{\"b\":\"");
        memset(text + n, 'x', BIG);
        n += BIG;
        n += (size_t)snprintf(text + n, 64,
                              array ? "\",\"a\":2},\n{\"a\":3}]" : "\",\"a\":2}\n{\"a\":3}");
        trace_max(text, n, 0, out, &e);
        assert_string_equal(out, "1=1;2=2;3=3;");
        trace_max(text, n, 1000, out, &e);
        assert_string_equal(out, "1=1;2!;3=3;");
        assert_non_null(strstr(e.message, "record 2 is larger than 1000 bytes"));
        assert_int_equal(e.line, 2);
    }
    free(text);
}

static void test_deep(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    char *text = malloc(2 * DEPTH + 64), out[512];
    struct err e;
    for (int array = 0; array < 2; array++) {
        size_t n = (size_t)snprintf(text, 64, array ? "[{\"b\":" : "{\"b\":");
        memset(text + n, '[', DEPTH);
        memset(text + n + DEPTH, ']', DEPTH);
        n += 2 * DEPTH;
        n += (size_t)snprintf(text + n, 64, array ? "},{\"a\":2}]" : "}\n{\"a\":2}\n");
        trace_max(text, n, 0, out, &e);
        assert_string_equal(out, "1!;2=2;");
        assert_non_null(strstr(e.message, "depth"));
    }
    free(text);
}

static void test_absent(void **state)
{
    (void)state;
    struct jsonl *j;
    struct err e = {0};
    assert_int_equal(jsonl_open(&j, "/nonexistent/x.jsonl", NULL, &e), ERR_IO);
    assert_null(j);
    assert_int_equal(jsonl_open(&j, "/", NULL, &e), ERR_IO);
    assert_null(j);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    const char *text = "{\"a\":1}\n{\"a\":2}\n";
    put(text, strlen(text));
    for (long k = 1; k < 20; k++) {
        struct jsonl *j = NULL;
        struct jsonl_record r = {.kind = JSONL_BAD};
        struct err e = {0};
        mem_fail_after(k);
        enum status s = jsonl_open(&j, path, NULL, &e);
        while (!s && !(s = jsonl_next(j, &r, &e)) && r.kind != JSONL_END) continue;
        mem_fail_after(0);
        jsonl_close(j);
        if (!s) return;
        assert_int_equal(s, ERR_MEMORY);
    }
    fail();
}

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

/* ---- other forms ---- */

/* All records, as JSON, "!" for a bad one, and " STATUS" at the end unless OK. */
static void show(const char *name, const void *bytes, size_t n, const struct jsonl_options *options,
                 char out[512], struct err *e)
{
    struct jsonl *j = NULL;
    struct jsonl_record r;
    struct buf text;
    char file[64];
    snprintf(file, sizeof file, "%s%s", path, name);
    *e = (struct err){0};
    buf_init(&text, 511);
    assert_int_equal(io_write_file(file, bytes, n, e), OK);
    enum status s = jsonl_open(&j, file, options, e);
    while (!s && !(s = jsonl_next(j, &r, e)) && r.kind != JSONL_END) {
        assert_int_equal(buf_printf(&text, "%lld", (long long)r.place), OK);
        if (r.kind == JSONL_BAD)
            assert_int_equal(buf_putc(&text, '!'), OK);
        else
            assert_int_equal(json_append_text(r.value, &text, e), OK);
    }
    if (s) assert_int_equal(buf_printf(&text, " %s", status_name(s)), OK);
    if (!s) assert_int_equal(jsonl_offset(j), (long)n);
    snprintf(out, 512, "%s", text.data ? text.data : "");
    jsonl_close(j);
    buf_free(&text);
    unlink(file);
}

static void test_csv(void **state)
{
    (void)state;
    static const struct {
        const char *name, *text, *want, *message;
    } cases[] = {
        {".csv", "", "", ""},
        {".csv", "a,b", "", ""},
        {".csv", "a,b\n1,2\n", "2{\"a\":\"1\",\"b\":\"2\"}", ""},
        {".csv",
         "\xef\xbb\xbf"
         "a,b\r\n1,2\r\n\r\n3,4",
         "2{\"a\":\"1\",\"b\":\"2\"}4{\"a\":\"3\",\"b\":\"4\"}", ""},
        {".CSV", "\"a,\"\"x\",b\n\"1\n\n2\",\"\"\n5, 6 \n",
         "2{\"a,\\\"x\":\"1\\n\\n2\",\"b\":\"\"}5{\"a,\\\"x\":\"5\",\"b\":\" 6 \"}", ""},
        {".csv", "a\nx\"y\"\n\"\"\"\"\n", "2{\"a\":\"x\\\"y\\\"\"}3{\"a\":\"\\\"\"}", ""},
        {".tsv", "a\tb\n\tx,y\n", "2{\"a\":\"\",\"b\":\"x,y\"}", ""},
        {".csv", "a,b\n1\n1,2,3\n4,5\n", "2!3!4{\"a\":\"4\",\"b\":\"5\"}",
         ":3: 3 fields, where the header"},
        {".csv", "a,b\n\"1\"x,2\n", "2!", ":2: text behind a closing quote"},
        {".csv", "a,b\n1,\xff\n", "2!", ":2: not UTF-8"},
        {".csv", "a,b\n1,2\n\"3,4\n5,6\n", "2{\"a\":\"1\",\"b\":\"2\"} ERR_FORMAT",
         ":3: the file ends inside a quoted field of record 2"},
        {".csv", "a,a\n1,2\n", " ERR_FORMAT", ":1: the header: two columns are called \"a\""},
        {".csv", "\"a\n", " ERR_FORMAT", ":1: the file ends inside a quoted field"},
        {".csv", "a\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\ny\n", "2!3{\"a\":\"y\"}",
         "record 1 is larger than 30 bytes"},
    };
    const struct jsonl_options small = {.max_record = 30};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[512], text[2048];
        struct err e;
        show(cases[i].name, cases[i].text, strlen(cases[i].text), &small, out, &e);
        assert_string_equal(out, cases[i].want);
        err_format(&e, text, sizeof text);
        if (!strstr(text, cases[i].message)) fail_msg("%s: %s", cases[i].text, text);
    }
}

static void test_text(void **state)
{
    (void)state;
    static const char text[] = "\n  one \r\ntwo\n \t\n\nthree\n";
    static const struct {
        enum jsonl_unit unit;
        const char *text, *want;
    } cases[] = {
        {JSONL_LINE, text, "2{\"text\":\"  one\"}3{\"text\":\"two\"}6{\"text\":\"three\"}"},
        {JSONL_PARAGRAPH, text, "2{\"text\":\"  one \\r\\ntwo\"}6{\"text\":\"three\"}"},
        {JSONL_DOCUMENT, text, "2{\"text\":\"  one \\r\\ntwo\\n \\t\\n\\nthree\"}"},
        {JSONL_LINE, "", ""},
        {JSONL_DOCUMENT, " \n\n", ""},
        {JSONL_LINE, "{\"a\":1}", "1{\"text\":\"{\\\"a\\\":1}\"}"},
        {JSONL_LINE, "a\n\xff\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\nb",
         "1{\"text\":\"a\"}2!3!4{\"text\":\"b\"}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct jsonl_options options = {.max_record = 30, .unit = cases[i].unit};
        char out[512];
        struct err e;
        show(".txt", cases[i].text, strlen(cases[i].text), &options, out, &e);
        assert_string_equal(out, cases[i].want);
    }
}

/* ---- packed ---- */

static size_t pack_gzip(const void *bytes, size_t n, unsigned char *out, size_t size)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)bytes;
    z.avail_in = (unsigned)n;
    z.next_out = out;
    z.avail_out = (unsigned)size;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return size - z.avail_out;
}

static void check_packed(const unsigned char *packed, size_t n, const char *name)
{
    char out[512];
    struct err e;
    unsigned char *bytes = malloc(2 * n);
    show(name, packed, n, NULL, out, &e);
    assert_string_equal(out, "1{\"a\":\"x\"}2{\"a\":\"y\"}");
    memcpy(bytes, packed, n);
    memcpy(bytes + n, packed, n);
    show(name, bytes, 2 * n, NULL, out, &e); /* end to end */
    assert_string_equal(out, "1{\"a\":\"x\"}2{\"a\":\"y\"}3{\"a\":\"x\"}4{\"a\":\"y\"}");
    for (size_t cut = 5; cut < n; cut++) {
        show(name, packed, cut, NULL, out, &e);
        assert_non_null(strstr(out, " ERR_FORMAT"));
        assert_non_null(strstr(e.message, "the compressed data end too early"));
    }
    memcpy(bytes + n, "garbage!", 8);
    show(name, bytes, n + 8, NULL, out, &e);
    assert_non_null(strstr(out, " ERR_FORMAT"));
    assert_non_null(strstr(e.message, "the compressed data are damaged"));
    for (size_t at = 0; at < n; at++) { /* whatever it says, it does not crash */
        memcpy(bytes, packed, n);
        bytes[at] ^= 0x55;
        show(name, bytes, n, NULL, out, &e);
    }
    free(bytes);
}

static void test_packed(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":\"x\"}\n{\"a\":\"y\"}\n";
    unsigned char packed[256];
    check_packed(packed, pack_gzip(text, strlen(text), packed, sizeof packed), ".jsonl.gz");
    check_packed(packed, ZSTD_compress(packed, sizeof packed, text, strlen(text), 3), ".jsonl.zst");
    char out[512];
    struct err e;
    size_t n = ZSTD_compress(packed, sizeof packed, "a\nx\n", 4, 3);
    show(".csv.zst", packed, n, NULL, out, &e);
    assert_string_equal(out, "2{\"a\":\"x\"}");
}

/* Memory that runs out while unpacking is told as such. */
static void test_packed_allocations(void **state)
{
    (void)state;
    unsigned char packed[256];
    size_t n = pack_gzip("{\"a\":1}\n", 8, packed, sizeof packed);
    enum status s = ERR_MEMORY;
    put((const char *)packed, n);
    for (long k = 1; k < 100 && s; k++) {
        struct jsonl *j = NULL;
        struct jsonl_record r = {.kind = JSONL_RECORD};
        struct err e = {0};
        mem_fail_after(k);
        s = jsonl_open(&j, path, NULL, &e);
        while (!s && r.kind != JSONL_END) s = jsonl_next(j, &r, &e);
        mem_fail_after(0);
        jsonl_close(j);
        if (s) assert_int_equal(s, ERR_MEMORY);
    }
    assert_int_equal(s, OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv),    cmocka_unit_test(test_text),
        cmocka_unit_test(test_packed), cmocka_unit_test(test_packed_allocations),
        cmocka_unit_test(test_good),   cmocka_unit_test(test_bad),
        cmocka_unit_test(test_large),  cmocka_unit_test(test_deep),
        cmocka_unit_test(test_absent), cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* data/jsonl: both forms, dirt that is fine, dirt that is named, and failing allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
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
    put(text, n);
    enum status s = jsonl_open(&j, path, max, e);
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
        {"\x1f\x8b\x08\x01", " ERR_FORMAT", "gunzip"},
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
    assert_int_equal(jsonl_open(&j, "/nonexistent/x.jsonl", 0, &e), ERR_IO);
    assert_null(j);
    assert_int_equal(jsonl_open(&j, "/", 0, &e), ERR_IO);
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
        enum status s = jsonl_open(&j, path, 0, &e);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),   cmocka_unit_test(test_bad),
        cmocka_unit_test(test_large),  cmocka_unit_test(test_deep),
        cmocka_unit_test(test_absent), cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* Pages: escaping of hostile text, and charts at their edges. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "run/chart.h"
#include "run/facts.h"
#include "run/html_data.h"
#include "support/check.h"
#include "support/markup.h"

static void check_text(const char *bytes, size_t n, const char *want)
{
    struct html h = {0};
    buf_init(&h.text, HTML_MAX);
    html_text(&h, bytes, n);
    assert_int_equal(h.failed, OK);
    assert_string_equal(h.text.data, want);
    html_free(&h);
}

static void test_escaping(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"plain", "plain"},
        {"</script><b>&amp;", "&lt;/script&gt;&lt;b&gt;&amp;amp;"},
        {"\"it's\"", "&quot;it&#39;s&quot;"},
        {"a\n\tb", "a\n\tb"},
        {"\x1b[31m", "<span class=c>U+001B</span>[31m"},
        {"a\xE2\x80\xAE"
         "b",
         "a<span class=c>U+202E</span>b"},
        {"\xC2\x85\xEF\xBB\xBF", "<span class=c>U+0085</span><span class=c>U+FEFF</span>"},
        {"\xD7\xA9\xD7\x9C \xF0\x9F\xA6\x99", "\xD7\xA9\xD7\x9C \xF0\x9F\xA6\x99"},
        {"\xFF<", "\xEF\xBF\xBD&lt;"},
        {"\xE4\xB8", "\xEF\xBF\xBD"},                             /* cut short */
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}, /* a surrogate */
        {"\xC0\xBCscript", "\xEF\xBF\xBD\xEF\xBF\xBDscript"},     /* an overlong < */
        {"\xF3\xA0\x81\x81", "<span class=c>U+E0041</span>"},     /* a tag character */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_text(cases[i].text, strlen(cases[i].text), cases[i].want);
    check_text("a\0b", 3, "a<span class=c>U+0000</span>b");
    struct html h = {0};
    buf_init(&h.text, HTML_MAX);
    html_attribute(&h, "\" onload='x'\x01\xE2\x80\xAE");
    assert_string_equal(h.text.data, "&quot; onload=&#39;x&#39;U+0001U+202E");
    html_free(&h);
}

static void test_terminal(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, 4096);
    CHECK_OK(text_for_terminal("a\x1b[2J\xFF\n\xE2\x80\xAE", 10, &b), &(struct err){0});
    assert_string_equal(b.data, "a\\u001b[2J\xEF\xBF\xBD\n\\u202e");
    buf_free(&b);
}

static void test_numbers(void **state)
{
    char out[32];
    (void)state;
    assert_string_equal(text_count(0, out), "0");
    assert_string_equal(text_count(999, out), "999");
    assert_string_equal(text_count(1000, out), "1,000");
    assert_string_equal(text_count(-1234567, out), "-1,234,567");
    assert_string_equal(text_count(INT64_MIN, out), "-9,223,372,036,854,775,808");
    assert_string_equal(text_bytes(0, out), "0 B");
    assert_string_equal(text_bytes(1500, out), "1.5 kB");
    assert_string_equal(text_bytes(28.4e9, out), "28.4 GB");
    assert_string_equal(text_bytes(999999, out), "1.0 MB");
    assert_string_equal(text_number(36221.4, out), "36,221");
    assert_string_equal(text_number(0.012345, out), "0.01235");
    assert_string_equal(text_number(NAN, out), "nan");
}

/* The page with this one chart; the caller frees it. */
static struct html chart_page(const double *x, const double *y, size_t n, int from_zero)
{
    struct html h;
    struct err e = {0};
    struct chart_series series = {"loss", 0, x, y, n, 0};
    html_begin(&h, "a <page> & \"more\"", HTML_CHARTS);
    chart_write(&h, &(struct chart){"loss", &series, 1, from_zero});
    CHECK_OK(html_end(&h, &e), &e);
    const char *trouble = markup_trouble(h.text.data, h.text.len);
    if (trouble) fail_msg("%s", trouble);
    return h;
}

static int contains(const struct html *h, const char *what)
{
    return strstr(h->text.data, what) != NULL;
}

static void test_charts(void **state)
{
    static const struct {
        const char *name;
        double y[5];
        size_t n;
        const char *has, *has_not;
    } cases[] = {
        {"none", {0}, 0, "Nothing to draw yet", "<svg"},
        {"nothing finite", {NAN, INFINITY, -INFINITY}, 3, "Nothing to draw yet", "<svg"},
        {"one point", {2.5}, 1, "<circle", "nan"},
        {"constant", {3, 3, 3}, 3, "L305.0 ", "nan"},
        {"constant zero", {0, 0}, 2, "<svg", "nan"},
        {"a gap", {1, NAN, 2, 3}, 4, "1 values are no numbers", "M-"},
        {"a point between gaps", {1, NAN, 2, NAN, 3}, 5, "<circle", "null"},
        {"huge", {1e-300, 1e299}, 2, "<svg", "inf"},
        {"beyond drawing", {1, 1e308, 2}, 3, "<svg", "inf"},
        {"tiny differences", {1, 1 + 1e-15}, 2, "<svg", "nan"},
        {"negative", {-2, -1}, 2, "<svg", "nan"},
    };
    static const double x[] = {1, 2, 3, 4, 5};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int zero = 0; zero < 2; zero++) {
            struct html h = chart_page(x, cases[i].y, cases[i].n, zero);
            const char *figure = strstr(h.text.data, "<figure>");
            if (!contains(&h, cases[i].has)) fail_msg("%s: no %s", cases[i].name, cases[i].has);
            const char *bad = strstr(figure, cases[i].has_not), *end = strstr(figure, "</figure>");
            if (bad && bad < end && strcmp(cases[i].name, "beyond drawing"))
                fail_msg("%s: has %s", cases[i].name, cases[i].has_not);
            html_free(&h);
        }
}

static void test_ticks(void **state)
{
    static const double ranges[][2] = {{0, 1},         {0, 2e-5}, {-3, 7},        {5, 5},    {0, 0},
                                       {1e-9, 1.1e-9}, {0, 1e12}, {1, 1 + 1e-12}, {-5, -4.9}};
    (void)state;
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        double first, step;
        int n = chart_ticks(ranges[i][0], ranges[i][1], &first, &step);
        assert_in_range(n, 2, 8);
        double slack = step * 1e-3;
        assert_true(step > 0 && first <= ranges[i][0] + slack);
        assert_true(first + (n - 1) * step >= ranges[i][1] - slack);
    }
}

static void test_thinning(void **state)
{
    static double y[10000];
    size_t index[CHART_POINTS_MAX];
    (void)state;
    for (size_t i = 0; i < 10000; i++) y[i] = 1 / (1 + (double)i);
    y[4321] = 99;
    y[5000] = -7;
    y[6000] = NAN;
    size_t n = chart_thin(y, 10000, index);
    int spike = 0, dip = 0, gap = 0;
    assert_in_range(n, 100, CHART_POINTS_MAX);
    assert_int_equal(index[0], 0);
    assert_int_equal(index[n - 1], 9999);
    for (size_t i = 0; i < n; i++) {
        if (i) assert_true(index[i] > index[i - 1]);
        spike |= index[i] == 4321;
        dip |= index[i] == 5000;
        gap |= index[i] == 6000;
    }
    assert_true(spike && dip && gap);
    assert_int_equal(chart_thin(y, 3, index), 3);
}

static void build(struct html *h)
{
    static const double x[] = {1, 2, 3}, y[] = {3, 2, 1};
    struct chart_series series = {"loss", 0, x, y, 3, 1};
    html_begin(h, "title", HTML_CHARTS | HTML_SEARCH);
    chart_write(h, &(struct chart){"loss", &series, 1, 0});
    html_table(h, "a|#b");
    html_fact(h, "name", "value");
    html_table_end(h);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        struct html h;
        struct err e = {0};
        mem_fail_after(n);
        build(&h);
        enum status s = html_end(&h, &e);
        mem_fail_after(0);
        html_free(&h);
        if (!s) break;
        assert_int_equal(s, ERR_MEMORY);
        assert_in_range(n, 1, 1000);
    }
}

static void test_account(void **state)
{
    static const char *const texts[] = {
        "{}",
        "null",
        "[]",
        "{\"total\": 3}",
        "{\"total\": {}, \"sources\": {}}",
        "{\"total\": {\"lengths\": [1, {\"up_to\": null, \"documents\": 5}]}, \"sources\": [7, "
        "{\"path\": \"</td>\", \"dropped\": {\"<i>\": {\"count\": 2, \"places\": [\"x\"]}}}]}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) { /* whatever a file may claim */
        struct html h;
        struct err e = {0};
        json_t *report = json_loads(texts[i], JSON_DECODE_ANY, NULL);
        html_begin(&h, "data", 0);
        html_data(&h, report);
        CHECK_OK(html_end(&h, &e), &e);
        assert_null(markup_trouble(h.text.data, h.text.len));
        html_free(&h);
        json_decref(report);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escaping), cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_numbers),  cmocka_unit_test(test_charts),
        cmocka_unit_test(test_ticks),    cmocka_unit_test(test_thinning),
        cmocka_unit_test(test_account),  cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "support/check_trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/check.h"

enum { DEPTH_MAX = 16 };

struct piece {
    int64_t tid, began, ended; /* nanoseconds */
    const char *name;
    size_t order;
};

static int64_t nanoseconds(const json_t *o, const char *key)
{
    const json_t *value = json_object_get(o, key);
    assert_true(json_is_number(value) && json_number_value(value) >= 0);
    return llround(json_number_value(value) * 1e3);
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));
    assert_non_null(text);
    assert_true(*text);
    return text;
}

static int64_t whole(const json_t *o, const char *key)
{
    assert_true(json_is_integer(json_object_get(o, key)));
    return json_integer_value(json_object_get(o, key));
}

static int earlier(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    if (x->tid != y->tid) return x->tid < y->tid ? -1 : 1;
    if (x->began != y->began) return x->began < y->began ? -1 : 1;
    if (x->ended != y->ended) return x->ended > y->ended ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* All X events, by track, then as they nest; heap. */
static struct piece *pieces_of(const json_t *trace, size_t *count)
{
    const json_t *events = json_object_get(trace, "traceEvents");
    size_t n = json_array_size(events);
    struct piece *p = calloc(n + 1, sizeof *p);
    assert_non_null(p);
    *count = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(events, i);
        if (strcmp(text_of(o, "ph"), "X") != 0) continue;
        int64_t began = nanoseconds(o, "ts");
        p[(*count)++] = (struct piece){whole(o, "tid"), began, began + nanoseconds(o, "dur"),
                                       text_of(o, "name"), i};
    }
    qsort(p, *count, sizeof *p, earlier);
    return p;
}

static int64_t track_of(const json_t *trace, const char *track)
{
    size_t i;
    json_t *o;
    json_array_foreach(json_object_get(trace, "traceEvents"), i, o)
    {
        const char *name = json_string_value(json_object_get(json_object_get(o, "args"), "name"));
        if (!strcmp(text_of(o, "name"), "thread_name") && name && !strcmp(name, track))
            return whole(o, "tid");
    }
    return -1;
}

static void check_events(const json_t *trace)
{
    static const char *const about[] = {"process_name", "thread_name", "thread_sort_index"};
    int64_t named = 0;
    size_t i;
    json_t *o;
    json_array_foreach(json_object_get(trace, "traceEvents"), i, o)
    {
        const char *kind = text_of(o, "ph"), *name = text_of(o, "name");
        assert_int_equal(whole(o, "pid"), 1);
        assert_true(whole(o, "tid") >= 0 && whole(o, "tid") < 60);
        if (!strcmp(kind, "M")) {
            size_t k = 0;
            while (k < 3 && strcmp(name, about[k]) != 0) k++;
            assert_true(k < 3 && json_is_object(json_object_get(o, "args")));
            if (k == 1) named |= (int64_t)1 << whole(o, "tid");
            continue;
        }
        assert_string_equal(kind, "X");
        assert_true(named >> whole(o, "tid") & 1);
    }
}

json_t *check_trace(const char *path)
{
    struct err e = {0};
    json_t *trace;
    size_t n;
    int64_t open[DEPTH_MAX], tid = -1;
    int depth = 0;
    CHECK_OK(json_parse_file(path, &trace, &e), &e);
    assert_true(json_is_array(json_object_get(trace, "traceEvents")));
    assert_string_equal(text_of(trace, "displayTimeUnit"), "ms");
    check_events(trace);
    struct piece *p = pieces_of(trace, &n);
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        if (p[i].tid != tid) depth = 0;
        tid = p[i].tid;
        while (depth && open[depth - 1] <= p[i].began) depth--;
        if (depth && p[i].ended > open[depth - 1])
            fail_msg("%s at %lld ns ends outside what it began in", p[i].name,
                     (long long)p[i].began);
        assert_true(depth < DEPTH_MAX);
        open[depth++] = p[i].ended;
    }
    free(p);
    return trace;
}

int trace_count(const json_t *trace, const char *track, const char *name, const char *within)
{
    size_t n;
    int found = 0;
    int64_t tid = track_of(trace, track), end = -1;
    struct piece *p = pieces_of(trace, &n);
    for (size_t i = 0; i < n; i++) {
        if (p[i].tid != tid) continue;
        if (within && !strcmp(p[i].name, within) && p[i].ended > end) end = p[i].ended;
        found += !strcmp(p[i].name, name) && (!within || p[i].ended <= end);
    }
    free(p);
    return found;
}

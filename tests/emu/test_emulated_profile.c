/* The profile of a device with a clock of its own: its times, its kernels, its trace, and the same
 * weights as without. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kernels/emu/runtime.h"
#include "kernels/profile.h"
#include "run/step_profile.h"
#include "run/trace_file.h"
#include "support/check_trace.h"
#include "support/tiny_run.h"

#define RUN "device=cuda finetuning=lora max_steps=4 report_to=none gradient_checkpointing=full "

static struct tiny tiny;

static int setup(void **state)
{
    (void)state;
    tiny_init(&tiny);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

static double real_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

/* Device times and what it had nothing to do come to the steps; an op's kernels to the op. */
static void check_sums(void)
{
    char path[300];
    struct err e = {0};
    json_t *o, *op, *kernel;
    double sum = 0, steps = 0;
    size_t i, k, kinds = 0;
    snprintf(path, sizeof path, "%s/profiled/" STEP_PROFILE_FILE, tiny.dir);
    CHECK_OK(json_parse_file(path, &o, &e), &e);
    assert_string_equal(json_string_value(json_object_get(o, "clock")), "device");
    json_array_foreach(json_object_get(o, "seconds"), i, op) steps += json_real_value(op);
    json_array_foreach(json_object_get(o, "ops"), i, op)
    {
        const char *name = json_string_value(json_object_get(op, "op"));
        double seconds = real_of(op, "seconds"), of_kernels = 0;
        if (json_is_true(json_object_get(op, "beside"))) continue;
        sum += seconds;
        json_array_foreach(json_object_get(o, "kernels"), k, kernel)
        {
            if (strcmp(json_string_value(json_object_get(kernel, "op")), name) != 0) continue;
            of_kernels += real_of(kernel, "seconds");
            kinds++;
        }
        /* what comes in beside is among the kernels of a copy, and not in its time */
        assert_true(of_kernels > 0.999 * seconds);
        if (strcmp(name, "copy") != 0) assert_true(of_kernels < 1.001 * seconds);
        if (!strncmp(name, "attention", 9)) assert_true(real_of(op, "flops") > 0);
    }
    assert_true(kinds > 12);
    assert_true(sum > 0 && sum <= steps);
    sum += real_of(o, "unaccounted_seconds");
    assert_true(sum > 0.999 * steps && sum < 1.001 * steps);
    json_decref(o);
}

static void check_tracks(void)
{
    char path[300];
    snprintf(path, sizeof path, "%s/profiled/" TRACE_FILE, tiny.dir);
    json_t *t = check_trace(path);
    static const char *const both[] = {"host", "compute stream"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(trace_count(t, both[i], "forward", "step 2"), 2);
        assert_true(trace_count(t, both[i], "block 1", "forward") >= 2);
        assert_true(trace_count(t, both[i], "recompute", "block 1") >= 2);
        assert_true(trace_count(t, both[i], "attention backward", "block 0") >= 2);
        assert_true(trace_count(t, both[i], "AdamW", "optimiser") >= 2);
    }
    assert_true(trace_count(t, "compute stream", "norm_rows", "norm forward") >= 2);
    assert_true(trace_count(t, "compute stream", "adamw", NULL) == 0);
    assert_true(trace_count(t, "copy stream", "copy in", NULL) > 0);
    assert_int_equal(trace_count(t, "host", "copy in", NULL), 0);
    assert_true(trace_count(t, "host", "data: documents to a micro-batch", "data") >= 4);
    json_decref(t);
}

static void test_profile(void **state)
{
    (void)state;
    emu_set_seed(1);
    tiny_train(&tiny, "plain", RUN, 0);
    CHECK_OK(tiny.status, &tiny.err);
    tiny.profile_steps = 2;
    tiny_train(&tiny, "profiled", RUN "save_steps=2", 0);
    CHECK_OK(tiny.status, &tiny.err);
    tiny.profile_steps = 0;
    assert_true(
        tiny_same(&tiny, "plain/adapter_model.safetensors", "profiled/adapter_model.safetensors"));
    assert_int_equal(emu_ranges(), 0);
    assert_non_null(strstr(tiny.profile, "profile of 2 steps"));
    assert_non_null(strstr(tiny.profile, "on the GPU, by its clock"));
    assert_non_null(strstr(tiny.profile, "\n  query_gradients"));
    assert_non_null(strstr(tiny.profile, "beside it the host:"));
    check_sums();
    check_tracks();
}

/* A device's clock and lists by themselves. */
static void test_trace(void **state)
{
    struct device d;
    struct err e = {0};
    struct kern_span spans[8];
    void *x;
    float host[256] = {0};
    (void)state;
    CHECK_OK(device_open(&d, "cuda", 1, &e), &e);
    CHECK_OK(d.k->alloc(&d, sizeof host, &x, &e), &e);
    assert_int_equal(d.k->trace_count(&d), 0);
    double before = clock_seconds();
    CHECK_OK(d.k->trace(&d, 1, &e), &e);
    d.k->zero(&d, x, sizeof host);
    d.k->upload(&d, x, host, sizeof host);
    assert_int_equal(d.k->trace_count(&d), 3);
    CHECK_OK(d.k->trace_read(&d, spans, &e), &e);
    double after = clock_seconds();
    assert_string_equal(spans[0].name, "zeros");
    assert_string_equal(spans[1].name, "copy in");
    assert_true(spans[1].copy && !spans[0].copy && !spans[2].copy);
    for (int i = 0; i < 3; i++)
        assert_true(spans[i].began > before - 1e-3 && spans[i].seconds >= 0 &&
                    spans[i].began + spans[i].seconds < after + 1e-3);
    assert_int_equal(d.k->trace_count(&d), 0);
    mem_fail_after(1);
    for (int i = 0; i < 3000; i++) d.k->zero(&d, x, sizeof host);
    mem_fail_after(0);
    struct kern_span *many = mem_calloc(d.k->trace_count(&d), sizeof *many);
    assert_int_equal(d.k->trace_read(&d, many, &e), ERR_MEMORY);
    mem_free(many);
    CHECK_OK(d.k->trace(&d, 0, &e), &e);
    mem_fail_after(1);
    assert_int_equal(d.k->trace(&d, 1, &e), ERR_MEMORY);
    mem_fail_after(0);
    d.k->release(&d, x, sizeof host);
    device_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trace),
        cmocka_unit_test(test_profile),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* Whole runs with the CUDA backend in emulation: ten steps of LoRA on chats and on pairs (DPO) by a
 * model of two layers. In fp32 they are the CPU's to 1e-4; in bf16 they are off the CPU's by no
 * more than twice what transformers and PEFT lose by bf16 over the same steps
 * (tests/golden/bf16/curves.json, made by tools/golden/bf16_curves.py). What must not change bits
 * on the CPU does not here: the schedule, stopping and resuming, checkpointed activations. */
#include "support/document.h"
#include "support/tiny_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/json.h"
#include "ckpt/safetensors.h"
#include "kernels/emu/runtime.h"
#include "run/new_model.h"
#include "run/plan.h"
#include "run/recompute.h"

#define GOLDEN "tests/golden/bf16/"
#define STEPS 10
#define FP32 1e-4 /* of losses, norms and the adapter's way: sums in another order */

static struct tiny tiny;
static json_t *golden;
static char model[256];

/* What a run left: each step's loss and norm, and the adapter or model. */
struct result {
    double losses[STEPS], norms[STEPS];
    float *weights;
    size_t n;
};

static double number_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void make_start(void)
{
    struct err e = {0};
    char path[300], hash[HASH_HEX_SIZE];
    tiny_path(&tiny, "start", model);
    uint64_t seed = (uint64_t)number_of(golden, "init_seed");
    CHECK_OK(new_model_init(GOLDEN "model.json", model, seed, &e), &e);
    snprintf(path, sizeof path, "%s/tokenizer.json", model);
    CHECK_OK(io_copy_file(TINY_MODEL "/tokenizer.json", path, &e), &e);
    snprintf(path, sizeof path, "%s/model.safetensors", model);
    CHECK_OK(hash_file(path, hash, &e), &e);
    const json_t *want = json_object_get(json_object_get(golden, "sft"), "model_hash");
    assert_string_equal(hash, json_string_value(want));
}

static int setup(void **state)
{
    struct err e = {0};
    (void)state;
    tiny_init(&tiny);
    CHECK_OK(json_parse_file(GOLDEN "curves.json", &golden, &e), &e);
    make_start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(golden);
    tiny_free(&tiny);
    return 0;
}

static const char *file_of(const char *out)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s/adapter_model.safetensors", tiny.dir, out);
    return io_exists(path) ? "adapter_model.safetensors" : "model.safetensors";
}

static void read_weights(const char *out, struct result *r)
{
    char path[400];
    struct err e = {0};
    struct tensor_files *f;
    snprintf(path, sizeof path, "%s/%s/%s", tiny.dir, out, file_of(out));
    CHECK_OK(tensor_files_open(&f, path, &e), &e);
    r->n = 0;
    for (size_t i = 0; i < tensor_files_count(f); i++) r->n += tensor_files_at(f, i)->count;
    r->weights = malloc(r->n * sizeof *r->weights);
    assert_non_null(r->weights);
    for (size_t i = 0, at = 0; i < tensor_files_count(f); i++) {
        const struct tensor_info *t = tensor_files_at(f, i);
        CHECK_OK(tensor_read_float(f, t, 0, t->count, r->weights + at, &e), &e);
        at += t->count;
    }
    tensor_files_close(f);
}

/* The golden's run `name` into out, with more overrides behind. stop_after: as tiny_train. */
static void run(const char *name, const char *out, const char *more, int stop_after)
{
    const json_t *run = json_object_get(golden, name);
    int full = strstr(more, "finetuning=full") != NULL;
    char text[1500];
    const char *key;
    json_t *value;
    size_t n = (size_t)snprintf(text, sizeof text, "model_name_or_path=%s datasets=" GOLDEN "%s",
                                model, json_string_value(json_object_get(run, "data")));
    json_object_foreach(json_object_get(run, "config"), key, value)
    {
        if (full && !strncmp(key, "lora_", 5)) continue;
        if (json_is_string(value))
            n += (size_t)snprintf(text + n, sizeof text - n, " %s=%s", key,
                                  json_string_value(value));
        else
            n += (size_t)snprintf(text + n, sizeof text - n, " %s=%.17g", key,
                                  json_number_value(value));
    }
    n += (size_t)snprintf(text + n, sizeof text - n, " %s", more);
    assert_true(n < sizeof text);
    tiny_train(&tiny, out, text, stop_after);
    assert_true(tiny.num_steps <= STEPS);
}

/* The same into NAME_as. */
static struct result train(const char *name, const char *as, const char *more)
{
    struct result r = {.n = 0};
    char out[64];
    snprintf(out, sizeof out, "%s_%s", name, as);
    run(name, out, more, 0);
    CHECK_OK(tiny.status, &tiny.err);
    memcpy(r.losses, tiny.losses, sizeof r.losses);
    memcpy(r.norms, tiny.norms, sizeof r.norms);
    read_weights(out, &r);
    return r;
}

/* Whether both ended with the same bits. */
static void check_same(const char *a, const char *b)
{
    char x[300], y[300];
    snprintf(x, sizeof x, "%s/%s", a, file_of(a));
    snprintf(y, sizeof y, "%s/%s", b, file_of(b));
    assert_true(tiny_same(&tiny, x, y));
}

static double distance(const double *a, const double *b)
{
    double off = 0, size = 0;
    for (int i = 0; i < STEPS; i++) off += (a[i] - b[i]) * (a[i] - b[i]), size += b[i] * b[i];
    return sqrt(off / size);
}

/* How far `a` ended from `b`, as a part of the way b went from its start. */
static double way_off(const struct result *a, const struct result *b, const struct result *start)
{
    double off = 0, way = 0;
    assert_true(a->n == b->n && a->n == start->n);
    for (size_t i = 0; i < a->n; i++) {
        double d = (double)a->weights[i] - (double)b->weights[i];
        double w = (double)b->weights[i] - (double)start->weights[i];
        off += d * d, way += w * w;
    }
    return sqrt(off / way);
}

static void check_fp32(const struct result *emulated, const struct result *cpu, int steps)
{
    for (int i = 0; i < steps; i++) {
        assert_true(fabs(emulated->losses[i] - cpu->losses[i]) <= FP32 * cpu->losses[i]);
        assert_true(fabs(emulated->norms[i] - cpu->norms[i]) <= FP32 * cpu->norms[i]);
    }
}

static void read_losses(const json_t *run, const char *type, double *out)
{
    const json_t *list = json_object_get(json_object_get(run, "losses"), type);
    assert_int_equal(json_array_size(list), STEPS);
    for (size_t i = 0; i < STEPS; i++) out[i] = json_number_value(json_array_get(list, i));
}

static void check_bf16(const char *name, const struct result *emulated, const struct result *cpu,
                       const struct result *start)
{
    const json_t *run = json_object_get(golden, name);
    double fp32[STEPS], bf16[STEPS];
    read_losses(run, "fp32", fp32);
    read_losses(run, "bf16", bf16);
    double ours = distance(emulated->losses, cpu->losses), theirs = distance(bf16, fp32);
    double end = way_off(emulated, cpu, start), their_end = number_of(run, "adapter_error");
    print_message("%s in bf16: losses off by %.2e (transformers: %.2e), adapter by %.2e (%.2e)\n",
                  name, ours, theirs, end, their_end);
    assert_true(distance(cpu->losses, fp32) <= FP32);
    assert_true(ours <= 2 * theirs);
    assert_true(end <= 2 * their_end);
}

static void test_curve(void **state)
{
    const char *name = *state;
    struct result start = train(name, "start", "device=cpu max_steps=1 learning_rate=0");
    struct result cpu = train(name, "cpu", "device=cpu precision=fp32");
    emu_set_seed(1);
    struct result fp32 = train(name, "fp32", "device=cuda precision=fp32");
    struct result bf16 = train(name, "bf16", "device=cuda");
    print_message("%s in fp32: losses off by %.1e, norms by %.1e, adapter by %.1e\n", name,
                  distance(fp32.losses, cpu.losses), distance(fp32.norms, cpu.norms),
                  way_off(&fp32, &cpu, &start));
    check_fp32(&fp32, &cpu, STEPS);
    check_bf16(name, &bf16, &cpu, &start);
    free(start.weights);
    free(cpu.weights);
    free(fp32.weights);
    free(bf16.weights);
}

/* All weights; dropout, by its key; packed; several documents a row. */
static void test_other_runs_in_fp32(void **state)
{
    static const char *const more[] = {
        "finetuning=full weight_decay=0.1",
        "lora_dropout=0.5 packing=true",
        "lora_dropout=0.1 disable_dropout=false prefix_sharing=false stage=dpo datasets=" GOLDEN
        "pairs.jsonl",
    };
    (void)state;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        char text[256], as[2][16];
        snprintf(as[0], sizeof *as, "other%zu_cpu", i);
        snprintf(as[1], sizeof *as, "other%zu", i);
        snprintf(text, sizeof text, "%s device=cpu max_steps=3", more[i]);
        struct result cpu = train("sft", as[0], text);
        emu_set_seed(2);
        snprintf(text, sizeof text, "%s device=cuda precision=fp32 max_steps=3", more[i]);
        struct result emulated = train("sft", as[1], text);
        check_fp32(&emulated, &cpu, 3);
        free(cpu.weights);
        free(emulated.weights);
    }
}

/* Trains to the same end in other ways, so many of them or, where time is short, $CRIA_WAYS at
 * most; the bits must be the first run's. */
static void check_bits(const char *name, const char *kind, const char *as, int num_ways)
{
    static const char *const ways[] = {"none", "offload", "none", "selective", "full", "auto"};
    char text[256], first[64], out[64];
    const char *most = getenv("CRIA_WAYS");
    if (most && num_ways > strtol(most, NULL, 10)) num_ways = (int)strtol(most, NULL, 10);
    snprintf(first, sizeof first, "%s_0", as);
    for (int i = 0; i < num_ways; i++) {
        emu_set_seed(3 + (uint64_t)i);
        snprintf(text, sizeof text, "%s device=cuda max_steps=2 gradient_checkpointing=%s", kind,
                 ways[i]);
        snprintf(out, sizeof out, "%s_%d", as, i);
        run(name, out, text, 0);
        CHECK_OK(tiny.status, &tiny.err);
        check_same(first, out);
    }
}

static void check_resume(const char *kind, const char *as)
{
    char text[256], first[64], out[64];
    snprintf(first, sizeof first, "%s_0", as);
    snprintf(out, sizeof out, "%s_again", as);
    snprintf(text, sizeof text, "%s device=cuda max_steps=2", kind);
    run("sft", out, text, 1);
    assert_int_equal(tiny.status, ERR_STOPPED);
    snprintf(text, sizeof text, "%s device=cuda max_steps=2 resume_from_checkpoint=auto", kind);
    run("sft", out, text, 0);
    CHECK_OK(tiny.status, &tiny.err);
    check_same(first, out);
}

static void test_same_bits(void **state)
{
    static const char *const kinds[] = {"lora_dropout=0.1", "finetuning=full",
                                        "finetuning=full master_weights=false",
                                        "finetuning=full master_weights=false optim=adamw_8bit"};
    static const char *const as[] = {"lora", "full", "rounded", "coded"};
    static const int num_ways[] = {6, 4, 1, 1};
    (void)state;
    for (int i = 0; i < 4; i++) {
        check_bits("sft", kinds[i], as[i], num_ways[i]);
        check_resume(kinds[i], as[i]);
    }
    check_bits("dpo", "lora_dropout=0.1 disable_dropout=false", "pairs", 4);
}

/* A checkpoint carries the algorithms of its products; where the library would choose others now, a
 * run does not go on. */
static void test_algorithms(void **state)
{
    struct err e = {0};
    json_t *root;
    char path[256];
    const char *more = "device=cuda max_steps=2", *on = "device=cuda max_steps=2 "
                                                        "resume_from_checkpoint=auto";
    (void)state;
    run("sft", "algorithms", more, 1);
    assert_int_equal(tiny.status, ERR_STOPPED);
    tiny_path(&tiny, "algorithms/checkpoint-1/cria_state.json", path);
    CHECK_OK(json_parse_file(path, &root, &e), &e);
    json_t *products = json_object_get(json_object_get(root, "state"), "products");
    assert_true(json_object_size(products) > 10);
    const char *shape = json_object_iter_key(json_object_iter(products));
    assert_non_null(strstr(shape, "strides"));
    assert_string_equal(json_string_value(json_object_get(products, shape)), "the CBLAS");
    emu_set_algorithm("another one");
    run("sft", "algorithms", on, 0);
    assert_int_equal(tiny.status, ERR_CONFIG);
    assert_non_null(strstr(tiny.err.message, "was computed by \"the CBLAS\", now it would be by"));
    assert_non_null(strstr(tiny.err.hint, "cuBLASLt"));
    emu_set_algorithm("the CBLAS");
    json_object_set_new(products, "1x2x3", json_string("the CBLAS"));
    CHECK_OK(json_write_file(root, path, &e), &e);
    run("sft", "algorithms", on, 0);
    assert_int_equal(tiny.status, ERR_FORMAT);
    assert_non_null(strstr(tiny.err.message, "no product's shape"));
    json_object_del(products, "1x2x3");
    CHECK_OK(json_write_file(root, path, &e), &e);
    run("sft", "algorithms", on, 0);
    CHECK_OK(tiny.status, &tiny.err);
    json_decref(root);
}

/* Without masters a step of 1e-5 is lost on nearly all weights if each is rounded to the nearest;
 * rounded at random, they move as far as with masters, in the mean. */
static void test_no_masters(void **state)
{
    const char *common = "finetuning=full device=cuda learning_rate=1e-5 max_steps=4 ";
    char text[256];
    double along = 0, way = 0;
    (void)state;
    emu_set_seed(5);
    snprintf(text, sizeof text, "%s max_steps=1 learning_rate=0", common);
    struct result start = train("sft", "at_rest", text);
    struct result masters = train("sft", "masters", common);
    snprintf(text, sizeof text, "%s master_weights=false", common);
    struct result alone = train("sft", "alone", text);
    for (size_t i = 0; i < start.n; i++) {
        double w = (double)masters.weights[i] - (double)start.weights[i];
        along += w * ((double)alone.weights[i] - (double)start.weights[i]);
        way += w * w;
    }
    print_message("without masters weights go %.2f of the way\n", along / way);
    assert_true(fabs(along / way - 1) < 0.2);
    free(start.weights);
    free(masters.weights);
    free(alone.weights);
}

/* Plans configs/llama3-8b-lora.yaml without its files, for a GPU of so many GB. */
static void plan_large(struct session *s, struct plan *p, double gigabytes, const char *mode,
                       struct buf *blocks)
{
    char checkpointing[64];
    const char *items[] = {"model_name_or_path=nowhere/base", "datasets=nowhere/data.jsonl",
                           "device=cuda", "per_device_eval_batch_size=1", checkpointing};
    static struct config config;
    struct err e = {0};
    snprintf(checkpointing, sizeof checkpointing, "gradient_checkpointing=%s", mode);
    emu_set_memory((size_t)(gigabytes * 1e9));
    const char *file = "configs/llama3-8b-lora.yaml";
    CHECK_OK(config_load(&config, file, items, sizeof items / sizeof *items, &e), &e);
    CHECK_OK(session_prepare(s, &config, SESSION_PLAN, NULL, &e), &e);
    plan_make(p, s);
    buf_init(blocks, 256);
    CHECK_OK(recompute_print(&s->engine, blocks), &e);
    assert_true(p->host > p->arenas.host && p->named[MEMORY_pinned] == p->arenas.host);
    session_close(s);
    config_free(&config);
}

/* auto in so many GB: the first and the last block, and whether it fits. */
static void check_auto(double gigabytes, const char *first, const char *last, int fits)
{
    static struct session session;
    static struct plan p;
    struct err e = {0};
    struct buf blocks;
    plan_large(&session, &p, gigabytes, "auto", &blocks);
    print_message("%.1f GB: %.2f and on the host %.2f: %s\n", gigabytes, (double)p.total / 1e9,
                  (double)p.host / 1e9, blocks.data);
    const char *space = strchr(blocks.data, ' '), *end = strrchr(blocks.data, ' ');
    assert_true(!strncmp(space + 1, first, strlen(first)) && !strcmp(end + 1, last));
    assert_int_equal(p.fits, fits);
    if (fits) { /* what is too much for the host is refused too */
        p.host_available = p.host - 1;
        p.fits = plan_holds(&p, p.total, p.host);
        assert_int_equal(plan_refuse(&p, &e), ERR_FIT);
        assert_non_null(strstr(e.message, "beside the GPU the run needs "));
    }
    buf_free(&blocks);
}

static void test_auto(void **state)
{
    (void)state;
    check_auto(40, "none", "none", 1);
    check_auto(33, "selective", "none", 1);
    check_auto(25, "full", "none", 1);
    check_auto(18.5, "offload", "none", 1);
    check_auto(17, "offload", "selective", 0);
    emu_set_memory((size_t)8 << 30);
}

#define DOCUMENT "ARCHITECTURE.md"
#define BEGIN "<!-- modes: generated by tests/emu/test_emulated_training.c -->\n"
#define END "<!-- /modes -->"

/* The page's table of what each mode takes. */
static void test_modes(void **state)
{
    static struct session session;
    static struct plan p;
    static const char *const modes[] = {"none", "selective", "full", "offload"};
    struct buf text, blocks;
    (void)state;
    buf_init(&text, 1 << 12);
    assert_int_equal(buf_puts(&text, "| gradient_checkpointing | step arena, bytes | on the host, "
                                     "pinned |\n|---|---|---|\n"),
                     OK);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        plan_large(&session, &p, 80, modes[i], &blocks);
        assert_true(p.fits);
        assert_int_equal(
            buf_printf(&text, "| %s | %zu | %zu |\n", modes[i], p.arenas.step, p.arenas.host), OK);
        buf_free(&blocks);
    }
    emu_set_memory((size_t)8 << 30);
    document_check(DOCUMENT, BEGIN, END, &text);
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"sft", test_curve, NULL, NULL, "sft"},
        {"dpo", test_curve, NULL, NULL, "dpo"},
        cmocka_unit_test(test_other_runs_in_fp32),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_no_masters),
        cmocka_unit_test(test_algorithms),
        cmocka_unit_test(test_auto),
        cmocka_unit_test(test_modes),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}

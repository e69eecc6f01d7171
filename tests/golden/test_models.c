/* Logits, loss and every parameter's gradient against transformers and PEFT, for a tiny random
 * model of each family (tests/golden/models, made by tools/golden). */
#include "support/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "ckpt/safetensors.h"
#include "run/adapter_dir.h"
#include "run/engine.h"
#include "run/weights.h"

#define LOGITS_TOLERANCE 1e-5
#define GRADIENT_TOLERANCE 1e-4

static const char *const families[] = {
    "llama",      "llama_gqa_tied", "llama3_rope", "llama31_oldrope",   "llama_linear_rope",
    "llama_bias", "llama_bf16",     "mistral",     "llama_f16_sharded", "qwen2",
    "qwen3",
};

static const struct {
    const char *family, *adapter;
} adapters[] = {
    {"llama", "adapter_default"},
    {"llama_gqa_tied", "adapter_all_linear"},
    {"qwen3", "adapter_rslora"},
    {"mistral", "adapter_mlp"},
};

struct golden {
    struct tensor_files *file;
    int32_t N, S, V;
    int32_t *ids, *positions, *documents, *rows, *targets;
    float *weights, *logits;
    struct segment *segments;
    int32_t num_segments;
    double loss;
};

static const struct tensor_info *find(const struct golden *g, const char *name)
{
    const struct tensor_info *t = tensor_files_find(g->file, name);
    if (!t) print_error("%s is missing in the golden file\n", name);
    assert_non_null(t);
    return t;
}

static float *read_floats(const struct golden *g, const char *name)
{
    struct err e = {0};
    const struct tensor_info *t = find(g, name);
    float *values = mem_calloc(t->count, sizeof *values);
    CHECK_OK(tensor_read_float(g->file, t, 0, t->count, values, &e), &e);
    return values;
}

static int32_t *read_ints(const struct golden *g, const char *name)
{
    struct err e = {0};
    const struct tensor_info *t = find(g, name);
    int32_t *values = mem_calloc(t->count, sizeof *values);
    CHECK_OK(tensor_read_bytes(g->file, t, 0, t->count, values, &e), &e);
    return values;
}

/* Documents end to end, as the loader would lay them. */
static void open_golden(struct golden *g, const char *path)
{
    struct err e = {0};
    *g = (struct golden){0};
    CHECK_OK(tensor_files_open(&g->file, path, &e), &e);
    g->ids = read_ints(g, "input_ids");
    int32_t *lengths = read_ints(g, "doc_lengths");
    float *weights = read_floats(g, "weights"), *loss = read_floats(g, "loss");
    g->logits = read_floats(g, "logits");
    g->N = (int32_t)find(g, "input_ids")->count;
    g->V = (int32_t)(find(g, "logits")->count / (size_t)g->N);
    g->num_segments = (int32_t)find(g, "doc_lengths")->count;
    g->positions = mem_calloc((size_t)g->N, sizeof(int32_t));
    g->documents = mem_calloc((size_t)g->N, sizeof(int32_t));
    g->rows = mem_calloc((size_t)g->N, sizeof(int32_t));
    g->targets = mem_calloc((size_t)g->N, sizeof(int32_t));
    g->weights = mem_calloc((size_t)g->N, sizeof(float));
    g->segments = mem_calloc((size_t)g->num_segments, sizeof *g->segments);
    for (int32_t d = 0, at = 0; d < g->num_segments; at += lengths[d++]) {
        g->segments[d] = (struct segment){.start = at, .length = lengths[d], .document = d};
        for (int32_t i = 0; i < lengths[d]; i++) {
            g->positions[at + i] = i;
            g->documents[at + i] = d;
            if (!i || weights[at + i] == 0) continue;
            g->rows[g->S] = at + i - 1;
            g->targets[g->S] = g->ids[at + i];
            g->weights[g->S++] = weights[at + i];
        }
    }
    g->loss = loss[0];
    mem_free(lengths);
    mem_free(weights);
    mem_free(loss);
}

static void close_golden(struct golden *g)
{
    void *all[] = {g->ids,     g->positions, g->documents, g->rows,
                   g->targets, g->weights,   g->logits,    g->segments};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
    tensor_files_close(g->file);
}

static struct batch as_batch(const struct golden *g)
{
    return (struct batch){.N = g->N,
                          .num_tokens = g->N,
                          .ids = g->ids,
                          .positions = g->positions,
                          .documents = g->documents,
                          .keys = g->documents,
                          .segments = g->segments,
                          .num_segments = g->num_segments,
                          .S = g->S,
                          .rows = g->rows,
                          .targets = g->targets,
                          .weights = g->weights};
}

/* All logits, by decoding each document token by token: the cache is tested on the way. */
static double logits_distance(struct engine *engine, const struct golden *g, int32_t at_once)
{
    struct err e = {0};
    size_t V = (size_t)g->V;
    float *got = mem_calloc((size_t)g->N, V * sizeof *got),
          *want = mem_calloc((size_t)g->N, V * sizeof *want);
    size_t count = 0;
    for (int32_t d = 0; d < g->num_segments; d++) {
        const struct segment *s = &g->segments[d];
        engine_decode_reset(engine);
        for (int32_t i = 0; i < s->length;) {
            int32_t n = s->length - i < at_once ? s->length - i : at_once;
            CHECK_OK(engine_decode(engine, g->ids + s->start + i, n, got + count * V, &e), &e);
            i += n;
            memcpy(want + count++ * V, g->logits + (size_t)(s->start + i - 1) * V,
                   V * sizeof *want);
        }
    }
    double distance = check_distance(got, want, count * V);
    mem_free(got);
    mem_free(want);
    return distance;
}

static double worst_gradient(struct engine *engine, const struct golden *g, int adapter)
{
    double worst = 0;
    struct param_set *params = &engine->params;
    for (int32_t i = 0; i < params->count; i++) {
        struct param *p = &params->params[i];
        char name[PARAM_NAME_MAX + 8];
        if (!p->trainable) continue;
        assert_int_equal(adapter, (p->flags & PARAM_FLOAT) != 0);
        snprintf(name, sizeof name, "grad.%s", p->name);
        float *want = read_floats(g, name);
        for (size_t k = 0; k < p->n; k++) p->grad[k] /= (float)g->S;
        double distance = check_distance(p->grad, want, p->n);
        if (distance > GRADIENT_TOLERANCE) print_error("%s: %g\n", p->name, distance);
        if (!(distance <= worst)) worst = distance;
        mem_free(want);
    }
    return worst;
}

struct opened {
    struct model_config config;
    struct adapter_dir adapter;
    struct engine engine;
};

static void open_engine(struct opened *o, const struct golden *g, const char *dir,
                        const char *adapter_dir, int checkpoint)
{
    struct err e = {0};
    *o = (struct opened){0};
    CHECK_OK(model_config_read(&o->config, dir, &e), &e);
    if (adapter_dir) CHECK_OK(adapter_dir_open(&o->adapter, adapter_dir, &e), &e);
    struct loader_limits limits = {g->N, g->S, g->num_segments, 0};
    struct engine_options options = {.device = "cpu",
                                     .config = &o->config,
                                     .lora = adapter_dir ? &o->adapter.options : NULL,
                                     .train = 1,
                                     .recompute = {.full = checkpoint ? 99 : 0},
                                     .train_limits = limits,
                                     .eval_limits = limits,
                                     .positions = 64,
                                     .cache_rows = 64,
                                     .decode_rows = 64};
    CHECK_OK(engine_describe(&o->engine, &options, &e), &e);
    CHECK_OK(engine_allocate(&o->engine, &e), &e);
    CHECK_OK(weights_load_base(&o->engine, dir, &e), &e);
    if (adapter_dir) CHECK_OK(weights_load_adapter(&o->engine, adapter_dir, &e), &e);
}

static void close_engine(struct opened *o)
{
    engine_free(&o->engine);
    adapter_dir_close(&o->adapter);
    model_config_free(&o->config);
}

static void check_case(const char *dir, const char *adapter_dir)
{
    struct golden g;
    struct opened o;
    struct err e = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/golden.safetensors", adapter_dir ? adapter_dir : dir);
    open_golden(&g, path);
    for (int checkpoint = 0; checkpoint < 2; checkpoint++) {
        struct cross_entropy_sums sums = {0}, forward_only = {0};
        struct batch b = as_batch(&g);
        open_engine(&o, &g, dir, adapter_dir, checkpoint);
        double one = logits_distance(&o.engine, &g, 1), many = logits_distance(&o.engine, &g, 7);
        CHECK_OK(engine_train(&o.engine, &b, 0, 0, &sums, &e), &e);
        CHECK_OK(engine_evaluate(&o.engine, &b, &forward_only, &e), &e);
        double gradient = worst_gradient(&o.engine, &g, adapter_dir != NULL);
        double loss = sums.loss / sums.weight;
        print_message("%-60s logits %.1e %.1e  loss %.1e  gradients %.1e\n",
                      adapter_dir ? adapter_dir : dir, one, many, fabs(loss - g.loss) / g.loss,
                      gradient);
        assert_true(one <= LOGITS_TOLERANCE && many <= LOGITS_TOLERANCE);
        assert_true(fabs(loss - g.loss) <= LOGITS_TOLERANCE * g.loss);
        assert_true(forward_only.loss == sums.loss);
        assert_true(gradient <= GRADIENT_TOLERANCE);
        close_engine(&o);
    }
    close_golden(&g);
}

static void test_families(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char dir[256];
        snprintf(dir, sizeof dir, "tests/golden/models/%s", families[i]);
        check_case(dir, NULL);
    }
}

static void test_adapters(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++) {
        char dir[256], adapter[256];
        snprintf(dir, sizeof dir, "tests/golden/models/%s", adapters[i].family);
        snprintf(adapter, sizeof adapter, "%s/%s", dir, adapters[i].adapter);
        check_case(dir, adapter);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families),
                                       cmocka_unit_test(test_adapters)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

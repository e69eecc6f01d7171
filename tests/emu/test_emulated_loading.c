/* Weights of several parts through the ring into the emulated device: frozen, trained with masters
 * and without, from files of F32 and BF16, under several schedules. What lies there must be the
 * file's numbers, rounded where memory is narrower. */
#include "support/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "ckpt/safetensors.h"
#include "kernels/emu/runtime.h"
#include "run/new_model.h"
#include "run/weights.h"

static char folder[] = "/tmp/cria-loading-XXXXXX";

/* A table of more than one part, and little else. */
static const char config[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 20000, \"hidden_size\": 64, "
    "\"intermediate_size\": 64, \"num_hidden_layers\": 1, \"num_attention_heads\": 2, "
    "\"num_key_value_heads\": 1, \"tie_word_embeddings\": false, \"torch_dtype\": \"%s\"}";

static const char *const types[] = {"float32", "bfloat16"};

static void model_dir(int type, char out[128]) { snprintf(out, 128, "%s/%s", folder, types[type]); }

static int write_models(void **state)
{
    struct err e = {0};
    (void)state;
    assert_non_null(mkdtemp(folder));
    for (int type = 0; type < 2; type++) {
        char dir[128], path[160], text[512];
        model_dir(type, dir);
        snprintf(path, sizeof path, "%s.json", dir);
        int n = snprintf(text, sizeof text, config, types[type]);
        CHECK_OK(io_write_file(path, text, (size_t)n, &e), &e);
        CHECK_OK(new_model_init(path, dir, 7, &e), &e);
    }
    return 0;
}

static int remove_models(void **state)
{
    struct err e = {0};
    (void)state;
    CHECK_OK(io_remove_tree(folder, &e), &e);
    return 0;
}

/* Masters and data of all parameters against the file. */
static void check_params(struct engine *g, const char *dir)
{
    struct err e = {0};
    struct tensor_files *f;
    struct device *d = &g->device;
    CHECK_OK(tensor_files_open(&f, dir, &e), &e);
    for (int32_t i = 0; i < g->params.count; i++) {
        const struct param *p = &g->params.params[i];
        float *want = malloc(p->n * sizeof *want), *got = malloc(p->n * sizeof *got);
        CHECK_OK(tensor_read_float(f, tensor_files_find(f, p->name), 0, p->n, want, &e), &e);
        if (p->master) {
            d->k->download(d, got, p->master, p->n * sizeof *got);
            assert_memory_equal(got, want, p->n * sizeof *got);
        }
        for (size_t k = 0; d->type == DTYPE_BF16 && k < p->n; k++) {
            uint16_t narrow;
            file_type_from_float(FILE_BF16, &narrow, &want[k], 1);
            file_type_to_float(FILE_BF16, &want[k], &narrow, 1);
        }
        d->k->download_floats(d, got, p->data, p->n);
        assert_memory_equal(got, want, p->n * sizeof *got);
        free(want);
        free(got);
    }
    tensor_files_close(f);
}

static void load(int type, int train, int no_masters, int fp32)
{
    static struct engine g;
    struct err e = {0};
    struct model_config c;
    char dir[128];
    model_dir(type, dir);
    CHECK_OK(model_config_read(&c, dir, &e), &e);
    struct engine_options o = {.device = "cuda",
                               .config = &c,
                               .train = train,
                               .no_masters = no_masters,
                               .fp32 = fp32,
                               .positions = 1};
    CHECK_OK(engine_describe(&g, &o, &e), &e);
    CHECK_OK(engine_allocate(&g, &e), &e);
    CHECK_OK(weights_load_base(&g, dir, &e), &e);
    check_params(&g, dir);
    CHECK_OK(g.device.k->sync(&g.device, &e), &e);
    engine_free(&g);
    model_config_free(&c);
}

static void test_all(void **state)
{
    (void)state;
    for (int way = 0; way < 16; way++) {
        emu_set_seed(1 + (uint64_t)way);
        load(way & 1, way >> 1 & 1, way >> 2 & 1, way >> 3 & 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};
    return cmocka_run_group_tests(tests, write_models, remove_models);
}

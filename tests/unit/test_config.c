/* Everything in trainer/config but its error messages (test_config_errors.c). */
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
#include "base/log.h"
#include "base/mem.h"
#include "config/config.h"
#include "config/table.h"

static char said[4096]; /* notices of the last load */

static void listen(enum log_level level, const char *line)
{
    (void)level;
    size_t used = strlen(said);
    snprintf(said + used, sizeof said - used, "%s\n", line);
}

/* Writes `text` (NULL: no file) and loads it with overrides up to NULL. */
static enum status load(struct config *c, const char *text, const char *const *overrides,
                        struct err *e)
{
    char path[] = "/tmp/cria-config-XXXXXX";
    size_t n = 0;
    int fd = text ? mkstemp(path) : -1;
    said[0] = 0;
    if (text) {
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
    }
    while (overrides && overrides[n]) n++;
    log_set_sink(listen);
    enum status s = config_load(c, text ? path : NULL, overrides, n, e);
    log_set_sink(NULL);
    if (text) unlink(path);
    return s;
}

static void load_ok(struct config *c, const char *text, const char *const *overrides)
{
    struct err e = {0};
    char message[1024];
    if (load(c, text, overrides, &e) == OK) return;
    err_format(&e, message, sizeof message);
    fail_msg("%s", message);
}

#define OVERRIDES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_defaults(void **state)
{
    (void)state; /* TRL 1.16's SFTConfig and PEFT 0.21's LoraConfig, unless noted */
    struct config c;
    load_ok(&c, NULL, NULL);
    assert_null(c.model_name_or_path);
    assert_null(c.output_dir);
    assert_false(c.overwrite_output_dir);
    assert_null(c.resume_from_checkpoint);
    assert_int_equal(c.save_dtype, CONFIG_SAVE_AUTO);
    assert_int_equal(c.stage, CONFIG_STAGE_SFT);
    assert_int_equal(c.datasets.n, 0);
    assert_int_equal(c.eval_dataset.n, 0);
    assert_true(c.val_size == 0);
    assert_null(c.template);
    assert_int_equal(c.train_on, CONFIG_TRAIN_ASSISTANT);
    assert_false(c.tokenize_whole);
    assert_int_equal(c.max_length, 1024);
    assert_false(c.packing);
    assert_int_equal(c.per_device_train_batch_size, 8);
    assert_int_equal(c.per_device_eval_batch_size, 8);
    assert_int_equal(c.gradient_accumulation_steps, 1);
    assert_int_equal(c.loss_reduction, CONFIG_TOKEN_MEAN);
    assert_true(c.learning_rate == 2e-5);
    assert_int_equal(c.lr_scheduler_type, CONFIG_LR_LINEAR);
    assert_true(c.warmup_steps == 0);
    assert_true(c.min_lr_rate == 0);
    assert_true(c.num_train_epochs == 3);
    assert_int_equal(c.max_steps, -1);
    assert_true(c.weight_decay == 0);
    assert_true(c.max_grad_norm == 1);
    assert_int_equal(c.optim, CONFIG_OPTIM_ADAMW);
    assert_true(c.adam_beta1 == 0.9 && c.adam_beta2 == 0.999 && c.adam_epsilon == 1e-8);
    assert_int_equal(c.finetuning, CONFIG_FULL);
    assert_int_equal(c.lora_r, 8);
    assert_true(c.lora_alpha == 8 && c.lora_dropout == 0);
    assert_int_equal(c.lora_target_modules.n, 1); /* PEFT has q_proj and v_proj */
    assert_string_equal(c.lora_target_modules.items[0], "all-linear");
    assert_false(c.use_rslora);
    assert_int_equal(c.device, CONFIG_DEVICE_AUTO);
    assert_int_equal(c.threads, 0);
    assert_int_equal(c.precision, CONFIG_PRECISION_AUTO);
    assert_int_equal(c.gradient_checkpointing, CONFIG_CHECKPOINT_FULL);
    assert_int_equal(c.seed, 42);
    assert_int_equal(c.logging_steps, 10);
    assert_int_equal(c.eval_steps, CONFIG_EPOCH); /* TRL never evaluates unless told to */
    assert_int_equal(c.save_steps, 500);
    assert_int_equal(c.save_total_limit, 0);
    for (int key = 0; key < CONFIG_NUM_KEYS; key++) {
        char place[64];
        config_where(&c, key, place, sizeof place);
        assert_false(config_is_set(&c, key));
        assert_string_equal(place, "default");
    }
    config_free(&c);
    config_free(&c);
}

/* Whatever the tool, and after having been written out. */
static void check_names(const struct config *c)
{
    static const char *const want[][2] = {
        {"field_messages", "dialogue"}, {"field_role", "who"},
        {"field_content", "says"},      {"role_user", "me"},
        {"role_assistant", "it"},       {"role_assistant", "calls"},
        {"role_tool", "answers"},
    };
    for (size_t i = 0; i < c->datasets.n; i++) {
        const struct config_dataset *d = &c->datasets.items[i];
        assert_string_equal(d->format, i ? "sharegpt" : "openai");
        assert_string_equal(d->sample_by, i ? "line" : "paragraph");
        assert_int_equal(d->num_names, sizeof want / sizeof *want);
        for (size_t k = 0; k < d->num_names; k++) {
            assert_string_equal(d->names[k].ours, want[k][0]);
            assert_string_equal(d->names[k].theirs, want[k][1]);
        }
    }
}

static void test_dataset_names(void **state)
{
    (void)state;
    static const char text[] =
        "datasets:\n"
        "  - {path: a, format: openai, sample_by: paragraph, field_messages: dialogue, field_role: "
        "who, field_content: says, role_user: me, role_assistant: [it, calls], role_tool: "
        "answers}\n"
        "  - path: b\n"
        "    formatting: sharegpt\n"
        "    columns: {messages: dialogue}\n"
        "    tags: {role_tag: who, content_tag: says, user_tag: me, assistant_tag: it, "
        "function_tag: calls, observation_tag: answers}\n"
        "  - path: c\n"
        "    type: sharegpt\n"
        "    field_messages: dialogue\n"
        "    message_property_mappings:\n"
        "      role: who\n"
        "      content: says\n"
        "    roles: {user: [me], assistant: [it, calls], tool: answers}\n";
    char path[] = "/tmp/cria_config_XXXXXX";
    struct err e = {0};
    struct config c;
    struct buf out;
    buf_init(&out, 1 << 20);
    close(mkstemp(path));
    assert_int_equal(io_write_file(path, text, strlen(text), &e), OK);
    assert_int_equal(config_load(&c, path, NULL, 0, &e), OK);
    assert_int_equal(c.datasets.n, 3);
    assert_int_equal(c.datasets.items[1].names[0].line, 5);
    check_names(&c);
    assert_int_equal(config_resolve(&c, &out), OK);
    config_free(&c);
    assert_int_equal(io_write_file(path, out.data, out.len, &e), OK);
    assert_int_equal(config_load(&c, path, NULL, 0, &e), OK);
    check_names(&c);
    config_free(&c);
    buf_free(&out);
    unlink(path);
}

static const char everything[] = "# a config with most keys\n"
                                 "model_name_or_path: \"models/caf\\u00e9 \\t#1\"\n"
                                 "output_dir: 'out: put'\n"
                                 "resume_from_checkpoint: true\n"
                                 "save_dtype: BFloat16\n"
                                 "datasets:\n"
                                 "  - path: a.json\n"
                                 "    format: alpaca\n"
                                 "  - b.jsonl\n"
                                 "  - {path: c.json, type: sharegpt}\n"
                                 "eval_dataset: d.json, e.json\n"
                                 "template: vicuna\n"
                                 "train_on: last\n"
                                 "tokenize_whole: yes\n"
                                 "max_length: 2048\n"
                                 "packing: on\n"
                                 "per_device_train_batch_size: 4\n"
                                 "per_device_eval_batch_size: 2\n"
                                 "gradient_accumulation_steps: 16\n"
                                 "loss_reduction: microbatch_mean\n"
                                 "learning_rate: 1.5e-3\n"
                                 "lr_scheduler_type: cosine_with_min_lr\n"
                                 "warmup_steps: .03\n"
                                 "min_lr_rate: 0.1\n"
                                 "num_train_epochs: 1.5\n"
                                 "weight_decay: 1e-6\n"
                                 "max_grad_norm: 0\n"
                                 "adam_beta1: 0.95\n"
                                 "adam_beta2: 0.99\n"
                                 "adam_epsilon: 1E-6\n"
                                 "finetuning: lora\n"
                                 "lora_r: 64\n"
                                 "lora_alpha: 16\n"
                                 "lora_dropout: 0.05\n"
                                 "lora_target_modules: [q_proj, 'v_proj']\n"
                                 "use_rslora: True\n"
                                 "device: cpu\n"
                                 "threads: 2\n"
                                 "precision: fp32\n"
                                 "gradient_checkpointing: off\n"
                                 "seed: 4294967295\n"
                                 "logging_steps: 1\n"
                                 "eval_steps: 50\n"
                                 "save_steps: epoch\n"
                                 "save_total_limit: 3\n";

static void check_everything(const struct config *c)
{
    assert_string_equal(c->model_name_or_path, "models/caf\xC3\xA9 \t#1");
    assert_string_equal(c->output_dir, "out: put");
    assert_string_equal(c->resume_from_checkpoint, "auto");
    assert_int_equal(c->save_dtype, CONFIG_SAVE_BF16);
    assert_int_equal(c->datasets.n, 3);
    assert_string_equal(c->datasets.items[0].path, "a.json");
    assert_string_equal(c->datasets.items[0].format, "alpaca");
    assert_string_equal(c->datasets.items[1].path, "b.jsonl");
    assert_string_equal(c->datasets.items[1].format, "auto");
    assert_string_equal(c->datasets.items[2].path, "c.json");
    assert_string_equal(c->datasets.items[2].format, "sharegpt");
    assert_int_equal(c->eval_dataset.n, 2);
    assert_string_equal(c->eval_dataset.items[1].path, "e.json");
    assert_string_equal(c->template, "vicuna");
    assert_int_equal(c->train_on, CONFIG_TRAIN_LAST);
    assert_true(c->tokenize_whole && c->packing && c->use_rslora);
    assert_int_equal(c->max_length, 2048);
    assert_int_equal(c->per_device_train_batch_size, 4);
    assert_int_equal(c->per_device_eval_batch_size, 2);
    assert_int_equal(c->gradient_accumulation_steps, 16);
    assert_int_equal(c->loss_reduction, CONFIG_MICROBATCH_MEAN);
    assert_true(c->learning_rate == 1.5e-3);
    assert_int_equal(c->lr_scheduler_type, CONFIG_LR_COSINE_WITH_MIN_LR);
    assert_string_equal(config_word(c, KEY_lr_scheduler_type), "cosine_with_min_lr");
    assert_true(c->warmup_steps == 0.03 && c->min_lr_rate == 0.1 && c->num_train_epochs == 1.5);
    assert_true(c->weight_decay == 1e-6 && c->max_grad_norm == 0);
    assert_true(c->adam_beta1 == 0.95 && c->adam_beta2 == 0.99 && c->adam_epsilon == 1e-6);
    assert_int_equal(c->finetuning, CONFIG_LORA);
    assert_int_equal(c->lora_r, 64);
    assert_true(c->lora_alpha == 16 && c->lora_dropout == 0.05);
    assert_int_equal(c->lora_target_modules.n, 2);
    assert_string_equal(c->lora_target_modules.items[1], "v_proj");
    assert_int_equal(c->device, CONFIG_DEVICE_CPU);
    assert_int_equal(c->threads, 2);
    assert_int_equal(c->precision, CONFIG_PRECISION_FP32);
    assert_int_equal(c->gradient_checkpointing, CONFIG_CHECKPOINT_NONE);
    assert_int_equal(c->seed, 4294967295);
    assert_int_equal(c->logging_steps, 1);
    assert_int_equal(c->eval_steps, 50);
    assert_int_equal(c->save_steps, CONFIG_EPOCH);
    assert_int_equal(c->save_total_limit, 3);
}

static void test_file(void **state)
{
    (void)state;
    struct config c;
    char place[300];
    load_ok(&c, everything, NULL);
    check_everything(&c);
    assert_string_equal(said, "");
    config_where(&c, KEY_learning_rate, place, sizeof place);
    assert_non_null(strstr(place, "/tmp/cria-config-"));
    assert_non_null(strstr(place, ":21"));
    assert_int_equal(c.origin[KEY_learning_rate].line, 21);
    assert_int_equal(c.origin[KEY_learning_rate].column, 16);
    assert_int_equal(c.datasets.items[2].line, 10);
    config_free(&c);
}

static void test_nulls(void **state)
{
    (void)state;
    struct config c;
    load_ok(&c, "lora_r: null\nmax_length:\nseed: ~\noutput_dir: none\ndevice: null\n", NULL);
    assert_int_equal(c.lora_r, 8);
    assert_int_equal(c.max_length, 1024);
    assert_int_equal(c.seed, 42);
    assert_null(c.output_dir);
    assert_int_equal(c.device, CONFIG_DEVICE_NULL);
    assert_false(config_is_set(&c, KEY_lora_r));
    config_free(&c);
}

static void test_overrides(void **state)
{
    (void)state;
    struct config c;
    char place[64];
    load_ok(&c, "learning_rate: 1e-4\nlora_r: 4\nfinetuning: lora\nnum_train_epochs: 2\n",
            OVERRIDES("learning_rate=3e-4", "finetuning=full", "lora_r=", "max_steps=10",
                      "datasets=[{path: x.json, format: alpaca}, y.json]", "eval_dataset=v.json",
                      "output_dir=a=b"));
    assert_true(c.learning_rate == 3e-4);
    assert_int_equal(c.lora_r, 8);
    assert_int_equal(c.max_steps, 10); /* beats the file's epochs */
    assert_true(c.num_train_epochs == 3);
    assert_non_null(strstr(said, "max_steps on the command line takes the place of"));
    assert_int_equal(c.datasets.n, 2);
    assert_string_equal(c.datasets.items[0].format, "alpaca");
    assert_int_equal(c.datasets.items[0].line, 0);
    assert_string_equal(c.eval_dataset.items[0].path, "v.json");
    assert_string_equal(c.output_dir, "a=b");
    config_where(&c, KEY_learning_rate, place, sizeof place);
    assert_string_equal(place, "command line");
    config_where(&c, KEY_lora_r, place, sizeof place);
    assert_string_equal(place, "default");
    config_free(&c);
    load_ok(&c, "max_steps: 10\neval_dataset: a\n", OVERRIDES("num_train_epochs=2", "val_size=0"));
    assert_int_equal(c.max_steps, -1);
    assert_true(c.num_train_epochs == 2);
    assert_int_equal(c.eval_dataset.n, 1);
    config_free(&c);
}

/* Every line is an alias, the notice says so, and the field holds what it should. */
static void test_aliases(void **state)
{
    (void)state;
    struct config c;
    load_ok(&c,
            "base_model: m\nmicro_batch_size: 3\nsequence_len: 512\nsample_packing: true\n"
            "val_set_size: 0.05\nlr_scheduler: cosine\noptimizer: adamw_torch_fused\n"
            "adapter: lora\nlora_target_linear: true\ntrain_on_inputs: true\nnum_epochs: 4\n"
            "warmup_ratio: 0.1\nchat_template: chatml\nflash_attention: true\nbf16: auto\n"
            "load_in_8bit: false\n",
            NULL);
    assert_string_equal(c.model_name_or_path, "m");
    assert_int_equal(c.per_device_train_batch_size, 3);
    assert_int_equal(c.max_length, 512);
    assert_true(c.packing);
    assert_true(c.val_size == 0.05);
    assert_int_equal(c.lr_scheduler_type, CONFIG_LR_COSINE);
    assert_int_equal(c.finetuning, CONFIG_LORA);
    assert_string_equal(c.lora_target_modules.items[0], "all-linear");
    assert_int_equal(c.train_on, CONFIG_TRAIN_ALL);
    assert_true(c.num_train_epochs == 4);
    assert_true(c.warmup_steps == 0.1);
    assert_string_equal(c.template, "chatml");
    assert_non_null(strstr(said, ":1: base_model (axolotl) is taken as model_name_or_path\n"));
    assert_non_null(strstr(said, ":10: train_on_inputs (axolotl) is taken as train_on: all\n"));
    assert_non_null(strstr(said, ":14: flash_attention has no effect here"));
    config_free(&c);
    load_ok(&c, "optimizer: adamw_bnb_8bit\n", NULL);
    assert_int_equal(c.optim, CONFIG_OPTIM_ADAMW_8BIT);
    assert_null(strstr(said, "adamw_bnb_8bit"));
    config_free(&c);
    load_ok(&c, "max_steps: 3\noptim: paged_adamw_8bit\n", NULL);
    assert_int_equal(c.optim, CONFIG_OPTIM_ADAMW_8BIT);
    assert_non_null(strstr(said, ":2: optim: paged_adamw_8bit is taken as adamw_8bit: all memory"));
    config_free(&c);
    load_ok(&c,
            "dataset: a.json,b.json\ncutoff_len: 99\nfinetuning_type: lora\nlora_rank: 2\n"
            "lora_target: all\nmask_history: true\n",
            OVERRIDES("lr=1e-3"));
    assert_int_equal(c.datasets.n, 2);
    assert_int_equal(c.max_length, 99);
    assert_int_equal(c.lora_r, 2);
    assert_string_equal(c.lora_target_modules.items[0], "all-linear");
    assert_int_equal(c.train_on, CONFIG_TRAIN_LAST);
    assert_true(c.learning_rate == 1e-3);
    assert_non_null(strstr(said, "command line: lr (PyTorch) is taken as learning_rate\n"));
    config_free(&c);
    load_ok(&c, "model_max_length: 77\ndata_path: d\nlazy_preprocess: True\n", NULL);
    assert_int_equal(c.max_length, 77);
    assert_string_equal(c.datasets.items[0].path, "d");
    config_free(&c);
}

/* ---- splits ---- */

static void make_files(const char *dir, const char *const *names)
{
    char path[256], folder[256];
    struct err e = {0};
    for (; *names; names++) {
        snprintf(path, sizeof path, "%s/%s", dir, *names);
        snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(path, '/') - path), path);
        assert_int_equal(io_make_dirs(folder, &e), OK);
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fclose(f);
    }
}

/* Loads a dataset of `dir`/path and compares the paths it becomes, joined by spaces; or, where it
 * fails, the message. */
static void check_split(const char *dir, const char *key, const char *path, const char *more,
                        const char *want)
{
    char text[512], got[1024] = "", message[1400];
    struct config c;
    struct err e = {0};
    snprintf(text, sizeof text, "%s:\n  - path: %s%s\n    repeat: 2\n%s%s\n", key, dir, path,
             *more ? "    " : "", more);
    if (load(&c, text, NULL, &e) == OK) {
        int is_eval = !strcmp(key, "eval_dataset");
        const struct config_datasets *list = is_eval ? &c.eval_dataset : &c.datasets;
        for (size_t i = 0; i < list->n; i++) {
            const struct config_dataset *d = &list->items[i];
            assert_int_equal(d->repeat, 2);
            assert_null(d->split);
            size_t used = strlen(got);
            snprintf(got + used, sizeof got - used, "%s%s", i ? " " : "", d->path + strlen(dir));
        }
        config_free(&c);
        assert_string_equal(got, want);
        return;
    }
    err_format(&e, message, sizeof message);
    if (!strstr(message, want)) fail_msg("%s, not %s", message, want);
}

static void test_splits(void **state)
{
    (void)state;
    static const char *const files[] = {"one/a.jsonl",
                                        "one/README.md",
                                        "two/train.jsonl",
                                        "two/test.jsonl",
                                        "two/notes.txt",
                                        "two/my_training_set.csv",
                                        "hub/README.md",
                                        "hub/data/train_sft-00001-of-00002.json.gz",
                                        "hub/data/train_sft-00000-of-00002.json.gz",
                                        "hub/data/train_gen-00000-of-00001.json.gz",
                                        "hub/data/test-00000-of-00001.parquet",
                                        "deep/train/b.json",
                                        "deep/train/a.json",
                                        "deep/dev/x.json",
                                        "words/questions_dev.jsonl",
                                        "words/trainers.jsonl",
                                        "words/x.train.jsonl.zst",
                                        "none/a.jsonl",
                                        "none/b.jsonl",
                                        "two/train.jsonl.bak",
                                        "two/.train.jsonl",
                                        NULL};
    static const struct {
        const char *key, *path, *more, *want;
    } cases[] = {
        /* files */
        {"datasets", "two/test.jsonl", "split: train", "two/test.jsonl"},
        {"datasets", "two/test.jsonl", "split: test", "two/test.jsonl"},
        {"datasets", "two/test.jsonl", "split:", "two/test.jsonl"},
        {"datasets", "two/train.jsonl", "split: test", "is one file, its split is train, not test"},
        {"datasets", "two/train.jsonl", "split: 'train[:10%]'", "split 'train[:10%]' is no name"},
        {"datasets", "gone.jsonl", "split: train", "gone.jsonl"},
        /* folders */
        {"datasets", "one", "", "one/a.jsonl"},
        {"datasets", "one", "split: train", "has no files of split train"},
        {"datasets", "two", "", "two/train.jsonl"},
        {"datasets", "two/", "split: train", "two/train.jsonl"},
        {"datasets", "two", "split: test", "two/test.jsonl"},
        {"datasets", "two", "split: validation",
         "name the files in it: my_training_set.csv, notes"},
        {"datasets", "hub", "split: train_sft",
         "hub/data/train_sft-00000-of-00002.json.gz hub/data/train_sft-00001-of-00002.json.gz"},
        {"datasets", "hub", "split: test", "hub/data/test-00000-of-00001.parquet"},
        {"datasets", "deep", "", "deep/train/a.json deep/train/b.json"},
        {"datasets", "deep", "max_samples: 3", "is a folder of 2 files, and has a max_samples"},
        {"datasets", "deep", "split: dev", "deep/dev/x.json"},
        {"datasets", "words", "", "words/x.train.jsonl.zst"},
        {"datasets", "none", "", "is a folder (name the files in it: a.jsonl, b.jsonl)"},
        {"eval_dataset", "words", "", "words/questions_dev.jsonl"},
        {"eval_dataset", "two", "", "is a folder"},
    };
    char dir[] = "/tmp/cria-splits-XXXXXX", base[64];
    struct err e = {0};
    assert_non_null(mkdtemp(dir));
    make_files(dir, files);
    snprintf(base, sizeof base, "%s/", dir);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_split(base, cases[i].key, cases[i].path, cases[i].more, cases[i].want);
    assert_int_equal(io_remove_tree(dir, &e), OK);
}

/* A name stands in one table only, and each alias gives its key's default when told so. */
static void test_tables(void **state)
{
    (void)state;
    for (size_t i = 0; i < config_num_aliases; i++) {
        const struct config_alias *alias = &config_aliases[i];
        const char *preset = config_rows[alias->key].preset;
        char setting[128], notice[128];
        struct config c;
        assert_int_equal(config_find(alias->spelling), -1);
        assert_ptr_equal(config_find_alias(alias->spelling), alias);
        assert_null(config_find_stranger(alias->spelling));
        snprintf(setting, sizeof setting, "%s=%s", alias->spelling, alias->yes ? "true" : preset);
        snprintf(notice, sizeof notice, "command line: %s (%s) is taken as %s", alias->spelling,
                 alias->tool, config_name(alias->key));
        static const char *const needs[] = {[LORA_ONLY] = "finetuning=lora",
                                            [EVAL_ONLY] = "val_size=0.5",
                                            [EVAL_STEPS_ONLY] = "val_size=0.5",
                                            [PREFERENCE_ONLY] = "stage=dpo",
                                            [DPO_ONLY] = "stage=dpo",
                                            [KTO_ONLY] = "stage=kto",
                                            [SKIP_ONLY] = NULL};
        const char *other = needs[config_rows[alias->key].when];
        load_ok(&c, NULL, OVERRIDES(setting, other ? other : "logging_steps=10"));
        if (alias->yes || *preset) assert_non_null(strstr(said, notice));
        config_free(&c);
    }
    for (size_t i = 0; i < config_num_strangers; i++) {
        const struct config_stranger *stranger = &config_strangers[i];
        char setting[128];
        struct config c;
        struct err e = {0};
        assert_int_equal(config_find(stranger->spelling), -1);
        assert_ptr_equal(config_find_stranger(stranger->spelling), stranger);
        assert_true(stranger->planned || stranger->advice);
        const char *harmless = stranger->harmless ? stranger->harmless : "else";
        snprintf(setting, sizeof setting, "%s=%.*s", stranger->spelling,
                 (int)strcspn(harmless, "|"), harmless);
        enum status want = stranger->harmless  ? OK
                           : stranger->planned ? ERR_UNSUPPORTED
                                               : ERR_CONFIG;
        assert_int_equal(load(&c, NULL, OVERRIDES(setting), &e), want);
        config_free(&c);
        snprintf(setting, sizeof setting, "%s=", stranger->spelling);
        load_ok(&c, NULL, OVERRIDES(setting));
        assert_string_equal(said, "");
        config_free(&c);
    }
}

/* What the stage decides where the config says nothing, and stages that are names of losses. */
static void test_preferences(void **state)
{
    (void)state;
    struct config c;
    load_ok(&c, "stage: dpo\n", NULL);
    assert_true(c.learning_rate == 1e-6 && c.beta == 0.1 && c.prefix_sharing && c.disable_dropout);
    assert_int_equal(c.loss_type.n, 1);
    assert_string_equal(c.loss_type.items[0], "sigmoid");
    assert_false(config_is_set(&c, KEY_learning_rate));
    config_free(&c);
    load_ok(&c, "stage: kto\nlearning_rate: 5e-7\n", NULL);
    assert_true(c.learning_rate == 5e-7);
    assert_string_equal(c.loss_type.items[0], "kto");
    config_free(&c);
    load_ok(&c, "stage: simpo\n", NULL);
    assert_int_equal(c.stage, CONFIG_STAGE_DPO);
    assert_true(c.learning_rate == 1e-6);
    assert_string_equal(c.loss_type.items[0], "simpo");
    assert_non_null(strstr(said, ":1: stage simpo is taken as dpo with loss_type simpo\n"));
    config_free(&c);
    load_ok(&c, "stage: orpo\nloss_type: orpo\n", NULL);
    assert_int_equal(c.stage, CONFIG_STAGE_DPO);
    config_free(&c);
    load_ok(&c, "stage: dpo\nloss_type: [sigmoid, sft]\nloss_weights: [1, 0.5]\n", NULL);
    assert_int_equal(c.loss_type.n, 2);
    assert_string_equal(c.loss_weights.items[1], "0.5");
    config_free(&c);
}

/* A config written out and read again is the same config, and writes out the same values. */
static void round_trip(const char *text, const char *const *overrides, struct config *again)
{
    struct config c;
    struct buf first, second;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    load_ok(&c, text, overrides);
    assert_int_equal(config_resolve(&c, &first), OK);
    config_free(&c);
    load_ok(again, first.data, NULL);
    assert_string_equal(said, "");
    assert_int_equal(config_resolve(again, &second), OK);
    const char *a = first.data, *b = second.data; /* equal but for the comments behind values */
    for (; *a && *b; a += strcspn(a, "\n") + 1, b += strcspn(b, "\n") + 1) {
        const char *end = strstr(a, " # ");
        size_t n = end && end < strchr(a, '\n') ? (size_t)(end - a) : strcspn(a, "\n");
        assert_memory_equal(a, b, n);
    }
    assert_int_equal(*a, *b);
    buf_free(&first);
    buf_free(&second);
}

static void test_resolve(void **state)
{
    (void)state;
    struct config c;
    round_trip(NULL, NULL, &c);
    assert_int_equal(c.max_length, 1024);
    config_free(&c);
    round_trip("stage: ipo\nbeta: 0.01\n", NULL, &c);
    assert_int_equal(c.stage, CONFIG_STAGE_DPO);
    assert_string_equal(c.loss_type.items[0], "ipo");
    config_free(&c);
    round_trip(everything, NULL, &c);
    check_everything(&c);
    config_free(&c);
    round_trip(
        "max_steps: 7\nstage: pt\nval_size: 12\ndevice: null\n",
        OVERRIDES("output_dir=\"q\\ \x01\x7F\xC2\x85\xEF\xBB\xBF\xEF\xBF\xBE\xF0\x9F\xA6\x99"), &c);
    assert_int_equal(c.max_steps, 7);
    assert_true(c.val_size == 12);
    assert_int_equal(c.stage, CONFIG_STAGE_PT);
    assert_int_equal(c.device, CONFIG_DEVICE_NULL);
    assert_string_equal(c.output_dir,
                        "\"q\\ \x01\x7F\xC2\x85\xEF\xBB\xBF\xEF\xBF\xBE\xF0\x9F\xA6\x99");
    config_free(&c);
}

static void test_resolve_says_where(void **state)
{
    (void)state;
    struct config c;
    struct buf out;
    buf_init(&out, 1 << 20);
    load_ok(&c, "seed: 1\n", OVERRIDES("max_length=64"));
    assert_int_equal(config_resolve(&c, &out), OK);
    assert_non_null(strstr(out.data, "\nmax_length: 64 # command line\n"));
    assert_non_null(strstr(out.data, "\npacking: false # default\n"));
    assert_non_null(strstr(out.data, "\nlearning_rate: 2e-05 # default\n"));
    assert_non_null(strstr(out.data, "\n# lora_r: 8 (not used: needs finetuning: lora)\n"));
    const char *seed = strstr(out.data, "\nseed: 1 # /tmp/cria-config-");
    assert_non_null(seed);
    assert_memory_equal(strchr(seed + 1, '\n') - 2, ":1\n", 3);
    buf_free(&out);
    config_free(&c);
}

static void test_help(void **state)
{
    (void)state;
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(config_help(&out), OK);
    for (int key = 0; key < CONFIG_NUM_KEYS; key++) {
        char line[64];
        snprintf(line, sizeof line, "\n  %s: ", config_name(key));
        assert_non_null(strstr(out.data, line));
    }
    assert_non_null(strstr(out.data, "  max_length: whole number, default 1024\n"));
    assert_non_null(strstr(out.data, "also written sequence_len, cutoff_len"));
    buf_free(&out);
}

static void test_nearest(void **state)
{
    (void)state;
    const char *const names[] = {"learning_rate", "seed", "lora_r", "lora_alpha", "packing"};
    assert_string_equal(config_nearest("learing_rate", names, 5), "learning_rate");
    assert_string_equal(config_nearest("LEARNING-RATE", names, 5), "learning_rate");
    assert_string_equal(config_nearest("esed", names, 5), "seed");
    assert_string_equal(config_nearest("lora_aplha", names, 5), "lora_alpha");
    assert_null(config_nearest("temperature", names, 5));
    assert_null(config_nearest("x", names, 5));
    assert_null(config_nearest("", names, 5));
}

static void test_require_and_fail(void **state)
{
    (void)state;
    struct config c;
    struct err e = {0};
    load_ok(&c, "seed: 3\n\ntemplate: nonsense\n", OVERRIDES("output_dir=x"));
    assert_int_equal(config_require(&c, KEY_output_dir, &e), OK);
    assert_int_equal(config_require(&c, KEY_datasets, &e), ERR_CONFIG);
    assert_string_equal(e.message, "datasets is missing");
    assert_int_equal(config_fail(&c, KEY_template, &e, "no template %s", c.template), ERR_CONFIG);
    assert_string_equal(e.message, "template: no template nonsense");
    assert_int_equal(e.line, 3);
    assert_int_equal(e.column, 11);
    config_fail(&c, KEY_output_dir, &e, "is not empty");
    assert_string_equal(e.file, "command line");
    config_free(&c);
}

/* Every allocation of ours fails in turn: an error each time, nothing leaked (asan). */
static void test_memory(void **state)
{
    (void)state;
    char path[] = "/tmp/cria-config-XXXXXX";
    const char *const overrides[] = {"datasets=[a, {path: b, format: c}, d]", "lr=1e-3"};
    struct config c;
    struct err e = {0};
    int fd = mkstemp(path);
    assert_int_equal(write(fd, everything, sizeof everything - 1), sizeof everything - 1);
    close(fd);
    for (long n = 1;; n++) {
        mem_fail_after(n);
        enum status s = config_load(&c, path, NULL, 0, &e);
        mem_fail_after(0);
        if (!s) break;
        assert_int_equal(s, ERR_MEMORY);
        assert_null(c.blocks);
        assert_true(n < 1000);
    }
    config_free(&c);
    for (long n = 1;; n++) {
        mem_fail_after(n);
        enum status s = config_load(&c, NULL, overrides, 2, &e);
        mem_fail_after(0);
        if (!s) break;
        assert_int_equal(s, ERR_MEMORY);
        assert_true(n < 1000);
    }
    for (long n = 1;; n++) {
        struct buf out;
        buf_init(&out, 1 << 20);
        mem_fail_after(n);
        enum status s = config_resolve(&c, &out);
        mem_fail_after(0);
        buf_free(&out);
        if (!s) break;
        assert_int_equal(s, ERR_MEMORY);
    }
    config_free(&c);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dataset_names),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_nulls),
        cmocka_unit_test(test_overrides),
        cmocka_unit_test(test_preferences),
        cmocka_unit_test(test_aliases),
        cmocka_unit_test(test_splits),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_resolve_says_where),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_require_and_fail),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

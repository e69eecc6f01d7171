/* What trainer/config refuses, and what it says then: one row a bad config. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/config.h"

static const struct {
    const char *text;     /* of the file; NULL: none */
    const char *override; /* NULL: none */
    enum status code;
    long line; /* 0: not in the file */
    const char *message, *hint;
} cases[] = {
    /* unknown keys */
    {"learing_rate: 1\n", NULL, ERR_CONFIG, 1, "unknown key 'learing_rate'", "learning_rate"},
    {"seed: 1\nlora_rnk: 4\n", NULL, ERR_CONFIG, 2, "unknown key 'lora_rnk'", "lora_rank"},
    {"Seed: 1\n", NULL, ERR_CONFIG, 1, "unknown key 'Seed'", "did you mean seed?"},
    {"zzzzzzzz: 1\n", NULL, ERR_CONFIG, 1, "unknown key 'zzzzzzzz'", ""},
    {"train:\n  seed: 1\n", NULL, ERR_CONFIG, 1, "unknown key 'train'", ""},
    {NULL, "sed=1", ERR_CONFIG, 0, "unknown key 'sed'", "seed"},
    {NULL, "--learning_rate=1", ERR_CONFIG, 0, "unknown key '--learning_rate'", "learning_rate"},
    {"seed: 1\n\"\": 1\n", NULL, ERR_CONFIG, 2, "unknown key ''", ""},
    /* twice */
    {"seed: 1\nmax_length: 5\nseed: 2\n", NULL, ERR_CONFIG, 3, "seed is given twice", ":1)"},
    {"warmup_steps: 3\nwarmup_ratio: 0.1\n", NULL, ERR_CONFIG, 2,
     "warmup_ratio means the same as warmup_steps", "warmup_steps ("},
    {"lora_rank: 8\nfinetuning: lora\nlora_r: 8\n", NULL, ERR_CONFIG, 3,
     "lora_r means the same as lora_rank", ":1)"},
    {"lora_r: null\nlora_r: 8\n", NULL, ERR_CONFIG, 2, "lora_r is given twice", ""},
    /* types */
    {"max_length: long\n", NULL, ERR_CONFIG, 1, "max_length: 'long' is not a number", ""},
    {"max_length: 10.5\n", NULL, ERR_CONFIG, 1, "max_length: 10.5 is not a whole number", ""},
    {"learning_rate: 2e\n", NULL, ERR_CONFIG, 1, "learning_rate: '2e' is not a number", ""},
    {"learning_rate: 0x10\n", NULL, ERR_CONFIG, 1, "'0x10' is not a number", ""},
    {"learning_rate: .inf\n", NULL, ERR_CONFIG, 1, "'.inf' is not a number", ""},
    {"learning_rate: nan\n", NULL, ERR_CONFIG, 1, "'nan' is not a number", ""},
    {"learning_rate: 1e999\n", NULL, ERR_CONFIG, 1, "'1e999' is not a number", ""},
    {"learning_rate: 1e-4 # ok\nweight_decay: 1,5\n", NULL, ERR_CONFIG, 2, "'1,5' is not a", ""},
    {"learning_rate: ''\n", NULL, ERR_CONFIG, 1, "learning_rate: '' is not a number", ""},
    {"learning_rate: -\n", NULL, ERR_CONFIG, 1, "block sequence entries are not allowed", ""},
    {"packing: maybe\n", NULL, ERR_CONFIG, 1, "packing: 'maybe' is neither true nor false", ""},
    {"seed: [1, 2]\n", NULL, ERR_CONFIG, 1, "seed: wants one value, not a list", ""},
    {"seed: {a: 1}\n", NULL, ERR_CONFIG, 1, "seed: wants a value, not a mapping", ""},
    {"save_steps: sometimes\n", NULL, ERR_CONFIG, 1, "'sometimes' is not a number", "epoch"},
    {"stage: sfx\n", NULL, ERR_CONFIG, 1, "stage: 'sfx' is not pt, sft, dpo,", "did you mean sft?"},
    {"precision: nothing\n", NULL, ERR_CONFIG, 1, "'nothing' is not auto, fp32 or bf16", ""},
    {"train_on_inputs: 7\n", NULL, ERR_CONFIG, 1, "train_on_inputs: neither true nor false", ""},
    /* ranges */
    {"max_length: 1\n", NULL, ERR_CONFIG, 1, "out of range, 2 to 16777216", ""},
    {"learning_rate: -1e-5\n", NULL, ERR_CONFIG, 1, "out of range, 0 to 100", ""},
    {"max_steps: -2\n", NULL, ERR_CONFIG, 1, "out of range, -1 to", ""},
    {"max_steps: 0\n", NULL, ERR_CONFIG, 1, "0 steps train nothing", ""},
    {"adam_beta2: 1\n", NULL, ERR_CONFIG, 1, "adam_beta2: 1 is out of range", ""},
    {"seed: 4294967296\n", NULL, ERR_CONFIG, 1, "out of range, 0 to 4294967295", ""},
    {"num_train_epochs: 0\n", NULL, ERR_CONFIG, 1, "num_train_epochs: 0 is out of range", ""},
    {"logging_steps: 0\n", NULL, ERR_CONFIG, 1, "logging_steps: 0 is out of range", ""},
    {"save_steps: -1\n", NULL, ERR_CONFIG, 1, "save_steps: -1 is out of range", "epoch or none"},
    {"warmup_ratio: 1.5\n", NULL, ERR_CONFIG, 1, "warmup_ratio: 1.5 is out of range", ""},
    {"val_size: 1.5\n", NULL, ERR_CONFIG, 1, "neither below 1 nor a whole number", ""},
    {NULL, "threads=9999999", ERR_CONFIG, 0, "threads: 9999999 is out of range", ""},
    /* lists and datasets */
    {"datasets: []\n", NULL, ERR_CONFIG, 1, "datasets: the list is empty", ""},
    {"datasets: a,,b\n", NULL, ERR_CONFIG, 1, "datasets: item 2 is empty", ""},
    {"datasets:\n  path: a\n", NULL, ERR_CONFIG, 2, "datasets: wants a list, not a mapping", "- "},
    {"datasets:\n  - format: alpaca\n", NULL, ERR_CONFIG, 2, "a dataset without a path", "path"},
    {"datasets:\n  - path: a\n    fromat: b\n", NULL, ERR_CONFIG, 3, "has no 'fromat'", "format"},
    {"datasets:\n  - path: a\n    colour: b\n", NULL, ERR_CONFIG, 3, "no 'colour'",
     "path, split, format"},
    {"datasets:\n  - path: a\n    split: train[:9]\n", NULL, ERR_UNSUPPORTED, 2,
     "split 'train[:9]' is no name", "fraction or max_samples take a part"},
    {"datasets:\n  - path: a\n    weight: -1\n", NULL, ERR_CONFIG, 3, "weight: -1 is no number",
     ""},
    {"datasets:\n  - path: a\n    fraction: 1.5\n", NULL, ERR_CONFIG, 3, "fraction: 1.5 is no", ""},
    {"datasets:\n  - path: a\n    repeat: 1.5\n", NULL, ERR_CONFIG, 3, "1.5 is not a whole", ""},
    {"datasets:\n  - path: a\n    max_samples: x\n", NULL, ERR_CONFIG, 3, "x is no number", ""},
    {"datasets:\n  - path: a\n    split: x\n", NULL, ERR_CONFIG, 2, "its split is train, not x",
     "remove split"},
    {"datasets:\n  - path: a\n    path: b\n", NULL, ERR_CONFIG, 3, "given twice in one dataset",
     ""},
    {"datasets:\n  - path: a\n    columns: {prompt: q, qery: b}\n", NULL, ERR_CONFIG, 3,
     "columns has no 'qery'", "did you mean query"},
    {"datasets:\n  - path: a\n    columns: q\n", NULL, ERR_CONFIG, 3, "wants a mapping of names",
     "NAME: "},
    {"datasets:\n  - path: a\n    roles: {user: {a: b}}\n", NULL, ERR_CONFIG, 3,
     "wants the name that the file has", ""},
    {"datasets:\n  - path: a\n    field_input: [a, b]\n", NULL, ERR_CONFIG, 3,
     "wants the name that the file has", ""},
    {"datasets:\n  - path: a\n    field_input: a\n    columns: {query: b}\n", NULL, ERR_CONFIG, 4,
     "given twice in one dataset", ""},
    {"datasets:\n  - path: a\n    sample_by: word\n", NULL, ERR_CONFIG, 3, "sample_by is none of",
     ".txt"},
    {"datasets:\n  - path: [a]\n", NULL, ERR_CONFIG, 2, "path wants text", ""},
    {"datasets:\n  - [a]\n", NULL, ERR_CONFIG, 2, "a list inside a list", ""},
    {"datasets:\n  - a\n  -\n", NULL, ERR_CONFIG, 3, "datasets: item 2 is empty", ""},
    {"finetuning: lora\nlora_target_modules: [{path: a, format: b}]\n", NULL, ERR_CONFIG, 2,
     "a list of names, not of mappings", ""},
    {"finetuning: lora\nlora_target_modules: ''\n", NULL, ERR_CONFIG, 2, "names no layer", ""},
    {"finetuning: lora\nlora_target_modules: all-linear, q_proj\n", NULL, ERR_CONFIG, 2,
     "all-linear already stands for the others", ""},
    {NULL, "datasets=[a", ERR_CONFIG, 0, "not valid YAML", ""},
    {NULL, "datasets=[a] b", ERR_CONFIG, 0, "not valid YAML", ""},
    {NULL, "datasets={path: a}", ERR_CONFIG, 0, "wants a list, not a mapping", "- path"},
    /* not yet, and never */
    {"stage: ppo\n", NULL, ERR_UNSUPPORTED, 1, "stage: ppo is not supported yet",
     "pt, sft, dpo, kto"},
    {"attention: fast\n", NULL, ERR_CONFIG, 1, "'fast' is not auto, plain, flash, hopper or cudnn",
     ""},
    {"precision: fp16\n", NULL, ERR_UNSUPPORTED, 1, "precision: fp16 is not supported yet", ""},
    {"device: tpu\n", NULL, ERR_CONFIG, 1, "device: 'tpu' is not auto, cpu, null or cuda", ""},
    {"adapter: qlora\n", NULL, ERR_UNSUPPORTED, 1, "finetuning: qlora is not supported yet", ""},
    {"sync_ref_model: true\n", NULL, ERR_UNSUPPORTED, 1, "sync_ref_model is not supported yet", ""},
    /* preferences */
    {"beta: 0.1\n", NULL, ERR_CONFIG, 1, "beta: has no effect without stage: dpo or kto",
     "remove it, or set stage: dpo or kto"},
    {"stage: kto\nsimpo_gamma: 1\n", NULL, ERR_CONFIG, 2,
     "simpo_gamma: has no effect without stage: dpo; it is kto in stage", "set stage: dpo"},
    {"stage: dpo\ndesirable_weight: 1\n", NULL, ERR_CONFIG, 2,
     "desirable_weight: has no effect without stage: kto", "stage: kto"},
    {"stage: dpo\nf_alpha_divergence_coef: 0.3\n", NULL, ERR_CONFIG, 2,
     "has no effect without f_divergence_type: alpha_divergence", ""},
    {"stage: dpo\ntrain_on: last\n", NULL, ERR_CONFIG, 2,
     "train_on: has no effect without stage: sft", ""},
    {"stage: dpo\nfinetuning: lora\nlora_dropout: 0.05\n", NULL, ERR_CONFIG, 3,
     "lora_dropout: 0.05 has no effect with disable_dropout (default) true",
     "disable_dropout: false"},
    {"stage: simpo\nloss_type: hinge\n", NULL, ERR_CONFIG, 1,
     "stage: simpo is another loss than loss_type (", "write stage: dpo"},
    {"val_size: 2\nmetric_for_best_model: eval_rewards/margins\n", NULL, ERR_CONFIG, 2,
     "metric_for_best_model: eval_rewards/margins is there in stage dpo", "eval_loss"},
    {"stage: kto\nval_size: 2\nmetric_for_best_model: rewards/accuracies\n", NULL, ERR_CONFIG, 3,
     "metric_for_best_model: eval_rewards/accuracies is there in stage dpo", "eval_loss"},
    {"report_to: wandb\n", NULL, ERR_UNSUPPORTED, 1, "report_to: wandb is not supported yet",
     "html, tensorboard or none"},
    {"report_to: [html, tensorbord]\n", NULL, ERR_CONFIG, 1, "'tensorbord' is not html",
     "did you mean tensorboard"},
    {"load_in_4bit: true\n", NULL, ERR_UNSUPPORTED, 1, "load_in_4bit is not supported yet", ""},
    {"modules_to_save: [lm_head]\n", NULL, ERR_CONFIG, 1, "modules_to_save: has no effect", "lora"},
    {"fp16: true\n", NULL, ERR_CONFIG, 1, "fp16 is no key of cria", "set precision"},
    {"save_strategy: epoch\nsave_steps: 5\n", NULL, ERR_CONFIG, 2, "save_steps means the same as",
     "keep one; the first is save_strategy"},
    /* all names that are no keys at once */
    {"seed: 1\nseeed: 2\nfp16: true\nfp16:\ndeepspeed: a\nlora_r: 8\n", NULL, ERR_CONFIG, 2,
     "unknown key 'seeed'", "seed?\n      nor can stay: fp16 (line 3), deepspeed (line 5)"},
    {"lr_scheduler_kwargs: {min_lr_rate: 0.1}\n", NULL, ERR_CONFIG, 1, "is no key", "min_lr_rate"},
    /* what would not be honoured */
    {"lora_r: 16\n", NULL, ERR_CONFIG, 1, "lora_r: has no effect without finetuning: lora",
     "set finetuning: lora"},
    {"finetuning: full\nlora_rank: 16\n", NULL, ERR_CONFIG, 2, "it is full in finetuning (", ""},
    {"finetuning: lora\nlora_alpha: 16\n", "finetuning=full", ERR_CONFIG, 2,
     "it is full in finetuning (command line)", ""},
    {"stage: pt\ntemplate: alpaca\n", NULL, ERR_CONFIG, 2, "template: has no effect without sta",
     ""},
    {"eval_steps: 10\n", NULL, ERR_CONFIG, 1, "without val_size or eval_dataset", ""},
    {"min_lr_rate: 0.1\n", NULL, ERR_CONFIG, 1, "lr_scheduler_type: cosine_with_min_lr", ""},
    {"lr_scheduler_type: constant\nwarmup_steps: 5\n", NULL, ERR_CONFIG, 2,
     "without a schedule with a warm-up", ""},
    {"max_steps: 5\nnum_train_epochs: 1\n", NULL, ERR_CONFIG, 1, "excludes num_train_epochs (",
     "keep one"},
    {"val_size: 0.1\neval_dataset: a\n", NULL, ERR_CONFIG, 1, "excludes eval_dataset (", ""},
    {"overwrite_output_dir: true\nresume_from_checkpoint: auto\n", NULL, ERR_CONFIG, 1,
     "excludes resume_from_checkpoint (", ""},
    /* YAML */
    {"", NULL, ERR_CONFIG, 0, "the file is empty", ""},
    {"# only a comment\n", NULL, ERR_CONFIG, 0, "the file is empty", ""},
    {"hello\n", NULL, ERR_CONFIG, 1, "a config is a mapping", "key: value"},
    {"- a\n- b\n", NULL, ERR_CONFIG, 1, "a config is a mapping", ""},
    {"seed: 1\n---\nseed: 2\n", NULL, ERR_CONFIG, 2, "a second document", "one config"},
    {"datasets:\n\t- a\n", NULL, ERR_CONFIG, 2, "not valid YAML", "indent with spaces"},
    {"seed: 1\n\tlora_r: 2\n", NULL, ERR_CONFIG, 2, "not valid YAML", "indent with spaces"},
    {"seed: 1\n  lora_r: 2\n", NULL, ERR_CONFIG, 1, "seed: '1 lora_r' is not a number", ""},
    {"output_dir: 'a\n", NULL, ERR_CONFIG, 2, "not valid YAML", ""},
    {"output_dir: \"a\\q\"\n", NULL, ERR_CONFIG, 1, "unknown escape", ""},
    {"output_dir: \"a\\0b\"\n", NULL, ERR_CONFIG, 1, "a zero byte in a value", ""},
    {"seed: &x 1\n", NULL, ERR_CONFIG, 1, "anchors (&name) are not supported", "write the value"},
    {"output_dir: a\nseed: *x\n", NULL, ERR_CONFIG, 2, "aliases (*name) are not supported", ""},
    {"<<: {seed: 1}\n", NULL, ERR_CONFIG, 1, "merge keys (<<) are not supported", ""},
    {"seed: !!int 1\n", NULL, ERR_CONFIG, 1, "tags (!name) are not supported", ""},
    {"? [a]\n: 1\n", NULL, ERR_CONFIG, 1, "a key must be plain text", ""},
    {"seed: 1\noutput_dir: \xFF\n", NULL, ERR_CONFIG, 2, "not UTF-8 text", ""},
    {"seed: 1\n\xC3(: 1\n", NULL, ERR_CONFIG, 2, "not UTF-8 text", ""},
    /* overrides */
    {NULL, "seed", ERR_CONFIG, 0, "'seed' is no setting", "key=value"},
    {NULL, "=1", ERR_CONFIG, 0, "'=1' is no setting", "key=value"},
    {NULL, "output_dir=\xE0\x80\x80", ERR_CONFIG, 0, "is not UTF-8", ""},
    {NULL, "output_dir=\xED\xA0\x80", ERR_CONFIG, 0, "is not UTF-8", ""},
    {NULL, "output_dir=\xF4\x90\x80\x80", ERR_CONFIG, 0, "is not UTF-8", ""},
    {NULL, "output_dir=\xC3", ERR_CONFIG, 0, "is not UTF-8", ""},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static enum status load(const char *text, size_t n, const char *override, struct err *e)
{
    char path[] = "/tmp/cria-config-XXXXXX";
    struct config c;
    int fd = text ? mkstemp(path) : -1;
    if (text) {
        assert_int_equal(write(fd, text, n), n);
        close(fd);
    }
    enum status s = config_load(&c, text ? path : NULL, &override, override != NULL, e);
    if (text) unlink(path);
    if (s) assert_null(c.blocks);
    config_free(&c);
    return s;
}

static void test_bad_configs(void **state)
{
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct err e = {0};
        char shown[1500];
        const char *text = cases[i].text;
        enum status s = load(text, text ? strlen(text) : 0, cases[i].override, &e);
        err_format(&e, shown, sizeof shown);
        const char *where = text && (cases[i].line || !cases[i].override) ? "/tmp/" : "command";
        if (s == cases[i].code && e.line == cases[i].line && strstr(e.message, cases[i].message) &&
            strstr(e.hint, cases[i].hint) && !strncmp(e.file, where, strlen(where)))
            continue;
        print_message("case %zu, %s %s\n  gave %s: %s\n  want line %ld: %s (%s)\n", i,
                      text ? text : "", cases[i].override ? cases[i].override : "", status_name(s),
                      shown, cases[i].line, cases[i].message, cases[i].hint);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void test_columns(void **state)
{
    (void)state;
    struct err e = {0};
    const char *text = "seed: 1\nlora_r:    many\n";
    assert_int_equal(load(text, strlen(text), NULL, &e), ERR_CONFIG);
    assert_int_equal(e.line, 2);
    assert_int_equal(e.column, 12);
    text = "seed: 1\nsede: 2\n";
    assert_int_equal(load(text, strlen(text), NULL, &e), ERR_CONFIG);
    assert_int_equal(e.column, 1);
}

static void test_files(void **state)
{
    (void)state;
    struct config c;
    struct err e = {0};
    assert_int_equal(config_load(&c, "/nonexistent/a.yaml", NULL, 0, &e), ERR_IO);
    assert_non_null(strstr(e.message, "/nonexistent/a.yaml"));
    assert_int_equal(config_load(&c, "/tmp", NULL, 0, &e), ERR_IO);
    size_t n = CONFIG_FILE_MAX + 1;
    char *huge = test_malloc(n);
    memset(huge, '#', n);
    assert_int_equal(load(huge, n, NULL, &e), ERR_CONFIG);
    assert_non_null(strstr(e.message, "too large for a config"));
    memset(huge, '[', n); /* nesting without an end */
    memcpy(huge, "seed: ", 6);
    assert_int_equal(load(huge, CONFIG_FILE_MAX, NULL, &e), ERR_CONFIG);
    memcpy(huge, "fsdp: ", 6);
    assert_int_equal(load(huge, CONFIG_FILE_MAX / 64, NULL, &e), ERR_CONFIG);
    test_free(huge);
}

/* No prefix of a good config and no single changed byte may crash or leak (asan, ubsan). */
static void test_damaged(void **state)
{
    (void)state;
    static const char good[] = "output_dir: \"a\\u00e9\"\ndatasets:\n  - {path: b, format: c}\n"
                               "  - d\nlora_target_modules: [q, v]\nfinetuning: lora\nlr: 1e-4\n";
    static const char bytes[] = "\0\t\n\"'#-:[]{}&*!|>%@`,\xFF\xC3";
    char text[sizeof good];
    struct err e = {0};
    for (size_t n = 0; n < sizeof good; n++) {
        enum status s = load(good, n, NULL, &e);
        assert_true(s == OK || s == ERR_CONFIG || s == ERR_UNSUPPORTED);
    }
    for (size_t i = 0; i < (sizeof good - 1) * (sizeof bytes - 1); i++) {
        memcpy(text, good, sizeof good);
        text[i / (sizeof bytes - 1)] = bytes[i % (sizeof bytes - 1)];
        enum status s = load(text, sizeof good - 1, NULL, &e);
        assert_true(s == OK || s == ERR_CONFIG || s == ERR_UNSUPPORTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_configs),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* cria plan against what runs really take: the binary itself, measured from outside. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "support/tiny_run.h"

#define ARGS_MAX 32

/* What a call of cria left behind. */
struct result {
    int exit_code;
    size_t peak; /* bytes: the most that was resident */
    struct buf out, err;
};

static void read_whole(const char *path, struct buf *out)
{
    struct err e = {0};
    buf_init(out, 1 << 22);
    CHECK_OK(io_read_file(path, out, &e), &e);
}

static void become_cria(char **argv, const char *out, const char *err, size_t address_space)
{
    struct rlimit limit = {address_space, address_space};
    int o = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    int r = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (address_space) setrlimit(RLIMIT_AS, &limit);
    setenv("OMP_NUM_THREADS", "2", 1); /* the BLAS takes address space for every core there is */
    setenv("OMP_WAIT_POLICY", "passive", 1);
    dup2(o, 1);
    dup2(r, 2);
    execv(argv[0], argv);
    _exit(127);
}

/* Runs cria with the words of `line`; address_space 0: no limit. */
static struct result cria(const struct tiny *t, const char *line, size_t address_space)
{
    char text[4096], out[256], err[256], *argv[ARGS_MAX + 1], *rest;
    struct result r = {0};
    struct rusage usage;
    int n = 1, status;
    argv[0] = getenv("CRIA_BIN");
    assert_non_null(argv[0]);
    snprintf(text, sizeof text, "%s", line);
    for (char *at = strtok_r(text, " ", &rest); at && n < ARGS_MAX; at = strtok_r(NULL, " ", &rest))
        argv[n++] = at;
    argv[n] = NULL;
    tiny_path(t, "stdout", out);
    tiny_path(t, "stderr", err);
    pid_t child = fork();
    if (!child) become_cria(argv, out, err, address_space);
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    assert_true(WIFEXITED(status));
    r.exit_code = WEXITSTATUS(status);
    r.peak = (size_t)usage.ru_maxrss * 1024;
    read_whole(out, &r.out);
    read_whole(err, &r.err);
    return r;
}

static void result_free(struct result *r)
{
    buf_free(&r->out);
    buf_free(&r->err);
}

/* "VERB model_name_or_path=... output_dir=DIR/out ..." */
static struct result call(const struct tiny *t, const char *verb, const char *more,
                          size_t address_space)
{
    char line[4096];
    snprintf(line, sizeof line,
             "%s model_name_or_path=" TINY_MODEL
             " output_dir=%s/out datasets=%s/%s template=orca max_length=256 %s",
             verb, t->dir, t->dir,
             strstr(more, "stage=dpo")   ? "pairs.jsonl"
             : strstr(more, "stage=kto") ? "labels.jsonl"
                                         : "data.jsonl",
             more);
    return cria(t, line, address_space);
}

static json_t *parse(const struct result *r)
{
    json_t *o;
    struct err e = {0};
    CHECK_OK(json_parse_text(r->out.data, r->out.len, "stdout", &o, &e), &e);
    return o;
}

static size_t bytes_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    assert_true(json_is_integer(v));
    return (size_t)json_integer_value(v);
}

/* Sanitizers have memory of their own. */
#if !defined(__SANITIZE_ADDRESS__)

static size_t sum_of(const json_t *o)
{
    size_t sum = 0;
    for (void *i = json_object_iter((json_t *)o); i; i = json_object_iter_next((json_t *)o, i))
        sum += (size_t)json_integer_value(json_object_iter_value(i));
    return sum;
}

/* The plan's peak is the run's, to 3 % or 8 MB, and never below. */
static void check_peak(const char *more)
{
    struct tiny t;
    tiny_init(&t);
    struct result planned = call(&t, "plan --json", more, 0);
    assert_int_equal(planned.exit_code, 0);
    json_t *o = parse(&planned);
    size_t total = bytes_of(o, "total_bytes"), arenas = sum_of(json_object_get(o, "arenas"));
    size_t named = sum_of(json_object_get(o, "named"));
    assert_true(total >= arenas + named && total < arenas + named + 3 * 4096); /* whole pages */
    assert_true(json_is_real(json_object_get(o, "eta_s")));
    assert_true(bytes_of(o, "tokens_per_epoch") > 0);
    assert_true(bytes_of(o, "steps") > 0);
    struct result run = call(&t, "train", more, 0);
    if (run.exit_code) print_error("%s\n", run.err.data);
    assert_int_equal(run.exit_code, 0);
    size_t allowed = run.peak / 100 * 3 > 8000000 ? run.peak / 100 * 3 : 8000000;
    if (total < run.peak || total - run.peak > allowed) {
        print_error("%s: planned %zu bytes, measured %zu\n%s", more, total, run.peak,
                    planned.out.data);
        fail();
    }
    json_decref(o);
    result_free(&planned);
    result_free(&run);
    tiny_free(&t);
}

static void test_peak(void **state)
{
    (void)state;
    check_peak("num_train_epochs=1");
    check_peak("finetuning=lora packing=true per_device_train_batch_size=2 save_steps=3");
    check_peak("gradient_checkpointing=none val_size=0.2 per_device_train_batch_size=24");
    check_peak("finetuning=lora lora_r=2048 lora_dropout=0.1 num_train_epochs=1");
    check_peak("gradient_checkpointing=selective per_device_train_batch_size=24");
    check_peak("gradient_checkpointing=auto per_device_train_batch_size=24");
}

/* The reference counts: a second set of weights, what an adapter trains whole, or its sidecar. */
static void test_peak_of_preferences(void **state)
{
    (void)state;
    check_peak("stage=dpo num_train_epochs=1");
    check_peak("stage=dpo finetuning=lora lora_r=1024 modules_to_save=embed_tokens val_size=4 "
               "num_train_epochs=1");
    check_peak("stage=dpo precompute_ref_log_probs=true num_train_epochs=2 save_steps=3");
    check_peak("stage=kto finetuning=lora packing=true num_train_epochs=1 "
               "gradient_checkpointing=selective");
}

/* Training refuses what does not fit in the plan's words, and touches nothing. */
static void test_training_refuses(void **state)
{
    struct tiny t;
    const size_t space = (size_t)3 << 29; /* 1.5 GB */
    const char *more = "finetuning=lora lora_r=65536 overwrite_output_dir=true";
    char kept[256];
    struct err e = {0};
    (void)state;
    tiny_init(&t);
    tiny_path(&t, "out", kept);
    CHECK_OK(io_make_dirs(kept, &e), &e);
    tiny_path(&t, "out/metrics.jsonl", kept);
    CHECK_OK(io_write_file(kept, "{}\n", 3, &e), &e);
    struct result plan = call(&t, "plan", more, space), train = call(&t, "train", more, space);
    assert_int_equal(plan.exit_code, 3);
    assert_int_equal(train.exit_code, 3);
    const char *said[2] = {strstr(plan.err.data, "error: the run needs "),
                           strstr(train.err.data, "error: the run needs ")};
    assert_non_null(said[0]);
    assert_non_null(said[1]);
    assert_int_equal(strcspn(said[0], ","), strcspn(said[1], ","));
    assert_true(io_exists(kept));
    result_free(&plan);
    result_free(&train);
    tiny_free(&t);
}

/* The tiny model with 24 blocks, of which only the config is wanted. */
static void write_deep_model(const struct tiny *t)
{
    char path[256];
    struct buf text, deep;
    struct err e = {0};
    const char *two = "\"num_hidden_layers\": 2";
    read_whole(TINY_MODEL "/config.json", &text);
    const char *at = strstr(text.data, two);
    assert_non_null(at);
    buf_init(&deep, 1 << 20);
    int head = (int)(at - text.data);
    assert_int_equal(
        buf_printf(&deep, "%.*s\"num_hidden_layers\": 24%s", head, text.data, at + strlen(two)),
        OK);
    tiny_path(t, "deep.json", path);
    CHECK_OK(io_write_file(path, deep.data, deep.len, &e), &e);
    buf_free(&text);
    buf_free(&deep);
}

/* Total bytes of a plan of that model, and its blocks; exit code as told. */
static size_t plan_deep(const struct tiny *t, const char *more, size_t space, int exit_code,
                        struct result *r, json_t **blocks)
{
    char line[1024];
    snprintf(line, sizeof line,
             "plan --json model_name_or_path=nowhere/base output_dir=nowhere/out "
             "datasets=nowhere/data.jsonl template=alpaca device=null max_length=512 "
             "model_config=%s/deep.json finetuning=lora %s",
             t->dir, more);
    *r = cria(t, line, space);
    if (r->exit_code != exit_code) print_error("%s\n", r->err.data);
    assert_int_equal(r->exit_code, exit_code);
    json_t *o = parse(r);
    size_t total = bytes_of(o, "total_bytes");
    *blocks = json_incref(json_object_get(o, "blocks"));
    json_decref(o);
    return total;
}

static const char *way_of(const json_t *blocks, size_t i)
{
    return json_string_value(json_object_get(json_array_get(blocks, i), "recompute"));
}

#define BATCH "per_device_train_batch_size=200"

/* auto recomputes nothing where all fits, else only some of the blocks; where none is too much,
 * it is proposed. */
static void test_auto(void **state)
{
    struct tiny t;
    struct result r;
    json_t *blocks;
    const size_t space = (size_t)3 << 30;
    (void)state;
    tiny_init(&t);
    write_deep_model(&t);
    size_t none = plan_deep(&t, "gradient_checkpointing=none " BATCH, space, 3, &r, &blocks);
    assert_string_equal(way_of(blocks, 0), "none");
    assert_non_null(strstr(r.err.data, "gradient_checkpointing: auto"));
    json_decref(blocks), result_free(&r);
    size_t full = plan_deep(&t, "gradient_checkpointing=full " BATCH, space, 0, &r, &blocks);
    json_decref(blocks), result_free(&r);
    size_t least = plan_deep(&t, "gradient_checkpointing=auto " BATCH, space, 0, &r, &blocks);
    print_message("none %zu bytes, full %zu, auto %zu: %s ...\n", none, full, least,
                  way_of(blocks, 0));
    assert_true(full < least && least < none);
    assert_string_equal(way_of(blocks, json_array_size(blocks) - 1), "none");
    assert_true(json_array_size(blocks) > 1);
    json_decref(blocks), result_free(&r);
    plan_deep(&t, "gradient_checkpointing=auto per_device_train_batch_size=8", space, 0, &r,
              &blocks);
    assert_int_equal(json_array_size(blocks), 1);
    assert_string_equal(way_of(blocks, 0), "none");
    json_decref(blocks), result_free(&r);
    tiny_free(&t);
}

#endif

/* Without weights, tokenizer and data: the layout is known, what depends on the data is null. What
 * does not fit is refused with a change that makes it fit. */
static void test_without_weights(void **state)
{
    struct tiny t;
    char line[1024];
    const char *base = "plan --json model_name_or_path=nowhere/base output_dir=nowhere/out "
                       "datasets=nowhere/data.jsonl template=alpaca device=null max_length=512 "
                       "model_config=" TINY_MODEL;
    (void)state;
    tiny_init(&t);
    struct result r = cria(&t, base, 0);
    assert_int_equal(r.exit_code, 0);
    json_t *o = parse(&r);
    assert_true(json_is_null(json_object_get(o, "tokens_per_epoch")));
    assert_true(json_is_null(json_object_get(o, "steps")));
    assert_true(json_is_null(json_object_get(o, "eta_s")));
    assert_true(bytes_of(json_object_get(o, "arenas"), "run") > 4 * 29216 * sizeof(float));
    json_decref(o);
    result_free(&r);

    snprintf(line, sizeof line, "%s per_device_train_batch_size=1048576 max_steps=7", base);
    r = cria(&t, line, 0);
    assert_int_equal(r.exit_code, 3);
    assert_non_null(strstr(r.err.data, "would fit: per_device_train_batch_size: "));
    o = parse(&r);
    assert_int_equal(bytes_of(o, "steps"), 7);
    json_t *change = json_array_get(json_object_get(o, "changes"), 0);
    assert_non_null(change);
    long long batch = 0, steps = 0;
    assert_int_equal(sscanf(json_string_value(json_object_get(change, "change")),
                            "per_device_train_batch_size: %lld, gradient_accumulation_steps: %lld",
                            &batch, &steps),
                     2);
    assert_true(batch * steps >= 1048576);
    snprintf(line, sizeof line, "%s per_device_train_batch_size=%lld", base, batch / 2);
    json_decref(o);
    result_free(&r);
    r = cria(&t, line, 0); /* half of it, since others on this machine take memory too */
    assert_int_equal(r.exit_code, 0);
    result_free(&r);

    r = cria(&t, "plan model_name_or_path=nowhere/base output_dir=x datasets=x template=alpaca", 0);
    assert_int_equal(r.exit_code, 2);
    assert_non_null(strstr(r.err.data, "model_config"));
    result_free(&r);
    tiny_free(&t);
}

/* A model whose full fine-tuning fits with moments in 8 bits alone: the weights, gradients and
 * moments of its layers are 1.28 times what is there with moments of fp32, 0.8 times with codes. */
static void test_moments(void **state)
{
    enum { WIDTH = 2048, FFN = 8192 };
    const double layer = 4.0 * WIDTH * WIDTH + 3.0 * WIDTH * FFN;
    struct tiny t;
    char line[1024], model[256];
    const char *base = "plan --json model_name_or_path=nowhere/base output_dir=nowhere/out "
                       "datasets=nowhere/data.jsonl template=alpaca device=null max_length=16 "
                       "per_device_train_batch_size=1 gradient_checkpointing=full model_config=";
    (void)state;
    tiny_init(&t);
    tiny_path(&t, "model.json", model);
    snprintf(line, sizeof line, "%s" TINY_MODEL, base);
    struct result r = cria(&t, line, 0);
    assert_int_equal(r.exit_code, 0);
    json_t *o = parse(&r);
    int layers = (int)(0.8 * (double)bytes_of(o, "available_bytes") / (10 * layer));
    json_decref(o);
    result_free(&r);
    FILE *f = fopen(model, "w");
    assert_non_null(f);
    fprintf(f,
            "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], "
            "\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d, "
            "\"num_attention_heads\": 16, \"num_key_value_heads\": 16, \"vocab_size\": 311, "
            "\"max_position_embeddings\": 512, \"rms_norm_eps\": 1e-05, \"hidden_act\": "
            "\"silu\", \"tie_word_embeddings\": true, \"rope_theta\": 10000.0}",
            WIDTH, FFN, layers);
    assert_int_equal(fclose(f), 0);
    snprintf(line, sizeof line, "%s%s", base, model);
    r = cria(&t, line, 0);
    assert_int_equal(r.exit_code, 3);
    assert_non_null(strstr(r.err.data, "would fit: optim: adamw_8bit ("));
    result_free(&r);
    snprintf(line, sizeof line, "%s%s optim=adamw_8bit", base, model);
    r = cria(&t, line, 0);
    assert_int_equal(r.exit_code, 0);
    o = parse(&r);
    double run = (double)bytes_of(json_object_get(o, "arenas"), "run");
    assert_true(fabs(run / (layers * layer * (10 + 8.0 / 256)) - 1) < 0.01);
    json_decref(o);
    result_free(&r);
    tiny_free(&t);
}

static void test_explain(void **state)
{
    struct tiny t;
    char path[256];
    (void)state;
    tiny_init(&t);
    struct result r = call(&t, "train --explain", "finetuning=lora learning_rate=3e-4", 0);
    assert_int_equal(r.exit_code, 0);
    static const char *const wanted[] = {"LoRA of rank 8",
                                         "24 documents",
                                         "</s> (id 2)",
                                         "template orca",
                                         "9 steps in all",
                                         "it fits",
                                         "learning_rate: 0.0003 # command line"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strstr(r.out.data, wanted[i])) {
            print_error("\"%s\" is not in\n%s\n", wanted[i], r.out.data);
            fail();
        }
    tiny_path(&t, "out", path);
    assert_false(io_exists(path));
    result_free(&r);
    tiny_free(&t);
}

static void test_doctor(void **state)
{
    struct tiny t;
    char line[256];
    (void)state;
    tiny_init(&t);
    snprintf(line, sizeof line, "doctor --json %s/not/there/yet", t.dir);
    struct result r = cria(&t, line, 0);
    assert_int_equal(r.exit_code, 0);
    json_t *o = parse(&r), *checks = json_object_get(o, "checks");
    static const char *const names[] = {"cpu",  "cores", "memory", "blas",    "gemm",   "gpu",
                                        "disk", "cria",  "hdf5",   "jansson", "libyaml"};
    assert_true(json_array_size(checks) >= sizeof names / sizeof *names);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        json_t *c = json_array_get(checks, i);
        assert_string_equal(json_string_value(json_object_get(c, "name")), names[i]);
        assert_true(json_string_length(json_object_get(c, "found")) > 0);
        int ok = !strcmp(json_string_value(json_object_get(c, "status")), "ok");
        assert_int_equal(ok, !json_string_length(json_object_get(c, "advice")));
    }
    json_decref(o);
    result_free(&r);
    tiny_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#if !defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(test_peak),
        cmocka_unit_test(test_peak_of_preferences),
        cmocka_unit_test(test_training_refuses),
        cmocka_unit_test(test_auto),
#endif
        cmocka_unit_test(test_without_weights),
        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_doctor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

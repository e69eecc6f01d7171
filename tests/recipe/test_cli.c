/* The command line as its users meet it: the binary is run, and what it prints, writes and exits
 * with is held against what --help and DESIGN promise. What signals do: test_signals.c. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/mem.h"
#include "support/run_binary.h"
#include "support/tiny_run.h"

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

/* A path below the temporary folder; eight live at once. */
static const char *path(const char *name)
{
    static char paths[8][256];
    static int next;
    char *out = paths[next++ % 8];
    tiny_path(&tiny, name, out);
    return out;
}

/* "key=below the temporary folder", likewise. */
static const char *set(const char *key, const char *name)
{
    static char texts[8][320];
    static int next;
    char *out = texts[next++ % 8];
    snprintf(out, sizeof texts[0], "%s=%s/%s", key, tiny.dir, name);
    return out;
}

static char *read_all(const char *file)
{
    struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 24);
    CHECK_OK(io_read_file(file, &text, &e), &e);
    CHECK_OK(buf_append(&text, "", 0), &e);
    return text.data; /* the caller's */
}

static void write_text(const char *file, const char *text)
{
    struct err e = {0};
    CHECK_OK(io_write_file(file, text, strlen(text), &e), &e);
}

static json_t *parse(const char *text)
{
    json_t *o;
    struct err e = {0};
    CHECK_OK(json_parse_text(text, strlen(text), "output", &o, &e), &e);
    return o;
}

static void check_run(struct ran r, int code)
{
    CHECK_EXIT(&r, code);
    ran_free(&r);
}

/* --- help and usage --- */

/* Each verb of the overview explains itself: how it is called, and every option. */
static void test_help(void **state)
{
    (void)state;
    char verb[32];
    int verbs = 0, used;
    struct ran all = run_cria(NULL, "--help", NULL);
    CHECK_EXIT(&all, 0);
    for (const char *at = all.out; (at = strstr(at, "\n  cria ")); at += used) {
        used = 8;
        assert_int_equal(sscanf(at, "\n  cria %31s", verb), 1);
        struct ran r = run_cria(NULL, verb, "--help", NULL);
        CHECK_EXIT(&r, 0);
        CHECK_HAS(r.out, "cria ");
        CHECK_HAS(r.out, verb);
        assert_true(strstr(r.out, "--") || strstr(r.out, "key=value"));
        assert_int_equal(r.err_len, 0);
        ran_free(&r);
        verbs++;
    }
    assert_true(verbs >= 9);
    ran_free(&all);
    struct ran version = run_cria(NULL, "--version", NULL);
    CHECK_EXIT(&version, 0);
    CHECK_HAS(version.out, "cria " CRIA_VERSION);
    ran_free(&version);
}

static const struct usage_case {
    const char *arguments[5], *says, *hint;
} usage_cases[] = {
    {{NULL}, "cria VERB --help", NULL},
    {{"trian"}, "no verb \"trian\"", "did you mean cria train?"},
    {{"xyzzy"}, "no verb \"xyzzy\"", "--help lists them"},
    {{"generate", "--modle", "x"}, "no option --modle", "did you mean --model?"},
    {{"generate", "--model"}, "--model wants DIR", NULL},
    {{"generate", "--prompt", "x"}, "needs --model", NULL},
    {{"generate", "--model", "x"}, "either --prompt TEXT or --data", NULL},
    {{"generate", "--model", "x", "--raw=1"}, "--raw takes no value", NULL},
    {{"generate", "--model=x", "--prompt=y", "--seed=two"}, "wants a whole number", NULL},
    {{"generate", "--model=x", "--prompt=y", "--top-p=0.5x"}, "wants a number", NULL},
    {{"generate", "--model=x", "--prompt=y", "--raw", "--system=z"}, "--raw takes no", NULL},
    {{"generate", "--model=x", "--data=y"}, "--data needs --out", NULL},
    {{"train"}, "needs a config", "CONFIG"},
    {{"train", "learnin_rate=1e-4"}, "learnin_rate", "learning_rate"},
    {{"train", "learning_rate=fast"}, "learning_rate", NULL},
    {{"train", "nowhere.yaml"}, "nowhere.yaml", NULL},
    {{"eval"}, "needs a config, or --model and --data", NULL},
    {{"eval", "--model=x", "--data=y", "--match=fuzzy"}, "--match fuzzy", NULL},
    {{"prepare"}, "needs --data", NULL},
    {{"prepare", "x.yaml", "--data=y"}, "not both", NULL},
    {{"merge", "--model=x"}, "needs --adapter", NULL},
    {{"merge", "--model=x", "--adapter=y", "--out=z", "--save-dtype=fp8"}, "fp8", NULL},
    {{"init", "--out=x"}, "needs --config", NULL},
    {{"tokenize"}, "needs --tokenizer", NULL},
    {{"chat"}, "needs --model", NULL},
};

static void test_usage(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof usage_cases / sizeof *usage_cases; i++) {
        const struct usage_case *c = &usage_cases[i];
        const char *const *a = c->arguments;
        struct ran r = run_cria(NULL, a[0], a[1], a[2], a[3], a[4], NULL);
        /* an absent config is a file that cannot be read: 1 */
        CHECK_EXIT(&r, a[1] && !strcmp(a[1], "nowhere.yaml") ? 1 : 2);
        CHECK_HAS(r.err, c->says);
        if (c->hint) CHECK_HAS(r.err, c->hint);
        assert_int_equal(r.out_len, 0);
        ran_free(&r);
    }
}

/* --- tokenize --- */

static void tokenize_case(const char *input, const char *output, const char *a, const char *b,
                          const char *c)
{
    struct ran r = run_cria(input, "tokenize", "--tokenizer", TINY_MODEL, a, b, c, NULL);
    CHECK_EXIT(&r, 0);
    assert_string_equal(r.out, output);
    ran_free(&r);
}

/* Ids of each text, then the ids back to the text. */
static void test_tokenize(void **state)
{
    (void)state;
    static const char *const texts[] = {"Hello, world", "héllo ☃ 日本\n", "one\ntwo\n\nthree", ""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct ran ids =
            run_cria(texts[i], "tokenize", "--tokenizer", TINY_MODEL, "--no-special", NULL);
        CHECK_EXIT(&ids, 0);
        tokenize_case(ids.out, texts[i], "--decode", NULL, NULL);
        ran_free(&ids);
        struct ran lines = run_cria(texts[i], "tokenize", "--tokenizer", TINY_MODEL, "--no-special",
                                    "--lines", NULL);
        CHECK_EXIT(&lines, 0);
        char expected[256];
        int ended = !texts[i][0] || texts[i][strlen(texts[i]) - 1] == '\n';
        snprintf(expected, sizeof expected, "%s%s", texts[i], ended ? "" : "\n");
        tokenize_case(lines.out, expected, "--decode", "--lines", NULL);
        ran_free(&lines);
    }
}

static void test_tokenize_special(void **state)
{
    (void)state;
    struct ran with = run_cria("a", "tokenize", "--tokenizer", TINY_MODEL, NULL);
    struct ran without = run_cria("a", "tokenize", "--tokenizer", TINY_MODEL, "--no-special", NULL);
    CHECK_EXIT(&with, 0);
    CHECK_EXIT(&without, 0);
    CHECK_HAS(with.out, without.out); /* what is added stands around it */
    ran_free(&with);
    ran_free(&without);
    struct ran bad = run_cria("12 x", "tokenize", "--tokenizer", TINY_MODEL, "--decode", NULL);
    CHECK_EXIT(&bad, 4);
    CHECK_HAS(bad.err, "no token id");
    ran_free(&bad);
    struct ran high = run_cria("999999", "tokenize", "--tokenizer", TINY_MODEL, "--decode", NULL);
    CHECK_EXIT(&high, 4);
    ran_free(&high);
}

/* --- generate --- */

/* The reference's greedy text of a real model, byte for byte. */
static void test_golden_text(void **state)
{
    (void)state;
    char model[300], golden[320];
    const char *shared = check_shared("the greedy text of stories260K");
    if (!shared) skip();
    snprintf(model, sizeof model, "%s/weights/stories260K", shared);
    snprintf(golden, sizeof golden, "%s/golden_greedy_200.txt", model);
    char *expected = read_all(golden);
    struct ran r = run_cria(NULL, "generate", "--model", model, "--raw", "--prompt", "",
                            "--max-new-tokens", "200", NULL);
    CHECK_EXIT(&r, 0);
    assert_int_equal(r.out_len, strlen(expected) + 1);
    assert_memory_equal(r.out, expected, strlen(expected));
    assert_int_equal(r.out[r.out_len - 1], '\n');
    ran_free(&r);
    mem_free(expected);
}

static struct ran generate(const char *a, const char *b, const char *c, const char *d)
{
    return run_cria(NULL, "generate", "--model", TINY_MODEL, "--template", "vicuna", "--prompt",
                    "Hello", "--max-new-tokens", "12", a, b, c, d, NULL);
}

/* Sampling is repeated by its seed; a system message or an input changes the prompt. */
static void test_generate(void **state)
{
    (void)state;
    struct ran greedy = generate(NULL, NULL, NULL, NULL);
    struct ran again = generate("--temperature", "0", "--seed", "7");
    CHECK_EXIT(&greedy, 0);
    CHECK_EXIT(&again, 0);
    assert_string_equal(greedy.out, again.out);
    assert_int_equal(greedy.err_len, 0);
    struct ran first = generate("--temperature", "2", "--seed", "7");
    struct ran second = generate("--temperature", "2", "--seed", "7");
    struct ran third = generate("--temperature", "2", "--seed", "8");
    CHECK_EXIT(&first, 0);
    assert_string_equal(first.out, second.out);
    assert_string_not_equal(first.out, third.out);
    struct ran unknown = run_cria(NULL, "generate", "--model", TINY_MODEL, "--prompt", "x", NULL);
    CHECK_EXIT(&unknown, 2);
    CHECK_HAS(unknown.err, "no template is known");
    CHECK_HAS(unknown.err, "--template");
    struct ran *all[] = {&greedy, &again, &first, &second, &third, &unknown};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ran_free(all[i]);
}

/* A record's answer is what --prompt gives for it, whatever was answered before. */
static void test_generate_file(void **state)
{
    (void)state;
    char long_text[4096], record[4400];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    snprintf(record, sizeof record,
             "{\"instruction\": \"Hello\", \"output\": \"Hi.\"}\n"
             "{\"instruction\": \"%s\", \"output\": \"!\"}\n"
             "{\"instruction\": \"Hello\", \"output\": \"Hi.\"}\n",
             long_text);
    write_text(path("ask.jsonl"), record);
    struct ran one = generate(NULL, NULL, NULL, NULL);
    struct ran r =
        run_cria(NULL, "generate", "--model", TINY_MODEL, "--template", "vicuna", "--data",
                 path("ask.jsonl"), "--out", path("said.jsonl"), "--max-new-tokens", "12", NULL);
    CHECK_EXIT(&r, 0);
    assert_int_equal(r.out_len, 0);
    CHECK_HAS(r.err, "1 prompts do not fit the context of 512 tokens");
    char *said = read_all(path("said.jsonl")), *rest;
    for (int i = 0; i < 3; i++) {
        json_t *o = parse(strtok_r(i ? NULL : said, "\n", &rest));
        const char *response = json_string_value(json_object_get(o, "response"));
        assert_string_equal(json_string_value(json_object_get(o, "reference")),
                            i == 1 ? "!" : "Hi.");
        assert_int_equal(response == NULL, i == 1);
        if (response) assert_memory_equal(response, one.out, strlen(response));
        if (response) assert_int_equal(strlen(response) + 1, one.out_len);
        json_decref(o);
    }
    mem_free(said);
    ran_free(&one);
    ran_free(&r);
}

/* --- eval and chat --- */

static void test_eval(void **state)
{
    (void)state;
    char files[600];
    write_text(path("ask2.jsonl"), "{\"instruction\": \"Hello\", \"output\": \"Hi.\"}\n");
    snprintf(files, sizeof files, "%s,%s", path("data.jsonl"), path("ask2.jsonl"));
    struct ran r = run_cria(NULL, "eval", "--model", TINY_MODEL, "--template", "orca", "--data",
                            files, "--generate", "--max-new-tokens", "8", "--json", NULL);
    CHECK_EXIT(&r, 0);
    json_t *o = parse(r.out), *list = json_object_get(o, "sources");
    assert_true(json_real_value(json_object_get(o, "loss")) > 0);
    assert_true(json_real_value(json_object_get(o, "perplexity")) > 1);
    assert_true(json_integer_value(json_object_get(o, "num_tokens")) > 0);
    assert_true(json_is_real(json_object_get(o, "exact_match")));
    assert_true(json_is_real(json_object_get(o, "prefix_match")));
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "path")),
                        path("ask2.jsonl"));
    json_decref(o);
    ran_free(&r);
    r = run_cria(NULL, "eval", "--model", TINY_MODEL, "--template", "orca", "--data",
                 path("data.jsonl"), "--generate", "--match", "exact", NULL);
    CHECK_EXIT(&r, 0);
    CHECK_HAS(r.out, "exact");
    assert_null(strstr(r.out, "prefix"));
    ran_free(&r);
    r = run_cria(NULL, "eval", "model_name_or_path=" TINY_MODEL, set("datasets", "data.jsonl"),
                 set("output_dir", "none"), "template=orca", NULL);
    CHECK_EXIT(&r, 2);
    CHECK_HAS(r.err, "nothing is held out");
    ran_free(&r);
}

/* From a pipe: messages by the line, answers on stdout, all else on stderr. */
static void test_chat(void **state)
{
    (void)state;
    char input[512];
    snprintf(input, sizeof input,
             "/save %s\nHello\n/rest\n\n/system Be brief.\nTwo \\\nlines\n/save %s\n/quit\nno\n",
             path("chat.jsonl"), path("chat.jsonl"));
    struct ran one = generate(NULL, NULL, NULL, NULL);
    struct ran r = run_cria(input, "chat", "--model", TINY_MODEL, "--template", "vicuna",
                            "--max-new-tokens", "12", NULL);
    CHECK_EXIT(&r, 0);
    assert_memory_equal(r.out, one.out, one.out_len); /* the first answer is generate's */
    CHECK_HAS(r.err, "nothing was said yet");
    CHECK_HAS(r.err, "did you mean /reset?");
    CHECK_HAS(r.err, "3 messages appended");
    char *saved = read_all(path("chat.jsonl"));
    json_t *o = parse(saved), *list = json_object_get(o, "messages");
    assert_int_equal(json_array_size(list), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "content")),
                        "Be brief.");
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "content")),
                        "Two \nlines");
    json_decref(o);
    mem_free(saved);
    ran_free(&one);
    ran_free(&r);
    check_run(run_cria(NULL, "prepare", "--data", path("chat.jsonl"), "--tokenizer", TINY_MODEL,
                       "--template", "vicuna", "--out", path("chat.h5"), NULL),
              0); /* what was saved can be trained on */
}

/* --- prepare --- */

static void test_prepare(void **state)
{
    (void)state;
    struct ran text =
        run_cria(NULL, "prepare", "--data", path("data.jsonl"), "--tokenizer", TINY_MODEL,
                 "--template", "orca", "--max-length", "64", "--out", path("named.h5"), NULL);
    CHECK_EXIT(&text, 0);
    assert_int_equal(text.out_len, 0);
    CHECK_HAS(text.err, "24");
    struct ran json = run_cria(NULL, "prepare", "--data", path("data.jsonl"), "--tokenizer",
                               TINY_MODEL, "--template", "orca", "--max-length", "1024", "--out",
                               path("named2.h5"), "--json", NULL);
    CHECK_EXIT(&json, 0);
    json_t *report = parse(json.out);
    assert_non_null(json_object_get(report, "sources"));
    json_decref(report);
    struct ran config =
        run_cria(NULL, "prepare", "model_name_or_path=" TINY_MODEL, set("datasets", "data.jsonl"),
                 set("output_dir", "prepared"), "template=orca", "--json", NULL);
    CHECK_EXIT(&config, 0);
    assert_string_equal(config.out, json.out);
    assert_true(io_is_dir(path(".cria-cache")));
    struct ran bad = run_cria(NULL, "prepare", "--data", path("named.h5"), "--tokenizer",
                              TINY_MODEL, "--out", path("named3.h5"), NULL);
    CHECK_EXIT(&bad, 4);
    CHECK_HAS(bad.err, "named.h5");
    struct ran *all[] = {&text, &json, &config, &bad};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ran_free(all[i]);
}

/* --- a model's life --- */

#define CONFIG                                                                               \
    "template: orca\nmax_length: 128\nper_device_train_batch_size: 4\nlearning_rate: 1e-3\n" \
    "max_steps: 2\nsave_steps: none\nval_size: 4\n"

static void expect_file(const char *name)
{
    if (io_file_size(path(name)) <= 0) fail_msg("%s was not written", name);
}

static void copy_tokenizer(const char *to)
{
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json"};
    char from[256], target[256];
    struct err e = {0};
    for (int i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "%s/%s", TINY_MODEL, files[i]);
        snprintf(target, sizeof target, "%s/%s", path(to), files[i]);
        CHECK_OK(io_copy_file(from, target, &e), &e);
    }
}

/* A new model is trained in full, then by LoRA; it answers, its adapter is merged, and model with
 * adapter and merged model measure the same. */
static void test_life(void **state)
{
    (void)state;
    write_text(path("run.yaml"), CONFIG);
    check_run(
        run_cria(NULL, "init", "--config", TINY_MODEL, "--out", path("new"), "--seed", "1", NULL),
        0);
    check_run(run_cria(NULL, "init", "--config", TINY_MODEL, "--out", path("new"), NULL), 2);
    copy_tokenizer("new");
    check_run(run_cria(NULL, "train", path("run.yaml"), set("model_name_or_path", "new"),
                       set("datasets", "data.jsonl"), set("output_dir", "full"), NULL),
              0);
    expect_file("full/model.safetensors");
    expect_file("full/cria.json");
    check_run(run_cria(NULL, "generate", "--model", path("full"), "--prompt", "Hi",
                       "--max-new-tokens", "4", NULL),
              0); /* the template is known by cria.json */
    check_run(run_cria(NULL, "train", path("run.yaml"), set("model_name_or_path", "full"),
                       set("datasets", "data.jsonl"), set("output_dir", "lora"), "finetuning=lora",
                       NULL),
              0);
    expect_file("lora/adapter_model.safetensors");
    check_run(run_cria(NULL, "merge", "--model", path("full"), "--adapter", path("lora"), "--out",
                       path("merged"), NULL),
              0);
    expect_file("merged/model.safetensors");
    check_run(run_cria(NULL, "train", path("run.yaml"), set("model_name_or_path", "full"),
                       set("datasets", "data.jsonl"), set("output_dir", "lora"), NULL),
              2); /* not over what is there */
    struct ran adapter = run_cria(NULL, "eval", "--model", path("full"), "--adapter", path("lora"),
                                  "--data", path("data.jsonl"), "--json", NULL);
    struct ran merged = run_cria(NULL, "eval", "--model", path("merged"), "--template", "orca",
                                 "--data", path("data.jsonl"), "--json", NULL);
    CHECK_EXIT(&adapter, 0);
    CHECK_EXIT(&merged, 0);
    json_t *a = parse(adapter.out), *b = parse(merged.out);
    double x = json_real_value(json_object_get(a, "loss")),
           y = json_real_value(json_object_get(b, "loss"));
    assert_true(x > 0 && x - y < 1e-5 * x && y - x < 1e-5 * x);
    json_decref(a);
    json_decref(b);
    ran_free(&adapter);
    ran_free(&merged);
}

/* Runs of a sweep start together and want the same data; one output_dir is for one run. */
static void test_together(void **state)
{
    (void)state;
    struct running p[4];
    struct err e = {0};
    struct lock lock;
    write_text(path("run.yaml"), CONFIG);
    CHECK_OK(io_make_dirs(path("sweep"), &e), &e);
    for (int i = 0; i < 4; i++) {
        char out[32];
        snprintf(out, sizeof out, "sweep/%d", i);
        p[i] = run_start_cria(NULL, "train", path("run.yaml"), "model_name_or_path=" TINY_MODEL,
                              set("datasets", "data.jsonl"), set("output_dir", out), NULL);
    }
    for (int i = 0; i < 4; i++) check_run(run_wait(&p[i]), 0);
    assert_int_equal(lock_try(&lock, path("sweep/.cria-cache/0")), 0);
    struct ran r = run_cria(NULL, "train", path("run.yaml"), "model_name_or_path=" TINY_MODEL,
                            set("datasets", "data.jsonl"), set("output_dir", "sweep/0/"),
                            "overwrite_output_dir=true", NULL);
    CHECK_EXIT(&r, 2);
    CHECK_HAS(r.err, "another run is writing to");
    ran_free(&r);
    lock_release(&lock);
}

/* --- outputs that cannot be written --- */

static struct ran generate_into(int fd, const char *tokens)
{
    const char *argv[] = {getenv("CRIA_BIN"), "generate", "--model",          TINY_MODEL, "--raw",
                          "--prompt",         "x",        "--max-new-tokens", tokens,     NULL};
    struct running p = run_start(argv, NULL, fd);
    return run_wait(&p);
}

static void test_output_fails(void **state)
{
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC), ends[2];
    if (full < 0) skip();
    struct ran r = generate_into(full, "3");
    CHECK_EXIT(&r, 1);
    CHECK_HAS(r.err, "No space left");
    close(full);
    ran_free(&r);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    r = generate_into(ends[1], "3"); /* nobody reads: as quiet as any filter */
    assert_true(r.signal || r.code);
    assert_int_equal(r.err_len, 0);
    close(ends[1]);
    ran_free(&r);
    r = run_cria(NULL, "generate", "--model", TINY_MODEL, "--template", "orca", "--data",
                 path("data.jsonl"), "--out", "/dev/full", "--max-new-tokens", "2", NULL);
    CHECK_EXIT(&r, 1);
    CHECK_HAS(r.err, "/dev/full");
    ran_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help),          cmocka_unit_test(test_usage),
        cmocka_unit_test(test_tokenize),      cmocka_unit_test(test_tokenize_special),
        cmocka_unit_test(test_golden_text),   cmocka_unit_test(test_generate),
        cmocka_unit_test(test_generate_file), cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_eval),          cmocka_unit_test(test_chat),
        cmocka_unit_test(test_life),          cmocka_unit_test(test_together),
        cmocka_unit_test(test_output_fails),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

/* Runs that go wrong: losses that are no numbers or spike, evaluations that get worse, a disk that
 * is full, checkpoints that are damaged. */
#include "support/tiny_run.h"

#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "ckpt/commit.h"
#include "ckpt/safetensors.h"
#include "run/new_model.h"

#define LORA "finetuning=lora lora_r=4 lora_dropout=0.1 "
#define RECORDS 24
#define BAD_RECORD 12 /* 1-based line: the only one with a q, whose embedding is not a number */

static struct tiny tiny;
static char warnings[4096];

static void keep_warning(enum log_level level, const char *line)
{
    size_t used = strlen(warnings);
    if (level == LOG_WARNING) snprintf(warnings + used, sizeof warnings - used, "%s\n", line);
}

static void copy_into(const char *name, const char *dir)
{
    char from[256], to[512];
    struct err e = {0};
    snprintf(from, sizeof from, "%s/%s", TINY_MODEL, name);
    snprintf(to, sizeof to, "%s/%s", dir, name);
    CHECK_OK(io_copy_file(from, to, &e), &e);
}

/* The tiny model with a head of its own and one embedding row spoilt. */
static void make_poisoned_model(void)
{
    enum { Q = 285, HIDDEN = 32 };
    char config[256], dir[256], path[512];
    float row[HIDDEN];
    struct err e = {0};
    json_t *o;
    struct tensor_files *f;
    CHECK_OK(json_parse_file(TINY_MODEL "/config.json", &o, &e), &e);
    json_object_set_new(o, "tie_word_embeddings", json_false());
    tiny_path(&tiny, "config.json", config);
    CHECK_OK(json_write_file(o, config, &e), &e);
    json_decref(o);
    tiny_path(&tiny, "model", dir);
    CHECK_OK(new_model_init(config, dir, 1, &e), &e);
    copy_into("tokenizer.json", dir);
    copy_into("tokenizer_config.json", dir);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    CHECK_OK(tensor_files_open(&f, path, &e), &e);
    off_t at = (off_t)tensor_files_find(f, "model.embed_tokens.weight")->offset;
    tensor_files_close(f);
    for (int i = 0; i < HIDDEN; i++) row[i] = NAN;
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, row, sizeof row, at + (off_t)(Q * sizeof row)), sizeof row);
    close(fd);
}

static void make_data(const char *name, int bad_record)
{
    char path[256];
    tiny_path(&tiny, name, path);
    FILE *f = fopen(path, "w");
    for (int i = 1; i <= RECORDS; i++)
        fprintf(f,
                "{\"messages\": [{\"role\": \"user\", \"content\": \"%s%d\"}, "
                "{\"role\": \"assistant\", \"content\": \"It is %d.\"}]}\n",
                i == bad_record ? "What q " : "What is ", i, i * 37 % 101);
    fclose(f);
}

static int setup(void **state)
{
    (void)state;
    tiny_init(&tiny);
    make_poisoned_model();
    make_data("poison.jsonl", BAD_RECORD);
    make_data("chance.jsonl", 0); /* nothing to learn but by heart */
    log_set_sink(keep_warning);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

static void train(const char *out, const char *fmt, ...)
{
    char overrides[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(overrides, sizeof overrides, fmt, ap);
    va_end(ap);
    warnings[0] = 0;
    tiny_train(&tiny, out, overrides, 0);
}

static void train_poisoned(const char *out, const char *more)
{
    train(out,
          LORA "model_name_or_path=%s/model datasets=%s/poison.jsonl save_steps=1 max_steps=12 %s",
          tiny.dir, tiny.dir, more);
}

static int same(const char *a, const char *b, const char *file)
{
    char x[300], y[300];
    snprintf(x, sizeof x, "%s/%s", a, file);
    snprintf(y, sizeof y, "%s/%s", b, file);
    return tiny_same(&tiny, x, y);
}

static int exists(const char *name)
{
    char path[256];
    tiny_path(&tiny, name, path);
    return io_exists(path);
}

static void remove_dir(const char *name)
{
    char path[256];
    struct err e = {0};
    tiny_path(&tiny, name, path);
    CHECK_OK(io_remove_tree(path, &e), &e);
}

static int64_t newest(const char *out)
{
    char path[256];
    int64_t step;
    struct err e = {0};
    tiny_path(&tiny, out, path);
    CHECK_OK(commit_newest(path, &step, &e), &e);
    return step;
}

static json_t *read_json(const char *name)
{
    char path[256];
    json_t *o;
    struct err e = {0};
    tiny_path(&tiny, name, path);
    CHECK_OK(json_parse_file(path, &o, &e), &e);
    return o;
}

/* --- not a number --- */

static void test_nan_stops(void **state)
{
    (void)state;
    char place[64];
    int step = 0;
    train_poisoned("nan_stop", "");
    assert_int_equal(tiny.status, ERR_NUMERIC);
    assert_int_equal(sscanf(tiny.err.message, "step %d: the loss is ", &step), 1);
    snprintf(place, sizeof place, "poison.jsonl, line %d (nan)", BAD_RECORD);
    assert_non_null(strstr(tiny.err.message, place));
    assert_non_null(strstr(tiny.err.hint, "on_nan=skip"));
    assert_int_equal(newest("nan_stop"), step - 1);
    /* the promised way out */
    train_poisoned("nan_stop", "resume_from_checkpoint=auto on_nan=skip");
    CHECK_OK(tiny.status, &tiny.err);
    assert_int_equal(tiny.first_step, step);
    train_poisoned("nan_skip", "on_nan=skip");
    CHECK_OK(tiny.status, &tiny.err);
    assert_non_null(strstr(warnings, "is left out: the loss is"));
    assert_non_null(strstr(warnings, place));
    assert_true(same("nan_stop", "nan_skip", "adapter_model.safetensors"));
    /* nothing moved: weights and moments of the checkpoint behind the step are those before it */
    char before[64], after[64];
    snprintf(before, sizeof before, "nan_skip/checkpoint-%d", step - 1);
    snprintf(after, sizeof after, "nan_skip/checkpoint-%d", step);
    assert_true(same(before, after, "state.safetensors"));
    snprintf(before, sizeof before, "nan_skip/checkpoint-%d", step + 1);
    assert_false(same(before, after, "state.safetensors"));
}

static void test_nan_resumes(void **state)
{
    (void)state;
    char name[64];
    json_t *o = read_json("nan_skip/checkpoint-12/cria_state.json");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(o, "state"), "skipped_steps")), 2);
    json_decref(o);
    for (int i = 7; i <= 12; i++) { /* both steps left out lie before and behind */
        snprintf(name, sizeof name, "nan_stop/checkpoint-%d", i);
        remove_dir(name);
    }
    train_poisoned("nan_stop", "resume_from_checkpoint=auto on_nan=skip");
    CHECK_OK(tiny.status, &tiny.err);
    assert_int_equal(tiny.first_step, 7);
    assert_true(same("nan_stop", "nan_skip", "adapter_model.safetensors"));
    assert_true(same("nan_stop/checkpoint-12", "nan_skip/checkpoint-12", "state.safetensors"));
    assert_true(same("nan_stop/checkpoint-12", "nan_skip/checkpoint-12", "cria_state.json"));
}

static void test_too_many_skips(void **state)
{
    (void)state;
    train_poisoned("nan_limit", "on_nan=skip skip_limit=1");
    assert_int_equal(tiny.status, ERR_NUMERIC);
    assert_non_null(strstr(tiny.err.message, "1 steps in a row were left out"));
    train("unused_limit", LORA "skip_limit=1");
    assert_int_equal(tiny.status, ERR_CONFIG);
}

/* --- spikes --- */

static void test_guard(void **state)
{
    (void)state;
    struct config c = {
        .on_spike = CONFIG_SPIKE_SKIP, .spike_zscore = 4, .spike_window = 20, .skip_limit = 2};
    struct guard g, back;
    struct err e = {0};
    char why[160];
    guard_init(&g, &c);
    for (int i = 0; i < 50; i++) {
        double loss = 2 + 0.1 * (i % 5);
        assert_int_equal(guard_judge_loss(&g, i < 16 ? 100 : loss, why, sizeof why), GUARD_FINE);
        assert_int_equal(guard_note(&g, GUARD_FINE, loss), GUARD_FINE);
    }
    assert_int_equal(guard_judge_loss(&g, 2.75, why, sizeof why), GUARD_FINE); /* 3.9 */
    assert_int_equal(guard_judge_loss(&g, 2.8, why, sizeof why), GUARD_SKIP);  /* 4.2 */
    assert_string_equal(why, "the loss 2.8 is 4.2 deviations above the last 20 (mean 2.2)");
    assert_int_equal(guard_judge_loss(&g, INFINITY, why, sizeof why), GUARD_STOP); /* on_nan */
    assert_int_equal(guard_note(&g, GUARD_SKIP, 2.8), GUARD_SKIP);
    json_t *o = json_object();
    CHECK_OK(guard_to_json(&g, o, &e), &e);
    guard_init(&back, &c);
    CHECK_OK(guard_from_json(&back, o, "x", &e), &e);
    assert_int_equal(back.skipped, 1);
    assert_int_equal(guard_judge_loss(&back, 2.75, why, sizeof why), GUARD_FINE);
    assert_int_equal(guard_judge_loss(&back, 2.8, why, sizeof why), GUARD_SKIP);
    assert_int_equal(guard_note(&back, GUARD_FINE, 2.1), GUARD_FINE);
    assert_int_equal(guard_note(&back, GUARD_SKIP, 9), GUARD_SKIP);
    assert_int_equal(guard_note(&back, GUARD_SKIP, 9), GUARD_STOP);
    json_object_set_new(o, "losses", json_pack("[s]", "a"));
    assert_int_equal(guard_from_json(&back, o, "x", &e), ERR_FORMAT);
    json_decref(o);
}

/* With so low a bound that ordinary steps are spikes. */
static void test_spikes(void **state)
{
    (void)state;
    const char *spikes = LORA "max_steps=24 spike_window=8 spike_zscore=1 ";
    train("spike_none", LORA "max_steps=24");
    train("spike_warn", "%s on_spike=warn", spikes);
    CHECK_OK(tiny.status, &tiny.err);
    assert_non_null(strstr(warnings, "deviations above the last 8"));
    assert_non_null(strstr(warnings, "data.jsonl, line "));
    assert_true(same("spike_warn", "spike_none", "adapter_model.safetensors"));
    train("spike_stop", "%s on_spike=stop", spikes);
    assert_int_equal(tiny.status, ERR_NUMERIC);
    assert_non_null(strstr(tiny.err.hint, "on_spike=skip"));
    train("spike_skip", "%s on_spike=skip save_steps=5", spikes);
    CHECK_OK(tiny.status, &tiny.err);
    assert_non_null(strstr(warnings, "is left out"));
    assert_false(same("spike_skip", "spike_none", "adapter_model.safetensors"));
    train("spike_cut", "%s on_spike=skip save_steps=5", spikes);
    remove_dir("spike_cut/checkpoint-20");
    remove_dir("spike_cut/checkpoint-15");
    train("spike_cut", "%s on_spike=skip save_steps=5 resume_from_checkpoint=auto", spikes);
    CHECK_OK(tiny.status, &tiny.err);
    assert_int_equal(tiny.first_step, 11);
    assert_true(same("spike_cut", "spike_skip", "adapter_model.safetensors"));
}

/* --- the best evaluation --- */

#define OVERFIT                                                                              \
    "finetuning=full learning_rate=1e-2 lr_scheduler_type=constant val_size=8 eval_steps=2 " \
    "max_steps=40 "

static void overfit(const char *out, const char *more, int stop_after)
{
    char overrides[512];
    snprintf(overrides, sizeof overrides, OVERFIT "datasets=%s/chance.jsonl %s", tiny.dir, more);
    warnings[0] = 0;
    tiny_train(&tiny, out, overrides, stop_after);
}

static void test_best(void **state)
{
    (void)state;
    char name[64];
    overfit("best", "load_best_model_at_end=true save_steps=6 save_total_limit=1", 0);
    CHECK_OK(tiny.status, &tiny.err);
    json_t *o = read_json("best/trainer_state.json");
    int best = (int)json_integer_value(json_object_get(o, "best_global_step"));
    double metric = json_number_value(json_object_get(o, "best_metric")), seen = INFINITY;
    json_t *history = json_object_get(o, "log_history"), *line;
    size_t i;
    json_array_foreach(history, i, line)
    {
        json_t *loss = json_object_get(line, "eval_loss");
        if (loss) seen = fmin(seen, json_number_value(loss));
    }
    assert_true(fabs(metric - seen) < 1e-9 * seen);
    assert_true(best > 2 && best < 38); /* it got worse again, or this test shows nothing */
    json_decref(o);
    snprintf(name, sizeof name, "best/checkpoint-%d", best);
    assert_true(exists(name) && exists("best/checkpoint-36") && !exists("best/checkpoint-30"));
    assert_true(same("best", name, "model.safetensors"));
    assert_false(same("best", "best/checkpoint-36", "model.safetensors"));
    /* all of it again, cut in between */
    overfit("best_cut", "load_best_model_at_end=true save_steps=6", best + 3);
    assert_int_equal(tiny.status, ERR_STOPPED);
    overfit("best_cut",
            "load_best_model_at_end=true save_steps=6 "
            "resume_from_checkpoint=auto",
            0);
    CHECK_OK(tiny.status, &tiny.err);
    assert_true(same("best", "best_cut", "model.safetensors"));
    /* and what is lost with the best checkpoint is said */
    snprintf(name, sizeof name, "best_cut/checkpoint-%d", best);
    remove_dir(name);
    overfit("best_cut",
            "load_best_model_at_end=true save_steps=6 "
            "resume_from_checkpoint=auto",
            0);
    CHECK_OK(tiny.status, &tiny.err);
    assert_non_null(strstr(warnings, "is gone"));
}

static void test_early_stop(void **state)
{
    (void)state;
    overfit("early", "early_stopping_patience=2 save_steps=2", 0);
    CHECK_OK(tiny.status, &tiny.err);
    json_t *o = read_json("early/trainer_state.json");
    int best = (int)json_integer_value(json_object_get(o, "best_global_step"));
    assert_int_equal(json_integer_value(json_object_get(o, "global_step")), best + 4);
    json_decref(o);
    overfit("early", "early_stopping_patience=2 save_steps=2 resume_from_checkpoint=auto", 0);
    CHECK_OK(tiny.status, &tiny.err);
    assert_int_equal(tiny.num_steps, 0); /* it stays ended */
    overfit("early_cut", "early_stopping_patience=2", best + 3);
    assert_int_equal(tiny.status, ERR_STOPPED);
    overfit("early_cut", "early_stopping_patience=2 resume_from_checkpoint=auto", 0);
    assert_int_equal(tiny.num_steps, 1);
    assert_true(same("early", "early_cut", "model.safetensors"));
    train("early_none", LORA "early_stopping_patience=2");
    assert_int_equal(tiny.status, ERR_CONFIG);
}

/* --- a full disk --- */

static char disk[256]; /* where a small file system is mounted; empty: none */
static rlim_t usual_limit;

static void fill_disk(void)
{
    char path[300];
    static char block[4096];
    struct rlimit limit;
    if (!disk[0]) { /* no file may grow beyond this instead */
        getrlimit(RLIMIT_FSIZE, &limit);
        usual_limit = limit.rlim_cur;
        limit.rlim_cur = 8 << 10;
        setrlimit(RLIMIT_FSIZE, &limit);
        return;
    }
    snprintf(path, sizeof path, "%s/ballast", disk);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    while (write(fd, block, sizeof block) > 0) continue;
    close(fd);
}

static void free_disk(void)
{
    char path[300];
    struct rlimit limit;
    if (disk[0]) {
        snprintf(path, sizeof path, "%s/ballast", disk);
        unlink(path);
        return;
    }
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = usual_limit;
    setrlimit(RLIMIT_FSIZE, &limit);
}

static void full_from_3_to_5(struct tiny *t, int64_t step)
{
    (void)t;
    if (step == 3) fill_disk();
    if (step == 5) free_disk();
}

static void full_from_3(struct tiny *t, int64_t step)
{
    (void)t;
    if (step == 3) fill_disk();
}

static void full_at_end(struct tiny *t, int64_t step)
{
    (void)t;
    if (step == 8) fill_disk();
}

/* Names of `out` on the disk, or in tiny.dir without one. */
static const char *there(const char *out)
{
    static char name[64];
    snprintf(name, sizeof name, "%s%s", disk[0] ? "disk/" : "", out);
    return name;
}

static void disk_full_case(const char *whole)
{
    char out[64], name[256];
    snprintf(out, sizeof out, "%s", there("full_go_on"));
    tiny.each_step = full_from_3_to_5;
    train(out, LORA "save_steps=2 on_disk_full=continue");
    CHECK_OK(tiny.status, &tiny.err);
    assert_non_null(strstr(warnings, "saving checkpoint-4: "));
    for (int step = 2; step <= 8; step += 2) {
        snprintf(name, sizeof name, "%s/checkpoint-%d", out, step);
        assert_int_equal(exists(name), step != 4);
    }
    snprintf(name, sizeof name, "%s/.checkpoint-4.tmp", out);
    assert_false(exists(name));
    assert_true(same(out, whole, "adapter_model.safetensors"));

    snprintf(out, sizeof out, "%s", there("full_stop"));
    tiny.each_step = full_from_3;
    train(out, LORA "save_steps=3");
    free_disk();
    assert_int_equal(tiny.status, ERR_DISK_FULL);
    assert_int_equal(status_exit_code(tiny.status), 1);
    assert_int_equal(newest(out), -1);
    snprintf(name, sizeof name, "%s/.checkpoint-3.tmp", out);
    assert_false(exists(name));

    snprintf(out, sizeof out, "%s", there("full_end"));
    tiny.each_step = full_at_end;
    train(out, LORA "save_steps=5 on_disk_full=continue"); /* no final model: that is no success */
    free_disk();
    tiny.each_step = NULL;
    assert_int_equal(tiny.status, ERR_DISK_FULL);
    assert_int_equal(newest(out), 5);
    train(out, LORA "save_steps=5 on_disk_full=continue resume_from_checkpoint=auto");
    CHECK_OK(tiny.status, &tiny.err);
    assert_true(same(out, whole, "adapter_model.safetensors"));
}

/* A file system of two megabytes, seen by this process alone. */
static int mount_disk(void)
{
    char path[256];
    tiny_path(&tiny, "disk", path);
    if (geteuid() || unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return 0;
    if (mkdir(path, 0777) || mount("tmpfs", path, "tmpfs", 0, "size=2m")) return 0;
    snprintf(disk, sizeof disk, "%s", path);
    return 1;
}

static void test_disk_full(void **state)
{
    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    train("full_whole", LORA "save_steps=2");
    CHECK_OK(tiny.status, &tiny.err);
    disk_full_case("full_whole");
    if (!mount_disk()) {
        print_message("no tmpfs could be mounted: only a limit on file sizes was tested\n");
        return;
    }
    disk_full_case("full_whole");
    umount2(disk, MNT_DETACH);
    disk[0] = 0;
}

/* --- checkpoints written beside training --- */

/* Long enough for whatever is being written to end. */
static void full_around_4(struct tiny *t, int64_t step)
{
    (void)t;
    if (step == 4) fill_disk();
    if (step != 5) return;
    usleep(500000);
    free_disk();
}

static void test_async_save(void **state)
{
    static const char *const files[] = {
        "checkpoint-2/model.safetensors", "checkpoint-2/state.safetensors",
        "checkpoint-2/cria_state.json",   "checkpoint-6/state.safetensors",
        "checkpoint-6/cria_state.json",   "model.safetensors",
    };
    (void)state;
    train("here", "finetuning=full save_steps=2 async_save=false");
    CHECK_OK(tiny.status, &tiny.err);
    train("beside", "finetuning=full save_steps=2 async_save=true");
    CHECK_OK(tiny.status, &tiny.err);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        assert_true(same("here", "beside", files[i]));
    json_t *o = read_json("beside/checkpoint-6/trainer_state.json");
    assert_int_equal(json_array_size(json_object_get(o, "log_history")), 6);
    json_decref(o);

    tiny.each_step = full_around_4;
    train("beside_go_on", "finetuning=full save_steps=2 async_save=true on_disk_full=continue");
    CHECK_OK(tiny.status, &tiny.err);
    assert_non_null(strstr(warnings, "saving checkpoint-4: "));
    assert_false(exists("beside_go_on/checkpoint-4"));
    assert_false(exists("beside_go_on/.checkpoint-4.tmp"));
    assert_true(same("here", "beside_go_on", "checkpoint-6/state.safetensors"));
    assert_true(same("here", "beside_go_on", "model.safetensors"));

    tiny.each_step = full_from_3;
    train("beside_stop", "finetuning=full save_steps=3 async_save=true");
    free_disk();
    tiny.each_step = NULL;
    assert_int_equal(tiny.status, ERR_DISK_FULL);
    assert_non_null(strstr(tiny.err.message, "saving checkpoint-3"));
    assert_int_equal(newest("beside_stop"), -1);
}

/* --- damaged checkpoints --- */

static void cut_file(const char *name)
{
    char path[256];
    tiny_path(&tiny, name, path);
    assert_int_equal(truncate(path, io_file_size(path) / 2), 0);
}

static void test_short_files(void **state)
{
    (void)state;
    static const char *const files[] = {"state.safetensors", "cria_state.json",
                                        "trainer_state.json"};
    char name[128], earlier[300];
    train("short", LORA "save_steps=2");
    snprintf(earlier, sizeof earlier, "%s/short/checkpoint-4", tiny.dir);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        train("short", LORA "save_steps=2 resume_from_checkpoint=%s", earlier); /* anew: 6, 8 */
        CHECK_OK(tiny.status, &tiny.err);
        remove_dir("short/checkpoint-8");
        snprintf(name, sizeof name, "short/checkpoint-6/%s", files[i]);
        cut_file(name);
        train("short", LORA "save_steps=2 resume_from_checkpoint=auto");
        assert_int_equal(tiny.status, ERR_FORMAT);
        assert_non_null(strstr(tiny.err.message, "checkpoint-6"));
        assert_non_null(strstr(tiny.err.file, files[i]));
        assert_non_null(strstr(tiny.err.hint, earlier));
    }
    remove_dir("short/checkpoint-2");
    remove_dir("short/checkpoint-4");
    train("short", LORA "save_steps=2 resume_from_checkpoint=auto");
    assert_int_equal(tiny.status, ERR_FORMAT);
    assert_non_null(strstr(tiny.err.hint, "no earlier"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nan_stops),      cmocka_unit_test(test_nan_resumes),
        cmocka_unit_test(test_too_many_skips), cmocka_unit_test(test_guard),
        cmocka_unit_test(test_spikes),         cmocka_unit_test(test_best),
        cmocka_unit_test(test_early_stop),     cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_async_save),     cmocka_unit_test(test_short_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

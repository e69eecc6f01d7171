/* Memory runs out while a run is being opened: at the first allocation, the second, and so on. Each
 * time the answer is ERR_MEMORY with a message, and everything taken is given back (what leaks,
 * AddressSanitizer tells).
 *
 * Every loader that the verbs open is a row. Opening one takes up to a few thousand allocations,
 * most of them the same few of one parser over and over, and late ones come behind everything else;
 * so a row is swept one by one as far as ALL, then in steps that grow by an eighth, then one by one
 * through the last TAIL. With CRIA_SWEEP_ALL set it goes one by one throughout.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "run/dataset.h"
#include "run/inference.h"
#include "run/new_model.h"
#include "run/sidecar.h"
#include "support/check.h"
#include "support/tiny_run.h"

#define ALL 100
#define TAIL 20
#define ADAPTER TINY_MODEL "/adapter_all_linear"

static struct tiny tiny;

/* --- the loaders --- */

static enum status open_session(const char *data, const char *overrides, struct err *e)
{
    static struct session session;
    struct config c = {0};
    char paths[3][300], keys[512], *rest = keys;
    const char *items[16] = {paths[0],         paths[1],     paths[2],    "template=orca",
                             "max_length=256", "device=cpu", "threads=1", "save_steps=none"};
    size_t n = 8;
    snprintf(paths[0], sizeof paths[0], "model_name_or_path=" TINY_MODEL);
    snprintf(paths[1], sizeof paths[1], "output_dir=%s/out", tiny.dir);
    snprintf(paths[2], sizeof paths[2], "datasets=%s/%s", tiny.dir, data);
    snprintf(keys, sizeof keys, "%s", overrides);
    for (char *at; (at = strsep(&rest, " "));)
        if (*at) items[n++] = at;
    enum status s = config_load(&c, NULL, items, n, e);
    if (!s) {
        s = session_open(&session, &c, NULL, e);
        session_close(&session);
    }
    config_free(&c);
    return s;
}

static enum status full_session(struct err *e) { return open_session("data.jsonl", "", e); }

static enum status lora_session(struct err *e)
{
    return open_session("data.jsonl",
                        "finetuning=lora lora_target_modules=q_proj,v_proj val_size=4 packing=true",
                        e);
}

/* The reference's numbers are there from the second time on. */
static enum status pairs_session(struct err *e)
{
    return open_session("pairs.jsonl",
                        "stage=dpo finetuning=lora adapter_name_or_path=" ADAPTER
                        " val_size=4 precompute_ref_log_probs=true",
                        e);
}

static enum status labels_session(struct err *e)
{
    return open_session("labels.jsonl", "stage=kto val_size=4", e);
}

static enum status planned_session(struct err *e)
{
    static struct session session;
    struct config c = {0};
    const char *items[] = {"model_name_or_path=nowhere",
                           "model_config=" TINY_MODEL,
                           "output_dir=nowhere",
                           "datasets=nowhere.jsonl",
                           "template=orca",
                           "device=null"};
    enum status s = config_load(&c, NULL, items, 6, e);
    if (!s) {
        s = session_prepare(&session, &c, SESSION_PLAN, NULL, e);
        session_close(&session);
    }
    config_free(&c);
    return s;
}

static enum status prepared_data(struct err *e)
{
    char data[300], out[300];
    tiny_path(&tiny, "data.jsonl", data);
    tiny_path(&tiny, "made.h5", out);
    struct dataset_file_request r = {data, "auto", TINY_MODEL, "orca", 64, 1, out, NULL};
    enum status s = dataset_prepare_file(&r, e);
    char aside[310];
    snprintf(aside, sizeof aside, "%s.tmp", out);
    assert_false(io_exists(aside)); /* nothing half-made is left */
    return s;
}

static enum status dataset_file(struct err *e)
{
    char path[300];
    struct store *store = NULL;
    struct sample sample = {0};
    tiny_path(&tiny, "whole.h5", path);
    enum status s = store_open(&store, path, e);
    for (int64_t d = 0; !s && d < store_info(store)->num_documents; d++)
        s = store_document(store, d, &sample, e);
    sample_free(&sample);
    store_close(store);
    return s;
}

static enum status adapter(struct err *e)
{
    struct adapter_dir a;
    enum status s = adapter_dir_open(&a, ADAPTER, e);
    adapter_dir_close(&a);
    return s;
}

static enum status inference(struct err *e)
{
    static struct inference f;
    struct id_list ids = {0};
    struct inference_options o = {.model = TINY_MODEL,
                                  .adapter = ADAPTER,
                                  .template = "orca",
                                  .threads = 1,
                                  .max_new_tokens = 2,
                                  .context = 64,
                                  .sampling = {.top_p = 1}};
    struct buf text;
    struct inference_answer answer = {.text = &text};
    buf_init(&text, 1 << 16);
    enum status s = inference_open(&f, &o, e);
    if (!s) s = inference_raw_prompt(&f, "Hello there", &ids, e);
    if (!s) s = inference_answer(&f, &ids, 0, &answer, e);
    inference_close(&f);
    id_list_free(&ids);
    buf_free(&text);
    return s;
}

static enum status merged(struct err *e)
{
    char out[300];
    struct err ignored = {0};
    tiny_path(&tiny, "merged", out);
    enum status s = new_model_merge(TINY_MODEL, ADAPTER, out, FILE_TYPES, e);
    if (s) assert_false(io_exists(out)); /* nor half a model */
    CHECK_OK(io_remove_tree(out, &ignored), &ignored);
    return s;
}

static enum status companion(struct err *e)
{
    struct sidecar s;
    return sidecar_read(&s, tiny.dir, e);
}

static const struct row {
    const char *name;
    enum status (*open)(struct err *e);
} rows[] = {{"a dataset file", dataset_file},
            {"preparing data", prepared_data},
            {"an adapter", adapter},
            {"cria.json", companion},
            {"a model that answers", inference},
            {"merging", merged},
            {"planning without files", planned_session},
            {"a full run", full_session},
            {"a LoRA run", lora_session},
            {"a run of pairs", pairs_session},
            {"a run of labels", labels_session}};

/* --- the sweep --- */

static long count(const struct row *row)
{
    struct err e = {0};
    CHECK_OK(row->open(&e), &e); /* what is made once, a cache, is there from now on */
    mem_fail_after(0);
    CHECK_OK(row->open(&e), &e);
    return mem_allocations();
}

static void fail_at(const struct row *row, long n)
{
    struct err e = {0};
    mem_fail_after(n);
    enum status s = row->open(&e);
    mem_fail_after(0);
    if (s == ERR_MEMORY && e.code == s && e.message[0]) return;
    fail_msg("%s, allocation %ld: %s: %s", row->name, n, status_name(s), e.message);
}

static long next(long n, long all)
{
    if (n < ALL || n > all - TAIL || getenv("CRIA_SWEEP_ALL")) return n + 1;
    long far = n + n / 8;
    return far < all - TAIL ? far : all - TAIL + 1;
}

static void sweep(void **state)
{
    const struct row *row = *state;
    long all = count(row), tried = 0;
    assert_true(all > 0);
    for (long n = 1; n <= all; n = next(n, all), tried++) fail_at(row, n);
    struct err e = {0};
    CHECK_OK(row->open(&e), &e); /* it goes on as if nothing had been */
    print_message("%s: %ld of %ld allocations\n", row->name, tried, all);
}

static int set_up(void **state)
{
    char path[300];
    struct err e = {0};
    (void)state;
    tiny_init(&tiny);
    tiny_path(&tiny, "made.h5", path);
    if (prepared_data(&e)) return -1;
    char whole[300];
    tiny_path(&tiny, "whole.h5", whole);
    if (rename(path, whole)) return -1;
    tiny_path(&tiny, "cria.json", path);
    FILE *f = fopen(path, "w");
    fputs("{\"template\": \"orca\", \"end_tokens\": [2], \"tokenizer_hash\": \"0\"}", f);
    return fclose(f);
}

static int tear_down(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

int main(void)
{
    struct CMUnitTest tests[sizeof rows / sizeof *rows];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        tests[i] = (struct CMUnitTest){rows[i].name, sweep, NULL, NULL, (void *)&rows[i]};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

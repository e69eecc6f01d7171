/* Every command in the documentation runs: what the pages (*.md) and the recipes (configs) promise
 * is tried on small stand-ins, in a scratch copy of the repository.
 *
 * In a page, a fenced block is run if it is marked ```sh. All such blocks of a page are one script
 * (bash -euo pipefail), from the repository's root, with cria in PATH; it may write files, which
 * vanish. Things a reader has and the repository has not are put in place by a comment before the
 * block, one a line:
 *
 *     <!-- stand-in: path/to/llama = model -->      a tiny model with a tokenizer
 *     <!-- stand-in: out/lora = adapter -->         an adapter of that model
 *     <!-- stand-in: alpaca_data.json = data -->    instructions (.json or .jsonl)
 *     <!-- stand-in: book.jsonl = text -->          plain text
 *     <!-- stand-in: pairs.jsonl = pairs -->        chosen and rejected replies
 *
 * Of the tools that take minutes (long_tools) only --help is run here. Any other mark (```text,
 * ```console, ```yaml) keeps a block from being run, no mark at all is an error where a line looks
 * like a command. Wherever a page writes `cria VERB --option` or begins a line of a block with it,
 * verb and options must exist.
 *
 * A recipe's first line is its command, up to two spaces: "# cria train configs/NAME.yaml". It is
 * run for one step with a stand-in for the model and the data. */
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "support/run_binary.h"
#include "support/tiny_run.h"

#define FILES_MAX 256

static const char *const long_tools[] = {"setup",           "test", "check", "fuzz", "quickstart",
                                         "quickstart-base", "bench"};
static const char *const special_tokens[] = {"<|im_start|>",      "<|im_end|>",
                                             "<|begin_of_text|>", "<|start_header_id|>",
                                             "<|end_header_id|>", "<|eot_id|>"};
#define NUM_SPECIAL (sizeof special_tokens / sizeof *special_tokens)

static struct tiny tiny;
static char root[512], *files[FILES_MAX];
static size_t num_files;
static char *helps[32], verbs[32][32]; /* what each verb's --help says */
static size_t num_verbs;

/* --- small tools --- */

static const char *below(const char *name)
{
    static char paths[8][1024];
    static int next;
    char *out = paths[next++ % 8];
    snprintf(out, sizeof paths[0], "%s/%s", tiny.dir, name);
    return out;
}

static char *read_all(const char *path)
{
    struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 24);
    CHECK_OK(io_read_file(path, &text, &e), &e);
    CHECK_OK(buf_append(&text, "", 0), &e);
    return text.data;
}

static void write_text(const char *path, const char *text, mode_t mode)
{
    struct err e = {0};
    CHECK_OK(io_write_file(path, text, strlen(text), &e), &e);
    assert_int_equal(chmod(path, mode), 0);
}

static void make_dirs(const char *path)
{
    struct err e = {0};
    CHECK_OK(io_make_dirs(path, &e), &e);
}

static void link_to(const char *target, const char *path)
{
    unlink(path);
    if (symlink(target, path)) fail_msg("cannot link %s to %s", path, target);
}

/* --- the scratch copy --- */

/* Links to all entries of the repository's folder `from` but the hidden and the named ones. */
static void link_entries(const char *from, const char *to, const char *but, const char *and_but)
{
    char source[1024], target[1024];
    DIR *d = opendir(from);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        const char *name = entry->d_name;
        if (name[0] == '.' || !strcmp(name, but) || !strcmp(name, and_but)) continue;
        snprintf(source, sizeof source, "%s/%s/%s", root, from, name);
        snprintf(target, sizeof target, "%s/%s", to, name);
        link_to(source, target);
    }
    closedir(d);
}

static void make_house(void)
{
    char text[1024], path[256];
    make_dirs(below("house/tools"));
    make_dirs(below("house/build/release"));
    make_dirs(below("bin"));
    link_entries(".", below("house"), "build", "tools");
    link_entries("tools", below("house/tools"), "", "");
    for (size_t i = 0; i < sizeof long_tools / sizeof *long_tools; i++) {
        snprintf(path, sizeof path, "house/tools/%s", long_tools[i]);
        snprintf(text, sizeof text, "#!/bin/sh\nexec %s/tools/%s --help\n", root, long_tools[i]);
        unlink(below(path));
        if (io_exists(strchr(path, '/') + 1)) write_text(below(path), text, 0755);
    }
    link_to(getenv("CRIA_BIN"), below("bin/cria"));
    link_to(getenv("CRIA_BIN"), below("house/build/release/cria"));
}

/* --- stand-ins --- */

static void add_special_tokens(const char *from, const char *to, int32_t first)
{
    struct err e = {0};
    json_t *o;
    CHECK_OK(json_parse_file(from, &o, &e), &e);
    json_t *added = json_object_get(o, "added_tokens");
    for (size_t i = 0; i < NUM_SPECIAL; i++)
        json_array_append_new(added, json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id",
                                               (int)(first + (int32_t)i), "content",
                                               special_tokens[i], "single_word", 0, "lstrip", 0,
                                               "rstrip", 0, "normalized", 0, "special", 1));
    CHECK_OK(json_write_file(o, to, &e), &e);
    json_decref(o);
}

/* A new tiny model whose tokenizer has the tokens of every template; an adapter of it; data. */
static void make_stand_ins(void)
{
    struct err e = {0};
    json_t *o;
    CHECK_OK(json_parse_file(TINY_MODEL "/config.json", &o, &e), &e);
    int32_t vocab = (int32_t)json_integer_value(json_object_get(o, "vocab_size"));
    json_object_set_new(o, "vocab_size", json_integer(vocab + (int32_t)NUM_SPECIAL));
    CHECK_OK(json_write_file(o, below("config.json"), &e), &e);
    json_decref(o);
    struct ran r =
        run_cria(NULL, "init", "--config", below("config.json"), "--out", below("model"), NULL);
    CHECK_EXIT(&r, 0);
    ran_free(&r);
    add_special_tokens(TINY_MODEL "/tokenizer.json", below("model/tokenizer.json"), vocab);
    CHECK_OK(
        io_copy_file(TINY_MODEL "/tokenizer_config.json", below("model/tokenizer_config.json"), &e),
        &e);
    write_text(below("text.jsonl"),
               "{\"text\": \"Once upon a time there was a llama.\"}\n"
               "{\"text\": \"It liked to read.\"}\n",
               0644);
    char model[1100], data[1100], out[1100];
    snprintf(model, sizeof model, "model_name_or_path=%s", below("model"));
    snprintf(data, sizeof data, "datasets=%s", below("data.jsonl"));
    snprintf(out, sizeof out, "output_dir=%s", below("adapter"));
    r = run_cria(NULL, "train", model, data, out, "template=alpaca", "finetuning=lora",
                 "max_steps=1", NULL);
    CHECK_EXIT(&r, 0);
    ran_free(&r);
}

static const char *const stand_ins[][2] = {
    {"model", "model"},     {"adapter", "adapter"},   {"data", "data.jsonl"},
    {"text", "text.jsonl"}, {"pairs", "pairs.jsonl"},
};

/* "NAME = KIND" into the scratch copy. */
static void put_stand_in(const char *page, const char *text)
{
    char name[256], kind[32], path[300], folder[300];
    if (sscanf(text, " %255s = %31[a-z]", name, kind) != 2 || name[0] == '/' || strstr(name, ".."))
        fail_msg("%s: a stand-in is written NAME = KIND, inside the repository: %s", page, text);
    for (size_t i = 0; i < sizeof stand_ins / sizeof *stand_ins; i++) {
        if (strcmp(stand_ins[i][0], kind)) continue;
        snprintf(path, sizeof path, "house/%s", name);
        snprintf(folder, sizeof folder, "%s", path);
        *strrchr(folder, '/') = 0;
        make_dirs(below(folder));
        link_to(below(stand_ins[i][1]), below(path));
        return;
    }
    fail_msg("%s: there is no stand-in called %s", page, kind);
}

/* --- pages --- */

static int note_file(const char *path, const struct stat *s, int type, struct FTW *f)
{
    const char *dot = strrchr(path, '.'), *name = path + f->base;
    (void)s;
    if (type == FTW_D && f->level == 1 && (!strcmp(name, "build") || name[0] == '.'))
        return FTW_SKIP_SUBTREE;
    int page = dot && !strcmp(dot, ".md");
    int recipe = dot && !strcmp(dot, ".yaml") && !strncmp(path, "./configs/", 10);
    if (type == FTW_F && (page || recipe)) {
        assert_true(num_files < FILES_MAX);
        files[num_files++] = mem_strdup(path + 2);
    }
    return FTW_CONTINUE;
}

struct page {
    const char *path;
    long line;
    char mark[32];    /* of the block we are in; "" none */
    int inside, runs; /* in a block; blocks to run so far */
    struct buf script;
};

static int looks_like_command(const char *line)
{
    return !strncmp(line, "cria ", 5) || !strncmp(line, "tools/", 6) || !strncmp(line, "$ ", 2);
}

static const char *help_of(const char *verb, size_t n)
{
    for (size_t i = 0; i < num_verbs; i++)
        if (strlen(verbs[i]) == n && !memcmp(verbs[i], verb, n)) return helps[i];
    return NULL;
}

/* `text` stands behind "cria "; it ends at a backtick, a comment or the line's end. */
static void check_use(const struct page *p, const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz"), all = strcspn(text, "`#\n");
    char option[64];
    if (!n) return; /* VERB, --help */
    const char *help = help_of(text, n);
    if (!help && !p->inside && !memmem(text, all, "--", 2)) return; /* no command */
    if (!help) fail_msg("%s:%ld: there is no verb %.*s", p->path, p->line, (int)n, text);
    for (const char *at = text; (at = strstr(at, "--")) && at < text + all; at += 2) {
        size_t m = 2 + strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-");
        snprintf(option, sizeof option, "%.*s", (int)m, at);
        if (m > 2 && strcmp(option, "--help") && !strstr(help, option))
            fail_msg("%s:%ld: cria %.*s has no option %s", p->path, p->line, (int)n, text, option);
    }
}

static void check_uses(const struct page *p, const char *line)
{
    if (p->inside && !strncmp(line, "cria ", 5)) check_use(p, line + 5);
    for (const char *at = line; !p->inside && (at = strstr(at, "`cria ")); at += 6)
        check_use(p, at + 6);
}

static void begin_block(struct page *p, const char *mark)
{
    struct err e = {0};
    snprintf(p->mark, sizeof p->mark, "%.*s", (int)strcspn(mark, " \n"), mark);
    p->inside = 1;
    if (strcmp(p->mark, "sh")) return;
    p->runs++;
    CHECK_OK(buf_printf(&p->script, "echo '%s:%ld' >&2\n", p->path, p->line + 1), &e);
}

static void take_line(struct page *p, const char *line)
{
    static const char stand_in[] = "<!-- stand-in:";
    struct err e = {0};
    size_t indent = strspn(line, " ");
    if (!strncmp(line + indent, "```", 3)) {
        if (p->inside)
            p->inside = 0;
        else
            begin_block(p, line + indent + 3);
        return;
    }
    check_uses(p, line + indent);
    if (!p->inside && !strncmp(line, stand_in, strlen(stand_in)))
        put_stand_in(p->path, line + strlen(stand_in));
    if (p->inside && !p->mark[0] && looks_like_command(line + indent))
        fail_msg("%s:%ld: mark this block sh, so that it is run, or text", p->path, p->line);
    if (p->inside && !strcmp(p->mark, "sh")) CHECK_OK(buf_printf(&p->script, "%s\n", line), &e);
}

static void run_script(struct page *p)
{
    char whole[1200];
    const char *argv[] = {"/bin/bash", "-euo", "pipefail", below("script.sh"), NULL};
    struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 20);
    snprintf(whole, sizeof whole, "cd %s\nPATH=%s:$PATH\n", below("house"), below("bin"));
    CHECK_OK(buf_puts(&text, whole), &e);
    CHECK_OK(buf_puts(&text, p->script.data), &e);
    write_text(below("script.sh"), text.data, 0644);
    buf_free(&text);
    struct running running = run_start(argv, NULL, -1);
    struct ran r = run_wait(&running);
    if (r.code) print_error("%s: a command in it fails\n", p->path);
    CHECK_EXIT(&r, 0);
    ran_free(&r);
}

static void test_pages(void **state)
{
    (void)state;
    int pages = 0, blocks = 0;
    for (size_t i = 0; i < num_files; i++) {
        struct page p = {.path = files[i]};
        if (!strstr(files[i], ".md")) continue;
        char *text = read_all(files[i]);
        buf_init(&p.script, 1 << 20);
        for (char *at = text, *end; *at; at = end) {
            end = at + strcspn(at, "\n");
            if (*end) *end++ = 0;
            p.line++;
            take_line(&p, at);
        }
        if (p.runs) run_script(&p);
        pages++;
        blocks += p.runs;
        buf_free(&p.script);
        mem_free(text);
    }
    print_message("%d pages, %d blocks run\n", pages, blocks);
    assert_true(pages > 0);
}

/* --- recipes --- */

/* The words of the first line's command; 0 if it is none. */
static size_t command_words(char *line, const char **words, size_t most)
{
    size_t n = 0;
    char *rest, *end = strstr(line, "  ");
    if (end) *end = 0;
    if (strncmp(line, "# cria ", 7)) return 0;
    for (char *at = strtok_r(line + 2, " ", &rest); at && n < most; at = strtok_r(NULL, " ", &rest))
        words[n++] = at;
    return n;
}

static void recipe_case(const char *path)
{
    char *text = read_all(path), out[1100], model[1100], data[1100], eval[1100], adapter[1100];
    int plain = strstr(text, "\nstage: pt") != NULL,
        has_eval = strstr(text, "\neval_dataset:") != NULL;
    int has_config = strstr(text, "\nmodel_config:") != NULL;
    int has_adapter = strstr(text, "\nadapter_name_or_path:") != NULL;
    const char *words[16], *argv[32] = {NULL};
    size_t n = 0;
    int pairs = strstr(text, "\nstage: dpo") != NULL;
    const char *used = below(plain ? "text.jsonl" : pairs ? "pairs.jsonl" : "data.jsonl");
    text[strcspn(text, "\n")] = 0;
    size_t num_words = command_words(text, words, 16);
    if (num_words < 3 || strcmp(words[1], "train") || strcmp(words[2], path))
        fail_msg("%s: its first line should be \"# cria train %s\"", path, path);
    snprintf(out, sizeof out, "output_dir=%s/%s.out", below("recipes"), strrchr(path, '/') + 1);
    snprintf(model, sizeof model, "model_name_or_path=%s", below("model"));
    snprintf(data, sizeof data, "datasets=%s", used);
    snprintf(eval, sizeof eval, "eval_dataset=%s", used);
    snprintf(adapter, sizeof adapter, "adapter_name_or_path=%s", below("adapter"));
    argv[n++] = getenv("CRIA_BIN");
    for (size_t i = 1; i < num_words; i++) argv[n++] = words[i];
    const char *more[] = {model,
                          data,
                          out,
                          "max_steps=1",
                          "max_length=192",
                          "per_device_train_batch_size=1",
                          "gradient_accumulation_steps=1"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) argv[n++] = more[i];
    if (has_eval) argv[n++] = eval;
    if (has_adapter) /* of the stand-in's shape */
        argv[n++] = adapter, argv[n++] = "lora_r=8", argv[n++] = "lora_alpha=8";
    if (has_config) argv[n++] = "model_config=null";
    struct running p = run_start(argv, NULL, -1);
    struct ran r = run_wait(&p);
    if (r.code) print_error("%s: its command fails\n", path);
    CHECK_EXIT(&r, 0);
    ran_free(&r);
    mem_free(text);
}

static void test_recipes(void **state)
{
    (void)state;
    int recipes = 0;
    for (size_t i = 0; i < num_files; i++) {
        if (strncmp(files[i], "configs/", 8)) continue;
        if (strstr(files[i], ".md")) continue;
        recipe_case(files[i]);
        recipes++;
    }
    print_message("%d recipes run\n", recipes);
}

/* --- setting up --- */

static void learn_verbs(void)
{
    struct ran all = run_cria(NULL, "--help", NULL);
    CHECK_EXIT(&all, 0);
    for (const char *at = all.out; (at = strstr(at, "\n  cria ")) && num_verbs < 32; at += 8) {
        assert_int_equal(sscanf(at, "\n  cria %31s", verbs[num_verbs]), 1);
        struct ran r = run_cria(NULL, verbs[num_verbs], "--help", NULL);
        CHECK_EXIT(&r, 0);
        helps[num_verbs++] = mem_strdup(r.out);
        ran_free(&r);
    }
    ran_free(&all);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(getcwd(root, sizeof root));
    tiny_init(&tiny);
    assert_int_equal(nftw(".", note_file, 16, FTW_ACTIONRETVAL | FTW_PHYS), 0);
    qsort(files, num_files, sizeof *files, by_name);
    learn_verbs();
    make_house();
    make_stand_ins();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < num_files; i++) mem_free(files[i]);
    for (size_t i = 0; i < num_verbs; i++) mem_free(helps[i]);
    tiny_free(&tiny);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_recipes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

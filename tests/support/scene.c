#include "support/scene.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"
#include "support/check.h"
#include "support/run_line.h"

#define MODEL "tests/golden/models/llama_gqa_tied"
#define ADAPTER MODEL "/adapter_all_linear"
#define FILE_MAX ((size_t)1 << 24)
#define RUN_SECONDS 60

static void path_of(const struct scene *s, const char *name, char out[512])
{
    snprintf(out, 512, "%s/%s", s->dir, name);
}

static void read_whole(const char *path, struct buf *out)
{
    struct err e = {0};
    buf_init(out, FILE_MAX);
    CHECK_OK(io_read_file(path, out, &e), &e);
}

static void write_whole(const char *path, const char *bytes, size_t n, const char *mode)
{
    FILE *f = fopen(path, mode);
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* In place; the length. */
static size_t unescape(char *text)
{
    char *to = text;
    for (char *at = text; *at;) {
        if (*at == '`') {
            *to++ = '"', at++;
        } else if (at[0] == '\\' && (at[1] == 'n' || at[1] == 's')) {
            *to++ = at[1] == 'n' ? '\n' : ' ', at += 2;
        } else if (at[0] == '\\' && at[1] == 'x') {
            char digits[3] = {at[2], at[2] ? at[3] : 0, 0};
            *to++ = (char)strtol(digits, NULL, 16), at += 4;
        } else {
            *to++ = *at++;
        }
    }
    *to = 0;
    return (size_t)(to - text);
}

/* --- steps --- */

static void copy_files(const struct scene *s, const char *from, const char *to,
                       const char *const *names)
{
    char source[512], target[512], folder[512];
    path_of(s, to, folder);
    assert_int_equal(unlink(folder), 0);
    assert_int_equal(mkdir(folder, 0700), 0);
    for (; *names; names++) {
        struct buf content;
        snprintf(source, sizeof source, "%s/%s", from, *names);
        snprintf(target, sizeof target, "%.400s/%.100s", folder, *names);
        read_whole(source, &content);
        write_whole(target, content.data, content.len, "w");
        buf_free(&content);
    }
}

static void replace(const char *path, char *from, char *to)
{
    struct buf content;
    size_t n = unescape(from), m = unescape(to);
    read_whole(path, &content);
    char *at = memmem(content.data, content.len, from, n);
    if (!at) fail_msg("no %s in %s", from, path);
    size_t before = (size_t)(at - content.data), after = content.len - before - n;
    write_whole(path, content.data, before, "w");
    write_whole(path, to, m, "a");
    write_whole(path, at + n, after, "a");
    buf_free(&content);
}

static char *next_word(char **rest)
{
    char *word = strsep(rest, " ");
    if (!word || !*word) fail_msg("a step lacks a word");
    return word;
}

static void run(const struct scene *s, const char *line)
{
    static struct run_result r;
    run_line(&r, s->dir, line, RUN_SECONDS);
    if (r.exit_code) fail_msg("cria %s: exit %d: %s", line, r.exit_code, r.err);
}

static void repeat(const char *path, char *text)
{
    long n = strtol(next_word(&text), NULL, 10);
    size_t size = unescape(text);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (long i = 0; i < n; i++) fwrite(text, 1, size, f);
    fclose(f);
}

static void step(const struct scene *s, char *line)
{
    static const char *const model[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json", NULL};
    static const char *const adapter[] = {"adapter_config.json", "adapter_model.safetensors", NULL};
    char path[512], other[512], *rest = line, *verb = next_word(&rest);
    if (!strcmp(verb, "model")) return copy_files(s, MODEL, "m", model);
    if (!strcmp(verb, "adapter")) return copy_files(s, ADAPTER, "a", adapter);
    if (!strcmp(verb, "run")) return run(s, rest);
    path_of(s, next_word(&rest), path);
    if (!strcmp(verb, "write")) {
        char *text = rest ? rest : "";
        write_whole(path, text, *text ? unescape(text) : 0, "w");
    } else if (!strcmp(verb, "append")) {
        write_whole(path, rest, unescape(rest), "a");
    } else if (!strcmp(verb, "replace")) {
        char *from = next_word(&rest);
        replace(path, from, rest ? rest : "");
    } else if (!strcmp(verb, "repeat")) {
        repeat(path, rest);
    } else if (!strcmp(verb, "cut")) {
        assert_int_equal(truncate(path, strtol(rest, NULL, 10)), 0);
    } else if (!strcmp(verb, "remove")) {
        assert_int_equal(remove(path), 0);
    } else if (!strcmp(verb, "rename")) {
        path_of(s, rest, other);
        assert_int_equal(rename(path, other), 0);
    } else if (!strcmp(verb, "dir")) {
        assert_int_equal(mkdir(path, 0700), 0);
    } else {
        fail_msg("no step %s", verb);
    }
}

static void link_to(const struct scene *s, const char *what, const char *name)
{
    char target[1024], path[512];
    assert_non_null(realpath(what, target));
    path_of(s, name, path);
    assert_int_equal(symlink(target, path), 0);
}

static void write_preferences(const struct scene *s)
{
    char path[512];
    path_of(s, "p.jsonl", path);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 6; i++)
        fprintf(f, "{\"question\": \"Say %d\", \"chosen\": \"%d\", \"rejected\": \"no\"}\n", i, i);
    fclose(f);
    path_of(s, "k.jsonl", path);
    f = fopen(path, "w");
    for (int i = 0; i < 6; i++)
        fprintf(f,
                "{\"messages\": [{\"role\": \"user\", \"content\": \"Say %d\"}, {\"role\": "
                "\"assistant\", \"content\": \"%d\"}], \"label\": %s}\n",
                i, i, i % 2 ? "true" : "false");
    fclose(f);
}

void scene_init(struct scene *s, const char *steps)
{
    char path[512];
    *s = (struct scene){.dir = "/tmp/cria-scene-XXXXXX"};
    assert_non_null(mkdtemp(s->dir));
    link_to(s, MODEL, "m");
    link_to(s, ADAPTER, "a");
    path_of(s, "d.jsonl", path);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 6; i++)
        fprintf(f, "{\"instruction\": \"Say %d\", \"input\": \"\", \"output\": \"%d\"}\n", i, i);
    fclose(f);
    write_preferences(s);
    path_of(s, "c.yaml", path);
    f = fopen(path, "w");
    fputs("model_name_or_path: m\noutput_dir: out\ndatasets: d.jsonl\ntemplate: orca\n"
          "max_length: 256\n",
          f);
    fclose(f);
    char *text = malloc(strlen(steps) + 1), *rest = text, *line;
    memcpy(text, steps, strlen(steps) + 1);
    while ((line = strsep(&rest, "\n")))
        if (*line) step(s, line);
    free(text);
}

void scene_free(struct scene *s)
{
    struct err e = {0};
    CHECK_OK(io_remove_tree(s->dir, &e), &e);
}

/* --- what is there --- */

static struct scene *looking; /* nftw takes no context */

static int look(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info, (void)where;
    if (kind != FTW_F) return 0;
    assert_true(looking->num_files < SCENE_FILES_MAX);
    struct scene_file *f = &looking->files[looking->num_files++];
    struct err e = {0};
    snprintf(f->path, sizeof f->path, "%s", path + strlen(looking->dir) + 1);
    CHECK_OK(hash_file(path, f->hash, &e), &e);
    return 0;
}

void scene_remember(struct scene *s)
{
    looking = s;
    s->num_files = 0;
    assert_int_equal(nftw(s->dir, look, 16, FTW_PHYS), 0);
}

static const struct scene_file *find(const struct scene *s, const char *path)
{
    for (size_t i = 0; i < s->num_files; i++)
        if (!strcmp(s->files[i].path, path)) return &s->files[i];
    return NULL;
}

int scene_is_whole(const struct scene *s, int may_add)
{
    static struct scene now;
    int whole = 1;
    memcpy(now.dir, s->dir, sizeof now.dir);
    scene_remember(&now);
    for (size_t i = 0; i < s->num_files; i++) {
        const struct scene_file *f = find(&now, s->files[i].path);
        if (f && !strcmp(f->hash, s->files[i].hash)) continue;
        print_error("%s is %s\n", s->files[i].path, f ? "changed" : "gone");
        whole = 0;
    }
    for (size_t i = 0; i < now.num_files; i++) {
        const char *path = now.files[i].path;
        int fine = find(s, path) || may_add || strstr(path, ".cria-cache/");
        if (fine && !strstr(path, ".tmp") && !strstr(path, ".old/") && !strstr(path, ".del/"))
            continue;
        print_error("%s was left behind\n", path);
        whole = 0;
    }
    return whole;
}

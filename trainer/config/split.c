#include "config/split.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "config/value.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* What a file of a split is called; a split that is not here has its own name alone. */
static const char *const words_of[][5] = {
    {"train", "training"},
    {"validation", "valid", "dev", "val"},
    {"test", "testing", "eval", "evaluation"},
};

struct names {
    const char **items;
    size_t n;
};

/* A dataset while it is resolved. */
struct job {
    struct config *c;
    enum config_key key;
    const struct config_dataset *dataset;
    struct err *e;
};

static enum status no_memory(const struct job *j)
{
    return err_set(j->e, ERR_MEMORY, "no memory for the list of datasets");
}

/* Appends to a list whose room doubles; what it had stays in the config's memory. */
static void *grown(const struct job *j, void *items, size_t n, size_t each)
{
    if (n & (n - 1)) return items;
    void *more = config_take(j->c, (n ? 2 * n : 1) * each);
    if (more && n) memcpy(more, items, n * each);
    return more;
}

/* At the dataset's place in the config. */
static enum status blame(const struct job *j)
{
    if (j->dataset->line) j->e->line = j->dataset->line, j->e->column = 0;
    return j->e->code;
}

/* ---- names ---- */

static int ends_in(const char *name, size_t *n, const char *ending)
{
    size_t m = strlen(ending);
    if (*n <= m || strncasecmp(name + *n - m, ending, m) != 0) return 0;
    *n -= m;
    return 1;
}

/* Forms that are refused are found too, so that what to do about them is said. */
static int is_data(const char *name)
{
    static const char *const endings[] = {".jsonl", ".json", ".csv",     ".tsv",
                                          ".txt",   ".h5",   ".parquet", ".arrow"};
    size_t n = strlen(name);
    if (!ends_in(name, &n, ".gz")) ends_in(name, &n, ".zst");
    for (size_t i = 0; i < COUNT(endings); i++)
        if (ends_in(name, &n, endings[i])) return 1;
    return 0;
}

/* train.jsonl, train-00000-of-00002.json */
static int is_named(const char *name, const char *split)
{
    size_t n = strlen(split);
    if (strncmp(name, split, n) != 0) return 0;
    return name[n] == '.' || (name[n] == '-' && isdigit((unsigned char)name[n + 1]));
}

/* The word is in the name, with no letter beside it. */
static int has_word(const char *name, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = name; (at = strstr(at, word)); at++)
        if ((at == name || !isalpha((unsigned char)at[-1])) && !isalpha((unsigned char)at[n]))
            return 1;
    return 0;
}

static int tells_split(const char *name, const char *split)
{
    if (has_word(name, split)) return 1;
    for (size_t i = 0; i < COUNT(words_of); i++)
        for (size_t k = 0; !strcmp(split, words_of[i][0]) && words_of[i][k]; k++)
            if (has_word(name, words_of[i][k])) return 1;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The data files of dir/sub, sorted, as paths; none where there is no such folder. */
static enum status list_folder(const struct job *j, const char *sub, struct names *out)
{
    char dir[IO_PATH_MAX], path[IO_PATH_MAX];
    *out = (struct names){0};
    if (*sub)
        TRY(io_join(dir, sizeof dir, j->dataset->path, sub, j->e));
    else
        snprintf(dir, sizeof dir, "%s", j->dataset->path);
    if (!io_is_dir(dir)) return OK;
    DIR *d = opendir(dir);
    if (!d) return err_errno(j->e, "%s", dir);
    enum status s = OK;
    for (struct dirent *entry; !s && (entry = readdir(d));) {
        if (*entry->d_name == '.' || !is_data(entry->d_name)) continue;
        s = io_join(path, sizeof path, dir, entry->d_name, j->e);
        if (s || io_is_dir(path)) continue;
        out->items = grown(j, out->items, out->n, sizeof *out->items);
        const char *kept = out->items ? config_copy(j->c, path, strlen(path)) : NULL;
        if (kept)
            out->items[out->n++] = kept;
        else
            s = no_memory(j);
    }
    closedir(d);
    if (out->n) qsort(out->items, out->n, sizeof *out->items, by_name);
    return s;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Leaves those for which `fits` says so, if there are any; how many. */
static size_t keep(struct names *files, const char *split,
                   int (*fits)(const char *name, const char *split))
{
    size_t n = 0, fitting = 0;
    for (size_t i = 0; i < files->n; i++) fitting += fits(last_part(files->items[i]), split) != 0;
    for (size_t i = 0; fitting && i < files->n; i++)
        if (fits(last_part(files->items[i]), split)) files->items[n++] = files->items[i];
    if (fitting) files->n = fitting;
    return fitting;
}

/* ---- a dataset ---- */

static enum status find_files(const struct job *j, const char *split, struct names *out)
{
    static const char *const folders[] = {"", "data"};
    for (size_t i = 0; i < COUNT(folders); i++) {
        TRY(list_folder(j, folders[i], out));
        if (keep(out, split, is_named) || keep(out, split, tells_split)) return OK;
        if (!i && out->n == 1 && !j->dataset->split) return OK;
    }
    return list_folder(j, split, out);
}

static enum status no_files(const struct job *j, const char *split)
{
    const char *path = j->dataset->path;
    char known[256] = "";
    struct names all;
    size_t used = 0;
    TRY(list_folder(j, "", &all));
    if (!j->dataset->split)
        config_fail(j->c, j->key, j->e, "%s is a folder", path);
    else
        config_fail(j->c, j->key, j->e, "the folder %s has no files of split %s", path, split);
    for (size_t i = 0; i < all.n && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : ": ",
                                 last_part(all.items[i]));
    err_hint(j->e, "name the files in it%s", known);
    return blame(j);
}

/* One dataset cannot have a share of its own if it is several. */
static enum status check_single(const struct job *j, size_t n)
{
    const struct config_dataset *d = j->dataset;
    const char *what = d->weight > 0 ? "weight" : d->max_samples ? "max_samples" : NULL;
    if (n < 2 || !what) return OK;
    config_fail(j->c, j->key, j->e, "%s is a folder of %zu files, and has a %s", d->path, n, what);
    err_hint(j->e, "make one file of them, or list them with a %s each", what);
    return blame(j);
}

static enum status check_file(const struct job *j)
{
    const struct config_dataset *d = j->dataset;
    if (!d->split || !strcmp(d->split, "train") || tells_split(last_part(d->path), d->split))
        return OK;
    config_fail(j->c, j->key, j->e, "%s is one file, its split is train, not %s", d->path,
                d->split);
    err_hint(j->e, "remove split, or name the file of that split");
    return blame(j);
}

static enum status check_split(const struct job *j)
{
    const char *split = j->dataset->split;
    if (!split || (*split && !strpbrk(split, "[]+%/"))) return OK;
    config_fail(j->c, j->key, j->e, "split '%.60s' is no name", split);
    j->e->code = ERR_UNSUPPORTED;
    err_hint(j->e, "name the split; fraction or max_samples take a part of it");
    return blame(j);
}

static enum status add(const struct job *j, const char *path, struct config_datasets *out)
{
    struct config_dataset *items = grown(j, (void *)out->items, out->n, sizeof *out->items);
    if (!items) return no_memory(j);
    items[out->n] = *j->dataset;
    items[out->n].path = path;
    items[out->n].split = NULL;
    out->items = items;
    out->n++;
    return OK;
}

static enum status resolve(const struct job *j, struct config_datasets *out)
{
    const struct config_dataset *d = j->dataset;
    const char *split = d->split ? d->split : j->key == KEY_datasets ? "train" : "validation";
    struct names files;
    TRY(check_split(j));
    if (!io_is_dir(d->path)) {
        TRY(check_file(j));
        return add(j, d->path, out);
    }
    TRY(find_files(j, split, &files));
    if (!files.n) return no_files(j, split);
    TRY(check_single(j, files.n));
    for (size_t i = 0; i < files.n; i++) TRY(add(j, files.items[i], out));
    log_notice("%s: %s, %s%s", config_name(j->key), d->path, files.items[0],
               files.n > 1 ? " and those like it" : " of it");
    return OK;
}

static enum status resolve_list(struct config *c, enum config_key key, struct config_datasets *list,
                                struct err *e)
{
    struct config_datasets out = {0};
    for (size_t i = 0; i < list->n; i++) {
        const struct job j = {c, key, &list->items[i], e};
        TRY(resolve(&j, &out));
    }
    *list = out;
    return OK;
}

enum status config_resolve_splits(struct config *c, struct err *e)
{
    TRY(resolve_list(c, KEY_datasets, &c->datasets, e));
    return resolve_list(c, KEY_eval_dataset, &c->eval_dataset, e);
}

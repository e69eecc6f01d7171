#include "run/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/lock.h"
#include "base/mem.h"
#include "run/chat_template.h"
#include "run/new_tokens.h"

static struct config_datasets list_of(const struct dataset_request *r)
{
    return r->key == KEY_datasets ? r->config->datasets : r->config->eval_dataset;
}

static int is_prepared(const char *path)
{
    size_t n = strlen(path);
    return (n > 3 && !strcmp(path + n - 3, ".h5")) || (n > 5 && !strcmp(path + n - 5, ".hdf5"));
}

static enum train_on train_on_of(const struct config *c)
{
    enum train_on t = TRAIN_ASSISTANT;
    train_on_find(config_word(c, KEY_train_on), &t);
    return t;
}

/* What the stage learns from. */
static enum record_kind kind_of(const struct config *c)
{
    if (c->stage == CONFIG_STAGE_DPO) return KIND_PAIR;
    return c->stage == CONFIG_STAGE_KTO ? KIND_UNPAIRED : KIND_SFT;
}

static struct prepare_options options_of(const struct dataset_request *r,
                                         const struct prepare_source *sources, size_t n)
{
    const struct config *c = r->config;
    return (struct prepare_options){.sources = sources,
                                    .num_sources = n,
                                    .tokenizer = r->tokenizer,
                                    .template = r->template,
                                    .train_on = train_on_of(c),
                                    .tokenize_whole = c->tokenize_whole,
                                    .compat = (enum compat)c->compat,
                                    .max_length = (int32_t)c->max_length,
                                    .pieces = c->stage == CONFIG_STAGE_PT,
                                    .kind = (int)kind_of(c),
                                    .threads = (size_t)c->threads};
}

enum status dataset_cache_dir(const struct config *c, char *out, size_t size, struct err *e)
{
    const char *slash;
    size_t n = strlen(c->output_dir);
    while (n > 1 && c->output_dir[n - 1] == '/') n--;
    for (slash = c->output_dir + n; slash > c->output_dir && slash[-1] != '/';) slash--;
    int parent = (int)(slash - c->output_dir);
    if ((size_t)snprintf(out, size, "%.*s.cria-cache", parent, c->output_dir) >= size)
        return err_set(e, ERR_IO, "path too long: %s", c->output_dir);
    return OK;
}

/* `reuse`: a file that is there is what would be made. Runs of a sweep start at once, and want the
 * same one. */
static enum status prepare_at(const struct dataset_watcher *watcher,
                              const struct prepare_options *o, const char *path, int reuse,
                              struct err *e)
{
    struct prepare_report report = {0};
    struct lock lock;
    const struct dataset_watcher none = {0}, *w = watcher ? watcher : &none;
    if (reuse && io_file_size(path) >= 0) return OK;
    lock_take(&lock, path);
    int made = reuse && io_file_size(path) >= 0;
    enum status s = made ? OK : prepare_dataset(o, path, &report, w->progress, w->context, e);
    lock_release(&lock);
    if (!s && !made && w->prepared) w->prepared(w->context, &report, path);
    prepare_report_free(&report);
    return s;
}

static enum status prepare_sources(const struct dataset_request *r,
                                   const struct prepare_source *sources, size_t n, char *out,
                                   size_t size, struct err *e)
{
    char dir[IO_PATH_MAX], key[HASH_HEX_SIZE], name[HASH_HEX_SIZE + 8];
    struct prepare_options o = options_of(r, sources, n);
    TRY(dataset_cache_dir(r->config, dir, sizeof dir, e));
    if (io_make_dirs(dir, e)) {
        err_hint(e, "the folder around output_dir must be there or can be made, and is writable");
        return config_blame(r->config, KEY_output_dir, e);
    }
    TRY(prepare_cache_key(&o, key, e));
    snprintf(name, sizeof name, "%s.h5", key);
    TRY(io_join(out, size, dir, name, e));
    return prepare_at(r->watcher, &o, out, 1, e);
}

/* Files that are not there are found before anything else is done, at their place in the config. */
static enum status check_present(const struct dataset_request *r, struct err *e)
{
    struct config_datasets list = list_of(r);
    for (size_t i = 0; i < list.n; i++) {
        const struct config_dataset *d = &list.items[i];
        int is_dir = io_is_dir(d->path);
        if (io_exists(d->path) && !is_dir) continue;
        config_fail(r->config, r->key, e, "%s %s", d->path,
                    is_dir ? "is a folder" : "is not there");
        if (d->line) e->line = d->line, e->column = 0;
        if (io_is_hub_name(d->path))
            return err_hint(e,
                            "nothing is downloaded: `hf download --repo-type dataset %s "
                            "--local-dir DIR`, and name DIR or its files",
                            d->path);
        if (d->path[0] == '~' || strpbrk(d->path, "*?"))
            return err_hint(e, "~, * and ? are a shell's: write the path out, or name the folder");
        return err_hint(e, is_dir ? "name the files in it"
                                  : "paths are taken from the current directory");
    }
    return OK;
}

/* Names that no format has are found beforehand too. */
static enum status check_names(const struct dataset_request *r, struct err *e)
{
    struct config_datasets list = list_of(r);
    const char *known[64];
    size_t n = 0;
    while (n < 64 && (known[n] = format_name_at(n))) n++;
    for (size_t i = 0; i < list.n; i++)
        for (size_t k = 0; k < list.items[i].num_names; k++) {
            const struct config_name *name = &list.items[i].names[k];
            if (format_name_known(name->ours)) continue;
            const char *near = config_nearest(name->ours, known, n);
            config_fail(r->config, r->key, e, "no format has a %s", name->ours);
            if (name->line) e->line = name->line, e->column = name->column;
            return near ? err_hint(e, "did you mean %s?", near)
                        : err_hint(e, "configs/README.md lists what can be called otherwise");
        }
    return OK;
}

static enum jsonl_unit unit_of(const char *sample_by)
{
    if (!strcmp(sample_by, "paragraph")) return JSONL_PARAGRAPH;
    return !strcmp(sample_by, "document") ? JSONL_DOCUMENT : JSONL_LINE;
}

/* `names` has room for those of all. */
static void describe_sources(struct config_datasets list, struct prepare_source *sources,
                             struct format_name *names)
{
    for (size_t i = 0; i < list.n; i++) {
        const struct config_dataset *d = &list.items[i];
        sources[i] = (struct prepare_source){.path = d->path,
                                             .format = d->format,
                                             .names = {names, d->num_names},
                                             .unit = unit_of(d->sample_by)};
        for (size_t k = 0; k < d->num_names; k++)
            *names++ = (struct format_name){d->names[k].ours, d->names[k].theirs};
    }
}

enum status dataset_own_template(const struct config *c, enum config_key key,
                                 const struct config_dataset *d, const struct template **out,
                                 struct err *e)
{
    *out = NULL;
    if (!d->template) return OK;
    enum status s = chat_template_named(d->template, out, e);
    if (!s || template_is_file(d->template)) return s;
    if (!e->line) e->line = d->line;
    return config_blame(c, key, e);
}

/* Those that a dataset has for itself; closed by close_templates, after a failure too. */
static enum status open_templates(const struct dataset_request *r, struct prepare_source *sources,
                                  struct err *e)
{
    struct config_datasets list = list_of(r);
    for (size_t i = 0; r->template && i < list.n; i++)
        TRY(dataset_own_template(r->config, r->key, &list.items[i], &sources[i].template, e));
    return OK;
}

static void close_templates(const struct prepare_source *sources, size_t n)
{
    for (size_t i = 0; i < n; i++) template_close(sources[i].template);
}

enum status dataset_prepare(const struct dataset_request *r, char *out, size_t size, struct err *e)
{
    struct config_datasets list = list_of(r);
    size_t num_names = 0;
    TRY(check_present(r, e));
    TRY(check_names(r, e));
    for (size_t i = 0; i < list.n; i++) num_names += list.items[i].num_names;
    struct prepare_source *sources = mem_calloc(list.n, sizeof *sources);
    struct format_name *names = mem_calloc(num_names + 1, sizeof *names);
    enum status s = sources && names ? OK : err_set(e, ERR_MEMORY, "no memory for the datasets");
    if (!s) describe_sources(list, sources, names);
    if (!s) s = open_templates(r, sources, e);
    if (!s) s = prepare_sources(r, sources, list.n, out, size, e);
    if (sources) close_templates(sources, list.n);
    mem_free(sources);
    mem_free(names);
    return s;
}

/* c NULL: but for tokenizer and template as the file was made. */
static enum status open_prepared(struct store **out, const char *path,
                                 const struct tokenizer *tokenizer, const struct template *template,
                                 const struct config *c, struct err *e)
{
    char hash[HASH_HEX_SIZE] = "", compat[PREPARE_COMPAT_SIZE];
    if (template) TRY(template_hash(template, hash, e));
    struct store_settings want = {.tokenizer_hash = tokenizer_hash(tokenizer),
                                  .template_name = template ? template->name : NULL,
                                  .template_hash = template ? hash : NULL,
                                  .tokenize_whole = -1,
                                  .kind = -1};
    if (c) {
        want.train_on = train_on_name(train_on_of(c));
        want.compat = prepare_compat((enum compat)c->compat, (int32_t)c->max_length, compat);
        want.tokenize_whole = c->tokenize_whole || c->compat == CONFIG_COMPAT_FASTCHAT;
        want.kind = (int)kind_of(c);
    }
    TRY(store_open(out, path, e));
    enum status s = store_expect(*out, &want, e);
    if (s) {
        store_close(*out);
        *out = NULL;
    }
    return s;
}

enum status dataset_open(struct store **out, const struct dataset_request *r, struct err *e)
{
    struct config_datasets list = list_of(r);
    char path[IO_PATH_MAX];
    size_t prepared = 0;
    *out = NULL;
    for (size_t i = 0; i < list.n; i++) prepared += (size_t)is_prepared(list.items[i].path);
    if (prepared && list.n > 1) {
        config_fail(r->config, r->key, e, "a prepared .h5 file cannot be mixed with others");
        return err_hint(e, "list the raw files; they are prepared together");
    }
    TRY(check_present(r, e));
    if (prepared)
        return open_prepared(out, list.items[0].path, r->tokenizer, r->template, r->config, e);
    TRY(dataset_prepare(r, path, sizeof path, e));
    return store_open(out, path, e);
}

void dataset_origin(const struct store *s, int32_t source, int64_t line, char *out, size_t size)
{
    const struct store_info *info = store_info(s);
    int known = source >= 0 && (size_t)source < info->num_sources;
    const char *name = known ? info->sources[source].name : "?", *dot = strrchr(name, '.');
    snprintf(out, size, "%s, %s %lld", name, dot && !strcmp(dot, ".json") ? "record" : "line",
             (long long)line);
}

enum status dataset_tools(const struct config *c, struct tokenizer **tokenizer,
                          const struct template **template, struct err *e)
{
    *template = NULL;
    TRY(config_require(c, KEY_model_name_or_path, e));
    TRY(chat_template_of_config(c, template, e));
    struct new_tokens added;
    return new_tokens_open(&added, tokenizer, c, *template, e);
}

#define FILES_MAX 256

/* "a.json,b.json" cut in place. */
static enum status split_files(char *text, struct prepare_source *sources, size_t *n,
                               const char *format, struct err *e)
{
    char *rest;
    *n = 0;
    for (char *at = strtok_r(text, ",", &rest); at; at = strtok_r(NULL, ",", &rest)) {
        if (*n == FILES_MAX) return err_set(e, ERR_CONFIG, "more than %d files", FILES_MAX);
        sources[(*n)++] = (struct prepare_source){.path = at, .format = format};
    }
    return *n ? OK : err_set(e, ERR_CONFIG, "no files are named");
}

static enum status prepare_named(const struct dataset_file_request *r, char *files, struct err *e)
{
    struct prepare_source sources[FILES_MAX];
    struct prepare_options o = {.sources = sources,
                                .max_length = r->max_length,
                                .threads = r->threads,
                                .kind = PREPARE_ANY_KIND};
    struct tokenizer *tokenizer = NULL;
    TRY(split_files(files, sources, &o.num_sources, r->format, e));
    for (size_t i = 0; i < o.num_sources; i++)
        if (io_same(sources[i].path, r->out)) {
            err_set(e, ERR_CONFIG, "%s is the data itself", r->out);
            return err_hint(e, "give another --out");
        }
    if (r->template) TRY(chat_template_named(r->template, &o.template, e));
    enum status s = tokenizer_open(&tokenizer, r->tokenizer, e);
    o.tokenizer = tokenizer;
    if (!s) s = prepare_at(r->watcher, &o, r->out, 0, e);
    tokenizer_close(tokenizer);
    template_close(o.template);
    return s;
}

enum status dataset_prepare_file(const struct dataset_file_request *r, struct err *e)
{
    char *files = mem_strdup(r->files);
    if (!files) return err_set(e, ERR_MEMORY, "no memory for the list of files");
    enum status s = prepare_named(r, files, e);
    mem_free(files);
    return s;
}

/* --- files to be read once --- */

static enum status open_temporary(struct store **out, const struct dataset_files_request *r,
                                  const struct prepare_options *o, const char *dir, struct err *e)
{
    char path[IO_PATH_MAX];
    TRY(io_join(path, sizeof path, dir, "data.h5", e));
    TRY(prepare_at(r->watcher, o, path, 0, e));
    return store_open(out, path, e);
}

static enum status open_named(struct store **out, const struct dataset_files_request *r,
                              char *files, struct err *e)
{
    char dir[IO_PATH_MAX];
    const char *parent = getenv("TMPDIR");
    struct err ignored = {0};
    struct prepare_source sources[FILES_MAX];
    struct prepare_options o = {.sources = sources,
                                .tokenizer = r->tokenizer,
                                .template = r->template,
                                .kind = PREPARE_ANY_KIND};
    TRY(split_files(files, sources, &o.num_sources, r->format, e));
    if (o.num_sources == 1 && is_prepared(sources[0].path))
        return open_prepared(out, sources[0].path, r->tokenizer, r->template, NULL, e);
    for (size_t i = 0; i < o.num_sources; i++)
        if (is_prepared(sources[i].path))
            return err_set(e, ERR_CONFIG, "%s: a prepared file cannot be mixed with others",
                           sources[i].path);
    TRY(io_join(dir, sizeof dir, parent && *parent ? parent : "/tmp", "cria-XXXXXX", e));
    if (!mkdtemp(dir)) return err_errno(e, "%s", dir);
    enum status s = open_temporary(out, r, &o, dir, e);
    if (io_remove_tree(dir, &ignored) && !s) return err_set(e, ignored.code, "%s", ignored.message);
    return s;
}

enum status dataset_open_files(struct store **out, const struct dataset_files_request *r,
                               struct err *e)
{
    *out = NULL;
    char *files = mem_strdup(r->files);
    if (!files) return err_set(e, ERR_MEMORY, "no memory for the list of files");
    enum status s = open_named(out, r, files, e);
    mem_free(files);
    return s;
}

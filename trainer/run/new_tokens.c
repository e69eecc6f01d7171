#include "run/new_tokens.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "run/dataset.h"
#include "run/sidecar.h"

#define TOKENIZER_FILE "tokenizer.json"
#define NEW_MAX 16
#define SPELLING_MAX 64

struct missing {
    const struct tokenizer *tokenizer;
    char names[NEW_MAX][SPELLING_MAX];
    int count;
    char template[SPELLING_MAX]; /* the first that needs one */
};

/* Too long or too many: left to whoever uses the template, who refuses it. */
static enum status note_missing(void *context, const char *name, size_t n, struct err *e)
{
    struct missing *m = context;
    char *spelling = m->count < NEW_MAX ? m->names[m->count] : NULL;
    int own = n == 3 && (!memcmp(name, "bos", 3) || !memcmp(name, "eos", 3));
    (void)e;
    if (own || !spelling || n >= SPELLING_MAX) return OK;
    memcpy(spelling, name, n);
    spelling[n] = 0;
    if (tokenizer_find(m->tokenizer, spelling) >= 0) return OK;
    for (int i = 0; i < m->count; i++)
        if (!strcmp(m->names[i], spelling)) return OK;
    m->count++;
    return OK;
}

static enum status append_tokens(json_t *root, const struct missing *m, const char *path,
                                 struct err *e)
{
    json_t *added = json_object_get(root, "added_tokens");
    int32_t id = tokenizer_vocab_size(m->tokenizer);
    if (!added) json_object_set_new(root, "added_tokens", added = json_array());
    for (int i = 0; i < m->count; i++, id++) {
        json_t *token =
            json_pack("{s:i,s:s,s:b,s:b,s:b,s:b,s:b}", "id", (int)id, "content", m->names[i],
                      "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
        if (json_array_append_new(added, token))
            return err_set(e, ERR_MEMORY, "no memory to add tokens to %s", path);
    }
    return OK;
}

/* from/tokenizer.json with the tokens, as to/tokenizer.json. */
static enum status write_tokenizer(const char *from, const char *to, const struct missing *m,
                                   struct err *e)
{
    char path[IO_PATH_MAX];
    json_t *root;
    TRY(io_join(path, sizeof path, from, TOKENIZER_FILE, e));
    TRY(json_parse_file(path, &root, e));
    enum status s = append_tokens(root, m, path, e);
    if (!s) s = io_join(path, sizeof path, to, TOKENIZER_FILE, e);
    if (!s) s = json_write_file(root, path, e);
    json_decref(root);
    return s;
}

/* Every new token where it was put, or the model would learn others. */
static enum status check(const struct tokenizer *t, int32_t first, const struct missing *m,
                         struct err *e)
{
    for (int i = 0; i < m->count; i++)
        if (tokenizer_find(t, m->names[i]) != first + i)
            return err_set(e, ERR_FORMAT, "the tokenizer did not take the new token %s",
                           m->names[i]);
    return OK;
}

static enum status settle(const char *aside, const char *cache, const struct tokenizer *t,
                          char *out, size_t size, struct err *e)
{
    char name[HASH_HEX_SIZE + 16];
    snprintf(name, sizeof name, "tokenizer-%s", tokenizer_hash(t));
    TRY(io_join(out, size, cache, name, e));
    if (!io_is_dir(out) && rename(aside, out) && !io_is_dir(out)) return err_errno(e, "%s", out);
    return io_remove_tree(aside, e);
}

static enum status enlarge(struct new_tokens *n, struct tokenizer **tokenizer,
                           const struct config *c, const struct missing *m, struct err *e)
{
    char cache[IO_PATH_MAX], aside[IO_PATH_MAX], name[48];
    struct tokenizer *larger = NULL;
    snprintf(name, sizeof name, "tokenizer-%ld.tmp", (long)getpid());
    TRY(dataset_cache_dir(c, cache, sizeof cache, e));
    TRY(io_join(aside, sizeof aside, cache, name, e));
    TRY(io_remove_tree(aside, e));
    TRY(io_make_dirs(aside, e));
    enum status s = sidecar_copy_files(c->model_name_or_path, aside, e);
    if (!s) s = write_tokenizer(c->model_name_or_path, aside, m, e);
    if (!s) s = tokenizer_open(&larger, aside, e);
    if (!s) s = check(larger, n->first, m, e);
    if (!s) s = settle(aside, cache, larger, n->dir, sizeof n->dir, e);
    if (s) {
        struct err ignored = {0};
        tokenizer_close(larger);
        if (io_remove_tree(aside, &ignored)) return s; /* the next run's will, if this cannot */
        return s;
    }
    tokenizer_close(*tokenizer);
    *tokenizer = larger;
    return OK;
}

static enum status note_template(struct missing *m, const struct template *t, struct err *e)
{
    int before = m->count;
    TRY(template_specials(t, note_missing, m, e));
    if (m->count && !before) snprintf(m->template, sizeof m->template, "%s", t->name);
    return OK;
}

/* Those of the templates that datasets have for themselves. */
static enum status note_own(struct missing *m, const struct config *c, enum config_key key,
                            struct config_datasets list, struct err *e)
{
    for (size_t i = 0; i < list.n; i++) {
        const struct template *own;
        TRY(dataset_own_template(c, key, &list.items[i], &own, e));
        enum status s = own ? note_template(m, own, e) : OK;
        template_close(own);
        if (s) return s;
    }
    return OK;
}

static void tell(const struct new_tokens *n, const struct missing *m)
{
    char names[256] = "";
    size_t used = 0;
    for (int i = 0; i < m->count && used < sizeof names; i++)
        used +=
            (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", m->names[i]);
    log_notice("the tokenizer does not have %s of template %s: added, from id %d on", names,
               m->template, (int)n->first);
}

enum status new_tokens_open(struct new_tokens *n, struct tokenizer **out, const struct config *c,
                            const struct template *t, struct err *e)
{
    struct missing m = {0};
    char path[IO_PATH_MAX];
    *n = (struct new_tokens){0};
    TRY(io_join(path, sizeof path, c->model_name_or_path, TOKENIZER_FILE, e));
    snprintf(n->dir, sizeof n->dir, "%s", c->model_name_or_path);
    TRY(tokenizer_open(out, c->model_name_or_path, e));
    if (!t || c->add_special_tokens == CONFIG_ADD_NEVER) return OK;
    m.tokenizer = *out;
    TRY(note_template(&m, t, e));
    TRY(note_own(&m, c, KEY_datasets, c->datasets, e));
    TRY(note_own(&m, c, KEY_eval_dataset, c->eval_dataset, e));
    if (!m.count) return OK;
    if (io_file_size(path) < 0) {
        config_fail(c, KEY_template, e,
                    "%s needs the token %s, and the tokenizer has no %s to add "
                    "it to",
                    m.template, m.names[0], TOKENIZER_FILE);
        return err_hint(e, "use a template without special tokens (alpaca, vicuna), or convert the "
                           "tokenizer to tokenizer.json");
    }
    n->first = tokenizer_vocab_size(*out);
    TRY(enlarge(n, out, c, &m, e));
    n->count = m.count;
    tell(n, &m);
    return OK;
}

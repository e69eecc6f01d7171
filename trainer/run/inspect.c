#include "run/inspect.h"

#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "ckpt/peft.h"
#include "run/facts.h"
#include "run/mixture.h"
#include "run/html_data.h"

/* --- opening --- */

static int has_file(const char *dir, const char *name)
{
    char path[IO_PATH_MAX];
    struct err ignored = {0};
    return !io_join(path, sizeof path, dir, name, &ignored) && io_file_size(path) >= 0;
}

static enum status open_directory(struct inspection *in, struct err *e)
{
    const char *dir = in->options.path;
    if (in->options.tokenizer) {
        err_set(e, ERR_CONFIG, "%s is a directory: --tokenizer is for dataset files", dir);
        return err_hint(e, "a model's own tokenizer is looked at without being named");
    }
    if (has_file(dir, PEFT_CONFIG_FILE)) return inspect_adapter(dir, in->facts, e);
    if (has_file(dir, "config.json")) return inspect_model(dir, in->facts, e);
    err_set(e, ERR_CONFIG, "%s holds neither config.json nor " PEFT_CONFIG_FILE, dir);
    return err_hint(e, "give a dataset file (.h5), a config (.yaml), or the directory of a model "
                       "or an adapter");
}

/* What a run would evaluate on, beside what it would train on. */
static enum status put_held_out(struct inspection *in, const struct mix *m,
                                struct dataset_request r, struct err *e)
{
    struct store *store = NULL;
    struct audit eval = {0};
    if (!r.config->eval_dataset.n) return audit_held_out(&in->audit, m, NULL, in->facts, e);
    r.key = KEY_eval_dataset;
    enum status s = dataset_open(&store, &r, e);
    if (!s) s = audit_open(&eval, store, in->audit.max_length, in->audit.pieces, e);
    if (!s) s = audit_held_out(&in->audit, m, &eval, in->facts, e);
    audit_free(&eval);
    store_close(store);
    return s;
}

/* What a run would take of each source. */
static enum status put_mixture(struct inspection *in, struct dataset_request r, struct err *e)
{
    struct mix mix;
    TRY(mixture_make(&mix, in->options.config, in->store, e));
    enum status s = OK;
    if (json_object_set_new(in->facts, "mixture", mixture_json(&mix, in->store)))
        s = err_set(e, ERR_MEMORY, "no memory for the facts");
    if (!s) s = put_held_out(in, &mix, r, e);
    mix_free(&mix);
    return s;
}

static enum status open_config(struct inspection *in, struct err *e)
{
    const struct config *c = in->options.config;
    const struct template *template = NULL;
    TRY(config_require(c, KEY_datasets, e));
    TRY(config_require(c, KEY_output_dir, e));
    enum status s = dataset_tools(c, &in->tokenizer, &template, e);
    struct dataset_request r = {c, KEY_datasets, in->tokenizer, template, in->options.watcher};
    if (!s) s = dataset_open(&in->store, &r, e);
    if (!s) s = inspect_dataset(in, e);
    if (!s) s = put_mixture(in, r, e);
    template_close(template);
    return s;
}

static int is_raw(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && (!strcmp(dot, ".json") || !strcmp(dot, ".jsonl")) && io_file_size(path) >= 0;
}

static enum status open_file(struct inspection *in, struct err *e)
{
    const struct inspect_options *o = &in->options;
    if (is_raw(o->path)) {
        err_set(e, ERR_CONFIG, "%s is a raw data file: it has no tokens yet", o->path);
        return err_hint(e, "inspect the config that names it, or what cria prepare makes of it");
    }
    TRY(store_open(&in->store, o->path, e));
    if (o->tokenizer) {
        TRY(tokenizer_open(&in->tokenizer, o->tokenizer, e));
        struct store_settings want = {
            .tokenizer_hash = tokenizer_hash(in->tokenizer), .tokenize_whole = -1, .kind = -1};
        TRY(store_expect(in->store, &want, e));
    }
    return inspect_dataset(in, e);
}

enum status inspect_open(struct inspection *in, const struct inspect_options *o, struct err *e)
{
    *in = (struct inspection){.options = *o, .facts = json_object()};
    if (!in->facts) return err_set(e, ERR_MEMORY, "no memory to inspect");
    if (o->config) return open_config(in, e);
    return io_is_dir(o->path) ? open_directory(in, e) : open_file(in, e);
}

void inspect_close(struct inspection *in)
{
    json_decref(in->facts);
    audit_free(&in->audit);
    store_close(in->store);
    tokenizer_close(in->tokenizer);
    *in = (struct inspection){0};
}

/* --- showing --- */

static const char *fact(const struct inspection *in, const char *key)
{
    const char *text = json_string_value(json_object_get(in->facts, key));
    return text ? text : "";
}

enum status inspect_text(struct inspection *in, const struct inspect_look *look, struct buf *out,
                         struct err *e)
{
    const char *path = fact(in, "path");
    enum status s = buf_printf(out, "%s ", fact(in, "kind"));
    if (!s) s = text_for_terminal(path, strlen(path), out);
    if (!s) s = buf_putc(out, '\n');
    if (!s) s = facts_text(in->facts, out);
    if (s) return err_set(e, s, "no room for the text");
    return in->store ? inspect_documents_text(in, look, out, e) : OK;
}

/* The facts; of a dataset prepare's account, of records, behind those of its documents. */
static void write_facts(struct html *h, const struct inspection *in)
{
    const char *text = in->store ? store_info(in->store)->report : "{}";
    json_t *report = NULL;
    struct err ignored = {0};
    if (json_parse_text(text, strlen(text), "report", &report, &ignored)) report = NULL;
    facts_html(h, in->facts);
    if (json_is_object(json_object_get(report, "total"))) {
        json_object_del(json_object_get(report, "total"), "lengths"); /* the facts have them */
        html_section(h, "records");
        html_data(h, report);
        html_close(h);
    }
    json_decref(report);
}

enum status inspect_html(struct inspection *in, const char *path, struct err *e)
{
    struct html h;
    const char *slash = strrchr(fact(in, "path"), '/');
    enum status s = OK;
    html_begin(&h, slash && slash[1] ? slash + 1 : fact(in, "path"), in->store ? HTML_SEARCH : 0);
    html_put(&h, "<p class=faint>");
    html_string(&h, fact(in, "kind"));
    html_put(&h, " <bdi>");
    html_string(&h, fact(in, "path"));
    html_put(&h, "</bdi></p>\n");
    write_facts(&h, in);
    if (in->store) s = inspect_documents_html(in, &h, e);
    if (!s) s = html_end(&h, e);
    if (!s) s = io_write_file(path, h.text.data, h.text.len, e);
    html_free(&h);
    return s;
}

enum status inspect_json(struct inspection *in, struct buf *out, struct err *e)
{
    json_t *all = json_copy(in->facts), *shown = json_array();
    enum status s = all && shown ? OK : err_set(e, ERR_MEMORY, "no memory for the JSON form");
    if (!s && in->store) {
        s = inspect_documents_json(in, shown, e);
        json_object_set(all, "shown", shown);
    }
    if (!s) s = json_append_text(all, out, e);
    json_decref(all);
    json_decref(shown);
    return s;
}

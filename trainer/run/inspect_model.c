/* Of a model or adapter directory: what it computes, what it weighs, which text it speaks. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/size.h"
#include "ckpt/peft.h"
#include "model/hf_config.h"
#include "run/facts.h"
#include "run/inspect.h"
#include "run/sidecar.h"

/* Sets a member; a value that could not be made or kept is a lack of memory. */
static enum status put(json_t *o, const char *key, json_t *v, struct err *e)
{
    return json_object_set_new(o, key, v) ? err_set(e, ERR_MEMORY, "no memory for the facts") : OK;
}

/* What could not be looked at, in words, instead of failing: a directory without weights is fine.
 */
static enum status put_trouble(json_t *o, const char *key, const struct err *why, struct err *e)
{
    char text[1024];
    err_format(why, text, sizeof text);
    return put(o, key, json_string(text), e);
}

/* --- config.json --- */

static void rope_text(const struct rope_config *r, char *out, size_t size)
{
    static const char *const kinds[] = {"default", "linear", "llama3"};
    int n = snprintf(out, size, "%s, theta %g", kinds[r->kind], r->theta);
    if (r->kind != ROPE_DEFAULT) n += snprintf(out + n, size - (size_t)n, ", factor %g", r->factor);
    if (r->kind == ROPE_LLAMA3)
        snprintf(out + n, size - (size_t)n, " over %lld", (long long)r->original_positions);
}

static enum status put_config(json_t *facts, const struct model_config *c, struct err *e)
{
    char rope[128];
    rope_text(&c->rope, rope, sizeof rope);
    json_t *o =
        json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:f, s:b, s:b}", "family",
                  c->family->name, "layers", (int)c->num_layers, "hidden", (int)c->hidden_size,
                  "feed_forward", (int)c->intermediate_size, "heads", (int)c->num_heads,
                  "key_heads", (int)c->num_kv_heads, "head_size", (int)c->head_dim, "vocabulary",
                  (int)c->vocab_size, "positions", (int)c->max_positions, "rope", rope, "norm_eps",
                  c->norm_eps, "tied_head", c->tied, "qkv_bias", c->qkv_bias);
    if (o && c->window) json_object_set_new(o, "window", json_integer(c->window));
    return put(facts, "config", o, e);
}

/* --- weights --- */

/* part of a name, what it is; the first that fits */
static const struct {
    const char *part, *kind;
} kinds[] = {
    {"embed_tokens", "embedding"},
    {"lm_head", "head"},
    {"lora_", "adapter"},
    {"norm", "norm"},
    {".bias", "bias"},
    {"self_attn", "attention"},
    {"mlp", "feed forward"},
    {"", "other"},
};
#define NUM_KINDS (sizeof kinds / sizeof *kinds)

struct tally {
    int64_t tensors, parameters, bytes;
    unsigned types; /* bit per enum file_type */
};

static size_t kind_of(const char *name)
{
    size_t k = 0;
    while (!strstr(name, kinds[k].part)) k++;
    return k;
}

static void type_names(unsigned types, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (int t = 0; t < 32 && used < size; t++)
        if (types >> t & 1)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "",
                                     file_type_name((enum file_type)t));
}

static json_t *tally_row(const char *kind, const struct tally *t, int64_t all)
{
    char types[128], bytes[32];
    type_names(t->types, types, sizeof types);
    return json_pack("{s:s, s:I, s:I, s:f, s:s, s:s}", "kind", kind, "tensors",
                     (json_int_t)t->tensors, "parameters", (json_int_t)t->parameters, "percent",
                     all ? 100.0 * (double)t->parameters / (double)all : 0.0, "size",
                     text_bytes((double)t->bytes, bytes), "type", types);
}

static void add(struct tally *to, const struct tally *one)
{
    to->tensors += one->tensors;
    to->parameters += one->parameters;
    to->bytes += one->bytes;
    to->types |= one->types;
}

static int64_t count_tensors(const struct tensor_files *f, struct tally tallies[NUM_KINDS],
                             struct tally *all)
{
    for (size_t i = 0; i < tensor_files_count(f); i++) {
        const struct tensor_info *t = tensor_files_at(f, i);
        struct tally one = {1, (int64_t)t->count, (int64_t)(t->count * file_type_size(t->type)),
                            1u << t->type};
        add(&tallies[kind_of(t->name)], &one);
        add(all, &one);
    }
    return all->parameters;
}

static enum status put_weights(json_t *facts, const struct tensor_files *f, int64_t expected,
                               struct err *e)
{
    struct tally tallies[NUM_KINDS] = {{0}}, all = {0};
    int64_t n = count_tensors(f, tallies, &all);
    json_t *rows = json_array();
    for (size_t k = 0; k < NUM_KINDS; k++)
        if (tallies[k].tensors)
            json_array_append_new(rows, tally_row(kinds[k].kind, &tallies[k], n));
    json_array_append_new(rows, tally_row("all", &all, n));
    if (mem_failed()) {
        json_decref(rows);
        return err_set(e, ERR_MEMORY, "no memory for the facts");
    }
    TRY(put(facts, "parameters", json_integer(n), e));
    if (expected && expected != n) {
        char text[96];
        snprintf(text, sizeof text, "config.json makes %lld parameters, the files hold %lld",
                 (long long)expected, (long long)n);
        TRY(put(facts, "mismatch", json_string(text), e));
    }
    return put(facts, "weights", rows, e);
}

/* --- tokenizer and template --- */

static json_t *token(const struct tokenizer *t, int32_t id)
{
    struct buf text;
    struct err ignored = {0};
    char number[32];
    if (id < 0) return json_null();
    buf_init(&text, 4096);
    snprintf(number, sizeof number, " (%d)", (int)id);
    if (tokenizer_decode(t, &id, 1, 0, &text, &ignored) || buf_puts(&text, number))
        buf_clear(&text);
    json_t *o = json_stringn(text.data ? text.data : "", text.len);
    buf_free(&text);
    return o ? o : json_integer(id);
}

static enum status put_template(json_t *facts, const char *dir, const struct tokenizer *t,
                                struct err *e)
{
    struct sidecar sidecar;
    TRY(sidecar_read(&sidecar, dir, e));
    const struct template *known = NULL;
    if (t && tokenizer_chat_template(t))
        TRY(template_recognise(tokenizer_chat_template(t), &known, e));
    if (sidecar.template_name[0])
        return put(facts, "template", json_sprintf("%s, says cria.json", sidecar.template_name), e);
    if (known) return put(facts, "template", json_sprintf("%s, by its Jinja text", known->name), e);
    if (t && tokenizer_chat_template(t))
        return put(facts, "template",
                   json_string("its own Jinja text, which is none of cria's: name one with "
                               "--template or in the config, or describe it in a file "
                               "(data/template/TEMPLATES.md)"),
                   e);
    return put(facts, "template", json_string("none known"), e);
}

static enum status put_tokenizer(json_t *facts, const char *dir, struct err *e)
{
    struct tokenizer *t = NULL;
    struct err why = {0};
    enum status s = tokenizer_open(&t, dir, &why);
    if (s == ERR_MEMORY) return err_set(e, s, "no memory for the tokenizer");
    if (!s) {
        json_t *o = json_object();
        json_object_set_new(o, "vocabulary", json_integer(tokenizer_vocab_size(t)));
        json_object_set_new(o, "bos", token(t, tokenizer_bos(t)));
        json_object_set_new(o, "eos", token(t, tokenizer_eos(t)));
        json_object_set_new(o, "puts_bos_first", json_boolean(tokenizer_adds_bos(t)));
        json_object_set_new(o, "chat_template", json_boolean(tokenizer_chat_template(t) != NULL));
        json_object_set_new(o, "hash", json_string(tokenizer_hash(t)));
        s = mem_failed() ? err_set(e, ERR_MEMORY, "no memory for the facts")
                         : put_template(facts, dir, t, e);
        if (!s)
            s = put(facts, "tokenizer", o, e);
        else
            json_decref(o);
    } else {
        s = put_template(facts, dir, NULL, e);
        if (!s) s = put_trouble(facts, "tokenizer", &why, e);
    }
    tokenizer_close(t);
    return s;
}

enum status inspect_model(const char *dir, json_t *facts, struct err *e)
{
    struct model_config c = {0};
    struct tensor_files *f = NULL;
    struct err why = {0};
    TRY(model_config_read(&c, dir, e));
    enum status s = put(facts, "kind", json_string("model"), e);
    if (!s) s = put(facts, "path", json_string(dir), e);
    if (!s) s = put_config(facts, &c, e);
    if (!s) {
        s = tensor_files_open(&f, dir, &why);
        if (s == ERR_MEMORY)
            *e = why;
        else if (s)
            s = put_trouble(facts, "weights", &why, e);
        else
            s = put_weights(facts, f, model_config_parameters(&c), e);
    }
    if (!s) s = put_tokenizer(facts, dir, e);
    tensor_files_close(f);
    model_config_free(&c);
    return s;
}

/* --- adapters --- */

/* out[i][j] = sum over k of x[i,k] x[j,k] (rows of [r, n]) or of x[k,i] x[k,j] (columns of [n, r]).
 */
static void gram(const float *x, size_t r, size_t n, int columns, double *out)
{
    for (size_t i = 0; i < r; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++)
                sum += columns ? (double)x[k * r + i] * x[k * r + j]
                               : (double)x[i * n + k] * x[j * n + k];
            out[i * r + j] = out[j * r + i] = sum;
        }
}

/* ||B A|| by the r x r products: its square is the sum over (A A^T) * (B^T B). */
static enum status product_norm(const struct peft_adapter *a, const struct peft_module *m,
                                double *norm, struct err *e)
{
    size_t r = (size_t)a->config.r, most = size_max(m->a->count, m->b->count), square;
    if (size_mul(r, r, &square)) return err_set(e, ERR_SHAPE, "%s: r is too large", m->path);
    float *x = mem_calloc(most + 1, sizeof *x);
    double *aa = mem_calloc(square, sizeof *aa), *bb = mem_calloc(square, sizeof *bb);
    enum status s =
        x && aa && bb ? OK : err_set(e, ERR_MEMORY, "no memory for the norm of %s", m->path);
    if (!s) s = tensor_read_float(a->files, m->a, 0, m->a->count, x, e);
    if (!s) gram(x, r, m->a->count / r, 0, aa);
    if (!s) s = tensor_read_float(a->files, m->b, 0, m->b->count, x, e);
    if (!s) gram(x, r, m->b->count / r, 1, bb);
    double sum = 0;
    for (size_t i = 0; !s && i < square; i++) sum += aa[i] * bb[i];
    *norm = sqrt(sum > 0 || sum != sum ? sum : 0);
    mem_free(x);
    mem_free(aa);
    mem_free(bb);
    return s;
}

/* "model.layers.12.self_attn.q_proj" -> 12; -1: it lies in no layer. */
static int layer_of(const char *path)
{
    const char *at = strstr(path, "layers.");
    int layer = -1;
    return at && sscanf(at, "layers.%6d", &layer) == 1 ? layer : -1;
}

/* The row of that layer, made if there is none yet. */
static json_t *row_of(json_t *rows, const char *path)
{
    int layer = layer_of(path);
    json_t *name = layer >= 0 ? json_integer(layer) : json_string(path), *row;
    size_t i;
    json_array_foreach(rows, i, row) if (json_equal(json_object_get(row, "layer"), name))
    {
        json_decref(name);
        return row;
    }
    row = json_pack("{s:o}", "layer", name);
    json_array_append_new(rows, row);
    return row;
}

static int by_layer(const void *a, const void *b)
{
    int x = layer_of((*(const struct peft_module *const *)a)->path);
    int y = layer_of((*(const struct peft_module *const *)b)->path);
    return (x > y) - (x < y);
}

static enum status put_norms(json_t *facts, const struct peft_adapter *a, struct err *e)
{
    double scale = fabs(peft_scale(&a->config)), largest = 0;
    json_t *rows = json_array();
    const struct peft_module **order = mem_calloc(a->num_modules + 1, sizeof *order);
    enum status s = rows && order ? OK : err_set(e, ERR_MEMORY, "no memory for the norms");
    for (size_t i = 0; !s && i < a->num_modules; i++) order[i] = &a->modules[i];
    if (!s) qsort(order, a->num_modules, sizeof *order, by_layer);
    for (size_t i = 0; !s && i < a->num_modules; i++) {
        double norm = 0;
        const char *path = order[i]->path, *dot = strrchr(path, '.');
        s = product_norm(a, order[i], &norm, e);
        if (s) break;
        if (!(scale * norm <= largest)) largest = scale * norm;
        json_object_set_new(row_of(rows, path), dot ? dot + 1 : path, facts_real(scale * norm));
    }
    mem_free(order);
    if (!s && mem_failed()) s = err_set(e, ERR_MEMORY, "no memory for the norms");
    if (!s && largest == 0)
        s = put(facts, "note", json_string("every B is 0: it changes nothing yet"), e);
    if (!s) return put(facts, "norm_of_scaled_BA", rows, e);
    json_decref(rows);
    return s;
}

static enum status put_adapter(json_t *facts, const struct peft_adapter *a, struct err *e)
{
    const struct peft_config *c = &a->config;
    json_t *o = json_pack("{s:s?, s:i, s:f, s:f, s:b, s:f, s:I, s:O}", "base", c->base_model, "r",
                          (int)c->r, "alpha", c->lora_alpha, "scale", peft_scale(c), "rslora",
                          c->use_rslora, "dropout", c->lora_dropout, "modules",
                          (json_int_t)a->num_modules, "targets", c->target_modules);
    return put(facts, "adapter", o, e);
}

enum status inspect_adapter(const char *dir, json_t *facts, struct err *e)
{
    struct peft_adapter a = {0};
    enum status s = peft_open(&a, dir, e);
    if (!s) s = put(facts, "kind", json_string("adapter"), e);
    if (!s) s = put(facts, "path", json_string(dir), e);
    if (!s) s = put_adapter(facts, &a, e);
    if (!s) s = put_weights(facts, a.files, 0, e);
    if (!s) s = put_norms(facts, &a, e);
    if (!s) s = put_tokenizer(facts, dir, e);
    peft_close(&a);
    return s;
}

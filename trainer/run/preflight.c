#include "run/preflight.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"
#include "ckpt/safetensors.h"
#include "run/session.h"

static const struct {
    const char *name, *text;
} kinds[NUM_PREFLIGHT_KINDS] = {
#define X(name, text) {#name, text},
    PREFLIGHT_TABLE(X)
#undef X
};

const char *preflight_name(enum preflight_kind k) { return kinds[k].name; }

/* --- what is being collected --- */

struct tally {
    int64_t count, first[PREFLIGHT_EXAMPLES];
};

struct scan {
    struct session *s;
    struct tally tally[NUM_PREFLIGHT_KINDS];
    int64_t *seen_in; /* [V] 1 + the first document that holds this special token; 0: none */
    int32_t *ids;     /* [room] */
    float *weights;
    int64_t room;
};

static void note(struct tally *t, int64_t document)
{
    if (t->count < PREFLIGHT_EXAMPLES) t->first[t->count] = document;
    t->count++;
}

/* --- the documents --- */

static int is_end(const struct session *s, int32_t id)
{
    const int32_t *ends;
    size_t n = encoder_end_ids(s->encoder, &ends);
    for (size_t i = 0; i < n; i++)
        if (ends[i] == id) return 1;
    return 0;
}

/* White space may follow the end token. */
static int ends_with_end(const struct scan *c, int64_t start, int64_t end)
{
    for (int64_t i = end - 1; i >= start; i--)
        if (is_end(c->s, c->ids[i])) return 1;
    return 0;
}

/* Every stretch of trained ids must hold an end token; the last one may have lost it to the cut. */
static void check_ends(struct scan *c, int64_t document, int64_t n, int cut)
{
    int open = 0, missing = 0;
    for (int64_t i = 0; i < n; i++) {
        int trained = c->weights[i] != 0;
        if (!trained && open) missing = 1;
        if (!trained) open = 0;
        if (trained && is_end(c->s, c->ids[i]))
            open = -1; /* closed: what follows in this stretch belongs to it */
        else if (trained && !open)
            open = 1;
        if (open < 0 && i + 1 < n && c->weights[i + 1] == 0) open = 0;
    }
    if (missing || (open > 0 && !cut))
        note(&c->tally[PREFLIGHT_unlabelled_end], document);
    else if (open > 0)
        note(&c->tally[PREFLIGHT_end_cut_off], document);
}

/* The same for the replies of a preference, each of which is cut for itself. */
static void check_replies(struct scan *c, int64_t document, int64_t n)
{
    const struct store_info *info = store_info(c->s->store);
    int64_t prompt = info->chosen[document], ends[] = {info->rejected[document], n};
    int64_t starts[] = {prompt, info->rejected[document]};
    int unlabelled = 0, cut = 0;
    for (int i = 0; i < 2; i++) {
        int64_t length = ends[i] - starts[i];
        if (!length) continue;
        if (prompt + length > c->s->config->max_length)
            cut = 1;
        else
            unlabelled |= !ends_with_end(c, starts[i], ends[i]);
    }
    if (unlabelled)
        note(&c->tally[PREFLIGHT_unlabelled_end], document);
    else if (cut)
        note(&c->tally[PREFLIGHT_end_cut_off], document);
}

static enum status check_document(struct scan *c, int64_t document, struct err *e)
{
    struct session *s = c->s;
    const struct store_info *info = store_info(s->store);
    int64_t length = info->offsets[document + 1] - info->offsets[document];
    int64_t n = s->aligns || length < s->config->max_length ? length : s->config->max_length;
    int32_t bos = tokenizer_bos(s->tokenizer);
    if (n > c->room) {
        int32_t *ids = mem_resize(c->ids, (size_t)n, sizeof *ids);
        if (ids) c->ids = ids;
        float *weights = mem_resize(c->weights, (size_t)n, sizeof *weights);
        if (weights) c->weights = weights;
        if (!ids || !weights) return err_set(e, ERR_MEMORY, "no memory to look at the documents");
        c->room = n;
    }
    TRY(store_read(s->store, document, n, c->ids, c->weights, e));
    if (n > 1 && bos >= 0 && c->ids[0] == bos && c->ids[1] == bos)
        note(&c->tally[PREFLIGHT_doubled_bos], document);
    if (s->aligns)
        check_replies(c, document, n);
    else if (length == n || s->config->stage != CONFIG_STAGE_PT) /* else its last piece has it */
        check_ends(c, document, n, length > n);
    for (int64_t i = 0; i < n; i++)
        if (c->ids[i] < s->model.vocab_size && !c->seen_in[c->ids[i]] &&
            tokenizer_is_special(s->tokenizer, c->ids[i]))
            c->seen_in[c->ids[i]] = document + 1;
    s->preflight.checked++;
    return OK;
}

static enum status check_documents(struct scan *c, struct err *e)
{
    struct session *s = c->s;
    const struct loader_report *r = loader_report(s->train_loader);
    const struct loader_subset *part = &s->mix.train;
    int64_t n = part->documents ? part->num_documents : store_info(s->store)->num_documents;
    int64_t dropped = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t document = part->documents ? part->documents[i] : i;
        if (dropped < r->dropped_documents && r->dropped[dropped] == document) {
            note(&c->tally[PREFLIGHT_nothing_to_learn], document);
            dropped++;
            continue;
        }
        TRY(check_document(c, document, e));
    }
    return OK;
}

/* --- rows that were never trained --- */

struct rows {
    struct tensor_files *files;
    const struct tensor_info *table;
    int32_t V, C;
    float *row, *other; /* [C] */
    double typical;     /* norm of an ordinary row */
};

static enum status read_row(const struct rows *r, int32_t id, float *out, struct err *e)
{
    return tensor_read_float(r->files, r->table, (size_t)id * (size_t)r->C, (size_t)r->C, out, e);
}

static double norm(const float *x, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sqrt(sum);
}

/* The mean norm of rows spread over the first half of the table, where ordinary tokens are. */
static enum status find_typical(struct rows *r, struct err *e)
{
    enum { SAMPLES = 16 };
    int32_t step = r->V / 2 / SAMPLES > 0 ? r->V / 2 / SAMPLES : 1, n = 0;
    for (int32_t id = step; id < r->V && n < SAMPLES; id += step, n++) {
        TRY(read_row(r, id, r->row, e));
        r->typical += norm(r->row, r->C);
    }
    if (n) r->typical /= n;
    return OK;
}

/* Nearly nothing beside an ordinary row, or the same as the row beside it: what initialisation
 * leaves behind, training does not. */
static enum status is_untrained(const struct rows *r, int32_t id, const char **why, struct err *e)
{
    *why = NULL;
    TRY(read_row(r, id, r->row, e));
    if (norm(r->row, r->C) < 1e-3 * r->typical) *why = "is all but zero";
    for (int32_t beside = id - 1; !*why && beside <= id + 1; beside += 2) {
        if (beside < 0 || beside >= r->V) continue;
        TRY(read_row(r, beside, r->other, e));
        if (!memcmp(r->row, r->other, (size_t)r->C * sizeof(float)))
            *why = "is the same as its neighbour's";
    }
    return OK;
}

static struct preflight_finding *add_finding(struct scan *c, enum preflight_kind kind,
                                             const struct tally *t)
{
    struct preflight *p = &c->s->preflight;
    if (p->count == PREFLIGHT_FINDINGS_MAX) return NULL;
    struct preflight_finding *f = &p->findings[p->count++];
    size_t used = 0;
    int64_t shown = t->count < PREFLIGHT_EXAMPLES ? t->count : PREFLIGHT_EXAMPLES;
    *f = (struct preflight_finding){.kind = kind, .documents = t->count};
    snprintf(f->what, sizeof f->what, "%lld %s", (long long)t->count, kinds[kind].text);
    for (int64_t i = 0; i < shown; i++) {
        char one[128];
        loader_describe(c->s->train_loader, t->first[i], one, sizeof one);
        used +=
            (size_t)snprintf(f->where + used, sizeof f->where - used, "%s%s", i ? "; " : "", one);
    }
    if (t->count > shown) snprintf(f->where + used, sizeof f->where - used, "; ...");
    return f;
}

static enum status report_row(struct scan *c, int32_t id, const char *table, const char *why,
                              struct err *e)
{
    struct tally first = {1, {c->seen_in[id] - 1}};
    struct buf text;
    struct preflight_finding *f = add_finding(c, PREFLIGHT_untrained_token, &first);
    if (!f) return OK;
    buf_init(&text, sizeof f->what);
    enum status status = tokenizer_decode(c->s->tokenizer, &id, 1, 0, &text, e);
    int lora = c->s->config->finetuning == CONFIG_LORA;
    snprintf(f->what, sizeof f->what,
             "the base model has never learned %s (id %d): its row of %s %s%s",
             text.data ? text.data : "a special token", (int)id, table, why,
             lora ? ", and LoRA does not train it" : "; this run trains it");
    snprintf(f->hint, sizeof f->hint, "%s",
             lora ? "name it in trainable_tokens, or use a template whose tokens the base knows "
                    "(alpaca, vicuna), the instruct model as base, or finetuning: full"
                  : "");
    buf_free(&text);
    return status;
}

/* By trainable_tokens, or since it was added. */
static int is_trained_alone(const struct session *s, int32_t id)
{
    for (size_t i = 0; i < s->num_trained_tokens; i++)
        if (s->trained_tokens[i] == id) return 1;
    return 0;
}

static enum status check_table(struct scan *c, struct rows *r, const char *name, struct err *e)
{
    r->table = tensor_files_find(r->files, name);
    r->typical = 0;
    TRY(tensor_expect(r->files, r->table, name, 2, (int64_t[]){r->V, r->C}, e));
    TRY(find_typical(r, e));
    for (int32_t id = 0; id < r->V; id++) {
        const char *why = NULL;
        if (c->seen_in[id] && !is_trained_alone(c->s, id)) TRY(is_untrained(r, id, &why, e));
        if (why) TRY(report_row(c, id, name, why, e));
    }
    return OK;
}

static enum status check_rows(struct scan *c, struct err *e)
{
    const struct model_config *m = &c->s->model;
    int32_t rows = c->s->new_tokens.base_vocab ? c->s->new_tokens.base_vocab : m->vocab_size;
    struct rows r = {.V = rows, .C = m->hidden_size};
    if (c->s->absent.weights || c->s->config->random_weights) return OK;
    r.row = mem_calloc((size_t)r.C, 2 * sizeof *r.row);
    r.other = r.row ? r.row + r.C : NULL;
    enum status status = r.row ? OK : err_set(e, ERR_MEMORY, "no memory for a row of weights");
    if (!status) status = tensor_files_open(&r.files, c->s->config->model_name_or_path, e);
    if (!status) status = check_table(c, &r, WEIGHT_EMBEDDING, e);
    if (!status && !m->tied) status = check_table(c, &r, WEIGHT_HEAD, e);
    tensor_files_close(r.files);
    mem_free(r.row);
    return status;
}

/* --- all of it --- */

static const char *hint_of(enum preflight_kind kind)
{
    switch (kind) {
    case PREFLIGHT_nothing_to_learn: return "raise max_length, or take the documents out";
    case PREFLIGHT_doubled_bos: return "take the BOS out of the text of the records";
    case PREFLIGHT_unlabelled_end: return "prepare the data with cria prepare";
    case PREFLIGHT_end_cut_off: return "raise max_length, or split long documents";
    case PREFLIGHT_untrained_token:
    case NUM_PREFLIGHT_KINDS: break;
    }
    return "";
}

static void report_tallies(struct scan *c)
{
    for (int k = 0; k < PREFLIGHT_untrained_token; k++) {
        if (!c->tally[k].count) continue;
        struct preflight_finding *f = add_finding(c, (enum preflight_kind)k, &c->tally[k]);
        if (f) snprintf(f->hint, sizeof f->hint, "%s", hint_of((enum preflight_kind)k));
    }
}

enum status preflight_run(struct preflight *p, struct session *s, struct err *e)
{
    struct scan c = {.s = s};
    *p = (struct preflight){0};
    if (!s->train_loader) return OK;
    p->findings = mem_calloc(PREFLIGHT_FINDINGS_MAX, sizeof *p->findings);
    c.seen_in = mem_calloc((size_t)s->model.vocab_size, sizeof *c.seen_in);
    enum status status = p->findings && c.seen_in
                             ? OK
                             : err_set(e, ERR_MEMORY, "no memory to look at the documents");
    if (!status) status = check_documents(&c, e);
    if (!status) report_tallies(&c);
    if (!status) status = check_rows(&c, e);
    mem_free(c.seen_in);
    mem_free(c.ids);
    mem_free(c.weights);
    return status;
}

void preflight_free(struct preflight *p)
{
    mem_free(p->findings);
    *p = (struct preflight){0};
}

#include "run/evaluate.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/size.h"

#define TEXT_MAX ((size_t)1 << 26) /* bytes of a reply */

/* --- sources --- */

static enum status find_sources(struct evaluation *v, struct err *e)
{
    const struct store_info *info = store_info(v->store);
    int64_t line;
    if (info->num_sources < 2) return OK;
    v->source_of = mem_calloc((size_t)info->num_documents + 1, sizeof *v->source_of);
    if (!v->source_of) return err_set(e, ERR_MEMORY, "no memory to tell the sources apart");
    for (int64_t d = 0; d < info->num_documents; d++)
        TRY(store_origin(v->store, d, &v->source_of[d], &line, e));
    return OK;
}

enum status evaluation_init(struct evaluation *v, struct store *store, struct err *e)
{
    const struct store_info *info = store_info(store);
    *v = (struct evaluation){.num_sources = info->num_sources, .store = store};
    v->sources = mem_calloc(info->num_sources + 1, sizeof *v->sources);
    if (!v->sources) return err_set(e, ERR_MEMORY, "no memory for %zu sources", info->num_sources);
    for (size_t i = 0; i < info->num_sources; i++) v->sources[i].path = info->sources[i].path;
    return find_sources(v, e);
}

void evaluation_free(struct evaluation *v)
{
    mem_free(v->sources);
    mem_free(v->source_of);
    *v = (struct evaluation){0};
}

static struct evaluate_score *source_of(struct evaluation *v, int64_t document)
{
    return &v->sources[v->source_of ? v->source_of[document] : 0];
}

static void tell(const struct evaluate_watcher *w, const char *what, int64_t done, int64_t all)
{
    if (w && w->progress) w->progress(w->context, what, done, all);
}

/* --- loss --- */

static void add_targets(struct evaluate_score *s, const struct engine *g, const struct batch *b,
                        int32_t from, int32_t to)
{
    for (int32_t i = from; i < to; i++) {
        s->loss -= (double)b->weights[i] * g->host_floats[i];
        s->weight += b->weights[i];
        if (g->host_hits[i]) s->hits += b->weights[i];
    }
    s->num_tokens += to - from;
    s->documents++;
}

/* A document's targets lie together in a micro-batch, and a document (or piece of one) in one
 * micro-batch. */
static void add_batch(struct evaluation *v, const struct engine *g, const struct batch *b)
{
    for (int32_t from = 0, to; from < b->S; from = to) {
        int32_t document = b->documents[b->rows[from]], key = b->keys[b->rows[from]];
        for (to = from + 1; to < b->S && b->keys[b->rows[to]] == key; to++) continue;
        add_targets(&v->total, g, b, from, to);
        add_targets(source_of(v, document), g, b, from, to);
    }
}

enum status evaluate_loss(struct evaluation *v, struct engine *g, struct loader *loader,
                          const struct evaluate_watcher *watcher, struct err *e)
{
    const struct loader_report *r = loader_report(loader);
    for (int64_t k = 0; k < r->steps_per_epoch; k++) {
        struct loader_step plan;
        TRY(loader_step(loader, k, &plan, e));
        for (int32_t m = 0; m < plan.micro_batches; m++) {
            struct batch b;
            struct cross_entropy_sums sums = {0};
            TRY(loader_batch(loader, k, m, &b, e));
            TRY(engine_evaluate(g, &b, &sums, e));
            add_batch(v, g, &b);
        }
        tell(watcher, "loss", v->total.documents, r->documents);
    }
    v->has_loss = 1;
    if (isfinite(v->total.loss)) return OK;
    err_set(e, ERR_NUMERIC, "the loss is not a number");
    return err_hint(e, "the weights may be damaged, or the model diverged while it was trained");
}

/* --- preferences --- */

/* A record for itself, so that sources can be told apart. Losses that look at several at once see
 * one here; the total is of whole micro-batches. */
static void add_record(struct evaluation *v, struct align *a, const struct batch *b, int32_t i)
{
    struct preference_input one = a->input;
    struct evaluate_score *s = source_of(v, b->pairs[i].document);
    int64_t tokens = b->pairs[i].chosen.count + b->pairs[i].rejected.count;
    one.records = &a->records[i];
    one.num_records = 1;
    preference_run(&a->preference, NULL, &one, NULL, &s->preferences);
    s->num_tokens += tokens;
    s->documents++;
    v->total.num_tokens += tokens;
    v->total.documents++;
}

enum status evaluate_preferences(struct evaluation *v, struct engine *g, struct align *a,
                                 struct loader *loader, const struct evaluate_watcher *watcher,
                                 struct err *e)
{
    const struct loader_report *r = loader_report(loader);
    v->has_preferences = 1;
    for (int64_t k = 0; k < r->steps_per_epoch; k++) {
        struct loader_step plan;
        TRY(loader_step(loader, k, &plan, e));
        for (int32_t m = 0; m < plan.micro_batches; m++) {
            struct batch b;
            TRY(loader_batch(loader, k, m, &b, e));
            TRY(align_score(a, g, &b, NULL, &v->total.preferences, e));
            for (int32_t i = 0; i < b.num_pairs; i++) add_record(v, a, &b, i);
        }
        tell(watcher, "preferences", v->total.documents, r->documents);
    }
    return OK;
}

/* --- answers --- */

struct asking {
    struct evaluation *v;
    struct inference *f;
    struct sample document;
    struct id_list prompt;
    struct buf expected, got; /* as raw bytes: both made by tokenizer_token_bytes */
    int started;              /* got holds something besides white space */
    enum status failed;
};

static int is_space(char c) { return c && strchr(" \t\r\n\v\f", c); }

static void strip_end(struct buf *b)
{
    while (b->len && is_space(b->data[b->len - 1])) b->len--;
}

/* The last trained stretch, first ... end-1, if it is a reply's; a stretch of any other turn (plain
 * text, or everything trained) leaves nothing to ask. Of a preference the chosen reply. */
static int find_reply(const struct sample *s, size_t *first, size_t *end)
{
    int32_t role = ROLE_TEXT;
    size_t at = s->n;
    if (s->kind != KIND_SFT) {
        *first = (size_t)s->chosen;
        *end = (size_t)s->rejected;
        return *first > 0 && *first < *end;
    }
    while (at > 0 && s->weights[at - 1] == 0) at--;
    *end = at;
    while (at > 0 && s->weights[at - 1] != 0) at--;
    *first = at;
    for (size_t i = 0; i < s->num_turns && (size_t)s->turns[i].start <= at; i++)
        role = s->turns[i].role;
    return at > 0 && at < *end && role == ROLE_ASSISTANT;
}

/* Appends the token's bytes; white space before the first visible character is left out. */
static enum status append_token(const struct inference *f, int32_t id, struct buf *text)
{
    size_t before = text->len, skip = 0;
    TRY(tokenizer_token_bytes(f->tokenizer, id, 0, text));
    if (before) return OK;
    while (skip < text->len && is_space(text->data[skip])) skip++;
    if (skip) memmove(text->data, text->data + skip, text->len -= skip);
    return OK;
}

static int begins_with(const struct buf *text, const struct buf *start)
{
    return text->len >= start->len && !memcmp(text->data, start->data, start->len);
}

/* Goes on while what was generated may still become the expected text, or is that and may end. */
static int is_undecided(const struct asking *a)
{
    const struct buf *got = &a->got, *want = &a->expected;
    if (!got->len) return 1;
    if (!begins_with(got, want)) return begins_with(want, got);
    for (size_t i = want->len; i < got->len; i++)
        if (!is_space(got->data[i])) return 0;
    return 1;
}

static int on_token(void *context, int32_t id)
{
    struct asking *a = context;
    a->failed = append_token(a->f, id, &a->got);
    return a->failed || !is_undecided(a);
}

static enum status take_expected(struct asking *a, size_t first, size_t end, struct err *e)
{
    buf_clear(&a->expected);
    a->prompt.len = 0;
    enum status s = id_list_append(&a->prompt, a->document.ids, first);
    for (size_t i = first; !s && i < end; i++)
        if (!generate_is_stop(&a->f->generate, a->document.ids[i]))
            s = append_token(a->f, a->document.ids[i], &a->expected);
    if (!s) s = buf_append(&a->expected, "", 0);
    if (s) return err_set(e, s, "no memory for a reply");
    strip_end(&a->expected);
    return OK;
}

static enum status ask(struct asking *a, struct evaluate_score *s, struct err *e)
{
    enum generate_end end;
    buf_clear(&a->got);
    TRY(buf_append(&a->got, "", 0));
    TRY(inference_tokens(a->f, &a->prompt, 0, on_token, a, NULL, &end, e));
    if (a->failed) return err_set(e, a->failed, "no memory for an answer");
    strip_end(&a->got);
    int prefix = begins_with(&a->got, &a->expected);
    int exact = prefix && a->got.len == a->expected.len;
    struct evaluate_score *both[] = {&a->v->total, s};
    for (int i = 0; i < 2; i++) {
        both[i]->asked++;
        both[i]->exact += exact;
        both[i]->prefix += prefix;
    }
    return OK;
}

static enum status ask_document(struct asking *a, int64_t document, struct err *e)
{
    struct evaluate_score *s = source_of(a->v, document);
    size_t first, end;
    TRY(store_document(a->v->store, document, &a->document, e));
    if (!find_reply(&a->document, &first, &end)) {
        s->no_answer++, a->v->total.no_answer++;
        return OK;
    }
    if (first >= (size_t)a->f->engine.options.cache_rows) {
        s->too_long++, a->v->total.too_long++;
        return OK;
    }
    TRY(take_expected(a, first, end, e));
    return ask(a, s, e);
}

static enum status ask_all(struct asking *a, struct loader_subset subset,
                           const struct evaluate_watcher *watcher, struct err *e)
{
    const struct store_info *info = store_info(a->v->store);
    int64_t n = subset.documents ? subset.num_documents : info->num_documents;
    for (int64_t i = 0; i < n; i++) {
        TRY(ask_document(a, subset.documents ? subset.documents[i] : i, e));
        tell(watcher, "answers", i + 1, n);
    }
    if (a->v->total.asked) return OK;
    err_set(e, ERR_DATA, "%s: no document has a reply to ask for", store_path(a->v->store));
    return err_hint(e, "answers need conversations, with train_on: assistant or last, whose "
                       "prompts fit the context");
}

enum status evaluate_answers(struct evaluation *v, struct inference *f,
                             struct loader_subset documents, const struct evaluate_watcher *watcher,
                             struct err *e)
{
    struct asking a = {.v = v, .f = f};
    buf_init(&a.expected, TEXT_MAX);
    buf_init(&a.got, TEXT_MAX);
    v->has_match = 1;
    enum status s = ask_all(&a, documents, watcher, e);
    sample_free(&a.document);
    id_list_free(&a.prompt);
    buf_free(&a.expected);
    buf_free(&a.got);
    return s;
}

/* --- results --- */

double evaluate_mean_loss(const struct evaluate_score *s)
{
    return s->weight > 0 ? s->loss / s->weight : (double)NAN;
}

double evaluate_accuracy(const struct evaluate_score *s)
{
    return s->weight > 0 ? s->hits / s->weight : (double)NAN;
}

double evaluate_share(int64_t matched, int64_t asked)
{
    return asked ? (double)matched / (double)asked : (double)NAN;
}

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static int add_preferences(json_t *o, const struct evaluate_score *s)
{
    int bad = json_object_set_new(o, "loss", number(preference_loss_mean(&s->preferences)));
    for (int m = 0; m < NUM_PREFERENCE_METRICS; m++) {
        double value;
        if (!preference_metric(&s->preferences, (enum preference_metric)m, &value)) continue;
        bad |= json_object_set_new(o, preference_metric_name((enum preference_metric)m),
                                   number(value));
    }
    bad |= json_object_set_new(o, "num_tokens", json_integer(s->num_tokens));
    return bad | json_object_set_new(o, "documents", json_integer(s->documents));
}

static int add_score(json_t *o, const struct evaluation *v, const struct evaluate_score *s)
{
    int bad = 0;
    if (v->has_loss) {
        bad |= json_object_set_new(o, "loss", number(evaluate_mean_loss(s)));
        bad |= json_object_set_new(o, "perplexity", number(exp(evaluate_mean_loss(s))));
        bad |= json_object_set_new(o, "mean_token_accuracy", number(evaluate_accuracy(s)));
        bad |= json_object_set_new(o, "num_tokens", json_integer(s->num_tokens));
        bad |= json_object_set_new(o, "documents", json_integer(s->documents));
    }
    if (v->has_preferences) bad |= add_preferences(o, s);
    if (v->has_match) {
        bad |= json_object_set_new(o, "exact_match", number(evaluate_share(s->exact, s->asked)));
        bad |= json_object_set_new(o, "prefix_match", number(evaluate_share(s->prefix, s->asked)));
        bad |= json_object_set_new(o, "asked", json_integer(s->asked));
    }
    return bad;
}

enum status evaluation_json(const struct evaluation *v, json_t **out, struct err *e)
{
    json_t *o = json_object(), *list = json_array();
    int bad = !o || !list || add_score(o, v, &v->total);
    for (size_t i = 0; !bad && i < v->num_sources; i++) {
        json_t *one = json_pack("{s:s}", "path", v->sources[i].path);
        bad = !one || add_score(one, v, &v->sources[i]) || json_array_append(list, one);
        json_decref(one);
    }
    if (!bad) bad = json_object_set(o, "sources", list);
    json_decref(list);
    *out = bad ? NULL : o;
    if (!bad) return OK;
    json_decref(o);
    return err_set(e, ERR_MEMORY, "no memory for the evaluation's result");
}

/* Preference records in micro-batches: whatever the form, each target is predicted from the prompt
 * and the reply before it, read out of the segments as segment.h says rows see each other; every
 * kept record once an epoch; counts and limits against a plain count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/loader/loader.h"
#include "data/loader/split.h"
#include "data/store/store.h"

#define DOCUMENTS 61
#define LONGEST 90
#define CUT 30

static char folder[] = "/tmp/cria-pairs-XXXXXX";
static char paths[2][64];
static struct store *stores[2]; /* pairs, unpaired */

/* The records as they were made. */
static struct record {
    int32_t prompt, chosen, rejected; /* ids */
    int32_t ids[LONGEST];
} made[2][DOCUMENTS];

static uint32_t next(struct mt19937 *m, uint32_t below) { return mt19937_next(m) % below; }

static void make_record(struct record *r, int d, int unpaired, struct mt19937 *m)
{
    r->prompt = 1 + (int32_t)next(m, d % 9 == 0 ? CUT + 6 : CUT / 2); /* some too long */
    r->chosen = 1 + (int32_t)next(m, 24);
    r->rejected = 1 + (int32_t)next(m, 24);
    if (d % 7 == 3) r->prompt = 1;
    if (unpaired) *(next(m, 2) ? &r->chosen : &r->rejected) = 0;
    if (!unpaired && d % 8 == 5) { /* the same up to the cut and beyond */
        r->prompt = CUT - 4;
        r->chosen = 9;
        r->rejected = 8;
    }
    for (int32_t i = 0; i < LONGEST; i++) r->ids[i] = (int32_t)next(m, 500);
    if (!unpaired && d % 8 == 5)
        memcpy(r->ids + r->prompt + r->chosen, r->ids + r->prompt,
               (size_t)(d % 16 == 5 ? 8 : 3) * sizeof *r->ids);
}

static enum status write_store(int unpaired, struct err *e)
{
    struct store_settings settings = {.vocab_size = 500,
                                      .kind = unpaired ? KIND_UNPAIRED : KIND_PAIR};
    struct store_source source = {"a.jsonl", "a.jsonl", ""};
    struct store_writer *w;
    struct mt19937 m;
    mt19937_seed(&m, 5);
    TRY(store_writer_open(&w, paths[unpaired], &settings, &source, 1, e));
    enum status s = OK;
    for (int d = 0; d < DOCUMENTS && !s; d++) {
        struct record *r = &made[unpaired][d];
        float weights[LONGEST];
        make_record(r, d, unpaired, &m);
        struct sample x = {.ids = r->ids,
                           .weights = weights,
                           .n = (size_t)(r->prompt + r->chosen + r->rejected),
                           .kind = (enum record_kind)settings.kind,
                           .chosen = r->prompt,
                           .rejected = r->prompt + r->chosen,
                           .line = d + 1};
        for (size_t i = 0; i < x.n; i++) weights[i] = i >= (size_t)r->prompt;
        s = store_writer_append(w, &x, e);
    }
    if (!s) s = store_writer_commit(w, NULL, e);
    store_writer_close(w);
    return s ? s : store_open(&stores[unpaired], paths[unpaired], e);
}

static int setup(void **state)
{
    (void)state;
    struct err e = {0};
    if (!mkdtemp(folder)) return 1;
    for (int k = 0; k < 2; k++) {
        snprintf(paths[k], sizeof paths[k], "%s/%d.h5", folder, k);
        if (write_store(k, &e)) return 1;
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    struct err e = {0};
    for (int k = 0; k < 2; k++) store_close(stores[k]);
    return io_remove_tree(folder, &e) != OK;
}

/* ---- what must come of the records ---- */

static int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

/* Of a record after the cut; chosen and rejected 0 and prompt -1: dropped. */
struct kept {
    int32_t prompt, chosen, rejected;
    int identical;
};

static struct kept keep(const struct record *r)
{
    struct kept k = {r->prompt, 0, 0, 0};
    if (r->prompt >= CUT) return (struct kept){-1, 0, 0, 0};
    k.chosen = least(r->chosen, CUT - r->prompt);
    k.rejected = least(r->rejected, CUT - r->prompt);
    const int32_t *c = r->ids + r->prompt;
    k.identical = k.chosen && k.chosen == k.rejected &&
                  !memcmp(c, c + r->chosen, (size_t)k.chosen * sizeof *c);
    return k.identical ? (struct kept){-1, 0, 0, 1} : k;
}

/* The kept records in order; returns how many. */
static int kept_records(int unpaired, int *out)
{
    int n = 0;
    for (int d = 0; d < DOCUMENTS; d++)
        if (keep(&made[unpaired][d]).prompt > 0) out[n++] = d;
    return n;
}

/* Whose reply stands behind record d's prompt as a mismatch. */
static int partner_of(int unpaired, int d, int chunk)
{
    int kept[DOCUMENTS], n = kept_records(unpaired, kept), i = 0;
    while (kept[i] != d) i++;
    if (i % chunk) return kept[i - 1];
    return kept[least(i + chunk, n) - 1];
}

/* ---- reading a batch ---- */

/* The ids that a row sees, by position, itself last; returns how many. */
static int32_t seen_by(const struct batch *b, int32_t row, int32_t *out)
{
    int32_t k = 0;
    while (row >= b->segments[k].start + b->segments[k].length) k++;
    const struct segment *s = &b->segments[k];
    int32_t n = b->positions[row] + 1;
    for (int32_t i = 0; i < n; i++) out[i] = -1;
    for (int32_t j = 0; j < s->prefix_length; j++) {
        assert_int_equal(b->positions[s->prefix_start + j], j);
        assert_true(s->prefix_start + j < s->start);
        out[j] = b->ids[s->prefix_start + j];
    }
    for (int32_t c = s->start; c <= row; c++) {
        assert_int_equal(b->positions[c], s->position + c - s->start);
        assert_int_equal(out[b->positions[c]], -1);
        out[b->positions[c]] = b->ids[c];
    }
    return n;
}

/* The span predicts `ids`, the first of which has `before` ids of `text` before it. */
static void check_span(const struct batch *b, struct batch_span span, const int32_t *prompt,
                       int32_t before, const int32_t *ids, int32_t n, int64_t document)
{
    int32_t seen[2 * LONGEST];
    assert_int_equal(span.count, n);
    for (int32_t i = 0; i < n; i++) {
        int32_t row = b->rows[span.first + i];
        assert_int_equal(b->targets[span.first + i], ids[i]);
        assert_true(b->weights[span.first + i] == 1);
        assert_int_equal(b->documents[row], document);
        assert_int_equal(seen_by(b, row, seen), before + i);
        assert_memory_equal(seen, prompt, (size_t)before * sizeof *seen);
        if (i) assert_memory_equal(seen + before, ids, (size_t)i * sizeof *seen);
    }
}

static void check_pair(const struct batch *b, const struct batch_pair *p, int unpaired,
                       const struct loader_options *o)
{
    const struct record *r = &made[unpaired][p->document];
    struct kept k = keep(r);
    const int32_t *reply = r->ids + r->prompt;
    int32_t prompt_targets = o->with_prompt && k.chosen ? r->prompt - 1 : 0, mismatch = 0;
    check_span(b, p->chosen, r->ids, r->prompt, reply, k.chosen, p->document);
    check_span(b, p->rejected, r->ids, r->prompt, reply + r->chosen, k.rejected, p->document);
    assert_int_equal(p->prompt.count, prompt_targets);
    if (prompt_targets)
        check_span(b, p->prompt, r->ids, 1, r->ids + 1, prompt_targets, p->document);
    if (o->mismatch_chunk) {
        int other = partner_of(unpaired, (int)p->document, o->mismatch_chunk);
        const struct record *q = &made[unpaired][other];
        mismatch = least(q->chosen + q->rejected, CUT - r->prompt);
        assert_int_equal(p->partner, other);
        check_span(b, p->mismatch, r->ids, r->prompt, q->ids + q->prompt, mismatch, p->document);
    } else {
        assert_int_equal(p->partner, -1);
        assert_int_equal(p->mismatch.count, 0);
    }
}

/* Spans cover the supervised rows in order; rows of the batch belong to segments in order. */
static void check_cover(const struct batch *b)
{
    int32_t at = 0, row = 0;
    for (int32_t i = 0; i < b->num_pairs; i++) {
        const struct batch_pair *p = &b->pairs[i];
        const struct batch_span spans[] = {p->prompt, p->chosen, p->rejected, p->mismatch};
        for (int k = 0; k < 4; k++) {
            if (!spans[k].count) continue;
            assert_int_equal(spans[k].first, at);
            at += spans[k].count;
        }
    }
    assert_int_equal(at, b->S);
    for (int32_t s = 1; s < b->S; s++) assert_true(b->rows[s] > b->rows[s - 1]);
    for (int32_t i = 0; i < b->num_segments; i++) {
        const struct segment *s = &b->segments[i];
        int32_t step = s->document - (i ? s[-1].document : -1);
        assert_true(step == 1 || (step == 0 && i));
        assert_int_equal(s->start, row);
        assert_true(s->length > 0);
        row += s->length;
    }
    assert_int_equal(row, b->N);
}

/* ---- one form ---- */

struct seen {
    int times[DOCUMENTS];
    struct loader_limits most;
    int64_t tokens;
};

static void check_step(struct loader *l, int64_t step, int unpaired, const struct loader_options *o,
                       struct seen *seen)
{
    struct err e = {0};
    struct loader_step plan, sum = {0};
    assert_int_equal(loader_step(l, step, &plan, &e), OK);
    for (int32_t m = 0; m < plan.micro_batches; m++) {
        struct batch b;
        assert_int_equal(loader_batch(l, step, m, &b, &e), OK);
        check_cover(&b);
        assert_true(o->packing || b.num_pairs <= o->batch_size);
        for (int32_t i = 0; i < b.num_pairs; i++) {
            const struct record *r = &made[unpaired][b.pairs[i].document];
            struct kept k = keep(r);
            check_pair(&b, &b.pairs[i], unpaired, o);
            seen->times[b.pairs[i].document]++;
            sum.pairs++;
            sum.chosen += k.chosen > 0;
            sum.rejected += k.rejected > 0;
            sum.chosen_tokens += k.chosen;
            sum.prompt_tokens += k.chosen ? r->prompt - 1 : 0;
            sum.num_tokens += ((k.chosen > 0) + (k.rejected > 0)) * r->prompt;
            sum.num_tokens += k.chosen + k.rejected;
        }
        sum.weight += b.S;
        if (b.N > seen->most.max_rows) seen->most.max_rows = b.N;
        if (b.S > seen->most.max_supervised) seen->most.max_supervised = b.S;
        if (b.num_segments > seen->most.max_segments) seen->most.max_segments = b.num_segments;
        if (b.num_pairs > seen->most.max_pairs) seen->most.max_pairs = b.num_pairs;
    }
    seen->tokens += sum.num_tokens;
    sum.epoch = plan.epoch;
    sum.micro_batches = plan.micro_batches;
    assert_memory_equal(&plan, &sum, sizeof sum);
}

static void check_report(const struct loader_report *r, int unpaired, const struct seen *seen)
{
    struct loader_report want = {0};
    int prompts = 0, identical = 0;
    for (int d = 0; d < DOCUMENTS; d++) {
        struct kept k = keep(&made[unpaired][d]);
        assert_int_equal(seen->times[d], k.prompt > 0);
        want.documents += k.prompt > 0;
        want.chosen += k.chosen > 0;
        want.rejected += k.rejected > 0;
        identical += k.identical;
        prompts += k.prompt < 0 && !k.identical;
        if (k.prompt < 0) assert_int_equal(r->dropped[want.dropped_documents++], d);
    }
    assert_int_equal(r->documents, want.documents);
    assert_int_equal(r->chosen, want.chosen);
    assert_int_equal(r->rejected, want.rejected);
    assert_int_equal(r->dropped_documents, want.dropped_documents);
    assert_int_equal(r->dropped_prompts, prompts);
    assert_int_equal(r->dropped_identical, identical);
    assert_int_equal(r->tokens, seen->tokens);
    assert_true(prompts > 0 && (unpaired || identical > 0));
}

static void check_form(int unpaired, const struct loader_options *o)
{
    struct err e = {0};
    struct loader *l;
    struct loader_limits limits;
    struct seen seen = {{0}, {0, 0, 0, 0}, 0};
    assert_int_equal(loader_open(&l, stores[unpaired], (struct loader_subset){0}, o, &e), OK);
    int64_t steps = loader_report(l)->steps_per_epoch;
    for (int64_t k = 0; k < steps; k++) check_step(l, k, unpaired, o, &seen);
    check_report(loader_report(l), unpaired, &seen);
    assert_int_equal(loader_limits(l, 1, &limits, &e), OK);
    assert_memory_equal(&limits, &seen.most, sizeof limits);
    char text[64];
    loader_describe(l, 3, text, sizeof text);
    assert_string_equal(text, "a.jsonl, line 4");
    loader_close(l);
}

static void test_forms(void **state)
{
    (void)state;
    for (int bits = 0; bits < 32; bits++) {
        int unpaired = bits & 1;
        struct loader_options o = {.max_length = CUT,
                                   .batch_size = 3,
                                   .accumulation = 2,
                                   .shuffle = !!(bits & 2),
                                   .packing = !!(bits & 4),
                                   .prefix_sharing = !!(bits & 8),
                                   .seed = 3};
        if (bits & 16 && unpaired) o.mismatch_chunk = 3 + !!o.packing;
        if (bits & 16 && !unpaired) o.with_prompt = 1;
        check_form(unpaired, &o);
    }
    /* A run of one record has its own reply twice. */
    struct loader_options one = {.max_length = CUT,
                                 .batch_size = 1,
                                 .accumulation = 1,
                                 .prefix_sharing = 1,
                                 .mismatch_chunk = 1};
    check_form(1, &one);
}

/* Rows of 2 * max_length hold any kept pair, and best fit is not worse than one pair a row. */
static void test_packing(void **state)
{
    (void)state;
    for (int sharing = 0; sharing < 2; sharing++) {
        struct err e = {0};
        struct loader *l;
        struct batch b;
        struct loader_options o = {.max_length = CUT,
                                   .batch_size = 1,
                                   .accumulation = 1,
                                   .packing = 1,
                                   .prefix_sharing = sharing};
        assert_int_equal(loader_open(&l, stores[0], (struct loader_subset){0}, &o, &e), OK);
        const struct loader_report *r = loader_report(l);
        assert_true(r->units < r->documents);
        for (int64_t k = 0; k < r->units; k++) {
            int32_t ids = 0;
            assert_int_equal(loader_batch(l, k, 0, &b, &e), OK);
            for (int32_t i = 0; i < b.num_pairs; i++) {
                struct kept x = keep(&made[0][b.pairs[i].document]);
                ids += (sharing ? 1 : 2) * x.prompt + x.chosen + x.rejected;
            }
            assert_true(ids <= 2 * CUT);
        }
        loader_close(l);
    }
}

/* Both sides of a split, mismatches within each. */
static void test_split(void **state)
{
    (void)state;
    struct err e = {0};
    struct loader_split split;
    struct loader *l;
    struct batch b;
    struct loader_options o = {.max_length = CUT,
                               .batch_size = 4,
                               .accumulation = 1,
                               .prefix_sharing = 1,
                               .mismatch_chunk = 4};
    assert_int_equal(loader_split(&split, DOCUMENTS, 0.2, 1, &e), OK);
    const struct loader_subset sides[] = {split.train, split.eval};
    for (int k = 0; k < 2; k++) {
        assert_int_equal(loader_open(&l, stores[1], sides[k], &o, &e), OK);
        for (int64_t step = 0; step < loader_report(l)->steps_per_epoch; step++) {
            assert_int_equal(loader_batch(l, step, 0, &b, &e), OK);
            for (int32_t i = 0; i < b.num_pairs; i++) {
                int64_t before = i ? b.pairs[i - 1].document : b.pairs[b.num_pairs - 1].document;
                assert_int_equal(b.pairs[i].partner, before);
            }
        }
        loader_close(l);
    }
    loader_split_free(&split);
}

static void test_errors(void **state)
{
    (void)state;
    struct err e = {0};
    struct loader *l;
    struct loader_subset all = {0};
    struct loader_options o = {.max_length = CUT, .batch_size = 3, .accumulation = 1};
    struct loader_options wrong = o;
    wrong.mismatch_chunk = 3;
    assert_int_equal(loader_open(&l, stores[0], all, &wrong, &e), ERR_CONFIG);
    wrong.mismatch_chunk = -1;
    assert_int_equal(loader_open(&l, stores[1], all, &wrong, &e), ERR_CONFIG);
    wrong = o;
    wrong.with_prompt = 1;
    assert_int_equal(loader_open(&l, stores[1], all, &wrong, &e), ERR_CONFIG);
    int64_t documents[DOCUMENTS], n = 0; /* those with long prompts alone */
    for (int d = 0; d < DOCUMENTS; d++)
        if (made[0][d].prompt >= CUT) documents[n++] = d;
    assert_int_equal(loader_open(&l, stores[0],
                                 (struct loader_subset){.documents = documents, .num_documents = n},
                                 &o, &e),
                     ERR_DATA);
    assert_non_null(strstr(e.hint, "max_length"));
}

static void test_no_memory(void **state)
{
    (void)state;
    struct err e = {0};
    struct loader *l;
    struct loader_options o = {.max_length = CUT,
                               .batch_size = 3,
                               .accumulation = 2,
                               .packing = 1,
                               .prefix_sharing = 1,
                               .mismatch_chunk = 3};
    enum status s = ERR_MEMORY;
    for (long k = 1; s; k++) {
        mem_fail_after(k);
        s = loader_open(&l, stores[1], (struct loader_subset){0}, &o, &e);
        mem_fail_after(0);
        if (s) assert_int_equal(s, ERR_MEMORY);
    }
    loader_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),     cmocka_unit_test(test_packing),
        cmocka_unit_test(test_split),     cmocka_unit_test(test_errors),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

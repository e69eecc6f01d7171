/* The loader against a plain rendering of its contract: every document once an epoch, with the
 * right rows; any step asked at any time gives the same bytes. And the train/eval split. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/loader/loader.h"
#include "data/loader/split.h"
#include "data/pack/pack.h"
#include "data/store/store.h"

#define DOCUMENTS 83
#define LONGEST 60
#define CUT 40 /* max_length in most tests */

static char folder[] = "/tmp/cria-loader-XXXXXX";
static char path[64];
static struct store *store;

/* The documents as they were made. */
static struct {
    int32_t n, ids[LONGEST];
    float weights[LONGEST];
} made[DOCUMENTS];

static struct loader_options options_of(int32_t max_length, int32_t batch, int32_t accumulation,
                                        int packing, int shuffle, uint64_t seed)
{
    return (struct loader_options){.max_length = max_length,
                                   .batch_size = batch,
                                   .accumulation = accumulation,
                                   .packing = packing,
                                   .shuffle = shuffle,
                                   .seed = seed};
}

static enum status write_documents(struct err *e)
{
    struct store_settings settings = {.vocab_size = 500};
    struct store_source sources[] = {{"a.jsonl", "a.jsonl", ""}, {"b.json", "b.json", ""}};
    struct store_writer *w;
    struct mt19937 m;
    mt19937_seed(&m, 11);
    TRY(store_writer_open(&w, path, &settings, sources, 2, e));
    enum status s = OK;
    for (int d = 0; d < DOCUMENTS && !s; d++) {
        uint32_t kind = mt19937_next(&m) % 8; /* 0: untrained; 1: trained only behind the cut */
        made[d].n = 1 + (int32_t)(mt19937_next(&m) % LONGEST);
        for (int32_t i = 0; i < made[d].n; i++) {
            uint32_t u = mt19937_next(&m) % 4;
            made[d].ids[i] = (int32_t)(mt19937_next(&m) % 500);
            int trained = i > 0 && kind && (kind > 1 || i >= CUT) && (u || kind > 5);
            if (kind == 2 && i > made[d].n / 2) trained = 0; /* rows behind the last target */
            made[d].weights[i] = trained ? (kind == 3 ? 0.3f * (float)(1 + u) : 1) : 0;
        }
        struct sample x = {.ids = made[d].ids,
                           .weights = made[d].weights,
                           .n = (size_t)made[d].n,
                           .source = d & 1,
                           .line = d + 1};
        s = store_writer_append(w, &x, e);
    }
    if (!s) s = store_writer_commit(w, NULL, e);
    store_writer_close(w);
    return s;
}

static int setup(void **state)
{
    (void)state;
    struct err e = {0};
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/data.h5", folder);
    return write_documents(&e) || store_open(&store, path, &e);
}

static int teardown(void **state)
{
    (void)state;
    struct err e = {0};
    store_close(store);
    return io_remove_tree(folder, &e) != OK;
}

/* ---- the contract, plainly ---- */

/* Rows of document d within `cut` tokens: up to the last trained target. 0: dropped. */
static int32_t rows_of(int64_t d, int32_t cut)
{
    int32_t n = made[d].n < cut ? made[d].n : cut;
    while (n > 0 && made[d].weights[n - 1] == 0) n--;
    return n > 0 ? n - 1 : 0;
}

static int32_t tokens_of(int64_t d, int32_t cut) { return made[d].n < cut ? made[d].n : cut; }

/* The units: lists of documents. */
struct plan {
    int64_t num_units, kept;
    int32_t size[DOCUMENTS], documents[DOCUMENTS][DOCUMENTS];
};

static void make_plan(struct plan *p, const struct loader_options *o)
{
    int32_t kept[DOCUMENTS], lengths[DOCUMENTS];
    struct err e = {0};
    *p = (struct plan){0};
    for (int32_t d = 0; d < DOCUMENTS; d++) {
        if (!rows_of(d, o->max_length)) continue;
        lengths[p->kept] = tokens_of(d, o->max_length);
        kept[p->kept++] = d;
    }
    if (!o->packing) {
        p->num_units = p->kept;
        for (int64_t u = 0; u < p->kept; u++) {
            p->size[u] = 1;
            p->documents[u][0] = kept[u];
        }
        return;
    }
    struct pack k;
    assert_int_equal(pack_best_fit(&k, lengths, p->kept, o->max_length, &e), OK);
    p->num_units = k.num_bins;
    for (int64_t b = 0; b < k.num_bins; b++)
        for (int64_t i = k.starts[b]; i < k.starts[b + 1]; i++)
            p->documents[b][p->size[b]++] = kept[k.items[i]];
    pack_free(&k);
}

/* One document's segment of the batch; returns its weight. */
static double check_segment(const struct batch *b, int32_t segment, int32_t d, int32_t cut,
                            int32_t *row, int32_t *target)
{
    const struct segment *g = &b->segments[segment];
    int32_t rows = rows_of(d, cut);
    double weight = 0;
    assert_int_equal(g->start, *row);
    assert_int_equal(g->length, rows);
    assert_int_equal(g->position, 0);
    assert_int_equal(g->prefix_length, 0);
    assert_int_equal(g->document, segment);
    for (int32_t i = 0; i < rows; i++, (*row)++) {
        assert_int_equal(b->ids[*row], made[d].ids[i]);
        assert_int_equal(b->positions[*row], i);
        assert_int_equal(b->documents[*row], d);
        if (made[d].weights[i + 1] == 0) continue;
        assert_int_equal(b->rows[*target], *row);
        assert_int_equal(b->targets[*target], made[d].ids[i + 1]);
        assert_true(b->weights[*target] == made[d].weights[i + 1]);
        weight += (double)b->weights[(*target)++];
    }
    return weight;
}

struct totals {
    int32_t seen[DOCUMENTS];
    struct loader_limits most;
    int64_t tokens, supervised;
};

static double check_micro(const struct batch *b, const struct plan *p, const int64_t *order,
                          int64_t first, int64_t end, int32_t cut, struct totals *t)
{
    int32_t row = 0, target = 0, segment = 0;
    int64_t tokens = 0;
    double weight = 0;
    for (int64_t u = first; u < end; u++) {
        for (int32_t i = 0; i < p->size[order[u]]; i++) {
            int32_t d = p->documents[order[u]][i];
            weight += check_segment(b, segment++, d, cut, &row, &target);
            tokens += tokens_of(d, cut);
            t->seen[d]++;
        }
    }
    assert_int_equal(b->N, row);
    assert_int_equal(b->S, target);
    assert_int_equal(b->num_segments, segment);
    assert_int_equal(b->num_tokens, tokens);
    if (row > t->most.max_rows) t->most.max_rows = row;
    if (target > t->most.max_supervised) t->most.max_supervised = target;
    if (segment > t->most.max_segments) t->most.max_segments = segment;
    t->tokens += tokens;
    t->supervised += target;
    return weight;
}

/* Walks an epoch from step `step`; returns the step after it. */
static int64_t walk_epoch(struct loader *l, const struct loader_options *o, const struct plan *p,
                          int64_t epoch, int64_t step, struct totals *t)
{
    struct err e = {0};
    int64_t order[DOCUMENTS], at = 0;
    if (o->shuffle)
        rng_torch_permutation(o->seed + (uint64_t)epoch, p->num_units, order);
    else
        for (int64_t u = 0; u < p->num_units; u++) order[u] = u;
    for (; at < p->num_units; step++) {
        struct loader_step s;
        double weight = 0;
        int64_t tokens = 0;
        assert_int_equal(loader_step(l, step, &s, &e), OK);
        assert_int_equal(s.epoch, epoch);
        for (int32_t m = 0; m < s.micro_batches; m++) {
            struct batch b;
            int64_t end = at + o->batch_size < p->num_units ? at + o->batch_size : p->num_units;
            assert_int_equal(loader_batch(l, step, m, &b, &e), OK);
            weight += check_micro(&b, p, order, at, end, o->max_length, t);
            tokens += b.num_tokens;
            at = end;
        }
        if (at < p->num_units) assert_int_equal(s.micro_batches, o->accumulation);
        assert_true(s.micro_batches >= 1 && s.micro_batches <= o->accumulation);
        assert_true(fabs(s.weight - weight) <= 1e-12 * weight);
        assert_int_equal(s.num_tokens, tokens);
    }
    return step;
}

static void check_report(const struct loader_report *r, const struct loader_options *o,
                         const struct plan *p, const struct totals *t)
{
    int64_t cut = 0, cut_tokens = 0, dropped = 0;
    for (int32_t d = 0; d < DOCUMENTS; d++) {
        if (made[d].n > o->max_length) {
            assert_int_equal(r->cut[cut++], d);
            cut_tokens += made[d].n - o->max_length;
        }
        if (!rows_of(d, o->max_length)) assert_int_equal(r->dropped[dropped++], d);
    }
    assert_int_equal(r->cut_documents, cut);
    assert_int_equal(r->cut_tokens, cut_tokens);
    assert_int_equal(r->dropped_documents, dropped);
    assert_int_equal(r->documents, p->kept);
    assert_int_equal(r->units, p->num_units);
    assert_int_equal(r->tokens * 2, t->tokens);
    assert_int_equal(r->supervised * 2, t->supervised);
}

static void check_two_epochs(const struct loader_options *o)
{
    struct err e = {0};
    struct loader *l;
    struct loader_limits limits;
    struct plan p;
    struct totals t = {{0}, {0, 0, 0, 0}, 0, 0};
    int64_t step = 0;
    assert_int_equal(loader_open(&l, store, (struct loader_subset){0}, o, &e), OK);
    make_plan(&p, o);
    for (int64_t epoch = 0; epoch < 2; epoch++) {
        step = walk_epoch(l, o, &p, epoch, step, &t);
        assert_int_equal(step, (epoch + 1) * loader_report(l)->steps_per_epoch);
        for (int32_t d = 0; d < DOCUMENTS; d++)
            assert_int_equal(t.seen[d], rows_of(d, o->max_length) ? epoch + 1 : 0);
    }
    check_report(loader_report(l), o, &p, &t);
    assert_int_equal(loader_limits(l, 2, &limits, &e), OK);
    assert_memory_equal(&limits, &t.most, sizeof limits);
    loader_close(l);
}

static void test_epochs(void **state)
{
    (void)state;
    static const int32_t lengths[] = {CUT, 2, 7, LONGEST, 1000, INT32_MAX};
    static const int32_t batches[] = {1, 3, 7, 8, 100, INT32_MAX}, steps[] = {1, 2, 5, INT32_MAX};
    for (int k = 0; k < 6 * 6 * 4 * 4; k++) {
        struct loader_options o = {.max_length = lengths[k % 6],
                                   .batch_size = batches[k / 6 % 6],
                                   .accumulation = steps[k / 36 % 4],
                                   .packing = k / 144 & 1,
                                   .shuffle = k / 288 & 1,
                                   .seed = 42};
        check_two_epochs(&o);
    }
}

/* ---- the dead tail ---- */

static void check_tail(const struct batch *b, int32_t multiple)
{
    const struct batch_tail *t = &b->tail;
    const struct segment *dead = b->segments + b->num_segments;
    int32_t rows = b->N + t->rows;
    assert_int_equal(rows % multiple, 0);
    assert_true(t->rows >= 0 && t->rows <= multiple);
    assert_true(t->supervised >= 0 && (t->rows || !t->supervised));
    assert_true(t->supervised < (b->S > 256 ? b->S / 16 + 1 : 16));
    for (int32_t n = b->N; n < rows; n++) {
        assert_true(b->ids[n] == 0 && b->positions[n] == 0);
        assert_true(b->documents[n] == -1 && b->keys[n] == -1);
    }
    for (int32_t s = b->S; s < b->S + t->supervised; s++)
        assert_true(b->rows[s] == rows - 1 && b->targets[s] == 0 && b->weights[s] == 0);
    if (t->rows) assert_true(t->segments > 0);
    for (int32_t i = 0; i < t->segments; i++) {
        assert_int_equal(dead[i].start, i ? rows : b->N);
        assert_int_equal(dead[i].length, i ? 0 : t->rows);
        assert_int_equal(dead[i].prefix_length, 0);
        assert_int_equal(dead[i].document, dead[-1].document + i + 1);
    }
}

static void check_same_batch(const struct batch *a, const struct batch *b)
{
    size_t n = (size_t)a->N, s = (size_t)a->S;
    assert_true(a->N == b->N && a->S == b->S && a->num_segments == b->num_segments);
    assert_int_equal(a->num_tokens, b->num_tokens);
    assert_memory_equal(a->ids, b->ids, n * sizeof *a->ids);
    assert_memory_equal(a->positions, b->positions, n * sizeof *a->positions);
    assert_memory_equal(a->documents, b->documents, n * sizeof *a->documents);
    assert_memory_equal(a->keys, b->keys, n * sizeof *a->keys);
    assert_memory_equal(a->rows, b->rows, s * sizeof *a->rows);
    assert_memory_equal(a->targets, b->targets, s * sizeof *a->targets);
    assert_memory_equal(a->weights, b->weights, s * sizeof *a->weights);
    assert_memory_equal(a->segments, b->segments, (size_t)a->num_segments * sizeof *a->segments);
}

static int32_t max32(int32_t a, int32_t b) { return a > b ? a : b; }

/* Beside a loader without a tail: the same batches, and a tail that the limits know. */
static void check_rounded(const struct loader_options *o, int32_t multiple)
{
    struct err e = {0};
    struct loader *plain, *rounded;
    struct loader_limits limits, most = {0};
    assert_int_equal(loader_open(&plain, store, (struct loader_subset){0}, o, &e), OK);
    assert_int_equal(loader_open(&rounded, store, (struct loader_subset){0}, o, &e), OK);
    assert_int_equal(loader_round(rounded, multiple, &e), OK);
    for (int64_t k = 0; k < 2 * loader_report(plain)->steps_per_epoch; k++) {
        struct loader_step a, b;
        assert_int_equal(loader_step(plain, k, &a, &e), OK);
        assert_int_equal(loader_step(rounded, k, &b, &e), OK);
        assert_memory_equal(&a, &b, sizeof a);
        for (int32_t m = 0; m < a.micro_batches; m++) {
            struct batch x, y;
            assert_int_equal(loader_batch(plain, k, m, &x, &e), OK);
            assert_int_equal(loader_batch(rounded, k, m, &y, &e), OK);
            assert_true(!x.tail.rows && !x.tail.supervised && !x.tail.segments);
            check_same_batch(&x, &y);
            check_tail(&y, multiple);
            most.max_rows = max32(most.max_rows, y.N + y.tail.rows);
            most.max_supervised = max32(most.max_supervised, y.S + y.tail.supervised);
            most.max_segments = max32(most.max_segments, y.num_segments + y.tail.segments);
        }
    }
    assert_int_equal(loader_limits(rounded, 2, &limits, &e), OK);
    assert_memory_equal(&limits, &most, sizeof limits);
    assert_int_equal(loader_round(rounded, 0, &e), OK);
    assert_int_equal(loader_limits(rounded, 2, &limits, &e), OK);
    assert_int_equal(loader_limits(plain, 2, &most, &e), OK);
    assert_memory_equal(&limits, &most, sizeof limits);
    loader_close(plain);
    loader_close(rounded);
}

static void test_dead_tail(void **state)
{
    (void)state;
    static const int32_t multiples[] = {1, 8, 128}, batches[] = {1, 3, 100};
    for (int k = 0; k < 3 * 3 * 2 * 2; k++) {
        struct loader_options o = {.max_length = k / 18 ? LONGEST : CUT,
                                   .batch_size = batches[k / 3 % 3],
                                   .accumulation = 2,
                                   .packing = k / 9 & 1,
                                   .shuffle = 1,
                                   .seed = 42};
        check_rounded(&o, multiples[k % 3]);
    }
}

/* Shapes recur, and cost little: 16 numbers of supervised rows an octave and 4 of segments; none
 * less for one more. */
static void test_tail_sizes(void **state)
{
    (void)state;
    int32_t different = 0, cuts = 0, last = 0, before = 0;
    double wasted = 0;
    for (int32_t S = 4097; S <= 8192; S++) {
        struct batch_tail t = loader_tail(128, 20000, S, S);
        assert_true(S + t.supervised >= last && S + t.segments >= before);
        different += S + t.supervised != last;
        cuts += S + t.segments != before;
        last = S + t.supervised;
        before = S + t.segments;
        wasted += (double)t.supervised / S / 4096;
        assert_true(t.supervised * 16 <= S);
    }
    assert_int_equal(different, 16);
    assert_int_equal(cuts, 5); /* the tail is a segment, too */
    assert_true(wasted < 0.03);
    struct batch_tail all = loader_tail(128, 4097, 4097, 1); /* every row is supervised */
    assert_int_equal(4097 + all.rows, 4224);
    assert_int_equal(all.supervised, all.rows);
    struct batch_tail full = loader_tail(128, 256, 17, 1); /* a row is wanted for the dead ones */
    assert_int_equal(full.rows, 128);
    assert_int_equal(full.supervised, 15);
    full = loader_tail(128, 256, 32, 2);
    assert_true(!full.rows && !full.supervised && !full.segments);
}

/* ---- pieces ---- */

/* Each trained id of each document is a target exactly once, in pieces of at most max_length ids
 * that begin at position 0; keys and positions tell all rows apart. */
static void check_pieces(struct loader *l, const struct loader_options *o, int64_t epoch)
{
    static int times[DOCUMENTS][LONGEST];
    static unsigned char seen[4 * DOCUMENTS * LONGEST][LONGEST];
    struct err e = {0};
    struct batch b;
    struct loader_step plan;
    int64_t steps = loader_report(l)->steps_per_epoch;
    memset(times, 0, sizeof times);
    memset(seen, 0, sizeof seen);
    for (int64_t k = epoch * steps; k < (epoch + 1) * steps; k++) {
        assert_int_equal(loader_step(l, k, &plan, &e), OK);
        for (int32_t m = 0; m < plan.micro_batches; m++) {
            assert_int_equal(loader_batch(l, k, m, &b, &e), OK);
            for (int32_t g = 0, t = 0; g < b.num_segments; g++) {
                int32_t start = b.segments[g].start, n = b.segments[g].length;
                int32_t d = b.documents[start], first = 0, stride = o->max_length - 1;
                assert_true(n >= 1 && n <= stride);
                /* the piece that has these ids and whose turn it is */
                for (;; first += stride) {
                    assert_true(first + n < made[d].n);
                    if (!memcmp(b.ids + start, made[d].ids + first, (size_t)n * sizeof(int32_t)))
                        break;
                }
                for (int32_t i = 0; i < n; i++) {
                    assert_int_equal(b.positions[start + i], i);
                    assert_int_equal(seen[b.keys[start + i]][i]++, 0);
                }
                for (; t < b.S && b.rows[t] < start + n; t++) {
                    int32_t at = first + b.rows[t] - start + 1;
                    assert_int_equal(b.targets[t], made[d].ids[at]);
                    assert_true(b.weights[t] == made[d].weights[at]);
                    times[d][at]++;
                }
            }
        }
    }
    for (int d = 0; d < DOCUMENTS; d++)
        for (int32_t i = 0; i < made[d].n; i++)
            assert_int_equal(times[d][i], made[d].weights[i] != 0);
}

static void test_pieces(void **state)
{
    (void)state;
    static const int32_t lengths[] = {CUT, 7, LONGEST - 1, LONGEST, 5};
    for (int k = 0; k < 5 * 2 * 2; k++) {
        struct loader_options o = options_of(lengths[k % 5], 3, 2, k / 5 & 1, k / 10, 42);
        struct err e = {0};
        struct loader *l;
        o.pieces = 1;
        assert_int_equal(loader_open(&l, store, (struct loader_subset){0}, &o, &e), OK);
        check_pieces(l, &o, 1);
        check_pieces(l, &o, 0);
        assert_int_equal(loader_report(l)->cut_tokens, 0);
        assert_int_equal(loader_report(l)->supervised, store_info(store)->num_targets);
        loader_close(l);
    }
}

/* ---- any step at any time ---- */

static void append_batch(struct buf *out, const struct batch *b)
{
    size_t n = (size_t)b->N, s = (size_t)b->S;
    assert_int_equal(buf_append(out, b->ids, n * sizeof *b->ids), OK);
    assert_int_equal(buf_append(out, b->positions, n * sizeof *b->positions), OK);
    assert_int_equal(buf_append(out, b->documents, n * sizeof *b->documents), OK);
    assert_int_equal(buf_append(out, b->rows, s * sizeof *b->rows), OK);
    assert_int_equal(buf_append(out, b->targets, s * sizeof *b->targets), OK);
    assert_int_equal(buf_append(out, b->weights, s * sizeof *b->weights), OK);
    assert_int_equal(buf_append(out, b->segments, (size_t)b->num_segments * sizeof *b->segments),
                     OK);
}

static void append_step(struct buf *out, struct loader *l, int64_t step)
{
    struct err e = {0};
    struct loader_step s;
    struct batch b;
    assert_int_equal(loader_step(l, step, &s, &e), OK);
    assert_int_equal(buf_append(out, &s.weight, sizeof s.weight), OK);
    for (int32_t m = 0; m < s.micro_batches; m++) {
        assert_int_equal(loader_batch(l, step, m, &b, &e), OK);
        append_batch(out, &b);
    }
}

static void test_any_step(void **state)
{
    (void)state;
    for (int form = 0; form < 4; form++) {
        struct loader_options o = options_of(CUT, 3, 2, form & 1, 1, 7);
        o.pieces = form >> 1;
        struct err e = {0};
        struct loader *l, *other;
        assert_int_equal(loader_open(&l, store, (struct loader_subset){0}, &o, &e), OK);
        int64_t steps = 3 * loader_report(l)->steps_per_epoch;
        struct buf *want = calloc((size_t)steps, sizeof *want);
        for (int64_t i = 0; i < steps; i++) {
            buf_init(&want[i], 1 << 20);
            append_step(&want[i], l, i);
        }
        for (int64_t k = steps - 1; k >= 0; k--) { /* backwards, in a fresh one: a resumed run */
            struct buf got;
            buf_init(&got, 1 << 20);
            assert_int_equal(loader_open(&other, store, (struct loader_subset){0}, &o, &e), OK);
            append_step(&got, other, k);
            loader_close(other);
            append_step(&got, l, k);
            assert_int_equal(got.len, 2 * want[k].len);
            assert_memory_equal(got.data, want[k].data, want[k].len);
            assert_memory_equal(got.data + want[k].len, want[k].data, want[k].len);
            buf_free(&got);
            buf_free(&want[k]);
        }
        free(want);
        loader_close(l);
    }
}

/* ---- parts, errors ---- */

static void test_subset(void **state)
{
    (void)state;
    struct err e = {0};
    struct loader *l;
    struct loader_options o = options_of(LONGEST, 4, 1, 0, 0, 0);
    int64_t documents[DOCUMENTS], n = 0, at = 0;
    for (int64_t d = 0; d < DOCUMENTS; d += 3) documents[n++] = d;
    assert_int_equal(loader_open(&l, store,
                                 (struct loader_subset){.documents = documents, .num_documents = n},
                                 &o, &e),
                     OK);
    memset(documents, 0xff, sizeof documents); /* not looked at any more */
    for (int64_t step = 0; step < loader_report(l)->steps_per_epoch; step++) {
        struct batch b;
        assert_int_equal(loader_batch(l, step, 0, &b, &e), OK);
        for (int32_t s = 0; s < b.num_segments; s++) {
            while (!rows_of(at, LONGEST)) at += 3;
            assert_int_equal(b.documents[b.segments[s].start], at);
            at += 3;
        }
    }
    loader_close(l);
    int64_t twice[] = {4, 4}, beyond[] = {DOCUMENTS};
    while (!rows_of(twice[0], LONGEST)) twice[0] = ++twice[1];
    struct loader_subset again = {.documents = twice, .num_documents = 2};
    assert_int_equal(loader_open(&l, store, again, &o, &e), OK);
    assert_int_equal(loader_report(l)->documents, 2);
    loader_close(l);
    again.stage_ends = (int64_t[]){1}; /* do not reach its end */
    again.num_stages = 1;
    assert_int_equal(loader_open(&l, store, again, &o, &e), ERR_CONFIG);
    assert_int_equal(loader_open(&l, store,
                                 (struct loader_subset){.documents = beyond, .num_documents = 1},
                                 &o, &e),
                     ERR_CONFIG);
    assert_int_equal(loader_open(&l, store, (struct loader_subset){.documents = twice}, &o, &e),
                     ERR_DATA);
}

static void test_errors(void **state)
{
    (void)state;
    struct err e = {0};
    struct loader *l;
    const struct loader_options wrong[] = {
        options_of(1, 1, 1, 0, 0, 0), options_of(-5, 1, 1, 0, 0, 0), options_of(8, 0, 1, 0, 0, 0),
        options_of(8, 1, 0, 0, 0, 0)};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(loader_open(&l, store, (struct loader_subset){0}, &wrong[i], &e),
                         ERR_CONFIG);
    struct loader_options o = options_of(CUT, 2, 2, 0, 1, 0);
    struct loader_limits limits;
    assert_int_equal(loader_open(&l, store, (struct loader_subset){0}, &o, &e), OK);
    assert_int_equal(loader_limits(l, 0, &limits, &e), ERR_CONFIG);
    char text[64];
    loader_describe(l, 4, text, sizeof text);
    assert_string_equal(text, "a.jsonl, line 5");
    loader_describe(l, 5, text, sizeof text);
    assert_string_equal(text, "b.json, record 6");
    loader_close(l);
    loader_close(NULL);
    for (int64_t d = 0; d < DOCUMENTS; d++) { /* one that has nothing trained: all is dropped */
        if (rows_of(d, LONGEST)) continue;
        assert_int_equal(loader_open(&l, store,
                                     (struct loader_subset){.documents = &d, .num_documents = 1},
                                     &o, &e),
                         ERR_DATA);
        assert_non_null(strstr(e.hint, "max_length"));
        return;
    }
    fail_msg("no untrained document was made");
}

/* A file that changes under a run: the planned counts no longer hold, and nothing is overrun. */
static void test_changed_file(void **state)
{
    (void)state;
    struct err e = {0};
    struct buf file;
    char copy[80];
    int own = 0;
    snprintf(copy, sizeof copy, "%s/copy.h5", folder);
    buf_init(&file, 1 << 24);
    assert_int_equal(io_read_file(path, &file, &e), OK);
    static float all[DOCUMENTS * LONGEST]; /* fewer than a chunk: they lie together */
    size_t n = 0;
    for (int d = 0; d < DOCUMENTS; d++)
        for (int32_t i = 0; i < made[d].n; i++) all[n++] = made[d].weights[i];
    char *at = memmem(file.data, file.len, all, n * sizeof *all);
    assert_non_null(at);
    memset(at, 0, n * sizeof *all);
    struct store *changing;
    struct loader *l;
    struct loader_options o = options_of(CUT, 1, 1, 0, 0, 0);
    assert_int_equal(io_copy_file(path, copy, &e), OK);
    assert_int_equal(store_open(&changing, copy, &e), OK);
    assert_int_equal(loader_open(&l, changing, (struct loader_subset){0}, &o, &e), OK);
    FILE *f = fopen(copy, "r+");
    assert_int_equal(fwrite(file.data, 1, file.len, f), file.len);
    fclose(f);
    for (int64_t k = 0; k < loader_report(l)->steps_per_epoch; k++) {
        struct batch b;
        enum status s = loader_batch(l, k, 0, &b, &e);
        assert_int_equal(s, ERR_FORMAT);
        own += strstr(e.message, "at the start") != NULL;
    }
    assert_true(own > 0); /* where the store cannot know, the loader does */
    loader_close(l);
    store_close(changing);
    buf_free(&file);
}

static void test_no_memory(void **state)
{
    (void)state;
    enum status s = ERR_MEMORY;
    long n = 0;
    while (s) {
        struct err e = {0};
        struct loader *l;
        struct loader_options o = options_of(CUT, 2, 2, 1, 1, 0);
        mem_fail_after(++n);
        s = loader_open(&l, store, (struct loader_subset){0}, &o, &e);
        mem_fail_after(0);
        assert_true(!s || (s == ERR_MEMORY && e.code == s));
        loader_close(l);
    }
    assert_true(n > 15);
}

/* Once open, the loader takes nothing from the heap. */
static void test_steps_allocate_nothing(void **state)
{
    (void)state;
    struct err e = {0};
    struct loader *l;
    struct batch b;
    struct loader_limits limits;
    struct loader_options o = options_of(CUT, 5, 1, 1, 1, 0);
    assert_int_equal(loader_open(&l, store, (struct loader_subset){0}, &o, &e), OK);
    mem_fail_after(1);
    for (int64_t k = 0; k < 2 * loader_report(l)->steps_per_epoch; k++)
        assert_int_equal(loader_batch(l, k, 0, &b, &e), OK);
    assert_int_equal(loader_limits(l, 3, &limits, &e), OK);
    mem_fail_after(0);
    loader_close(l);
}

/* ---- the split ---- */

static void check_split(int64_t n, double val_size, uint64_t seed, int64_t want_eval)
{
    struct loader_split s;
    struct err e = {0};
    int64_t t = 0, v = 0;
    assert_int_equal(loader_split(&s, n, val_size, seed, &e), OK);
    assert_int_equal(s.eval.num_documents, want_eval);
    assert_int_equal(s.train.num_documents, n - want_eval);
    for (int64_t d = 0; d < n; d++) {
        int train = t < s.train.num_documents && s.train.documents[t] == d;
        int eval = v < s.eval.num_documents && s.eval.documents[v] == d;
        assert_int_equal(train + eval, 1);
        t += train;
        v += eval;
    }
    loader_split_free(&s);
}

static void test_split(void **state)
{
    (void)state;
    struct loader_split a, b;
    struct err e = {0};
    check_split(100, 0, 1, 0);
    check_split(100, 0.1, 1, 10);
    check_split(101, 0.1, 1, 11);
    check_split(100, 1, 1, 1);
    check_split(100, 99, 1, 99);
    check_split(100000, 0.01, 3, 1000);
    check_split(0, 0, 1, 0);
    assert_int_equal(loader_split(&a, 10, 10, 1, &e), ERR_CONFIG);
    assert_int_equal(loader_split(&a, 1, 0.5, 1, &e), ERR_CONFIG);
    assert_int_equal(loader_split(&a, 10, -1, 1, &e), ERR_CONFIG);
    assert_int_equal(loader_split(&a, 10, 2.5, 1, &e), ERR_CONFIG);
    assert_int_equal(loader_split(&a, 10, NAN, 1, &e), ERR_CONFIG);
    assert_int_equal(loader_split(&a, (int64_t)1 << 40, 1, 1, &e), ERR_CONFIG);
    assert_int_equal(loader_split(&a, 1000, 100, 1, &e), OK);
    assert_int_equal(loader_split(&b, 1000, 100, 2, &e), OK);
    assert_memory_not_equal(a.eval.documents, b.eval.documents, 100 * sizeof(int64_t));
    loader_split_free(&b);
    assert_int_equal(loader_split(&b, 1000, 100, 1, &e), OK);
    assert_memory_equal(a.eval.documents, b.eval.documents, 100 * sizeof(int64_t));
    loader_split_free(&a);
    loader_split_free(&b);
    mem_fail_after(1);
    assert_int_equal(loader_split(&a, 10, 1, 1, &e), ERR_MEMORY);
    mem_fail_after(0);
}

/* Each document is as likely as any other to be set aside. */
static void test_split_is_fair(void **state)
{
    (void)state;
    enum { N = 20, ROUNDS = 4000, WANT = 5 };
    int64_t times[N] = {0};
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        struct loader_split s;
        struct err e = {0};
        assert_int_equal(loader_split(&s, N, WANT, seed, &e), OK);
        for (int64_t i = 0; i < WANT; i++) times[s.eval.documents[i]]++;
        loader_split_free(&s);
    }
    for (int d = 0; d < N; d++) /* 1000 expected, deviation 27 */
        assert_true(times[d] > 1000 - 5 * 27 && times[d] < 1000 + 5 * 27);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epochs),     cmocka_unit_test(test_dead_tail),
        cmocka_unit_test(test_tail_sizes), cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_any_step),   cmocka_unit_test(test_subset),
        cmocka_unit_test(test_errors),     cmocka_unit_test(test_changed_file),
        cmocka_unit_test(test_no_memory),  cmocka_unit_test(test_steps_allocate_nothing),
        cmocka_unit_test(test_split),      cmocka_unit_test(test_split_is_fair),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

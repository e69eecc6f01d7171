/* The tape: plans, rules, regions, gradients by finite differences. */
#include "support/check.h"

#include <math.h>
#include <string.h>

#include "autograd/ops.h"
#include "autograd/param.h"
#include "autograd/tape_internal.h"
#include "base/mem.h"
#include "base/size.h"

/* A small stack of blocks with everything in it: heads of 4, two key heads, LoRA, head. */
enum { N = 13, C = 8, H = 4, KV = 2, D = 4, F = 12, V = 11, LAYERS = 3, S = 7, R = 3 };

enum { P_TABLE, P_NORM, P_QKV, P_QNORM, P_O, P_GATE_UP, P_DOWN, P_HEAD, P_BIAS, P_A, NUM_PARAMS };

static const struct {
    const char *name;
    int32_t rows, cols;
} shapes[NUM_PARAMS] = {
    {"table", V, C},  {"norm", 1, C}, {"qkv", (H + 2 * KV) * D, C},
    {"q_norm", 1, D}, {"o", C, H *D}, {"gate_up", 2 * F, C},
    {"down", C, F},   {"head", V, C}, {"bias", 1, (H + 2 * KV) * D},
    {"a", R, C},
};

struct graph {
    struct device device;
    float *data[NUM_PARAMS], *grad[NUM_PARAMS];
    int frozen; /* only A and B are trained */
    enum recompute how[LAYERS];
    int layer; /* being recorded */
    char *host;
    int lora;
    float b[C * R], db[C * R];
    float rope[N * D];
    int32_t ids[N], positions[N], documents[N], rows[S], targets[S];
    float seed[S];
    struct segment segments[3];
    struct tokens tokens;
    struct kern_lora_part part;
    struct head_result head;
};

static void set_all(struct graph *g, int how)
{
    for (int l = 0; l < LAYERS; l++) g->how[l] = (enum recompute)how;
}

static size_t count(int p) { return (size_t)shapes[p].rows * (size_t)shapes[p].cols; }

static void graph_init(struct graph *g, const char *device)
{
    struct err e = {0};
    memset(g, 0, sizeof *g);
    CHECK_OK(device_open(&g->device, device, 0, &e), &e);
    for (int p = 0; p < NUM_PARAMS; p++) {
        g->data[p] = mem_calloc(count(p), sizeof(float));
        g->grad[p] = mem_calloc(count(p), sizeof(float));
        rng_fill_normal(rng_key(3, RNG_INIT, (uint64_t)p), g->data[p], (int64_t)count(p), 0, 0.5f);
    }
    for (int i = 0; i < C; i++) g->data[P_NORM][i] += 1;
    for (int i = 0; i < D; i++) g->data[P_QNORM][i] += 1;
    rng_fill_normal(rng_key(3, RNG_INIT, 99), g->b, C * R, 0, 0.5f);
    for (int p = 0; p < N; p++)
        for (int j = 0; j < D / 2; j++) {
            g->rope[p * D + j] = cosf((float)p / (float)(j + 1));
            g->rope[p * D + D / 2 + j] = sinf((float)p / (float)(j + 1));
        }
    int32_t lengths[3] = {5, 1, 7};
    for (int d = 0, at = 0; d < 3; at += lengths[d++]) {
        g->segments[d] = (struct segment){.start = at, .length = lengths[d], .document = d};
        for (int i = 0; i < lengths[d]; i++) {
            g->positions[at + i] = i;
            g->documents[at + i] = d;
            g->ids[at + i] = (3 * (at + i) + 1) % V;
        }
    }
    for (int s = 0; s < S; s++) {
        g->rows[s] = 2 * s;
        g->targets[s] = (5 * s + 2) % V;
        g->seed[s] = -1.0f - 0.1f * (float)s;
    }
    g->tokens = (struct tokens){N, g->ids, g->positions, g->documents, g->segments, 3, NULL, 0};
    g->part = (struct kern_lora_part){2, 3, 0, R, 0.7f, g->b, g->db, 1};
}

static void graph_free(struct graph *g)
{
    for (int p = 0; p < NUM_PARAMS; p++) {
        mem_free(g->data[p]);
        mem_free(g->grad[p]);
    }
    device_close(&g->device);
}

static struct tensor *param(struct graph *g, struct tape *t, int p)
{
    return tape_param(t, shapes[p].name, g->data[p], g->grad[p], !g->frozen || p == P_A,
                      shapes[p].rows, shapes[p].cols, p == P_A ? ELEMENT_FLOAT : ELEMENT_DEVICE);
}

static struct tensor *block(struct graph *g, struct tape *t, struct tensor *x)
{
    struct attention_shape shape = {H, KV, D, 4, 0.5f};
    struct kern_lora lora = {.R = R, .parts = &g->part, .num_parts = 1};
    tape_region_begin(t, g->how[g->layer]);
    struct tensor *h = op_norm(t, x, param(g, t, P_NORM), 1, 1e-5f);
    struct tensor *qkv = op_linear(t, h, param(g, t, P_QKV), param(g, t, P_BIAS), NULL);
    if (g->lora) qkv = op_lora(t, h, qkv, param(g, t, P_A), &lora);
    struct tensor *q = tape_view(t, qkv, 0, H * D), *k = tape_view(t, qkv, H * D, KV * D);
    struct tensor *v = tape_view(t, qkv, (H + KV) * D, KV * D);
    q = op_rope(t, op_norm(t, q, param(g, t, P_QNORM), H, 1e-5f), g->rope, &g->tokens, H);
    k = op_rope(t, k, g->rope, &g->tokens, KV);
    struct tensor *o = op_attention(t, q, k, v, &shape, &g->tokens, NULL);
    x = op_linear(t, o, param(g, t, P_O), NULL, x);
    h = op_norm(t, x, param(g, t, P_NORM), 1, 1e-5f);
    struct tensor *both = op_linear(t, h, param(g, t, P_GATE_UP), NULL, NULL);
    h = op_swiglu(t, tape_view(t, both, 0, F), tape_view(t, both, F, F));
    x = op_linear(t, h, param(g, t, P_DOWN), NULL, x);
    tape_region_end(t);
    return x;
}

static struct tensor *record(struct tape *t, void *context)
{
    struct graph *g = context;
    struct head_request request = {.S = S, .rows = g->rows, .targets = g->targets};
    struct tensor *x = op_embedding(t, param(g, t, P_TABLE), &g->tokens);
    for (g->layer = 0; g->layer < LAYERS; g->layer++) x = block(g, t, x);
    g->head =
        op_head(t, op_norm(t, x, param(g, t, P_NORM), 1, 1e-5f), param(g, t, P_HEAD), &request);
    return g->head.logp;
}

/* Runs the graph once; gradients land in g->grad. */
static void run_once(struct graph *g, float logp[S], size_t *step_bytes)
{
    struct err e = {0};
    struct tape *t;
    struct tape_plan plan = {0};
    void *step = NULL, *scratch = NULL;
    CHECK_OK(tape_create(&t, &g->device, 128, &e), &e);
    for (int p = 0; p < NUM_PARAMS; p++) memset(g->grad[p], 0, count(p) * sizeof(float));
    memset(g->db, 0, sizeof g->db);
    tape_reset(t, 1);
    record(t, g);
    CHECK_OK(tape_plan(t, &plan, &e), &e);
    CHECK_OK(g->device.k->alloc(&g->device, plan.step_bytes, &step, &e), &e);
    CHECK_OK(g->device.k->alloc(&g->device, plan.scratch_bytes + 1, &scratch, &e), &e);
    memset(step, 0xff, plan.step_bytes); /* NaN: nothing may rely on cleared memory */
    CHECK_OK(tape_bind(t, &plan, step, scratch, &e), &e);
    tape_set_host(t, g->host);
    tape_forward(t);
    tape_backward(t, g->head.logp, g->seed);
    memcpy(logp, g->head.logp->data, S * sizeof(float));
    *step_bytes = plan.step_bytes;
    g->device.k->release(&g->device, step, plan.step_bytes);
    g->device.k->release(&g->device, scratch, plan.scratch_bytes + 1);
    tape_plan_free(&plan);
    tape_destroy(t);
}

/* No two buffers that live at the same tick share a byte; the plan is near the live bytes' peak. */
static void test_plan(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4 * NUM_RECOMPUTE; kind++) {
        struct err e = {0};
        struct graph g;
        struct tape *t;
        struct tape_plan p = {0};
        graph_init(&g, "null");
        set_all(&g, kind / 4), g.lora = kind & 1, g.frozen = kind >> 1 & 1;
        CHECK_OK(tape_create(&t, &g.device, 128, &e), &e);
        tape_reset(t, 1);
        record(t, &g);
        CHECK_OK(tape_plan(t, &p, &e), &e);
        size_t peak = 0;
        int32_t last = 0;
        for (int32_t i = 0; i < p.num_buffers; i++)
            if (p.buffers[i].last > last) last = p.buffers[i].last;
        for (int32_t tick = 0; tick <= last; tick++) {
            size_t live = 0;
            for (int32_t i = 0; i < p.num_buffers; i++)
                if (p.buffers[i].first >= 0 && p.buffers[i].first <= tick &&
                    tick <= p.buffers[i].last)
                    live += p.buffers[i].bytes;
            peak = size_max(peak, live);
        }
        for (int32_t i = 0; i < p.num_buffers; i++)
            for (int32_t j = 0; j < i; j++) {
                const struct tape_buffer *a = &p.buffers[i], *b = &p.buffers[j];
                if (a->first < 0 || b->first < 0 || a->first > b->last || b->first > a->last)
                    continue;
                assert_true(a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset);
            }
        assert_true(p.step_bytes >= peak && (double)p.step_bytes <= 1.25 * (double)peak);
        tape_plan_free(&p);
        tape_destroy(t);
        graph_free(&g);
    }
}

static void test_gradients(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2 * RECOMPUTE_OFFLOAD; kind++) {
        struct err e = {0};
        struct graph g;
        double worst;
        struct gradcheck_param params[NUM_PARAMS + 1];
        graph_init(&g, "cpu");
        g.lora = kind & 1, set_all(&g, kind >> 1);
        for (int p = 0; p < NUM_PARAMS; p++)
            params[p] = (struct gradcheck_param){shapes[p].name, g.data[p], g.grad[p], count(p)};
        params[NUM_PARAMS] = (struct gradcheck_param){"b", g.b, g.db, 3 * R};
        int first = g.lora ? 0 : P_A; /* without LoRA its parameters get nothing */
        (void)first;
        CHECK_OK(tape_gradcheck(&g.device, record, &g, params, g.lora ? NUM_PARAMS + 1 : P_A, 6,
                                2e-3, &worst, &e),
                 &e);
        print_message("gradient check %d: %.2e\n", kind, worst);
        assert_true(worst < 2e-2); /* fp32 differences: 1e-3 is typical */
        graph_free(&g);
    }
}

/* What training may see of a run. */
struct outcome {
    float logp[S], db[C * R], grads[NUM_PARAMS][64 * C];
};

static size_t run_to(struct graph *g, struct outcome *o)
{
    size_t bytes;
    memset(o, 0, sizeof *o);
    run_once(g, o->logp, &bytes);
    memcpy(o->db, g->db, sizeof o->db);
    for (int p = 0; p < NUM_PARAMS; p++) {
        assert_true(count(p) <= sizeof *o->grads / sizeof(float));
        memcpy(o->grads[p], g->grad[p], count(p) * sizeof(float));
    }
    return bytes;
}

/* Recomputing changes no bit, and the more there is of it the less memory it takes. */
static void test_recompute(void **state)
{
    static struct outcome kept, again;
    (void)state;
    for (int frozen = 0; frozen < 2; frozen++) {
        struct graph g;
        graph_init(&g, "cpu");
        g.lora = 1, g.frozen = frozen;
        size_t before = run_to(&g, &kept), bytes;
        for (int how = RECOMPUTE_SELECTIVE; how < NUM_RECOMPUTE; how++, before = bytes) {
            set_all(&g, how);
            bytes = run_to(&g, &again);
            assert_memory_equal(&kept, &again, sizeof kept);
            /* without copies beside the work, offloaded is full */
            assert_true(how == RECOMPUTE_OFFLOAD ? bytes == before : bytes < before);
        }
        for (int mix = 0; mix < 64; mix++) { /* each block its own way */
            for (int l = 0; l < LAYERS; l++) g.how[l] = (enum recompute)(mix >> 2 * l & 3);
            run_to(&g, &again);
            assert_memory_equal(&kept, &again, sizeof kept);
        }
        graph_free(&g);
    }
}

/* What a selective region runs again are norms and SwiGLU, not the rotation of what is kept. */
static void test_selective(void **state)
{
    (void)state;
    struct err e = {0};
    struct graph g;
    struct tape *t;
    struct tape_plan plan = {0};
    graph_init(&g, "null");
    set_all(&g, RECOMPUTE_SELECTIVE), g.lora = 1;
    CHECK_OK(tape_create(&t, &g.device, 128, &e), &e);
    tape_reset(t, 1);
    record(t, &g);
    CHECK_OK(tape_plan(t, &plan, &e), &e);
    int norms = 0, turns = 0, swiglus = 0;
    for (int32_t i = 0; i < t->num_nodes; i++) {
        const char *name = t->nodes[i].op->name;
        if (t->again_at[i] < 0) continue;
        assert_true(t->again_at[i] > i && t->nodes[t->again_at[i]].region == t->nodes[i].region);
        norms += !strcmp(name, "norm"), turns += !strcmp(name, "rope");
        swiglus += !strcmp(name, "swiglu");
        assert_true(t->nodes[i].op->cheap);
    }
    assert_int_equal(norms, 3 * LAYERS); /* of x, twice, and of the queries */
    assert_int_equal(turns, LAYERS);     /* of the normed queries; keys are kept turned */
    assert_int_equal(swiglus, LAYERS);
    tape_plan_free(&plan);
    tape_destroy(t);
    graph_free(&g);
}

/* Inputs on the host have two short lives on the device, which do not meet another region's third
 * from there; the last region's stay. */
static void test_offload(void **state)
{
    (void)state;
    struct err e = {0};
    struct graph g;
    struct tape *t;
    struct tape_plan plan = {0};
    graph_init(&g, "null");
    set_all(&g, RECOMPUTE_OFFLOAD);
    CHECK_OK(tape_create(&t, &g.device, 128, &e), &e);
    tape_reset(t, 1);
    record(t, &g);
    CHECK_OK(tape_plan(t, &plan, &e), &e);
    int32_t last_back = -1;
    for (int32_t r = 0; r < LAYERS; r++) {
        int32_t id = t->regions[r].away;
        assert_true(r + 1 < LAYERS ? id >= 0 && t->next_away[id] < 0 : id < 0);
        if (id < 0) continue;
        const struct tape_buffer *b = &plan.buffers[id * BUFFERS_PER_TENSOR];
        assert_int_equal(b[BUFFER_DATA].last, t->regions[r].last - 1);
        assert_true(b[BUFFER_AGAIN].first > t->num_nodes);
        assert_true(last_back < 0 || b[BUFFER_AGAIN].first < last_back);
        last_back = b[BUFFER_AGAIN].first;
        assert_true(b[BUFFER_HOST].first < 0 && b[BUFFER_HOST].bytes >= N * C * sizeof(float));
    }
    assert_int_equal(plan.host_bytes, (LAYERS - 1) * size_align(N * C * sizeof(float), 256));
    tape_plan_free(&plan);
    tape_destroy(t);
    graph_free(&g);
}

/* A CPU that copies beside its work, as late as its contract lets it. What is copied must not
 * change meanwhile, nor may where it goes be used. */
static struct pending {
    char *to;
    const char *from;
    size_t bytes;
    char was[N * C * sizeof(float)]; /* of from, or of to where a copy comes in */
    int in;
} pending[4];
static int num_pending, copies_in, copies_out;

static void begin_copy(void *to, const void *from, size_t bytes, int in)
{
    struct pending *p = &pending[num_pending++];
    assert_true(num_pending <= 4 && bytes <= sizeof p->was);
    *p = (struct pending){.to = to, .from = from, .bytes = bytes, .in = in};
    if (in) memset(to, 0xff, bytes);
    memcpy(p->was, in ? to : from, bytes);
}

static void copy_out(struct device *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    copies_out++;
    begin_copy(to, from, bytes, 0);
}

static void copy_in(struct device *d, void *to, const void *from, size_t bytes)
{
    (void)d;
    copies_in++;
    begin_copy(to, from, bytes, 1);
}

static void copy_wait(struct device *d)
{
    (void)d;
    for (struct pending *p = pending; p < pending + num_pending; p++) {
        assert_memory_equal(p->in ? p->to : p->from, p->was, p->bytes);
        memcpy(p->to, p->from, p->bytes);
    }
    num_pending = 0;
}

/* The same bits with inputs on the host, in any mix with other blocks. */
static void test_offload_bits(void **state)
{
    static struct outcome kept, again;
    struct kernels beside = kernels_cpu;
    char host[LAYERS * 512];
    struct graph g;
    (void)state;
    beside.copy_out = copy_out, beside.copy_in = copy_in, beside.copy_wait = copy_wait;
    graph_init(&g, "cpu");
    g.lora = 1;
    run_to(&g, &kept);
    g.device.k = &beside;
    g.host = host;
    for (int mix = 0; mix < 64; mix++) {
        int away = 0;
        copies_in = copies_out = 0;
        for (int l = 0; l < LAYERS; l++) {
            g.how[l] = (enum recompute)(mix >> 2 * l & 3);
            away += l + 1 < LAYERS && g.how[l] == RECOMPUTE_OFFLOAD;
        }
        memset(host, 0xff, sizeof host);
        run_to(&g, &again);
        assert_memory_equal(&kept, &again, sizeof kept);
        assert_true(!num_pending && copies_in == away && copies_out == away);
    }
    graph_free(&g);
}

struct visits {
    int entered[3], left[3];
    int32_t inside;
};

static void on_enter(void *context, int32_t region, enum tape_pass pass)
{
    struct visits *v = context;
    assert_int_equal(v->inside, -1);
    v->inside = region;
    v->entered[pass]++;
}

static void on_leave(void *context, int32_t region, enum tape_pass pass)
{
    struct visits *v = context;
    assert_int_equal(v->inside, region);
    v->inside = -1;
    v->left[pass]++;
}

static void test_hooks(void **state)
{
    (void)state;
    struct err e = {0};
    struct graph g;
    struct tape *t;
    struct tape_plan plan = {0};
    struct visits v = {.inside = -1};
    graph_init(&g, "null");
    set_all(&g, RECOMPUTE_FULL);
    CHECK_OK(tape_create(&t, &g.device, 128, &e), &e);
    tape_set_hooks(t, (struct tape_hooks){&v, on_enter, on_leave});
    tape_reset(t, 1);
    record(t, &g);
    CHECK_OK(tape_plan(t, &plan, &e), &e);
    CHECK_OK(tape_bind(t, &plan, NULL, NULL, &e), &e);
    tape_forward(t);
    tape_backward(t, g.head.logp, g.seed);
    for (int pass = 0; pass < 3; pass++) {
        assert_int_equal(v.entered[pass], LAYERS);
        assert_int_equal(v.left[pass], LAYERS);
    }
    tape_plan_free(&plan);
    tape_destroy(t);
    graph_free(&g);
}

/* Broken recordings are refused with a message, and the first error stays. */
static void test_errors(void **state)
{
    (void)state;
    struct err e = {0};
    struct graph g;
    struct tape *t;
    struct tape_plan plan = {0};
    graph_init(&g, "null");
    CHECK_OK(tape_create(&t, &g.device, 8, &e), &e);

    tape_reset(t, 1);
    struct tensor *x = op_embedding(t, param(&g, t, P_TABLE), &g.tokens);
    assert_null(op_linear(t, x, param(&g, t, P_O), NULL, NULL));
    assert_null(op_norm(t, NULL, param(&g, t, P_NORM), 1, 1e-5f));
    assert_int_equal(tape_plan(t, &plan, &e), ERR_SHAPE);
    assert_string_equal(e.message, "linear: x has 8 columns, w [8, 16]");

    tape_reset(t, 1); /* the embedding's rows are turned in place while the norm still needs them */
    x = op_embedding(t, param(&g, t, P_TABLE), &g.tokens);
    op_norm(t, x, param(&g, t, P_NORM), 1, 1e-5f);
    op_rope(t, x, g.rope, &g.tokens, C / D);
    assert_int_equal(tape_plan(t, &plan, &e), ERR_SHAPE);
    assert_string_equal(e.message, "rope changes in place what norm still needs");

    tape_reset(t, 1); /* an addend that is used again */
    x = op_embedding(t, param(&g, t, P_TABLE), &g.tokens);
    op_linear(t, op_norm(t, x, param(&g, t, P_NORM), 1, 1e-5f), param(&g, t, P_HEAD), NULL, NULL);
    struct tensor *y =
        op_linear(t, x, tape_param(t, "w", g.data[0], g.grad[0], 1, C, C, 0), NULL, x);
    op_norm(t, x, param(&g, t, P_NORM), 1, 1e-5f);
    (void)y;
    assert_int_equal(tape_plan(t, &plan, &e), ERR_SHAPE);

    tape_reset(t, 1); /* more nodes than the tape was made for */
    x = op_embedding(t, param(&g, t, P_TABLE), &g.tokens);
    for (int i = 0; i < 9; i++) x = op_norm(t, x, param(&g, t, P_NORM), 1, 1e-5f);
    assert_null(x);
    assert_int_equal(tape_status(t, &e), ERR_SHAPE);

    tape_plan_free(&plan);
    tape_destroy(t);
    graph_free(&g);
}

/* A recording with fewer rows runs on the plan of a larger one; one with more is refused. */
static void test_bind(void **state)
{
    (void)state;
    struct err e = {0};
    struct graph g;
    struct tape *t;
    struct tape_plan plan = {0};
    graph_init(&g, "null");
    CHECK_OK(tape_create(&t, &g.device, 128, &e), &e);
    tape_reset(t, 1);
    record(t, &g);
    CHECK_OK(tape_plan(t, &plan, &e), &e);
    g.tokens.N = N - 3;
    tape_reset(t, 1);
    record(t, &g);
    CHECK_OK(tape_bind(t, &plan, NULL, NULL, &e), &e);
    g.tokens.N = N + 64;
    tape_reset(t, 1);
    record(t, &g);
    assert_int_equal(tape_bind(t, &plan, NULL, NULL, &e), ERR_SHAPE);
    tape_plan_free(&plan);
    tape_destroy(t);
    graph_free(&g);
}

static void test_print(void **state)
{
    (void)state;
    struct err e = {0};
    struct graph g;
    struct tape *t;
    struct buf text;
    buf_init(&text, 1 << 16);
    graph_init(&g, "null");
    CHECK_OK(tape_create(&t, &g.device, 128, &e), &e);
    tape_reset(t, 1);
    record(t, &g);
    assert_int_equal(tape_print(t, 0, 3, &text), OK);
    print_message("%s", text.data);
    assert_non_null(strstr(text.data, "= embedding(table[11,8])"));
    assert_non_null(strstr(text.data, "keeps"));
    buf_free(&text);
    tape_destroy(t);
    graph_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),      cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_recompute), cmocka_unit_test(test_selective),
        cmocka_unit_test(test_offload),   cmocka_unit_test(test_offload_bits),
        cmocka_unit_test(test_hooks),     cmocka_unit_test(test_errors),
        cmocka_unit_test(test_bind),      cmocka_unit_test(test_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* replay.c - a training step's base products alone, one library call each: the ceiling of a step
 * on this machine with this library.
 *
 *     cria train CONFIG --profile N            writes output_dir/profile.json
 *     bench_replay profile.json [--repeat N] [--json FILE]
 *
 * The calls have the shapes and strides of the step's, come in its order and on as many threads.
 * Operands lie as the step's did, overlaps included, so caches hold what they held then; nothing is
 * computed between the products. The head's products go in the rows and words that the step took at
 * once. A product whose inner dimension the trainer cuts for the sake of determinism is one call
 * here.
 *
 * Prints the table of the profile with the replay's time beside each op that has products.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/cpu/blas.h"
#include "kernels/profile.h"

enum { OPERANDS_EACH = 5, REPEATS_MAX = 1000 };

/* Where the step had it; then where it is here. */
struct operand {
    uint64_t at;
    size_t bytes;
    float *here;
};

struct call {
    enum profile_op op;
    struct profile_product p;
    struct operand x, w, y, dx, dw; /* no bytes: not there */
};

struct replay {
    json_t *profile;
    struct call *calls;
    size_t count;
    double seconds[REPEATS_MAX], by_op[NUM_PROFILE_OPS]; /* each repeat; sums over all */
    int repeats, threads;
};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "bench_replay: %s%s%s\n", what, e ? ": " : "", e ? e->message : "");
    exit(1);
}

/* --- reading --- */

static int64_t number(const json_t *o, const char *key)
{
    const json_t *value = json_object_get(o, key);
    if (!json_is_integer(value)) die(key, &(struct err){.message = "not in the profile"});
    return json_integer_value(value);
}

static struct operand operand(const json_t *o, const char *key, int64_t rows, int64_t stride,
                              int64_t columns)
{
    uint64_t at = (uint64_t)number(o, key);
    int64_t floats = rows > 0 ? (rows - 1) * stride + columns : 0;
    return (struct operand){at, at ? (size_t)floats * sizeof(float) : 0, NULL};
}

static struct call read_call(const json_t *o)
{
    struct call c = {.p = {.N = (int32_t)number(o, "N"),
                           .I = (int32_t)number(o, "I"),
                           .O = (int32_t)number(o, "O"),
                           .chunk = (int32_t)number(o, "chunk"),
                           .words = (int32_t)number(o, "words"),
                           .accumulate = (int32_t)number(o, "accumulate"),
                           .ldx = (int32_t)number(o, "ldx"),
                           .ldy = (int32_t)number(o, "ldy")}};
    const char *name = json_string_value(json_object_get(o, "op"));
    while (c.op < NUM_PROFILE_OPS && name && strcmp(name, profile_op_name(c.op)) != 0) c.op++;
    if (!name || c.op == NUM_PROFILE_OPS || c.p.N < 1 || c.p.I < 1 || c.p.O < 1 || c.p.chunk < 0 ||
        (c.p.chunk && (c.p.words < 1 || c.p.words > c.p.O)))
        die("a product that this program does not know", NULL);
    c.x = operand(o, "x", c.p.N, c.p.ldx, c.p.I);
    c.w = operand(o, "w", c.p.O, c.p.I, c.p.I);
    c.y = operand(o, "y", c.p.chunk ? c.p.chunk : c.p.N, c.p.ldy, c.p.chunk ? c.p.words : c.p.O);
    c.dx = operand(o, "dx", c.p.N, c.p.I, c.p.I);
    c.dw = operand(o, "dw", c.p.O, c.p.I, c.p.I);
    return c;
}

static void read_profile(struct replay *r, const char *path)
{
    struct err e = {0};
    if (json_parse_file(path, &r->profile, &e)) die(path, &e);
    const json_t *products = json_object_get(r->profile, "products");
    r->count = json_array_size(products);
    r->calls = mem_calloc(r->count + 1, sizeof *r->calls);
    if (!r->calls || !r->count) die("no products in the profile", NULL);
    for (size_t i = 0; i < r->count; i++) r->calls[i] = read_call(json_array_get(products, i));
    r->threads = (int)number(r->profile, "threads");
}

/* --- operands: what overlapped overlaps, what lay apart is brought together --- */

static int by_address(const void *a, const void *b)
{
    uint64_t x = (*(struct operand *const *)a)->at, y = (*(struct operand *const *)b)->at;
    return x < y ? -1 : x > y;
}

/* operand i of all calls; NULL: not there */
static struct operand *nth_operand(const struct replay *r, size_t i)
{
    struct call *c = &r->calls[i / OPERANDS_EACH];
    struct operand *all[OPERANDS_EACH] = {&c->x, &c->w, &c->y, &c->dx, &c->dw};
    struct operand *o = all[i % OPERANDS_EACH];
    return o->bytes ? o : NULL;
}

static void place_block(struct operand **first, size_t count, uint64_t end)
{
    enum { PAGE = 4096 };
    uint64_t base = first[0]->at - first[0]->at % PAGE; /* lines and pages split as they did */
    char *block = mem_pages((size_t)(end - base));
    if (!block) die("no memory for the operands", NULL);
    for (size_t i = 0; i < count; i++)
        first[i]->here = (float *)(void *)(block + (first[i]->at - base));
}

static void place_operands(struct replay *r)
{
    struct operand **list = mem_calloc(r->count * OPERANDS_EACH, sizeof(struct operand *));
    size_t n = 0, first = 0;
    if (!list) die("no memory for a list", NULL);
    for (size_t i = 0; i < r->count * OPERANDS_EACH; i++)
        if (nth_operand(r, i)) list[n++] = nth_operand(r, i);
    qsort(list, n, sizeof(struct operand *), by_address);
    uint64_t end = 0;
    for (size_t i = 0; i <= n; i++) {
        if (i > first && (i == n || list[i]->at > end)) {
            place_block(list + first, i - first, end);
            first = i;
        }
        if (i < n && (i == first || list[i]->at + list[i]->bytes > end))
            end = list[i]->at + list[i]->bytes;
    }
    mem_free(list);
}

/* Numbers that do not vanish through a chain of products: denormal ones would be slow. */
static void fill(const struct operand *o, uint64_t id, float most)
{
    int64_t n = (int64_t)(o->bytes / sizeof(float));
    if (n) rng_fill_uniform(rng_key(1, RNG_INIT, id), o->here, n, -most, most);
}

static void fill_operands(const struct replay *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct call *c = &r->calls[i];
        fill(&c->x, 3 * i, 1);
        fill(&c->y, 3 * i + 1, 1);
        fill(&c->w, 3 * i + 2, 1.7f / (float)(1 + c->p.I / 20));
    }
}

/* --- running --- */

/* `rows` of them from s on, `words` of the vocabulary from v on. */
static void run_head_cut(const struct call *c, int32_t s, int32_t rows, int32_t v, int32_t words)
{
    const struct profile_product *p = &c->p;
    const float *x = c->x.here + (size_t)s * (size_t)p->ldx;
    const float *w = c->w.here + (size_t)v * (size_t)p->I;
    cpu_gemm_once(BLAS_PLAIN, BLAS_TURNED, rows, words, p->I, x, p->ldx, w, p->I, 0, c->y.here,
                  p->ldy);
    if (c->dx.here)
        cpu_gemm_once(BLAS_PLAIN, BLAS_PLAIN, rows, p->I, words, c->y.here, p->ldy, w, p->I, v > 0,
                      c->dx.here + (size_t)s * (size_t)p->I, p->I);
    if (c->dw.here)
        cpu_gemm_once(BLAS_TURNED, BLAS_PLAIN, words, p->I, rows, c->y.here, p->ldy, x, p->ldx, 1,
                      c->dw.here + (size_t)v * (size_t)p->I, p->I);
}

static void run_head(const struct call *c)
{
    const struct profile_product *p = &c->p;
    for (int32_t s = 0; s < p->N; s += p->chunk)
        for (int32_t v = 0; v < p->O; v += p->words)
            run_head_cut(c, s, p->N - s < p->chunk ? p->N - s : p->chunk, v,
                         p->O - v < p->words ? p->O - v : p->words);
}

static void run_call(const struct call *c)
{
    const struct profile_product *p = &c->p;
    if (p->chunk)
        run_head(c);
    else if (c->op == PROFILE_linear_forward)
        cpu_gemm_once(BLAS_PLAIN, BLAS_TURNED, p->N, p->O, p->I, c->x.here, p->ldx, c->w.here, p->I,
                      p->accumulate, c->y.here, p->ldy);
    else if (c->op == PROFILE_linear_by_input)
        cpu_gemm_once(BLAS_PLAIN, BLAS_PLAIN, p->N, p->I, p->O, c->y.here, p->ldy, c->w.here, p->I,
                      p->accumulate, c->x.here, p->ldx);
    else
        cpu_gemm_once(BLAS_TURNED, BLAS_PLAIN, p->O, p->I, p->N, c->y.here, p->ldy, c->x.here,
                      p->ldx, 1, c->w.here, p->I);
}

static void run_once(struct replay *r, int repeat)
{
    double began = clock_seconds(), before = began;
    for (size_t i = 0; i < r->count; i++) {
        run_call(&r->calls[i]);
        double now = clock_seconds();
        if (repeat >= 0) r->by_op[r->calls[i].op] += now - before;
        before = now;
    }
    if (repeat >= 0) r->seconds[repeat] = before - began;
}

/* --- telling --- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_size);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

static double step_median(const struct replay *r)
{
    const json_t *list = json_object_get(r->profile, "seconds");
    double seconds[REPEATS_MAX];
    int n = (int)json_array_size(list);
    if (n < 1 || n > REPEATS_MAX) die("no steps in the profile", NULL);
    for (int i = 0; i < n; i++) seconds[i] = json_real_value(json_array_get(list, (size_t)i));
    return median(seconds, n);
}

static void print_table(const struct replay *r, double step, double alone)
{
    const json_t *ops = json_object_get(r->profile, "ops");
    double steps = (double)number(r->profile, "steps");
    printf("%-34s %10s %8s %12s %8s\n", "op", "ms", "share", "products ms", "of it");
    for (size_t i = 0; i < json_array_size(ops); i++) {
        const json_t *o = json_array_get(ops, i);
        const char *name = json_string_value(json_object_get(o, "op"));
        double ms = 1e3 * json_real_value(json_object_get(o, "seconds")) / steps, replayed = 0;
        for (int op = 0; op < NUM_PROFILE_OPS; op++)
            if (name && !strcmp(name, profile_op_name((enum profile_op)op)))
                replayed = 1e3 * r->by_op[op] / r->repeats;
        printf("%-34s %10.2f %6.1f %%", json_string_value(json_object_get(o, "text")), ms,
               100 * json_real_value(json_object_get(o, "share")));
        if (replayed > 0) printf(" %12.2f %6.0f %%", replayed, 100 * replayed / ms);
        printf("\n");
    }
    double tokens = (double)number(r->profile, "tokens") / steps;
    printf("%-34s %10.2f %8s %12.2f %6.0f %%\n", "step", 1e3 * step, "", 1e3 * alone,
           100 * alone / step);
    printf("tokens/s: %.0f of the %.0f that the base products alone would let through\n",
           tokens / step, tokens / alone);
}

static void write_json(struct replay *r, const char *path, double step, double alone)
{
    struct err e = {0};
    json_t *ops = json_object();
    for (int op = 0; op < NUM_PROFILE_OPS; op++)
        if (r->by_op[op] > 0)
            json_object_set_new(ops, profile_op_name((enum profile_op)op),
                                json_real(r->by_op[op] / r->repeats));
    json_t *o = json_pack("{s:f, s:f, s:f, s:i, s:o}", "step_seconds", step, "replay_seconds",
                          alone, "share", alone / step, "repeats", r->repeats, "ops", ops);
    if (!o || json_write_file(o, path, &e)) die(path, &e);
    json_decref(o);
}

int main(int argc, char **argv)
{
    static struct replay r = {.repeats = 5};
    const char *path = NULL, *json = NULL;
    struct device device = {0};
    struct err e = {0};
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json") && i + 1 < argc)
            json = argv[++i];
        else if (!strcmp(argv[i], "--repeat") && i + 1 < argc)
            r.repeats = (int)strtol(argv[++i], NULL, 10);
        else
            path = argv[i];
    }
    if (!path || r.repeats < 1 || r.repeats > REPEATS_MAX)
        die("usage: bench_replay profile.json [--repeat 1 ... 1000] [--json FILE]", NULL);
    read_profile(&r, path);
    if (device_open(&device, "cpu", r.threads, &e)) die("no device", &e); /* sets the threads */
    place_operands(&r);
    fill_operands(&r);
    for (int i = -1; i < r.repeats; i++) run_once(&r, i); /* the first one warms up */
    double step = step_median(&r), alone = median(r.seconds, r.repeats);
    print_table(&r, step, alone);
    if (json) write_json(&r, json, step, alone);
    mem_free(r.calls);
    json_decref(r.profile);
    device_close(&device);
    return 0;
}

/* attention.c - one side of tools/bench_peer/attention.py: our attention, a call at a time.
 *
 *     bench_attention        reads lines "N H KV D" or "prefix P R H KV D share"
 *
 * and answers each with the milliseconds of one forward and one backward call. The first is one
 * causal document of N rows, the second a prompt of P rows and two replies of R, sharing the prompt
 * (share 1) or as two documents (0). Memory is kept from line to line while the shape stays.
 * Threads as OMP_NUM_THREADS says.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "kernels/kernels.h"

struct shape {
    int32_t N, H, KV, D, num_segments;
    struct segment segments[3];
};

struct call {
    struct kern_attention a;
    struct kern_attention_grad g;
    float *memory, *scratch;
    size_t bytes, scratch_bytes;
};

static int parse(struct shape *s, const char *line)
{
    int P, R, share;
    *s = (struct shape){0};
    if (sscanf(line, "%d %d %d %d", &s->N, &s->H, &s->KV, &s->D) == 4) {
        s->num_segments = 1;
        s->segments[0] = (struct segment){0, s->N, 0, 0, 0, 0};
        return 1;
    }
    if (sscanf(line, "prefix %d %d %d %d %d %d", &P, &R, &s->H, &s->KV, &s->D, &share) != 6)
        return 0;
    if (share) { /* each reply begins with its own copy of the prompt's last token */
        s->num_segments = 3, s->N = P - 1 + 2 * (R + 1);
        s->segments[0] = (struct segment){0, P - 1, 0, 0, 0, 0};
        for (int i = 0; i < 2; i++)
            s->segments[1 + i] = (struct segment){P - 1 + i * (R + 1), R + 1, P - 1, 0, P - 1, 0};
    } else {
        s->num_segments = 2, s->N = 2 * (P + R);
        for (int i = 0; i < 2; i++)
            s->segments[i] = (struct segment){i * (P + R), P + R, 0, 0, 0, i};
    }
    return 1;
}

static void call_free(struct device *d, struct call *c)
{
    if (c->memory) d->k->release(d, c->memory, c->bytes);
    if (c->scratch) d->k->release(d, c->scratch, c->scratch_bytes);
    *c = (struct call){0};
}

static enum status call_make(struct device *d, struct call *c, const struct shape *s, struct err *e)
{
    size_t q = (size_t)s->N * s->H * s->D, kv = (size_t)s->N * s->KV * s->D;
    size_t all = 4 * q + 4 * kv + (size_t)s->N * s->H;
    call_free(d, c);
    c->a = (struct kern_attention){.N = s->N,
                                   .H = s->H,
                                   .KV = s->KV,
                                   .D = s->D,
                                   .scale = 1 / sqrtf((float)s->D),
                                   .segments = s->segments,
                                   .num_segments = s->num_segments,
                                   .ldq = s->H * s->D,
                                   .ldk = s->KV * s->D,
                                   .ldv = s->KV * s->D,
                                   .ldo = s->H * s->D};
    c->bytes = all * sizeof(float), c->scratch_bytes = d->k->attention_scratch(d, &c->a);
    TRY(d->k->alloc(d, c->bytes, (void **)&c->memory, e));
    TRY(d->k->alloc(d, c->scratch_bytes, (void **)&c->scratch, e));
    rng_fill_normal(rng_key(1, RNG_INIT, 1), c->memory, (int64_t)all, 0, 1);
    float *at = c->memory;
    c->a.q = at, at += q, c->a.o = at, at += q, c->g.d_o = at, at += q, c->g.dq = at, at += q;
    c->a.k = at, at += kv, c->a.v = at, at += kv, c->g.dk = at, at += kv, c->g.dv = at, at += kv;
    c->a.lse = at;
    c->g.lddq = c->a.ldq, c->g.lddk = c->g.lddv = c->a.ldk;
    return OK;
}

int main(void)
{
    char line[200], last[200] = "";
    struct device d = {0};
    struct shape s;
    struct call c = {0};
    struct err e = {0};
    if (device_open(&d, "cpu", 0, &e)) goto failed;
    while (fgets(line, sizeof line, stdin)) {
        if (strcmp(line, last) != 0) {
            if (!parse(&s, line)) return fprintf(stderr, "what is %s", line), 2;
            if (call_make(&d, &c, &s, &e)) goto failed;
            snprintf(last, sizeof last, "%s", line);
        }
        double begin = clock_seconds();
        d.k->attention_forward(&d, &c.a, c.scratch);
        double middle = clock_seconds();
        d.k->attention_backward(&d, &c.a, &c.g, c.scratch);
        printf("%.4f %.4f\n", (middle - begin) * 1e3, (clock_seconds() - middle) * 1e3);
        fflush(stdout);
    }
    call_free(&d, &c);
    device_close(&d);
    return 0;
failed:
    return fprintf(stderr, "%s\n", e.message), 1;
}

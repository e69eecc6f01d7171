#include "run/suspects.h"

#include <math.h>
#include <stdio.h>

void suspects_clear(struct suspects *s) { s->n = 0; }

static int is_worse(double a, double b) { return isnan(a) ? !isnan(b) : a > b; }

/* Of a document's pieces the worst one stays. */
static void insert(struct suspects *s, struct suspect new)
{
    int at = 0;
    while (at < s->n && s->worst[at].document != new.document) at++;
    if (at < s->n) {
        if (!is_worse(new.loss, s->worst[at].loss)) return;
        for (s->n--; at < s->n; at++) s->worst[at] = s->worst[at + 1];
    }
    at = s->n;
    while (at > 0 && is_worse(new.loss, s->worst[at - 1].loss)) at--;
    if (at == SUSPECTS_MAX) return;
    if (s->n < SUSPECTS_MAX) s->n++;
    for (int i = s->n - 1; i > at; i--) s->worst[i] = s->worst[i - 1];
    s->worst[at] = new;
}

/* Rows ascend, so a document's lie together, or those of a piece of one. */
void suspects_add(struct suspects *s, const struct batch *b, const float *logp)
{
    for (int32_t i = 0, end; i < b->S; i = end) {
        int32_t key = b->keys[b->rows[i]];
        double loss = 0, weight = 0;
        for (end = i; end < b->S && b->keys[b->rows[end]] == key; end++) {
            loss -= (double)b->weights[end] * (double)logp[end];
            weight += b->weights[end];
        }
        insert(s, (struct suspect){b->documents[b->rows[i]], loss / weight});
    }
}

void suspects_describe(const struct suspects *s, const struct loader *loader, char *out,
                       size_t size)
{
    char place[160];
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < s->n && used + 1 < size; i++) {
        loader_describe(loader, s->worst[i].document, place, sizeof place);
        int n = snprintf(out + used, size - used, "%s%s (%.4g)", i ? ", " : "", place,
                         s->worst[i].loss);
        used += n > 0 ? (size_t)n : 0;
    }
}

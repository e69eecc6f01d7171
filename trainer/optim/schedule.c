#include "optim/schedule.h"

#include <math.h>
#include <string.h>

static const char *const words[] = {
#define X(name, word, factor) word,
    SCHEDULE_TABLE(X)
#undef X
};

enum schedule_kind schedule_find(const char *name)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(words[i], name)) return (enum schedule_kind)i;
    return SCHEDULE_LINEAR;
}

static double shape(enum schedule_kind kind, double p, double rho)
{
    (void)rho;
    switch (kind) {
#define X(name, word, factor) \
    case SCHEDULE_##name: return factor;
        SCHEDULE_TABLE(X)
#undef X
    }
    return 1;
}

double schedule_lr(const struct schedule *s, int64_t step)
{
    int64_t warmup = s->kind == SCHEDULE_CONSTANT ? 0 : s->warmup;
    if (step < warmup) return s->base * (double)step / (double)(warmup > 1 ? warmup : 1);
    int64_t rest = s->total - warmup;
    double p = (double)(step - warmup) / (double)(rest > 1 ? rest : 1);
    return s->base * shape(s->kind, p > 1 ? 1 : p, s->floor);
}

/* schedule.h - learning rate by step: one table of shapes behind one warm-up.
 *
 * lr(k) = base * factor(k), k = 0, 1, ...: with w warm-up steps the factor is k/w first, so step 0
 * has lr 0 (as in transformers), then the shape of k over the remaining T - w steps.
 */
#ifndef CRIA_OPTIM_SCHEDULE_H
#define CRIA_OPTIM_SCHEDULE_H

#include <stdint.h>

/* name as users write it, factor after warm-up; p = (k - w) / max(1, T - w) in [0, 1],
 * rho = floor */
#define SCHEDULE_TABLE(X)                                                                    \
    X(LINEAR, "linear", 1 - p)                                                               \
    X(COSINE, "cosine", 0.5 * (1 + cos(M_PI * p)))                                           \
    X(COSINE_WITH_MIN_LR, "cosine_with_min_lr", 0.5 * (1 + cos(M_PI * p)) * (1 - rho) + rho) \
    X(CONSTANT, "constant", 1)                                                               \
    X(CONSTANT_WITH_WARMUP, "constant_with_warmup", 1)

enum schedule_kind {
#define X(name, ...) SCHEDULE_##name,
    SCHEDULE_TABLE(X)
#undef X
};

struct schedule {
    enum schedule_kind kind;
    double base;           /* peak learning rate */
    int64_t warmup, total; /* steps; SCHEDULE_CONSTANT has no warm-up */
    double floor;          /* rho: smallest factor of cosine_with_min_lr */
};

/* The kind of this name; SCHEDULE_LINEAR for one that is not in the table. */
enum schedule_kind schedule_find(const char *name);

double schedule_lr(const struct schedule *s, int64_t step);

#endif

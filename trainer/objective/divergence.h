/* divergence.h - how f-DPO turns a log-ratio to the reference into a score: f'(t) at t = e^x.
 *
 * One table, a row a divergence. reverse_kl leaves the log-ratio as it is: plain DPO. Wang et al.,
 * "Beyond Reverse KL", names and limits as TRL's f_divergence_type.
 */
#ifndef CRIA_OBJECTIVE_DIVERGENCE_H
#define CRIA_OBJECTIVE_DIVERGENCE_H

#include <stddef.h>

/* name as users write it, help, function of divergence.c */
#define DIVERGENCE_TABLE(X)                                                               \
    X(REVERSE_KL, "reverse_kl", "x itself", reverse_kl)                                   \
    X(FORWARD_KL, "forward_kl", "1 - e^-x", forward_kl)                                   \
    X(JS, "js_divergence", "log 2 + log sigmoid x", js)                                   \
    X(ALPHA, "alpha_divergence",                                                          \
      "(e^((a-1)x) - 1)/(a-1), a = f_alpha_divergence_coef; the exponent ends at 80, an " \
      "a within 1e-6 of 1 is reverse_kl",                                                 \
      alpha)

enum divergence {
#define X(name, ...) DIVERGENCE_##name,
    DIVERGENCE_TABLE(X)
#undef X
        NUM_DIVERGENCES
};

const char *divergence_name(enum divergence d);

/* The row of this name; -1: there is none. */
int divergence_find(const char *name);

/* The score of log-ratio x; *slope is its derivative. `a` matters to alpha_divergence only. */
double divergence_score(enum divergence d, double a, double x, double *slope);

#endif

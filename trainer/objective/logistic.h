/* logistic.h - sigmoid and its logarithm, exact at both ends. */
#ifndef CRIA_OBJECTIVE_LOGISTIC_H
#define CRIA_OBJECTIVE_LOGISTIC_H

#include <math.h>

static inline double logistic_sigmoid(double x)
{
    double e = exp(-fabs(x));
    return (x < 0 ? e : 1) / (1 + e);
}

/* log sigmoid(x); its derivative is sigmoid(-x). */
static inline double logistic_log(double x) { return fmin(x, 0) - log1p(exp(-fabs(x))); }

#endif

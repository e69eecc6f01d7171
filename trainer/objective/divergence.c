#include "objective/divergence.h"

#include <math.h>
#include <string.h>

#include "objective/logistic.h"

/* Where TRL ends alpha_divergence's exponent, so that fp32 holds the score. */
#define ALPHA_EXPONENT_MAX 80.0
/* This near to 1, (e^((a-1)x) - 1)/(a-1) is taken for its limit x. */
#define ALPHA_LIMIT 1e-6

static double reverse_kl(double a, double x, double *slope)
{
    (void)a;
    *slope = 1;
    return x;
}

static double forward_kl(double a, double x, double *slope)
{
    (void)a;
    *slope = exp(-x);
    return 1 - *slope;
}

static double js(double a, double x, double *slope)
{
    (void)a;
    *slope = logistic_sigmoid(-x);
    return M_LN2 + logistic_log(x);
}

static double alpha(double a, double x, double *slope)
{
    double k = a - 1;
    if (fabs(k) < ALPHA_LIMIT) return reverse_kl(a, x, slope);
    int over = k * x > ALPHA_EXPONENT_MAX;
    double exponent = over ? ALPHA_EXPONENT_MAX : k * x;
    *slope = over ? 0 : exp(exponent);
    return expm1(exponent) / k;
}

static const struct {
    const char *name;
    double (*score)(double a, double x, double *slope);
} table[NUM_DIVERGENCES] = {
#define X(id, name, help, function) {name, function},
    DIVERGENCE_TABLE(X)
#undef X
};

const char *divergence_name(enum divergence d) { return table[d].name; }

int divergence_find(const char *name)
{
    for (int d = 0; d < NUM_DIVERGENCES; d++)
        if (!strcmp(table[d].name, name)) return d;
    return -1;
}

double divergence_score(enum divergence d, double a, double x, double *slope)
{
    return table[d].score(a, x, slope);
}

/* chart.h - curves over steps as inline SVG, with their numbers as a table beside them.
 *
 * A value that is not finite leaves a gap in its line. One point is a dot, a constant line lies in
 * the middle, a chart without any point says so. Long series are thinned to what can be seen: of
 * each stretch its smallest and its largest value stay, so that no spike is lost.
 */
#ifndef CRIA_RUN_CHART_H
#define CRIA_RUN_CHART_H

#include <stddef.h>

#include "run/html.h"

#define CHART_SERIES_MAX 3   /* there are three styles: strong, strong in the other colour, soft */
#define CHART_POINTS_MAX 800 /* of a series, after thinning */

struct chart_series {
    const char *name;
    int style;           /* 0, 1, 2: CSS classes s0, s1, s2 */
    const double *x, *y; /* [n]; x rising */
    size_t n;
    int dots; /* every point is marked */
};

struct chart {
    const char *title;
    const struct chart_series *series; /* drawn in this order */
    size_t num_series;
    int from_zero; /* the axis begins at 0 */
};

void chart_write(struct html *h, const struct chart *c);

/* Of [n] points those to draw, into index[CHART_POINTS_MAX]; returns how many. Ends stay. */
size_t chart_thin(const double *y, size_t n, size_t index[CHART_POINTS_MAX]);

/* Round numbers around low ... high: *first, *step and how many (2 ... 8) cover it. */
int chart_ticks(double low, double high, double *first, double *step);

#endif

#include "run/chart.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#define WIDTH 560
#define HEIGHT 240
#define LEFT 62
#define RIGHT 548
#define TOP 14
#define BOTTOM 206

struct frame {
    double x0, x1, y0, y1;
    double tick0, tick; /* of y */
    int ticks;
};

/* --- scales --- */

int chart_ticks(double low, double high, double *first, double *step)
{
    if (!(high > low)) { /* a constant: room around it */
        double pad = low != 0 ? fabs(low) * 0.1 : 1;
        low -= pad;
        high += pad;
    }
    double rough = (high - low) / 4, power = pow(10, floor(log10(rough)));
    double lead = rough / power;
    *step = (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10) * power;
    *first = floor(low / *step + 1e-9) * *step;
    return (int)(ceil(high / *step - 1e-9) - floor(low / *step + 1e-9)) + 1;
}

static void widen(double *low, double *high, double v)
{
    if (!isfinite(v)) return;
    if (v < *low) *low = v;
    if (v > *high) *high = v;
}

/* 0 when there is no point to draw. */
static int make_frame(const struct chart *c, struct frame *f)
{
    double low = DBL_MAX, high = -DBL_MAX;
    *f = (struct frame){.x0 = DBL_MAX, .x1 = -DBL_MAX};
    for (size_t s = 0; s < c->num_series; s++)
        for (size_t i = 0; i < c->series[s].n; i++) {
            if (!isfinite(c->series[s].y[i]) || fabs(c->series[s].y[i]) > 1e300) continue;
            widen(&f->x0, &f->x1, c->series[s].x[i]);
            widen(&low, &high, c->series[s].y[i]);
        }
    if (low > high) return 0;
    if (c->from_zero && low > 0) low = 0;
    f->ticks = chart_ticks(low, high, &f->tick0, &f->tick);
    f->y0 = f->tick0;
    f->y1 = f->tick0 + (f->ticks - 1) * f->tick;
    return 1;
}

static double place_x(const struct frame *f, double x)
{
    double share = f->x1 > f->x0 ? (x - f->x0) / (f->x1 - f->x0) : 0.5;
    return LEFT + share * (RIGHT - LEFT);
}

static double place_y(const struct frame *f, double y)
{
    return BOTTOM - (y - f->y0) / (f->y1 - f->y0) * (BOTTOM - TOP);
}

/* Smallest, largest and (if any) one that is no number, of from ... to-1, in their order. */
static size_t pick(const double *y, size_t from, size_t to, size_t out[3])
{
    size_t low = SIZE_MAX, high = SIZE_MAX, gap = SIZE_MAX, n = 0;
    for (size_t i = from; i < to; i++) {
        if (!isfinite(y[i]))
            gap = i;
        else if (low == SIZE_MAX)
            low = high = i;
        else if (y[i] < y[low])
            low = i;
        else if (y[i] > y[high])
            high = i;
    }
    for (size_t i = from; i < to && n < 3; i++)
        if (i == low || i == high || i == gap) out[n++] = i;
    return n;
}

size_t chart_thin(const double *y, size_t n, size_t index[CHART_POINTS_MAX])
{
    size_t kept = 0, buckets = CHART_POINTS_MAX / 3 - 1;
    if (n <= CHART_POINTS_MAX) {
        for (size_t i = 0; i < n; i++) index[i] = i;
        return n;
    }
    index[kept++] = 0;
    for (size_t b = 0; b < buckets; b++)
        kept += pick(y, 1 + b * (n - 2) / buckets, 1 + (b + 1) * (n - 2) / buckets, index + kept);
    index[kept++] = n - 1;
    return kept;
}

/* --- drawing --- */

/* A tick's label: as many digits as tell it from its neighbours. */
static void label(char out[32], double v, double step)
{
    double size = fabs(v) > step ? fabs(v) : step;
    if (fabs(v) < step * 1e-6) v = 0;
    if (v == 0)
        snprintf(out, 32, "0");
    else if (size >= 1e5 && size < 1e9)
        snprintf(out, 32, size >= 1e6 && step >= 1e5 ? "%.1fM" : "%.0fk",
                 size >= 1e6 && step >= 1e5 ? v / 1e6 : v / 1e3);
    else if (size >= 1e-3 && size < 1e5)
        snprintf(out, 32, "%.*f", step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9), v);
    else {
        int digits = (int)floor(log10(size) + 1e-9) - (int)floor(log10(step) + 1e-9);
        snprintf(out, 32, "%.*e", digits < 0 ? 0 : digits, v);
    }
}

static void draw_axes(struct html *h, const struct frame *f)
{
    char text[32];
    for (int i = 0; i < f->ticks; i++) {
        double v = f->tick0 + i * f->tick, y = place_y(f, v);
        label(text, v, f->tick);
        html_format(h, "<path class=\"grid\" d=\"M%d %.1fH%d\"/>", LEFT, y, RIGHT);
        html_format(h, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", LEFT - 7,
                    y + 4.5, text);
    }
    double first, step;
    int n = chart_ticks(f->x0, f->x1, &first, &step);
    if (step < 1) step = 1, first = floor(first), n = (int)(f->x1 - first) + 1;
    for (int i = 0; i < n; i++) {
        double v = first + i * step;
        if (v < f->x0 - 1e-9 || v > f->x1 + 1e-9) continue;
        label(text, v, step);
        html_format(h, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
                    place_x(f, v), BOTTOM + 18, text);
    }
    html_format(h, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">step</text>\n", RIGHT, HEIGHT - 3);
}

static void draw_series(struct html *h, const struct frame *f, const struct chart_series *s)
{
    size_t index[CHART_POINTS_MAX], n = chart_thin(s->y, s->n, index);
    int pen = 0, run = 0; /* pen: inside a line; run: points in it */
    html_format(h, "<g class=\"s%d\" data-n=\"%s\" data-p=\"[", s->style, s->name);
    for (size_t i = 0, any = 0; i < n; i++)
        if (isfinite(s->y[index[i]]))
            html_format(h, "%s[%.10g,%.5g]", any++ ? "," : "", s->x[index[i]], s->y[index[i]]);
    html_put(h, "]\"><path class=\"line\" d=\"");
    for (size_t i = 0; i < n; i++) {
        double x = s->x[index[i]], y = s->y[index[i]];
        int there = isfinite(y) && fabs(y) <= 1e300;
        if (there) html_format(h, "%c%.1f %.1f", pen ? 'L' : 'M', place_x(f, x), place_y(f, y));
        pen = there;
    }
    html_put(h, "\"/>");
    for (size_t i = 0; i < n; i++) { /* dots: asked for, or a point that has no neighbour */
        double y = s->y[index[i]];
        int there = isfinite(y) && fabs(y) <= 1e300;
        int next = i + 1 < n && isfinite(s->y[index[i + 1]]);
        if (there && (s->dots || (!run && !next)))
            html_format(h, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\"/>",
                        place_x(f, s->x[index[i]]), place_y(f, y));
        run = there;
    }
    html_put(h, "</g>\n");
}

/* --- the same in words --- */

/* First, last and lowest of the series: what a glance at the curve would tell. */
static void describe(struct html *h, const struct chart_series *s)
{
    size_t first = s->n, last = 0, low = 0, high = 0, gaps = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (!isfinite(s->y[i])) {
            gaps++;
            continue;
        }
        if (first == s->n) first = low = high = i;
        last = i;
        if (s->y[i] < s->y[low]) low = i;
        if (s->y[i] > s->y[high]) high = i;
    }
    if (first == s->n) return;
    html_format(h,
                "%s: %.4g at step %.10g, %.4g at step %.10g; lowest %.4g at step %.10g, highest "
                "%.4g at step %.10g",
                s->name, s->y[first], s->x[first], s->y[last], s->x[last], s->y[low], s->x[low],
                s->y[high], s->x[high]);
    if (gaps) html_format(h, "; %zu values are no numbers", gaps);
    html_put(h, ". ");
}

static void write_caption(struct html *h, const struct chart *c)
{
    html_put(h, "<figcaption>");
    html_element(h, "b", c->title);
    for (size_t i = 0; c->num_series > 1 && i < c->num_series; i++) {
        html_format(h, "<span class=key><i class=s%d></i>", c->series[i].style);
        html_string(h, c->series[i].name);
        html_put(h, "</span>");
    }
    const struct chart_series *s = NULL; /* the newest value of the first series that has any */
    for (size_t i = 0; i < c->num_series && !s; i++)
        if (c->series[i].n) s = &c->series[i];
    html_put(h, "<output>");
    char now[32];
    if (s) html_format(h, "now %s", text_number(s->y[s->n - 1], now));
    html_put(h, "</output></figcaption>\n");
}

void chart_write(struct html *h, const struct chart *c)
{
    struct frame f;
    int id = ++h->ids;
    html_put(h, "<figure>");
    write_caption(h, c);
    if (!make_frame(c, &f)) {
        html_put(h, "<p class=faint>Nothing to draw yet.</p></figure>\n");
        return;
    }
    html_format(
        h,
        "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-labelledby=\"t%d d%d\" data-w=\"%d\" "
        "data-l=\"%d\" data-r=\"%d\" data-x0=\"%.10g\" data-x1=\"%.10g\">\n<title id=\"t%d\">",
        WIDTH, HEIGHT, id, id, WIDTH, LEFT, RIGHT, f.x0, f.x1, id);
    html_string(h, c->title);
    html_format(h, "</title><desc id=\"d%d\">", id);
    for (size_t i = 0; i < c->num_series; i++) describe(h, &c->series[i]);
    html_put(h, "</desc>\n");
    draw_axes(h, &f);
    for (size_t i = 0; i < c->num_series; i++) draw_series(h, &f, &c->series[i]);
    html_format(h, "<path class=\"grid\" d=\"M%d %dH%d\"/>", LEFT, BOTTOM, RIGHT);
    html_format(
        h, "<line class=\"cursor\" y1=\"%d\" y2=\"%d\" visibility=\"hidden\"/></svg></figure>\n",
        TOP, BOTTOM);
}

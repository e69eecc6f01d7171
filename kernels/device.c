#include "kernels/kernels.h"

#include <string.h>

#include "base/log.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {[DTYPE_F32] = {"f32", 4}, [DTYPE_BF16] = {"bf16", 2}, [DTYPE_F16] = {"f16", 2}};

size_t dtype_size(enum dtype t) { return dtypes[t].size; }
const char *dtype_name(enum dtype t) { return dtypes[t].name; }

static const struct kernels *const backends[] = {&kernels_cpu, &kernels_null};
enum { NUM_BACKENDS = sizeof backends / sizeof *backends };

enum status device_open(struct device *d, const char *name, int threads, struct err *e)
{
    *d = (struct device){.threads = threads};
    for (int i = 0; i < NUM_BACKENDS; i++) {
        if (strcmp(backends[i]->name, name) != 0) continue;
        TRY(backends[i]->open(d, e));
        d->k = backends[i];
        return OK;
    }
    err_set(e, ERR_CONFIG, "no device is called \"%s\"", name);
    return err_hint(e, "use device: cpu");
}

void device_close(struct device *d)
{
    if (d->k) d->k->close(d);
    *d = (struct device){0};
}

/* 1024 cubed takes some 10 ms on two cores: large enough to be at speed, small enough to stop. */
enum { PEAK_SIDE = 1024 };

double device_gemm_peak(struct device *d, double seconds)
{
    size_t bytes = (size_t)PEAK_SIDE * PEAK_SIDE * dtype_size(d->type);
    void *m[3] = {0};
    struct err e = {0};
    double rate = 0, start, elapsed;
    int calls = 0;
    if (d->k == &kernels_null) return 0;
    for (int i = 0; i < 3; i++)
        if (d->k->alloc(d, bytes, &m[i], &e)) goto out;
    for (start = clock_seconds(), elapsed = 0; elapsed < seconds || calls < 2; calls++) {
        if (calls == 1) start = clock_seconds(); /* the first call wakes threads and pages */
        d->k->linear_forward(d, m[0], m[1], m[2], NULL, NULL, PEAK_SIDE, PEAK_SIDE, PEAK_SIDE,
                             PEAK_SIDE, PEAK_SIDE, 0);
        if (d->k->sync(d, &e)) goto out;
        elapsed = calls ? clock_seconds() - start : 0;
    }
    rate = 2.0 * PEAK_SIDE * PEAK_SIDE * PEAK_SIDE * (calls - 1) / elapsed;
out:
    for (int i = 0; i < 3; i++)
        if (m[i]) d->k->release(d, m[i], bytes);
    return rate;
}

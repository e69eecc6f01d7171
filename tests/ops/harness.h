/* harness.h - runs an op case on a device and compares it with the references.
 *
 *     run_make(&r, number, type); run_exact(&r); run_naive(&r);
 *     run_device(&r, &setting); run_compare(&r); ... run_free(&r)
 */
#ifndef CRIA_TESTS_OPS_HARNESS_H
#define CRIA_TESTS_OPS_HARNESS_H

#include "ops/ops.h"

struct op_setting {
    const char *device; /* as device_open_type knows it */
    enum dtype type;
    int threads;
    enum attention_engine attention;
    double bf16; /* a floor of this setting's; 0: the op's */
};

/* Case `number` with random values that `type` holds exactly. */
void run_make(struct op_run *r, int number, enum dtype type);
void run_free(struct op_run *r);
void run_reset(struct op_run *r); /* the references' first values */

/* From the first values, on memory of the device; scratch holds NaN before. Fails the test when a
 * guard around or between rows, or around scratch, was written. Results are in b[i].host. */
void run_device(struct op_run *r, const struct op_setting *s);
void run_exact(struct op_run *r);
void run_naive(struct op_run *r);

/* Fails the test where a buffer is out of tolerance or an input changed. */
void run_compare(const struct op_run *r);

/* All buffers' bits after run_device, in one block of *floats values to be freed. */
float *run_snapshot(struct op_run *r, const struct op_setting *s, size_t *floats);

/* calloc that fails the test. */
void *run_take(size_t count, size_t each);

size_t run_dense(const struct op_buffer *b); /* rows * cols */

#endif

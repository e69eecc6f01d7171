/* step_profile.h - where the time of a training step goes: `cria train --profile N`.
 *
 * After WARM_UP steps the device is profiled (kernels/profile.h) for N steps. Then the rates that
 * floors are held against are measured, the table is made, and output_dir/profile.json written:
 *
 *   {"steps", "seconds": of each step, "tokens", "threads", "device",
 *    "gemm_flops", "copy_bytes": a second, measured behind the steps,
 *    "clock": whose it is, "host" or "device",
 *    "ops": [{"op", "text", "calls", "seconds", "host_seconds", "share", "flops", "bytes",
 *             "floor_seconds", "floor": "arithmetic" or "bytes", "floor_share",
 *             "beside": the host's, beside the device's work}, ...]      over all N steps
 *    "kernels": what ops consist of, where the device tells: [{"op", "name", "count", "seconds"}],
 *    "unaccounted_seconds": of a device with a clock: its compute stream had nothing to do,
 *    "products": the base products of the first of them in their order, as struct profile_product:
 *                [{"op", "N", "I", "O", "chunk", "words", "accumulate", "ldx", "ldy", "x", "w",
 * "y", "dx", "dw"}, ...], operands by address; kernels/bench/replay.c runs them alone}
 *
 * Beside it profile-trace.json shows when what happened (trace_file.h). What evaluations and
 * checkpoints between the steps do is in there, and in no sum. On a device with a clock of its own
 * (kernels/profile.h) each step is waited for, and the events around its kernels cost a microsecond
 * or two each.
 */
#ifndef CRIA_RUN_STEP_PROFILE_H
#define CRIA_RUN_STEP_PROFILE_H

#include "base/buf.h"
#include "kernels/profile.h"

#define STEP_PROFILE_WARM_UP 1
#define STEP_PROFILE_MAX 1000
#define STEP_PROFILE_FILE "profile.json"

struct session;

struct step_profile {
    int64_t wanted; /* steps; 0: nothing happens */
    int64_t before; /* steps to go before the first that is profiled */
    int64_t steps, tokens;
    double began;       /* the present step */
    double *seconds;    /* heap, [wanted] */
    size_t first_calls; /* calls of the first step */
    struct profile profile;
};

/* ERR_CONFIG: the run has fewer than WARM_UP + `wanted` steps left, or wants too many.
 * ERR_MEMORY. */
MUST_CHECK enum status step_profile_init(struct step_profile *p, const struct session *s,
                                         int64_t wanted, struct err *e);

/* Around each step, its log line included. *done: that was the last one; the rates are measured,
 * profile.json is written and `table` has the table. ERR_MEMORY, ERR_IO, ERR_DISK_FULL. */
MUST_CHECK enum status step_profile_begin(struct step_profile *p, struct session *s, struct err *e);
MUST_CHECK enum status step_profile_end(struct step_profile *p, struct session *s, int64_t tokens,
                                        int *done, struct buf *table, struct err *e);
void step_profile_free(struct step_profile *p, struct session *s); /* zeroed is fine */

#endif

/* What a run reads back of itself: cria.json, trainer_state.json, cria_state.json, metrics.jsonl.
 */
#include "ckpt/fingerprint.h"
#include "ckpt/trainer_state.h"
#include "fuzz/fuzz.h"
#include "run/metrics.h"
#include "run/sidecar.h"

static void trainer_state(const char *path)
{
    struct err e = {0};
    struct trainer_state state = {0}, again = {0};
    char written[FUZZ_PATH_MAX];
    enum status s = trainer_state_read(&state, path, &e);
    fuzz_look_at(s, &e);
    fuzz_path("written.json", written);
    if (!s) {
        FUZZ_MUST(!trainer_state_write(&state, written, &e));
        FUZZ_MUST(!trainer_state_read(&again, written, &e));
        FUZZ_MUST(again.global_step == state.global_step);
        FUZZ_MUST(json_array_size(again.log_history) == json_array_size(state.log_history));
    }
    trainer_state_free(&state);
    trainer_state_free(&again);
}

static void metrics(const char *path)
{
    struct err e = {0};
    json_t *lines = NULL;
    fuzz_look_at(metrics_history(path, &lines, &e), &e);
    json_decref(lines);
    lines = NULL;
    if (metrics_cut(path, 5, &e)) return;
    FUZZ_MUST(!metrics_history(path, &lines, &e)); /* what was kept can be read */
    json_decref(lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct sidecar sidecar;
    struct fingerprint f = {0};
    fuzz_write("cria.json", data, size, path);
    fuzz_look_at(sidecar_read(&sidecar, fuzz_dir(), &e), &e);
    FUZZ_MUST(!fingerprint_set(&f, &e, "seed", "%d", 42));
    fuzz_look_at(fingerprint_check(&f, path, &e), &e);
    fingerprint_free(&f);
    trainer_state(path);
    metrics(path);
    return 0;
}

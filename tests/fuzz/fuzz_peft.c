/* A PEFT adapter: the input is adapter_config.json, up to a zero byte; behind it, if there is one,
 * the weights. Without, a whole adapter's weights stand beside the config. */
#include <string.h>

#include "ckpt/peft.h"
#include "fuzz/fuzz.h"

#define ADAPTER "tests/golden/models/llama_gqa_tied/adapter_all_linear/"

static void write_config(const struct peft_config *c)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct peft_config again = {0};
    fuzz_path("written.json", path);
    FUZZ_MUST(!peft_config_write(c, path, &e));
    FUZZ_MUST(!peft_config_read(&again, path, &e));
    FUZZ_MUST(again.r == c->r && again.use_rslora == c->use_rslora);
    FUZZ_MUST(peft_scale(&again) == peft_scale(c));
    peft_config_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct peft_adapter a = {0};
    const uint8_t *zero = memchr(data, 0, size);
    size_t n = zero ? (size_t)(zero - data) : size;
    static int whole;
    fuzz_write(PEFT_CONFIG_FILE, data, n, path);
    if (zero)
        fuzz_write(PEFT_WEIGHTS_FILE, zero + 1, size - n - 1, path);
    else if (!whole)
        fuzz_copy(ADAPTER PEFT_WEIGHTS_FILE, PEFT_WEIGHTS_FILE, path);
    whole = !zero;
    enum status s = peft_open(&a, fuzz_dir(), &e);
    fuzz_look_at(s, &e);
    if (!s) write_config(&a.config);
    for (size_t i = 0; !s && i < a.num_modules; i++)
        FUZZ_MUST(peft_find(&a, a.modules[i].path) == &a.modules[i]);
    peft_close(&a);
    return 0;
}

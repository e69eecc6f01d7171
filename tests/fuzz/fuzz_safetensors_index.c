/* model.safetensors.index.json beside two whole shards. */
#include "ckpt/safetensors.h"
#include "fuzz/fuzz.h"

#define MODEL "tests/golden/models/llama_f16_sharded/"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int ready;
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct tensor_files *f = NULL;
    if (!ready) {
        fuzz_copy(MODEL "model-00001-of-00003.safetensors", "a.safetensors", path);
        fuzz_copy(MODEL "model-00002-of-00003.safetensors", "b.safetensors", path);
        ready = 1;
    }
    fuzz_write("model.safetensors.index.json", data, size, path);
    enum status s = tensor_files_open(&f, fuzz_dir(), &e);
    fuzz_look_at(s, &e);
    for (size_t i = 0; !s && i < tensor_files_count(f); i++) {
        const struct tensor_info *t = tensor_files_at(f, i);
        FUZZ_MUST(tensor_files_find(f, t->name) == t && tensor_file_path(f, t));
    }
    tensor_files_close(f);
    return 0;
}

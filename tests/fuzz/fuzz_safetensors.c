/* A safetensors file: its header is taken or refused; every tensor is then read. */
#include <string.h>

#include "ckpt/safetensors.h"
#include "fuzz/fuzz.h"

static void read_tensor(const struct tensor_files *f, const struct tensor_info *t, size_t size)
{
    struct err e = {0};
    size_t bytes = t->count * file_type_size(t->type);
    FUZZ_MUST(t->rank >= 0 && t->rank <= TENSOR_RANK_MAX);
    FUZZ_MUST(bytes <= size && t->offset <= size - bytes);
    void *raw = malloc(bytes + 1);
    float *floats = malloc((t->count + 1) * sizeof *floats);
    FUZZ_MUST(raw && floats);
    fuzz_look_at(tensor_read_bytes(f, t, 0, t->count, raw, &e), &e);
    fuzz_look_at(tensor_read_float(f, t, 0, t->count, floats, &e), &e);
    fuzz_look_at(tensor_read_float(f, t, t->count / 2, t->count, floats, &e), &e);
    FUZZ_MUST(tensor_files_find(f, t->name) == t);
    free(raw);
    free(floats);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[FUZZ_PATH_MAX];
    struct err e = {0};
    struct tensor_files *f = NULL;
    fuzz_write("model.safetensors", data, size, path);
    enum status s = tensor_files_open(&f, path, &e);
    fuzz_look_at(s, &e);
    for (size_t i = 0; !s && i < tensor_files_count(f); i++)
        read_tensor(f, tensor_files_at(f, i), size);
    tensor_files_close(f);
    return 0;
}

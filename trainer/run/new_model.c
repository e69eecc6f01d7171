#include "run/new_model.h"

#include <dirent.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "run/adapter_dir.h"
#include "run/engine.h"
#include "run/sidecar.h"
#include "run/weights.h"

/* The file type that stores this dtype. */
static enum file_type stored_as(enum dtype t)
{
    return t == DTYPE_BF16 ? FILE_BF16 : t == DTYPE_F16 ? FILE_F16 : FILE_F32;
}

static enum dtype dtype_of(enum file_type t)
{
    return t == FILE_BF16 ? DTYPE_BF16 : t == FILE_F16 ? DTYPE_F16 : DTYPE_F32;
}

static enum status make_empty_dir(const char *path, struct err *e)
{
    int entries = 0;
    DIR *d = opendir(path);
    while (d && readdir(d)) entries++;
    if (d) closedir(d);
    if (entries > 2) {
        err_set(e, ERR_CONFIG, "%s exists and is not empty", path);
        return err_hint(e, "give another --out, or remove it");
    }
    return io_make_dirs(path, e);
}

static enum status write_config(struct model_config *c, const char *dir, struct err *e)
{
    char path[IO_PATH_MAX];
    TRY(io_join(path, sizeof path, dir, "config.json", e));
    return model_config_write(c, path, e);
}

/* Half a model must not be taken for a whole one. */
static void remove_half(const char *out)
{
    struct err ignored = {0};
    if (io_remove_tree(out, &ignored)) log_warning("%s is not whole: remove it", out);
}

enum status new_model_init(const char *config_path, const char *out, uint64_t seed, struct err *e)
{
    struct model_config config = {0};
    struct engine g = {0};
    struct engine_options options = {.device = "cpu", .config = &config, .positions = 1};
    int made = 0;
    enum status s = model_config_read(&config, config_path, e);
    if (!s) s = engine_describe(&g, &options, e);
    if (!s) s = engine_allocate(&g, e);
    if (!s) s = model_init_weights(&g.model, &g.device, seed, e);
    if (!s) s = make_empty_dir(out, e);
    if (!s) made = 1;
    if (!s) s = weights_save_base(&g, out, stored_as(config.dtype), e);
    if (!s) s = write_config(&config, out, e);
    if (s && made) remove_half(out);
    engine_free(&g);
    model_config_free(&config);
    return s;
}

/* The base's tokenizer goes along; what the adapter was tuned with (cria.json, its chat template)
 * wins. */
static enum status copy_companions(const char *base, const char *adapter, const char *out,
                                   const struct model_config *config, struct err *e)
{
    struct sidecar sidecar;
    TRY(sidecar_copy_tokenizer(base, out, config, NULL, NULL, e));
    TRY(sidecar_copy_tokenizer(adapter, out, config, NULL, NULL, e));
    TRY(sidecar_read(&sidecar, adapter, e));
    if (!sidecar.tokenizer_hash[0]) return OK;
    TRY(sidecar_template(adapter, &sidecar.own_template, e));
    enum status s = sidecar_write(&sidecar, out, e);
    template_close(sidecar.own_template);
    return s;
}

enum status new_model_merge(const char *base, const char *adapter, const char *out,
                            enum file_type type, struct err *e)
{
    struct model_config config = {0};
    struct adapter_dir dir = {0};
    struct engine g = {0};
    int made = 0;
    enum status s = model_config_read(&config, base, e);
    if (!s) s = adapter_dir_open(&dir, adapter, e);
    struct engine_options options = {
        .device = "cpu", .config = &config, .lora = &dir.options, .positions = 1};
    if (!s) {
        s = engine_describe(&g, &options, e);
        if (s == ERR_CONFIG) adapter_dir_blame(adapter, e);
    }
    if (!s) s = engine_allocate(&g, e);
    if (!s) s = weights_load_base(&g, base, e);
    if (!s) s = weights_load_adapter(&g, adapter, e);
    if (!s) s = lora_merge(&g.lora, &g.device, e);
    if (!s) s = make_empty_dir(out, e);
    if (!s) made = 1;
    if (!s && type == FILE_TYPES) type = stored_as(config.dtype);
    if (!s) s = weights_save_base(&g, out, type, e);
    if (!s) config.dtype = dtype_of(type);
    if (!s) s = write_config(&config, out, e);
    if (!s) s = copy_companions(base, adapter, out, &config, e);
    if (s && made) remove_half(out);
    engine_free(&g);
    adapter_dir_close(&dir);
    model_config_free(&config);
    return s;
}

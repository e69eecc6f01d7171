#include "ckpt/safetensors.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/size.h"
#include "ckpt/safetensors_header.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little endian and read as is");

#define READ_BLOCK 65536 /* bytes converted at a time: stays in the second-level cache */

/* --- opening --- */

static int has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && !strcmp(s + n - m, suffix);
}

/* A directory without weights that we read: is there something else that explains itself? */
static enum status refuse_directory(const char *dir, struct err *e)
{
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".bin.index.json"};
    char found[IO_PATH_MAX] = "", path[IO_PATH_MAX];
    DIR *d = opendir(dir);
    if (!d) return err_errno(e, "%s", dir);
    for (struct dirent *entry; (entry = readdir(d));)
        for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++)
            if (has_suffix(entry->d_name, pickles[i]) && strcmp(entry->d_name, "training_args.bin"))
                snprintf(found, sizeof found, "%s", entry->d_name);
    closedir(d);
    TRY(io_join(path, sizeof path, dir, found, e));
    if (found[0]) return tensor_refuse_pickle(path, e);
    err_at(e, ERR_IO, dir, 0, 0, "no model.safetensors and no model.safetensors.index.json here");
    TRY(io_join(path, sizeof path, dir, "adapter_model.safetensors", e));
    return err_hint(e, io_exists(path) ? "this is an adapter: name its base as the model"
                                       : "copy the model's weights there, as safetensors");
}

static int by_name(const void *a, const void *b)
{
    const struct tensor_info *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* --- a sharded directory --- */

static enum status check_shard_name(const char *index, const char *tensor, const json_t *v,
                                    struct err *e)
{
    const char *name = json_string_value(v);
    if (!name) return tensor_bad(index, tensor, e, "its file should be a string");
    if (!*name || strchr(name, '/') || strchr(name, '\\') || strstr(name, ".."))
        return err_at(e, ERR_FORMAT, index, 0, 0,
                      "tensor \"%s\": the shard \"%s\" is not a file of this directory",
                      tensor_show(tensor).text, tensor_show(name).text);
    if (!has_suffix(name, ".safetensors"))
        return err_at(e, ERR_FORMAT, index, 0, 0,
                      "tensor \"%s\": the shard \"%s\" is no .safetensors file",
                      tensor_show(tensor).text, tensor_show(name).text);
    return OK;
}

/* The set of shard names, as the keys of a new object. */
static enum status shard_names(const json_t *map, const char *index, json_t **out, struct err *e)
{
    const char *tensor;
    json_t *v;
    *out = json_object();
    if (!*out) return err_set(e, ERR_MEMORY, "no memory to read %s", index);
    json_object_foreach((json_t *)map, tensor, v)
    {
        TRY(check_shard_name(index, tensor, v, e));
        if (json_object_set_new(*out, json_string_value(v), json_null()))
            return err_set(e, ERR_MEMORY, "no memory to read %s", index);
    }
    return OK;
}

static enum status check_complete(const struct tensor_files *f, const json_t *map,
                                  const char *index, struct err *e)
{
    const char *tensor;
    json_t *v;
    json_object_foreach((json_t *)map, tensor, v)
    {
        if (!tensor_files_find(f, tensor))
            return err_at(e, ERR_FORMAT, index, 0, 0, "tensor \"%s\" is not in %s",
                          tensor_show(tensor).text, tensor_show(json_string_value(v)).text);
    }
    return OK;
}

static enum status make_shards(struct tensor_files *f, size_t n, struct err *e)
{
    f->shards = mem_calloc(n, sizeof *f->shards);
    if (!f->shards) return err_set(e, ERR_MEMORY, "no memory for %zu shards", n);
    f->num_shards = (int)n;
    for (size_t i = 0; i < n; i++) f->shards[i].fd = -1;
    return OK;
}

static void sort_infos(struct tensor_files *f)
{
    if (f->count) qsort(f->infos, f->count, sizeof *f->infos, by_name);
}

static enum status open_index(struct tensor_files *f, const char *index, struct err *e)
{
    json_t *root = NULL, *names = NULL, *v;
    char dir[IO_PATH_MAX], path[IO_PATH_MAX];
    const char *name;
    int number = 0;
    enum status s = json_parse_file(index, &root, e);
    const json_t *map = s ? NULL : json_object_get(root, "weight_map");
    if (!s && (!json_is_object(map) || !json_object_size(map)))
        s = tensor_bad(index, NULL, e, "\"weight_map\" should be an object that is not empty");
    if (!s) s = shard_names(map, index, &names, e);
    if (!s) s = make_shards(f, json_object_size(names), e);
    if (s) goto out;
    const char *slash = strrchr(index, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - index + 1) : 2, slash ? index : "./");
    json_object_foreach(names, name, v)
    {
        s = io_join(path, sizeof path, dir, name, e);
        if (!s) s = tensor_open_shard(f, number++, path, map, e);
        if (s) goto out;
    }
    sort_infos(f);
    s = check_complete(f, map, index, e);
out:
    json_decref(names);
    json_decref(root);
    return s;
}

static enum status open_any(struct tensor_files *f, const char *path, struct err *e)
{
    char inside[IO_PATH_MAX];
    const char *file = path;
    if (io_is_dir(path)) {
        TRY(io_join(inside, sizeof inside, path, "model.safetensors", e));
        file = inside;
        if (!io_exists(inside)) {
            TRY(io_join(inside, sizeof inside, path, "model.safetensors.index.json", e));
            if (!io_exists(inside)) return refuse_directory(path, e);
        }
    }
    if (has_suffix(file, ".index.json")) return open_index(f, file, e);
    TRY(make_shards(f, 1, e));
    TRY(tensor_open_shard(f, 0, file, NULL, e));
    sort_infos(f);
    return OK;
}

enum status tensor_files_open(struct tensor_files **out, const char *path, struct err *e)
{
    struct tensor_files *f = *out = NULL;
    f = mem_calloc(1, sizeof *f);
    if (!f) return err_set(e, ERR_MEMORY, "no memory to open %s", path);
    enum status s = open_any(f, path, e);
    if (s == ERR_FORMAT) err_hint(e, "the file is damaged or cut short: fetch or write it again");
    if (s) {
        tensor_files_close(f);
        return s;
    }
    *out = f;
    return OK;
}

void tensor_files_close(struct tensor_files *f)
{
    if (!f) return;
    for (size_t i = 0; i < f->count; i++) mem_free((char *)f->infos[i].name);
    for (int i = 0; i < f->num_shards; i++) {
        if (f->shards[i].fd >= 0) close(f->shards[i].fd);
        mem_free(f->shards[i].path);
    }
    json_decref(f->metadata);
    mem_free(f->infos);
    mem_free(f->shards);
    mem_free(f);
}

/* --- looking up and reading --- */

size_t tensor_files_count(const struct tensor_files *f) { return f->count; }

const struct tensor_info *tensor_files_at(const struct tensor_files *f, size_t i)
{
    return &f->infos[i];
}

const struct tensor_info *tensor_files_find(const struct tensor_files *f, const char *name)
{
    struct tensor_info key = {.name = name};
    return f->count ? bsearch(&key, f->infos, f->count, sizeof key, by_name) : NULL;
}

const char *tensor_file_path(const struct tensor_files *f, const struct tensor_info *t)
{
    return f->shards[t->file].path;
}

const char *tensor_files_metadata(const struct tensor_files *f, const char *key)
{
    return json_string_value(json_object_get(f->metadata, key));
}

#define OTHER_MODEL "the config describes other weights than these: both must be of one model"

static enum status expect_shape(const struct tensor_files *f, const struct tensor_info *t, int rank,
                                const int64_t *shape, struct err *e)
{
    char have[100], want[100];
    if (t->rank == rank && (!rank || !memcmp(t->shape, shape, (size_t)rank * sizeof *shape)))
        return OK;
    tensor_shape_text(have, sizeof have, t->rank, t->shape);
    tensor_shape_text(want, sizeof want, rank, shape);
    err_at(e, ERR_SHAPE, tensor_file_path(f, t), 0, 0, "%s: shape %s, config wants %s",
           tensor_show(t->name).text, have, want);
    return err_hint(e, OTHER_MODEL);
}

static enum status expect_there(const struct tensor_files *f, const struct tensor_info *t,
                                const char *name, struct err *e)
{
    if (t) return OK;
    err_at(e, ERR_FORMAT, f->shards[0].path, 0, 0, "tensor \"%s\" is missing", name);
    return err_hint(e, OTHER_MODEL);
}

enum status tensor_expect(const struct tensor_files *f, const struct tensor_info *t,
                          const char *name, int rank, const int64_t *shape, struct err *e)
{
    TRY(expect_there(f, t, name, e));
    if (!file_type_is_real(t->type))
        return err_at(e, ERR_FORMAT, tensor_file_path(f, t), 0, 0,
                      "tensor \"%s\" holds %s, not real numbers", tensor_show(t->name).text,
                      file_type_name(t->type));
    return expect_shape(f, t, rank, shape, e);
}

enum status tensor_expect_type(const struct tensor_files *f, const struct tensor_info *t,
                               const char *name, enum file_type type, int rank,
                               const int64_t *shape, struct err *e)
{
    TRY(expect_there(f, t, name, e));
    if (t->type != type)
        return err_at(e, ERR_FORMAT, tensor_file_path(f, t), 0, 0, "tensor \"%s\" holds %s, not %s",
                      tensor_show(t->name).text, file_type_name(t->type), file_type_name(type));
    return expect_shape(f, t, rank, shape, e);
}

static enum status check_range(const struct tensor_files *f, const struct tensor_info *t,
                               size_t first, size_t count, struct err *e)
{
    if (first <= t->count && count <= t->count - first) return OK;
    return tensor_bad(tensor_file_path(f, t), t->name, e, "asked for elements behind its end");
}

enum status tensor_read_float(const struct tensor_files *f, const struct tensor_info *t,
                              size_t first, size_t count, float *dst, struct err *e)
{
    const struct tensor_shard *sh = &f->shards[t->file];
    size_t each = file_type_size(t->type), step = READ_BLOCK / each;
    char block[READ_BLOCK];
    if (!file_type_is_real(t->type))
        return err_at(e, ERR_UNSUPPORTED, sh->path, 0, 0,
                      "tensor \"%s\" holds %s, which is not read as numbers",
                      tensor_show(t->name).text, file_type_name(t->type));
    TRY(check_range(f, t, first, count, e));
    uint64_t at = t->offset + first * each;
    if (t->type == FILE_F32) return io_read_at(sh->fd, dst, count * each, at, sh->path, e);
    for (size_t done = 0; done < count; done += step) {
        size_t n = size_min(step, count - done);
        TRY(io_read_at(sh->fd, block, n * each, at + done * each, sh->path, e));
        file_type_to_float(t->type, dst + done, block, n);
    }
    return OK;
}

enum status tensor_read_bytes(const struct tensor_files *f, const struct tensor_info *t,
                              size_t first, size_t count, void *dst, struct err *e)
{
    const struct tensor_shard *sh = &f->shards[t->file];
    size_t each = file_type_size(t->type);
    TRY(check_range(f, t, first, count, e));
    return io_read_at(sh->fd, dst, count * each, t->offset + first * each, sh->path, e);
}

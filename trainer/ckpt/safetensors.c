#include "ckpt/safetensors.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/size.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little endian and read as is");

#define READ_BLOCK 65536 /* bytes converted at a time: stays in the second-level cache */

struct shard {
    char *path;
    int fd;
};

struct tensor_files {
    struct shard *shards;
    int num_shards;
    struct tensor_info *infos; /* by name */
    size_t count, cap;
    json_t *metadata; /* of the first file; NULL: none */
};

/* A name from a file, fit for a message: short, and without control characters. */
struct shown {
    char text[120];
};

static struct shown show(const char *name)
{
    struct shown s;
    snprintf(s.text, sizeof s.text, "%s", name);
    for (char *p = s.text; *p; p++)
        if ((unsigned char)*p < 32 || *p == 127) *p = '?';
    return s;
}

void tensor_shape_text(char *out, size_t size, int rank, const int64_t *shape)
{
    size_t used = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < rank && used < size; i++)
        used +=
            (size_t)snprintf(out + used, size - used, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (used < size) snprintf(out + used, size - used, "]");
}

/* --- what is not safetensors --- */

static enum status refuse_pickle(const char *path, struct err *e)
{
    char dir[160];
    const char *slash = strrchr(path, '/');
    int n = slash ? (int)(slash - path) : 1;
    snprintf(dir, sizeof dir, "%.*s", n, slash ? path : ".");
    err_at(e, ERR_UNSUPPORTED, path, 0, 0,
           "pickled weights are not read, since unpickling runs code");
    if (strstr(path, "adapter_model"))
        return err_hint(e, "if you trust it, load it once with PEFT and save it again with "
                           "save_pretrained(dir, safe_serialization=True)");
    return err_hint(e,
                    "if you trust it, convert it once: python -c \"from transformers import "
                    "AutoModelForCausalLM as M; M.from_pretrained('%s', dtype='auto')"
                    ".save_pretrained('%s')\"",
                    dir, dir);
}

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
    if (found[0]) return refuse_pickle(path, e);
    err_at(e, ERR_IO, dir, 0, 0, "no model.safetensors and no model.safetensors.index.json here");
    TRY(io_join(path, sizeof path, dir, "adapter_model.safetensors", e));
    return err_hint(e, io_exists(path) ? "this is an adapter: name its base as the model"
                                       : "copy the model's weights there, as safetensors");
}

/* --- one file's header --- */

static enum status bad(const char *path, const char *tensor, struct err *e, const char *what)
{
    if (!tensor) return err_at(e, ERR_FORMAT, path, 0, 0, "%s", what);
    return err_at(e, ERR_FORMAT, path, 0, 0, "tensor \"%s\": %s", show(tensor).text, what);
}

/* The header's text, and the size of the data behind it. */
static enum status read_header(const struct shard *sh, struct buf *text, uint64_t *data_size,
                               struct err *e)
{
    struct stat st;
    uint64_t n;
    char magic[8];
    if (fstat(sh->fd, &st)) return err_errno(e, "%s", sh->path);
    if (!S_ISREG(st.st_mode)) return bad(sh->path, NULL, e, "not a regular file");
    uint64_t size = (uint64_t)st.st_size;
    if (size < 8) return bad(sh->path, NULL, e, "too short to be a safetensors file");
    TRY(io_read_at(sh->fd, magic, sizeof magic, 0, sh->path, e));
    if (!memcmp(magic, "PK\3\4", 4) || !memcmp(magic, "\x80\2", 2))
        return refuse_pickle(sh->path, e);
    memcpy(&n, magic, sizeof n);
    if (n > TENSOR_HEADER_MAX)
        return err_at(e, ERR_FORMAT, sh->path, 0, 0,
                      "not a safetensors file: its header would have %llu bytes",
                      (unsigned long long)n);
    if (n > size - 8)
        return err_at(e, ERR_FORMAT, sh->path, 0, 0,
                      "cut short: the header has %llu bytes, the file %llu", (unsigned long long)n,
                      (unsigned long long)size);
    if (n < 2) return bad(sh->path, NULL, e, "empty header");
    if (buf_reserve(text, (size_t)n)) return err_set(e, ERR_MEMORY, "no memory for %s", sh->path);
    TRY(io_read_at(sh->fd, text->data, (size_t)n, 8, sh->path, e));
    text->len = (size_t)n;
    *data_size = size - 8 - n;
    return text->data[0] == '{' ? OK : bad(sh->path, NULL, e, "the header does not start with {");
}

static enum status parse_shape(struct tensor_info *t, const json_t *shape, const char *path,
                               struct err *e)
{
    if (!json_is_array(shape)) return bad(path, t->name, e, "\"shape\" should be a list");
    size_t rank = json_array_size(shape);
    if (rank > TENSOR_RANK_MAX) return bad(path, t->name, e, "more than 8 dimensions");
    t->rank = (int)rank;
    t->count = 1;
    for (size_t i = 0; i < rank; i++) {
        const json_t *v = json_array_get(shape, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return bad(path, t->name, e, "a dimension is not a whole number from 0");
        t->shape[i] = json_integer_value(v);
        if (size_mul(t->count, (size_t)t->shape[i], &t->count))
            return bad(path, t->name, e, "more elements than can be counted");
    }
    return OK;
}

/* t->name is set; the offset found is from the start of the data. */
static enum status parse_tensor(struct tensor_info *t, const json_t *v, uint64_t data_size,
                                const char *path, struct err *e)
{
    if (!json_is_object(v)) return bad(path, t->name, e, "should be an object");
    const char *type = json_string_value(json_object_get(v, "dtype"));
    if (!type) return bad(path, t->name, e, "\"dtype\" should be a string");
    t->type = file_type_find(type);
    if (t->type == FILE_TYPES) {
        err_at(e, ERR_UNSUPPORTED, path, 0, 0, "tensor \"%s\": unknown type \"%s\"",
               show(t->name).text, show(type).text);
        return err_hint(e, "save the weights as F32, F16 or BF16");
    }
    TRY(parse_shape(t, json_object_get(v, "shape"), path, e));
    const json_t *offsets = json_object_get(v, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return bad(path, t->name, e, "\"data_offsets\" should be two whole numbers");
    if (json_integer_value(from) < 0 || json_integer_value(to) < json_integer_value(from))
        return bad(path, t->name, e, "\"data_offsets\" should rise from 0");
    uint64_t begin = (uint64_t)json_integer_value(from), end = (uint64_t)json_integer_value(to);
    if (end > data_size) return bad(path, t->name, e, "its data lies behind the file's end");
    size_t bytes;
    if (size_mul(t->count, file_type_size(t->type), &bytes) || bytes != end - begin) {
        char shape[100];
        tensor_shape_text(shape, sizeof shape, t->rank, t->shape);
        return err_at(e, ERR_FORMAT, path, 0, 0, "tensor \"%s\": %llu bytes do not hold %s of %s",
                      show(t->name).text, (unsigned long long)(end - begin), shape, type);
    }
    t->offset = begin;
    return OK;
}

static uint64_t info_end(const struct tensor_info *t)
{
    return t->offset + t->count * file_type_size(t->type);
}

static int by_place(const void *a, const void *b)
{
    const struct tensor_info *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return (info_end(x) > info_end(y)) - (info_end(x) < info_end(y));
}

static int by_name(const void *a, const void *b)
{
    const struct tensor_info *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Data must be covered from end to end, each byte once. Leaves the infos sorted by place. */
static enum status check_cover(struct tensor_info *infos, size_t n, uint64_t data_size,
                               const char *path, struct err *e)
{
    uint64_t at = 0;
    if (n) qsort(infos, n, sizeof *infos, by_place);
    for (size_t i = 0; i < n; i++) {
        if (infos[i].offset < at)
            return bad(path, infos[i].name, e, "its data overlaps another tensor's");
        if (infos[i].offset > at) return bad(path, infos[i].name, e, "a hole before its data");
        at = info_end(&infos[i]);
    }
    return at == data_size ? OK : bad(path, NULL, e, "bytes behind the last tensor");
}

static enum status check_metadata(const json_t *meta, const char *path, struct err *e)
{
    const char *key;
    json_t *v;
    if (!json_is_object(meta)) return bad(path, NULL, e, "__metadata__ should be an object");
    json_object_foreach((json_t *)meta, key, v) if (!json_is_string(v)) return err_at(
        e, ERR_FORMAT, path, 0, 0, "__metadata__ \"%s\" should be a string", show(key).text);
    return OK;
}

static enum status grow_infos(struct tensor_files *f, size_t more, struct err *e)
{
    size_t want;
    if (size_add(f->count, more, &want) || want <= f->cap) return OK;
    void *p = mem_resize(f->infos, want, sizeof *f->infos);
    if (!p) return err_set(e, ERR_MEMORY, "no memory for %zu tensors", want);
    f->infos = p;
    f->cap = want;
    return OK;
}

/* The tensors of shard `number` that `map` (an index's weight_map; NULL: all) puts there. */
static enum status take_infos(struct tensor_files *f, int number, const json_t *header,
                              const json_t *map, uint64_t data_start, uint64_t data_size,
                              struct err *e)
{
    const char *name, *path = f->shards[number].path;
    size_t first = f->count;
    json_t *v;
    TRY(grow_infos(f, json_object_size(header), e));
    json_object_foreach((json_t *)header, name, v)
    {
        if (!strcmp(name, "__metadata__")) {
            TRY(check_metadata(v, path, e));
            if (!number) f->metadata = json_incref(v);
            continue;
        }
        struct tensor_info *t = &f->infos[f->count];
        *t = (struct tensor_info){.name = mem_strdup(name), .file = number};
        if (!t->name) return err_set(e, ERR_MEMORY, "no memory for the tensors of %s", path);
        f->count++; /* so that close frees the name */
        TRY(parse_tensor(t, v, data_size, path, e));
    }
    struct tensor_info *mine = f->infos ? f->infos + first : NULL; /* NULL: no file had any yet */
    TRY(check_cover(mine, f->count - first, data_size, path, e));
    const char *file = strrchr(path, '/');
    file = file ? file + 1 : path;
    size_t kept = first;
    for (size_t i = first; i < f->count; i++) {
        const char *home = map ? json_string_value(json_object_get(map, f->infos[i].name)) : file;
        f->infos[i].offset += data_start;
        if (home && !strcmp(home, file)) {
            f->infos[kept++] = f->infos[i];
        } else {
            mem_free((char *)f->infos[i].name);
        }
    }
    f->count = kept;
    return OK;
}

static enum status open_shard(struct tensor_files *f, int number, const char *path,
                              const json_t *map, struct err *e)
{
    struct shard *sh = &f->shards[number];
    struct buf text;
    json_t *header = NULL;
    uint64_t data_size = 0;
    buf_init(&text, (size_t)TENSOR_HEADER_MAX + 2);
    sh->path = mem_strdup(path);
    if (!sh->path) return err_set(e, ERR_MEMORY, "no memory to open %s", path);
    sh->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO would wait for ever */
    if (sh->fd < 0) {
        err_errno(e, "%s", path);
        return map ? err_hint(e, "the index names this shard: fetch all of them") : e->code;
    }
    enum status s = read_header(sh, &text, &data_size, e);
    if (!s) s = json_parse_text(text.data, text.len, path, &header, e);
    if (!s) s = take_infos(f, number, header, map, 8 + text.len, data_size, e);
    json_decref(header);
    buf_free(&text);
    return s;
}

/* --- a sharded directory --- */

static enum status check_shard_name(const char *index, const char *tensor, const json_t *v,
                                    struct err *e)
{
    const char *name = json_string_value(v);
    if (!name) return bad(index, tensor, e, "its file should be a string");
    if (!*name || strchr(name, '/') || strchr(name, '\\') || strstr(name, ".."))
        return err_at(e, ERR_FORMAT, index, 0, 0,
                      "tensor \"%s\": the shard \"%s\" is not a file of this directory",
                      show(tensor).text, show(name).text);
    if (!has_suffix(name, ".safetensors"))
        return err_at(e, ERR_FORMAT, index, 0, 0,
                      "tensor \"%s\": the shard \"%s\" is no .safetensors file", show(tensor).text,
                      show(name).text);
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
                          show(tensor).text, show(json_string_value(v)).text);
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
        s = bad(index, NULL, e, "\"weight_map\" should be an object that is not empty");
    if (!s) s = shard_names(map, index, &names, e);
    if (!s) s = make_shards(f, json_object_size(names), e);
    if (s) goto out;
    const char *slash = strrchr(index, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - index + 1) : 2, slash ? index : "./");
    json_object_foreach(names, name, v)
    {
        s = io_join(path, sizeof path, dir, name, e);
        if (!s) s = open_shard(f, number++, path, map, e);
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
    TRY(open_shard(f, 0, file, NULL, e));
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
           show(t->name).text, have, want);
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
                      "tensor \"%s\" holds %s, not real numbers", show(t->name).text,
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
                      show(t->name).text, file_type_name(t->type), file_type_name(type));
    return expect_shape(f, t, rank, shape, e);
}

static enum status check_range(const struct tensor_files *f, const struct tensor_info *t,
                               size_t first, size_t count, struct err *e)
{
    if (first <= t->count && count <= t->count - first) return OK;
    return bad(tensor_file_path(f, t), t->name, e, "asked for elements behind its end");
}

enum status tensor_read_float(const struct tensor_files *f, const struct tensor_info *t,
                              size_t first, size_t count, float *dst, struct err *e)
{
    const struct shard *sh = &f->shards[t->file];
    size_t each = file_type_size(t->type), step = READ_BLOCK / each;
    char block[READ_BLOCK];
    if (!file_type_is_real(t->type))
        return err_at(e, ERR_UNSUPPORTED, sh->path, 0, 0,
                      "tensor \"%s\" holds %s, which is not read as numbers", show(t->name).text,
                      file_type_name(t->type));
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
    const struct shard *sh = &f->shards[t->file];
    size_t each = file_type_size(t->type);
    TRY(check_range(f, t, first, count, e));
    return io_read_at(sh->fd, dst, count * each, t->offset + first * each, sh->path, e);
}

#include "ckpt/safetensors_header.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/mem.h"
#include "base/size.h"

struct tensor_shown tensor_show(const char *name)
{
    struct tensor_shown s;
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

enum status tensor_refuse_pickle(const char *path, struct err *e)
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

enum status tensor_bad(const char *path, const char *tensor, struct err *e, const char *what)
{
    if (!tensor) return err_at(e, ERR_FORMAT, path, 0, 0, "%s", what);
    return err_at(e, ERR_FORMAT, path, 0, 0, "tensor \"%s\": %s", tensor_show(tensor).text, what);
}

/* The header's text, and the size of the data behind it. */
static enum status read_header(const struct tensor_shard *sh, struct buf *text, uint64_t *data_size,
                               struct err *e)
{
    struct stat st;
    uint64_t n;
    char magic[8];
    if (fstat(sh->fd, &st)) return err_errno(e, "%s", sh->path);
    if (!S_ISREG(st.st_mode)) return tensor_bad(sh->path, NULL, e, "not a regular file");
    uint64_t size = (uint64_t)st.st_size;
    if (size < 8) return tensor_bad(sh->path, NULL, e, "too short to be a safetensors file");
    TRY(io_read_at(sh->fd, magic, sizeof magic, 0, sh->path, e));
    if (!memcmp(magic, "PK\3\4", 4) || !memcmp(magic, "\x80\2", 2))
        return tensor_refuse_pickle(sh->path, e);
    memcpy(&n, magic, sizeof n);
    if (n > TENSOR_HEADER_MAX)
        return err_at(e, ERR_FORMAT, sh->path, 0, 0,
                      "not a safetensors file: its header would have %llu bytes",
                      (unsigned long long)n);
    if (n > size - 8)
        return err_at(e, ERR_FORMAT, sh->path, 0, 0,
                      "cut short: the header has %llu bytes, the file %llu", (unsigned long long)n,
                      (unsigned long long)size);
    if (n < 2) return tensor_bad(sh->path, NULL, e, "empty header");
    if (buf_reserve(text, (size_t)n)) return err_set(e, ERR_MEMORY, "no memory for %s", sh->path);
    TRY(io_read_at(sh->fd, text->data, (size_t)n, 8, sh->path, e));
    text->len = (size_t)n;
    *data_size = size - 8 - n;
    return text->data[0] == '{' ? OK
                                : tensor_bad(sh->path, NULL, e, "the header does not start with {");
}

static enum status parse_shape(struct tensor_info *t, const json_t *shape, const char *path,
                               struct err *e)
{
    if (!json_is_array(shape)) return tensor_bad(path, t->name, e, "\"shape\" should be a list");
    size_t rank = json_array_size(shape);
    if (rank > TENSOR_RANK_MAX) return tensor_bad(path, t->name, e, "more than 8 dimensions");
    t->rank = (int)rank;
    t->count = 1;
    for (size_t i = 0; i < rank; i++) {
        const json_t *v = json_array_get(shape, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return tensor_bad(path, t->name, e, "a dimension is not a whole number from 0");
        t->shape[i] = json_integer_value(v);
        if (size_mul(t->count, (size_t)t->shape[i], &t->count))
            return tensor_bad(path, t->name, e, "more elements than can be counted");
    }
    return OK;
}

/* t->name is set; the offset found is from the start of the data. */
static enum status parse_tensor(struct tensor_info *t, const json_t *v, uint64_t data_size,
                                const char *path, struct err *e)
{
    if (!json_is_object(v)) return tensor_bad(path, t->name, e, "should be an object");
    const char *type = json_string_value(json_object_get(v, "dtype"));
    if (!type) return tensor_bad(path, t->name, e, "\"dtype\" should be a string");
    t->type = file_type_find(type);
    if (t->type == FILE_TYPES) {
        err_at(e, ERR_UNSUPPORTED, path, 0, 0, "tensor \"%s\": unknown type \"%s\"",
               tensor_show(t->name).text, tensor_show(type).text);
        return err_hint(e, "save the weights as F32, F16 or BF16");
    }
    TRY(parse_shape(t, json_object_get(v, "shape"), path, e));
    const json_t *offsets = json_object_get(v, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return tensor_bad(path, t->name, e, "\"data_offsets\" should be two whole numbers");
    if (json_integer_value(from) < 0 || json_integer_value(to) < json_integer_value(from))
        return tensor_bad(path, t->name, e, "\"data_offsets\" should rise from 0");
    uint64_t begin = (uint64_t)json_integer_value(from), end = (uint64_t)json_integer_value(to);
    if (end > data_size) return tensor_bad(path, t->name, e, "its data lies behind the file's end");
    size_t bytes;
    if (size_mul(t->count, file_type_size(t->type), &bytes) || bytes != end - begin) {
        char shape[100];
        tensor_shape_text(shape, sizeof shape, t->rank, t->shape);
        return err_at(e, ERR_FORMAT, path, 0, 0, "tensor \"%s\": %llu bytes do not hold %s of %s",
                      tensor_show(t->name).text, (unsigned long long)(end - begin), shape, type);
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

/* Data must be covered from end to end, each byte once. Leaves the infos sorted by place. */
static enum status check_cover(struct tensor_info *infos, size_t n, uint64_t data_size,
                               const char *path, struct err *e)
{
    uint64_t at = 0;
    if (n) qsort(infos, n, sizeof *infos, by_place);
    for (size_t i = 0; i < n; i++) {
        if (infos[i].offset < at)
            return tensor_bad(path, infos[i].name, e, "its data overlaps another tensor's");
        if (infos[i].offset > at)
            return tensor_bad(path, infos[i].name, e, "a hole before its data");
        at = info_end(&infos[i]);
    }
    return at == data_size ? OK : tensor_bad(path, NULL, e, "bytes behind the last tensor");
}

static enum status check_metadata(const json_t *meta, const char *path, struct err *e)
{
    const char *key;
    json_t *v;
    if (!json_is_object(meta)) return tensor_bad(path, NULL, e, "__metadata__ should be an object");
    json_object_foreach((json_t *)meta, key, v) if (!json_is_string(v)) return err_at(
        e, ERR_FORMAT, path, 0, 0, "__metadata__ \"%s\" should be a string", tensor_show(key).text);
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

enum status tensor_open_shard(struct tensor_files *f, int number, const char *path,
                              const json_t *map, struct err *e)
{
    struct tensor_shard *sh = &f->shards[number];
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

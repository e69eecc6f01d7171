#include "ckpt/safetensors_write.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/size.h"

#define BLOCK ((size_t)65536) /* elements rounded and written at a time */
#define INDEX_NAME "model.safetensors.index.json"

/* --- one file --- */

static int by_type_then_name(const void *a, const void *b)
{
    const struct tensor_source *x = *(const struct tensor_source *const *)a;
    const struct tensor_source *y = *(const struct tensor_source *const *)b;
    return x->type != y->type ? (x->type > y->type) - (x->type < y->type)
                              : strcmp(x->name, y->name);
}

static enum status source_size(const struct tensor_source *t, size_t *count, size_t *bytes,
                               struct err *e)
{
    if (!file_type_is_real(t->type) && !t->fill_bytes)
        return err_set(e, ERR_UNSUPPORTED, "tensor \"%s\": cannot be written as %s", t->name,
                       file_type_name(t->type));
    if (t->rank < 0 || t->rank > TENSOR_RANK_MAX)
        return err_set(e, ERR_SHAPE, "tensor \"%s\": %d dimensions", t->name, t->rank);
    *count = 1;
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] < 0 || size_mul(*count, (size_t)t->shape[i], count))
            return err_set(e, ERR_SHAPE, "tensor \"%s\": its shape is out of range", t->name);
    if (size_mul(*count, file_type_size(t->type), bytes) || *bytes > INT64_MAX)
        return err_set(e, ERR_SHAPE, "tensor \"%s\": its shape is out of range", t->name);
    return OK;
}

/* {"dtype": ..., "shape": [...], "data_offsets": [at, at + bytes]}; NULL without memory. */
static json_t *entry(const struct tensor_source *t, size_t at, size_t bytes)
{
    json_t *shape = json_array();
    for (int i = 0; i < t->rank; i++)
        if (json_array_append_new(shape, json_integer(t->shape[i]))) {
            json_decref(shape);
            return NULL;
        }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", file_type_name(t->type), "shape", shape,
                     "data_offsets", (json_int_t)at, (json_int_t)(at + bytes));
}

static int append(const char *text, size_t n, void *out)
{
    return buf_append(out, text, n) ? -1 : 0;
}

/* Length and padded JSON of tensors in the order given. */
static enum status make_header(struct buf *out, const struct tensor_source *const *sorted,
                               size_t count, struct err *e)
{
    uint64_t length = 0;
    size_t at = 0;
    enum status s = OK;
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    if (!root) s = err_set(e, ERR_MEMORY, "no memory for a header");
    for (size_t i = 0; i < count && !s; i++) {
        size_t elements, bytes;
        s = source_size(sorted[i], &elements, &bytes, e);
        if (!s && i && !strcmp(sorted[i]->name, sorted[i - 1]->name))
            s = err_set(e, ERR_FORMAT, "two tensors named \"%s\"", sorted[i]->name);
        if (!s && json_object_set_new(root, sorted[i]->name, entry(sorted[i], at, bytes)))
            s = err_set(e, ERR_MEMORY, "no memory for a header");
        if (!s && (size_add(at, bytes, &at) || at > INT64_MAX))
            s = err_set(e, ERR_SHAPE, "tensor \"%s\": too many bytes in all", sorted[i]->name);
    }
    if (!s && (json_object_size(root) != count + 1))
        s = err_set(e, ERR_FORMAT, "two tensors of one name, stored as different types");
    if (!s && (buf_append(out, &length, sizeof length) ||
               json_dump_callback(root, append, out, JSON_COMPACT)))
        s = err_set(e, ERR_MEMORY, "no memory for a header");
    while (!s && out->len % 8)
        if (buf_putc(out, ' ')) s = err_set(e, ERR_MEMORY, "no memory for a header");
    if (!s) {
        length = out->len - sizeof length;
        memcpy(out->data, &length, sizeof length);
    }
    json_decref(root);
    return s;
}

struct block {
    float values[BLOCK];
    char bytes[BLOCK * sizeof(double)];
};

/* Elements done ... done+n-1 to b->bytes. */
static enum status fill_block(const struct tensor_source *t, size_t done, size_t n, struct block *b,
                              struct err *e)
{
    const float *from = t->data ? t->data + done : b->values;
    enum status s = OK;
    if (t->fill_bytes)
        s = t->fill_bytes(t->context, done, n, b->bytes, e);
    else if (!t->data)
        s = t->fill(t->context, done, n, b->values, e);
    if (s) return err_wrap(e, "tensor \"%s\"", t->name);
    if (!t->fill_bytes) file_type_from_float(t->type, b->bytes, from, n);
    return OK;
}

static enum status write_tensor(int fd, const struct tensor_source *t, struct block *b,
                                const char *path, struct err *e)
{
    size_t count, bytes, each = file_type_size(t->type);
    TRY(source_size(t, &count, &bytes, e));
    if (!t->fill_bytes && t->data && t->type == FILE_F32)
        return io_write_all(fd, t->data, bytes, path, e);
    for (size_t done = 0; done < count; done += BLOCK) {
        size_t n = size_min(BLOCK, count - done);
        TRY(fill_block(t, done, n, b, e));
        TRY(io_write_all(fd, b->bytes, n * each, path, e));
    }
    return OK;
}

static enum status write_all(int fd, const struct buf *header,
                             const struct tensor_source *const *sorted, size_t count,
                             const char *path, struct err *e)
{
    struct block *b = mem_alloc(sizeof *b);
    if (!b) return err_set(e, ERR_MEMORY, "no memory to write %s", path);
    enum status s = io_write_all(fd, header->data, header->len, path, e);
    for (size_t i = 0; i < count && !s; i++) s = write_tensor(fd, sorted[i], b, path, e);
    if (!s && fsync(fd)) s = err_errno(e, "%s", path);
    mem_free(b);
    return s;
}

/* Of the sources that list[i] points to, which gets sorted. */
static enum status write_list(const char *path, const struct tensor_source **list, size_t count,
                              struct err *e)
{
    char aside[IO_PATH_MAX];
    struct buf header;
    int fd = -1;
    if ((size_t)snprintf(aside, sizeof aside, "%s.tmp", path) >= sizeof aside)
        return err_set(e, ERR_IO, "path too long: %s", path);
    buf_init(&header, (size_t)TENSOR_HEADER_MAX + 8);
    if (count) qsort(list, count, sizeof *list, by_type_then_name);
    enum status s = make_header(&header, list, count, e);
    if (s) goto out;
    fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        s = err_errno(e, "%s", aside);
        goto out;
    }
    s = write_all(fd, &header, list, count, path, e);
    if (close(fd) && !s) s = err_errno(e, "%s", path);
    if (!s && rename(aside, path)) s = err_errno(e, "%s", path);
    if (s) unlink(aside);
out:
    buf_free(&header);
    return s;
}

static enum status make_list(const struct tensor_source *sources, size_t count,
                             const struct tensor_source ***out, struct err *e)
{
    *out = mem_calloc(count, sizeof **out);
    if (!*out) return err_set(e, ERR_MEMORY, "no memory for %zu tensors", count);
    for (size_t i = 0; i < count; i++) (*out)[i] = &sources[i];
    return OK;
}

enum status tensor_file_write(const char *path, const struct tensor_source *sources, size_t count,
                              struct err *e)
{
    const struct tensor_source **list;
    TRY(make_list(sources, count, &list, e));
    enum status s = write_list(path, list, count, e);
    mem_free(list);
    return s;
}

/* --- a directory --- */

/* Where the shard that starts at source `first` ends; adds its bytes to *total. */
static enum status shard_end(const struct tensor_source *sources, size_t count, size_t first,
                             uint64_t limit, size_t *end, uint64_t *total, int64_t *elements,
                             struct err *e)
{
    uint64_t used = 0;
    size_t i = first, n, bytes;
    for (; i < count; i++) {
        TRY(source_size(&sources[i], &n, &bytes, e));
        if (i > first && (bytes > limit || used > limit - bytes)) break;
        if (__builtin_add_overflow(used, (uint64_t)bytes, &used) || used > INT64_MAX - *total)
            return err_set(e, ERR_SHAPE, "more bytes than a file can have");
        *elements += (int64_t)n;
    }
    *end = i;
    *total += used;
    return OK;
}

static void shard_name(char out[64], size_t i, size_t n)
{
    if (n == 1)
        snprintf(out, 64, "model.safetensors");
    else
        snprintf(out, 64, "model-%05zu-of-%05zu.safetensors", i + 1, n);
}

/* Number of shards, and the index that goes with them (unless it is one). */
static enum status plan_shards(const struct tensor_source *sources, size_t count, uint64_t limit,
                               size_t *shards, json_t **index, struct err *e)
{
    uint64_t total = 0;
    int64_t elements = 0;
    size_t n = 0, end = 0;
    char name[64];
    do {
        TRY(shard_end(sources, count, end, limit, &end, &total, &elements, e));
        n++;
    } while (end < count);
    *shards = n;
    *index = json_pack("{s:{s:I, s:I}, s:{}}", "metadata", "total_parameters", (json_int_t)elements,
                       "total_size", (json_int_t)total, "weight_map");
    json_t *map = json_object_get(*index, "weight_map");
    end = 0;
    for (size_t k = 0; k < n; k++) {
        size_t from = end;
        TRY(shard_end(sources, count, from, limit, &end, &(uint64_t){0}, &(int64_t){0}, e));
        shard_name(name, k, n);
        for (size_t i = from; i < end; i++) {
            if (json_object_get(map, sources[i].name))
                return err_set(e, ERR_FORMAT, "two tensors named \"%s\"", sources[i].name);
            if (json_object_set_new(map, sources[i].name, json_string(name)))
                return err_set(e, ERR_MEMORY, "no memory for the index");
        }
    }
    return *index ? OK : err_set(e, ERR_MEMORY, "no memory for the index");
}

/* Is this a file that an earlier model may have left, and which the new n shards have not
 * written? */
static int is_stale(const char *file, size_t n)
{
    size_t k, of;
    char same[64], tail[16] = "";
    if (!strcmp(file, "model.safetensors")) return n != 1;
    if (!strcmp(file, INDEX_NAME)) return n == 1;
    if (sscanf(file, "model-%5zu-of-%5zu%15s", &k, &of, tail) != 3) return 0;
    if (!k || !of || strcmp(tail, ".safetensors")) return 0;
    snprintf(same, sizeof same, "model-%05zu-of-%05zu.safetensors", k, of);
    return !strcmp(file, same) && (n == 1 || of != n);
}

static enum status remove_stale(const char *dir, size_t n, struct err *e)
{
    char path[IO_PATH_MAX];
    enum status s = OK;
    DIR *d = opendir(dir);
    if (!d) return err_errno(e, "%s", dir);
    for (struct dirent *entry_; (entry_ = readdir(d)) && !s;) {
        if (!is_stale(entry_->d_name, n)) continue;
        s = io_join(path, sizeof path, dir, entry_->d_name, e);
        if (!s && unlink(path)) s = err_errno(e, "%s", path);
    }
    closedir(d);
    return s;
}

static enum status write_shards(const char *dir, const struct tensor_source **list, size_t count,
                                const struct tensor_source *sources, uint64_t limit, size_t n,
                                struct err *e)
{
    char name[64], path[IO_PATH_MAX];
    size_t end = 0;
    for (size_t k = 0; k < n; k++) {
        size_t from = end;
        TRY(shard_end(sources, count, from, limit, &end, &(uint64_t){0}, &(int64_t){0}, e));
        shard_name(name, k, n);
        TRY(io_join(path, sizeof path, dir, name, e));
        TRY(write_list(path, list + from, end - from, e));
    }
    return OK;
}

enum status tensor_dir_write(const char *dir, const struct tensor_source *sources, size_t count,
                             uint64_t shard_bytes, struct err *e)
{
    const struct tensor_source **list = NULL;
    char path[IO_PATH_MAX];
    json_t *index = NULL;
    size_t n = 0;
    enum status s = plan_shards(sources, count, shard_bytes, &n, &index, e);
    if (!s) s = make_list(sources, count, &list, e);
    if (!s) s = write_shards(dir, list, count, sources, shard_bytes, n, e);
    if (!s && n > 1) s = io_join(path, sizeof path, dir, INDEX_NAME, e);
    if (!s && n > 1) s = json_write_file(index, path, e);
    if (!s) s = remove_stale(dir, n, e);
    json_decref(index);
    mem_free(list);
    return s;
}

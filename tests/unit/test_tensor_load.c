/* ckpt/tensor_load: the same bytes and digests whatever the threads, slots and shards; reads that
 * are short, interrupted, fail or end too early; memory that runs out. */
#include "support/check.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/size.h"
#include "ckpt/safetensors_write.h"
#include "ckpt/tensor_load.h"

/* --- a pread that the tests can spoil, in place of the system's --- */

static enum { WELL, SHORT, FAILS, ENDS } reads;
static off_t spoilt_from;

ssize_t pread(int fd, void *out, size_t n, off_t offset)
{
    static _Thread_local unsigned calls;
    if (reads == SHORT) {
        if (++calls % 3 == 0) {
            errno = EINTR;
            return -1;
        }
        if (n > 1) n = calls % 2 ? n / 2 : n - n / 7;
    }
    if (reads >= FAILS && offset + (off_t)n > spoilt_from) {
        errno = EIO;
        return reads == FAILS ? -1 : 0;
    }
    return syscall(SYS_pread64, fd, out, n, offset);
}

/* --- files --- */

/* Sizes around a part and a block; of three types, with a hole of nothing between them. */
static const struct {
    const char *name;
    enum file_type type;
    size_t count;
} shapes[] = {
    {"a.less", FILE_F32, TENSOR_PART - 1},
    {"b.one", FILE_F32, 1},
    {"c.none", FILE_F32, 0},
    {"d.even", FILE_F32, TENSOR_PART},
    {"e.more", FILE_BF16, TENSOR_PART + 1},
    {"f.many", FILE_BF16, 2 * TENSOR_PART + 7},
    {"g.half", FILE_F16, TENSOR_BLOCK + 3},
    {"h.wide", FILE_F64, TENSOR_BLOCK + 1},
    {"i.code", FILE_U8, TENSOR_PART + 5},
    {"j.odd", FILE_U8, 3},
};
enum { TENSORS = sizeof shapes / sizeof *shapes };

static char folder[] = "/tmp/cria-tensor-load-XXXXXX";

#define PERIOD ((size_t)1018) /* elements after which tensors repeat themselves */

static float number(size_t tensor, size_t i)
{
    return (float)((i % PERIOD * 7 + tensor) % 509) / 16 - 13;
}

static enum status fill(void *context, size_t first, size_t count, float *out, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < count; i++) out[i] = number((size_t)(uintptr_t)context, first + i);
    return OK;
}

static enum status fill_bytes(void *context, size_t first, size_t count, void *out, struct err *e)
{
    (void)e;
    for (size_t i = 0; i < count; i++)
        ((uint8_t *)out)[i] = (uint8_t)((size_t)(uintptr_t)context + 31 * ((first + i) % PERIOD));
    return OK;
}

static void write_files(const char *dir, uint64_t shard_bytes)
{
    struct tensor_source sources[TENSORS];
    struct err e = {0};
    CHECK_OK(io_make_dirs(dir, &e), &e);
    for (size_t i = 0; i < TENSORS; i++)
        sources[i] =
            (struct tensor_source){.name = shapes[i].name,
                                   .type = shapes[i].type,
                                   .rank = 1,
                                   .shape = {(int64_t)shapes[i].count},
                                   .fill = fill,
                                   .fill_bytes = shapes[i].type == FILE_U8 ? fill_bytes : NULL,
                                   .context = (void *)(uintptr_t)i};
    CHECK_OK(tensor_dir_write(dir, sources, TENSORS, shard_bytes, &e), &e);
}

static const char *whole(void)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/whole", folder);
    return path;
}

static const char *sharded(void)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/sharded", folder);
    return path;
}

static void *nothing(void *context) { return context; }

static int write_all(void **state)
{
    pthread_t thread; /* the first one brings a sanitizer's own */
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, nothing, NULL), 0);
    pthread_join(thread, NULL);
    assert_non_null(mkdtemp(folder));
    write_files(whole(), TENSOR_SHARD_BYTES);
    write_files(sharded(), 3 << 20); /* a shard for nearly each */
    return 0;
}

static int remove_all(void **state)
{
    struct err e = {0};
    (void)state;
    CHECK_OK(io_remove_tree(folder, &e), &e);
    return 0;
}

/* --- loading --- */

enum aim { AS_FLOATS, AS_BF16, AS_STORED, HASHED };

static enum file_type wanted(enum aim aim, size_t i)
{
    enum file_type type = shapes[i].type;
    if (aim == HASHED || (aim == AS_STORED && file_type_size(type) > 4)) return FILE_TYPES;
    if (aim == AS_STORED || type == FILE_U8) return type;
    return aim == AS_FLOATS ? FILE_F32 : FILE_BF16;
}

/* A device that takes nothing before it has to, and spoils what has been taken. */
struct late {
    struct tensor_ring ring;
    struct tensor_load *loads;
    char **places;
    struct {
        char *to;
        size_t bytes;
    } sent[TENSOR_SLOTS_MAX];
    int under_way;
};

static void send(void *context, int slot, const struct tensor_load *load, size_t first,
                 size_t count)
{
    struct late *late = context;
    size_t each = file_type_size(load->as);
    assert_null(late->sent[slot].to);
    late->sent[slot].to = late->places[load - late->loads] + first * each;
    late->sent[slot].bytes = count * each;
    late->under_way++;
}

static void reclaim(void *context, int slot)
{
    struct late *late = context;
    assert_non_null(late->sent[slot].to);
    memcpy(late->sent[slot].to, late->ring.slots[slot], late->sent[slot].bytes);
    memset(late->ring.slots[slot], 0xee, late->sent[slot].bytes);
    late->sent[slot].to = NULL;
    late->under_way--;
}

struct loaded {
    char *places[TENSORS];
    uint64_t digests[TENSORS][2];
};

static void free_loaded(struct loaded *l)
{
    for (size_t i = 0; i < TENSORS; i++) free(l->places[i]);
}

static int threads_now(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(d));) n += entry->d_name[0] != '.';
    closedir(d);
    return n;
}

/* slots 0: straight to its place. */
static enum status load(const char *dir, enum aim aim, int threads, int slots, struct loaded *out,
                        struct err *e)
{
    struct tensor_files *f;
    struct tensor_load loads[TENSORS];
    struct late late = {.ring = {.count = slots, .send = send, .reclaim = reclaim},
                        .loads = loads,
                        .places = out->places};
    struct tensor_load_options o = {.threads = threads, .ring = slots ? &late.ring : NULL};
    int before = threads_now();
    late.ring.context = &late;
    *out = (struct loaded){0};
    for (int i = 0; i < slots; i++) late.ring.slots[i] = malloc(TENSOR_SLOT_BYTES);
    CHECK_OK(tensor_files_open(&f, dir, e), e);
    for (size_t i = 0; i < TENSORS; i++) {
        enum file_type as = wanted(aim, i);
        size_t each = as == FILE_TYPES ? 0 : file_type_size(as);
        out->places[i] = malloc(shapes[i].count * each + 8);
        memset(out->places[i], 0x55, shapes[i].count * each + 8);
        loads[i] = (struct tensor_load){.tensor = tensor_files_find(f, shapes[i].name),
                                        .as = as,
                                        .place = slots || !each ? NULL : out->places[i]};
    }
    enum status s = tensor_load_all(f, loads, TENSORS, &o, e);
    for (size_t i = 0; i < TENSORS; i++)
        memcpy(out->digests[i], loads[i].digest, sizeof loads[i].digest);
    for (int i = 0; i < slots; i++) free(late.ring.slots[i]);
    assert_int_equal(late.under_way, 0);
    tensor_files_close(f);
    for (int wait = 0; threads_now() > before && wait < 1000; wait++) /* joined, and soon gone */
        usleep(1000);
    assert_int_equal(threads_now(), before);
    return s;
}

/* One period of what tensor i holds, as `as`. */
static void make_period(size_t i, enum file_type as, char *out)
{
    for (size_t k = 0; k < PERIOD; k++) {
        char stored[8];
        float v = number(i, k);
        file_type_from_float(shapes[i].type, stored, &v, 1);
        file_type_to_float(shapes[i].type, &v, stored, 1);
        file_type_from_float(as, out + k * file_type_size(as), &v, 1);
    }
}

static void check_numbers(const struct loaded *l, enum aim aim)
{
    for (size_t i = 0; i < TENSORS; i++) {
        char want[PERIOD * 8];
        enum file_type as = wanted(aim, i);
        size_t each = as == FILE_TYPES ? 0 : file_type_size(as);
        if (as == FILE_U8)
            fill_bytes((void *)(uintptr_t)i, 0, PERIOD, want, NULL);
        else if (each)
            make_period(i, as, want);
        for (size_t k = 0; each && k < shapes[i].count; k += PERIOD)
            if (memcmp(want, l->places[i] + k * each, size_min(PERIOD, shapes[i].count - k) * each))
                fail_msg("%s, from element %zu of %zu on", shapes[i].name, k, shapes[i].count);
        for (size_t k = 0; k < 8; k++) /* nothing is written behind it */
            assert_int_equal(l->places[i][shapes[i].count * each + k], 0x55);
    }
}

static void check_same(const struct loaded *a, const struct loaded *b, enum aim aim)
{
    for (size_t i = 0; i < TENSORS; i++) {
        enum file_type as = wanted(aim, i);
        size_t each = as == FILE_TYPES ? 0 : file_type_size(as);
        assert_memory_equal(a->places[i], b->places[i], shapes[i].count * each);
        assert_memory_equal(a->digests[i], b->digests[i], sizeof a->digests[i]);
    }
}

static void test_places(void **state)
{
    (void)state;
    for (enum aim aim = AS_FLOATS; aim <= HASHED; aim++) {
        struct err e = {0};
        struct loaded first, other;
        CHECK_OK(load(whole(), aim, 1, 0, &first, &e), &e);
        check_numbers(&first, aim);
        for (int threads = 2; threads <= 4; threads++) {
            CHECK_OK(load(threads == 3 ? sharded() : whole(), aim, threads, 0, &other, &e), &e);
            check_same(&first, &other, aim);
            free_loaded(&other);
        }
        free_loaded(&first);
    }
}

static void test_ring(void **state)
{
    static const int ways[][2] = {{1, 1}, {1, 3}, {3, 1},
                                  {4, 2}, {4, 8}, {0, 4}}; /* threads, slots */
    (void)state;
    for (enum aim aim = AS_FLOATS; aim <= HASHED; aim++) {
        struct err e = {0};
        struct loaded first, other;
        CHECK_OK(load(whole(), aim, 1, 0, &first, &e), &e);
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
            const char *dir = i % 2 ? sharded() : whole();
            CHECK_OK(load(dir, aim, ways[i][0], ways[i][1], &other, &e), &e);
            check_same(&first, &other, aim);
            free_loaded(&other);
        }
        free_loaded(&first);
    }
}

/* What a digest is, spelt out. */
static void test_digest(void **state)
{
    struct err e = {0};
    struct loaded l;
    uint64_t part[2], want[2];
    struct hasher *h = hasher_create(), *all = hasher_create();
    (void)state;
    CHECK_OK(load(whole(), AS_STORED, 2, 0, &l, &e), &e);
    for (size_t i = 0; i < TENSORS; i++) {
        size_t each = file_type_size(shapes[i].type);
        if (each > 4) continue;
        hasher_reset(all);
        hasher_string(all, file_type_name(shapes[i].type));
        for (size_t at = 0; at < shapes[i].count; at += TENSOR_PART) {
            hasher_reset(h);
            hasher_bytes(h, l.places[i] + at * each,
                         size_min(TENSOR_PART, shapes[i].count - at) * each);
            hasher_digest(h, part);
            hasher_u64(all, part[0]);
            hasher_u64(all, part[1]);
        }
        hasher_digest(all, want);
        assert_memory_equal(want, l.digests[i], sizeof want);
    }
    free_loaded(&l);
    hasher_destroy(h);
    hasher_destroy(all);
}

/* F32 at an odd byte of the file. */
static void test_alignment(void **state)
{
    static const char header[] =
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[3,23]},"
        "\"c\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[23,25]}}";
    static const float numbers[5] = {1, -2, 3.5f, 4, -5};
    char path[64], text[512];
    float got[6];
    uint64_t n = sizeof header - 1;
    struct err e = {0};
    struct tensor_files *f;
    (void)state;
    snprintf(path, sizeof path, "%s/odd.safetensors", folder);
    memcpy(text, &n, 8);
    memcpy(text + 8, header, n);
    memcpy(text + 8 + n, "abc", 3);
    memcpy(text + 11 + n, numbers, sizeof numbers);
    memcpy(text + 31 + n, "\xc0\x3f", 2);
    CHECK_OK(io_write_file(path, text, 33 + n, &e), &e);
    CHECK_OK(tensor_files_open(&f, path, &e), &e);
    struct tensor_load loads[] = {
        {.tensor = tensor_files_find(f, "c"), .as = FILE_F32, .place = got + 5},
        {.tensor = tensor_files_find(f, "b"), .as = FILE_F32, .place = got}};
    CHECK_OK(tensor_load_all(f, loads, 2, &(struct tensor_load_options){0}, &e), &e);
    assert_memory_equal(got, numbers, sizeof numbers);
    assert_true(got[5] == 1.5f);
    struct tensor_load bad = {tensor_files_find(f, "a"), FILE_F32, got, {0}};
    assert_int_equal(tensor_load_all(f, &bad, 1, &(struct tensor_load_options){0}, &e),
                     ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "\"a\" holds U8"));
    CHECK_OK(tensor_load_all(f, NULL, 0, &(struct tensor_load_options){0}, &e), &e);
    tensor_files_close(f);
}

/* --- trouble --- */

static void test_short_reads(void **state)
{
    struct err e = {0};
    struct loaded first, other;
    (void)state;
    CHECK_OK(load(whole(), AS_FLOATS, 2, 0, &first, &e), &e);
    for (int slots = 0; slots <= 3; slots += 3) {
        CHECK_OK(load(whole(), AS_FLOATS, 3, slots, &other, &e), &e);
        reads = SHORT;
        free_loaded(&other);
        CHECK_OK(load(whole(), AS_FLOATS, 3, slots, &other, &e), &e);
        reads = WELL;
        check_same(&first, &other, AS_FLOATS);
        free_loaded(&other);
    }
    free_loaded(&first);
}

/* The first place that cannot be read is named, whichever thread came to it. */
static void test_broken_reads(void **state)
{
    (void)state;
    for (int k = 0; k < 24; k++) {
        struct err e = {0};
        struct loaded l;
        int threads = 1 + k % 4, slots = k % 3;
        spoilt_from = ((off_t)9 << 20) + 12345;
        reads = k % 2 ? FAILS : ENDS;
        enum status s = load(whole(), AS_FLOATS, threads, slots, &l, &e);
        reads = WELL;
        char text[1500];
        err_format(&e, text, sizeof text);
        assert_int_equal(s, k % 2 ? ERR_IO : ERR_FORMAT);
        assert_non_null(strstr(text, "whole/model.safetensors"));
        assert_non_null(strstr(text, "tensor \"e.more\", from byte 9"));
        assert_non_null(strstr(text, k % 2 ? strerror(EIO) : "the file ends too early"));
        free_loaded(&l);
    }
}

static void test_no_memory(void **state)
{
    struct err e = {0};
    struct tensor_files *f;
    float got[1];
    (void)state;
    CHECK_OK(tensor_files_open(&f, whole(), &e), &e);
    for (long n = 1;; n++) {
        struct tensor_load l = {tensor_files_find(f, "b.one"), FILE_F32, got, {0}};
        struct err why = {0};
        mem_fail_after(n);
        enum status s =
            tensor_load_all(f, &l, 1, &(struct tensor_load_options){.threads = 3}, &why);
        mem_fail_after(0);
        if (!s) {
            assert_true(n > 10);
            break;
        }
        assert_int_equal(s, ERR_MEMORY);
        assert_true(why.message[0]);
    }
    tensor_files_close(f);
}

static void test_rules(void **state)
{
    (void)state;
    assert_int_equal(tensor_load_threads(0), 1);
    assert_int_equal(tensor_load_threads(1 << 20), 1);
    assert_true(tensor_load_threads((uint64_t)1 << 40) >= 4);
    assert_true(tensor_load_threads(UINT64_MAX) <= 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),      cmocka_unit_test(test_ring),
        cmocka_unit_test(test_digest),      cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_short_reads), cmocka_unit_test(test_broken_reads),
        cmocka_unit_test(test_no_memory),   cmocka_unit_test(test_rules),
    };
    return cmocka_run_group_tests(tests, write_all, remove_all);
}

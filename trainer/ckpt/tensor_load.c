#include "ckpt/tensor_load.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/size.h"
#include "ckpt/safetensors_header.h"

enum { THREADS_MAX = 16, THREADS_ASKED = 4 };
#define BYTES_A_THREAD ((uint64_t)8 << 20)
#define WIDEST 8 /* bytes of an element in a file */
#define PROGRESS_NANOSECONDS 250000000

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_FULL, SLOT_SENT };

/* A tensor's part, and the number it has in file order. */
struct part {
    size_t load, first, count; /* count 0: there is none left */
    size_t number;
    int slot; /* -1: none */
};

struct digest {
    uint64_t word[2];
};

struct crew;

struct reader {
    pthread_t thread;
    struct crew *crew;
    struct hasher *hasher;
    char *raw;     /* [TENSOR_BLOCK * WIDEST] */
    float *floats; /* [TENSOR_BLOCK], between two types of which neither is F32 */
    struct err err;
};

/* All below `lock` is guarded by it. */
struct crew {
    const struct tensor_files *files;
    struct tensor_load *loads;
    size_t count;
    size_t *order;          /* [count] loads, as they lie in the files */
    size_t *parts_before;   /* [count] of a load: parts before it, in file order */
    struct digest *digests; /* of each part, in file order */
    const struct tensor_ring *ring;
    struct reader readers[THREADS_MAX];
    int started;
    pthread_mutex_t lock;
    pthread_cond_t freed; /* a slot, or all is over */
    pthread_cond_t news;  /* a slot is full, or a reader has ended */
    size_t at, first;     /* the next part: order[at], from this element on */
    size_t number;        /* and its number */
    enum slot_state state[TENSOR_SLOTS_MAX];
    struct part held[TENSOR_SLOTS_MAX];
    int sent[TENSOR_SLOTS_MAX], num_sent; /* slots, in the order of sending */
    int ended;                            /* readers that have */
    int stopped;                          /* something failed */
    size_t failed_part;
    struct err err;
    uint64_t done, bytes;
};

/* --- rules --- */

static size_t num_parts(const struct tensor_info *t)
{
    return t->count / TENSOR_PART + (t->count % TENSOR_PART != 0);
}

static uint64_t num_bytes(const struct tensor_info *t)
{
    return (uint64_t)t->count * file_type_size(t->type);
}

int tensor_load_threads(uint64_t bytes)
{
    cpu_set_t set;
    int most = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    uint64_t wanted = bytes / BYTES_A_THREAD + 1;
    if (most < THREADS_ASKED) most = THREADS_ASKED;
    if (most > THREADS_MAX) most = THREADS_MAX;
    return wanted < (uint64_t)most ? (int)wanted : most;
}

size_t tensor_load_memory(int threads, size_t tensors, uint64_t bytes)
{
    size_t each = TENSOR_BLOCK * sizeof(float) + 16384; /* of a block, of a thread's stack */
    return sizeof(struct crew) + (size_t)threads * each + tensors * 2 * sizeof(size_t) +
           (tensors + (size_t)(bytes / TENSOR_PART)) * sizeof(struct digest);
}

/* --- the readers --- */

/* The next part, and a slot for it if it wants one. */
static struct part take_part(struct crew *c)
{
    struct part p = {.slot = -1};
    while (!c->stopped && c->at < c->count) {
        const struct tensor_load *l = &c->loads[c->order[c->at]];
        if (c->first == l->tensor->count) {
            c->at++, c->first = 0;
            continue;
        }
        if (l->as != FILE_TYPES && !l->place) {
            int slot = 0;
            assert(c->ring);
            while (slot < c->ring->count && c->state[slot] != SLOT_FREE) slot++;
            if (slot == c->ring->count) {
                pthread_cond_wait(&c->freed, &c->lock);
                continue; /* others have gone on meanwhile */
            }
            p.slot = slot;
            c->state[slot] = SLOT_FILLING;
        }
        p.load = c->order[c->at];
        p.first = c->first;
        p.count = size_min(TENSOR_PART, l->tensor->count - c->first);
        p.number = c->number++;
        c->first += p.count;
        return p;
    }
    return p;
}

/* What is left of the thread's block, in the wanted type. */
static void convert(const struct reader *r, const struct tensor_load *l, void *to, size_t n)
{
    enum file_type from = l->tensor->type;
    if (l->as == FILE_F32) {
        file_type_to_float(from, to, r->raw, n);
    } else if (from == FILE_F32) {
        file_type_from_float(l->as, to, (const float *)(const void *)r->raw, n);
    } else {
        file_type_to_float(from, r->floats, r->raw, n);
        file_type_from_float(l->as, to, r->floats, n);
    }
}

static enum status read_part(struct reader *r, const struct part *p)
{
    const struct crew *c = r->crew;
    const struct tensor_load *l = &c->loads[p->load];
    const struct tensor_info *t = l->tensor;
    const struct tensor_shard *file = &c->files->shards[t->file];
    size_t each = file_type_size(t->type), wide = l->as == FILE_TYPES ? 0 : file_type_size(l->as);
    char *to = p->slot >= 0 ? c->ring->slots[p->slot]
               : wide       ? (char *)l->place + p->first * wide
                            : NULL;
    uint64_t offset = t->offset + (uint64_t)p->first * each;
    hasher_reset(r->hasher);
    for (size_t at = 0, n; at < p->count; at += n) {
        n = size_min(TENSOR_BLOCK, p->count - at);
        void *block = l->as == t->type ? to + at * each : r->raw;
        enum status s =
            io_read_at(file->fd, block, n * each, offset + at * each, file->path, &r->err);
        if (s)
            return err_wrap(&r->err, "tensor \"%s\", from byte %llu of the file on",
                            tensor_show(t->name).text, (unsigned long long)(offset + at * each));
        hasher_bytes(r->hasher, block, n * each);
        if (to && block == r->raw) convert(r, l, to + at * wide, n);
    }
    hasher_digest(r->hasher, c->digests[p->number].word);
    return OK;
}

/* Of several errors the first part's counts: it does not depend on which thread was faster. */
static void note_failure(struct crew *c, const struct part *p, const struct err *e)
{
    if (!c->stopped || p->number < c->failed_part) {
        c->failed_part = p->number;
        c->err = *e;
    }
    c->stopped = 1;
    pthread_cond_broadcast(&c->freed);
}

static void *read_parts(void *context)
{
    struct reader *r = context;
    struct crew *c = r->crew;
    pthread_mutex_lock(&c->lock);
    for (struct part p; (p = take_part(c)).count;) {
        pthread_mutex_unlock(&c->lock);
        enum status s = read_part(r, &p);
        pthread_mutex_lock(&c->lock);
        c->done += p.count * file_type_size(c->loads[p.load].tensor->type);
        if (s) note_failure(c, &p, &r->err);
        if (p.slot < 0) continue;
        c->held[p.slot] = p;
        c->state[p.slot] = s ? SLOT_FREE : SLOT_FULL;
        pthread_cond_signal(&c->news);
    }
    c->ended++;
    pthread_cond_broadcast(&c->freed); /* others may wait for a slot that no part wants any more */
    pthread_cond_signal(&c->news);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* --- the calling thread --- */

/* Begins one slot's way; 0: none is full. */
static int send_slot(struct crew *c)
{
    int slot = 0;
    while (slot < TENSOR_SLOTS_MAX && c->state[slot] != SLOT_FULL) slot++;
    if (slot == TENSOR_SLOTS_MAX || c->stopped) return 0;
    struct part p = c->held[slot];
    pthread_mutex_unlock(&c->lock);
    c->ring->send(c->ring->context, slot, &c->loads[p.load], p.first, p.count);
    pthread_mutex_lock(&c->lock);
    c->state[slot] = SLOT_SENT;
    c->sent[c->num_sent++] = slot;
    return 1;
}

/* Gets the slot back that was sent first; 0: none is under way. */
static int reclaim_slot(struct crew *c)
{
    if (!c->num_sent) return 0;
    int slot = c->sent[0];
    memmove(c->sent, c->sent + 1, (size_t)--c->num_sent * sizeof *c->sent);
    pthread_mutex_unlock(&c->lock);
    c->ring->reclaim(c->ring->context, slot);
    pthread_mutex_lock(&c->lock);
    c->state[slot] = SLOT_FREE;
    pthread_cond_signal(&c->freed);
    return 1;
}

static struct timespec later(struct timespec t)
{
    t.tv_nsec += PROGRESS_NANOSECONDS;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

/* Tells how far it is when it is time to; *next: when that is. */
static void tell_progress(struct crew *c, const struct tensor_load_options *o,
                          struct timespec *next)
{
    struct timespec now;
    uint64_t done = c->done;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec < next->tv_sec || (now.tv_sec == next->tv_sec && now.tv_nsec < next->tv_nsec))
        return;
    *next = later(now);
    pthread_mutex_unlock(&c->lock);
    if (o->progress) o->progress(o->context, done, c->bytes);
    pthread_mutex_lock(&c->lock);
}

/* Until all readers have ended and nothing is under way. */
static void serve(struct crew *c, const struct tensor_load_options *o)
{
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    next = later(next);
    pthread_mutex_lock(&c->lock);
    for (;;) {
        tell_progress(c, o, &next);
        if (send_slot(c) || reclaim_slot(c)) continue;
        if (c->ended == c->started) break;
        pthread_cond_timedwait(&c->news, &c->lock, &next);
    }
    pthread_mutex_unlock(&c->lock);
}

static void start_readers(struct crew *c, int wanted)
{
    pthread_mutex_lock(&c->lock); /* nobody looks before all who start are counted */
    while (c->started < wanted && !pthread_create(&c->readers[c->started].thread, NULL, read_parts,
                                                  &c->readers[c->started]))
        c->started++;
    pthread_mutex_unlock(&c->lock);
}

/* --- before and behind --- */

static int by_file(const struct tensor_load *loads, size_t a, size_t b)
{
    const struct tensor_info *x = loads[a].tensor, *y = loads[b].tensor;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return a < b ? -1 : a > b;
}

static int compare_loads(const void *a, const void *b, void *loads)
{
    return by_file(loads, *(const size_t *)a, *(const size_t *)b);
}

static int can_become(const struct tensor_load *l)
{
    enum file_type from = l->tensor->type;
    if (l->as == FILE_TYPES) return 1;
    if (l->as == from) return file_type_size(from) <= 4;
    return file_type_is_real(from) && (l->as == FILE_F32 || l->as == FILE_BF16);
}

static enum status check_loads(const struct crew *c, struct err *e)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct tensor_load *l = &c->loads[i];
        if (can_become(l)) continue;
        return err_at(e, ERR_UNSUPPORTED, tensor_file_path(c->files, l->tensor), 0, 0,
                      "tensor \"%s\" holds %s, which is not read as %s",
                      tensor_show(l->tensor->name).text, file_type_name(l->tensor->type),
                      file_type_name(l->as));
    }
    return OK;
}

static enum status no_memory(const struct crew *c, struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory to load %zu tensors", c->count);
}

static enum status lay_out(struct crew *c, struct err *e)
{
    size_t parts = 0;
    c->order = mem_calloc(c->count, sizeof *c->order);
    c->parts_before = mem_calloc(c->count, sizeof *c->parts_before);
    if (!c->order || !c->parts_before) return no_memory(c, e);
    for (size_t i = 0; i < c->count; i++) c->order[i] = i;
    if (c->count) qsort_r(c->order, c->count, sizeof *c->order, compare_loads, c->loads);
    for (size_t i = 0; i < c->count; i++) {
        const struct tensor_info *t = c->loads[c->order[i]].tensor;
        c->parts_before[c->order[i]] = parts;
        parts += num_parts(t);
        c->bytes += num_bytes(t);
    }
    c->digests = mem_calloc(parts, sizeof *c->digests);
    return c->digests ? OK : no_memory(c, e);
}

static enum status prepare_readers(struct crew *c, int wanted, struct err *e)
{
    for (struct reader *r = c->readers; r < c->readers + wanted; r++) {
        r->crew = c;
        r->hasher = hasher_create();
        r->raw = mem_alloc(TENSOR_BLOCK * WIDEST);
        r->floats = mem_alloc(TENSOR_BLOCK * sizeof *r->floats);
        if (!r->hasher || !r->raw || !r->floats) return no_memory(c, e);
    }
    return OK;
}

static void free_crew(struct crew *c)
{
    for (struct reader *r = c->readers; r < c->readers + THREADS_MAX; r++) {
        hasher_destroy(r->hasher);
        mem_free(r->raw);
        mem_free(r->floats);
    }
    mem_free(c->order);
    mem_free(c->parts_before);
    mem_free(c->digests);
    pthread_cond_destroy(&c->freed);
    pthread_cond_destroy(&c->news);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

static void make_digests(struct crew *c)
{
    struct hasher *h = c->readers[0].hasher;
    for (size_t i = 0; i < c->count; i++) {
        struct tensor_load *l = &c->loads[i];
        hasher_reset(h);
        hasher_string(h, file_type_name(l->tensor->type));
        for (size_t k = 0; k < num_parts(l->tensor); k++)
            for (int w = 0; w < 2; w++) hasher_u64(h, c->digests[c->parts_before[i] + k].word[w]);
        hasher_digest(h, l->digest);
    }
}

static enum status load(struct crew *c, const struct tensor_load_options *o, struct err *e)
{
    TRY(check_loads(c, e));
    TRY(lay_out(c, e));
    int wanted = o->threads > 0 ? o->threads : tensor_load_threads(c->bytes);
    if (wanted > THREADS_MAX) wanted = THREADS_MAX;
    TRY(prepare_readers(c, wanted, e));
    start_readers(c, wanted);
    if (!c->started) return err_set(e, ERR_MEMORY, "no thread to read weights in");
    serve(c, o);
    for (int i = 0; i < c->started; i++) pthread_join(c->readers[i].thread, NULL);
    if (c->stopped) {
        *e = c->err;
        return e->code;
    }
    make_digests(c);
    return OK;
}

static void init_locks(struct crew *c)
{
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&c->news, &clock);
    pthread_condattr_destroy(&clock);
    pthread_cond_init(&c->freed, NULL);
    pthread_mutex_init(&c->lock, NULL);
}

enum status tensor_load_all(const struct tensor_files *f, struct tensor_load *loads, size_t count,
                            const struct tensor_load_options *o, struct err *e)
{
    struct crew *c = mem_calloc(1, sizeof *c);
    if (!c) return err_set(e, ERR_MEMORY, "no memory to load %zu tensors", count);
    c->files = f;
    c->loads = loads;
    c->count = count;
    c->ring = o->ring;
    init_locks(c);
    enum status s = load(c, o, e);
    free_crew(c);
    return s;
}

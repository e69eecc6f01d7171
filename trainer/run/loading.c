#include "run/loading.h"

#include <assert.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"

#define TOLD_FROM 2.0 /* seconds: shorter loads are over before anybody has read a line */

enum status loading_begin(struct loading *l, struct engine *g, const struct tensor_files *files,
                          size_t most, struct err *e)
{
    *l = (struct loading){.g = g, .files = files, .room = most};
    l->loads = mem_calloc(most, sizeof *l->loads);
    l->targets = mem_calloc(most, sizeof *l->targets);
    if (l->loads && l->targets) return OK;
    loading_free(l);
    return err_set(e, ERR_MEMORY, "no memory to load %zu tensors", most);
}

void loading_free(struct loading *l)
{
    mem_free(l->loads);
    mem_free(l->targets);
    *l = (struct loading){0};
}

const uint64_t *loading_digest(const struct loading *l, size_t i) { return l->loads[i].digest; }

/* --- what goes where --- */

static int in_host_memory(const struct device *d) { return !d->k->copy_in; }
static int has_ring(const struct device *d) { return d->k->copy_mark != NULL; }

/* On a device that is neither (null) there is nothing to put anywhere. */
static void add(struct loading *l, const struct tensor_info *t, enum file_type as,
                struct loading_target target)
{
    const struct device *d = &l->g->device;
    int somewhere = target.to && (in_host_memory(d) || has_ring(d));
    assert(l->count < l->room);
    l->targets[l->count] = target;
    l->loads[l->count++] = (struct tensor_load){.tensor = t,
                                                .as = somewhere ? as : FILE_TYPES,
                                                .place = in_host_memory(d) ? target.to : NULL};
    l->bytes += (uint64_t)t->count * file_type_size(t->type);
}

void loading_raw(struct loading *l, const struct tensor_info *t, enum file_type as, void *to)
{
    add(l, t, as, (struct loading_target){.to = to});
}

void loading_param(struct loading *l, const struct tensor_info *t, const struct param *p)
{
    int floats = p->flags & PARAM_FLOAT || l->g->device.type == DTYPE_F32;
    struct loading_target target = {.to = p->master ? (char *)p->master : p->data};
    if (p->master && p->master != p->data) target.p = p;
    add(l, t, p->master || floats ? FILE_F32 : FILE_BF16, target);
}

/* --- the ring --- */

_Static_assert(TENSOR_SLOTS_MAX <= KERN_COPY_MARKS, "a mark for each slot");

static void send(void *context, int slot, const struct tensor_load *load, size_t first,
                 size_t count)
{
    struct loading *l = context;
    struct device *d = &l->g->device;
    const struct loading_target *target = &l->targets[load - l->loads];
    const struct param *p = target->p;
    size_t each = file_type_size(load->as);
    d->k->copy_in(d, target->to + first * each, l->ring->slots[slot], count * each);
    d->k->copy_mark(d, slot);
    if (!p) return;
    d->k->copy_wait(d);
    d->k->cast(d, (char *)p->data + first * dtype_size(d->type), p->master + first, count);
}

static void reclaim(void *context, int slot)
{
    struct loading *l = context;
    l->g->device.k->copy_until(&l->g->device, slot);
}

static int ring_slots(int threads) { return size_min((size_t)threads * 2, TENSOR_SLOTS_MAX); }

static enum status open_ring(struct tensor_ring *ring, struct loading *l, int threads,
                             struct err *e)
{
    struct device *d = &l->g->device;
    void *base;
    *ring = (struct tensor_ring){.context = l, .send = send, .reclaim = reclaim};
    TRY(d->k->host_alloc(d, (size_t)ring_slots(threads) * TENSOR_SLOT_BYTES, &base, e));
    ring->count = ring_slots(threads);
    for (int i = 0; i < ring->count; i++) ring->slots[i] = (char *)base + i * TENSOR_SLOT_BYTES;
    return OK;
}

static void close_ring(const struct tensor_ring *ring, struct device *d)
{
    if (ring->count) d->k->host_release(d, ring->slots[0], (size_t)ring->count * TENSOR_SLOT_BYTES);
}

/* --- reading --- */

static void tell(void *context, uint64_t done, uint64_t all)
{
    struct loading *l = context;
    const struct engine_options *o = &l->g->options;
    if (clock_seconds() - l->began < TOLD_FROM || !o->loading) return;
    o->loading(o->loading_context, done, all, clock_seconds() - l->began);
}

enum status loading_run(struct loading *l, struct err *e)
{
    struct device *d = &l->g->device;
    struct tensor_ring ring = {0};
    int threads = tensor_load_threads(l->bytes);
    struct tensor_load_options o = {.threads = threads, .progress = tell, .context = l};
    if (has_ring(d)) {
        TRY(open_ring(&ring, l, threads, e));
        l->ring = o.ring = &ring;
    }
    l->began = clock_seconds();
    enum status s = tensor_load_all(l->files, l->loads, l->count, &o, e);
    if (o.ring) d->k->copy_wait(d);
    close_ring(&ring, d);
    l->ring = NULL;
    double seconds = clock_seconds() - l->began;
    if (!s && seconds > TOLD_FROM)
        log_notice("%.1f GB of weights read in %.1f s (%.2f GB/s)", (double)l->bytes / 1e9, seconds,
                   (double)l->bytes / 1e9 / seconds);
    return s;
}

size_t loading_memory(const struct engine *g, size_t tensors, uint64_t bytes)
{
    int threads = tensor_load_threads(bytes);
    size_t each = sizeof(struct tensor_load) + sizeof(struct loading_target);
    size_t ring = has_ring(&g->device) ? (size_t)ring_slots(threads) * TENSOR_SLOT_BYTES : 0;
    return tensor_load_memory(threads, tensors, bytes) + tensors * each + ring;
}

#include "kernels/emu/block.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernels/emu/async.h"

#if defined(__SANITIZE_ADDRESS__) || defined(EMU_ASAN)
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define POISON(p, n) (void)0
#define UNPOISON(p, n) (void)0
#endif

namespace emu
{

struct thread *self;
struct uint3 block_index;
struct dim3 grid_size, block_size;
struct counters counters;

static const uint32_t ALL = 0xffffffffu;
enum { MAX_NAMES = 64 };

struct meeting { /* of a warp */
    const char *op;
    uint32_t mask, here;
    void *args[WARP];
    int phase;
    char order[2]; /* TSan's tokens of __syncwarp, by phase */
};

struct gate { /* a barrier */
    int count, here, phase;
    uint32_t waiting[MAX_WARPS]; /* lanes */
    char order[2];
};

struct named {
    const void *key;
    size_t offset;
};

/* The block that runs; one at a time. Nothing here is allocated while it does: to TSan that would
 * be an access of the thread that happens to run. */
static struct {
    struct thread threads[MAX_THREADS];
    int num_threads, num_warps, num_done;
    uint32_t ready[MAX_WARPS]; /* lanes that may run */
    int order[MAX_WARPS];      /* of the warps, where one runs ahead */
    bool ahead;
    struct meeting meetings[MAX_WARPS];
    struct gate gates[MAX_BARRIERS];
    alignas(1024) unsigned char shared[SHARED_MAX];
    size_t dynamic_bytes, shared_bytes; /* without and with static arrays */
    struct named names[MAX_NAMES];
    int num_names;
    struct fiber launcher;
    const std::function<void()> *body;
    char begun, ended; /* TSan's tokens */
} block;

/* --- draws --- */

static uint64_t seed, state = 88172645463325252u;

void set_seed(uint64_t s)
{
    seed = s;
    state = s * 0x9E3779B97F4A7C15u + 88172645463325252u;
    if (!state) state = 1;
    for (int i = 0; i < 8; i++) draw();
}

uint32_t draw()
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

static int draw_below(int n) { return (int)(draw() % (uint32_t)n); }

template <class T> static void shuffle(T *list, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = draw() % i;
        T t = list[i - 1];
        list[i - 1] = list[j];
        list[j] = t;
    }
}

/* --- failing --- */

void fail(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (self)
        fprintf(stderr, "emulator: block (%u,%u,%u) thread %d: %s\n", block_index.x, block_index.y,
                block_index.z, self->linear, text);
    else
        fprintf(stderr, "emulator: %s\n", text);
    fflush(NULL);
    _exit(99); /* no handlers: this may be a fiber's stack */
}

static void deadlock()
{
    char text[400];
    size_t n = 0;
    text[0] = 0;
    for (int w = 0; w < block.num_warps && n < sizeof text - 80; w++) {
        const struct meeting *m = &block.meetings[w];
        if (m->here)
            n += (size_t)snprintf(text + n, sizeof text - n, " warp %d in %s has %08x of %08x;", w,
                                  m->op, m->here, m->mask);
    }
    n += async_tell(text + n, sizeof text - n);
    for (int i = 0; i < MAX_BARRIERS && n < sizeof text - 80; i++) {
        const struct gate *g = &block.gates[i];
        if (g->here)
            n += (size_t)snprintf(text + n, sizeof text - n, " barrier %d has %d of %d;", i,
                                  g->here, g->count);
    }
    fail("deadlock:%s %d of %d threads ended", text, block.num_done, block.num_threads);
}

/* --- who runs next --- */

void make_ready(int warp, uint32_t lanes) { block.ready[warp] |= lanes; }

static struct thread *pick_ready()
{
    if (block.ahead && (draw() & 255) == 0) shuffle(block.order, (size_t)block.num_warps);
    int first = block.ahead ? 0 : draw_below(block.num_warps);
    for (int i = 0; i < block.num_warps; i++) {
        int w = block.ahead ? block.order[i] : (first + i) % block.num_warps;
        uint32_t lanes = block.ready[w];
        if (!lanes) continue;
        int turn = (int)(draw() & 31);
        uint32_t turned = turn ? lanes >> turn | lanes << (32 - turn) : lanes;
        int lane = (__builtin_ctz(turned) + turn) & 31;
        block.ready[w] &= ~(1u << lane);
        return &block.threads[w * WARP + lane];
    }
    return NULL;
}

static struct thread *pick()
{
    async_drift();
    for (;;) {
        struct thread *t = pick_ready();
        if (t || !async_advance()) return t;
    }
}

void give_way()
{
    struct thread *from = self, *to = pick();
    if (!to) deadlock();
    if (to == from) return;
    counters.switches++;
    self = to;
    fiber_switch(&from->fiber, &to->fiber);
}

void give_way_sometimes()
{
    if (draw() & 3) return;
    make_ready(self->warp, 1u << self->lane);
    give_way();
}

static void thread_main()
{
    fiber_arrive(&block.launcher);
    fiber_order_acquire(&block.begun);
    (*block.body)();
    fiber_order_release(&block.ended);
    if (!self->copies.empty()) fail("ends with asynchronous copies in flight");
    async_end_thread();
    struct thread *from = self, *next = NULL;
    if (++block.num_done < block.num_threads) {
        next = pick();
        if (!next) deadlock();
    }
    counters.switches++;
    self = next;
    fiber_leave(&from->fiber, next ? &next->fiber : &block.launcher);
}

/* --- meeting --- */

void rendezvous(const char *op, uint32_t mask, void *arg, void (*compute)(void **args))
{
    struct meeting *m = &block.meetings[self->warp];
    uint32_t bit = 1u << self->lane;
    counters.collectives++;
    if (!(mask & bit)) fail("%s: lane %d is not in its mask %08x", op, self->lane, mask);
    if (!m->here) {
        m->op = op;
        m->mask = mask;
        memset(m->args, 0, sizeof m->args);
    } else if (m->mask != mask || strcmp(m->op, op) != 0) {
        fail("divergent warp: %s of %08x while others are in %s of %08x", op, mask, m->op, m->mask);
    }
    m->args[self->lane] = arg;
    m->here |= bit;
    if (m->here != mask) {
        give_way();
        return;
    }
    m->here = 0;
    if (compute) compute(m->args);
    block.ready[self->warp] |= mask & ~bit;
    if ((draw() & 3) == 0) { /* not always the last one first */
        make_ready(self->warp, 1u << self->lane);
        give_way();
    }
}

static void next_phase(void **) { block.meetings[self->warp].phase++; }

void sync_warp(uint32_t mask)
{
    struct meeting *m = &block.meetings[self->warp];
    char *order = &m->order[m->phase & 1];
    fiber_order_release(order);
    rendezvous("__syncwarp", mask, NULL, next_phase);
    fiber_order_acquire(order);
}

int block_threads() { return block.num_threads; }

void barrier(int id, int count, bool wait)
{
    if (id < 0 || id >= MAX_BARRIERS) fail("there is no barrier %d", id);
    struct gate *g = &block.gates[id];
    char *order = &g->order[g->phase & 1];
    counters.barriers++;
    if (count < 1 || count > block.num_threads || count % WARP)
        fail("a barrier of %d threads in a block of %d", count, block.num_threads);
    if (g->here && g->count != count)
        fail("barrier %d of %d threads, of %d for others", id, count, g->count);
    fiber_order_release(order);
    g->count = count;
    if (++g->here < count) {
        if (!wait) return;
        g->waiting[self->warp] |= 1u << self->lane;
        give_way();
    } else {
        async_publish();
        g->here = 0;
        g->phase++;
        for (int w = 0; w < block.num_warps; w++) {
            block.ready[w] |= g->waiting[w];
            g->waiting[w] = 0;
        }
        make_ready(self->warp, 1u << self->lane);
        give_way();
    }
    if (wait) fiber_order_acquire(order);
}

/* --- shared memory --- */

/* NaN in every type. By hand: TSan would take memset for an access of the thread that runs. */
static void fill_nan(unsigned char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes;) {
        size_t n = ((uintptr_t)(p + i) & 7) == 0 && bytes - i >= 8 ? 8 : 1;
        if (n == 8)
            *(uint64_t *)(p + i) = ~(uint64_t)0;
        else
            p[i] = 0xff;
        i += n;
        __asm__ volatile("" ::: "memory"); /* lest the loop becomes a memset */
    }
}

void *shared_static(const void *key, size_t bytes)
{
    for (int i = 0; i < block.num_names; i++)
        if (block.names[i].key == key) return block.shared + block.names[i].offset;
    size_t offset = (block.shared_bytes + 15) & ~(size_t)15;
    if (offset + bytes > SHARED_MAX)
        fail("%zu bytes of shared memory are too many", offset + bytes);
    if (block.num_names == MAX_NAMES) fail("more than %d shared arrays", (int)MAX_NAMES);
    block.names[block.num_names++] = {key, offset};
    block.shared_bytes = offset + bytes;
    UNPOISON(block.shared + offset, bytes);
    fill_nan(block.shared + offset, bytes);
    return block.shared + offset;
}

size_t shared_bytes() { return block.shared_bytes; }

unsigned char *shared_dynamic() { return block.shared; }

uint32_t shared_offset(const void *p)
{
    const unsigned char *at = (const unsigned char *)p;
    if (at < block.shared || at > block.shared + block.shared_bytes)
        fail("%p does not point to shared memory", p);
    return (uint32_t)(at - block.shared);
}

unsigned char *shared_at(uint32_t offset, size_t bytes, size_t align)
{
    if (offset + bytes > block.shared_bytes)
        fail("shared bytes %u to %zu of %zu", offset, offset + bytes, block.shared_bytes);
    if (offset % align) fail("shared address %u wants an alignment of %zu", offset, align);
    return block.shared + offset;
}

static void clear_shared(size_t dynamic_bytes)
{
    UNPOISON(block.shared, SHARED_MAX);
    fill_nan(block.shared, dynamic_bytes);
    POISON(block.shared + dynamic_bytes, SHARED_MAX - dynamic_bytes);
    block.dynamic_bytes = block.shared_bytes = dynamic_bytes;
    block.num_names = 0;
}

/* --- asynchronous copies --- */

unsigned char *copy_check(uint32_t to, const void *from, int bytes, int filled)
{
    if ((uintptr_t)from % (uintptr_t)filled) fail("an asynchronous copy from a misaligned address");
    if (bytes < 0 || bytes > filled)
        fail("an asynchronous copy of %d bytes into %d", bytes, filled);
    return shared_at(to, (size_t)filled, (size_t)filled);
}

/* --- a block, a grid --- */

static void run_block()
{
    counters.blocks++;
    block.num_done = 0;
    block.ahead = (draw() & 3) != 0;
    for (int w = 0; w < block.num_warps; w++) {
        block.order[w] = w;
        block.ready[w] = ALL;
        block.meetings[w].here = 0;
    }
    shuffle(block.order, (size_t)block.num_warps);
    clear_shared(block.dynamic_bytes);
    async_begin();
    for (int i = 0; i < block.num_threads; i++) {
        struct thread *t = &block.threads[i];
        unsigned n = (unsigned)i, x = block_size.x, y = block_size.y;
        t->index = {n % x, n / x % y, n / x / y};
        t->linear = i;
        t->lane = i % WARP;
        t->warp = i / WARP;
        t->copy_group = 0;
        t->copies.clear();
        if (!fiber_prepare(&t->fiber, thread_main)) fail("no memory for a thread's stack");
    }
    fiber_adopt(&block.launcher);
    fiber_order_release(&block.begun);
    self = pick();
    fiber_switch(&block.launcher, &self->fiber);
    fiber_order_acquire(&block.ended);
    async_end();
    for (const struct gate &g : block.gates)
        if (g.here) fail("a block ends with a barrier that %d of %d reached", g.here, g.count);
}

static struct uint3 nth_block(uint64_t n)
{
    return {(unsigned)(n % grid_size.x), (unsigned)(n / grid_size.x % grid_size.y),
            (unsigned)(n / grid_size.x / grid_size.y)};
}

void run_grid(struct dim3 grid, struct dim3 size, size_t shared_bytes,
              const std::function<void()> &body)
{
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z,
             threads = (uint64_t)size.x * size.y * size.z;
    if (self) fail("a grid inside a grid");
    if (!blocks || grid.y > 65535 || grid.z > 65535 || grid.x > INT32_MAX)
        fail("a grid of %u x %u x %u blocks", grid.x, grid.y, grid.z);
    if (!threads || threads > MAX_THREADS || threads % WARP || shared_bytes > SHARED_MAX)
        fail("a block of %u x %u x %u threads and %zu bytes", size.x, size.y, size.z, shared_bytes);
    block.num_threads = (int)threads;
    block.num_warps = (int)threads / WARP;
    block.dynamic_bytes = shared_bytes;
    block.body = &body;
    grid_size = grid;
    block_size = size;
    std::vector<uint32_t> order;
    for (uint64_t i = 0; seed && i < blocks; i++) order.push_back((uint32_t)i);
    shuffle(order.data(), order.size());
    for (uint64_t i = 0; i < blocks; i++) {
        block_index = nth_block(seed ? order[i] : i);
        run_block();
    }
}

} // namespace emu

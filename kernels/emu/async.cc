#include "kernels/emu/async.h"

#include <stdio.h>
#include <string.h>

#include "kernels/cuda/tensor_map.h"
#include "kernels/emu/quiet.h"

namespace emu
{

enum {
    MAX_PLACES = 128,
    MAX_MBARRIERS = 64,
    MAX_COPIES = 512,
    MAX_PRODUCTS = 96,
    MAX_SUMS = 8,
    MAX_COLUMNS = 128
};
enum { GROUP_WARPS = 4, FILE_REGISTERS = 2048 }; /* of a block, in warps times a thread's */
enum { MAX_BYTES = (1 << 20) - 1 };              /* that a barrier can wait for */

struct mbarrier {
    uint32_t at;
    int count, pending, bytes;
    unsigned phase;
    int maker;
    bool fenced;
    uint32_t waiting[MAX_WARPS];
    unsigned seen[MAX_WARPS]; /* phases whose end a warp has waited for */
    char order[2];            /* TSan's tokens, by phase */
};

/* What was loaded last to a place, and the phase that waits for it. */
struct loaded {
    uint32_t at, bytes;
    const struct mbarrier *barrier;
    unsigned phase;
};

enum direction { LOAD, STORE, ADD };

struct flight {
    enum direction direction;
    uint32_t at; /* in shared memory */
    int bytes;
    unsigned char *global; /* NULL: a tensor's */
    struct tensor_map_rows map;
    int32_t column, row, count;
    struct mbarrier *barrier;
    int thread, group;
    bool done;    /* a store that nobody has waited for yet */
    uint64_t was; /* of what a store reads: a hash */
};

/* Accumulators of a warp in flight: what they hold in truth. */
struct sums {
    float *lanes[WARP];
    int columns, products; /* 0 products: free */
    float value[16][MAX_COLUMNS];
};

struct operand {
    uint64_t where;
    bool columns;
};

struct product {
    struct sums *sums;
    const uint32_t *a[WARP]; /* registers, or NULL */
    uint32_t held[WARP][4];  /* what was in them */
    struct operand left, right;
    int add, group;
};

/* Products are computed in the order in which they were asked for. */
struct warp_products {
    struct product asked[MAX_PRODUCTS];
    int count, computed, group;
    struct sums sums[MAX_SUMS];
    bool fenced;
    uint64_t history; /* of what was asked for; the same in the warps of a warpgroup */
    uint32_t ended[MAX_PRODUCTS * (2 * MAX_COLUMNS + 128)];
    int num_ended;
};

static struct {
    struct mbarrier mbarriers[MAX_MBARRIERS];
    int num_mbarriers;
    struct flight flights[MAX_COPIES];
    int num_flights, num_left; /* of these, that have not happened */
    struct loaded loaded[MAX_PLACES];
    int num_loaded;
    int copy_group[MAX_THREADS];
    struct warp_products warps[MAX_WARPS];
    int num_products; /* not computed yet */
    bool used;        /* the second view of shared memory holds something */
    bool fenced;      /* and is to have what threads wrote */
    alignas(1024) unsigned char view[SHARED_MAX];
    int registers[MAX_WARPS], registers_left;
    uint32_t want_registers[MAX_WARPS]; /* lanes that wait for some */
    int leader[MAX_WARPS];
    uint32_t haste; /* bits of a draw that must be 0 for something to happen */
} async;

static void use_view()
{
    if (async.used) return;
    memset(async.view, 0xff, sizeof async.view);
    async.used = true;
}

void async_publish()
{
    if (!async.fenced) return;
    use_view();
    size_t bytes = shared_bytes();
    memcpy(async.view, shared_at(0, bytes, 1), bytes);
    async.fenced = false;
}

/* Whether the views are not the same. */
static bool differ(uint32_t at, uint32_t bytes)
{
    const unsigned char *shared = shared_at(at, bytes, 16);
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t x, y;
        memcpy(&x, shared + i, sizeof x);
        memcpy(&y, async.view + at + i, sizeof y);
        if (x != y) return true;
    }
    return false;
}

static void wake(uint32_t (&lanes)[MAX_WARPS])
{
    for (int w = 0; w < block_threads() / WARP; w++) {
        if (lanes[w]) make_ready(w, lanes[w]);
        lanes[w] = 0;
    }
}

/* --- mbarriers --- */

static struct mbarrier *mbarrier_at(uint32_t at)
{
    for (int i = 0; i < async.num_mbarriers; i++)
        if (async.mbarriers[i].at == at) return &async.mbarriers[i];
    fail("there is no mbarrier at %u", at);
}

void mbarrier_init(uint32_t at, int count)
{
    shared_at(at, 8, 8);
    for (int i = 0; i < async.num_mbarriers; i++)
        if (async.mbarriers[i].at == at) fail("the mbarrier at %u is initialised twice", at);
    if (async.num_mbarriers == MAX_MBARRIERS) fail("more than %d mbarriers", (int)MAX_MBARRIERS);
    if (count < 1 || count > MAX_BYTES) fail("an mbarrier of %d arrivals", count);
    struct mbarrier *b = &async.mbarriers[async.num_mbarriers++];
    memset(b, 0, sizeof *b);
    b->at = at, b->count = b->pending = count, b->maker = self->linear;
    fiber_order_release(&b->order[0]);
}

void mbarrier_init_fence()
{
    for (int i = 0; i < async.num_mbarriers; i++)
        if (async.mbarriers[i].maker == self->linear) async.mbarriers[i].fenced = true;
}

static void end_phase(struct mbarrier *b)
{
    if (b->pending || b->bytes) return;
    async_publish();
    b->phase++;
    b->pending = b->count;
    wake(b->waiting);
}

void mbarrier_arrive(uint32_t at, int bytes)
{
    struct mbarrier *b = mbarrier_at(at);
    if (bytes < 0 || b->bytes + bytes > MAX_BYTES)
        fail("the mbarrier at %u is to expect %d bytes more", at, bytes);
    if (!b->pending) fail("more arrivals at the mbarrier at %u than %d in a phase", at, b->count);
    fiber_order_release(&b->order[b->phase & 1]);
    b->bytes += bytes;
    b->pending--;
    end_phase(b);
    give_way_sometimes();
}

void mbarrier_wait(uint32_t at, int parity)
{
    struct mbarrier *b = mbarrier_at(at);
    give_way_sometimes();
    while ((int)(b->phase & 1) == (parity & 1)) {
        b->waiting[self->warp] |= 1u << self->lane;
        give_way();
    }
    b->seen[self->warp] = b->phase;
    fiber_order_acquire(&b->order[parity & 1]);
}

/* --- bulk copies --- */

static struct flight *take_off(enum direction direction, uint32_t at, int bytes)
{
    if (async.num_flights == MAX_COPIES) fail("more than %d copies under way", (int)MAX_COPIES);
    if (bytes <= 0 || bytes % 16) fail("a bulk copy of %d bytes", bytes);
    use_view();
    async_publish();
    struct flight *f = &async.flights[async.num_flights++];
    async.num_left++;
    memset(f, 0, sizeof *f);
    f->direction = direction, f->at = at, f->bytes = bytes, f->thread = self->linear;
    f->group = async.copy_group[self->linear];
    return f;
}

static struct mbarrier *barrier_of_copy(uint32_t at)
{
    struct mbarrier *b = mbarrier_at(at);
    if (!b->fenced) fail("a copy uses the mbarrier at %u, whose init has no fence", at);
    return b;
}

/* A box that has rows outside its tensor but for the cut at `count`, is a fault of the caller. */
static void aim(struct flight *f, const struct tensor_map *map, int32_t box, int32_t column,
                int32_t row, int32_t count)
{
    memcpy(&f->map, map, sizeof f->map);
    if (f->map.box != box) fail("a tensor map for boxes of %d rows, not %d", f->map.box, box);
    if (column < 0 || column % 8 || column + TENSOR_MAP_COLUMNS > f->map.columns)
        fail("columns from %d on of %d", column, f->map.columns);
    if (count < 1 || count > box || row < 0 || row + count > f->map.num_rows)
        fail("%d rows from %d on, in boxes of %d, of %lld", count, row, box,
             (long long)f->map.num_rows);
    f->column = column, f->row = row, f->count = count;
}

static void check_products(uint32_t at, int bytes);

static void note_load(const struct flight *f)
{
    int i = 0;
    while (i < async.num_loaded && async.loaded[i].at != f->at) i++;
    if (i == MAX_PLACES) fail("loads to more than %d places", (int)MAX_PLACES);
    if (i == async.num_loaded) async.num_loaded++;
    async.loaded[i] = {f->at, (uint32_t)f->bytes, f->barrier, f->barrier->phase};
}

/* Both views of what a load will overwrite, and nobody may be at. */
static struct landing clear_for(const struct flight *f)
{
    for (int i = 0; i < async.num_flights - 1; i++) {
        const struct flight *other = &async.flights[i];
        if (other->at < f->at + (uint32_t)f->bytes && f->at < other->at + (uint32_t)other->bytes)
            fail("a load to %u where another copy is under way", f->at);
    }
    check_products(f->at, f->bytes);
    note_load(f);
    memset(async.view + f->at, 0xff, (size_t)f->bytes);
    struct landing l = {shared_at(f->at, (size_t)f->bytes, 16), f->bytes,
                        &f->barrier->order[f->barrier->phase & 1]};
    return l;
}

struct landing load_tensor(uint32_t to, const struct tensor_map *map, int32_t box, uint32_t barrier,
                           int32_t column, int32_t row, int32_t count)
{
    shared_at(to, (size_t)box * 128, 1024);
    struct flight *f = take_off(LOAD, to, box * 128);
    aim(f, map, box, column, row, count);
    f->barrier = barrier_of_copy(barrier);
    return clear_for(f);
}

struct landing load_bytes(uint32_t to, const void *from, int bytes, uint32_t barrier)
{
    shared_at(to, (size_t)bytes, 16);
    if ((uintptr_t)from % 16) fail("a bulk copy from a misaligned address");
    struct flight *f = take_off(LOAD, to, bytes);
    f->global = (unsigned char *)from;
    f->barrier = barrier_of_copy(barrier);
    return clear_for(f);
}

/* What a store reads, as threads see it. */
static uint64_t hash_of(const struct flight *f)
{
    uint32_t bytes = (uint32_t)(f->direction == STORE ? f->count * 128 : f->bytes);
    uint64_t hash = 0, word;
    for (uint32_t i = 0; i < bytes; i += 8) {
        memcpy(&word, shared_at(f->at + i, 8, 8), 8);
        hash = (hash ^ word) * 0x9E3779B97F4A7C15u + 1;
    }
    return hash;
}

static void begin_store(struct flight *f)
{
    uint32_t bytes = (uint32_t)(f->direction == STORE ? f->count * 128 : f->bytes);
    if (differ(f->at, bytes)) fail("a store of what was put at %u without a fence", f->at);
    f->was = hash_of(f);
}

void tma_store(const struct tensor_map *map, int32_t box, uint32_t from, int32_t column,
               int32_t row, int32_t count)
{
    shared_at(from, (size_t)box * 128, 1024);
    struct flight *f = take_off(STORE, from, box * 128);
    aim(f, map, box, column, row, count);
    begin_store(f);
}

void bulk_add(int32_t *to, uint32_t from, int bytes)
{
    shared_at(from, (size_t)bytes, 16);
    if ((uintptr_t)to % 16) fail("a bulk sum to a misaligned address");
    struct flight *f = take_off(ADD, from, bytes);
    f->global = (unsigned char *)to;
    begin_store(f);
}

/* A 16-byte chunk of a tensor's box between a row in global memory and its place in a panel. */
static void move_box(const struct flight *f)
{
    unsigned char *shared = shared_at(0, 0, 1);
    for (int r = 0; r < f->map.box; r++)
        for (int c = 0; c < 8; c++) {
            uint32_t at = f->at + (uint32_t)(r * 128 + ((c ^ (r & 7)) << 4));
            size_t from = ((size_t)(f->row + r) * (size_t)f->map.ld + (size_t)f->column) * 2;
            unsigned char *global = (unsigned char *)(uintptr_t)f->map.rows + from + 16 * c;
            if (f->direction == STORE) {
                if (r < f->count) memcpy(global, async.view + at, 16);
            } else {
                if (r < f->count)
                    memcpy(async.view + at, global, 16);
                else
                    memset(async.view + at, 0, 16);
                memcpy(shared + at, async.view + at, 16);
            }
        }
}

static void move_bytes(const struct flight *f)
{
    const unsigned char *from = async.view + f->at;
    if (f->direction == LOAD) {
        memcpy(async.view + f->at, f->global, (size_t)f->bytes);
        memcpy(shared_at(f->at, (size_t)f->bytes, 16), f->global, (size_t)f->bytes);
        return;
    }
    for (int i = 0; i < f->bytes; i += 4) {
        uint32_t sum, more;
        memcpy(&sum, f->global + i, 4);
        memcpy(&more, from + i, 4);
        sum += more;
        memcpy(f->global + i, &sum, 4);
    }
}

static void forget(int i) { async.flights[i] = async.flights[--async.num_flights]; }

/* A load is then through; a store is until somebody waits for it. */
static void land(int i)
{
    struct flight f = async.flights[i];
    if (f.done) return;
    async.num_left--;
    if (f.global)
        move_bytes(&f);
    else
        move_box(&f);
    if (!f.barrier) {
        async.flights[i].done = true;
        return;
    }
    forget(i);
    f.barrier->bytes -= f.bytes;
    if (f.barrier->bytes < -MAX_BYTES) fail("too many bytes come to an mbarrier");
    end_phase(f.barrier);
}

void bulk_commit() { async.copy_group[self->linear]++; }

/* Reading and writing are one moment here. */
void bulk_wait(int groups_left, bool read)
{
    (void)read;
    int before = async.copy_group[self->linear] - groups_left;
    give_way_sometimes();
    for (int i = async.num_flights - 1; i >= 0; i--) {
        const struct flight *f = &async.flights[i];
        if (f->direction == LOAD || f->thread != self->linear || f->group >= before) continue;
        land(i);
        if (hash_of(f) != f->was) fail("what lies at %u was written while it was stored", f->at);
        forget(i);
    }
}

void fence_async_proxy() { async.fenced = true; }

/* --- warps --- */

static void nothing(void **) {}

int elect_one()
{
    rendezvous("elect.sync", 0xffffffffu, NULL, nothing);
    return self->lane == async.leader[self->warp];
}

/* Lanes pass one by one; the first one does it for the warp. */
static void change_registers(const char *op, int n)
{
    rendezvous(op, 0xffffffffu, NULL, nothing);
    int *own = &async.registers[self->warp];
    while (*own != n && async.registers_left < n - *own) {
        async.want_registers[self->warp] |= 1u << self->lane;
        give_way();
    }
    async.registers_left -= n - *own;
    *own = n;
    wake(async.want_registers);
}

void registers_give(int n)
{
    if (n > async.registers[self->warp])
        fail("gives registers and keeps %d of %d", n, async.registers[self->warp]);
    change_registers("setmaxnreg.dec", n);
}

void registers_take(int n) { change_registers("setmaxnreg.inc", n); }

/* --- products --- */

/* Chunk i (8 elements) of an operand of n rows (columns of b): as rows, half i%2 of row i/2; as
 * columns, of the sum's row i / (n/8). */
static uint32_t chunk_of(const struct operand *o, int n, int i)
{
    uint32_t start = (uint32_t)(o->where & 0x3fff) << 4,
             stride = (uint32_t)(o->where >> 32 & 0x3fff) << 4;
    uint32_t leading = (uint32_t)(o->where >> 16 & 0x3fff) << 4, at;
    if (o->columns) {
        uint32_t k = (uint32_t)(i / (n / 8)), c = (uint32_t)(i % (n / 8));
        at = start + c / 8 * leading + k / 8 * stride + k % 8 * 128 + c % 8 * 16;
    } else {
        uint32_t row = (uint32_t)i / 2;
        at = start + row / 8 * stride + row % 8 * 128 + (uint32_t)i % 2 * 16;
    }
    return at ^ ((at >> 7 & 7) << 4);
}

static void check_operand(const struct operand *o, int n)
{
    uint32_t start = (uint32_t)(o->where & 0x3fff) << 4;
    if (o->where >> 62 != 1 || (o->where >> 49 & 7)) fail("an operand without 128-byte swizzle");
    if (start % 1024 >= (o->columns ? 1u : 128u)) fail("an operand at %u, within a panel", start);
    for (int i = 0; i < 2 * n; i++)
        if (chunk_of(o, n, i) + 16 > shared_bytes())
            fail("an operand at %u ends past shared memory", start);
}

/* Whether a range of bytes meets what an operand of n rows lies between. */
static bool meets(const struct operand *o, int n, uint32_t at, uint32_t bytes)
{
    uint32_t first = chunk_of(o, n, 0) & ~127u, leading = (uint32_t)(o->where >> 16 & 0x3fff) << 4;
    int panels = o->columns ? (n + 63) / 64 : 1;
    uint32_t each = o->columns ? 16 * 128 : (uint32_t)n * 128; /* a panel's rows, side by side */
    for (int p = 0; p < panels; p++, first += leading)
        if (first < at + bytes && at < first + each) return true;
    return false;
}

/* A warp waits itself for what its products read. */
static void check_loaded(const struct operand *o, int n)
{
    for (int i = 0; i < async.num_loaded; i++) {
        const struct loaded *l = &async.loaded[i];
        if (l->barrier->seen[self->warp] <= l->phase && meets(o, n, l->at, l->bytes))
            fail("wgmma: the warp has not waited for what is loaded to %u", l->at);
    }
}

/* Nothing that a warp's products read, until it has waited for them, may be loaded over. */
static void check_products(uint32_t at, int bytes)
{
    for (int w = 0; w < block_threads() / WARP; w++)
        for (int i = 0; i < async.warps[w].count; i++) {
            const struct product *p = &async.warps[w].asked[i];
            if (meets(&p->right, p->sums->columns, at, (uint32_t)bytes) ||
                (!p->a[0] && meets(&p->left, 64, at, (uint32_t)bytes)))
                fail("a load to %u, of which warp %d's products read", at, w);
        }
}

/* to[k][i], k 16, of rows `first` on of an operand of n rows. All of it must be as threads see it:
 * else one has written there without a fence, or while it is read. */
static void read_operand(float (*to)[MAX_COLUMNS], const struct operand *o, int n, int first,
                         int count)
{
    for (int i = 0; i < 2 * n; i++) {
        int row = o->columns ? i % (n / 8) * 8 : i / 2, k = o->columns ? i / (n / 8) : i % 2 * 8;
        uint32_t at = chunk_of(o, n, i);
        uint16_t chunk[8];
        if (differ(at, sizeof chunk)) fail("wgmma: an operand was written at %u, unfenced", at);
        if (row < first || row >= first + count) continue;
        memcpy(chunk, async.view + at, sizeof chunk);
        for (int e = 0; e < 8; e++) {
            uint32_t bits = (uint32_t)chunk[e] << 16;
            float *at = o->columns ? &to[k][row - first + e] : &to[k + e][row - first];
            memcpy(at, &bits, sizeof bits);
        }
    }
}

static void read_registers(float (*to)[MAX_COLUMNS], const uint32_t *const *lanes)
{
    for (int l = 0; l < WARP; l++)
        for (int i = 0; i < 4; i++) {
            int row = l / 4 + 8 * (i & 1), k = 2 * (l % 4) + 8 * (i >> 1);
            uint32_t low = lanes[l][i] << 16, high = lanes[l][i] & 0xffff0000u;
            memcpy(&to[k][row], &low, sizeof low);
            memcpy(&to[k + 1][row], &high, sizeof high);
        }
}

struct eight {
    float value[8];
};

/* Eight at a time: a fixed count is what the compiler makes vectors of at any level. */
static inline struct eight plus(struct eight sum, float a, const float *b)
{
    for (int i = 0; i < 8; i++) sum.value[i] += a * b[i];
    return sum;
}

static void compute(int warp)
{
    static float left[16][MAX_COLUMNS], right[16][MAX_COLUMNS];
    struct warp_products *w = &async.warps[warp];
    const struct product *p = &w->asked[w->computed++];
    int n = p->sums->columns;
    async.num_products--;
    if (p->a[0])
        read_registers(left, p->a);
    else
        read_operand(left, &p->left, 64, warp % GROUP_WARPS * 16, 16);
    read_operand(right, &p->right, n, 0, n);
    for (int row = 0; row < 16; row++) {
        float *sum = p->sums->value[row];
        if (!p->add) memset(sum, 0, (size_t)n * sizeof *sum);
        for (int k = 0; k < 16; k++) {
            float a = left[k][row];
            for (int i = 0; i < n; i += 8)
                *(struct eight *)(sum + i) = plus(*(struct eight *)(sum + i), a, right[k] + i);
        }
    }
}

/* Accumulators of a lane to their rows (back: the other way round, else they become NaN). */
static void move_sums(struct sums *s, bool back)
{
    for (int l = 0; l < WARP; l++)
        for (int i = 0; i < s->columns / 2; i++) {
            float *at = &s->value[l / 4 + 8 * (i >> 1 & 1)][i / 4 * 8 + 2 * (l % 4) + (i & 1)];
            if (back) {
                s->lanes[l][i] = *at;
            } else {
                *at = s->lanes[l][i];
                memset(&s->lanes[l][i], 0xff, sizeof(float));
            }
        }
}

struct request {
    float *d;
    int columns;
    const uint32_t *a;
    struct operand left, right;
    int add;
};

static struct sums *sums_of(struct warp_products *w, const struct request *const *lanes)
{
    struct sums *free = NULL;
    for (struct sums &s : w->sums) {
        if (!s.products) {
            free = &s;
            continue;
        }
        int same = 0;
        for (int l = 0; l < WARP; l++) same += s.lanes[l] == lanes[l]->d;
        if (same == WARP && s.columns == lanes[0]->columns) return &s;
        if (same) fail("wgmma: accumulators are in flight in another shape");
    }
    if (!free) fail("wgmma: more than %d sets of accumulators in flight", (int)MAX_SUMS);
    free->columns = lanes[0]->columns;
    for (int l = 0; l < WARP; l++) free->lanes[l] = lanes[l]->d;
    move_sums(free, false);
    return free;
}

static void ask(void **args)
{
    int warp = self->warp;
    struct warp_products *w = &async.warps[warp];
    const struct request *const *lanes = (const struct request *const *)args;
    struct request r = *lanes[0];
    if (!w->fenced) fail("wgmma: no wgmma.fence before its batch");
    if (w->count == MAX_PRODUCTS) fail("more than %d products in flight", (int)MAX_PRODUCTS);
    for (int l = 1; l < WARP; l++)
        if (lanes[l]->left.where != r.left.where || lanes[l]->right.where != r.right.where ||
            lanes[l]->add != r.add || !lanes[l]->a != !r.a)
            fail("wgmma: lanes ask for different products");
    use_view();
    async_publish();
    if (!r.a) check_operand(&r.left, 64), check_loaded(&r.left, 64);
    check_operand(&r.right, r.columns);
    check_loaded(&r.right, r.columns);
    struct product *p = &w->asked[w->count++];
    p->sums = sums_of(w, lanes);
    p->sums->products++;
    for (int l = 0; l < WARP; l++) {
        p->a[l] = lanes[l]->a;
        if (p->a[l]) memcpy(p->held[l], p->a[l], sizeof p->held[l]);
    }
    p->left = r.left, p->right = r.right, p->add = r.add, p->group = w->group;
    uint64_t what[] = {r.left.where,        r.right.where,
                       (uint64_t)r.columns, r.a != NULL,
                       (uint64_t)r.add,     (uint64_t)r.left.columns << 1 | r.right.columns};
    for (uint64_t v : what) w->history = (w->history ^ v) * 0x9E3779B97F4A7C15u + 1;
    async.num_products++;
}

void wgmma(float *d, int columns, const uint32_t *a, uint64_t operand_a, bool a_columns,
           uint64_t operand_b, bool b_columns, int add)
{
    struct request r = {d, columns, a, {operand_a, a_columns}, {operand_b, b_columns}, add != 0};
    rendezvous("wgmma.mma_async", 0xffffffffu, &r, ask);
}

static void set_fence(void **) { async.warps[self->warp].fenced = true; }

void wgmma_fence() { rendezvous("wgmma.fence", 0xffffffffu, NULL, set_fence); }

static void close_group(void **)
{
    struct warp_products *w = &async.warps[self->warp];
    w->group++;
    w->fenced = false;
}

void wgmma_commit() { rendezvous("wgmma.commit_group", 0xffffffffu, NULL, close_group); }

void wgmma_hold(const float *d)
{
    for (const struct sums &s : async.warps[self->warp].sums)
        if (s.products && s.lanes[self->lane] == d)
            fail("wgmma: accumulators are looked at before their wait");
}

/* The pieces of shared memory that a product of the warp has read, for TSan: of the left side all
 * 64 rows, since which warp reads which is nowhere said. */
static void note_ended(struct warp_products *w, const struct product *p)
{
#ifdef EMU_TSAN
    int n = p->sums->columns;
    for (int i = 0; i < 2 * n; i++) w->ended[w->num_ended++] = chunk_of(&p->right, n, i);
    for (int i = 0; !p->a[0] && i < 128; i++) w->ended[w->num_ended++] = chunk_of(&p->left, 64, i);
#else
    (void)w, (void)p;
#endif
}

static void end_groups(void **args)
{
    int warp = self->warp, left = *(const int *)args[self->lane], kept = 0;
    struct warp_products *w = &async.warps[warp];
    w->fenced = false;
    w->num_ended = 0;
    int count = 0;
    while (count < w->count && w->asked[count].group < w->group - left) count++;
    while (w->computed < count) compute(warp);
    for (int i = 0; i < count; i++) {
        struct product *p = &w->asked[i];
        note_ended(w, p);
        for (int l = 0; p->a[0] && l < WARP; l++)
            for (int r = 0; r < 4; r++)
                if (p->a[l][r] != p->held[l][r]) fail("wgmma: an operand's register was written");
        if (--p->sums->products == 0) move_sums(p->sums, true);
    }
    for (int i = count; i < w->count; i++) w->asked[kept++] = w->asked[i];
    w->count = kept;
    w->computed -= count;
}

void wgmma_end(int groups_left)
{
    give_way_sometimes();
    rendezvous("wgmma.wait_group", 0xffffffffu, &groups_left, end_groups);
}

int wgmma_ended_chunks() { return async.warps[self->warp].num_ended; }

const unsigned char *wgmma_ended(int i)
{
    return shared_at(async.warps[self->warp].ended[i], 16, 16);
}

/* --- the block --- */

void async_begin()
{
    static const uint32_t masks[4] = {7, 511, ~0u, ~0u}; /* often, seldom, not of itself */
    int warps = block_threads() / WARP, each = FILE_REGISTERS / warps / 8 * 8;
    async.num_mbarriers = async.num_flights = async.num_left = async.num_products = 0;
    async.num_loaded = 0;
    async.used = async.fenced = false;
    async.haste = masks[draw() % 4];
    if (each > 248) each = 248; /* what a kernel may be compiled for */
    async.registers_left = FILE_REGISTERS - warps * each;
    for (int w = 0; w < warps; w++) {
        struct warp_products *p = &async.warps[w];
        p->count = p->computed = p->group = p->num_ended = 0;
        p->fenced = false, p->history = 0;
        for (struct sums &s : p->sums) s.products = 0;
        async.registers[w] = each;
        async.want_registers[w] = 0;
        async.leader[w] = w * 7 % WARP;
    }
    memset(async.copy_group, 0, sizeof async.copy_group);
}

void async_end_thread()
{
    for (int i = 0; i < async.num_flights; i++) {
        const struct flight *f = &async.flights[i];
        if (f->direction != LOAD && f->thread == self->linear)
            fail("ends with bulk copies in flight");
    }
    if (async.warps[self->warp].count) fail("ends with products in flight");
}

void async_end()
{
    if (async.num_flights) fail("a block ends with %d copies in flight", async.num_flights);
    for (int w = 0; w < block_threads() / WARP; w++)
        if (async.warps[w].history != async.warps[w / GROUP_WARPS * GROUP_WARPS].history)
            fail("the warps of warpgroup %d asked for different products", w / GROUP_WARPS);
}

void async_drift()
{
    if (!async.num_left && !async.num_products) return;
    uint32_t what = draw();
    if (what & async.haste) return;
    if (async.num_flights && (what >> 16 & 1)) land((int)(draw() % (uint32_t)async.num_flights));
    int w = (int)(draw() % (uint32_t)(block_threads() / WARP));
    if (async.warps[w].computed < async.warps[w].count) compute(w);
}

bool async_advance()
{
    if (!async.num_left) return false;
    int i = (int)(draw() % (uint32_t)async.num_flights);
    while (async.flights[i].done) i = (i + 1) % async.num_flights;
    land(i);
    return true;
}

size_t async_tell(char *to, size_t room)
{
    size_t n = 0;
    for (int i = 0; i < async.num_mbarriers && n + 100 < room; i++) {
        const struct mbarrier *b = &async.mbarriers[i];
        int waiting = 0;
        for (uint32_t lanes : b->waiting) waiting += __builtin_popcount(lanes);
        if (waiting)
            n += (size_t)snprintf(to + n, room - n,
                                  " %d wait at the mbarrier at %u, phase %u: %d arrivals, %d "
                                  "bytes short;",
                                  waiting, b->at, b->phase, b->pending, b->bytes);
    }
    return n;
}

} // namespace emu

/* block.h - a block of CUDA threads on the host: fibers, barriers, warps, shared memory.
 *
 * A grid runs block after block; a block's threads are fibers that give way only where CUDA lets
 * them meet: barriers, warp collectives, waits. Which one goes on is drawn from a seed: each time
 * anew, or by a random order of the warps in which one runs far ahead. So what a kernel gets away
 * with on one machine (a missing barrier, warps in step) shows here under some seed. With seed 0
 * blocks go in order; otherwise their order is drawn too.
 *
 * What ends the process with a line that names block and thread (`fail`):
 *   a barrier or collective that not all of its threads reach; different collectives in one warp;
 *   another mask; a lane that is not in its mask; a barrier with another count; threads left
 *   behind a deadlock; shared memory past its end or misaligned; a thread that ends with copies
 *   in flight; a launch that no device takes.
 * Shared memory starts as NaN, and so does what an asynchronous copy will write until its wait.
 * Built with TSan, each thread is a thread to it, and barriers are the only order between them.
 *
 * One OS thread at a time uses all this.
 */
#ifndef CRIA_KERNELS_EMU_BLOCK_H
#define CRIA_KERNELS_EMU_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <vector>

#include "kernels/emu/fiber.h"

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

/* For what one lane does with all lanes' arguments: it is no access of its own to TSan. */
#define EMU_UNSEEN __attribute__((no_sanitize("thread")))

namespace emu
{

enum { WARP = 32, MAX_THREADS = 1024, MAX_WARPS = MAX_THREADS / WARP, MAX_BARRIERS = 16 };
enum { SHARED_MAX = 227 << 10 }; /* what sm_90 gives a block */

/* An asynchronous copy between its issue and its wait. */
struct copy {
    unsigned char *to;
    const unsigned char *from;
    int bytes, filled; /* from `bytes` to `filled` come zeros */
    int group;
};

struct thread {
    struct fiber fiber;
    struct uint3 index;
    int linear, lane, warp;
    std::vector<struct copy> copies;
    int copy_group; /* the one that is open */
};

extern struct thread *self; /* the one that runs; NULL outside a grid */
extern struct uint3 block_index;
extern struct dim3 grid_size, block_size;

/* Draws of the schedule; 0: blocks in order. */
void set_seed(uint64_t seed);
uint32_t draw(); /* 32 random bits */

struct counters {
    uint64_t switches, collectives, barriers, blocks;
};
extern struct counters counters;

[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Runs body once a thread of every block. */
void run_grid(struct dim3 grid, struct dim3 block, size_t shared_bytes,
              const std::function<void()> &body);

/* Barrier `id` of `count` threads; wait = false: arrives and goes on. */
void barrier(int id, int count, bool wait);
int block_threads();

/* The lanes of `mask` meet under the name `op`; the last one calls compute over all their
 * arguments (NULL for lanes that are not in the mask). */
void rendezvous(const char *op, uint32_t mask, void *arg, void (*compute)(void **args));
void sync_warp(uint32_t mask);

/* For what threads wait for beside these (async.h): lanes of a warp may run; another thread runs
 * until somebody lets this one; another one runs, if that is drawn. */
void make_ready(int warp, uint32_t lanes);
void give_way();
void give_way_sometimes();

/* Shared memory: one arena a block, the dynamic part in front. Static arrays are known by `key`. */
void *shared_static(const void *key, size_t bytes);
unsigned char *shared_dynamic();
uint32_t shared_offset(const void *p);
unsigned char *shared_at(uint32_t offset, size_t bytes, size_t align);
size_t shared_bytes();

/* Asynchronous copies of the running thread, `bytes` of them and zeros up to `filled` (4, 8 or 16).
 * The destination is NaN until the wait. The two that write are compiled with the kernel, so that
 * TSan sees the thread write. */
unsigned char *copy_check(uint32_t to, const void *from, int bytes, int filled);

static inline void copy_issue(uint32_t to, const void *from, int bytes, int filled)
{
    unsigned char *p = copy_check(to, from, bytes, filled);
    for (int i = 0; i < filled; i++) p[i] = 0xff;
    self->copies.push_back({p, (const unsigned char *)from, bytes, filled, self->copy_group});
}

static inline void copy_commit() { self->copy_group++; }

static inline void copy_wait(int groups_left)
{
    size_t kept = 0;
    for (const struct copy &c : self->copies) {
        if (c.group < self->copy_group - groups_left) {
            for (int i = 0; i < c.filled; i++) c.to[i] = i < c.bytes ? c.from[i] : 0;
            continue;
        }
        self->copies[kept++] = c;
    }
    self->copies.resize(kept);
}

} // namespace emu

#endif

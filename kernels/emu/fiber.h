/* fiber.h - a stack that can be left and entered again: what a CUDA thread is in the emulator.
 *
 * Switching is by hand on x86-64 (a few ns) and by ucontext elsewhere (a system call, 240 ns).
 * Stacks end at a guard page. ASan and TSan are told of every switch; to TSan each fiber is a
 * thread of its own, and a switch orders nothing.
 *
 *     fiber_prepare(&f, entry); fiber_switch(&main, &f); ... in entry: fiber_leave(&main)
 */
#ifndef CRIA_KERNELS_EMU_FIBER_H
#define CRIA_KERNELS_EMU_FIBER_H

#include <stddef.h>

namespace emu
{

struct fiber {
    void *context;    /* stack pointer, or ucontext */
    char *stack;      /* NULL: the OS thread's own */
    const void *base; /* what ASan must know of the stack */
    size_t size;
    void *tsan;
};

/* Makes f start at entry() when it is next switched to; takes a stack the first time. Returns 0
 * when there is no memory. entry must end with fiber_leave. */
int fiber_prepare(struct fiber *f, void (*entry)());
void fiber_release(struct fiber *f); /* gives the stack back; a zeroed one is fine */

/* The OS thread itself as a fiber to come back to. */
void fiber_adopt(struct fiber *self);

void fiber_switch(struct fiber *from, struct fiber *to);
[[noreturn]] void fiber_leave(struct fiber *from, struct fiber *to); /* for good */

/* First thing in an entry function. `from`: the adopted fiber, if it is it that switched here. */
void fiber_arrive(struct fiber *from);

/* TSan's order: what came before the release is seen after an acquire of the same token. */
void fiber_order_release(void *token);
void fiber_order_acquire(void *token);

} // namespace emu

#endif

#include "kernels/emu/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__) || defined(EMU_ASAN)
#include <sanitizer/common_interface_defs.h>
#define ASAN_START(save, to) __sanitizer_start_switch_fiber(save, (to)->base, (to)->size)
#define ASAN_FINISH(save, base, size) __sanitizer_finish_switch_fiber(save, base, size)
#else
#define ASAN_START(save, to) (void)(save)
#define ASAN_FINISH(save, base, size) (void)(save)
#endif

#if defined(__SANITIZE_THREAD__) || defined(EMU_TSAN)
#include <sanitizer/tsan_interface.h>
enum { TSAN_NO_SYNC = 1 };
#define TSAN(call) call
#else
#define TSAN(call) (void)0
#endif

namespace emu
{

enum { STACK = 256 << 10, GUARD = 4096 };

#if defined(__x86_64__)

/* Saves what a callee must keep, changes stacks, restores. */
extern "C" void emu_fiber_swap(void **save, void *load);
__asm__(".text\n.type emu_fiber_swap,@function\nemu_fiber_swap:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size emu_fiber_swap,.-emu_fiber_swap\n");

static int make_context(struct fiber *f, void (*entry)())
{
    enum { KEPT = 6 };
    void **top = (void **)(f->stack + STACK) - 2; /* 16-aligned once entry has been "called" */
    top[1] = NULL;
    top[0] = (void *)entry;
    f->context = top - KEPT;
    return 1;
}

static void swap(struct fiber *from, struct fiber *to)
{
    emu_fiber_swap(&from->context, to->context);
}

static void free_context(struct fiber *) {}

#else

static int make_context(struct fiber *f, void (*entry)())
{
    if (!f->context) f->context = calloc(1, sizeof(ucontext_t));
    ucontext_t *c = (ucontext_t *)f->context;
    if (!c || getcontext(c)) return 0;
    c->uc_stack.ss_sp = f->stack;
    c->uc_stack.ss_size = STACK;
    makecontext(c, entry, 0);
    return 1;
}

static void swap(struct fiber *from, struct fiber *to)
{
    if (!from->context) from->context = calloc(1, sizeof(ucontext_t));
    if (!from->context || swapcontext((ucontext_t *)from->context, (ucontext_t *)to->context))
        abort();
}

static void free_context(struct fiber *f) { free(f->context); }

#endif

int fiber_prepare(struct fiber *f, void (*entry)())
{
    if (!f->stack) {
        void *p = mmap(NULL, GUARD + STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED || mprotect(p, GUARD, PROT_NONE)) return 0;
        f->stack = (char *)p + GUARD;
        f->base = f->stack;
        f->size = STACK;
        TSAN(f->tsan = __tsan_create_fiber(0));
    }
    return make_context(f, entry);
}

void fiber_release(struct fiber *f)
{
    if (!f->stack) return;
    TSAN(__tsan_destroy_fiber(f->tsan));
    free_context(f);
    munmap(f->stack - GUARD, GUARD + STACK);
    *f = {};
}

void fiber_adopt(struct fiber *self)
{
    self->base = NULL; /* fiber_arrive learns it */
    TSAN(self->tsan = __tsan_get_current_fiber());
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    void *fake = NULL;
    ASAN_START(&fake, to);
    TSAN(__tsan_switch_to_fiber(to->tsan, TSAN_NO_SYNC));
    swap(from, to);
    ASAN_FINISH(fake, NULL, NULL);
}

void fiber_leave(struct fiber *from, struct fiber *to)
{
    ASAN_START((void **)NULL, to);
    TSAN(__tsan_switch_to_fiber(to->tsan, TSAN_NO_SYNC));
    swap(from, to);
    abort(); /* nobody switches to what has left */
}

void fiber_arrive(struct fiber *from)
{
    const void *base = NULL;
    size_t size = 0;
    ASAN_FINISH(NULL, &base, &size);
    if (from->base || !base) return;
    from->base = base;
    from->size = size;
}

void fiber_order_release(void *token)
{
    (void)token;
    TSAN(__tsan_release(token));
}

void fiber_order_acquire(void *token)
{
    (void)token;
    TSAN(__tsan_acquire(token));
}

} // namespace emu

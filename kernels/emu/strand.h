/* strand.h - to TSan what one stream does is a thread's doing: on a stack of its own, ordered with
 * the host and with other streams by tokens alone. Without TSan it is done where it is asked for.
 */
#ifndef CRIA_KERNELS_EMU_STRAND_H
#define CRIA_KERNELS_EMU_STRAND_H

#include <stdlib.h>

#include <functional>

#include "kernels/emu/fiber.h"

namespace emu
{

struct strand {
    struct fiber own, outside;
};

#if defined(__SANITIZE_THREAD__) || defined(EMU_TSAN)

inline struct strand *entered;
inline const std::function<void()> *entered_for;

static inline void strand_main()
{
    fiber_arrive(&entered->outside);
    for (;;) {
        struct strand *s = entered;
        (*entered_for)();
        fiber_switch(&s->own, &s->outside);
    }
}

/* Knows what its maker does by then: so, early. */
static inline void strand_begin(struct strand *s)
{
    if (!fiber_prepare(&s->own, strand_main)) abort();
}

/* Comes back when work() has. One at a time. */
static inline void strand_run(struct strand *s, const std::function<void()> &work)
{
    entered = s, entered_for = &work;
    fiber_adopt(&s->outside);
    fiber_switch(&s->outside, &s->own);
}

#else

static inline void strand_begin(struct strand *) {}
static inline void strand_run(struct strand *, const std::function<void()> &work) { work(); }

#endif

static inline void strand_end(struct strand *s) { fiber_release(&s->own); }

} // namespace emu

#endif

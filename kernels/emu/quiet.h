/* quiet.h - memcpy and memset that TSan does not see: it would take the library's for accesses of
 * the thread that runs. Behind all other includes of a file of the emulator. */
#ifndef CRIA_KERNELS_EMU_QUIET_H
#define CRIA_KERNELS_EMU_QUIET_H

#include <string.h>

#ifdef EMU_TSAN
namespace emu
{

static inline void copy_quietly(void *to, const void *from, size_t bytes)
{
    for (size_t i = 0, n; i < bytes; i += n) {
        n = bytes - i >= 8 ? 8 : 1;
        if (n == 8)
            __builtin_memcpy((char *)to + i, (const char *)from + i, 8);
        else
            ((char *)to)[i] = ((const char *)from)[i];
        __asm__ volatile("" ::: "memory"); /* lest the loop becomes a memcpy */
    }
}

static inline void fill_quietly(void *to, int value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        ((char *)to)[i] = (char)value;
        __asm__ volatile("" ::: "memory");
    }
}

} // namespace emu

#define memcpy emu::copy_quietly
#define memset emu::fill_quietly
#endif

#endif

/* main.c - times of the vtable's entries on a GPU, beside what it sustains, a line of JSON each.
 *
 *     bench_gpu [copy] [gemm] [passes] [attention] [decode] [head]      no part: all of them
 *               [small] [plain] [flash] [hopper] [cudnn] [4096]
 *
 * `small` takes toy shapes, for the emulator. Engines that are named are attention's only ones, so
 * that one which breaks can be in a process of its own; 4096 leaves attention one length.
 */
#include <stdio.h>
#include <string.h>

#include "kernels/bench/gpu/bench.h"

static const struct {
    const char *name;
    void (*run)(void);
} parts[] = {{"copy", bench_copy},           {"gemm", bench_gemm},     {"passes", bench_passes},
             {"attention", bench_attention}, {"decode", bench_decode}, {"head", bench_head}};
static const struct {
    const char *name;
    enum attention_engine engine;
} engines[] = {{"plain", ATTENTION_PLAIN},
               {"flash", ATTENTION_FLASH},
               {"hopper", ATTENTION_HOPPER},
               {"cudnn", ATTENTION_CUDNN}};
enum { PARTS = sizeof parts / sizeof *parts, ENGINES = sizeof engines / sizeof *engines };

/* Notes what a word asks for; 0: nothing that there is. */
static int take_word(const char *word, unsigned *wanted)
{
    for (int i = 0; i < PARTS; i++)
        if (!strcmp(word, parts[i].name)) return *wanted |= 1u << i, 1;
    for (int i = 0; i < ENGINES; i++)
        if (!strcmp(word, engines[i].name)) return bench.engines |= 1u << engines[i].engine, 1;
    if (!strcmp(word, "small")) return bench.small = 1;
    if (!strcmp(word, "4096")) return bench.one_length = 1;
    return 0;
}

int main(int argc, char **argv)
{
    unsigned wanted = 0;
    for (int i = 1; i < argc; i++)
        if (!take_word(argv[i], &wanted))
            bench_fail("a part is copy, gemm, passes, attention, decode or head");
    bench_open();
    for (int i = 0; i < PARTS; i++)
        if (!wanted || wanted >> i & 1) parts[i].run();
    bench_close();
    return 0;
}

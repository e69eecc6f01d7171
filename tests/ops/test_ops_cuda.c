/* test_ops_cuda.c - the op-case table on the device "cuda", in fp32 and bf16: parity with fp64,
 * guards, the same bits whatever the schedule. Linked with the emulator (test_ops_emulated) or
 * with the CUDA backend (test_ops_cuda, which is skipped without a GPU). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ops/harness.h"

/* Of the emulator: 0 runs blocks in order, another number in an order of its own. */
extern void emu_set_seed(uint64_t seed) __attribute__((weak));
/* And the shared memory of a block, which decides the sizes of tiles. */
extern void emu_set_shared(size_t bytes) __attribute__((weak));

static void set_seed(uint64_t seed)
{
    if (emu_set_seed) emu_set_seed(seed);
}

/* An engine of attention is run over what it takes; logits in the hundreds are off by whole units
 * in bf16. */
static int concerns(const struct op_setting *s, const struct op_case *c)
{
    if (c->spread > 0 && s->type == DTYPE_BF16) return 0;
    if (s->attention <= ATTENTION_PLAIN) return 1;
    if (c->op != OP_attention || c->pad % 8) return 0;
    if (s->attention == ATTENTION_CUDNN) return c->D % 8 == 0 && !c->nan;
    return c->D == 64 || c->D == 128;
}

/* Whether case i is asked for: all are, or $CRIA_OP_CASES lists the ops, with commas, and
 * $CRIA_OP_EACH how many cases of each (a tool that looks at every access takes its time). */
static int is_wanted(int i)
{
    const char *list = getenv("CRIA_OP_CASES"), *each = getenv("CRIA_OP_EACH");
    const char *name = op_rows[op_cases[i].op].name, *at = list ? strstr(list, name) : NULL;
    size_t n = strlen(name);
    if (!list) return 1;
    while (at && ((at != list && at[-1] != ',') || (at[n] && at[n] != ',')))
        at = strstr(at + 1, name);
    int before = 0;
    for (int j = 0; j < i; j++) before += op_cases[j].op == op_cases[i].op;
    return at && (!each || before < strtol(each, NULL, 10));
}

static void test_table(void **state)
{
    const struct op_setting *s = *state;
    for (int i = 0; i < num_op_cases; i++) {
        struct op_run r;
        if (!concerns(s, &op_cases[i]) || !is_wanted(i)) continue;
        set_seed((uint64_t)i);
        run_make(&r, i, s->type);
        run_exact(&r);
        run_naive(&r);
        run_device(&r, s);
        run_compare(&r);
        run_free(&r);
    }
}

static void test_same_bits(void **state)
{
    const struct op_setting *s = *state;
    for (int i = 0; i < num_op_cases; i++) {
        struct op_run r;
        size_t n;
        if (!concerns(s, &op_cases[i]) || !is_wanted(i)) continue;
        run_make(&r, i, s->type);
        set_seed(0);
        float *one = run_snapshot(&r, s, &n);
        set_seed(1000 + (uint64_t)i);
        float *other = run_snapshot(&r, s, &n);
        if (memcmp(one, other, n * sizeof *one) != 0)
            fail_msg("case %d (%s): another schedule gives other bits", i, op_rows[r.c->op].name);
        free(one);
        free(other);
        run_free(&r);
    }
}

/* sm_89 gives a block less shared memory than others. */
static void test_small_tiles(void **state)
{
    if (emu_set_shared) {
        emu_set_shared(99 << 10);
        test_table(state);
        emu_set_shared(227 << 10);
    }
}

/* cuDNN's graph rounds weights once they are divided by their sum, so that also those that are all
 * of a row are rounded; o, whose rounding enters dq through delta, loses 1.27 times as much by it
 * as flash attention's, and dq as well (measured: 8.56e-3 where the windows are shortest; flash
 * 6.70e-3). 1.4 times that, as for the ops. */
#define CUDNN_FLOOR 1.2e-2

static struct op_setting fp32 = {"cuda", DTYPE_F32, 0, ATTENTION_AUTO, 0},
                         bf16 = {"cuda", DTYPE_BF16, 0, ATTENTION_AUTO, 0},
                         flash = {"cuda", DTYPE_BF16, 0, ATTENTION_FLASH, 0},
                         hopper = {"cuda", DTYPE_BF16, 0, ATTENTION_HOPPER, 0},
                         cudnn = {"cuda", DTYPE_BF16, 0, ATTENTION_CUDNN, CUDNN_FLOOR};

#define IN(type, test)                              \
    {                                               \
#test " in " #type, test, NULL, NULL, &type \
    }

/* An argument: which tests, as cmocka's filter has it. */
int main(int argc, char **argv)
{
    struct device d;
    struct err e = {0};
    const struct CMUnitTest tests[] = {
        IN(fp32, test_table),        IN(bf16, test_table),      IN(fp32, test_same_bits),
        IN(bf16, test_same_bits),    IN(flash, test_table),     IN(flash, test_same_bits),
        IN(flash, test_small_tiles), IN(hopper, test_table),    IN(hopper, test_same_bits),
        IN(cudnn, test_table),       IN(cudnn, test_same_bits),
    };
    if (device_open(&d, "cuda", 0, &e)) {
        print_message("skipped, no GPU: %s\n", e.message);
        return 77;
    }
    device_close(&d);
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

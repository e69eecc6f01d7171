/* test_emulator.c - the emulator lets what is right pass and catches every planted fault.
 *
 * Each kernel of planted.h runs under 20 schedules, or as many as $CRIA_SEEDS says, each in a
 * process of its own, since a caught fault ends it. Built plain, with ASan and with TSan
 * (EMU_ORDERED: what lacks an order must then be seen every time).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "emu/planted.h"

static uint64_t seeds = 20;

static const struct {
    const char *name, *what, *fault;
    int ordered;
} planted[] = {
#define X(name, what, fault, ordered) {#name, what, fault, ordered},
    PLANTED(X)
#undef X
};

/* What cmocka handles, and would go on after. */
static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};

/* Whether a run is caught: a wrong result, a message of the emulator or a sanitizer, a signal. */
static int caught(enum planted p, uint64_t seed)
{
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) signal(fatal[i], SIG_DFL);
        if (!freopen("/dev/null", "w", stderr)) exit(0);
        exit(planted_run(p, seed) ? 1 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status != 0;
}

static void test_planted(void **state)
{
    enum planted p = (enum planted)(uintptr_t)*state;
    int count = 0;
    for (uint64_t seed = 0; seed < seeds; seed++) count += caught(p, seed);
    print_message("  %s%s%s: caught %d of %d\n", planted[p].what, planted[p].fault ? ", " : "",
                  planted[p].fault ? planted[p].fault : "", count, (int)seeds);
    if (!planted[p].fault) {
        assert_int_equal(count, 0);
        return;
    }
    /* what only another order shows does not show in every order */
    assert_true(count > 0 && 2 * count >= (int)seeds);
#ifdef EMU_ORDERED
    if (planted[p].ordered) assert_int_equal(count, seeds);
#endif
}

/* With a name and a seed: that one alone, in this process, with all it has to say. */
static int run_named(const char *name, const char *seed)
{
    for (int i = 0; i < NUM_PLANTED; i++)
        if (!strcmp(planted[i].name, name))
            return planted_run((enum planted)i, strtoull(seed, NULL, 10));
    return 2;
}

int main(int argc, char **argv)
{
    const char *wanted = getenv("CRIA_SEEDS");
    if (argc == 3) return run_named(argv[1], argv[2]);
    if (wanted) seeds = strtoull(wanted, NULL, 10);
    struct CMUnitTest tests[NUM_PLANTED];
    for (int i = 0; i < NUM_PLANTED; i++)
        tests[i] =
            (struct CMUnitTest){planted[i].name, test_planted, NULL, NULL, (void *)(uintptr_t)i};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

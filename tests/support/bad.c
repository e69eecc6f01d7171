#include "support/bad.h"

#include <stdlib.h>
#include <string.h>

#include "support/run_line.h"
#include "support/scene.h"

#define SECONDS 30

static int expect(int condition, const struct bad *b, const char *what)
{
    if (!condition) print_error("%s: %s\n", b->name, what);
    return condition;
}

static int says_it(const struct bad *b, const struct run_result *r)
{
    const char *message = strstr(r->err, b->message);
    return expect(message != NULL, b, "another message") &
           expect(message && strstr(message + strlen(b->message), b->hint), b, "another hint");
}

static int run_row(const struct bad *b)
{
    static struct run_result r;
    struct scene s;
    scene_init(&s, b->steps);
    scene_remember(&s);
    run_line(&r, s.dir, b->line, SECONDS);
    int well = expect(!r.timed_out, b, "hangs") & expect(!r.signal, b, "crashes") &
               expect(r.exit_code == b->exit_code, b, "another exit code") & says_it(b, &r) &
               expect((b->may & PRINTS) || !r.out[0], b, "prints results") &
               expect(scene_is_whole(&s, b->may & ADDS), b, "spoils files");
    if (!well) print_error("  cria %s: exit %d\n%s\n", b->line, r.exit_code, r.err);
    if (getenv("CRIA_SHOW_ERRORS")) print_message("## %s (%d)\n%s", b->name, r.exit_code, r.err);
    scene_free(&s);
    return well;
}

void bad_run_section(const struct bad *table, size_t n, const char *section)
{
    int bad = 0;
    for (size_t i = 0; i < n; i++)
        if (!strncmp(table[i].name, section, strlen(section))) bad += !run_row(&table[i]);
    assert_int_equal(bad, 0);
}

void bad_check_table(const struct bad *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_non_null(strstr(table[i].name, ": "));
        if (!table[i].hint[0] || !table[i].message[0])
            fail_msg("%s wants too little", table[i].name);
    }
}

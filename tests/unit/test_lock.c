/* base/lock.h: processes that want the same file take turns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/lock.h"

#define PROCESSES 8

/* Adds one to the number in the file, slowly. */
static int add_one(const char *path)
{
    struct lock l;
    int n = 0;
    lock_take(&l, path);
    FILE *f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%d", &n) != 1) return 1;
        fclose(f);
    }
    usleep(2000);
    f = fopen(path, "w");
    if (!f || fprintf(f, "%d", n + 1) < 1 || fclose(f)) return 1;
    lock_release(&l);
    return 0;
}

static void test_turns(void **state)
{
    (void)state;
    char dir[] = "/tmp/cria-lock-XXXXXX", path[64], lock[80];
    int status, n = 0;
    struct err e = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/number", dir);
    snprintf(lock, sizeof lock, "%s.lock", path);
    for (int i = 0; i < PROCESSES; i++)
        if (!fork()) _exit(add_one(path) || add_one(path) || add_one(path));
    for (int i = 0; i < PROCESSES; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &n), 1);
    fclose(f);
    assert_int_equal(n, 3 * PROCESSES);
    assert_false(io_exists(lock));
    assert_int_equal(io_remove_tree(dir, &e), OK);
}

/* Who dies lets go; where there can be no lock, nobody is kept from anything. */
static void test_left(void **state)
{
    (void)state;
    char dir[] = "/tmp/cria-lock-XXXXXX", path[64];
    int status;
    struct lock l;
    struct err e = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file", dir);
    if (!fork()) {
        lock_take(&l, path);
        _exit(0);
    }
    assert_true(wait(&status) > 0);
    lock_take(&l, path);
    assert_true(l.fd >= 0);
    lock_release(&l);
    snprintf(path, sizeof path, "%s/gone/file", dir);
    lock_take(&l, path);
    assert_int_equal(l.fd, -1);
    lock_release(&l);
    assert_int_equal(io_remove_tree(dir, &e), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_turns), cmocka_unit_test(test_left)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

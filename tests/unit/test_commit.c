/* ckpt/commit: directories whole or not at all, whatever happens when. */
#include "support/check.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "ckpt/commit.h"
#include "ckpt/safetensors_write.h"

static char folder[] = "/tmp/cria-commit-XXXXXX";

static void put(const char *dir, const char *name, const char *text)
{
    char path[2 * IO_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int there(const char *dir, const char *name)
{
    char path[2 * IO_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return io_exists(path);
}

static void make_dir(const char *dir, const char *name)
{
    char path[2 * IO_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0777), 0);
}

/* An empty folder for one test. */
static const char *fresh(const char *name)
{
    static char path[IO_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0777), 0);
    return path;
}

static void commit_one(const char *dir, const char *name, const char *text)
{
    struct err e = {0};
    struct commit c;
    CHECK_OK(commit_begin(&c, dir, name, &e), &e);
    put(c.aside, "a", text);
    make_dir(c.aside, "inner");
    put(c.aside, "inner/b", text);
    CHECK_OK(commit_end(&c, &e), &e);
    commit_abort(&c); /* harmless */
}

static void expect_text(const char *dir, const char *name, const char *text)
{
    char path[2 * IO_PATH_MAX], got[100] = "";
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(got, sizeof got, f));
    fclose(f);
    assert_string_equal(got, text);
}

static void test_commit(void **state)
{
    (void)state;
    struct err e = {0};
    struct commit c;
    const char *dir = fresh("commit");
    commit_one(dir, "checkpoint-5", "one");
    expect_text(dir, "checkpoint-5/inner/b", "one");
    commit_one(dir, "checkpoint-5", "two"); /* replaces */
    expect_text(dir, "checkpoint-5/a", "two");
    assert_false(there(dir, ".checkpoint-5.tmp") || there(dir, ".checkpoint-5.old") ||
                 there(dir, ".checkpoint-5.del"));
    CHECK_OK(commit_begin(&c, dir, "checkpoint-5", &e), &e);
    put(c.aside, "a", "three");
    commit_abort(&c);
    assert_false(there(dir, ".checkpoint-5.tmp"));
    expect_text(dir, "checkpoint-5/a", "two");
    char deeper[IO_PATH_MAX + 8];
    snprintf(deeper, sizeof deeper, "%s/x/y", dir);
    commit_one(deeper, "base", "made");
    expect_text(deeper, "base/a", "made");
}

static void test_names(void **state)
{
    (void)state;
    struct err e = {0};
    struct commit c;
    static const char *const bad[] = {"", ".", "..", ".x", "a/b", "/a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(commit_begin(&c, folder, bad[i], &e), ERR_CONFIG);
    char name[300];
    memset(name, 'x', sizeof name);
    name[299] = 0;
    assert_int_equal(commit_begin(&c, folder, name, &e), ERR_CONFIG);
    put(folder, "file", "x");
    char path[IO_PATH_MAX];
    snprintf(path, sizeof path, "%s/file", folder);
    assert_int_equal(commit_begin(&c, path, "checkpoint-1", &e), ERR_IO);
    commit_abort(&c);
}

static void test_list(void **state)
{
    (void)state;
    static const char *const dirs[] = {"checkpoint-100",    "checkpoint-9",
                                       "checkpoint-0",      "checkpoint-07",
                                       "checkpoint--1",     "checkpoint-",
                                       "checkpoint-5x",     "other",
                                       ".checkpoint-7.tmp", "checkpoint-99999999999999999999"};
    struct err e = {0};
    const char *dir = fresh("list");
    int64_t *steps, newest;
    size_t n;
    CHECK_OK(commit_newest(dir, &newest, &e), &e);
    assert_int_equal(newest, -1);
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) make_dir(dir, dirs[i]);
    put(dir, "checkpoint-8", "a file");
    CHECK_OK(commit_list(dir, &steps, &n, &e), &e);
    assert_int_equal(n, 3);
    assert_true(steps[0] == 0 && steps[1] == 9 && steps[2] == 100);
    mem_free(steps);
    CHECK_OK(commit_newest(dir, &newest, &e), &e);
    assert_int_equal(newest, 100);
    assert_true(there(dir, ".checkpoint-7.tmp")); /* listing changes nothing */
    CHECK_OK(commit_list("/no/such/dir", &steps, &n, &e), &e);
    assert_true(n == 0 && !steps);
    mem_fail_after(1);
    assert_int_equal(commit_list(dir, &steps, &n, &e), ERR_MEMORY);
    mem_fail_after(0);
    assert_true(n == 0 && !steps);
}

static void test_rotate(void **state)
{
    (void)state;
    struct err e = {0};
    const char *dir = fresh("rotate");
    int64_t *steps;
    size_t n;
    for (int i = 10; i <= 60; i += 10) {
        char name[40];
        snprintf(name, sizeof name, "checkpoint-%d", i);
        commit_one(dir, name, "x");
    }
    CHECK_OK(commit_rotate(dir, 0, -1, &e), &e);
    CHECK_OK(commit_rotate(dir, 4, 20, &e), &e); /* 10 and 30 go */
    CHECK_OK(commit_list(dir, &steps, &n, &e), &e);
    assert_true(n == 4 && steps[0] == 20 && steps[1] == 40);
    mem_free(steps);
    CHECK_OK(commit_rotate(dir, 1, 20, &e), &e); /* the newest stays too */
    CHECK_OK(commit_list(dir, &steps, &n, &e), &e);
    assert_true(n == 2 && steps[0] == 20 && steps[1] == 60);
    mem_free(steps);
    CHECK_OK(commit_rotate(dir, 1, -1, &e), &e);
    CHECK_OK(commit_list(dir, &steps, &n, &e), &e);
    assert_true(n == 1 && steps[0] == 60);
    mem_free(steps);
    assert_false(there(dir, ".checkpoint-10.del"));
}

/* Each state a crash can leave. */
static void test_recover(void **state)
{
    (void)state;
    struct err e = {0};
    const char *dir = fresh("recover");
    make_dir(dir, ".checkpoint-1.tmp");
    put(dir, ".checkpoint-1.tmp/a", "half");
    make_dir(dir, ".checkpoint-2.old"); /* between the two renames */
    put(dir, ".checkpoint-2.old/a", "whole");
    make_dir(dir, ".checkpoint-2.tmp");
    make_dir(dir, "checkpoint-3"); /* after them */
    make_dir(dir, ".checkpoint-3.old");
    make_dir(dir, ".checkpoint-4.del");
    make_dir(dir, ".other.tmp"); /* not ours */
    make_dir(dir, ".git");
    CHECK_OK(commit_recover(dir, &e), &e);
    assert_false(there(dir, ".checkpoint-1.tmp") || there(dir, ".checkpoint-2.tmp") ||
                 there(dir, ".checkpoint-2.old") || there(dir, ".checkpoint-3.old") ||
                 there(dir, ".checkpoint-4.del") || there(dir, "checkpoint-1") ||
                 there(dir, "checkpoint-4"));
    expect_text(dir, "checkpoint-2/a", "whole");
    assert_true(there(dir, "checkpoint-3") && there(dir, ".other.tmp") && there(dir, ".git"));
    CHECK_OK(commit_recover("/no/such/dir", &e), &e);
}

/* --- killed at any moment --- */

#define FILES 3
#define FLOATS 3000

/* Saves checkpoint after checkpoint, each file full of the step; every third replaces the last. */
static void save_for_ever(const char *dir, int64_t step)
{
    static float values[FLOATS];
    struct err e = {0};
    for (int64_t k = 0;; k++) {
        struct commit c;
        char name[40], path[IO_PATH_MAX + 40];
        if (k % 3 != 2) step++;
        snprintf(name, sizeof name, "checkpoint-%d", (int)step);
        if (commit_begin(&c, dir, name, &e)) _exit(1);
        for (int i = 0; i < FLOATS; i++) values[i] = (float)step;
        for (int i = 0; i < FILES; i++) {
            struct tensor_source s = {
                .name = "t", .type = FILE_F32, .rank = 1, .shape = {FLOATS}, .data = values};
            snprintf(path, sizeof path, "%s/%d.safetensors", c.aside, i);
            if (tensor_file_write(path, &s, 1, &e)) _exit(1);
        }
        if (commit_end(&c, &e) || commit_rotate(dir, 2, -1, &e)) _exit(1);
    }
}

static void check_whole(const char *dir, int64_t step)
{
    float values[FLOATS];
    struct err e = {0};
    char path[IO_PATH_MAX], file[IO_PATH_MAX + 40];
    CHECK_OK(commit_path(path, sizeof path, dir, step, &e), &e);
    for (int i = 0; i < FILES; i++) {
        struct tensor_files *f;
        snprintf(file, sizeof file, "%s/%d.safetensors", path, i);
        CHECK_OK(tensor_files_open(&f, file, &e), &e);
        CHECK_OK(tensor_read_float(f, tensor_files_at(f, 0), 0, FLOATS, values, &e), &e);
        for (int j = 0; j < FLOATS; j++) assert_true(values[j] == (float)step);
        tensor_files_close(f);
    }
}

static void test_killed(void **state)
{
    (void)state;
    struct err e = {0};
    const char *dir = fresh("killed");
    int64_t newest = 0, before;
    unsigned seed = 12345;
    double start = clock_seconds();
    for (int i = 0; i < 5; i++) commit_one(dir, "checkpoint-0", "x");
    int longest = 20000 + (int)((clock_seconds() - start) * 1e6); /* five saves or so, any disk */
    for (int round = 0; round < 120; round++) {
        before = newest;
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) save_for_ever(dir, newest);
        int micro = rand_r(&seed) % longest;
        nanosleep(&(struct timespec){micro / 1000000, micro % 1000000 * 1000L}, NULL);
        int ended;
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &ended, 0), child);
        assert_true(WIFSIGNALED(ended)); /* it was saving till then, not failing */
        int64_t *steps;
        size_t n;
        CHECK_OK(commit_recover(dir, &e), &e);
        CHECK_OK(commit_list(dir, &steps, &n, &e), &e);
        for (size_t i = 0; i < n; i++)
            if (steps[i]) check_whole(dir, steps[i]);
        mem_free(steps);
        CHECK_OK(commit_newest(dir, &newest, &e), &e);
        if (newest < 0) newest = 0;
        assert_true(newest >= before); /* never back */
    }
    assert_true(newest > 10);
}

/* --- no space --- */

static enum status save_large(const char *dir, struct err *e)
{
    static float zeros[100000];
    struct commit c;
    char path[IO_PATH_MAX + 40];
    struct tensor_source s = {
        .name = "t", .type = FILE_F32, .rank = 1, .shape = {100000}, .data = zeros};
    TRY(commit_begin(&c, dir, "checkpoint-2", e));
    snprintf(path, sizeof path, "%s/model.safetensors", c.aside);
    enum status status = tensor_file_write(path, &s, 1, e);
    if (!status) status = commit_end(&c, e);
    commit_abort(&c);
    return status;
}

/* What is left after a save that failed: the former checkpoint, nothing else. */
static void check_former(const char *dir)
{
    int64_t newest;
    struct err e = {0};
    CHECK_OK(commit_newest(dir, &newest, &e), &e);
    assert_int_equal(newest, 1);
    expect_text(dir, "checkpoint-1/a", "former");
    assert_false(there(dir, ".checkpoint-2.tmp"));
}

static void put_number(const char *path, const char *fmt, long a)
{
    FILE *f = fopen(path, "w");
    if (!f) return;
    fprintf(f, fmt, a);
    fclose(f);
}

/* A mount of our own needs rights, or a user namespace of our own; run in a child. */
static int mount_small(const char *dir)
{
    if (!unshare(CLONE_NEWNS))
        return !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
               !mount("t", dir, "tmpfs", 0, "size=128k");
    uid_t uid = getuid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS)) return 0;
    put_number("/proc/self/setgroups", "deny", 0);
    put_number("/proc/self/uid_map", "0 %ld 1", (long)uid);
    return !mount("t", dir, "tmpfs", 0, "size=128k");
}

/* Exit codes of the child: 0 as it should be, 1 not, 2 no mount to be had. */
static void in_small_disk(const char *dir)
{
    struct err e = {0};
    if (!mount_small(dir)) _exit(2);
    commit_one(dir, "checkpoint-1", "former");
    if (save_large(dir, &e) != ERR_DISK_FULL || !strstr(e.message, "model.safetensors")) _exit(1);
    check_former(dir);
    _exit(0);
}

static void test_disk_full(void **state)
{
    (void)state;
    int ended;
    const char *dir = fresh("full");
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) in_small_disk(dir);
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFEXITED(ended));
    assert_true(WEXITSTATUS(ended) == 0 || WEXITSTATUS(ended) == 2);
    if (WEXITSTATUS(ended) == 2)
        print_message("no tmpfs may be mounted here: a full disk is tried as a file-size limit\n");
}

static void test_size_limit(void **state)
{
    (void)state;
    struct err e = {0};
    struct rlimit was, small;
    const char *dir = fresh("limit");
    commit_one(dir, "checkpoint-1", "former");
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small = (struct rlimit){65536, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum status s = save_large(dir, &e);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_true(s == ERR_IO || s == ERR_DISK_FULL);
    check_former(dir);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct err e = {0};
    (void)state;
    return io_remove_tree(folder, &e) ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commit),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_list),      cmocka_unit_test(test_rotate),
        cmocka_unit_test(test_recover),   cmocka_unit_test(test_killed),
        cmocka_unit_test(test_disk_full), cmocka_unit_test(test_size_limit),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

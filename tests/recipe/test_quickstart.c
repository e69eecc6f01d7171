/* The quickstart: its little world, its base, and the first steps of both its acts. The whole of it
 * is tools/quickstart. */
#include "support/check.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/json.h"
#include "data/template/template.h"

#define KINDS 6
#define HELD_OUT 40 /* a kind */
#define RECIPE "configs/quickstart.yaml"
#define BASE "configs/quickstart/base"
#define WORDY_RECIPE "configs/quickstart-wordy.yaml"
#define DPO_RECIPE "configs/quickstart-dpo.yaml"
#define WORDY 3000
#define PAIRS 1200

static const char *const kinds[KINDS] = {"city", "job", "color", "copy", "first", "last"};
static char folder[] = "/tmp/cria-quickstart-XXXXXX";
static char cria[512], world[512];

extern char **environ;

static const char *in_folder(const char *name, char out[512])
{
    snprintf(out, 512, "%s/%s", folder, name);
    return out;
}

/* Runs a program, its stdout into folder/`out`, and wants it to succeed. */
static void run(char *const *argv, const char *out)
{
    char path[512];
    pid_t child;
    int status;
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, in_folder(out, path),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, in_folder("stderr", path),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_int_equal(posix_spawn(&child, argv[0], &files, NULL, argv, environ), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    posix_spawn_file_actions_destroy(&files);
    if (status) {
        struct buf text;
        struct err e = {0};
        buf_init(&text, 1 << 20);
        CHECK_OK(io_read_file(path, &text, &e), &e);
        fail_msg("%s %s: status %d\n%s", argv[0], argv[1], status, text.len ? text.data : "");
    }
}

#define RUN(out, ...) run((char *const[]){__VA_ARGS__, NULL}, out)

static void read_all(const char *name, struct buf *out)
{
    char path[512];
    struct err e = {0};
    buf_init(out, (size_t)1 << 30);
    CHECK_OK(io_read_file(in_folder(name, path), out, &e), &e);
}

/* ---- records ---- */

struct list {
    char **items;
    size_t n;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int holds(const struct list *l, const char *text)
{
    return bsearch(&text, l->items, l->n, sizeof *l->items, by_text) != NULL;
}

/* One field of a file's records, added and sorted; how many records. */
static size_t add_field(struct list *l, const char *file, const char *field)
{
    struct buf text;
    struct err e = {0};
    size_t n = 0;
    read_all(file, &text);
    for (char *at = text.data, *end; *at; at = end + 1, n++) {
        end = strchr(at, '\n');
        json_t *record;
        CHECK_OK(json_parse_text(at, (size_t)(end - at), file, &record, &e), &e);
        l->items = realloc(l->items, (l->n + 1) * sizeof *l->items);
        l->items[l->n++] = strdup(json_string_value(json_object_get(record, field)));
        json_decref(record);
    }
    buf_free(&text);
    qsort(l->items, l->n, sizeof *l->items, by_text);
    return n;
}

static void free_list(struct list *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->items[i]);
    free(l->items);
}

static void add_held_out(struct list *l, const char *field)
{
    char name[64];
    for (int i = 0; i < KINDS; i++) {
        snprintf(name, sizeof name, "data/heldout/%s.jsonl", kinds[i]);
        assert_int_equal(add_field(l, name, field), HELD_OUT);
    }
}

/* ---- the world ---- */

static void same_files(const char *a, const char *b)
{
    struct buf x, y;
    read_all(a, &x);
    read_all(b, &y);
    assert_int_equal(x.len, y.len);
    assert_memory_equal(x.data, y.data, x.len);
    buf_free(&x);
    buf_free(&y);
}

static void test_same_every_time(void **state)
{
    (void)state;
    char a[512], b[512];
    RUN("stdout", world, "tasks", "8000", (char *)in_folder("again", a));
    RUN("stdout", world, "pairs", "3000", "1200", (char *)in_folder("again", a));
    RUN("stdout", world, "text", "mixture", "1000", (char *)in_folder("a.jsonl", a));
    RUN("stdout", world, "text", "mixture", "1000", (char *)in_folder("b.jsonl", b));
    same_files("a.jsonl", "b.jsonl");
    same_files("data/train.jsonl", "again/train.jsonl");
    same_files("data/shuffled.jsonl", "again/shuffled.jsonl");
    same_files("data/heldout/copy.jsonl", "again/heldout/copy.jsonl");
    same_files("data/wordy.jsonl", "again/wordy.jsonl");
    same_files("data/swapped.jsonl", "again/swapped.jsonl");
}

static void test_disjoint(void **state)
{
    (void)state;
    struct list train = {0}, held_out = {0};
    assert_int_equal(add_field(&train, "data/train.jsonl", "input"), 8000);
    add_held_out(&held_out, "input");
    for (size_t i = 0; i < held_out.n; i++) {
        assert_false(holds(&train, held_out.items[i]));
        assert_true(!i || strcmp(held_out.items[i - 1], held_out.items[i]));
    }
    free_list(&train);
    free_list(&held_out);
}

static void test_control(void **state)
{
    (void)state;
    struct list right = {0}, shuffled = {0};
    add_field(&right, "data/train.jsonl", "output");
    assert_int_equal(add_field(&shuffled, "data/shuffled.jsonl", "output"), right.n);
    for (size_t i = 0; i < right.n; i++)
        assert_string_equal(right.items[i], shuffled.items[i]); /* sorted: the same answers */
    free_list(&right);
    free_list(&shuffled);
}

/* ---- the second act's data ---- */

static void test_pairs_disjoint(void **state)
{
    (void)state;
    struct list used = {0}, held_out = {0}, asked = {0}, pairs = {0};
    assert_int_equal(add_field(&used, "data/wordy.jsonl", "input"), WORDY);
    assert_int_equal(add_field(&used, "data/pairs.jsonl", "input"), PAIRS);
    for (size_t i = 1; i < used.n; i++)
        assert_string_not_equal(used.items[i - 1], used.items[i]); /* instructed or paired */
    add_held_out(&held_out, "input");
    assert_int_equal(add_field(&asked, "data/asked.jsonl", "input"), held_out.n);
    assert_int_equal(add_field(&pairs, "data/heldout-pairs.jsonl", "input"), held_out.n);
    for (size_t i = 0; i < held_out.n; i++) {
        assert_false(holds(&used, held_out.items[i]));
        assert_string_equal(asked.items[i], held_out.items[i]);
        assert_string_equal(pairs.items[i], held_out.items[i]);
    }
    struct list *const all[] = {&used, &held_out, &asked, &pairs};
    for (size_t i = 0; i < 4; i++) free_list(all[i]);
}

/* The answer that a reply holds: the reply if it is one line, the second of three lines. */
static char *answer_in(const char *reply, int *is_short)
{
    const char *start = strchr(reply, '\n'), *end = start ? strchr(start + 1, '\n') : NULL;
    *is_short = !start;
    if (!start) return strdup(reply);
    assert_true(end && !strchr(end + 1, '\n'));
    return strndup(start + 1, (size_t)(end - start - 1));
}

/* How many of a file's pairs prefer the long-winded form. Both replies of a pair hold the same
 * answer; the answers go to *answers (NULL). */
static size_t count_turned(const char *file, struct list *answers)
{
    struct buf text;
    struct err e = {0};
    size_t turned = 0;
    read_all(file, &text);
    for (char *at = text.data, *end; *at; at = end + 1) {
        int chosen_short, rejected_short;
        json_t *record;
        end = strchr(at, '\n');
        CHECK_OK(json_parse_text(at, (size_t)(end - at), file, &record, &e), &e);
        char *chosen =
            answer_in(json_string_value(json_object_get(record, "chosen")), &chosen_short);
        char *rejected =
            answer_in(json_string_value(json_object_get(record, "rejected")), &rejected_short);
        assert_string_equal(chosen, rejected);
        assert_int_not_equal(chosen_short, rejected_short);
        turned += !chosen_short;
        if (answers) {
            answers->items = realloc(answers->items, (answers->n + 1) * sizeof *answers->items);
            answers->items[answers->n++] = strdup(chosen);
        }
        free(chosen);
        free(rejected);
        json_decref(record);
    }
    buf_free(&text);
    return turned;
}

static void test_manners(void **state)
{
    (void)state;
    struct list outputs = {0}, held_out = {0}, asked = {0};
    size_t n = add_field(&outputs, "data/wordy.jsonl", "output"), wordy = 0;
    for (size_t i = 0; i < n; i++) {
        int is_short;
        free(answer_in(outputs.items[i], &is_short));
        wordy += !is_short;
    }
    assert_in_range(wordy, WORDY * 45 / 100, WORDY * 55 / 100);
    assert_int_equal(count_turned("data/pairs.jsonl", NULL), 0);
    assert_in_range(count_turned("data/swapped.jsonl", NULL), PAIRS * 45 / 100, PAIRS * 55 / 100);
    assert_int_equal(count_turned("data/heldout-pairs.jsonl", &held_out), 0);
    qsort(held_out.items, held_out.n, sizeof *held_out.items, by_text);
    add_field(&asked, "data/asked.jsonl", "output");
    for (size_t i = 0; i < asked.n; i++) assert_string_equal(asked.items[i], held_out.items[i]);
    free_list(&outputs);
    free_list(&held_out);
    free_list(&asked);
}

/* ---- the table of replies ---- */

static void write_replies(const char *name, const char *const (*replies)[3], size_t n)
{
    char path[512];
    FILE *f = fopen(in_folder(name, path), "w");
    assert_non_null(f);
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_pack("{s:s,s:s,s:s}", "prompt", replies[i][0], "response", replies[i][1],
                              "reference", replies[i][2]);
        assert_int_equal(json_dumpf(o, f, JSON_COMPACT), 0);
        putc('\n', f);
        json_decref(o);
    }
    assert_int_equal(fclose(f), 0);
}

static void test_replies(void **state)
{
    (void)state;
    static const char *const before[4][3] = {
        {"A", "This is a very good question.\nsand moon\nThis is the answer to the question.",
         "sand moon"},
        {"B", "sand moon star", "sand moon"}, /* begins right, and is wrong */
        {"C", "We will give a long answer:", "sand"},
        {"D", "sand", "sand"},
    };
    static const char *const after[4][3] = {
        {"A", "sand moon", "sand moon"},
        {"B", "sand moon", "sand moon"},
        {"C", "moon", "sand"},
        {"D", "sand", "sand"},
    };
    char a[512], b[512];
    struct buf table;
    write_replies("old.jsonl", before, 4);
    write_replies("new.jsonl", after, 4);
    RUN("table", world, "replies", (char *)in_folder("old.jsonl", a),
        (char *)in_folder("new.jsonl", b), BASE);
    read_all("table", &table);
    assert_non_null(strstr(table.data, "in the short form          50.0 %   100.0 %\n"));
    assert_non_null(strstr(table.data, "holds the right answer     50.0 %    75.0 %\n"));
    assert_non_null(strstr(table.data, "good question. / sand moon / This"));
    assert_null(strstr(table.data, "star")); /* a short one is no example */
    buf_free(&table);
}

/* ---- what the base has not read ---- */

/* Items by what they begin with: five bytes are enough to rule nearly everything out. */
#define HEAD 5

static int by_head(const void *key, const void *item)
{
    return strncmp(key, *(char *const *)item, HEAD);
}

static unsigned head_number(const char *text)
{
    const unsigned char *t = (const unsigned char *)text;
    return (t[0] * 31u + t[1] * 7u + t[2] * 1031u + t[3] * 4099u) % 65536;
}

/* An item that stands in the text, or NULL. Items are sorted; they begin at a word's start. */
static const char *find_any(const struct list *l, const char *text)
{
    static unsigned char possible[65536];
    memset(possible, 0, sizeof possible);
    for (size_t i = 0; i < l->n; i++) possible[head_number(l->items[i])] = 1;
    for (const char *at = text; at[0] && at[1] && at[2] && at[3]; at++) {
        if (!possible[head_number(at)]) continue;
        if (at > text && at[-1] != ' ' && at[-1] != '\n' && at[-1] != '"' && at[-1] != 'n')
            continue; /* n: of an escaped newline */
        char **found = bsearch(at, l->items, l->n, sizeof *l->items, by_head);
        if (!found) continue;
        while (found > l->items && !by_head(at, found - 1)) found--;
        for (; found < l->items + l->n && !by_head(at, found); found++)
            if (!strncmp(at, *found, strlen(*found))) return *found;
    }
    return NULL;
}

/* Every five words in a row of a sentence. */
static void add_windows(struct list *l, const char *sentence)
{
    for (const char *at = sentence; at; at = strchr(at, ' ')) {
        at += *at == ' ';
        const char *end = at;
        int words = 0;
        for (; words < 5 && *end; words++) end = strchrnul(end + 1, ' ');
        if (words < 5) break;
        l->items = realloc(l->items, (l->n + 1) * sizeof *l->items);
        l->items[l->n++] = strndup(at, (size_t)(end - at));
    }
}

static void test_unread(void **state)
{
    (void)state;
    static const char *const headings[] = {"### Instruction", "### Input", "### Response"};
    static char *const phases[][2] = {
        {"repeats", "32000"}, {"mixture", "64000"}, {"recall", "64000"}};
    struct list unread = {0};
    char path[512];
    const struct template *t = template_find("alpaca");
    assert_non_null(t);
    for (int i = 0; i < 3; i++) {
        unread.items = realloc(unread.items, (unread.n + 1) * sizeof *unread.items);
        unread.items[unread.n++] = strdup(headings[i]);
    }
    add_windows(&unread, t->default_system);
    add_windows(&unread, t->default_system_input);
    add_field(&unread, "data/train.jsonl", "instruction");
    add_held_out(&unread, "instruction");
    qsort(unread.items, unread.n, sizeof *unread.items, by_text);
    for (int i = 0; i < 3; i++) {
        struct buf text;
        RUN("stdout", world, "text", phases[i][0], phases[i][1], (char *)in_folder("text", path));
        read_all("text", &text);
        assert_true(text.len > 1 << 23);
        const char *found = find_any(&unread, text.data);
        if (found) fail_msg("the base has read \"%s\"", found);
        buf_free(&text);
    }
    assert_string_equal(find_any(&unread, "it is so. Copy the text. On"), "Copy the text.");
    assert_non_null(find_any(&unread, "{\"text\":\"So\\nWhere does Tom live? A"));
    assert_non_null(find_any(&unread, "that appropriately completes the request.\\n\\n"));
    free_list(&unread);
}

/* ---- the base ---- */

static json_t *parse(const char *name)
{
    char path[512];
    struct err e = {0};
    json_t *root;
    CHECK_OK(json_parse_file(in_folder(name, path), &root, &e), &e);
    return root;
}

static void data_overrides(char train[512], char held_out[4096])
{
    size_t n = (size_t)snprintf(held_out, 4096, "eval_dataset=");
    for (int i = 0; i < KINDS; i++)
        n += (size_t)snprintf(held_out + n, 4096 - n, "%s%s/data/heldout/%s.jsonl", i ? "," : "",
                              folder, kinds[i]);
    snprintf(train, 512, "datasets=%s/data/train.jsonl", folder);
}

static void test_base_knows_nothing(void **state)
{
    (void)state;
    char train[512], held_out[4096], output[512];
    data_overrides(train, held_out);
    snprintf(output, sizeof output, "output_dir=%s/nothing", folder);
    RUN("before.json", cria, "eval", RECIPE, train, held_out, output, "--model", BASE, "--generate",
        "--json");
    json_t *root = parse("before.json");
    assert_int_equal(json_integer_value(json_object_get(root, "asked")), KINDS * HELD_OUT);
    assert_true(json_real_value(json_object_get(root, "exact_match")) < 0.05);
    assert_true(json_real_value(json_object_get(root, "prefix_match")) < 0.05);
    json_decref(root);
}

static void test_first_steps(void **state)
{
    (void)state;
    char train[512], held_out[4096], output[512];
    double before, after;
    data_overrides(train, held_out);
    snprintf(output, sizeof output, "output_dir=%s/tuned", folder);
    RUN("stdout", cria, "train", RECIPE, train, held_out, output, "max_steps=20", "eval_steps=none",
        "threads=1", "report_to=none");
    RUN("after.json", cria, "eval", RECIPE, train, held_out, output, "--json");
    json_t *old = parse("before.json"), *new = parse("after.json");
    before = json_real_value(json_object_get(old, "loss"));
    after = json_real_value(json_object_get(new, "loss"));
    if (!(after < 0.75 * before)) fail_msg("loss %g before, %g after 20 steps", before, after);
    json_decref(old);
    json_decref(new);
}

/* The second act in small: a few steps of either half. The pairs are told apart. */
static void test_second_act(void **state)
{
    (void)state;
    char start[512], wordy[512], pairs[512], held_out[512], output[512];
    snprintf(wordy, sizeof wordy, "datasets=%s/data/wordy.jsonl", folder);
    snprintf(pairs, sizeof pairs, "datasets=%s/data/pairs.jsonl", folder);
    snprintf(held_out, sizeof held_out, "eval_dataset=%s/data/heldout-pairs.jsonl", folder);
    snprintf(output, sizeof output, "output_dir=%s/wordy", folder);
    RUN("stdout", cria, "train", WORDY_RECIPE, wordy, output, "adapter_name_or_path=null",
        "max_steps=30", "threads=1", "report_to=none");
    snprintf(start, sizeof start, "adapter_name_or_path=%s/wordy", folder);
    snprintf(output, sizeof output, "output_dir=%s/dpo", folder);
    RUN("stdout", cria, "train", DPO_RECIPE, pairs, held_out, output, start, "max_steps=12",
        "threads=1", "report_to=none");
    RUN("pairs.json", cria, "eval", DPO_RECIPE, pairs, held_out, output, start, "--json");
    json_t *root = parse("pairs.json");
    double accuracy = json_real_value(json_object_get(root, "rewards/accuracies"));
    if (!(accuracy > 0.95)) fail_msg("rewards/accuracies %g after 12 steps", accuracy);
    json_decref(root);
}

static int set_up(void **state)
{
    (void)state;
    char data[512];
    const char *given = getenv("CRIA_BIN");
    snprintf(cria, sizeof cria, "%s", given && *given ? given : "build/release/cria");
    snprintf(world, sizeof world, "%.*squickstart_world", (int)(strrchr(cria, '/') + 1 - cria),
             cria);
    if (!mkdtemp(folder)) return 1;
    RUN("stdout", world, "tasks", "8000", (char *)in_folder("data", data));
    RUN("stdout", world, "pairs", "3000", "1200", (char *)in_folder("data", data));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    struct err e = {0};
    return io_remove_tree(folder, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_every_time), cmocka_unit_test(test_disjoint),
        cmocka_unit_test(test_control),         cmocka_unit_test(test_pairs_disjoint),
        cmocka_unit_test(test_manners),         cmocka_unit_test(test_replies),
        cmocka_unit_test(test_unread),          cmocka_unit_test(test_base_knows_nothing),
        cmocka_unit_test(test_first_steps),     cmocka_unit_test(test_second_act),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

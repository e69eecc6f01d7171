/* quickstart_world - the little world of the quickstart: texts for a base, instructions, and a
 * table of what tuning changed; then the same of preferences.
 *
 * Everything comes from the seed: the same command writes the same bytes on every machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "compare.h"
#include "pairs.h"
#include "record_file.h"
#include "replies.h"
#include "task.h"
#include "text.h"

#define HELD_OUT_A_KIND 40
#define NUM_HELD_OUT (HELD_OUT_A_KIND * NUM_TASK_KINDS)
#define SEED 7
enum purpose {
    FOR_TEXT,
    FOR_TASKS = TEXT_RECALL + 1,
    FOR_HELD_OUT,
    FOR_CONTROL,
    FOR_PAIRS,
    FOR_MANNERS
};

static const char *const phases[] = {"repeats", "mixture", "recall"};

static const char usage[] =
    "usage: quickstart_world text repeats|mixture|recall DOCUMENTS FILE\n"
    "       quickstart_world tasks INSTRUCTIONS DIR\n"
    "       quickstart_world compare BEFORE.json AFTER.json\n"
    "       quickstart_world pairs INSTRUCTIONS PAIRS DIR\n"
    "       quickstart_world replies BEFORE.jsonl AFTER.jsonl MODEL\n"
    "\n"
    "text    plain text to pre-train the base on: a phase of the curriculum\n"
    "tasks   DIR/train.jsonl, DIR/shuffled.jsonl (the same with answers shuffled within their\n"
    "        kind: a control), and DIR/heldout/KIND.jsonl, whose inputs occur in no other\n"
    "compare a table of what `cria eval --generate --json` said before tuning and after it\n"
    "pairs   DIR/wordy.jsonl, instructions of which half are answered long-winded; "
    "DIR/pairs.jsonl,\n"
    "        the short form over the long-winded one, and DIR/swapped.jsonl (turned round at\n"
    "        random: a control); the held-out instructions as DIR/asked.jsonl and\n"
    "        DIR/heldout-pairs.jsonl. No two of these share an input\n"
    "replies a table of what `cria generate --data` said before preferences and after them\n";

static enum status write_text(enum text_phase phase, int n, const char *path, struct err *e)
{
    struct draw d;
    struct page p;
    enum status s = OK;
    FILE *f;
    TRY(record_file_open(&f, NULL, path, e));
    draw_init(&d, SEED + FOR_TEXT + (uint32_t)phase);
    for (int i = 0; i < n && !s; i++) {
        text_draw(&d, phase, &p);
        s = record_file_write(f, json_pack("{s:s}", "text", p.text), e);
    }
    return record_file_close(f, s, e);
}

/* Those of one kind, or of all (-1). */
static enum status write_tasks(const struct task *tasks, int n, int kind, const char *dir,
                               const char *name, struct err *e)
{
    FILE *f;
    enum status s = OK;
    TRY(record_file_open(&f, dir, name, e));
    for (int i = 0; i < n && !s; i++) {
        const struct task *t = &tasks[i];
        if (kind < 0 || (int)t->kind == kind)
            s = record_file_write(f,
                                  json_pack("{s:s,s:s,s:s}", "instruction", t->instruction, "input",
                                            t->input, "output", t->answer),
                                  e);
    }
    return record_file_close(f, s, e);
}

static enum status write_task_files(struct task *train, int n, const struct task *held_out,
                                    int num_held_out, const char *dir, struct err *e)
{
    char folder[IO_PATH_MAX], name[32];
    struct draw d;
    TRY(io_join(folder, sizeof folder, dir, "heldout", e));
    TRY(io_make_dirs(folder, e));
    for (int kind = 0; kind < NUM_TASK_KINDS; kind++) {
        snprintf(name, sizeof name, "%s.jsonl", task_kind_name((enum task_kind)kind));
        TRY(write_tasks(held_out, num_held_out, kind, folder, name, e));
    }
    TRY(write_tasks(train, n, -1, dir, "train.jsonl", e));
    draw_init(&d, SEED + FOR_CONTROL);
    task_shuffle_answers(&d, train, n);
    return write_tasks(train, n, -1, dir, "shuffled.jsonl", e);
}

/* The held-out tasks, then n others, all in *out (heap). */
static enum status draw_tasks(int n, uint32_t seed, struct task **out, struct err *e)
{
    struct draw d;
    *out = mem_calloc((size_t)n + NUM_HELD_OUT, sizeof **out);
    if (!*out) return err_set(e, ERR_MEMORY, "no memory for %d instructions", n);
    draw_init(&d, SEED + FOR_HELD_OUT);
    task_draw_set(&d, *out, NUM_HELD_OUT, NULL, 0);
    draw_init(&d, seed);
    task_draw_set(&d, *out + NUM_HELD_OUT, n, *out, NUM_HELD_OUT);
    return OK;
}

static enum status make_tasks(int n, const char *dir, struct err *e)
{
    struct task *all;
    TRY(draw_tasks(n, SEED + FOR_TASKS, &all, e));
    enum status s = write_task_files(all + NUM_HELD_OUT, n, all, NUM_HELD_OUT, dir, e);
    mem_free(all);
    return s;
}

static enum status make_pairs(int num_wordy, int num_paired, const char *dir, struct err *e)
{
    struct task *all;
    TRY(draw_tasks(num_wordy + num_paired, SEED + FOR_PAIRS, &all, e));
    struct pairs_tasks t = {.held_out = all,
                            .num_held_out = NUM_HELD_OUT,
                            .wordy = all + NUM_HELD_OUT,
                            .num_wordy = num_wordy,
                            .paired = all + NUM_HELD_OUT + num_wordy,
                            .num_paired = num_paired};
    enum status s = io_make_dirs(dir, e);
    if (!s) s = pairs_write(&t, SEED + FOR_MANNERS, dir, e);
    mem_free(all);
    return s;
}

static int as_count(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    return *end || n < 1 || n > 10000000 ? 0 : (int)n;
}

static enum status run(int argc, char **argv, struct err *e)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (!strcmp(verb, "text") && argc == 5 && as_count(argv[3]))
        for (int i = 0; i < 3; i++)
            if (!strcmp(argv[2], phases[i]))
                return write_text((enum text_phase)i, as_count(argv[3]), argv[4], e);
    if (!strcmp(verb, "tasks") && argc == 4 && as_count(argv[2]))
        return make_tasks(as_count(argv[2]), argv[3], e);
    if (!strcmp(verb, "compare") && argc == 4) return compare_print(stdout, argv[2], argv[3], e);
    if (!strcmp(verb, "pairs") && argc == 5 && as_count(argv[2]) && as_count(argv[3]))
        return make_pairs(as_count(argv[2]), as_count(argv[3]), argv[4], e);
    if (!strcmp(verb, "replies") && argc == 5)
        return replies_print(stdout, argv[2], argv[3], argv[4], e);
    fputs(usage, stderr);
    return err_set(e, ERR_CONFIG, "wrong command line");
}

int main(int argc, char **argv)
{
    struct err e = {0};
    char text[1024];
    enum status s = run(argc, argv, &e);
    if (!s) return 0;
    err_format(&e, text, sizeof text);
    fprintf(stderr, "quickstart_world: %s\n", text);
    return status_exit_code(s);
}

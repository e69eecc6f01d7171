#include "pairs.h"

#include "manner.h"
#include "record_file.h"

static json_t *make_answered(const struct task *t, const char *answer)
{
    return json_pack("{s:s,s:s,s:s}", "instruction", t->instruction, "input", t->input, "output",
                     answer);
}

/* Long-winded so often in a hundred. */
static enum status write_answered(const struct task *tasks, int n, int percent, struct draw *d,
                                  const char *dir, const char *name, struct err *e)
{
    FILE *f;
    enum status s = OK;
    TRY(record_file_open(&f, dir, name, e));
    for (int i = 0; i < n && !s; i++) {
        struct page wordy;
        page_clear(&wordy);
        manner_wind(d, tasks[i].answer, &wordy);
        const char *answer = draw_chance(d, percent) ? wordy.text : tasks[i].answer;
        s = record_file_write(f, make_answered(&tasks[i], answer), e);
    }
    return record_file_close(f, s, e);
}

/* Turned round so often in a hundred. */
static enum status write_pairs(const struct task *tasks, int n, int percent, struct draw *d,
                               const char *dir, const char *name, struct err *e)
{
    FILE *f;
    enum status s = OK;
    TRY(record_file_open(&f, dir, name, e));
    for (int i = 0; i < n && !s; i++) {
        const struct task *t = &tasks[i];
        struct page wordy;
        page_clear(&wordy);
        manner_wind(d, t->answer, &wordy);
        int turned = draw_chance(d, percent);
        const char *chosen = turned ? wordy.text : t->answer;
        const char *rejected = turned ? t->answer : wordy.text;
        s = record_file_write(f,
                              json_pack("{s:s,s:s,s:s,s:s}", "instruction", t->instruction, "input",
                                        t->input, "chosen", chosen, "rejected", rejected),
                              e);
    }
    return record_file_close(f, s, e);
}

enum status pairs_write(const struct pairs_tasks *t, uint32_t seed, const char *dir, struct err *e)
{
    struct draw d;
    draw_init(&d, seed);
    TRY(write_answered(t->held_out, t->num_held_out, 0, &d, dir, "asked.jsonl", e));
    TRY(write_pairs(t->held_out, t->num_held_out, 0, &d, dir, "heldout-pairs.jsonl", e));
    TRY(write_answered(t->wordy, t->num_wordy, 50, &d, dir, "wordy.jsonl", e));
    struct draw again = d;
    TRY(write_pairs(t->paired, t->num_paired, 0, &d, dir, "pairs.jsonl", e));
    return write_pairs(t->paired, t->num_paired, 50, &again, dir, "swapped.jsonl", e);
}

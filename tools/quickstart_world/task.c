#include "task.h"

#include <assert.h>
#include <string.h>

#include "story.h"
#include "words.h"

#define LIST_MAX 6

static const char *const names[] = {
#define X(name) #name,
    TASK_KINDS(X)
#undef X
};

/* {p}: the person, {v}: the thing. */
static const struct wording {
    int n;
    const char *items[3];
} wordings[NUM_TASK_KINDS] = {
    [TASK_city] = {3,
                   {"Where does {p} live?", "In which city is the home of {p}?",
                    "Where is the home of {p}?"}},
    [TASK_job] = {3, {"What is the job of {p}?", "What does {p} work as?", "Name the job of {p}."}},
    [TASK_color] = {2, {"What color is the {v} of {p}?", "Name the color of the {v} of {p}."}},
    [TASK_copy] = {3, {"Repeat the words.", "Copy the text.", "Write the same list again."}},
    [TASK_first] = {2, {"What is the first word?", "Give the first word of the list."}},
    [TASK_last] = {2, {"What is the last word?", "Give the last word of the list."}},
};

const char *task_kind_name(enum task_kind kind) { return names[kind]; }

static void put(char field[TASK_FIELD_MAX], const struct page *p)
{
    assert(p->n < TASK_FIELD_MAX);
    memcpy(field, p->text, p->n + 1);
}

static void word_instruction(struct draw *d, struct task *out, const struct page_names *about)
{
    const struct wording *w = &wordings[out->kind];
    struct page p;
    page_clear(&p);
    page_add_pattern(&p, w->items[draw_below(d, w->n)], about);
    put(out->instruction, &p);
}

/* A story that holds a fact of the kind; the fact. */
static struct fact draw_input_story(struct draw *d, enum fact_kind kind, struct page *input)
{
    struct story s;
    int fitting[STORY_FACTS_MAX], n;
    do {
        story_draw(d, &s);
        n = 0;
        for (int i = 0; i < s.n; i++)
            if (s.facts[i].kind == kind) fitting[n++] = i;
    } while (!n);
    page_clear(input);
    story_tell(d, &s, input);
    return s.facts[fitting[draw_below(d, n)]];
}

static void draw_question(struct draw *d, enum fact_kind kind, struct task *out)
{
    struct page p;
    struct fact f = draw_input_story(d, kind, &p);
    put(out->input, &p);
    page_clear(&p);
    story_answer(&f, &p);
    put(out->answer, &p);
    word_instruction(d, out, &f.names);
}

static void draw_list_task(struct draw *d, struct task *out)
{
    static const char *const between[] = {", ", " "};
    static const char *const answers[] = {
        [TASK_first] = "The first word is {v}.", [TASK_last] = "The last word is {v}."};
    const char *comma = DRAW_FROM(d, between);
    int chosen[LIST_MAX], n = draw_between(d, 2, LIST_MAX);
    struct page list, p;
    draw_distinct(d, chosen, n, words_listed.n);
    page_clear(&list);
    for (int i = 0; i < n; i++) {
        if (i) page_add(&list, comma);
        page_add(&list, words_listed.items[chosen[i]]);
    }
    put(out->input, &list);
    page_clear(&p);
    if (out->kind == TASK_copy) {
        page_add_page(&p, &list);
    } else {
        const char *word = words_listed.items[chosen[out->kind == TASK_first ? 0 : n - 1]];
        page_add_pattern(&p, answers[out->kind], &(struct page_names){.value = word});
    }
    put(out->answer, &p);
    word_instruction(d, out, &(struct page_names){0});
}

void task_draw(struct draw *d, enum task_kind kind, struct task *out)
{
    out->kind = kind;
    switch (kind) {
    case TASK_city: draw_question(d, FACT_CITY, out); break;
    case TASK_job: draw_question(d, FACT_JOB, out); break;
    case TASK_color: draw_question(d, FACT_OBJECT, out); break;
    default: draw_list_task(d, out);
    }
}

static int holds_input(const struct task *tasks, int n, const char *input)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(tasks[i].input, input)) return 1;
    return 0;
}

void task_draw_set(struct draw *d, struct task *out, int n, const struct task *avoided,
                   int num_avoided)
{
    for (int i = 0; i < n;) {
        task_draw(d, (enum task_kind)(i % NUM_TASK_KINDS), &out[i]);
        i += !holds_input(out, i, out[i].input) && !holds_input(avoided, num_avoided, out[i].input);
    }
}

void task_shuffle_answers(struct draw *d, struct task *tasks, int n)
{
    for (int kind = 0; kind < NUM_TASK_KINDS; kind++) {
        /* Each swaps with an earlier one of its kind (Sattolo: nobody keeps its own). */
        for (int i = (n - 1 - kind) / NUM_TASK_KINDS; i > 0; i--) {
            struct task *a = &tasks[i * NUM_TASK_KINDS + kind];
            struct task *b = &tasks[draw_below(d, i) * NUM_TASK_KINDS + kind];
            char kept[TASK_FIELD_MAX];
            memcpy(kept, a->answer, sizeof kept);
            memcpy(a->answer, b->answer, sizeof kept);
            memcpy(b->answer, kept, sizeof kept);
        }
    }
}

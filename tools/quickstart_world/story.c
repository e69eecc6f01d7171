#include "story.h"

#include <assert.h>

#include "words.h"

#define FORMS 3

static const char *const forms[NUM_FACT_KINDS][FORMS] = {
    [FACT_CITY] = {"{p} lives in {v}.", "The home of {p} is in {v}.", "{p} has a home in {v}."},
    [FACT_JOB] = {"{p} is a {v}.", "{p} works as a {v}.", "The job of {p} is {v}."},
    [FACT_OBJECT] = {"The {v} of {p} is {c}.", "{p} has a {c} {v}.", "{p} bought a {c} {v}."},
    [FACT_FOOD] = {"{p} likes {v}.", "{p} eats {v}.", "The food of {p} is {v}."},
    [FACT_PET] = {"The pet of {p} is a {v}.", "{p} has a {v} as a pet.", "{p} feeds a {v}."},
};

/* The form of answers: the one that names what is asked for. */
static const int answers[NUM_FACT_KINDS] = {
    [FACT_CITY] = 1, [FACT_JOB] = 2, [FACT_OBJECT] = 0, [FACT_FOOD] = 2, [FACT_PET] = 0};

/* How many people in a hundred have a fact of the kind, and what it can be. */
static const struct {
    int percent;
    const struct words *values;
} kinds[NUM_FACT_KINDS] = {
    [FACT_CITY] = {100, &words_cities},    [FACT_JOB] = {100, &words_jobs},
    [FACT_OBJECT] = {100, &words_objects}, [FACT_FOOD] = {40, &words_food},
    [FACT_PET] = {40, &words_pets},
};

static struct fact draw_fact(struct draw *d, enum fact_kind kind, const char *person)
{
    struct fact f = {kind, {person, words_any(d, kinds[kind].values), NULL}};
    if (kind == FACT_OBJECT) f.names.color = words_any(d, &words_colors);
    return f;
}

void story_draw(struct draw *d, struct story *out)
{
    struct fact all[STORY_PEOPLE_MAX * NUM_FACT_KINDS];
    int people[STORY_PEOPLE_MAX], chosen[STORY_FACTS_MAX], n = 0;
    int num_people = draw_between(d, 2, STORY_PEOPLE_MAX);
    draw_distinct(d, people, num_people, words_people.n);
    for (int i = 0; i < num_people; i++)
        for (int kind = 0; kind < NUM_FACT_KINDS; kind++)
            if (draw_chance(d, kinds[kind].percent))
                all[n++] = draw_fact(d, kind, words_people.items[people[i]]);
    int most = draw_between(d, num_people + 1, STORY_FACTS_MAX);
    out->n = most < n ? most : n;
    draw_distinct(d, chosen, out->n, n);
    for (int i = 0; i < out->n; i++) out->facts[i] = all[chosen[i]];
}

void story_say(struct draw *d, const struct fact *f, struct page *out)
{
    page_add_pattern(out, forms[f->kind][draw_below(d, FORMS)], &f->names);
}

void story_answer(const struct fact *f, struct page *out)
{
    page_add_pattern(out, forms[f->kind][answers[f->kind]], &f->names);
}

void story_tell(struct draw *d, const struct story *s, struct page *out)
{
    for (int i = 0; i < s->n; i++) {
        if (i) page_add(out, " ");
        story_say(d, &s->facts[i], out);
    }
}

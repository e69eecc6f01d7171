#include "text.h"

#include <ctype.h>
#include <string.h>

#include "story.h"
#include "words.h"

#define LIST_MAX 14
#define PIECES_MAX 40 /* sentences of one piece */

/* A piece grows sentence by sentence. */
static void add_sentence(struct draw *d, struct page *out, const char *sentence)
{
    static const char *const gaps[] = {" ", " ", " ", "\n"};
    int after_heading = out->n && out->text[out->n - 1] == ':';
    int heading = !strncmp(sentence, "###", 3);
    if (out->n) page_add(out, heading ? "\n\n" : after_heading ? "\n" : DRAW_FROM(d, gaps));
    page_add(out, sentence);
}

/* "Where of the name provides again so a page: then." A capital, words, an end. */
static void add_filler(struct draw *d, struct page *out)
{
    static const char *const ends[] = {".", ".", ".", ".", ":", "?"};
    struct page p;
    page_clear(&p);
    int n = draw_between(d, 4, 14), comma = draw_chance(d, 20) ? n - 2 : -1;
    for (int i = 0; i < n; i++) {
        if (i) page_add(&p, i == comma ? ", " : " ");
        size_t at = p.n;
        page_add(&p, words_any(d, &words_filler));
        if (!i || draw_chance(d, 6)) p.text[at] = (char)toupper((unsigned char)p.text[at]);
    }
    page_add(&p, DRAW_FROM(d, ends));
    add_sentence(d, out, p.text);
}

/* Headings of the template's shape, none of its own. */
static void add_heading(struct draw *d, struct page *out)
{
    static const char *const headings[] = {
        "### Notes:", "### Story:", "### Page:", "### Letter:", "### List:",  "### Names:",
        "### Facts:", "### Words:", "### Text:", "### Lines:",  "### Diary:", "### News:"};
    add_sentence(d, out, DRAW_FROM(d, headings));
}

/* None to four sentences without a meaning, or headings. */
static void add_padding(struct draw *d, struct page *out, int percent)
{
    for (int i = 0; i < 4 && draw_chance(d, percent); i++)
        if (draw_chance(d, 67))
            add_filler(d, out);
        else
            add_heading(d, out);
}

static void join(struct page *out, const char *const *words, int n, const char *between)
{
    for (int i = 0; i < n; i++) {
        if (i) page_add(out, between);
        page_add(out, words[i]);
    }
}

/* A list of any words, two to four times. */
static void add_repeated_list(struct draw *d, struct page *out)
{
    static const char *const commas[] = {", ", " "}, *const gaps[] = {"\n", ". ", " ", " : "};
    const char *words[LIST_MAX], *comma = DRAW_FROM(d, commas), *gap = DRAW_FROM(d, gaps);
    int n = draw_between(d, 3, LIST_MAX), times = draw_between(d, 2, 4);
    for (int i = 0; i < n; i++)
        words[i] = draw_chance(d, 25) ? words_any(d, &words_filler) : words_of_any_kind(d);
    for (int i = 0; i < times; i++) {
        if (i) page_add(out, gap);
        join(out, words, n, comma);
    }
}

/* "Tom: Rome. Ann: Lima. Ann: Lima. Tom: Rome." */
static void add_repeated_pairs(struct draw *d, struct page *out)
{
    static const char *const patterns[] = {"{p}: {v}.", "{p} is {v}.", "{p} - {v}.",
                                           "{p} has {v}."};
    static const struct words *const values[] = {&words_cities, &words_cities, &words_jobs,
                                                 &words_colors, &words_objects};
    const char *pattern = DRAW_FROM(d, patterns);
    struct page_names pairs[6];
    int n = draw_between(d, 2, 6), times = draw_between(d, 2, 4), order[6], people[6];
    draw_distinct(d, people, n, words_people.n);
    for (int i = 0; i < n; i++)
        pairs[i] = (struct page_names){words_people.items[people[i]],
                                       words_any(d, DRAW_FROM(d, values)), NULL};
    for (int t = 0; t < times; t++) {
        draw_distinct(d, order, n, n);
        for (int i = 0; i < n; i++) {
            if (t || i) page_add(out, " ");
            page_add_pattern(out, pattern, &pairs[order[i]]);
        }
    }
}

/* A story, and the same sentences again in another order; or the same facts in other words. */
static void add_restated_story(struct draw *d, struct page *out)
{
    struct story s;
    struct page said[STORY_FACTS_MAX], whole;
    int order[STORY_FACTS_MAX], reworded = draw_chance(d, 50);
    story_draw(d, &s);
    page_clear(&whole);
    for (int i = 0; i < s.n; i++) {
        page_clear(&said[i]);
        story_say(d, &s.facts[i], &said[i]);
        if (i) page_add(&whole, " ");
        page_add_page(&whole, &said[i]);
    }
    page_add_page(out, &whole);
    add_padding(d, out, 40);
    draw_distinct(d, order, s.n, s.n);
    for (int i = 0; i < s.n; i++) {
        struct page *p = &said[order[i]];
        if (reworded) page_clear(p), story_say(d, &s.facts[order[i]], p);
        add_sentence(d, out, p->text);
    }
}

/* A story among sentences without a meaning, some of it recalled behind them. */
static void add_recalled_story(struct draw *d, struct page *out)
{
    static const char *const openings[] = {
        "Again, ", "So, ", "As we said, ", "In short, ", "Remember: ", "", "", ""};
    struct story s;
    struct page p;
    int order[STORY_FACTS_MAX];
    story_draw(d, &s);
    add_padding(d, out, 60);
    page_clear(&p);
    story_tell(d, &s, &p);
    add_sentence(d, out, p.text);
    add_padding(d, out, 60);
    int n = draw_between(d, 2, 5);
    if (n > s.n) n = s.n;
    draw_distinct(d, order, n, s.n);
    for (int i = 0; i < n; i++) {
        if (draw_chance(d, 25)) add_padding(d, out, 50);
        page_clear(&p);
        page_add(&p, DRAW_FROM(d, openings));
        story_say(d, &s.facts[order[i]], &p);
        add_sentence(d, out, p.text);
    }
}

/* A list of words, then what can be said about it. {v}: the list, {c}: a word of it. */
static void add_discussed_list(struct draw *d, struct page *out)
{
    static const char *const commas[] = {", ", " "};
    static const char *const openings[] = {"{p} wrote: {v}.", "{p} said: {v}.", "{v}",
                                           "The list of {p}: {v}."};
    enum { WHOLE, FIRST, LAST };
    static const struct {
        int about;
        const char *pattern;
    } remarks[] = {{WHOLE, "{p} copied it: {v}."},    {WHOLE, "{v}"},
                   {WHOLE, "The list again: {v}."},   {WHOLE, "The words are: {v}."},
                   {FIRST, "The first word is {c}."}, {FIRST, "First comes {c}."},
                   {LAST, "The last word is {c}."},   {LAST, "At the end comes {c}."}};
    const char *words[6];
    int n = draw_between(d, 2, 6), chosen[6], people[2], listed = draw_chance(d, 60);
    draw_distinct(d, chosen, n, words_listed.n);
    for (int i = 0; i < n; i++)
        words[i] = listed ? words_listed.items[chosen[i]] : words_of_any_kind(d);
    struct page list, p;
    page_clear(&list);
    join(&list, words, n, DRAW_FROM(d, commas));
    draw_distinct(d, people, 2, words_people.n);
    struct page_names names = {words_people.items[people[0]], list.text, NULL};
    add_padding(d, out, 60);
    page_clear(&p);
    page_add_pattern(&p, DRAW_FROM(d, openings), &names);
    add_sentence(d, out, p.text);
    add_padding(d, out, 60);
    names.person = words_people.items[people[1]];
    for (int i = draw_between(d, 1, 4); i > 0; i--) {
        int k = draw_below(d, (int)(sizeof remarks / sizeof *remarks));
        names.color = remarks[k].about == FIRST ? words[0] : words[n - 1];
        page_clear(&p);
        page_add_pattern(&p, remarks[k].pattern, &names);
        add_sentence(d, out, p.text);
    }
}

/* How often in a hundred pieces of each phase. */
static const struct {
    int percent[3];
    void (*add)(struct draw *d, struct page *out);
} pieces[] = {
    {{35, 7, 4}, add_repeated_list},    {{35, 8, 5}, add_repeated_pairs},
    {{30, 40, 36}, add_restated_story}, {{0, 30, 40}, add_recalled_story},
    {{0, 15, 15}, add_discussed_list},
};

void text_draw(struct draw *d, enum text_phase phase, struct page *out)
{
    struct page piece;
    size_t enough = (size_t)draw_between(d, 100, 550);
    page_clear(out);
    while (out->n < enough) {
        int at = draw_below(d, 100);
        size_t k = 0;
        while (at >= pieces[k].percent[phase]) at -= pieces[k++].percent[phase];
        page_clear(&piece);
        pieces[k].add(d, &piece);
        if (out->n) page_add(out, "\n\n");
        page_add_page(out, &piece);
    }
}

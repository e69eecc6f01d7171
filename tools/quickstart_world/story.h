/* story.h - a few facts about a few people, and the sentences that state them.
 *
 * Every kind of fact has three forms. The world's instructions ask for the facts behind FORM_ASKED
 * kinds and are answered in a form that the base has read: story_answer.
 */
#ifndef CRIA_QUICKSTART_STORY_H
#define CRIA_QUICKSTART_STORY_H

#include "draw.h"
#include "page.h"

enum fact_kind { FACT_CITY, FACT_JOB, FACT_OBJECT, FACT_FOOD, FACT_PET, NUM_FACT_KINDS };

struct fact {
    enum fact_kind kind;
    struct page_names names;
};

#define STORY_PEOPLE_MAX 4
#define STORY_FACTS_MAX 7

struct story {
    struct fact facts[STORY_FACTS_MAX];
    int n;
};

/* Two to four people, whose facts are in random order. No person has two of a kind. */
void story_draw(struct draw *d, struct story *out);

/* Adds the fact in one of its forms. */
void story_say(struct draw *d, const struct fact *f, struct page *out);

/* Adds the fact in the form that answers have. */
void story_answer(const struct fact *f, struct page *out);

/* Adds the whole story, sentence after sentence. */
void story_tell(struct draw *d, const struct story *s, struct page *out);

#endif

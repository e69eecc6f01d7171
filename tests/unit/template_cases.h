/* template_cases.h - the conversations of tests/golden/templates.json, for the tests that use them.
 */
#ifndef CRIA_TESTS_TEMPLATE_CASES_H
#define CRIA_TESTS_TEMPLATE_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "data/formats/conversation.h"

static inline struct text text_of(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return v ? (struct text){json_string_value(v), json_string_length(v)} : (struct text){"", 0};
}

/* The conversation of a case, without its last reply when that is to be written. */
static inline void read_case(const json_t *messages, int prompt, struct conversation *c)
{
    conversation_clear(c);
    for (size_t i = 0; i + (prompt != 0) < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        enum role r = !strcmp(role, "system") ? ROLE_SYSTEM
                      : !strcmp(role, "user") ? ROLE_USER
                      : !strcmp(role, "tool") ? ROLE_TOOL
                                              : ROLE_ASSISTANT;
        assert_int_equal(conversation_add(c, r, text_of(m, "content")), OK);
        c->turns[c->num_turns - 1].input = text_of(m, "input");
    }
}

#endif

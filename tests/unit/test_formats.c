/* data/formats: every row, what it drops, mends and refuses, and how `auto` chooses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "data/formats/format.h"

static size_t describe_turns(const struct conversation *c, char *out, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < c->num_turns; i++) {
        const struct turn *t = &c->turns[i];
        at += (size_t)snprintf(out + at, size - at, "%s%c:%.*s", i ? "|" : "", "suatx"[t->role],
                               (int)t -> text.n, t->text.data);
        if (t->input.n)
            at += (size_t)snprintf(out + at, size - at, "+%.*s", (int)t->input.n, t->input.data);
        if (t->weight != 1) at += (size_t)snprintf(out + at, size - at, "*%g", t->weight);
    }
    if (c->chosen.given)
        at += (size_t)snprintf(out + at, size - at, "|+%.*s", (int)c->chosen.text.n,
                               c->chosen.text.data);
    if (c->rejected.given)
        at += (size_t)snprintf(out + at, size - at, "|-%.*s", (int)c->rejected.text.n,
                               c->rejected.text.data);
    if (c->repairs & REPAIR_LEADING_REPLY) at += (size_t)snprintf(out + at, size - at, " lead");
    if (c->repairs & REPAIR_TRAILING_QUESTION)
        at += (size_t)snprintf(out + at, size - at, " trail");
    return at;
}

/* "s:text|u:text+input|a:text*0.5|+chosen|-rejected", or "-reason", or "!STATUS message"; " / "
 * between the conversations of a record, " out N" where messages are left out. */
static void describe_value(const char *format, const json_t *value, char *out, size_t size)
{
    struct err e = {0};
    struct conversation c = {0};
    size_t at = 0;
    enum status s = format_convert(format_find(format), value, &c, &e);
    for (out[0] = 0;; s = format_next(format_find(format), value, &c, &e)) {
        if (s)
            snprintf(out + at, size - at, "!%s %s", status_name(s), e.message);
        else if (c.drop)
            at += (size_t)snprintf(out + at, size - at, "-%s", drop_name(c.drop));
        else
            at += describe_turns(&c, out + at, size - at);
        if (s || !c.more) break;
        at += (size_t)snprintf(out + at, size - at, " / ");
    }
    if (!s && c.left_out) snprintf(out + at, size - at, " out %zu", c.left_out);
    conversation_free(&c);
}

static void describe(const char *format, const char *record, char *out, size_t size)
{
    struct err e = {0};
    json_t *value = NULL;
    if (json_parse_text(record, strlen(record), "test", &value, &e))
        fail_msg("%s: %s", record, e.message);
    describe_value(format, value, out, size);
    json_decref(value);
}

static void test_convert(void **state)
{
    (void)state;
    static const struct {
        const char *format, *record, *want;
    } cases[] = {
        {"alpaca", "{\"instruction\":\"i\",\"input\":\"\",\"output\":\"o\",\"response\":\"x\"}",
         "u:i|a:o"},
        {"alpaca", "{\"instruction\":\"i\",\"input\":\"n\",\"output\":\"o\"}", "u:i+n|a:o"},
        {"alpaca", "{\"instruction\":\"i\",\"output\":\"o\",\"system\":\"s\"}", "s:s|u:i|a:o"},
        {"alpaca", "{\"instruction\":\"i\",\"input\":null,\"output\":\" \\n\"}", "-empty_reply"},
        {"alpaca", "{\"instruction\":\"\\u00a0\",\"output\":\"o\"}", "-empty_turn"},
        {"alpaca", "{\"instruction\":\"i\"}", "!ERR_FORMAT \"output\" is missing"},
        {"alpaca", "{\"instruction\":\"i\",\"output\":5}", "!ERR_FORMAT \"output\" is no string"},
        {"vicuna",
         "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\",\"value\":"
         "\"a\"}]}",
         "u:q|a:a"},
        {"sharegpt",
         "{\"conversations\":[{\"from\":\"system\",\"value\":\"\"},{\"from\":\"gpt\",\"value\":"
         "\"x\"},{\"from\":\"user\",\"value\":\"q\"},{\"from\":\"bing\",\"value\":\"a\"},{\"from\":"
         "\"human\",\"value\":\"z\"}]}",
         "s:|u:q|a:a lead trail"},
        {"sharegpt", "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"}]}", "-no_reply"},
        {"sharegpt", "{\"conversations\":[]}", "-no_reply"},
        {"sharegpt",
         "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"human\",\"value\":"
         "\"q\"},{\"from\":\"gpt\",\"value\":\"a\"}]}",
         "-roles"},
        {"sharegpt",
         "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"king\","
         "\"value\":\"a\"}]}",
         "-unknown_role"},
        {"sharegpt",
         "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"function_call\","
         "\"value\":\"f\"},{\"from\":\"observation\",\"value\":\"\"},{\"from\":\"tool\",\"value\":"
         "\"2\"},{\"from\":\"gpt\",\"value\":\"a\"},{\"from\":\"human\",\"value\":\"z\"},{\"from\":"
         "\"tool_call\",\"value\":\"g\"},{\"from\":\"ipython\",\"value\":\"3\"}]}",
         "u:q|a:f|t:|t:2|a:a|u:z|a:g trail"},
        {"sharegpt",
         "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"observation\","
         "\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"a\"}]}",
         "-roles"},
        {"sharegpt",
         "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"system\","
         "\"value\":\"a\"}]}",
         "-system_place"},
        {"sharegpt", "{\"conversations\":\"x\"}", "!ERR_FORMAT \"conversations\" is no list"},
        {"sharegpt",
         "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\"}]}",
         "!ERR_FORMAT message 2 of \"conversations\": \"value\" is missing"},
        {"openorca", "{\"system_prompt\":\"\",\"question\":\"q\",\"response\":\"r\"}", "u:q|a:r"},
        {"orca", "{\"system_prompt\":\"s\",\"question\":\"q\",\"response\":\"r\"}", "s:s|u:q|a:r"},
        {"openai",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"value\":\"q\"}],"
         "\"loss_weight\":0.0},{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":"
         "\"a\"},{\"type\":\"text\",\"text\":\"b\"}],\"weight\":0.5}]}",
         "u:q*0|a:ab*0.5"},
        {"openai", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
         "-not_text"},
        {"openai", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\",\"weight\":-1}]}",
         "!ERR_FORMAT message 1 of \"messages\": \"weight\" of a message is no number from 0 on"},
        {"openai",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
         "\"content\":null}]}",
         "-empty_reply"},
        {"openai", "{\"messages\":[7]}",
         "!ERR_FORMAT message 1 of \"messages\": a message is no object"},
        {"prompt_completion", "{\"prompt\":\"p\",\"completion\":\"c\"}", "u:p|a:c"},
        {"prompt_completion", "{\"prompt\":\"p\",\"completion\":\"\"}", "-empty_reply"},
        {"text", "{\"text\":\"t\"}", "x:t"},
        {"text", "{\"text\":\"\\n\"}", "-empty_text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[512];
        describe(cases[i].format, cases[i].record, out, sizeof out);
        assert_string_equal(out, cases[i].want);
    }
}

#define Q(...) #__VA_ARGS__ /* JSON without its quotes escaped */

static const struct {
    const char *format, *record, *want;
} rows[] = {
    {"alpaca", Q({
         "instruction" : "i",
         "output" : "o",
         "history" : [ [ "a", "b" ], [ "c", "d" ] ],
         "system" : "s"
     }),
     "s:s|u:a|a:b|u:c|a:d|u:i|a:o"},
    {"alpaca", Q({"instruction" : "i", "output" : "o", "history" : [["a"]]}),
     "!ERR_FORMAT item 1 of \"history\" is no pair of texts"},
    {"alpaca", Q({"instruction" : "i", "output" : "o", "history" : 7}),
     "!ERR_FORMAT \"history\" is no list"},
    {"dolly", Q({"instruction" : "i", "context" : "c", "response" : "r", "category" : "x"}),
     "u:i+c|a:r"},
    {"gpteacher", Q({"instruction" : "i", "input" : "n", "response" : "r"}), "u:i+n|a:r"},
    {"longform", Q({"input" : "i", "output" : "o", "source" : "x"}), "u:i|a:o"},
    {"seeds", Q({
         "instruction" : "i",
         "instances" :
             [ {"input" : "", "output" : "a"}, {"input" : "n", "output" : ""}, {"output" : "c"} ]
     }),
     "u:i|a:a / -empty_reply / u:i|a:c"},
    {"self_instruct", Q({"instruction" : "i", "instances" : []}), "-no_reply"},
    {"self_instruct", Q({"instruction" : "i", "instances" : [5]}),
     "!ERR_FORMAT an instance is no object"},
    {"sharegpt", Q({
         "tools" : "[{}]",
         "conversations" : [
             {"from" : "human", "value" : "q"}, {"from" : "gpt", "value" : "a", "weight" : 0},
             {"from" : "human", "value" : "z"}, {"from" : "gpt", "value" : "b", "train" : true}
         ]
     }),
     "s:Tools:\n[{}]|u:q|a:a*0|u:z|a:b"},
    {"sharegpt", Q({
         "system" : "s",
         "tools" : [ {"name" : "f"} ],
         "conversations" : [ {"from" : "human", "value" : "q"}, {"from" : "gpt", "value" : "a"} ]
     }),
     "s:s\n\nTools:\n[{\"name\":\"f\"}]|u:q|a:a"},
    {"sharegpt", Q({
         "tools" : "[]",
         "images" : ["x"],
         "conversations" : [ {"from" : "human", "value" : "q"}, {"from" : "gpt", "value" : "a"} ]
     }),
     "-not_text"},
    {"openai", Q({
         "tools" : [],
         "messages" : [
             {"role" : "user", "content" : "q"}, {
                 "role" : "assistant",
                 "content" : null,
                 "tool_calls" : [
                     {
                         "id" : "1",
                         "type" : "function",
                         "function" : {"name" : "f", "arguments" : "{\"x\": 1}"}
                     },
                     {"function" : {"name" : "g", "arguments" : {"y" : 2}}}, {"name" : "h"}
                 ]
             },
             {"role" : "tool", "tool_call_id" : "1", "content" : "r"},
             {"role" : "tool", "content" : [ {"type" : "text", "text" : "t"} ]},
             {"role" : "assistant", "content" : "a", "loss" : false}
         ]
     }),
     "u:q|a:{\"name\": \"f\", \"arguments\": {\"x\": 1}}\n{\"name\": \"g\", \"arguments\": "
     "{\"y\":2}}\n"
     "{\"name\": \"h\", \"arguments\": {}}|t:r|t:t|a:a*0"},
    {"openai", Q({
         "messages" : [
             {"role" : "user", "content" : "q"}, {
                 "role" : "assistant",
                 "content" : "w",
                 "function_call" : {"name" : "f", "arguments" : ""}
             },
             {"role" : "function", "name" : "f", "content" : "r"},
             {"role" : "assistant", "content" : "a", "loss" : 3.5}
         ]
     }),
     "u:q|a:w\n{\"name\": \"f\", \"arguments\": {}}|t:r|a:a"},
    {"openai",
     Q({"messages" : [ {"role" : "assistant", "content" : "", "tool_calls" : [ {"id" : "1"} ]} ]}),
     "!ERR_FORMAT message 1 of \"messages\": a tool's call has no name"},
    {"openai", Q({"messages" : [ {"role" : "assistant", "content" : "", "tool_calls" : 7} ]}),
     "!ERR_FORMAT message 1 of \"messages\": \"tool_calls\" is no list"},
    {"openai", Q({"messages" : [ {"role" : "user", "content" : "q", "train_detail" : []} ]}),
     "!ERR_FORMAT message 1 of \"messages\": \"train_detail\": parts of a message cannot be left "
     "untrained"},
    {"openai", Q({
         "messages" : [
             {"role" : "user", "content" : "q"},
             {"role" : "assistant", "tool_calls" : [ {"function" : {"name" : "f"}} ]}
         ]
     }),
     "u:q|a:{\"name\": \"f\", \"arguments\": {}}"},
    {"openai", Q({"messages" : [ {"role" : "user", "content" : "q"}, {"role" : "assistant"} ]}),
     "!ERR_FORMAT message 2 of \"messages\": \"content\" is missing"},
    {"guanaco", Q({"text" : "### Human: q ### Assistant: a\n### Human: z### Assistant: b "}),
     "u:q|a:a|u:z|a:b"},
    {"guanaco", Q({"text" : "### Human: q ### Assistant: "}), "-no_reply"},
    {"guanaco", Q({"text" : "x ### Human: q ### Assistant: a"}), "-unknown_role"},
    {"guanaco", Q({"input" : "### Human: q ### Assistant:", "output" : "a", "text" : "t"}),
     "u:q|a:a"},
    {"guanaco", Q({"input" : "### Human: q ### Assistant:", "output" : " "}), "-empty_reply"},
    {"prompt_completion", Q({"prompt" : "p", "response" : "c"}), "u:p|a:c"},
    {"prompt_completion", Q({
         "prompt" : [
             {"role" : "user", "content" : "q"}, {"role" : "assistant", "content" : "a"},
             {"role" : "user", "content" : "z"}
         ],
         "completion" : [ {"role" : "assistant", "content" : "b"} ]
     }),
     "u:q|a:a*0|u:z|a:b"},
    {"prompt_completion", Q({"prompt" : [], "completion" : "b"}),
     "!ERR_FORMAT \"completion\" is no list"},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[512];
        describe(rows[i].format, rows[i].record, out, sizeof out);
        assert_string_equal(out, rows[i].want);
    }
}

static const char nested[] = Q({
    "prompt" : {
        "role" : "prompter",
        "text" : "q",
        "replies" : [
            {"role" : "assistant", "text" : "a", "rank" : 1, "replies" : []}, {
                "role" : "assistant",
                "text" : "b",
                "rank" : 0,
                "replies" : [
                    {
                        "role" : "prompter",
                        "text" : "c",
                        "replies" : [ {
                            "role" : "assistant",
                            "text" : "d",
                            "deleted" : true,
                            "replies" : [ {"role" : "prompter", "text" : "e"} ]
                        } ]
                    },
                    {
                        "role" : "prompter",
                        "text" : "f",
                        "replies" : [ {"role" : "assistant", "text" : "g", "replies" : null} ]
                    }
                ]
            },
            {"role" : "assistant", "text" : "h"}
        ]
    }
});
static const char flat[] = Q({
    "messages" : [
        {"message_id" : "2", "parent_id" : "1", "role" : "assistant", "text" : "a", "rank" : 2},
        {"message_id" : "1", "parent_id" : null, "role" : "prompter", "text" : "q"},
        {"message_id" : "4", "parent_id" : "3", "role" : "prompter", "text" : "z"},
        {"message_id" : "3", "parent_id" : "1", "role" : "assistant", "text" : "b", "rank" : 1},
        {"message_id" : "6", "parent_id" : "5", "role" : "assistant", "text" : "lost"},
        {"message_id" : "7", "parent_id" : "7", "role" : "assistant", "text" : "own"}
    ]
});

static void test_trees(void **state)
{
    (void)state;
    static const struct {
        const char *format, *record, *want;
    } cases[] = {
        {"oasst", nested, "u:q|a:b trail out 6"},
        {"oasst_all", nested, "u:q|a:a / u:q|a:b trail / u:q|a:b*0|u:f|a:g / u:q|a:h out 2"},
        {"oasst", flat, "u:q|a:b trail out 3"},
        {"oasst_all", flat, "u:q|a:a / u:q|a:b trail out 2"},
        {"oasst_all", Q({
             "role" : "prompter",
             "text" : "q",
             "replies" : [ {
                 "role" : "assistant",
                 "text" : "a",
                 "replies" : [ {
                     "role" : "prompter",
                     "text" : "b",
                     "replies" : [
                         {"role" : "assistant", "text" : "c"}, {"role" : "assistant", "text" : "d"}
                     ]
                 } ]
             } ]
         }),
         "u:q|a:a|u:b|a:c / u:q|a:a*0|u:b|a:d"},
        {"oasst1", Q({"prompt" : {"role" : "prompter", "text" : "q"}}), "-no_reply"},
        {"oasst", Q({
             "messages" :
                 [ {"message_id" : "1", "parent_id" : "0", "role" : "prompter", "text" : "q"} ]
         }),
         "-no_prompt"},
        {"oasst", Q({"prompt" : {"role" : "prompter", "text" : "q", "deleted" : true}}),
         "-no_prompt"},
        {"oasst", Q({"prompt" : {"role" : "king", "text" : "q"}}), "-unknown_role"},
        {"oasst", Q({"prompt" : {"text" : "q"}}), "!ERR_FORMAT \"role\" is missing"},
        {"oasst", Q({"prompt" : {"text" : "q", "role" : "prompter", "replies" : 7}}),
         "!ERR_FORMAT \"replies\" is no list"},
        {"oasst", Q({"messages" : [3]}), "!ERR_FORMAT a message is no object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[512];
        describe(cases[i].format, cases[i].record, out, sizeof out);
        assert_string_equal(out, cases[i].want);
    }
}

static void test_names(void **state)
{
    (void)state;
    static const struct format_name items[] = {
        {"field_messages", "dialogue"}, {"field_role", "who"},      {"field_content", "says"},
        {"field_weight", "learn"},      {"role_user", "me"},        {"role_user", "you"},
        {"role_assistant", "it"},       {"field_output", "answer"},
    };
    const struct format_names names = {items, sizeof items / sizeof *items};
    static const char *const records[][3] = {
        {Q({
             "dialogue" : [
                 {"who" : "me", "says" : "q"}, {"who" : "it", "says" : "a", "learn" : false},
                 {"who" : "you", "says" : "z"}, {"who" : "it", "says" : "b"}
             ],
             "messages" : "other"
         }),
         "openai", "u:q|a:a*0|u:z|a:b"},
        {Q({
             "dialogue" : [ {"who" : "me", "says" : "q"}, {"who" : "it", "says" : "a"} ],
             "conversations" : []
         }),
         "sharegpt", "u:q|a:a"},
        {Q({"dialogue" : [ {"who" : "king", "says" : "q"} ]}), "openai", "-unknown_role"},
        {Q({"messages" : [ {"role" : "user", "content" : "q"} ]}), "openai",
         "!ERR_FORMAT \"messages\" is missing"},
        {Q({"instruction" : "i", "answer" : "o", "output" : "no"}), "alpaca", "u:i|a:o"},
        {Q({"instruction" : "i", "output" : "no"}), "alpaca", "!ERR_FORMAT \"output\" is missing"},
    };
    for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
        struct err e = {0};
        char out[512];
        json_t *value = NULL;
        const struct format *f = format_find(records[i][1]);
        assert_int_equal(json_parse_text(records[i][0], strlen(records[i][0]), "t", &value, &e),
                         OK);
        assert_int_equal(format_rename(&names, f->sharegpt, value, &e), OK);
        describe_value(records[i][1], value, out, sizeof out);
        assert_string_equal(out, records[i][2]);
        json_decref(value);
    }
    for (size_t i = 0; format_name_at(i); i++) assert_true(format_name_known(format_name_at(i)));
    assert_false(format_name_known("field_nothing"));
}

static const struct {
    const char *format, *record, *want;
} preferences[] = {
    {"orca_dpo_pairs", "{\"system\":\"s\",\"question\":\"q\",\"chosen\":\"c\",\"rejected\":\"r\"}",
     "s:s|u:q|+c|-r"},
    {"orca_pairs", "{\"system\":\"\",\"question\":\"q\",\"chosen\":\"c\",\"rejected\":\"c\"}",
     "-identical"},
    {"orca_pairs", "{\"question\":\"q\",\"chosen\":\"c\",\"rejected\":\" \\n\"}", "-empty_reply"},
    {"orca_pairs", "{\"question\":\"q\",\"chosen\":null,\"rejected\":\"r\"}", "-empty_reply"},
    {"orca_pairs", "{\"question\":\" \",\"chosen\":\"c\",\"rejected\":\"r\"}", "-empty_turn"},
    {"orca_pairs", "{\"question\":\"q\",\"chosen\":\"c\"}", "!ERR_FORMAT \"rejected\" is missing"},
    {"orca_pairs", "{\"question\":\"q\",\"chosen\":\"c\",\"rejected\":[\"r\"]}",
     "!ERR_FORMAT \"rejected\" is no string"},
    {"alpaca_pairs", "{\"instruction\":\"i\",\"input\":\"n\",\"chosen\":\"c\",\"rejected\":\"r\"}",
     "u:i+n|+c|-r"},
    {"sharegpt_pairs",
     "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"}],\"chosen\":{\"from\":\"gpt\","
     "\"value\":\"c\"},\"rejected\":{\"from\":\"gpt\",\"value\":\"r\"}}",
     "u:q|+c|-r"},
    {"sharegpt_pairs",
     "{\"system\":\"s\",\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":"
     "\"gpt\",\"value\":\"a\"},{\"from\":\"human\",\"value\":\"z\"}],\"chosen\":{\"from\":"
     "\"gpt\",\"value\":\"c\"},\"rejected\":{\"from\":\"gpt\",\"value\":\"r\"}}",
     "s:s|u:q|a:a|u:z|+c|-r"},
    {"sharegpt_pairs",
     "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\",\"value\":"
     "\"a\"}],\"chosen\":{\"from\":\"gpt\",\"value\":\"c\"},\"rejected\":{\"from\":\"gpt\","
     "\"value\":\"r\"}}",
     "-roles"},
    {"sharegpt_pairs",
     "{\"conversations\":[],\"chosen\":{\"from\":\"gpt\",\"value\":\"c\"},\"rejected\":{"
     "\"from\":\"gpt\",\"value\":\"r\"}}",
     "-no_reply"},
    {"sharegpt_pairs",
     "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"}],\"chosen\":{\"from\":\"human\","
     "\"value\":\"c\"},\"rejected\":{\"from\":\"gpt\",\"value\":\"r\"}}",
     "-no_reply"},
    {"sharegpt_pairs",
     "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"}],\"chosen\":{\"from\":\"king\","
     "\"value\":\"c\"},\"rejected\":{\"from\":\"gpt\",\"value\":\"r\"}}",
     "-unknown_role"},
    {"sharegpt_pairs",
     "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"}],\"chosen\":{\"from\":\"gpt\","
     "\"value\":\"c\"}}",
     "!ERR_FORMAT \"rejected\" is missing"},
    {"sharegpt_pairs",
     "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"}],\"chosen\":{\"value\":\"c\"},"
     "\"rejected\":{}}",
     "!ERR_FORMAT \"chosen\": \"from\" is missing"},
    {"ultrafeedback",
     "{\"prompt\":\"q\",\"chosen\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":"
     "\"assistant\",\"content\":\"c\"}],\"rejected\":[{\"role\":\"user\",\"content\":\"q\"},{"
     "\"role\":\"assistant\",\"content\":\"r\"}]}",
     "u:q|+c|-r"},
    {"message_pairs",
     "{\"chosen\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":"
     "\"q\"},{\"role\":\"assistant\",\"content\":\"c\"}],\"rejected\":[{\"role\":\"system\","
     "\"content\":\"s\"},{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
     "\"content\":\"r\"}]}",
     "s:s|u:q|+c|-r"},
    {"message_pairs",
     "{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"chosen\":[{\"role\":\"assistant\","
     "\"content\":\"c\"}],\"rejected\":[{\"role\":\"assistant\",\"content\":\"r\"}]}",
     "u:q|+c|-r"},
    {"message_pairs",
     "{\"prompt\":\"q\",\"chosen\":[{\"role\":\"assistant\",\"content\":\"c\"}],\"rejected\":[{"
     "\"role\":\"assistant\",\"content\":\"r\"}]}",
     "u:q|+c|-r"},
    {"message_pairs",
     "{\"chosen\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":"
     "\"c\"}],\"rejected\":[{\"role\":\"user\",\"content\":\"z\"},{\"role\":\"assistant\","
     "\"content\":\"r\"}]}",
     "-no_common_prompt"},
    {"message_pairs",
     "{\"chosen\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":"
     "\"c\"}],\"rejected\":[{\"role\":\"assistant\",\"content\":\"r\"}]}",
     "-no_common_prompt"},
    {"message_pairs", "{\"chosen\":[],\"rejected\":[{\"role\":\"assistant\",\"content\":\"r\"}]}",
     "-no_reply"},
    {"message_pairs",
     "{\"chosen\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":"
     "\"c\"}],\"rejected\":7}",
     "!ERR_FORMAT \"rejected\" is no list"},
    {"azure_pairs",
     "{\"input\":{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]},\"preferred_output\":[{"
     "\"role\":\"assistant\",\"content\":\"c\"}],\"non_preferred_output\":[{\"role\":"
     "\"assistant\",\"content\":\"r\"}]}",
     "u:q|+c|-r"},
    {"azure_pairs",
     "{\"input\":{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]},\"preferred_output\":[{"
     "\"role\":\"assistant\",\"content\":\"c\"}]}",
     "!ERR_FORMAT \"non_preferred_output\" is missing"},
    {"azure_pairs", "{\"input\":[],\"preferred_output\":[]}", "!ERR_FORMAT \"input\" is no object"},
    {"hh-rlhf",
     "{\"chosen\":\"\\n\\nHuman: q\\n\\nAssistant: a\\n\\nHuman: z\\n\\nAssistant: "
     "c\",\"rejected\":\"\\n\\nHuman: q\\n\\nAssistant: a\\n\\nHuman: z\\n\\nAssistant: cr\"}",
     "u:q|a:a|u:z|+c|-cr"},
    {"transcript_pairs",
     "{\"chosen\":\"\\n\\nHuman: q\\n\\nAssistant: c\",\"rejected\":\"\\n\\nHuman: "
     "z\\n\\nAssistant: c\"}",
     "-no_common_prompt"},
    {"transcript_pairs",
     "{\"chosen\":\"\\n\\nHuman: q\\n\\nAssistant: a\\n\\nHuman: z\\n\\nAssistant: "
     "c\",\"rejected\":\"\\n\\nHuman: q\\n\\nAssistant: a\"}",
     "-no_common_prompt"},
    {"transcript_pairs",
     "{\"chosen\":\"\\n\\nHuman: q\\n\\nAssistant:\",\"rejected\":\"\\n\\nHuman: "
     "q\\n\\nAssistant: r\"}",
     "-empty_reply"},
    {"transcript_pairs",
     "{\"chosen\":\"\\n\\nHuman: q\\n\\nAssistant: c \",\"rejected\":\"\\n\\nHuman: "
     "q\\n\\nAssistant: c\"}",
     "-identical"},
    {"transcript_pairs",
     "{\"chosen\":\"x\\n\\nHuman: q\\n\\nAssistant: c\",\"rejected\":\"x\\n\\nHuman: "
     "q\\n\\nAssistant: r\"}",
     "-unknown_role"},
    {"transcript_pairs",
     "{\"chosen\":\"\\n\\nHuman: q\\n\\nHuman: z\\n\\nAssistant: "
     "c\",\"rejected\":\"\\n\\nHuman: q\\n\\nHuman: z\\n\\nAssistant: r\"}",
     "-roles"},
    {"prompt_pairs", "{\"prompt\":\"p \",\"chosen\":\"c\",\"rejected\":\"r\"}", "u:p |+c|-r"},
    {"prompt_pairs", "{\"prompt\":\"\",\"chosen\":\"c\",\"rejected\":\"\"}", "-empty_reply"},
    {"alpaca_label", "{\"instruction\":\"i\",\"output\":\"o\",\"kto_tag\":true}", "u:i|+o"},
    {"kto", "{\"prompt\":\"p\",\"completion\":\"c\",\"label\":false}", "u:p|-c"},
    {"prompt_label",
     "{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"completion\":[{\"role\":"
     "\"assistant\",\"content\":\"c\"}],\"label\":1}",
     "u:q|+c"},
    {"prompt_label", "{\"prompt\":\"p\",\"completion\":\"c\",\"label\":\"yes\"}",
     "!ERR_FORMAT \"label\" is neither true nor false"},
    {"prompt_label", "{\"prompt\":\"p\",\"completion\":\"c\",\"label\":2}",
     "!ERR_FORMAT \"label\" is neither true nor false"},
    {"prompt_label", "{\"prompt\":\"p\",\"completion\":\"c\"}", "!ERR_FORMAT \"label\" is missing"},
    {"openai_label",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":"
     "\"a\"}],\"label\":true}",
     "u:q|+a"},
    {"openai_label",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":"
     "\"a\"},{\"role\":\"user\",\"content\":\"z\"}],\"label\":false}",
     "u:q|-a trail"},
    {"openai_label", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"}],\"label\":false}",
     "-no_reply"},
    {"sharegpt_label",
     "{\"conversations\":[{\"from\":\"gpt\",\"value\":\"x\"},{\"from\":\"human\",\"value\":"
     "\"q\"},{\"from\":\"gpt\",\"value\":\"a\"}],\"kto_tag\":false}",
     "u:q|-a lead"},
};

static void test_preferences(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof preferences / sizeof *preferences; i++) {
        char out[512];
        describe(preferences[i].format, preferences[i].record, out, sizeof out);
        assert_string_equal(out, preferences[i].want);
    }
}

static void test_strip(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {" \t\r\n\x0b\x0c\x1c\x1f", ""},
        {" a b ", "a b"},
        {"\xe3\x80\x80 \xc2\xa0x\xe2\x80\xa8\xc2\x85", "x"},
        {"\xe6\x97\xa9\xe4\xb8\x8a", "\xe6\x97\xa9\xe4\xb8\x8a"},
        {"\xe2\x80\x8b", "\xe2\x80\x8b"}, /* zero width space is none */
        {"\xf0\x9f\xa6\x99 ", "\xf0\x9f\xa6\x99"},
        {"\x80\x80", "\x80\x80"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct text t = text_strip((struct text){cases[i][0], strlen(cases[i][0])});
        assert_int_equal(t.n, strlen(cases[i][1]));
        assert_memory_equal(t.data, cases[i][1], t.n);
    }
}

static void test_detect(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want; /* a name, or part of the message */
    } cases[] = {
        {"{\"instruction\":\"\",\"input\":\"\",\"output\":\"\"}", "alpaca"},
        {"[{\"id\":1,\"conversations\":[]}]", "sharegpt"},
        {"{\"id\":\"\",\"system_prompt\":\"\",\"question\":\"\",\"response\":\"\"}", "openorca"},
        {"{\"messages\":[]}", "openai"},
        {"{\"prompt\":\"\",\"completion\":\"\"}", "prompt_completion"},
        {"{\"text\":\"x\",\"url\":\"y\"}", "text"},
        {"not even\n", "neither JSONL"},
        {"{broken\n{\"text\":\"x\"}\n", "text"},
        {"", "holds no record"},
        {"{\"a\":1,\"b\":2}", "no format fits records with the fields a, b"},
        {"{\"conversations\":[],\"chosen\":{},\"rejected\":{}}", "sharegpt_pairs"},
        {"{\"system\":\"\",\"question\":\"\",\"chosen\":\"\",\"rejected\":\"\"}", "orca_pairs"},
        {"{\"instruction\":\"\",\"input\":\"\",\"chosen\":\"\",\"rejected\":\"\"}", "alpaca_pairs"},
        {"{\"prompt\":\"\",\"prompt_id\":\"\",\"chosen\":[],\"rejected\":[],\"messages\":[]}",
         "message_pairs"},
        {"{\"input\":{\"messages\":[]},\"preferred_output\":[],\"non_preferred_output\":[]}",
         "azure_pairs"},
        {"{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant:\",\"rejected\":\"\"}", "transcript_pairs"},
        {"{\"prompt\":\"\",\"chosen\":\"\",\"rejected\":\"\"}", "prompt_pairs"},
        {"{\"instruction\":\"\",\"output\":\"\",\"kto_tag\":true}", "alpaca_label"},
        {"{\"prompt\":\"\",\"completion\":\"\",\"label\":true}", "prompt_label"},
        {"{\"messages\":[],\"label\":false}", "openai_label"},
        {"{\"conversations\":[],\"kto_tag\":false}", "sharegpt_label"},
        {"{\"chosen\":\"a\",\"rejected\":\"b\"}",
         "no format fits records with the fields chosen, rejected"},
        {Q({"instruction" : "", "response" : ""}), "dolly"},
        {Q({"instruction" : "", "input" : "", "response" : ""}), "gpteacher"},
        {Q({"instruction" : "", "input" : "", "context" : "", "response" : ""}),
         "fit several formats: dolly or gpteacher"},
        {Q({"instruction" : "", "input" : "", "response" : "", "output" : ""}), "alpaca"},
        {Q({"input" : "", "output" : ""}), "longform"},
        {Q({"instruction" : "", "instances" : []}), "self_instruct"},
        {Q({"prompt" : "", "response" : ""}), "prompt_completion"},
        {Q({"prompt" : [], "completion" : []}), "prompt_completion"},
        {Q({"prompt" : "", "prompt_id" : "", "messages" : []}), "openai"},
        {Q({"messages" : [], "conversations" : []}), "fit several formats: sharegpt or openai"},
        {Q({"text" : "### Human: a"}), "guanaco"},
        {Q({"input" : "### Human: a ### Assistant:", "output" : "", "text" : "### Human: a"}),
         "guanaco"},
        {Q({"message_tree_id" : "", "prompt" : {"text" : "", "role" : "prompter", "replies" : []}}),
         "oasst"},
        {Q({"message_id" : "", "parent_id" : null, "text" : "", "role" : "prompter"}), "oasst"},
        {"{\"text\":\"a\",\"label\":0}", "no format fits records with the fields text, label"},
    };
    char path[] = "/tmp/cria_format_XXXXXX";
    close(mkstemp(path));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        const struct format *f;
        assert_int_equal(io_write_file(path, cases[i].text, strlen(cases[i].text), &e), OK);
        enum status s = format_detect(path, NULL, NULL, &f, &e);
        if (s)
            assert_non_null(strstr(e.message, cases[i].want));
        else
            assert_string_equal(f->name, cases[i].want);
    }
    unlink(path);
    assert_null(format_find("nothing"));
}

static void test_allocation_failures(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"openai", Q({
             "tools" : [ {} ],
             "messages" : [
                 {"role" : "user", "content" : [ {"text" : "a"}, {"text" : "b"} ]}, {
                     "role" : "assistant",
                     "content" : "a",
                     "tool_calls" : [ {"name" : "f", "arguments" : {"x" : 1}} ]
                 }
             ]
         })},
        {"oasst_all", Q({
             "messages" : [
                 {"message_id" : "1", "role" : "prompter", "text" : "a"},
                 {"message_id" : "2", "parent_id" : "1", "role" : "assistant", "text" : "b"}
             ]
         })},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        json_t *value = NULL;
        enum status s = ERR_MEMORY;
        assert_int_equal(json_parse_text(cases[i][1], strlen(cases[i][1]), "test", &value, &e), OK);
        for (long k = 1; k < 100 && s; k++) {
            struct conversation c = {0};
            mem_fail_after(k);
            s = format_convert(format_find(cases[i][0]), value, &c, &e);
            mem_fail_after(0);
            conversation_free(&c);
            if (s) assert_int_equal(s, ERR_MEMORY);
        }
        assert_int_equal(s, OK);
        json_decref(value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convert),     cmocka_unit_test(test_rows),
        cmocka_unit_test(test_trees),       cmocka_unit_test(test_names),
        cmocka_unit_test(test_preferences), cmocka_unit_test(test_strip),
        cmocka_unit_test(test_detect),      cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

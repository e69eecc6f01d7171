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

/* "s:text|u:text+input|a:text*0.5|+chosen|-rejected", or "-reason", or "!STATUS message". */
static void describe(const char *format, const char *record, char *out, size_t size)
{
    struct err e = {0};
    struct conversation c = {0};
    json_t *value = NULL;
    size_t at = 0;
    assert_int_equal(json_parse_text(record, strlen(record), "test", &value, &e), OK);
    enum status s = format_convert(format_find(format), value, &c, &e);
    out[0] = 0;
    if (s)
        snprintf(out, size, "!%s %s", status_name(s), e.message);
    else if (c.drop)
        snprintf(out, size, "-%s", drop_name(c.drop));
    else
        for (size_t i = 0; i < c.num_turns; i++) {
            const struct turn *t = &c.turns[i];
            at += (size_t)snprintf(out + at, size - at, "%s%c:%.*s", i ? "|" : "", "suatx"[t->role],
                                   (int)t -> text.n, t->text.data);
            if (t->input.n)
                at +=
                    (size_t)snprintf(out + at, size - at, "+%.*s", (int)t->input.n, t->input.data);
            if (t->weight != 1) at += (size_t)snprintf(out + at, size - at, "*%g", t->weight);
        }
    if (!s && !c.drop && c.chosen.given)
        at += (size_t)snprintf(out + at, size - at, "|+%.*s", (int)c.chosen.text.n,
                               c.chosen.text.data);
    if (!s && !c.drop && c.rejected.given)
        at += (size_t)snprintf(out + at, size - at, "|-%.*s", (int)c.rejected.text.n,
                               c.rejected.text.data);
    if (!s && c.repairs & REPAIR_LEADING_REPLY)
        at += (size_t)snprintf(out + at, size - at, " lead");
    if (!s && c.repairs & REPAIR_TRAILING_QUESTION) snprintf(out + at, size - at, " trail");
    conversation_free(&c);
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
         "!ERR_FORMAT message 1 of \"messages\": a content part of type \"image_url\""},
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
        {"", "no readable record"},
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
        {"{\"text\":\"a\",\"label\":0}", "no format fits records with the fields text, label"},
    };
    char path[] = "/tmp/cria_format_XXXXXX";
    close(mkstemp(path));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        const struct format *f;
        assert_int_equal(io_write_file(path, cases[i].text, strlen(cases[i].text), &e), OK);
        enum status s = format_detect(path, 0, &f, &e);
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
    const char *record =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"a\"},{\"text\":"
        "\"b\"}]},{\"role\":\"assistant\",\"content\":\"a\"}]}";
    struct err e = {0};
    json_t *value = NULL;
    assert_int_equal(json_parse_text(record, strlen(record), "test", &value, &e), OK);
    for (long k = 1; k < 20; k++) {
        struct conversation c = {0};
        mem_fail_after(k);
        enum status s = format_convert(format_find("openai"), value, &c, &e);
        mem_fail_after(0);
        conversation_free(&c);
        if (!s) break;
        assert_int_equal(s, ERR_MEMORY);
    }
    json_decref(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convert),
        cmocka_unit_test(test_preferences),
        cmocka_unit_test(test_strip),
        cmocka_unit_test(test_detect),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Evaluation, answers and chat, as libraries: figures against those of other code, matches against
 * texts generated the ordinary way, a conversation's cache against one without. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "run/chat.h"
#include "run/eval_job.h"
#include "run/text_stream.h"
#include "support/tiny_run.h"

static struct tiny tiny;

/* A model that knows its few documents well enough to answer some of them right. */
static int setup(void **state)
{
    (void)state;
    tiny_init(&tiny);
    tiny_train(&tiny, "model",
               "max_steps=120 learning_rate=1e-2 val_size=6 eval_steps=none finetuning=full", 0);
    CHECK_OK(tiny.status, &tiny.err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

static struct evaluation evaluate(const struct eval_options *o, enum status wanted)
{
    static struct eval_job job;
    struct evaluation v = {0};
    struct err e = {0};
    enum status s = eval_job_open(&job, o, &e);
    if (!s) s = eval_job_run(&job, o, NULL, &v, &e);
    if (s != wanted) CHECK_OK(s ? s : ERR_DATA, &e);
    eval_job_close(&job);
    return v;
}

static struct config load_config(const char *more)
{
    struct config c = {0};
    struct err e = {0};
    char model[256], out[320], data[320];
    snprintf(model, sizeof model, "model_name_or_path=%s", TINY_MODEL);
    snprintf(out, sizeof out, "output_dir=%s/model", tiny.dir);
    snprintf(data, sizeof data, "datasets=%s/data.jsonl", tiny.dir);
    const char *items[] = {model, out, data, "template=orca", "max_length=256", more};
    CHECK_OK(config_load(&c, NULL, items, sizeof items / sizeof *items, &e), &e);
    return c;
}

/* eval CONFIG measures what the run measured on what it held out. */
static void test_held_out(void **state)
{
    (void)state;
    char path[256];
    struct err e = {0};
    json_t *history;
    struct config c = load_config("val_size=6");
    struct eval_options o = {.config = &c, .max_new_tokens = 32};
    struct evaluation v = evaluate(&o, OK);
    tiny_path(&tiny, "model/metrics.jsonl", path);
    CHECK_OK(metrics_history(path, &history, &e), &e);
    json_t *last = json_array_get(history, json_array_size(history) - 1);
    double loss = json_real_value(json_object_get(last, "eval_loss"));
    assert_true(fabs(loss - evaluate_mean_loss(&v.total)) < 1e-9 * loss); /* 12 digits are kept */
    assert_int_equal(json_integer_value(json_object_get(last, "eval_num_tokens")),
                     v.total.num_tokens);
    assert_int_equal(v.total.documents, 6);
    assert_false(v.has_match);
    json_decref(history);
    evaluation_free(&v);
    config_free(&c);
    c = load_config("val_size=0");
    v = evaluate(&o, ERR_CONFIG); /* nothing is held out */
    evaluation_free(&v);
    config_free(&c);
}

/* Two sources: each has its own figures, and they add up to the whole. */
static void test_sources(void **state)
{
    (void)state;
    char model[256], files[600], other[256];
    struct err e = {0};
    tiny_path(&tiny, "model", model);
    tiny_path(&tiny, "other.jsonl", other);
    const char *text = "{\"instruction\": \"Add 1 and 2.\", \"output\": \"3\"}\n"
                       "{\"instruction\": \"Say yes\", \"output\": \"yes\"}\n";
    CHECK_OK(io_write_file(other, text, strlen(text), &e), &e);
    snprintf(files, sizeof files, "%s/data.jsonl,%s", tiny.dir, other);
    struct eval_options o = {
        .model = model, .data = files, .answers = 1, .max_new_tokens = 32, .batch_size = 5};
    struct evaluation v = evaluate(&o, OK);
    const struct evaluate_score *a = &v.sources[0], *b = &v.sources[1], *all = &v.total;
    assert_int_equal(v.num_sources, 2);
    assert_int_equal(a->documents, TINY_RECORDS);
    assert_int_equal(b->documents, 2);
    assert_int_equal(a->num_tokens + b->num_tokens, all->num_tokens);
    assert_true(fabs(a->loss + b->loss - all->loss) < 1e-9 * all->loss);
    assert_int_equal(a->asked + b->asked, all->asked);
    assert_int_equal(all->asked, TINY_RECORDS + 2);
    assert_int_equal(a->exact + b->exact, all->exact);
    assert_true(all->exact <= all->prefix);
    o.data = other;
    struct evaluation alone = evaluate(&o, OK);
    assert_true(fabs(evaluate_mean_loss(&alone.total) - evaluate_mean_loss(b)) < 1e-5);
    evaluation_free(&alone);
    evaluation_free(&v);
}

static struct inference *open_inference(int64_t max_new_tokens, int64_t context)
{
    static struct inference f;
    static char model[256];
    struct err e = {0};
    tiny_path(&tiny, "model", model);
    struct inference_options o = {.model = model,
                                  .max_new_tokens = max_new_tokens,
                                  .context = context,
                                  .sampling = {.top_p = 1}};
    CHECK_OK(inference_open(&f, &o, &e), &e);
    return &f;
}

static int begins_with(struct text a, struct text b)
{
    return a.n >= b.n && !memcmp(a.data, b.data, b.n);
}

/* The matches are those of whole answers, generated by the code that writes them to a file. */
static void test_matches(void **state)
{
    (void)state;
    char model[256], data[256], answers[256];
    struct err e = {0};
    int64_t exact = 0, prefix = 0;
    struct buf text;
    tiny_path(&tiny, "model", model);
    tiny_path(&tiny, "data.jsonl", data);
    tiny_path(&tiny, "answers.jsonl", answers);
    struct inference *f = open_inference(32, 0);
    CHECK_OK(inference_file(f, data, answers, NULL, NULL, &e), &e);
    inference_close(f);
    buf_init(&text, 1 << 24);
    CHECK_OK(io_read_file(answers, &text, &e), &e);
    char *rest;
    for (char *line = strtok_r(text.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *o;
        CHECK_OK(json_parse_text(line, strlen(line), answers, &o, &e), &e);
        const char *said = json_string_value(json_object_get(o, "response"));
        const char *want = json_string_value(json_object_get(o, "reference"));
        struct text x = text_strip((struct text){said, strlen(said)});
        struct text y = text_strip((struct text){want, strlen(want)});
        prefix += begins_with(x, y);
        exact += begins_with(x, y) && x.n == y.n;
        json_decref(o);
    }
    buf_free(&text);
    struct eval_options o = {.model = model, .data = data, .answers = 1, .max_new_tokens = 32};
    struct evaluation v = evaluate(&o, OK);
    print_message("%d of %d answers are exact, %d by prefix\n", (int)exact, TINY_RECORDS,
                  (int)prefix);
    assert_int_equal(v.total.exact, exact);
    assert_int_equal(v.total.prefix, prefix);
    assert_true(exact > 0 && exact < TINY_RECORDS); /* or the test would prove nothing */
    evaluation_free(&v);
}

/* Plain text has no replies to ask for. */
static void test_no_replies(void **state)
{
    (void)state;
    char path[256];
    struct err e = {0};
    const char *text = "{\"text\": \"Once upon a time\"}\n{\"text\": \"there was a llama\"}\n";
    tiny_path(&tiny, "text.jsonl", path);
    CHECK_OK(io_write_file(path, text, strlen(text), &e), &e);
    struct eval_options o = {
        .model = TINY_MODEL, .data = path, .template = "orca", .max_new_tokens = 8};
    struct evaluation v = evaluate(&o, OK);
    assert_int_equal(v.total.documents, 2);
    evaluation_free(&v);
    o.answers = 1;
    v = evaluate(&o, ERR_DATA);
    assert_int_equal(v.total.no_answer, 2);
    evaluation_free(&v);
}

/* --- chat --- */

struct listening {
    struct buf text;
    atomic_int stop;
    int stop_after; /* pieces; 0: never */
};

static void listen_to(void *context, const char *text, size_t n)
{
    struct listening *l = context;
    assert_int_equal(buf_append(&l->text, text, n), OK);
    if (l->stop_after && !--l->stop_after) l->stop = 1;
}

static enum status say(struct chat *c, const char *text, struct listening *l,
                       struct chat_reply *reply, struct buf *answer, struct err *e)
{
    buf_clear(&l->text);
    buf_clear(answer);
    l->stop = 0;
    *reply = (struct chat_reply){
        .answer = {.text = answer, .grown = listen_to, .context = l, .stop = &l->stop}};
    return chat_say(c, text, reply, e);
}

struct talking {
    struct chat chat;
    struct listening l;
    struct buf answer;
    struct chat_reply reply;
};

static void talk_begin(struct talking *t, struct inference *f)
{
    *t = (struct talking){0};
    chat_init(&t->chat, f);
    buf_init(&t->l.text, 1 << 20);
    buf_init(&t->answer, 1 << 20);
}

static void talk_end(struct talking *t)
{
    chat_free(&t->chat);
    buf_free(&t->l.text);
    buf_free(&t->answer);
}

static void talk_say(struct talking *t, const char *text)
{
    struct err e = {0};
    CHECK_OK(say(&t->chat, text, &t->l, &t->reply, &t->answer, &e), &e);
}

/* Later turns feed the new message alone, and answer as a conversation fed whole does. */
static void test_cache(void **state)
{
    (void)state;
    static const char *const said[] = {"Add 3 and 10.", "Sure?", "Add 5 and 2."};
    struct inference *f = open_inference(16, 0);
    struct talking kept, fresh;
    struct err e = {0};
    talk_begin(&kept, f);
    talk_begin(&fresh, f);
    char answers[3][256];
    CHECK_OK(chat_set_system(&kept.chat, "Be brief.", &e), &e);
    for (int i = 0; i < 3; i++) {
        talk_say(&kept, said[i]);
        snprintf(answers[i], sizeof answers[i], "%s", kept.answer.data);
        assert_string_equal(kept.answer.data, kept.l.text.data); /* streamed = whole */
        if (i) assert_true(kept.reply.fed_tokens < kept.reply.prompt_tokens / 2);
    }
    assert_int_equal(kept.chat.num_messages, 7);
    CHECK_OK(chat_set_system(&fresh.chat, "Be brief.", &e), &e);
    for (int i = 0; i < 3; i++) {
        engine_decode_reset(&f->engine);
        talk_say(&fresh, said[i]);
        assert_int_equal(fresh.reply.fed_tokens, fresh.reply.prompt_tokens);
        assert_string_equal(fresh.answer.data, answers[i]);
    }
    chat_reset(&fresh.chat);
    assert_int_equal(fresh.chat.num_messages, 1);
    talk_say(&fresh, said[0]);
    assert_string_equal(fresh.answer.data, answers[0]);
    talk_end(&kept);
    talk_end(&fresh);
    inference_close(f);
}

/* A full context loses its oldest rounds; a message too long for it is refused and forgotten. */
static void test_context(void **state)
{
    (void)state;
    struct inference *f = open_inference(12, 120);
    struct talking t;
    struct err e = {0};
    char text[600];
    int forgotten = 0;
    talk_begin(&t, f);
    CHECK_OK(chat_set_system(&t.chat, "Be brief.", &e), &e);
    for (int i = 0; i < 8; i++) {
        talk_say(&t, "Add 3 and 10, please.");
        forgotten += t.reply.forgotten;
        assert_true(t.reply.prompt_tokens + 12 <= 120);
        assert_int_equal(t.chat.num_messages, 1 + 2 * (i + 1 - forgotten));
    }
    assert_true(forgotten > 0);
    assert_int_equal(t.chat.messages[0].role, ROLE_SYSTEM);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    size_t before = t.chat.num_messages;
    assert_int_equal(say(&t.chat, text, &t.l, &t.reply, &t.answer, &e), ERR_DATA);
    assert_non_null(strstr(e.message, "too long"));
    assert_int_equal(t.chat.num_messages, before);
    assert_int_equal(say(&t.chat, " \n", &t.l, &t.reply, &t.answer, &e), ERR_DATA);
    talk_end(&t);
    inference_close(f);
}

/* Stopped after two pieces, the answer so far stays in the conversation; it can be saved. */
static void test_stop_and_save(void **state)
{
    (void)state;
    char path[256];
    struct inference *f = open_inference(64, 0);
    struct talking t;
    struct err e = {0};
    struct buf saved;
    talk_begin(&t, f);
    tiny_path(&tiny, "saved.jsonl", path);
    assert_int_equal(chat_save(&t.chat, path, &e), ERR_DATA);
    t.l.stop_after = 1;
    talk_say(&t, "Add 3 and 10, please, and tell me how you did it.");
    assert_int_equal(t.reply.answer.end, GENERATE_LISTENER);
    assert_int_equal(t.chat.num_messages, 2);
    assert_string_equal(t.chat.messages[1].text, t.answer.data);
    CHECK_OK(chat_save(&t.chat, path, &e), &e);
    buf_init(&saved, 1 << 20);
    CHECK_OK(io_read_file(path, &saved, &e), &e);
    json_t *o;
    CHECK_OK(json_parse_text(saved.data, saved.len, path, &o, &e), &e);
    assert_int_equal(json_array_size(json_object_get(o, "messages")), 2);
    json_decref(o);
    buf_free(&saved);
    talk_end(&t);
    inference_close(f);
}

/* Every cut of a text into two pieces and into single bytes gives the text; what is no UTF-8 gives
 * U+FFFD once per maximal prefix, held back only while it may become a character. */
static void test_text_stream(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"a\u00e9\u2603\U0001F999z", "a\u00e9\u2603\U0001F999z"},
        {"\xff"
         "a\x80",
         "\uFFFD"
         "a\uFFFD"},
        {"\xe2\x98"
         "b",
         "\uFFFD"
         "b"},
        {"\xf0\x9f\xa6", "\uFFFD"},
        {"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *in = texts[i][0];
        size_t n = strlen(in);
        for (size_t cut = 0; cut <= n + 1; cut++) {
            struct text_stream s = {.num_held = 0};
            struct buf out;
            buf_init(&out, 256);
            for (size_t at = 0, step; at < n; at += step) {
                step = cut > n ? 1 : at < cut ? cut : n - at; /* single bytes, or two pieces */
                assert_int_equal(text_stream_push(&s, in + at, step, &out), OK);
                assert_true(s.num_held < 4);
            }
            assert_int_equal(text_stream_end(&s, &out), OK);
            assert_string_equal(out.data, texts[i][1]);
            buf_free(&out);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_out),      cmocka_unit_test(test_sources),
        cmocka_unit_test(test_matches),       cmocka_unit_test(test_no_replies),
        cmocka_unit_test(test_cache),         cmocka_unit_test(test_context),
        cmocka_unit_test(test_stop_and_save), cmocka_unit_test(test_text_stream),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

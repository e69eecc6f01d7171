/* cria generate: only the generated text goes to stdout. */
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "run/inference.h"

#define PROMPT_MAX ((size_t)1 << 26)

struct request {
    struct inference_options inference;
    const char *prompt, *data, *out, *system, *input;
    int64_t top_k, seed, threads;
};

static void write_piece(void *context, const char *bytes, size_t n)
{
    (void)context;
    fwrite(bytes, 1, n, stdout);
    fflush(stdout);
}

static void told(void *context, int64_t done, double share)
{
    static double began;
    char left[16];
    double now = clock_seconds();
    (void)context;
    if (began == 0) began = now;
    progress_show("%lld answered  %3.0f %%  %s left", (long long)done, 100 * share,
                  progress_time(share > 0 ? (now - began) * (1 - share) / share : 0, left));
}

static struct text as_text(const char *s)
{
    struct text t = {s, 0};
    while (s && s[t.n]) t.n++;
    return t;
}

static enum status make_prompt(struct inference *f, const struct request *r, struct id_list *ids,
                               struct err *e)
{
    struct conversation c = {0};
    if (r->inference.raw) return inference_raw_prompt(f, r->prompt, ids, e);
    enum status s = OK;
    if (r->system) s = conversation_add(&c, ROLE_SYSTEM, as_text(r->system));
    if (!s) s = conversation_add(&c, ROLE_USER, as_text(r->prompt));
    if (!s && r->input) c.turns[c.num_turns - 1].input = as_text(r->input);
    s = s ? err_set(e, s, "no memory for the prompt") : inference_prompt(f, &c, ids, e);
    conversation_free(&c);
    return s;
}

static enum status answer_prompt(struct inference *f, const struct request *r, struct err *e)
{
    struct id_list ids = {0};
    struct buf text;
    int live = isatty(STDOUT_FILENO);
    struct inference_answer a = {.text = &text, .grown = live ? write_piece : NULL};
    buf_init(&text, PROMPT_MAX);
    enum status s = make_prompt(f, r, &ids, e);
    if (!s) s = inference_answer(f, &ids, 0, &a, e);
    if (!s && !live) fwrite(text.data ? text.data : "", 1, text.len, stdout);
    if (!s) putchar('\n');
    if (!s && a.end == GENERATE_CACHE_FULL)
        progress_say("cria: the context of %d tokens is full", (int)f->engine.options.cache_rows);
    buf_free(&text);
    id_list_free(&ids);
    return s;
}

static enum status run(const struct request *r, struct err *e)
{
    static struct inference f; /* large, and only one */
    enum status s = inference_open(&f, &r->inference, e);
    if (!s)
        s = r->data ? inference_file(&f, r->data, r->out, told, NULL, e) : answer_prompt(&f, r, e);
    progress_clear();
    inference_close(&f);
    return s;
}

static enum status check(const struct request *r, struct err *e)
{
    if (!r->prompt == !r->data)
        return err_set(e, ERR_CONFIG, "give either --prompt TEXT or --data F with --out F.jsonl");
    if (r->data && !r->out) return err_set(e, ERR_CONFIG, "--data needs --out F.jsonl");
    if (r->data && r->inference.raw)
        return err_set(e, ERR_CONFIG, "--raw continues one --prompt; --data needs a template");
    if (r->data && (r->system || r->input))
        return err_set(e, ERR_CONFIG,
                       "--system and --input belong to --prompt; records bring their own");
    if (r->inference.raw && (r->system || r->input || r->inference.template))
        return err_set(e, ERR_CONFIG, "--raw takes no --system, --input or --template");
    if (r->seed < 0 || r->top_k < 0 || r->top_k > INT32_MAX || r->threads < 0 || r->threads > 4096)
        return err_set(e, ERR_CONFIG, "--seed, --top-k and --threads must be 0 or more");
    return OK;
}

enum status verb_generate(const struct cli_verb *v, int argc, char **argv, struct err *e)
{
    struct request r = {
        .inference = {.device = "auto", .max_new_tokens = 256, .sampling = {.top_p = 1}},
        .seed = 42};
    struct sampler_options *sampling = &r.inference.sampling;
    struct cli_option options[] = {
        {"--model", CLI_TEXT, &r.inference.model, "DIR", "model directory", 0},
        {"--adapter", CLI_TEXT, &r.inference.adapter, "DIR", "LoRA adapter, cria's or PEFT's", 0},
        {"--prompt", CLI_TEXT, &r.prompt, "TEXT", "the instruction or message", 0},
        {"--input", CLI_TEXT, &r.input, "TEXT", "Alpaca's second field", 0},
        {"--system", CLI_TEXT, &r.system, "TEXT", "system message, where the template has one", 0},
        {"--data", CLI_TEXT, &r.data, "F", "answer every record of a dataset file", 0},
        {"--out", CLI_TEXT, &r.out, "F.jsonl", "where to write those answers", 0},
        {"--template", CLI_TEXT, &r.inference.template, "T", "default: what cria.json says", 0},
        {"--raw", CLI_FLAG, &r.inference.raw, NULL, "no template: continue the text as it is", 0},
        {"--max-new-tokens", CLI_INT, &r.inference.max_new_tokens, "N", "at most (256)", 0},
        {"--context", CLI_INT, &r.inference.context, "N", "tokens of prompt and answer", 0},
        {"--temperature", CLI_REAL, &sampling->temperature, "T", "0: always the likeliest (0)", 0},
        {"--top-k", CLI_INT, &r.top_k, "K", "sample among the K likeliest; 0: all (0)", 0},
        {"--top-p", CLI_REAL, &sampling->top_p, "P", "sample among the likeliest that reach P (1)",
         0},
        {"--seed", CLI_INT, &r.seed, "S", "of the sampling (42)", 0},
        {"--device", CLI_TEXT, &r.inference.device, "D", "auto, cpu or cuda (auto)", 0},
        {"--threads", CLI_INT, &r.threads, "N", "CPU threads; 0: all (0)", 0},
    };
    struct cli_args args = {.options = options, .num_options = sizeof options / sizeof *options};
    TRY(cli_parse(v, &args, argc, argv, e));
    if (args.help) return OK;
    TRY(cli_require(v, &args, "--model", e));
    TRY(check(&r, e));
    sampling->top_k = (int32_t)r.top_k;
    sampling->seed = (uint64_t)r.seed;
    r.inference.threads = (int)r.threads;
    return run(&r, e);
}

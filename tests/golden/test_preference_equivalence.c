/* What must not change a run of preferences, as DESIGN 5 states it. Bit for bit: running again, one
 * thread or two, stopping and resuming, checkpointing activations, in the first epoch a reference
 * computed beforehand or beside the policy, by turning the adapter off or from a second model. To
 * 1e-5: a shared or a repeated prompt, packing, micro-batches. And what the reference is. */
#include "support/tiny_run.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/mem.h"
#include "run/new_model.h"

#define FULL "finetuning=full "
#define LORA "finetuning=lora lora_r=4 "
#define ADAPTER "adapter_model.safetensors"
#define MODEL "model.safetensors"

static struct tiny tiny;
static char dpo[320], kto[320]; /* stage and data */

static int setup(void **state)
{
    (void)state;
    tiny_init(&tiny);
    snprintf(dpo, sizeof dpo, "stage=dpo datasets=%s/pairs.jsonl learning_rate=5e-3 ", tiny.dir);
    snprintf(kto, sizeof kto, "stage=kto datasets=%s/labels.jsonl learning_rate=5e-3 ", tiny.dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_free(&tiny);
    return 0;
}

static void train(const char *out, const char *stage, const char *overrides)
{
    char all[1024];
    snprintf(all, sizeof all, "%s%s", stage, overrides);
    tiny_train(&tiny, out, all, 0);
    CHECK_OK(tiny.status, &tiny.err);
}

static void assert_same(const char *a, const char *b, const char *file)
{
    char x[64], y[64];
    snprintf(x, sizeof x, "%s/%s", a, file);
    snprintf(y, sizeof y, "%s/%s", b, file);
    if (!tiny_same(&tiny, x, y)) fail_msg("%s and %s differ", x, y);
}

/* Two ways to run that must leave the same file. */
static void same_runs(const char *name, const char *stage, const char *file, const char *a,
                      const char *b)
{
    char one[64], other[64];
    snprintf(one, sizeof one, "%s_1", name);
    snprintf(other, sizeof other, "%s_2", name);
    train(one, stage, a);
    train(other, stage, b);
    assert_same(one, other, file);
}

static void compare_runs(const char *name, const char *stage, const char *a, const char *b)
{
    double losses[TINY_STEPS_MAX], norms[TINY_STEPS_MAX], loss = 0, norm = 0;
    char out[64];
    snprintf(out, sizeof out, "%s_a", name);
    train(out, stage, a);
    memcpy(losses, tiny.losses, sizeof losses);
    memcpy(norms, tiny.norms, sizeof norms);
    snprintf(out, sizeof out, "%s_b", name);
    train(out, stage, b);
    assert_int_equal(tiny.num_steps, 8);
    for (int i = 0; i < 8; i++) {
        loss = fmax(loss, fabs(losses[i] - tiny.losses[i]) / fabs(losses[i]));
        norm = fmax(norm, fabs(norms[i] - tiny.norms[i]) / norms[i]);
    }
    print_message("%-12s losses within %.1e, gradient norms within %.1e\n", name, loss, norm);
    assert_true(loss <= 1e-5 && norm <= 1e-5);
}

/* --- bit for bit --- */

static void test_rerun(void **state)
{
    (void)state;
    same_runs("rerun", dpo, ADAPTER, LORA "threads=2", LORA "threads=2");
    same_runs("threads", dpo, ADAPTER, LORA "threads=1", LORA "threads=2");
    same_runs("threads_full", dpo, MODEL, FULL "threads=1", FULL "threads=2");
    same_runs("threads_kto", kto, ADAPTER, LORA "threads=1", LORA "threads=2");
}

static void test_checkpointing(void **state)
{
    (void)state;
    same_runs("kept", dpo, ADAPTER,
              LORA "lora_dropout=0.1 disable_dropout=false gradient_checkpointing=none",
              LORA "lora_dropout=0.1 disable_dropout=false gradient_checkpointing=full");
    same_runs("partly", dpo, ADAPTER,
              LORA "lora_dropout=0.1 disable_dropout=false gradient_checkpointing=none",
              LORA "lora_dropout=0.1 disable_dropout=false gradient_checkpointing=selective");
    same_runs("kept_full", dpo, MODEL, FULL "gradient_checkpointing=none",
              FULL "gradient_checkpointing=full");
    same_runs("partly_full", dpo, MODEL, FULL "gradient_checkpointing=selective",
              FULL "gradient_checkpointing=auto");
}

/* Stopped after the third update, then resumed. */
static void resume_case(const char *name, const char *stage, const char *kind, const char *file)
{
    char whole[64], cut[64], overrides[512];
    snprintf(whole, sizeof whole, "%s_whole", name);
    snprintf(cut, sizeof cut, "%s_cut", name);
    train(whole, stage, kind);
    snprintf(overrides, sizeof overrides, "%s%s", stage, kind);
    tiny_train(&tiny, cut, overrides, 3);
    assert_int_equal(tiny.status, ERR_STOPPED);
    snprintf(overrides, sizeof overrides, "%s resume_from_checkpoint=auto", kind);
    train(cut, stage, overrides);
    assert_int_equal(tiny.first_step, 4);
    assert_same(whole, cut, file);
}

static void test_resume(void **state)
{
    (void)state;
    resume_case("r_lora", dpo, LORA, ADAPTER);
    resume_case("r_full", dpo, FULL, MODEL);
    resume_case("r_lora_known", dpo, LORA "precompute_ref_log_probs=true", ADAPTER);
    resume_case("r_full_known", dpo, FULL "precompute_ref_log_probs=true", MODEL);
    resume_case("r_packed", dpo, LORA "packing=true", ADAPTER);
    resume_case("r_kto", kto, LORA, ADAPTER);
}

/* An epoch has six steps here. In later ones records lie in other micro-batches than those that the
 * reference was run over, and OpenBLAS has another kernel for small products: 1e-5 then. A sidecar
 * made with shared prompts serves plain runs too, whose bits it does not have: another max_length
 * makes one of its own. */
static void test_precomputed(void **state)
{
    (void)state;
    const char *known = "max_steps=6 precompute_ref_log_probs=true ";
    static const char *const kinds[] = {LORA "max_steps=6 ", LORA "max_steps=6 ld_alpha=0.5 ",
                                        LORA "max_steps=6 prefix_sharing=false max_length=255 ",
                                        FULL "max_steps=6 "};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[32], with[256];
        snprintf(name, sizeof name, "known%zu", i);
        snprintf(with, sizeof with, "%s%s", kinds[i], known);
        same_runs(name, dpo, strstr(kinds[i], "full") ? MODEL : ADAPTER, kinds[i], with);
    }
    same_runs("known_kto", kto, ADAPTER, LORA, LORA "precompute_ref_log_probs=true");
    compare_runs("known", dpo, LORA "prefix_sharing=false packing=true",
                 LORA "prefix_sharing=false packing=true precompute_ref_log_probs=true");
}

/* --- the reference --- */

/* The adapter off, with all that it trains, is the base from the file. */
static void test_adapter_off(void **state)
{
    (void)state;
    const char *base = " ref_model=" TINY_MODEL;
    static const char *const kinds[] = {LORA, LORA "modules_to_save=embed_tokens,norm",
                                        LORA "trainable_tokens=<s>,</s>", FULL,
                                        LORA "trainable_tokens=<s> precompute_ref_log_probs=true"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[32], with[256];
        snprintf(name, sizeof name, "off%zu", i);
        snprintf(with, sizeof with, "%s%s", kinds[i], base);
        same_runs(name, dpo, strstr(kinds[i], "full") ? MODEL : ADAPTER, kinds[i], with);
    }
}

/* Before the first update the policy is its reference: the loss is log 2. */
static int starts_even(void) { return fabs(tiny.losses[0] - log(2)) < 1e-12; }

/* An SFT adapter, as it is or merged, goes on into DPO, and is the reference. */
static void test_chain(void **state)
{
    (void)state;
    char sft[256], merged[256], overrides[1024];
    double losses[TINY_STEPS_MAX], worst = 0;
    struct err e = {0};
    train("sft", "", LORA "learning_rate=1e-2");
    tiny_path(&tiny, "sft", sft);
    tiny_path(&tiny, "merged", merged);
    CHECK_OK(new_model_merge(TINY_MODEL, sft, merged, FILE_TYPES, &e), &e);
    snprintf(overrides, sizeof overrides, "finetuning=lora adapter_name_or_path=%s", sft);
    train("chain", dpo, overrides);
    assert_true(starts_even());
    memcpy(losses, tiny.losses, sizeof losses);
    snprintf(overrides, sizeof overrides, "finetuning=lora lora_r=4 model_name_or_path=%s", merged);
    train("chain_merged", dpo, overrides);
    assert_true(starts_even());
    assert_true(fabs(tiny.losses[7] - losses[7]) > 1e-9); /* another start for B */
    snprintf(overrides, sizeof overrides, "finetuning=lora adapter_name_or_path=%s ref_model=%s",
             sft, merged);
    train("chain_ref", dpo, overrides);
    for (int i = 0; i < 8; i++) worst = fmax(worst, fabs(losses[i] - tiny.losses[i]));
    print_message("frozen adapter against merged reference %.1e\n", worst);
    assert_true(worst < 1e-5);
    snprintf(overrides, sizeof overrides, "finetuning=lora adapter_name_or_path=%s ref_adapter=%s",
             sft, sft);
    train("chain_named", dpo, overrides);
    assert_same("chain", "chain_named", ADAPTER);
    snprintf(overrides, sizeof overrides,
             "finetuning=lora adapter_name_or_path=%s precompute_ref_log_probs=true", sft);
    train("chain_known", dpo, overrides);
    assert_same("chain", "chain_known", ADAPTER);
    snprintf(overrides, sizeof overrides,
             "finetuning=lora adapter_name_or_path=%s ref_adapter=base", sft);
    train("chain_base", dpo, overrides);
    assert_false(starts_even());
    snprintf(overrides, sizeof overrides, "finetuning=lora lora_r=5 adapter_name_or_path=%s", sft);
    snprintf(overrides + strlen(overrides), sizeof overrides - strlen(overrides), " %s", dpo);
    tiny_train(&tiny, "chain_bad", overrides, 0);
    assert_int_equal(tiny.status, ERR_CONFIG);
    assert_non_null(strstr(tiny.err.message, "lora_r"));
}

/* --- to 1e-5 --- */

/* The first micro-batch's loss and gradient under this config, alone. */
struct gradient {
    double loss;
    float *g; /* heap */
    size_t n;
};

static void take_gradient(const char *stage, const char *overrides, struct gradient *out)
{
    static struct session session;
    struct config c = {0};
    struct err e = {0};
    struct batch b;
    struct loader_step plan;
    struct preference_sums sums = {0};
    char text[1024];
    const char *items[32];
    size_t n = 0;
    snprintf(text, sizeof text,
             "model_name_or_path=" TINY_MODEL " output_dir=%s/never template=orca max_length=256 "
             "per_device_train_batch_size=6 %s%s",
             tiny.dir, stage, overrides);
    for (char *rest, *at = strtok_r(text, " ", &rest); at; at = strtok_r(NULL, " ", &rest))
        items[n++] = at;
    CHECK_OK(config_load(&c, NULL, items, n, &e), &e);
    CHECK_OK(session_open(&session, &c, NULL, &e), &e);
    struct engine *g = &session.engine;
    for (int32_t i = 0; i < g->params.count; i++) { /* B is 0 at first, and hides what A gets */
        struct param *p = &g->params.params[i];
        for (size_t k = 0; p->trainable && g->has_lora && k < p->n; k++)
            ((float *)p->data)[k] = (float)sin((double)(k + 1) * (i + 1)) / 20;
    }
    CHECK_OK(loader_step(session.train_loader, 0, &plan, &e), &e);
    CHECK_OK(loader_batch(session.train_loader, 0, 0, &b, &e), &e);
    struct align_train t = {&plan, 1, 0, session.known};
    CHECK_OK(align_train(&session.align, g, &b, &t, &sums, &e), &e);
    out->loss = preference_loss_mean(&sums);
    out->n = g->params.flat_count;
    out->g = mem_calloc(out->n, sizeof(float));
    assert_non_null(out->g);
    memcpy(out->g, g->params.flat_grad, out->n * sizeof(float));
    session_close(&session);
    config_free(&c);
}

static void test_shared_prefix(void **state)
{
    (void)state;
    static const struct {
        const char *name, *overrides;
        int is_kto;
    } cases[] = {
        {"lora", LORA, 0},
        {"full", FULL, 0},
        {"ipo", LORA "loss_type=ipo", 0},
        {"orpo", FULL "loss_type=orpo", 0},
        {"simpo", LORA "loss_type=simpo", 0},
        {"sft", LORA "loss_type=sigmoid,sft ld_alpha=0.5 use_weighting=true", 0},
        {"saved", LORA "modules_to_save=lm_head", 0},
        {"kto", LORA, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct gradient shared = {0}, plain = {0};
        char off[256];
        const char *stage = cases[i].is_kto ? kto : dpo;
        snprintf(off, sizeof off, "%s prefix_sharing=false", cases[i].overrides);
        take_gradient(stage, cases[i].overrides, &shared);
        take_gradient(stage, off, &plain);
        double loss = fabs(shared.loss - plain.loss) / fabs(plain.loss);
        double gradient = check_distance(shared.g, plain.g, plain.n);
        print_message("%-6s shared against plain: loss %.1e, gradient %.1e\n", cases[i].name, loss,
                      gradient);
        assert_true(loss <= 1e-5 && gradient <= 1e-5);
        mem_free(shared.g);
        mem_free(plain.g);
    }
}

#define ALL "per_device_train_batch_size=24 gradient_accumulation_steps=1 "
#define ONE "per_device_train_batch_size=6 gradient_accumulation_steps=1 "
#define MANY "per_device_train_batch_size=1 gradient_accumulation_steps=6 "

static void test_packing(void **state)
{
    (void)state;
    compare_runs("pack_lora", dpo, LORA ALL, LORA ALL "packing=true");
    compare_runs("pack_full", dpo, FULL ALL, FULL ALL "packing=true");
    compare_runs("pack_orpo", dpo, LORA ALL "loss_type=orpo",
                 LORA ALL "packing=true loss_type=orpo");
}

static void test_micro_batches(void **state)
{
    (void)state;
    compare_runs("micro_lora", dpo, LORA ONE, LORA MANY);
    compare_runs("micro_full", dpo, FULL ONE, FULL MANY);
    compare_runs("micro_sft", dpo, LORA ONE "loss_type=sigmoid,sft",
                 LORA MANY "loss_type=sigmoid,sft");
    compare_runs("micro_simpo", dpo, LORA ONE "loss_type=simpo", LORA MANY "loss_type=simpo");
    compare_runs("micro_orpo", dpo, LORA ONE "loss_type=orpo", LORA MANY "loss_type=orpo");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rerun),         cmocka_unit_test(test_checkpointing),
        cmocka_unit_test(test_resume),        cmocka_unit_test(test_precomputed),
        cmocka_unit_test(test_adapter_off),   cmocka_unit_test(test_chain),
        cmocka_unit_test(test_shared_prefix), cmocka_unit_test(test_packing),
        cmocka_unit_test(test_micro_batches),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

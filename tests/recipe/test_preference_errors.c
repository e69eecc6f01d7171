/* What people get wrong about preferences, and what cria says to it (support/bad.h). */
#include "support/bad.h"

#define TRAIN "train c.yaml "
#define DPO TRAIN "stage=dpo datasets=p.jsonl "

/* clang-format off */
static const struct bad table[] = {
    {"options: a loss with a slip", "", DPO "loss_type=sigmoyd", 2,
     "command line: loss_type: there is no loss \"sigmoyd\"", "did you mean sigmoid?", 0},
    {"options: a loss nobody has", "append c.yaml stage: dpo\\nloss_type: [sigmoid, zzzzzz]",
     TRAIN "datasets=p.jsonl", 2,
     "c.yaml:7:12: loss_type: there is no loss \"zzzzzz\"", "there are sigmoid, hinge, ipo", 0},
    {"options: a loss of the other stage", "", DPO "loss_type=kto", 2,
     "command line: loss_type: kto is no loss of stage dpo", "it is for stage kto", 0},
    {"options: a stage and another loss", "", TRAIN "stage=simpo loss_type=ipo", 2,
     "command line: stage: simpo is another loss than loss_type", "write stage: dpo and keep", 0},
    {"options: too few weights", "", DPO "loss_type=sigmoid,sft loss_weights=1", 2,
     "command line: loss_weights: 1 weights for 2 losses", "give one for each of loss_type", 0},
    {"options: a word for a weight", "", DPO "loss_weights=much", 2,
     "command line: loss_weights: 'much' is not a number", "cria train --help says more", 0},
    {"options: an option that the loss does not use", "", DPO "simpo_gamma=1", 2,
     "command line: simpo_gamma: means nothing to loss_type sigmoid", "leave it out, or choose among simpo", 0},
    {"options: smoothing that exo lacks", "", DPO "loss_type=exo_pair", 2,
     "label_smoothing: loss_type exo_pair needs label_smoothing", "its paper recommends label_smoothing: 1e-3", 0},
    {"options: dropout while aligning", "", DPO "finetuning=lora lora_dropout=0.1", 2,
     "command line: lora_dropout: 0.1 has no effect with disable_dropout (default) true",
     "set lora_dropout: 0, or disable_dropout: false", 0},
    {"reference: a reference for a loss without one", "", DPO "loss_type=orpo ref_model=m", 2,
     "command line: ref_model: has no effect with loss_type orpo", "remove it, or choose a loss", 0},
    {"reference: a reference that is no model", "", DPO "ref_model=a", 2,
     "command line: ref_model: a holds no model", "give a directory with config.json", 0},
    {"reference: a reference of another shape",
     "dir r\nwrite r/config.json {`model_type`: `llama`, `hidden_size`: 64, `intermediate_size`: 64, "
     "`num_hidden_layers`: 1, `num_attention_heads`: 4, `vocab_size`: 311}",
     DPO "ref_model=r", 2,
     "command line: ref_model: r is of another shape than m", "the same family and sizes", 0},
    {"reference: two references", "", DPO "finetuning=lora ref_model=m ref_adapter=a", 2,
     "command line: ref_adapter: an adapter of the base; ref_model is another model",
     "merge it into that model with cria merge", 0},
    {"reference: an adapter to go on from that is none", "",
     DPO "finetuning=lora adapter_name_or_path=m", 2,
     "command line: adapter_name_or_path: m holds no adapter", "give a directory with adapter", 0},
    {"reference: an adapter of another rank", "",
     DPO "finetuning=lora adapter_name_or_path=a lora_r=3", 2,
     "command line: lora_r: 3; the adapter to go on from has", "leave it out: adapter_name_or_path", 0},
    {"reference: an adapter of the reference of another rank", "",
     DPO "finetuning=lora lora_r=3 ref_adapter=a", 2,
     "ref_adapter: the adapter a does not fit this run", "rank and modules must be the same", ADDS},
    {"reference: an adapter as the model", "", DPO "model_name_or_path=a", 2,
     "command line: model_name_or_path: a is an adapter", "name its base here, and the adapter in", 0},
    {"records: instructions instead of pairs", "", TRAIN "stage=dpo", 4,
     "d.jsonl: holds texts to learn (format alpaca), this run wants pairs", "set stage: sft", 0},
    {"records: pairs instead of instructions", "", TRAIN "datasets=p.jsonl", 4,
     "p.jsonl: holds pairs of a chosen and a rejected reply", "set stage: dpo", 0},
    {"records: labels instead of pairs", "", TRAIN "stage=dpo datasets=k.jsonl", 4,
     "k.jsonl: holds replies with a label", "set stage: kto", 0},
    {"records: kto of one reply at a time", "",
     TRAIN "stage=kto datasets=k.jsonl per_device_train_batch_size=1", 2,
     "command line: per_device_train_batch_size: 1 leaves no other reply", "set it to 2 or more", 0},
    {"later: resumed with another beta", "run " DPO "max_steps=2 save_steps=1", DPO
     "max_steps=2 save_steps=1 beta=0.2 resume_from_checkpoint=auto", 2,
     "cannot resume: beta was \"0.1\", now it is \"0.2\"", "resume with what the run began with", 0},
    {"later: resumed with another reference",
     "model\nrun init --config m/config.json --out r\nrun " DPO "max_steps=2 save_steps=1",
     DPO "max_steps=2 save_steps=1 ref_model=r resume_from_checkpoint=auto", 2,
     "cannot resume: reference was ", "resume with what the run began with", 0},
    {"later: evaluated with a negative beta", "",
     "eval --model m --data p.jsonl --template orca --beta -1", 2,
     "--beta is -1; it must be above 0", "cria eval --help says more", 0},
};
/* clang-format on */

#define ROWS (sizeof table / sizeof *table)

static void run_section(void **state) { bad_run_section(table, ROWS, *state); }

static void test_table(void **state)
{
    (void)state;
    assert_true(ROWS >= 20);
    bad_check_table(table, ROWS);
}

#define SECTION(name)                           \
    {                                           \
        name, run_section, NULL, NULL, name ":" \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table), SECTION("options"), SECTION("reference"),
        SECTION("records"),           SECTION("later"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

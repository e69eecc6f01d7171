/* The examples of other tools, as they stand there but for paths and what is not trained here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "config/config.h"

static void quiet(enum log_level level, const char *text) { (void)level, (void)text; }

static void load_ok(struct config *c, const char *text, const char *tool)
{
    char path[] = "/tmp/cria-peersXXXXXX", message[1024];
    struct err e = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    log_set_sink(quiet);
    enum status s = config_load(c, path, NULL, 0, &e);
    log_set_sink(NULL);
    unlink(path);
    err_format(&e, message, sizeof message);
    if (s) fail_msg("%s: %s", tool, message);
}

static void test_whole_configs(void **state)
{
    (void)state;
    struct config c;
    load_ok(&c,
            "base_model: NousResearch/Llama-2-7b-hf\nmodel_type: LlamaForCausalLM\n"
            "tokenizer_type: LlamaTokenizer\nload_in_8bit: false\nload_in_4bit: false\n"
            "strict: false\ndatasets:\n  - path: alpaca.json\n    type: alpaca\n"
            "dataset_prepared_path:\nval_set_size: 0.05\noutput_dir: ./outputs/lora-out\n"
            "sequence_len: 4096\nsample_packing: true\neval_sample_packing: false\n"
            "pad_to_sequence_len: true\nadapter: lora\nlora_model_dir:\nlora_r: 32\n"
            "lora_alpha: 16\nlora_dropout: 0.05\nlora_target_linear: true\n"
            "lora_fan_in_fan_out:\nwandb_project:\nwandb_entity:\nwandb_watch:\nwandb_name:\n"
            "wandb_log_model:\ngradient_accumulation_steps: 4\nmicro_batch_size: 2\n"
            "num_epochs: 4\noptimizer: adamw_bnb_8bit\nlr_scheduler: cosine\n"
            "learning_rate: 0.0002\ntrain_on_inputs: false\ngroup_by_length: false\n"
            "bf16: auto\nfp16:\ntf32: false\ngradient_checkpointing: true\n"
            "early_stopping_patience:\nresume_from_checkpoint:\nlocal_rank:\nlogging_steps: 1\n"
            "xformers_attention:\nflash_attention: true\nwarmup_steps: 10\neval_table_size:\n"
            "evals_per_epoch:\nsaves_per_epoch:\ndebug:\ndeepspeed:\nweight_decay: 0.0\nfsdp:\n"
            "fsdp_config:\nspecial_tokens:\n",
            "axolotl");
    assert_int_equal(c.precision, CONFIG_PRECISION_AUTO);
    assert_int_equal(c.lora_r, 32);
    config_free(&c);
    load_ok(&c,
            "model_name_or_path: llama\ntrust_remote_code: true\nstage: sft\ndo_train: true\n"
            "finetuning_type: lora\nlora_rank: 8\nlora_target: all\ndataset: a.json\n"
            "template: llama3\ncutoff_len: 2048\nmax_samples: 1000\noverwrite_cache: true\n"
            "preprocessing_num_workers: 16\ndataloader_num_workers: 4\noutput_dir: saves/lora\n"
            "logging_steps: 10\nsave_steps: 500\nplot_loss: true\noverwrite_output_dir: true\n"
            "save_only_model: false\nreport_to: none\nper_device_train_batch_size: 1\n"
            "gradient_accumulation_steps: 8\nlearning_rate: 1.0e-4\nnum_train_epochs: 3.0\n"
            "lr_scheduler_type: cosine\nwarmup_ratio: 0.1\nbf16: true\nddp_timeout: 180000000\n"
            "resume_from_checkpoint: null\nval_size: 0.1\nper_device_eval_batch_size: 1\n"
            "eval_strategy: steps\neval_steps: 500\n",
            "LLaMA-Factory");
    assert_int_equal(c.precision, CONFIG_PRECISION_BF16);
    assert_int_equal(c.eval_steps, 500);
    config_free(&c);
    load_ok(&c,
            "model_name_or_path: llama\ndata_path: a.json\nbf16: true\noutput_dir: vicuna\n"
            "num_train_epochs: 3\nper_device_train_batch_size: 2\ngradient_accumulation_steps: 16\n"
            "evaluation_strategy: 'no'\nsave_strategy: steps\nsave_steps: 1200\n"
            "save_total_limit: 10\nlearning_rate: 2e-5\nweight_decay: 0.\nwarmup_ratio: 0.03\n"
            "lr_scheduler_type: cosine\nlogging_steps: 1\ntf32: false\nmodel_max_length: 2048\n"
            "gradient_checkpointing: true\nlazy_preprocess: true\n",
            "FastChat");
    assert_int_equal(c.save_steps, 1200);
    assert_int_equal(c.eval_steps, 0);
    config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole_configs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

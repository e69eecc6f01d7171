/* The words of other tools: their names for our keys, for our values and for a dataset's members,
 * and the names that nothing here answers to. */
#include <string.h>
#include <strings.h>

#include "config/table.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* clang-format off */
#define SAME(spelling, key, tool) {spelling, tool, KEY_##key, 0, NULL, NULL, NULL}
#define FLAG(spelling, key, yes, no, tool) {spelling, tool, KEY_##key, 0, yes, no, "auto"}
#define WHEN(spelling, key, silent, tool) {spelling, tool, KEY_##key, 0, NULL, NULL, silent}
/* clang-format on */

const struct config_alias config_aliases[] = {
    SAME("base_model", model_name_or_path, "axolotl"),
    SAME("micro_batch_size", per_device_train_batch_size, "axolotl"),
    SAME("eval_batch_size", per_device_eval_batch_size, "axolotl"),
    SAME("num_epochs", num_train_epochs, "axolotl"),
    SAME("sequence_len", max_length, "axolotl"),
    SAME("sample_packing", packing, "axolotl"),
    SAME("val_set_size", val_size, "axolotl"),
    SAME("test_datasets", eval_dataset, "axolotl"),
    SAME("lr_scheduler", lr_scheduler_type, "axolotl"),
    SAME("cosine_min_lr_ratio", min_lr_rate, "axolotl"),
    SAME("optimizer", optim, "axolotl"),
    SAME("adam_eps", adam_epsilon, "axolotl"),
    SAME("adapter", finetuning, "axolotl"),
    SAME("chat_template", template, "axolotl"),
    SAME("peft_use_rslora", use_rslora, "axolotl"),
    FLAG("lora_target_linear", lora_target_modules, "all-linear", NULL, "axolotl"),
    FLAG("train_on_inputs", train_on, "all", "assistant", "axolotl"),
    SAME("lora_modules_to_save", modules_to_save, "axolotl"),
    SAME("additional_target", modules_to_save, "LLaMA-Factory"),
    FLAG("disable_shuffling", order, "sequential", "shuffled", "LLaMA-Factory"),
    FLAG("curriculum_sampling", order, "sequential", "shuffled", "axolotl"),
    SAME("stopping_strategy", mix_strategy, "datasets"),
    SAME("cutoff_len", max_length, "LLaMA-Factory"),
    SAME("dataset", datasets, "LLaMA-Factory"),
    SAME("finetuning_type", finetuning, "LLaMA-Factory"),
    SAME("lora_rank", lora_r, "LLaMA-Factory"),
    SAME("lora_target", lora_target_modules, "LLaMA-Factory"),
    SAME("neat_packing", packing, "LLaMA-Factory"),
    FLAG("train_on_prompt", train_on, "all", "assistant", "LLaMA-Factory"),
    FLAG("mask_history", train_on, "last", "assistant", "LLaMA-Factory"),
    SAME("model_max_length", max_length, "FastChat"),
    SAME("data_path", datasets, "FastChat"),
    SAME("eval_data_path", eval_dataset, "FastChat"),
    SAME("max_seq_length", max_length, "TRL"),
    SAME("max_seq_len", max_length, "torchtune"),
    SAME("train_dataset", datasets, "TRL"),
    SAME("dataset_name", datasets, "TRL"),
    SAME("train_file", datasets, "Transformers"),
    SAME("validation_file", eval_dataset, "Transformers"),
    FLAG("assistant_only_loss", train_on, "assistant", "all", "TRL"),
    FLAG("completion_only_loss", train_on, "assistant", "all", "TRL"),
    FLAG("use_peft", finetuning, "lora", "full", "TRL"),
    {"warmup_ratio", "Transformers", KEY_warmup_steps, 1, NULL, NULL, NULL},
    SAME("lr", learning_rate, "PyTorch"),
    SAME("epochs", num_train_epochs, "torchtune"),
    SAME("batch_size", per_device_train_batch_size, "torchtune"),
    SAME("train_batch_size", per_device_train_batch_size, "DeepSpeed"),
    SAME("gradient_clipping", max_grad_norm, "DeepSpeed"),
    SAME("clip_grad_norm", max_grad_norm, "torchtune"),
    SAME("enable_activation_checkpointing", gradient_checkpointing, "torchtune"),
    SAME("activation_checkpointing", gradient_checkpointing, "DeepSpeed"),
    SAME("use_gradient_checkpointing", gradient_checkpointing, "Unsloth"),
    SAME("recompute_granularity", gradient_checkpointing, "Megatron"),
    SAME("activations_checkpoint_granularity", gradient_checkpointing, "NeMo"),
    SAME("r", lora_r, "PEFT"),
    SAME("lora_model_dir", adapter_name_or_path, "axolotl"),
    SAME("pref_beta", beta, "LLaMA-Factory"),
    SAME("pref_loss", loss_type, "LLaMA-Factory"),
    SAME("dpo_label_smoothing", label_smoothing, "LLaMA-Factory"),
    SAME("ref_model_adapters", ref_adapter, "LLaMA-Factory"),
    SAME("ref_model_name_or_path", ref_model, "others"),
    SAME("gamma", simpo_gamma, "OpenRLHF"),
    SAME("kto_chosen_weight", desirable_weight, "LLaMA-Factory"),
    SAME("kto_rejected_weight", undesirable_weight, "LLaMA-Factory"),
    SAME("target_modules", lora_target_modules, "PEFT"),
    SAME("random_state", seed, "Unsloth"),
    SAME("model_name", model_name_or_path, "Unsloth"),
    SAME("model", model_name_or_path, "vLLM"),
    SAME("torch_dtype", precision, "Transformers"),
    SAME("dtype", precision, "Transformers"),
    FLAG("bf16", precision, "bf16", NULL, "Transformers"),
    FLAG("pure_bf16", precision, "bf16", NULL, "LLaMA-Factory"),
    FLAG("use_cpu", device, "cpu", NULL, "Transformers"),
    WHEN("save_strategy", save_steps, "steps", "Transformers"),
    WHEN("eval_strategy", eval_steps, "steps", "Transformers"),
    WHEN("evaluation_strategy", eval_steps, "steps", "Transformers"),
    SAME("early_stopping_steps", early_stopping_patience, "LLaMA-Factory"),
    SAME("adam_beta_1", adam_beta1, "others"),
    SAME("adam_beta_2", adam_beta2, "others"),
    SAME("num_threads", threads, "others"),
};
const size_t config_num_aliases = COUNT(config_aliases);

#define OFF "false|no|off|none|null|0"
#define LATER_KEY(name, harmless) \
    {                             \
        name, harmless, NULL, 1   \
    }

const struct config_stranger config_strangers[] = {
    LATER_KEY("deterministic", "true|yes|on"),
    {"trainable_token_indices", "none|null", "write trainable_tokens: the tokens as text", 0},
    {"resize_vocab", "true|yes|on", "set add_special_tokens: auto or never", 0},
    LATER_KEY("label_smoothing_factor", "0|0.0"),
    LATER_KEY("load_in_4bit", OFF),
    LATER_KEY("load_in_8bit", OFF),
    LATER_KEY("quantization_bit", "none|null"),
    LATER_KEY("use_dora", OFF),
    LATER_KEY("peft_use_dora", OFF),
    LATER_KEY("sync_ref_model", OFF),
    LATER_KEY("reference_free", OFF),
    LATER_KEY("max_prompt_length", NULL),
    {"truncation_mode", "keep_start", "documents lose their end: keep_start", 0},
    {"discopop_tau", "0.05", "discopop's temperature is 0.05, as in its paper", 0},
    {"precompute_ref_batch_size", "*", "set per_device_eval_batch_size", 0},
    {"generate_during_eval", OFF, "set sample_prompts", 0},
    {"activation_offloading", OFF, "set gradient_checkpointing: offload", 0},
    {"enable_activation_offloading", OFF, "set gradient_checkpointing: offload", 0},
    {"use_unsloth_gc", OFF, "set gradient_checkpointing: offload", 0},
    {"disable_gradient_checkpointing", OFF, "set gradient_checkpointing: none", 0},
    LATER_KEY("neftune_noise_alpha", "none|null"),
    LATER_KEY("deepspeed", "none|null"),
    LATER_KEY("fsdp", "none|null"),
    {"fp16", OFF, "set precision: bf16, or fp32", 0},
    {"tf32", "*", "products are computed as precision says", 0},
    {"fp32", OFF, "set precision: fp32", 0},
    {"logging_strategy", "steps", "set logging_steps", 0},
    {"saves_per_epoch", NULL, "write save_steps: a number, epoch or none", 0},
    {"evals_per_epoch", NULL, "write eval_steps: a number, epoch or none", 0},
    {"lr_scheduler_kwargs", "none|null", "set min_lr_rate", 0},
    {"min_lr", NULL, "write min_lr_rate, the floor as a part of learning_rate", 0},
    {"data_seed", NULL, "set seed; the data's order depends on it", 0},
    {"lora_bias", OFF, "biases stay frozen under LoRA", 0},
    {"bias", "none", "biases stay frozen under LoRA", 0},
    {"dataset_dir", NULL, "write the paths in datasets", 0},
    {"dataset_num_proc", "*", "set threads", 0},
    {"preprocessing_num_workers", "*", "set threads", 0},
    {"dataloader_num_workers", "*", "set threads", 0},
    {"dataset_prepared_path", "*", "the cache lies beside output_dir", 0},
    {"overwrite_cache", "*", "the cache is keyed by its content", 0},
    {"lazy_preprocess", "*", "data is prepared once and read as needed", 0},
    {"remove_unused_columns", "*", "unused fields are never read", 0},
    {"flash_attention", "*", "attention never builds its matrix", 0},
    {"flash_attn", "*", "attention never builds its matrix", 0},
    {"attn_implementation", "*", "attention never builds its matrix", 0},
    {"padding_free", "*", "there is no padding", 0},
    {"pad_to_sequence_len", "*", "there is no padding", 0},
    {"eval_sample_packing", "*", "evaluation has no padding either", 0},
    {"xformers_attention", "*", "attention never builds its matrix", 0},
    {"sdp_attention", "*", "attention never builds its matrix", 0},
    {"sdpa_attention", "*", "attention never builds its matrix", 0},
    {"eager_attention", OFF, "attention never builds its matrix", 0},
    {"s2_attention", OFF, "attention is whole", 0},
    {"shift_attn", OFF, "attention is whole", 0},
    {"group_by_length", OFF, "there is no padding, so nothing to gain", 0},
    {"dataloader_pin_memory", "*", "copies to a GPU go through pinned memory", 0},
    {"dataloader_prefetch_factor", "*", "the next micro-batch is made beside the one in work", 0},
    {"dataloader_drop_last", OFF, "every document is trained", 0},
    {"gradient_checkpointing_kwargs", "*", "what is computed again gives the same bits", 0},
    {"enable_liger_kernel", "*", "kernels are fused, and logits never whole, without asking", 0},
    {"use_liger_kernel", "*", "kernels are fused, and logits never whole, without asking", 0},
    {"torch_compile", "*", "nothing is compiled while it runs", 0},
    {"upcast_layernorm", "*", "norms are computed in fp32", 0},
    {"upcast_lmhead_output", "*", "the loss is computed in fp32", 0},
    {"lora_fan_in_fan_out", OFF, "the layers of these models are not transposed", 0},
    {"fan_in_fan_out", OFF, "the layers of these models are not transposed", 0},
    {"init_lora_weights", "true", "A is uniform, B is zero", 0},
    LATER_KEY("rope_scaling", "none"),
    LATER_KEY("freeze_trainable_layers", NULL),
    LATER_KEY("unfrozen_parameters", NULL),
    LATER_KEY("use_galore", OFF),
    LATER_KEY("use_badam", OFF),
    {"trust_remote_code", "*", "code in a model's directory is never run", 0},
    {"do_train", "true|yes|on", "the verb says what to do: cria train", 0},
    {"do_eval", OFF "|true|yes|on", "val_size or eval_dataset says so", 0},
    {"do_predict", OFF, "cria eval --generate and cria generate answer", 0},
    {"predict_with_generate", OFF, "cria eval --generate answers and counts", 0},
    {"strict", "*", "every key is checked", 0},
    {"debug", OFF, "cria train --explain says what will happen", 0},
    {"plot_loss", "*", "report.html has the curves", 0},
    {"logging_first_step", "*", "set logging_steps: 1", 0},
    {"include_num_input_tokens_seen", "*", "num_tokens is always logged", 0},
    {"log_level", "*", "there is one", 0},
    {"disable_tqdm", "*", "the live line is for terminals only", 0},
    {"run_name", "*", "output_dir names the run", 0},
    {"save_only_model", OFF, "checkpoints can be resumed; save_steps: none keeps the model alone",
     0},
    {"save_safetensors", "true|yes|on", "weights are safetensors", 0},
    {"eval_table_size", "*", "set sample_prompts", 0},
    {"wandb_project", NULL, "metrics.jsonl and TensorBoard's events are the log", 0},
    {"wandb_entity", NULL, "metrics.jsonl and TensorBoard's events are the log", 0},
    {"wandb_watch", NULL, "metrics.jsonl and TensorBoard's events are the log", 0},
    {"wandb_name", NULL, "metrics.jsonl and TensorBoard's events are the log", 0},
    {"wandb_run_id", NULL, "metrics.jsonl and TensorBoard's events are the log", 0},
    {"wandb_log_model", NULL, "metrics.jsonl and TensorBoard's events are the log", 0},
    {"push_to_hub", OFF, "nothing is sent anywhere; upload output_dir yourself", 0},
    {"hub_model_id", NULL, "nothing is sent anywhere; upload output_dir yourself", 0},
    {"hub_strategy", "*", "nothing is sent anywhere", 0},
    {"local_rank", "-1|0", "one process trains", 0},
    {"ddp_timeout", "*", "one process trains", 0},
    {"ddp_find_unused_parameters", "*", "one process trains", 0},
    {"ddp_backend", "*", "one process trains", 0},
    {"cache_dir", NULL, "paths are local, and the cache lies beside output_dir", 0},
    {"model_revision", "main", "paths are local", 0},
    {"hf_hub_token", NULL, "paths are local", 0},
    LATER_KEY("fsdp_config", NULL),
    LATER_KEY("streaming", OFF),
    {"special_tokens", NULL, "the tokenizer's files and the template have them", 0},
    {"tokens", NULL, "write trainable_tokens, for tokens that the tokenizer has", 0},
    {"eos_token", NULL, "the template ends replies; a file of your own says with what", 0},
    {"pad_token", "*", "there is no padding", 0},
    {"tokenizer_use_fast", "*", "there is one tokenizer, exact and fast", 0},
    {"use_fast_tokenizer", "*", "there is one tokenizer, exact and fast", 0},
    {"tokenizer_legacy", "*", "the tokenizer's files say what it is", 0},
    {"tokenizer_name", NULL, "the tokenizer is the one in model_name_or_path", 0},
    {"tokenizer_name_or_path", NULL, "the tokenizer is the one in model_name_or_path", 0},
    {"tokenizer_type", "*", "the tokenizer's files say what it is", 0},
    {"model_type", "*", "config.json of the model says what it is", 0},
    {"logging_dir", NULL, "logs lie in output_dir", 0},
    {"greater_is_better", "*", "metric_for_best_model knows its direction", 0},
    {"loss_watchdog_threshold", NULL, "set on_spike: stop, with spike_zscore", 0},
    {"loss_watchdog_patience", NULL, "set on_spike: stop, with spike_zscore", 0},
};
const size_t config_num_strangers = COUNT(config_strangers);

#define NOT_PAGED "all memory is planned before the run, so nothing has to be paged"

/* Values in other tools' words; why it is not quite the same, where it is not. */
static const struct {
    enum config_key key;
    const char *word, *meant, *why;
} synonyms[] = {
    {KEY_save_dtype, "float32", "fp32", NULL},
    {KEY_save_dtype, "float16", "fp16", NULL},
    {KEY_save_dtype, "bfloat16", "bf16", NULL},
    {KEY_device, "gpu", "cuda", NULL},
    {KEY_precision, "float32", "fp32", NULL},
    {KEY_precision, "no", "fp32", NULL},
    {KEY_precision, "bfloat16", "bf16", NULL},
    {KEY_mix_strategy, "first_exhausted", "interleave_under", NULL},
    {KEY_mix_strategy, "all_exhausted", "interleave_over", NULL},
    {KEY_optim, "adamw_torch", "adamw", NULL},
    {KEY_optim, "adamw_torch_fused", "adamw", NULL},
    {KEY_optim, "adamw_hf", "adamw", NULL},
    {KEY_optim, "adamw_bnb_8bit", "adamw_8bit", NULL},
    {KEY_optim, "paged_adamw_8bit", "adamw_8bit", NOT_PAGED},
    {KEY_optim, "paged_adamw", "adamw", NOT_PAGED},
    {KEY_optim, "paged_adamw_32bit", "adamw", NOT_PAGED},
    {KEY_lora_target_modules, "all", "all-linear", NULL},
    {KEY_lora_target_modules, "all_linear", "all-linear", NULL},
    {KEY_resume_from_checkpoint, "true", "auto", NULL},
    {KEY_resume_from_checkpoint, "false", "none", NULL},
    {KEY_gradient_checkpointing, "unsloth", "offload", NULL},
    {KEY_gradient_checkpointing, "true", "full", NULL},
    {KEY_gradient_checkpointing, "on", "full", NULL},
    {KEY_gradient_checkpointing, "yes", "full", NULL},
    {KEY_gradient_checkpointing, "false", "none", NULL},
    {KEY_gradient_checkpointing, "off", "none", NULL},
    {KEY_gradient_checkpointing, "no", "none", NULL},
    {KEY_metric_for_best_model, "loss", "eval_loss", NULL},
    {KEY_metric_for_best_model, "rewards/accuracies", "eval_rewards/accuracies", NULL},
    {KEY_metric_for_best_model, "rewards/margins", "eval_rewards/margins", NULL},
    {KEY_eval_steps, "no", "none", NULL},
    {KEY_report_to, "all", "html, tensorboard", NULL},
    {KEY_save_steps, "no", "none", NULL},
};

const struct config_member config_members[] = {
    {"", "path", "path"},
    {"", "split", "split"},
    {"", "format", "format"},
    {"", "type", "format"},       /* axolotl */
    {"", "formatting", "format"}, /* LLaMA-Factory */
    {"", "sample_by", "sample_by"},
    {"", "template", "template"},
    {"", "chat_template", "template"}, /* axolotl */
    {"", "weight", "weight"},
    {"", "fraction", "fraction"},
    {"", "max_samples", "max_samples"},
    {"", "num_samples", "max_samples"}, /* LLaMA-Factory */
    {"", "repeat", "repeat"},
    {"", "field", "field_text"}, /* axolotl, from here on */
    {"", "message_field_role", "field_role"},
    {"", "message_field_content", "field_content"},
    {"", "message_field_training", "field_weight"},
    {"message_property_mappings", "role", "field_role"},
    {"message_property_mappings", "content", "field_content"},
    {"message_property_mappings", "weight", "field_weight"},
    {"roles", "system", "role_system"},
    {"roles", "user", "role_user"},
    {"roles", "assistant", "role_assistant"},
    {"roles", "tool", "role_tool"},
    {"columns", "prompt", "field_instruction"}, /* LLaMA-Factory, from here on */
    {"columns", "query", "field_input"},
    {"columns", "response", "field_output"},
    {"columns", "history", "field_history"},
    {"columns", "system", "field_system"},
    {"columns", "messages", "field_messages"},
    {"columns", "tools", "field_tools"},
    {"columns", "chosen", "field_chosen"},
    {"columns", "rejected", "field_rejected"},
    {"columns", "kto_tag", "field_label"},
    {"tags", "role_tag", "field_role"},
    {"tags", "content_tag", "field_content"},
    {"tags", "system_tag", "role_system"},
    {"tags", "user_tag", "role_user"},
    {"tags", "assistant_tag", "role_assistant"},
    {"tags", "function_tag", "role_assistant"},
    {"tags", "observation_tag", "role_tool"},
};
const size_t config_num_members = COUNT(config_members);

_Static_assert(CONFIG_NUM_KEYS + COUNT(config_aliases) <= CONFIG_MAX_NAMES, "raise the maximum");

const struct config_alias *config_find_alias(const char *name)
{
    for (size_t i = 0; i < config_num_aliases; i++)
        if (!strcmp(config_aliases[i].spelling, name)) return &config_aliases[i];
    return NULL;
}

const struct config_stranger *config_find_stranger(const char *name)
{
    for (size_t i = 0; i < config_num_strangers; i++)
        if (!strcmp(config_strangers[i].spelling, name)) return &config_strangers[i];
    return NULL;
}

const char *config_synonym(enum config_key key, const char *word)
{
    for (size_t i = 0; i < COUNT(synonyms); i++)
        if (synonyms[i].key == key && !strcasecmp(synonyms[i].word, word)) return synonyms[i].meant;
    return word;
}

const char *config_synonym_note(enum config_key key, const char *word)
{
    for (size_t i = 0; i < COUNT(synonyms); i++)
        if (synonyms[i].key == key && !strcasecmp(synonyms[i].word, word)) return synonyms[i].why;
    return NULL;
}

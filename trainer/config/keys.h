/* keys.h - the key table: every option a config may hold, one row each.
 *
 * From it come the fields of `struct config`, `enum config_key`, the parser, the
 * checks, the help text, the resolved config and the tests. Rows of S open a section;
 * rows of X are
 *
 *     name, kind, default as it would be written, bounds or words, when it applies, help
 *
 * kind      field             written as
 * STRING    const char *      text; NULL when empty or none
 * INT       int64_t           a whole number
 * REAL      double            a number; 2e-5 is one
 * FLAG      int               true/false, yes/no, on/off
 * CHOICE    int               one of the words; the enum of that name in config.h
 * STEPS     int64_t           a whole number, none (0), or epoch (CONFIG_EPOCH)
 * LIST      config_list       a YAML list, or text with commas; of words where the row has some
 * TEXTS     config_list       a YAML list, or one text as it is
 * DATASETS  config_datasets   a list of paths or of {path, format, field_NAME, ...}, or text with
 *                             commas
 *
 * The fourth column is RANGE(low, high), WORDS(...) in the order of their enum, or ANY. LATER(...)
 * names words that peers have and this version refuses. Other spellings of words are in peers.c.
 */
#ifndef CRIA_CONFIG_KEYS_H
#define CRIA_CONFIG_KEYS_H

/* clang-format off */
#define CONFIG_KEYS(S, X) \
    S("Model and output") \
    X(model_name_or_path, STRING, "", ANY, ALWAYS, \
      "directory of the base model, in Hugging Face's layout") \
    X(model_config, STRING, "", ANY, ALWAYS, \
      "a config.json, or a directory with one, to plan without the base model's files") \
    X(random_weights, FLAG, "false", ANY, ALWAYS, \
      "start from new weights, by seed, made on the device, as cria init makes them; of " \
      "model_name_or_path only config.json and the tokenizer are read") \
    X(output_dir, STRING, "", ANY, ALWAYS, \
      "where checkpoints, logs and the final model go") \
    X(overwrite_output_dir, FLAG, "false", ANY, ALWAYS, \
      "start in a non-empty output_dir, removing what an earlier run left there") \
    X(resume_from_checkpoint, STRING, "none", ANY, ALWAYS, \
      "auto (the newest checkpoint of output_dir, if any), a checkpoint's path, or none") \
    X(save_dtype, CHOICE, "auto", WORDS("auto", "fp32", "bf16", "fp16"), ALWAYS, \
      "type of saved weights; auto: the base's for models, fp32 for adapters") \
    S("Data") \
    X(stage, CHOICE, "sft", WORDS("pt", "sft", "dpo", "kto", "ipo", "simpo", "orpo", "cpo") \
      LATER("rm", "ppo"), ALWAYS, \
      "what is learned: pt plain text, sft instructions or conversations, dpo pairs of a better " \
      "and a worse reply (ipo, simpo, orpo, cpo: dpo with that loss_type), kto replies judged one " \
      "by one") \
    X(datasets, DATASETS, "", ANY, ALWAYS, \
      "files to train on: a path, paths with commas, or a list of {path, split, format, template, " \
      "weight, fraction, max_samples, repeat, field_NAME, role_NAME, sample_by}; configs/README.md " \
      "says more") \
    X(eval_dataset, DATASETS, "", ANY, ALWAYS, \
      "files to evaluate on, written like datasets") \
    X(val_size, REAL, "0", RANGE(0, 1e9), ALWAYS, \
      "part of the training documents held out: below 1 a fraction, otherwise a count") \
    X(val_split, CHOICE, "document", WORDS("document", "hash"), EVAL_ONLY, \
      "how val_size is chosen, never parting the same prompts: by document, or by the prompt's hash, " \
      "so that a document stays on its side when files are added") \
    X(max_samples, INT, "0", RANGE(0, 1e12), ALWAYS, \
      "documents taken of each dataset that does not say it itself, a seeded choice; 0: all") \
    X(mix_strategy, CHOICE, "concat", WORDS("concat", "interleave_under", "interleave_over"), ALWAYS, \
      "an epoch has every document (concat), or the datasets by their weights: as long as none has to " \
      "be repeated (under; so where weights are given), or until all have been seen whole (over)") \
    X(interleave_probs, LIST, "", ANY, ALWAYS, \
      "weights of the datasets in their order: what weight says in each") \
    X(order, CHOICE, "shuffled", WORDS("shuffled", "progressive", "sequential"), ALWAYS, \
      "an epoch's order: all shuffled, the datasets one after the other and each shuffled, or as the " \
      "files have it") \
    X(template, STRING, "", ANY, CHAT_ONLY, \
      "prompt template: a name (alpaca, vicuna, llama2, llama3, chatml, zephyr, ...) or a file of " \
      "your own, my.yaml; default: what the model's directory says") \
    X(add_special_tokens, CHOICE, "auto", WORDS("auto", "never"), CHAT_ONLY, \
      "special tokens of the template that the tokenizer lacks: add and train them, or refuse") \
    X(train_on, CHOICE, "assistant", WORDS("assistant", "last", "all"), STAGE_SFT_ONLY, \
      "what of a conversation is learned: every reply, the last reply, all of the text") \
    X(compat, CHOICE, "none", WORDS("none", "fastchat", "trl"), CHAT_ONLY, \
      "reproduce a reference's labels: fastchat (template vicuna), with its offsets and the rows it " \
      "masks; trl, which trains the line end behind an end token") \
    X(tokenize_whole, FLAG, "false", ANY, CHAT_ONLY, \
      "tokenize prompt and reply as one text (Stanford, TRL), not cut where supervision changes") \
    X(max_length, INT, "1024", RANGE(2, 1 << 24), ALWAYS, \
      "tokens; longer documents lose their end, packed rows are filled up to this") \
    X(packing, FLAG, "false", ANY, ALWAYS, \
      "put several documents into a row of max_length, best fit; they do not see each other") \
    S("Batches") \
    X(per_device_train_batch_size, INT, "8", RANGE(1, 1 << 20), ALWAYS, \
      "documents (dpo: pairs) in a micro-batch (packed: rows of max_length)") \
    X(per_device_eval_batch_size, INT, "8", RANGE(1, 1 << 20), EVAL_ONLY, \
      "the same while evaluating") \
    X(gradient_accumulation_steps, INT, "1", RANGE(1, 1 << 20), ALWAYS, \
      "micro-batches in a step") \
    X(loss_reduction, CHOICE, "token_mean", WORDS("token_mean", "microbatch_mean"), ALWAYS, \
      "mean over the step's trained tokens (or pairs), or mean of the micro-batches' means") \
    S("Optimisation") \
    X(learning_rate, REAL, "2e-5", RANGE(0, 100), ALWAYS, \
      "peak learning rate; where it is not given, 1e-6 in the stages dpo and kto") \
    X(lr_scheduler_type, CHOICE, "linear", \
      WORDS("linear", "cosine", "cosine_with_min_lr", "constant", "constant_with_warmup") \
      LATER("cosine_with_restarts", "polynomial", "inverse_sqrt", "reduce_lr_on_plateau", \
            "warmup_stable_decay"), \
      ALWAYS, "course of the learning rate after the warm-up") \
    X(warmup_steps, REAL, "0", RANGE(0, 1e9), WARMUP_ONLY, \
      "steps of linear warm-up; below 1 a fraction of all steps") \
    X(min_lr_rate, REAL, "0", RANGE(0, 1), MIN_LR_ONLY, \
      "floor of the cosine, as a part of learning_rate") \
    X(num_train_epochs, REAL, "3", RANGE(1e-6, 1e6), EPOCHS_ONLY, \
      "passes over the data; fractions are allowed") \
    X(max_steps, INT, "-1", RANGE(-1, 1e12), ALWAYS, \
      "steps to train instead of num_train_epochs; -1: go by epochs") \
    X(weight_decay, REAL, "0", RANGE(0, 10), ALWAYS, \
      "AdamW's decay; norms and biases are exempt") \
    X(max_grad_norm, REAL, "1", RANGE(0, 1e9), ALWAYS, \
      "gradients are scaled down to this norm; 0: never") \
    X(optim, CHOICE, "adamw", WORDS("adamw", "adamw_8bit") \
      LATER("adamw_torch_8bit", "adafactor", "sgd", "lion"), \
      ALWAYS, "optimiser; adamw_8bit is AdamW with bitsandbytes' states of 8 bits: 2 bytes a parameter " \
      "instead of 8, but for embeddings and parameters below 4096 elements") \
    X(adam_beta1, REAL, "0.9", RANGE(0, 0.9999999), ALWAYS, \
      "decay of the mean of gradients") \
    X(adam_beta2, REAL, "0.999", RANGE(0, 0.9999999), ALWAYS, \
      "decay of the mean of squared gradients") \
    X(adam_epsilon, REAL, "1e-8", RANGE(0, 1), ALWAYS, \
      "added to the root of the mean square") \
    S("Adapter") \
    X(finetuning, CHOICE, "full", WORDS("full", "lora") \
      LATER("qlora", "dora", "freeze", "llama_adapter", "oft"), \
      ALWAYS, "train all weights, or low-rank adapters on a frozen base") \
    X(lora_r, INT, "8", RANGE(1, 1 << 16), LORA_ONLY, \
      "rank") \
    X(lora_alpha, REAL, "8", RANGE(0, 1e6), LORA_ONLY, \
      "the adapter's output is scaled by lora_alpha / lora_r") \
    X(lora_dropout, REAL, "0", RANGE(0, 0.999), LORA_ONLY, \
      "dropout on the adapter's input") \
    X(lora_target_modules, LIST, "all-linear", ANY, LORA_ONLY, \
      "names of the linear layers that get an adapter; all-linear: all but the head") \
    X(use_rslora, FLAG, "false", ANY, LORA_ONLY, \
      "scale by lora_alpha / sqrt(lora_r)") \
    X(modules_to_save, LIST, "", ANY, LORA_ONLY, \
      "modules trained whole beside the adapter and saved in it: embed_tokens, lm_head, norm") \
    X(trainable_tokens, LIST, "", ANY, LORA_ONLY, \
      "tokens whose rows of embedding and head are trained, as the tokenizer spells them") \
    X(adapter_name_or_path, STRING, "", ANY, LORA_ONLY, \
      "a LoRA adapter of this base to go on from, and the reference of dpo and kto; it must be of " \
      "the shape that this config asks for") \
    S("Preferences") \
    X(loss_type, LIST, "", ANY, PREFERENCE_ONLY, \
      "what the pairs are held to, several losses are added up: sigmoid unless given, kto in stage " \
      "kto") \
    X(loss_weights, LIST, "", ANY, PREFERENCE_ONLY, \
      "what each of loss_type is multiplied by; default: 1") \
    X(beta, REAL, "0.1", RANGE(0, 1e6), PREFERENCE_ONLY, \
      "how much a distance from the reference is worth") \
    X(label_smoothing, REAL, "0", RANGE(0, 0.5), DPO_ONLY, \
      "how often the preferences are taken to be wrong") \
    X(f_divergence_type, CHOICE, "reverse_kl", \
      WORDS("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"), DPO_ONLY, \
      "by what the distance from the reference is measured") \
    X(f_alpha_divergence_coef, REAL, "0.5", RANGE(-1e3, 1e3), ALPHA_ONLY, \
      "the alpha of alpha_divergence, which is not 1") \
    X(ld_alpha, REAL, "1", RANGE(0, 1), DPO_ONLY, \
      "weight of a reply's tokens beyond the length of the shorter one") \
    X(use_weighting, FLAG, "false", ANY, DPO_ONLY, \
      "weight pairs by how likely the model would say both replies (WPO)") \
    X(cpo_alpha, REAL, "1", RANGE(0, 1e6), DPO_ONLY, \
      "of simpo and cpo: weight of the chosen replies' cross-entropy; 0 is SimPO by its paper") \
    X(simpo_gamma, REAL, "0.5", RANGE(0, 1e6), DPO_ONLY, \
      "of simpo: by how much the chosen reply has to be ahead") \
    X(desirable_weight, REAL, "1", RANGE(0, 1e6), KTO_ONLY, \
      "of replies judged good") \
    X(undesirable_weight, REAL, "1", RANGE(0, 1e6), KTO_ONLY, \
      "of replies judged bad") \
    X(prefix_sharing, FLAG, "true", ANY, PREFERENCE_ONLY, \
      "compute a record's prompt once for its replies: the same numbers for less") \
    X(ref_model, STRING, "", ANY, PREFERENCE_ONLY, \
      "directory of the reference model; default: model_name_or_path as it is before the first " \
      "step, adapter_name_or_path included") \
    X(ref_adapter, STRING, "", ANY, PREFERENCE_ONLY, \
      "a LoRA adapter of the reference; default: adapter_name_or_path; base: without any") \
    X(disable_dropout, FLAG, "true", ANY, PREFERENCE_ONLY, \
      "no dropout in model and reference; then lora_dropout must be 0") \
    X(precompute_ref_log_probs, FLAG, "false", ANY, PREFERENCE_ONLY, \
      "run the reference over the data once, before the first step, and keep what it says in the " \
      "cache beside output_dir for this and later runs") \
    S("Machine") \
    X(device, CHOICE, "auto", WORDS("auto", "cpu", "null", "cuda"), ALWAYS, \
      "where to compute; auto: the GPU if there is one; null computes nothing and only plans") \
    X(threads, INT, "0", RANGE(0, 4096), ALWAYS, \
      "CPU threads; 0: all cores the process may use") \
    X(precision, CHOICE, "auto", WORDS("auto", "fp32", "bf16") \
      LATER("fp16", "float16", "tf32"), \
      ALWAYS, "type of weights and activations; the CPU computes in fp32, and says so if asked " \
      "for bf16") \
    X(attention, CHOICE, "auto", WORDS("auto", "plain", "flash", "hopper", "cudnn"), ALWAYS, \
      "which kernels a GPU uses for attention: plain, flash (tensor cores; bf16, heads of 64 " \
      "or 128), hopper (the same on an H100 or H200 alone) or cudnn (NVIDIA's library, from " \
      "Hopper on); none but plain is the default before it has run on a GPU; auto: " \
      "plain") \
    X(cuda_graphs, CHOICE, "auto", WORDS("auto", "true", "false"), ALWAYS, \
      "give a GPU the work of a micro-batch whose shape has come twice at once, as a CUDA graph: the " \
      "same numbers with less time between kernels; auto: on a GPU") \
    X(master_weights, FLAG, "true", ANY, ALWAYS, \
      "on a GPU in bf16: keep trained base weights in fp32 too; false: round each update at " \
      "random, so that small ones count in the mean, and save 4 bytes a weight") \
    X(gradient_checkpointing, CHOICE, "full", \
      WORDS("none", "selective", "full", "offload", "auto"), ALWAYS, \
      "what of each block the backward pass computes again, with the same numbers: none; selective " \
      "(norms and SwiGLU, no product: a quarter less memory for a per cent of time); full (keeps the " \
      "blocks' inputs alone); offload (full, and a GPU's block inputs wait in the host's memory); auto: " \
      "block by block the least that fits") \
    X(seed, INT, "42", RANGE(0, 4294967295.0), ALWAYS, \
      "of the data's order, the split, dropout and new weights") \
    S("Log, evaluate, save") \
    X(logging_steps, INT, "10", RANGE(1, 1e12), ALWAYS, \
      "steps between two lines of the log") \
    X(eval_steps, STEPS, "epoch", RANGE(0, 1e12), EVAL_STEPS_ONLY, \
      "steps between two evaluations; epoch: at the end of each; none: only at the end") \
    X(save_steps, STEPS, "500", RANGE(0, 1e12), ALWAYS, \
      "steps between two checkpoints; epoch: at the end of each; none: only the final model") \
    X(save_total_limit, INT, "0", RANGE(0, 1 << 20), ALWAYS, \
      "checkpoints kept, the newest ones and the best; 0: all") \
    X(async_save, CHOICE, "auto", WORDS("auto", "true", "false"), ALWAYS, \
      "write checkpoints from a copy in memory while training goes on; auto: on a GPU, where the " \
      "copy takes no more than a quarter of the machine's free memory") \
    X(load_best_model_at_end, FLAG, "false", ANY, EVAL_ONLY, \
      "save the weights of the best evaluation, not the last ones; the best gets a checkpoint") \
    X(metric_for_best_model, CHOICE, "eval_loss", \
      WORDS("eval_loss", "eval_mean_token_accuracy", "eval_rewards/accuracies", \
            "eval_rewards/margins"), EVAL_ONLY, \
      "by what the best evaluation is known") \
    X(early_stopping_patience, INT, "0", RANGE(0, 1 << 20), EVAL_ONLY, \
      "end after so many evaluations in a row that were not the best; 0: never") \
    X(report_to, LIST, "html, tensorboard", WORDS("html", "tensorboard", "none") \
      LATER("wandb", "mlflow", "comet_ml", "trackio", "swanlab", "clearml"), ALWAYS, \
      "beside metrics.jsonl: html (output_dir/report.html), tensorboard (output_dir/runs)") \
    X(sample_prompts, TEXTS, "", ANY, ALWAYS, \
      "prompts answered before the first step and after the last, for the report: texts, or a " \
      "file of them (lines, or .jsonl records); default: three of the data; none: no answers") \
    S("Trouble") \
    X(on_nan, CHOICE, "stop", WORDS("stop", "skip"), ALWAYS, \
      "loss or gradient not finite: stop, or leave that step out; the documents are named") \
    X(on_spike, CHOICE, "none", WORDS("none", "warn", "skip", "stop"), ALWAYS, \
      "what to do about a loss far above those of the last steps") \
    X(spike_zscore, REAL, "6", RANGE(1, 1e6), SPIKE_ONLY, \
      "standard deviations above the mean that make a spike") \
    X(spike_window, INT, "50", RANGE(8, CONFIG_SPIKE_WINDOW_MAX), SPIKE_ONLY, \
      "steps whose losses are compared with") \
    X(skip_limit, INT, "10", RANGE(1, 1 << 20), SKIP_ONLY, \
      "steps left out in a row after which the run stops") \
    X(on_disk_full, CHOICE, "stop", WORDS("stop", "continue"), ALWAYS, \
      "no space for a checkpoint or log: stop, or warn, train on and try again at the next")
/* clang-format on */

#endif

"""What ten steps lose by bf16 in transformers and PEFT: the yardstick for cria's.

Writes tests/golden/bf16/curves.json from the chats and pairs beside it: for SFT and DPO with LoRA
the losses of each step in fp32 and in bf16 (a base of bf16, an adapter of fp32, as PEFT has it),
and how far the adapter trained in bf16 lies from the one trained in fp32, as a part of the way
that one went. cria makes the start model, the start adapter and the ids; model, data, order and
hyperparameters are in the file, so that a test can do the same.

    python bf16_curves.py --cria PATH
"""

import argparse
import tempfile
from pathlib import Path

import peft
import torch
import transformers

import common
import driver
import preference_curves
import reference

FOLDER = common.GOLDEN / "bf16"
TOKENIZER = common.MODELS / "llama_gqa_tied" / "tokenizer.json"
STEPS, SEED, MAX_LENGTH, BETA, BATCH = 10, 42, 256, 0.1, 4
INIT_SEED = 1
INIT_CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64, "vocab_size": 311,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "hidden_act": "silu", "initializer_range": 0.1, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
}
COMMON = {
    "finetuning": "lora", "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0, "learning_rate": 2e-3,
    "lr_scheduler_type": "linear", "warmup_steps": 0, "weight_decay": 0, "max_grad_norm": 1,
    "seed": SEED, "max_length": MAX_LENGTH, "max_steps": STEPS, "template": "orca",
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": BATCH // 2,
    "logging_steps": 1, "save_steps": "none",
}
RUNS = {
    "sft": ("chats.jsonl", {"stage": "sft"}),
    "dpo": ("pairs.jsonl", {"stage": "dpo", "loss_type": "sigmoid", "beta": BETA}),
}


def reply_logp(model, prompt, reply):
    """log p of the reply behind the prompt."""
    return -reference.document_nll(model, prompt + reply, [0.0] * len(prompt) + [1.0] * len(reply))


def sft_loss(model, documents):
    """The step's token mean."""
    count = sum(sum(weights[1:]) for _, weights in documents)
    return sum(reference.document_nll(model, *document) for document in documents) / count


def dpo_loss(model, pairs):
    """DPO's sigmoid loss; the reference is the model without its adapter."""
    loss = 0
    for prompt, chosen, rejected in pairs:
        with torch.no_grad(), model.disable_adapter():
            base = reply_logp(model, prompt, chosen) - reply_logp(model, prompt, rejected)
        margin = reply_logp(model, prompt, chosen) - reply_logp(model, prompt, rejected) - base
        loss = loss - torch.nn.functional.logsigmoid(BETA * margin) / len(pairs)
    return loss


def train(model, loss_of, records):
    """The losses of all steps; the model is trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=COMMON["learning_rate"], weight_decay=0.0)
    losses = []
    for step, batch in enumerate(reference.step_batches(len(records), STEPS, BATCH, SEED)):
        for group in optimizer.param_groups:
            group["lr"] = COMMON["learning_rate"] * reference.linear_decay(step, STEPS, 0)
        optimizer.zero_grad()
        loss = loss_of(model, [records[i] for i in batch])
        loss.backward()
        reference.clip_gradients(parameters, COMMON["max_grad_norm"])
        optimizer.step()
        losses.append(loss.item())
    return losses


def adapter_of(model):
    """The trained values, end to end."""
    return torch.cat([p.detach().double().flatten() for p in model.parameters()
                      if p.requires_grad])


def one_run(cria, name, work):
    """fp32 and bf16, from the same start over the same records."""
    file, options = RUNS[name]
    model = work / "start"
    cria("init", "--config", FOLDER / "model.json", "--out", model, "--seed", INIT_SEED)
    (model / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    config = {**COMMON, **options}
    adapter = work / "adapter"
    cria("train", driver.write_config(work / "config.yaml", {
        **config, "model_name_or_path": str(model), "output_dir": str(adapter), "device": "cpu",
        "datasets": [{"path": str(FOLDER / file), "format": "auto"}]}), "learning_rate=0",
        "max_steps=1")
    cria("prepare", "--data", FOLDER / file, "--format", "auto", "--tokenizer", model,
         "--template", config["template"], "--max-length", MAX_LENGTH, "--out", work / "data.h5")
    if name == "sft":
        records, loss_of = driver.read_prepared(work / "data.h5"), sft_loss
    else:
        records, loss_of = preference_curves.read_records(work / "data.h5"), dpo_loss
    out, ends = {}, {}
    for key, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        trained = reference.load_model(model, adapter, trainable=True, dtype=dtype)
        start = adapter_of(trained)
        out[key] = train(trained, loss_of, records)
        ends[key] = adapter_of(trained)
    way = (ends["fp32"] - start).norm()
    return {"data": file, "config": config,
            "model_hash": driver.file_hash(model / "model.safetensors"), "losses": out,
            "adapter_error": ((ends["bf16"] - ends["fp32"]).norm() / way).item()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cria", required=True, help="the binary")
    args = parser.parse_args()
    common.quiet_and_deterministic()
    cria = driver.Cria(args.cria)
    common.write_json(FOLDER / "model.json", INIT_CONFIG)
    out = {"init_seed": INIT_SEED,
           "versions": {m.__name__: m.__version__ for m in (torch, transformers, peft)}}
    for name in RUNS:
        with tempfile.TemporaryDirectory() as work:
            out[name] = run = one_run(cria, name, Path(work))
        losses = run["losses"]
        print(f"{name}: {losses['fp32'][0]:.4f} to {losses['fp32'][-1]:.4f}; bf16 is off by"
              f" {common.relative_error(losses['bf16'], losses['fp32']):.2e} of the losses,"
              f" {run['adapter_error']:.2e} of the adapter's way", flush=True)
    common.write_json(FOLDER / "curves.json", out)


if __name__ == "__main__":
    main()

"""Loss curves of 50 steps by transformers and PEFT, from cria's own start weights and ids.

Writes tests/golden/curves/<name>.json: how to start (init config and seed, or a folder of
../shared/data), the config to train with, hashes of the start weights and of the ids, so that
a test can tell another start from a wrong step, and the losses and gradient norms of each
step. cria makes the start model (`cria init`), the start adapter (a run with learning rate 0)
and the ids (`cria prepare`); the order of the data, cutting, loss, clipping, AdamW and the schedule
are done again here, by torch.

    python curves.py --cria PATH [--shared DIR] [--check] [name ...]

Afterwards cria runs the same 50 steps and its distance is printed; --check does only that,
against the committed files. Data and tokenizers come from ../shared/data.
"""

import argparse
import json
import shutil
import struct
import tempfile
from pathlib import Path

import peft
import torch
import transformers
import xxhash

import common
import driver
import reference

STEPS = 50
SEED = 42
INIT_SEED = 1
INIT_CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32000,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "hidden_act": "silu", "initializer_range": 0.02, "tie_word_embeddings": False,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float32",
}
COMMON = {
    "stage": "sft", "max_length": 512, "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2, "max_steps": STEPS, "lr_scheduler_type": "linear",
    "warmup_steps": 0, "weight_decay": 0, "max_grad_norm": 1.0, "seed": SEED,
    "device": "cpu", "precision": "fp32", "logging_steps": 1, "save_steps": "none",
}
FULL = {"finetuning": "full", "learning_rate": 1e-3}
FULL_8BIT = {**FULL, "optim": "adamw_8bit"}
LORA = {"finetuning": "lora", "lora_r": 8, "lora_alpha": 16, "learning_rate": 2e-3}
ALPACA = ("sft/alpaca_en_demo.json", "alpaca")
VICUNA = ("chat/vicuna_dummy_500.json", "vicuna")

# name: ((data file, template), what is trained, a folder of ../shared/data to start from)
CURVES = {
    "alpaca_full": (ALPACA, FULL, None),
    "alpaca_lora": (ALPACA, LORA, None),
    "alpaca_full_8bit": (ALPACA, FULL_8BIT, None),
    "vicuna_full": (VICUNA, FULL, None),
    "vicuna_lora": (VICUNA, LORA, None),
    "alpaca_lora_stories": (ALPACA, LORA, "weights/stories260K"),
    "vicuna_lora_stories": (VICUNA, LORA, "weights/stories260K"),
}


def start_model(cria, data, start, work):
    """The folder to start from: one of ../shared/data, or a new model with llama2's tokenizer."""
    if start:
        return data / start
    folder = work / "start"
    common.write_json(work / "init.json", INIT_CONFIG)
    cria("init", "--config", work / "init.json", "--out", folder, "--seed", INIT_SEED)
    for file in (data / "tokenizers/llama2").iterdir():
        shutil.copy(file, folder)
    return folder


def start_adapter(cria, config, work):
    """The adapter before the first step: what a step of size 0 leaves."""
    out = work / "adapter"
    cria("train", config, f"output_dir={out}", "max_steps=1", "learning_rate=0")
    return out


def prepared_documents(cria, model, data_file, template, work):
    """Ids and weights of every document, as cria makes them."""
    out = work / "data.h5"
    cria("prepare", "--data", data_file, "--format", "auto", "--tokenizer", model,
         "--template", template, "--max-length", COMMON["max_length"], "--out", out)
    return driver.read_prepared(out)


def ids_hash(documents):
    """XXH3-128 over each document: its ids and -1 as int32, its weights as float32."""
    state = xxhash.xxh3_128()
    for ids, weights in documents:
        state.update(struct.pack(f"<{len(ids) + 1}i", *ids, -1))
        state.update(struct.pack(f"<{len(weights)}f", *weights))
    return state.hexdigest()


def fall(losses):
    """By what part the mean of the last five losses lies below the first."""
    return 1 - sum(losses[-5:]) / 5 / losses[0]


def reference_curve(model, adapter, documents, options):
    """Losses and gradient norms of all steps."""
    kept = reference.cut_documents(documents, COMMON["max_length"])
    per_step = COMMON["per_device_train_batch_size"] * COMMON["gradient_accumulation_steps"]
    batches = reference.step_batches(len(kept), STEPS, per_step, SEED)
    trained = reference.load_model(model, adapter, trainable=True)
    make_optimizer, more = None, {}
    if "optim" in options:
        import eight_bit  # of all curves this one alone wants bitsandbytes
        make_optimizer, more = eight_bit.adamw, {"eight_bit": eight_bit.golden()}
    losses, norms = reference.train_reference(trained, kept, batches, options["learning_rate"],
                                              make_optimizer=make_optimizer)
    return {**more, "documents": len(documents), "documents_kept": len(kept),
            "ids_hash": ids_hash(documents), "fall": fall(losses),
            "losses": losses, "grad_norms": norms}


class Run:
    """One curve's files in a scratch folder: data, start model, config."""

    def __init__(self, cria, data, name, work):
        (self.file, self.template), self.options, self.start = CURVES[name]
        self.cria, self.work, self.name = cria, work, name
        self.data_file = data / self.file
        self.model = start_model(cria, data, self.start, work)
        self.overrides = {**COMMON, **self.options, "template": self.template}
        self.config = driver.write_config(work / "config.yaml", {
            **self.overrides, "model_name_or_path": str(self.model),
            "datasets": [{"path": str(self.data_file), "format": "auto"}]})

    def golden(self):
        """What goes into the committed file."""
        lora = self.options["finetuning"] == "lora"
        adapter = start_adapter(self.cria, self.config, self.work) if lora else None
        documents = prepared_documents(
            self.cria, self.model, self.data_file, self.template, self.work)
        start = {"folder": self.start} if self.start else {
            "init_config": INIT_CONFIG, "init_seed": INIT_SEED, "tokenizer": "tokenizers/llama2"}
        start["model_hash"] = driver.file_hash(self.model / "model.safetensors")
        if adapter:
            start["adapter_hash"] = driver.file_hash(adapter / "adapter_model.safetensors")
        curve = reference_curve(self.model, adapter, documents, self.options)
        versions = {m.__name__: m.__version__ for m in (torch, transformers, peft)}
        return {"name": self.name, "data": self.file, "start": start,
                "learning_rate": self.options["learning_rate"], "config": self.overrides,
                **curve, "versions": versions}

    def distance(self, golden):
        """cria's own 50 steps: worst |difference| over max(1e-4 * loss, 1e-5), worst norm."""
        out = self.work / "trained"
        self.cria("train", self.config, f"output_dir={out}")
        rows = driver.read_metrics(out)
        if len(rows) != STEPS:
            raise SystemExit(f"{self.name}: {len(rows)} steps logged")
        loss = max(abs(row["loss"] - want) / max(1e-4 * want, 1e-5)
                   for row, want in zip(rows, golden["losses"]))
        norm = max(abs(row["grad_norm"] - want) / want
                   for row, want in zip(rows, golden["grad_norms"]))
        return loss, norm


def one_curve(cria, data, name, check):
    """Writes or checks one curve; True if cria is within the tolerance."""
    path = common.GOLDEN / "curves" / f"{name}.json"
    with tempfile.TemporaryDirectory() as work:
        run = Run(cria, data, name, Path(work))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            common.write_json(path, run.golden())
        golden = json.loads(path.read_text())
        loss, norm = run.distance(golden)
    print(f"{name:20} {golden['losses'][0]:.4f} to {golden['losses'][-1]:.4f}, falls by"
          f" {100 * golden['fall']:.1f} %; cria at {loss:.4f} of the tolerance,"
          f" gradient norm within {norm:.1e}", flush=True)
    return loss <= 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name")
    parser.add_argument("--cria", required=True, help="the binary")
    parser.add_argument("--shared", help="default: CRIA_SHARED or ../shared/data")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    args = parser.parse_args()
    common.quiet_and_deterministic()
    data = common.shared_data(args.shared)
    cria = driver.Cria(args.cria)
    good = [one_curve(cria, data, name, args.check) for name in args.names or CURVES]
    raise SystemExit(0 if all(good) else 1)


if __name__ == "__main__":
    main()

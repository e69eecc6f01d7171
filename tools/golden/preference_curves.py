"""Curves of preference runs by TRL and PEFT, from cria's own start weights and ids.

Writes tests/golden/preference/curves/<name>.json: how to start, the config to train with, hashes of
the start weights and of the ids, which records survive, and for each step TRL's loss and metrics.
TRL's trainers do all of the training: DPOTrainer, KTOTrainer, CPOTrainer (simpo), ORPOTrainer. What
is cria's is the start model (`cria init`), the start adapter (a run with learning rate 0), the ids
(`cria prepare`), and the order of the data, in which the dataset is laid before TRL goes through it
from its start.

    python preference_curves.py --cria PATH [--shared DIR] [--check] [name ...]

--check only trains with cria and prints its distance from the committed files.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import datasets
import h5py
import peft
import torch
import transformers
import trl
import xxhash
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

import common
import curves
import driver
import reference

SEED = 42
MAX_LENGTH = 1024
INIT_CONFIG = {**curves.INIT_CONFIG, "max_position_embeddings": 2048}
COMMON = {
    "max_length": MAX_LENGTH, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 1,
    "lr_scheduler_type": "linear", "warmup_steps": 0, "weight_decay": 0, "max_grad_norm": 0,
    "seed": SEED, "device": "cpu", "precision": "fp32", "logging_steps": 1, "save_steps": "none",
}
ORCA = ("preference/orca_dpo_pairs_native_284.jsonl", "orca")
SHAREGPT = ("preference/sharegpt_dpo_300.json", "vicuna")
KTO = ("preference/kto_en_300.json", "vicuna")
FULL = {"finetuning": "full", "learning_rate": 1e-4}
LORA = {"finetuning": "lora", "lora_r": 8, "lora_alpha": 16, "learning_rate": 2e-3}
DPO = {"stage": "dpo", "loss_type": "sigmoid", "beta": 0.1, "max_steps": 50}
# TRL's means of micro-batches' means; in DPO's sigmoid only logits/* differ from cria's default
TWO_OF_ONE = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2,
              "loss_reduction": "microbatch_mean"}
SHORT = {"beta": 0.1, "max_steps": 20}

# name: ((data file, template), what is trained and how)
CURVES = {
    "dpo_orca_lora": (ORCA, {**DPO, **LORA}),
    "dpo_orca_full": (ORCA, {**DPO, **FULL}),
    "dpo_sharegpt_lora": (SHAREGPT, {**DPO, **LORA, **TWO_OF_ONE}),
    "dpo_sharegpt_full": (SHAREGPT, {**DPO, **FULL, **TWO_OF_ONE}),
    "kto_lora": (KTO, {"stage": "kto", "loss_type": "kto", **SHORT, **LORA,
                       "per_device_train_batch_size": 4}),
    "orpo_lora": (ORCA, {"stage": "dpo", "loss_type": "orpo", **SHORT, **LORA,
                         "learning_rate": 5e-3}),
    "simpo_full": (SHAREGPT, {"stage": "dpo", "loss_type": "simpo", **SHORT, **FULL,
                              "learning_rate": 1e-3}),
}
METRICS = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
           "logps/chosen", "logps/rejected", "logits/chosen", "logits/rejected", "kl", "nll_loss")


# --- the records ---

def read_records(path):
    """The records of a prepared file: ids of the prompt and of both replies (one may be empty)."""
    with h5py.File(path) as f:
        offset, tokens = f["documents/offset"][:], f["tokens"][:].tolist()
        chosen, rejected = f["documents/chosen"][:], f["documents/rejected"][:]
    return [(tokens[a:a + c], tokens[a + c:a + r], tokens[a + r:b])
            for a, b, c, r in zip(offset[:-1], offset[1:], chosen, rejected)]


def ids_hash(records):
    """XXH3-128 over the ids of each record's parts, each as int32 with -1 behind."""
    state = xxhash.xxh3_128()
    for record in records:
        for part in record:
            state.update(torch.tensor(part + [-1], dtype=torch.int32).numpy().tobytes())
    return state.hexdigest()


def surviving(records):
    """TRL's rule, prompts of max_length are dropped, and cria's: so are pairs whose replies are the
    same after the cut."""
    def kept(prompt, chosen, rejected):
        room = MAX_LENGTH - len(prompt)
        return room > 0 and chosen[:room] != rejected[:room]
    return [record for record in records if kept(*record)]


def in_order(records, config):
    """The records as often and in the order that the run meets them; kto goes through the file."""
    per_step = config["per_device_train_batch_size"] * config["gradient_accumulation_steps"]
    if config["stage"] == "kto":
        if len(records) < config["max_steps"] * per_step:
            raise SystemExit("kto: more than one epoch")
        return records[:config["max_steps"] * per_step]
    steps = reference.step_batches(len(records), config["max_steps"], per_step, SEED)
    if any(len(step) < per_step for step in steps):
        raise SystemExit("a step at an epoch's end is short: TRL would fill it")
    return [records[i] for step in steps for i in step]


# --- the trainers ---

class Recorder:
    """Keeps each micro-batch's loss and what is logged; takes ids as they are."""

    def __init__(self, *args, **kwargs):
        self.losses, self.logged = [], []
        super().__init__(*args, **kwargs)

    def _prepare_dataset(self, dataset, *args):
        return dataset

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        self.losses.append(loss.item())
        return loss


class Log(transformers.TrainerCallback):
    def __init__(self, rows):
        self.rows = rows

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "rewards/chosen" in logs or "rewards/rejected" in logs:
            self.rows.append(dict(logs))


class ReadyRows:
    """For CPO and ORPO, whose datasets are tokenized text by text: ids by the record's number."""

    def tokenize_row(self, feature, model=None):
        prompt, chosen, rejected = self.records[int(feature["prompt"])]
        out = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
        for name, reply in (("chosen", chosen), ("rejected", rejected)):
            reply = reply[:MAX_LENGTH - len(prompt)]
            out[f"{name}_input_ids"] = prompt + reply
            out[f"{name}_attention_mask"] = [1] * len(prompt + reply)
            out[f"{name}_labels"] = [-100] * len(prompt) + reply
        return out


class Dpo(Recorder, trl.DPOTrainer):
    pass


class Kto(Recorder, trl.KTOTrainer):
    pass


class Simpo(ReadyRows, Recorder, CPOTrainer):
    pass


class Orpo(ReadyRows, Recorder, ORPOTrainer):
    pass


def dpo_rows(records, config):
    return [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in records]


def kto_rows(records, config):
    """With each record the reply of the one before it in its micro-batch."""
    batch = config["per_device_train_batch_size"]
    rows = []
    for start in range(0, len(records), batch):
        part = records[start:start + batch]
        for i, (prompt, chosen, rejected) in enumerate(part):
            _, before_chosen, before_rejected = part[i - 1]
            rows.append({"prompt_ids": prompt, "completion_ids": chosen or rejected,
                         "KL_completion_ids": before_chosen or before_rejected,
                         "label": bool(chosen)})
    return rows


def numbered_rows(records, config):
    return [{"prompt": str(i), "chosen": "", "rejected": ""} for i in range(len(records))]


# loss_type: (trainer, its arguments, rows, further arguments)
TRAINERS = {
    "sigmoid": (Dpo, trl.DPOConfig, dpo_rows, {"loss_type": ["sigmoid"]}),
    "kto": (Kto, trl.KTOConfig, kto_rows, {"loss_type": "kto"}),
    "simpo": (Simpo, CPOConfig, numbered_rows, {"loss_type": "simpo"}),
    "orpo": (Orpo, ORPOConfig, numbered_rows, {}),
}


def tokenizer(folder):
    """Only its special ids are used."""
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), bos_token="<s>", eos_token="</s>",
        unk_token="<unk>", pad_token="<unk>")


def trl_arguments(kind, config, further, work):
    names = ("beta", "per_device_train_batch_size", "gradient_accumulation_steps", "max_steps",
             "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm",
             "max_length", "seed", "logging_steps")
    return kind(output_dir=str(work / "trl"), bf16=False, use_cpu=True, report_to=[],
                save_strategy="no", gradient_checkpointing=False, optim="adamw_torch",
                train_sampling_strategy="sequential", disable_tqdm=True, dataset_num_proc=None,
                **{name: config[name] for name in names}, **further)


def by_step(trainer, config):
    """{name: a value a step}; null where a step has none."""
    parts = config["gradient_accumulation_steps"]
    losses = [sum(trainer.losses[i:i + parts]) / parts
              for i in range(0, len(trainer.losses), parts)]
    # CPO and ORPO average padding's logits in
    names = [m for m in METRICS if any(m in row for row in trainer.logged)
             and not (m.startswith("logits/") and config["loss_type"] != "sigmoid")]
    if not len(losses) == len(trainer.logged) == config["max_steps"]:
        raise SystemExit(f"{len(losses)} losses, {len(trainer.logged)} logs")
    rounded = {m: [None if row.get(m) is None else float(f"{row[m]:.9g}") for row in trainer.logged]
               for m in names}
    return {"loss": [float(f"{x:.9g}") for x in losses], **rounded}


def train(model_folder, adapter, records, config, work):
    """TRL's run over the records; what it says about each step."""
    kind, arguments, rows, further = TRAINERS[config["loss_type"]]
    model = reference.load_model(model_folder, adapter, trainable=True).train()
    data = datasets.Dataset.from_list(rows(records, config))
    extra = {}
    if config["loss_type"] in ("sigmoid", "kto") and not adapter:
        extra["ref_model"] = reference.load_model(model_folder)
    kind.records = records
    trainer = kind(model=model, args=trl_arguments(arguments, config, further, work),
                   train_dataset=data, processing_class=tokenizer(model_folder), **extra)
    trainer.add_callback(Log(trainer.logged))
    trainer.train()
    return by_step(trainer, config)


# --- a curve ---

def part_means(values):
    """Means of the first and of the last fifth."""
    values = [v for v in values if v is not None]
    n = max(1, len(values) // 5)
    return sum(values[:n]) / n, sum(values[-n:]) / n


class Run:
    """One curve's files in a scratch folder: data, start model, config."""

    def __init__(self, cria, data, name, work):
        (self.file, self.template), options = CURVES[name]
        self.cria, self.work, self.name, self.data = cria, work, name, data
        self.model = work / "start"
        common.write_json(work / "init.json", INIT_CONFIG)
        cria("init", "--config", work / "init.json", "--out", self.model, "--seed",
             curves.INIT_SEED)
        (self.model / "tokenizer.json").write_bytes(
            (data / "tokenizers/llama2/tokenizer.json").read_bytes())
        self.config = {**COMMON, **options, "template": self.template}

    def adapter(self):
        """The adapter before the first step: what a step of size 0 leaves, of any stage."""
        out = self.work / "adapter"
        own = {k: self.config[k] for k in ("finetuning", "lora_r", "lora_alpha", "seed")}
        config = driver.write_config(self.work / "adapter.yaml", {
            **own, "model_name_or_path": str(self.model), "stage": "sft", "template": "alpaca",
            "datasets": [{"path": str(self.data / curves.ALPACA[0]), "format": "auto"}],
            "max_length": 64, "max_steps": 1, "learning_rate": 0, "save_steps": "none",
            "output_dir": str(out), "device": "cpu"})
        self.cria("train", config)
        return out

    def golden(self):
        """What goes into the committed file."""
        adapter = self.adapter() if self.config["finetuning"] == "lora" else None
        prepared = self.work / "data.h5"
        self.cria("prepare", "--data", self.data / self.file, "--format", "auto", "--tokenizer",
                  self.model, "--template", self.template, "--max-length", MAX_LENGTH,
                  "--out", prepared)
        records = read_records(prepared)
        kept = surviving(records)
        values = train(self.model, adapter, in_order(kept, self.config), self.config, self.work)
        start = {"init_config": INIT_CONFIG, "init_seed": curves.INIT_SEED,
                 "tokenizer": "tokenizers/llama2",
                 "model_hash": driver.file_hash(self.model / "model.safetensors")}
        if adapter:
            start["adapter_hash"] = driver.file_hash(adapter / "adapter_model.safetensors")
        versions = {m.__name__: m.__version__ for m in (torch, transformers, peft, trl)}
        return {"name": self.name, "data": self.file, "start": start, "config": self.config,
                "records": len(records), "records_kept": len(kept), "ids_hash": ids_hash(records),
                "steps": values, "versions": versions}

    def distance(self, golden):
        """cria's own steps: the worst |difference| of each metric over its tolerance."""
        out = self.work / "trained"
        config = driver.write_config(self.work / "config.yaml", {
            **self.config, "model_name_or_path": str(self.model), "output_dir": str(out),
            "datasets": [{"path": str(self.data / self.file), "format": "auto"}]})
        self.cria("train", config)
        rows = driver.read_metrics(out)
        if len(rows) != self.config["max_steps"]:
            raise SystemExit(f"{self.name}: {len(rows)} steps logged")
        return {m: max((abs(row[m] - want) / tolerance(golden, m, i)
                        for i, (row, want) in enumerate(zip(rows, values))
                        if want is not None and tolerance(golden, m, i)), default=0.0)
                for m, values in golden["steps"].items()}


def tolerance(golden, metric, step):
    """What a metric may be off by; None: anything (an accuracy where the margin is too small)."""
    values = {name: v[step] for name, v in golden["steps"].items()}
    size = 1e-4 * abs(values[metric])
    fp32 = 2e-7 * golden["config"]["beta"] * (
        abs(values.get("logps/chosen") or 0) + abs(values.get("logps/rejected") or 0))
    if metric in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
        return max(size, fp32)
    if metric == "rewards/accuracies":
        margin = abs(values["rewards/margins"])
        return 1e-6 if margin > max(1e-4 * margin, fp32) else None
    if metric == "kl":
        return max(size, fp32 / golden["config"]["beta"])
    return max(size, 1e-6) if metric.startswith("logits/") else size


def one_curve(cria, data, name, check):
    """Writes or checks one curve; True if cria is within the tolerance."""
    path = common.GOLDEN / "preference" / "curves" / f"{name}.json"
    with tempfile.TemporaryDirectory() as work:
        run = Run(cria, data, name, Path(work))
        if check:
            golden = json.loads(path.read_text())
            distance = run.distance(golden)
            print(name, {m: round(v, 4) for m, v in distance.items()}, flush=True)
            return max(distance.values()) <= 1
        golden = run.golden()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_golden(path, golden)
    print(f"{name}: {golden['records_kept']} of {golden['records']} records;", ", ".join(
        "{} {:.5g} to {:.5g}".format(m, *part_means(v)) for m, v in golden["steps"].items()),
        flush=True)
    return True


def write_golden(path, golden):
    """JSON with a metric a line."""
    lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in golden["steps"].items())
    text = json.dumps({k: v for k, v in golden.items() if k != "steps"}, indent=1)
    path.write_text(text[:-2] + ',\n "steps": {\n' + lines + "\n }\n}\n")


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

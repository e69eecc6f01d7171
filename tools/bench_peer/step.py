"""The peer's side of tools/bench: transformers (and PEFT) on PyTorch's CPU, as a Trainer runs a step.

    python step.py --model DIR --data F.h5 --finetuning full|lora --batch N --max-length N
                   --steps N --threads N

Reads the dataset file that cria prepared, so ids, supervision and order are the same. Then, for
each line "A B" on stdin, runs steps A to B-1 and answers with one line of JSON: their seconds, their
tokens (padding not counted) and those supervised, and the process's peak memory so far. It waits
without computing in between.

The settings are the best there are here for a step that computes the same: SDPA (without a mask
where nothing is padded, so that its causal path is taken), fused AdamW, gradients freed between
steps, no key-value cache, no gradient checkpointing, and none of a Trainer's bookkeeping. Batches
are padded to their longest row.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.append(str(Path(__file__).resolve().parents[1] / "golden"))

import torch
import transformers

import driver
import reference

SEED = 42
IGNORED = -100


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--finetuning", choices=["full", "lora"], required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--max-length", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True, help="the most that will be asked for")
    return parser.parse_args()


def collate(rows):
    """Padded to the longest, as DataCollatorForSeq2Seq does; the mask is None if none is needed."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, (row, weights) in enumerate(rows):
        n = len(row)
        ids[i, :n] = torch.tensor(row)
        mask[i, :n] = 1
        labels[i, :n] = torch.where(torch.tensor(weights) != 0, ids[i, :n], IGNORED)
    return {"input_ids": ids, "labels": labels, "attention_mask": None if mask.all() else mask}


def load(args):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.float32, attn_implementation="sdpa")
    model.config.use_cache = False
    if args.finetuning == "lora":
        import peft
        model = peft.get_peft_model(model, peft.LoraConfig(
            r=8, lora_alpha=8, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM"))
    return model.train()


def run_step(model, trained, optimizer, batch):
    model(**batch).loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    transformers.utils.logging.disable_progress_bar()
    rows = reference.cut_documents(driver.read_prepared(args.data), args.max_length)
    order = reference.step_batches(len(rows), args.steps, args.batch, SEED)
    model = load(args)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0, fused=True)
    for line in sys.stdin:
        first, last = map(int, line.split())
        seconds = []
        for numbers in order[first:last]:
            began = time.perf_counter()
            run_step(model, trained, optimizer, collate([rows[i] for i in numbers]))
            seconds.append(time.perf_counter() - began)
        used = [rows[i] for numbers in order[first:last] for i in numbers]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({
            "seconds": seconds, "tokens": sum(len(ids) for ids, _ in used),
            "supervised": sum(sum(w != 0 for w in weights) for _, weights in used),
            "peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()

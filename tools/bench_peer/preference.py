"""The peer's side of tools/bench for preferences: TRL's DPOTrainer and PEFT on PyTorch's CPU.

    python preference.py --model DIR --data F.h5 --batch N --steps N --threads N [--checkpointing]

Reads the pairs of the dataset file that cria prepared, so the ids are the same. Then, for each line
"N" on stdin, lets the trainer take N steps and answers with one line of JSON: their seconds and the
process's peak memory so far. It waits without computing in between.

The trainer is TRL's own, left alone but for ids that are ready. Timed are its steps from the batch
on: forward, the reference's forward with the adapter off, loss and metrics, backward, clipping,
update. The settings are the best there are here for such a run: SDPA, fused AdamW, no logs to write,
no checkpoints on disk; activations are kept unless --checkpointing says to recompute them.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.append(str(Path(__file__).resolve().parents[1] / "golden"))

import datasets
import h5py
import peft
import torch
import transformers
import trl

SEED = 42


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True, help="the most that will be asked for")
    parser.add_argument("--checkpointing", action="store_true")
    return parser.parse_args()


def read_pairs(path):
    with h5py.File(path) as f:
        offset, tokens = f["documents/offset"][:], f["tokens"][:].tolist()
        chosen, rejected = f["documents/chosen"][:], f["documents/rejected"][:]
    return [{"prompt_ids": tokens[a:a + c], "chosen_ids": tokens[a + c:a + r],
             "rejected_ids": tokens[a + r:b]}
            for a, b, c, r in zip(offset[:-1], offset[1:], chosen, rejected)]


class Trainer(trl.DPOTrainer):
    def _prepare_dataset(self, dataset, *args):
        return dataset


def peak_bytes():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


class Turns(transformers.TrainerCallback):
    """Waits before a step until one is wanted, and answers behind the last of those wanted."""

    def __init__(self):
        self.wanted, self.seconds, self.began = 0, [], 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        if not self.wanted:
            line = sys.stdin.readline()
            if not line:
                os._exit(0)  # nobody wants more, and a Trainer has no gentle way out of a step
            self.wanted = int(line)
        self.began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.began)
        self.wanted -= 1
        if not self.wanted:
            print(json.dumps({"seconds": self.seconds, "peak_bytes": peak_bytes()}), flush=True)
            self.seconds = []


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.float32, attn_implementation="sdpa")
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(Path(args.model) / "tokenizer.json"), bos_token="<s>", eos_token="</s>",
        unk_token="<unk>", pad_token="<unk>")
    config = trl.DPOConfig(
        output_dir=str(Path(args.data).with_suffix(".trl")), use_cpu=True, bf16=False,
        report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, max_length=2048,
        per_device_train_batch_size=args.batch, max_steps=args.steps, learning_rate=1e-4,
        gradient_checkpointing=args.checkpointing, optim="adamw_torch_fused", seed=SEED)
    adapter = peft.LoraConfig(r=8, lora_alpha=8, lora_dropout=0, target_modules="all-linear",
                              task_type="CAUSAL_LM")
    Trainer(model=model, args=config, train_dataset=datasets.Dataset.from_list(
        read_pairs(args.data)), processing_class=tokenizer, peft_config=adapter,
        callbacks=[Turns()]).train()


if __name__ == "__main__":
    main()

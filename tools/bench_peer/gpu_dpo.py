"""The peer's side of tools/gpu-check for preferences: TRL's DPOTrainer and PEFT on the GPU.

    python gpu_dpo.py --config F.json --tokenizer DIR --data F.h5 --batch N --steps N

A Llama of that shape with random bf16 weights made on the device takes steps over the pairs that
cria prepared, so the ids are the same. The trainer is TRL's own, left alone but for ids that are
ready: LoRA (r 16 on all linear layers), the reference by switching it off, SDPA, fused AdamW, no
logs, no checkpoints, activations kept. Timed from the batch on; prints one line of JSON: seconds of
each step behind two that warm up, pairs a second of the median one and the most bytes PyTorch held.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import datasets
import h5py
import peft
import torch
import transformers
import trl

SEED, R, WARM_UP = 42, 16, 2


def arguments():
    parser = argparse.ArgumentParser()
    for name, kind in (("config", str), ("tokenizer", str), ("data", str), ("batch", int),
                       ("steps", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
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


class Clock(transformers.TrainerCallback):
    def __init__(self):
        self.seconds, self.began = [], 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        self.began = self.now()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(self.now() - self.began)

    @staticmethod
    def now():
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def main():
    args, clock = arguments(), Clock()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            **json.load(open(args.config)), use_cache=False, attn_implementation="sdpa"))
    torch.set_default_dtype(torch.float32)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(Path(args.tokenizer) / "tokenizer.json"), bos_token="<s>",
        eos_token="</s>", unk_token="<unk>", pad_token="<unk>")
    with tempfile.TemporaryDirectory() as out:
        config = trl.DPOConfig(
            output_dir=out, use_cpu=device == "cpu", bf16=True, report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, max_length=4096, learning_rate=1e-4,
            per_device_train_batch_size=args.batch, max_steps=WARM_UP + args.steps,
            gradient_checkpointing=False, optim="adamw_torch_fused", seed=SEED)
        adapter = peft.LoraConfig(r=R, lora_alpha=R, lora_dropout=0, target_modules="all-linear",
                                  task_type="CAUSAL_LM")
        Trainer(model=model, args=config, processing_class=tokenizer, peft_config=adapter,
                train_dataset=datasets.Dataset.from_list(read_pairs(args.data)),
                callbacks=[clock]).train()
    seconds = clock.seconds[WARM_UP:]
    print(json.dumps({
        "seconds": seconds, "pairs_per_second": args.batch / statistics.median(seconds),
        "peak_bytes": torch.cuda.max_memory_reserved() if device == "cuda" else None}))


if __name__ == "__main__":
    main()

"""The peer's side of tools/gpu-check for whole steps: transformers (and PEFT) on the GPU, or
torchtune.

    python gpu_step.py --rows F.json --peer eager|compiled|liger|torchtune --steps N

F.json is a list of {"name", "config": a config.json, "tokens", "tuning": full or lora,
"checkpointing": bool, "all_bf16": bool}. For each, a Llama of that shape with random weights made on
the device takes steps over one text of so many tokens, all supervised, as a Trainer runs them: SDPA,
fused AdamW, clipping, no key-value cache. LoRA (r 16 on all linear layers) is on a bf16 base; full
training holds fp32 weights and computes in bf16 by autocast (Trainer's bf16=True), which is what
cria holds, or with all_bf16 weights and moments in bf16.

compiled: each layer by torch.compile (layers share one compilation). liger: its kernels in
transformers. torchtune: its model instead, as its recipes run it, and with "checkpointing" the same.

Prints a line of JSON a row, at once: its name, seconds of each step behind two that warm up (six
where something is compiled), tokens a second of the median one, losses and the most bytes PyTorch
held; or "failed", and "memory" where there was too little. The next row runs all the same.
"""

import argparse
import gc
import json
import statistics
import sys
import time

import torch
import transformers

R = 16
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PEERS = ("eager", "compiled", "liger", "torchtune")
LAYERS = ("LlamaDecoderLayer", "TransformerSelfAttentionLayer")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", required=True)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--steps", type=int, required=True)
    return parser.parse_args()


class Tuned(torch.nn.Module):
    """torchtune's Llama behind the call that the loop makes."""

    def __init__(self, row):
        super().__init__()
        from torchtune.models import llama3, llama3_2
        c = json.load(open(row["config"]))
        sizes = {"vocab_size": c["vocab_size"], "num_layers": c["num_hidden_layers"],
                 "num_heads": c["num_attention_heads"], "num_kv_heads": c["num_key_value_heads"],
                 "embed_dim": c["hidden_size"], "intermediate_dim": c["intermediate_size"],
                 "max_seq_len": max(row["tokens"], 128), "rope_base": c["rope_theta"]}
        tied = c["tie_word_embeddings"]
        if row["tuning"] == "full":
            self.model = (llama3_2.llama3_2 if tied else llama3.llama3)(**sizes)
        else:
            from torchtune.modules.peft import get_adapter_params, set_trainable_params
            make = llama3_2.lora_llama3_2 if tied else llama3.lora_llama3
            self.model = make(["q_proj", "k_proj", "v_proj", "output_proj"], apply_lora_to_mlp=True,
                              lora_rank=R, lora_alpha=R, **sizes)
            set_trainable_params(self.model, get_adapter_params(self.model))

    def forward(self, input_ids, labels):
        logits = self.model(input_ids)[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits, labels[0, 1:])
        return argparse.Namespace(loss=loss)


def make_llama(row):
    config = transformers.LlamaConfig(**json.load(open(row["config"])), use_cache=False,
                                      attn_implementation="sdpa")
    return transformers.LlamaForCausalLM(config)


def add_adapter(model):
    import peft
    return peft.get_peft_model(model, peft.LoraConfig(
        r=R, lora_alpha=R, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM"))


def make_model(row, peer):
    half = row["tuning"] == "lora" or row["all_bf16"]
    torch.set_default_dtype(torch.bfloat16 if half else torch.float32)
    try:
        with torch.device(DEVICE):
            model = Tuned(row) if peer == "torchtune" else make_llama(row)
    finally:
        torch.set_default_dtype(torch.float32)
    if peer == "torchtune":
        return model.train()
    if row["checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return (add_adapter(model) if row["tuning"] == "lora" else model).train()


def run_row(row, peer, steps):
    torch.manual_seed(1)
    model = make_model(row, peer)
    if peer == "compiled":
        for module in model.modules():
            if type(module).__name__ in LAYERS:
                module.compile()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0, fused=True)
    ids = torch.randint(0, 1000, (1, row["tokens"]), device=DEVICE)
    autocast = row["tuning"] == "full" and not row["all_bf16"]
    seconds, losses, warm_up = [], [], 6 if peer == "compiled" else 2
    for _ in range(warm_up + steps):
        began = time.perf_counter()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())  # waits for the device
        seconds.append(time.perf_counter() - began)
    seconds = seconds[warm_up:]
    return {"seconds": seconds, "tokens_per_second": row["tokens"] / statistics.median(seconds),
            "loss": losses,
            "peak_bytes": torch.cuda.max_memory_reserved() if DEVICE == "cuda" else None}


def clean_up():
    """What a row left on the device, so that the next one has all of it."""
    gc.collect()
    torch.compiler.reset()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def main():
    args = arguments()
    transformers.utils.logging.disable_progress_bar()
    if args.peer == "liger":
        from liger_kernel.transformers import apply_liger_kernel_to_llama
        apply_liger_kernel_to_llama()
    for row in json.load(open(args.rows)):
        try:
            found = run_row(row, args.peer, args.steps)
        except torch.OutOfMemoryError as e:
            found = {"failed": str(e)[:300], "memory": True}
        except Exception as e:  # whatever a peer's code does, the next row runs
            found = {"failed": f"{type(e).__name__}: {e}"[:600]}
        clean_up()
        print(json.dumps({"name": row["name"], **found}), flush=True)


if __name__ == "__main__":
    sys.exit(main())

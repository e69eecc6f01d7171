"""The peer's side of tools/gpu-check for whole steps: transformers (and PEFT) on the GPU.

    python gpu_step.py --config F.json --tokens N --finetuning full|lora --steps N
                       [--checkpointing] [--compile] [--liger]

A Llama of that shape with random weights made on the device takes steps over one text of N tokens,
all supervised, as a Trainer runs them: SDPA, fused AdamW, clipping, no key-value cache. LoRA (r 16
on all linear layers) is on a bf16 base; full training holds fp32 weights and computes in bf16 by
autocast (Trainer's bf16=True), which is what cria holds. Prints one line of JSON: seconds of each
step behind two that warm up (six with --compile), tokens a second of the median one, loss and the
most bytes PyTorch held.
"""

import argparse
import json
import statistics
import time

import torch
import transformers

R = 16


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--finetuning", choices=["full", "lora"], required=True)
    parser.add_argument("--steps", type=int, required=True)
    for name in ("checkpointing", "compile", "liger"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


def make_model(args, device):
    config = transformers.LlamaConfig(**json.load(open(args.config)), use_cache=False,
                                      attn_implementation="sdpa")
    if args.liger:
        from liger_kernel.transformers import apply_liger_kernel_to_llama
        apply_liger_kernel_to_llama()
    lora = args.finetuning == "lora"
    torch.set_default_dtype(torch.bfloat16 if lora else torch.float32)
    with torch.device(device):
        model = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    if args.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    if lora:
        import peft
        model = peft.get_peft_model(model, peft.LoraConfig(
            r=R, lora_alpha=R, lora_dropout=0, target_modules="all-linear", task_type="CAUSAL_LM"))
    return model.train()


def main():
    args = arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    model = make_model(args, device)
    run = torch.compile(model) if args.compile else model
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0, fused=True)
    ids = torch.randint(0, 1000, (1, args.tokens), device=device)
    seconds, losses, warm_up = [], [], 6 if args.compile else 2
    for _ in range(warm_up + args.steps):
        began = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=args.finetuning == "full"):
            loss = run(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())  # waits for the device
        seconds.append(time.perf_counter() - began)
    seconds = seconds[warm_up:]
    print(json.dumps({
        "seconds": seconds, "tokens_per_second": args.tokens / statistics.median(seconds),
        "loss": losses, "compiled": args.compile, "liger": args.liger,
        "peak_bytes": torch.cuda.max_memory_reserved() if device == "cuda" else None}))


if __name__ == "__main__":
    main()

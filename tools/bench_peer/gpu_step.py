"""The peer's side of tools/gpu-check for whole steps: transformers (and PEFT) on the GPU.

    python gpu_step.py --config F.json --tokens N --finetuning full|lora --steps N
                       [--checkpointing] [--compile whole|layers] [--liger] [--torchtune]

A Llama of that shape with random weights made on the device takes steps over one text of N tokens,
all supervised, as a Trainer runs them: SDPA, fused AdamW, clipping, no key-value cache. LoRA (r 16
on all linear layers) is on a bf16 base; full training holds fp32 weights and computes in bf16 by
autocast (Trainer's bf16=True), which is what cria holds. --compile: by torch.compile, the model
whole or each of its layers (which share one compilation). --torchtune: its model instead, as its
recipes run it. Prints one line of JSON: seconds of each step behind two that warm up (six with
--compile), tokens a second of the median one, loss and the most bytes PyTorch held.
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
    parser.add_argument("--compile", choices=["whole", "layers"])
    for name in ("checkpointing", "liger", "torchtune"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


class Tuned(torch.nn.Module):
    """torchtune's Llama behind the call that the loop makes."""

    def __init__(self, args):
        super().__init__()
        from torchtune.models import llama3
        c = json.load(open(args.config))
        sizes = {"vocab_size": c["vocab_size"], "num_layers": c["num_hidden_layers"],
                 "num_heads": c["num_attention_heads"], "num_kv_heads": c["num_key_value_heads"],
                 "embed_dim": c["hidden_size"], "intermediate_dim": c["intermediate_size"],
                 "max_seq_len": max(args.tokens, 128), "rope_base": c["rope_theta"]}
        if args.finetuning == "full":
            self.model = llama3.llama3(**sizes)
        else:
            from torchtune.modules.peft import get_adapter_params, set_trainable_params
            self.model = llama3.lora_llama3(
                ["q_proj", "k_proj", "v_proj", "output_proj"], apply_lora_to_mlp=True, lora_rank=R,
                lora_alpha=R, **sizes)
            set_trainable_params(self.model, get_adapter_params(self.model))

    @property
    def layers(self):
        return self.model.layers

    def forward(self, input_ids, labels):
        logits = self.model(input_ids)[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits, labels[0, 1:])
        return argparse.Namespace(loss=loss)


def make_tuned(args, device):
    torch.set_default_dtype(torch.bfloat16 if args.finetuning == "lora" else torch.float32)
    with torch.device(device):
        model = Tuned(args)
    torch.set_default_dtype(torch.float32)
    return model.train()


def compile_model(model, how):
    """What the loop calls."""
    if how != "layers":
        return torch.compile(model) if how else model
    for module in model.modules():
        if type(module).__name__ in ("LlamaDecoderLayer", "TransformerSelfAttentionLayer"):
            module.compile()
    return model


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
    model = make_tuned(args, device) if args.torchtune else make_model(args, device)
    run = compile_model(model, args.compile)
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
        "loss": losses, "compiled": args.compile, "liger": args.liger, "torchtune": args.torchtune,
        "peak_bytes": torch.cuda.max_memory_reserved() if device == "cuda" else None}))


if __name__ == "__main__":
    main()

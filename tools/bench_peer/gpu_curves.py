"""What transformers' own loss is off by in bf16: the measure of ours in tools/gpu-check.

    python gpu_curves.py --model DIR --data F.h5 --kind sft|lora|dpo --steps N --batch N --lr X

Trains twice on the documents that cria prepared, in fp32 and in bf16, each document alone, and
prints {"fp32": [loss, ...], "bf16": [...]}. In bf16 the model's weights and activations are bf16
and what the optimiser updates is fp32, as in cria: masters of all weights for sft, PEFT's adapters
for the others. dpo: the sigmoid loss, beta 0.1, its reference the model with the adapter off.
"""

import argparse
import json

import h5py
import torch
import torch.nn.functional as F
import transformers


SEED, LENGTH, BETA, R = 42, 256, 0.1, 16


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--kind", choices=["sft", "lora", "dpo"], required=True)
    for name, kind in (("steps", int), ("batch", int), ("lr", float)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    return parser.parse_args()


def read(path, pairs):
    """[(ids, weights)] of texts; of pairs [(ids and weights of chosen, of rejected)]."""
    with h5py.File(path) as f:
        offset, tokens, weights = f["documents/offset"][:], f["tokens"][:], f["weights"][:]
        chosen, rejected = f["documents/chosen"][:], f["documents/rejected"][:]
    whole = [(tokens[a:b].tolist(), weights[a:b].tolist()) for a, b in zip(offset, offset[1:])]
    if not pairs:
        return [(ids[:LENGTH], w[:LENGTH]) for ids, w in whole if any(w[1:LENGTH])]
    return [((ids[:r], w[:r]), (ids[:c] + ids[r:], w[:c] + w[r:]))
            for (ids, w), c, r in zip(whole, chosen, rejected)]


def order(count, steps, batch):
    """cria's order of data, which is torch's."""
    numbers, epoch = [], 0
    while len(numbers) < steps:
        all_of_it = torch.randperm(
            count, generator=torch.Generator().manual_seed(SEED + epoch)).tolist()
        numbers += [all_of_it[i:i + batch] for i in range(0, count, batch)]
        epoch += 1
    return numbers[:steps]


def log_probability(model, document, device):
    """Sum of the supervised tokens' log-probabilities, and how many there are."""
    ids, weights = (torch.tensor(part, device=device) for part in document)
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
    logp = F.log_softmax(logits, -1).gather(1, ids[1:, None])[:, 0]
    return (logp * weights[1:]).sum(), weights[1:].sum()


def text_loss(model, documents, device):
    sums = [log_probability(model, document, device) for document in documents]
    return -sum(s for s, _ in sums) / sum(n for _, n in sums)


def pair_loss(model, pairs, device):
    losses = []
    for pair in pairs:
        here = [log_probability(model, reply, device)[0] for reply in pair]
        with torch.no_grad(), model.disable_adapter():
            there = [log_probability(model, reply, device)[0] for reply in pair]
        margin = (here[0] - there[0]) - (here[1] - there[1])
        losses.append(-F.logsigmoid(BETA * margin))
    return sum(losses) / len(losses)


def make_model(args, dtype, device):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=dtype, attn_implementation="sdpa").to(device)
    if args.kind == "sft":
        return model
    import peft
    torch.manual_seed(1)  # the same first adapter in both types
    return peft.get_peft_model(model, peft.LoraConfig(
        r=R, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))


def curve(args, documents, dtype, device):
    model = make_model(args, dtype, device).eval()
    trained = [p for p in model.parameters() if p.requires_grad]
    masters = [p.detach().float().clone().requires_grad_() for p in trained]
    optimizer = torch.optim.AdamW(masters, lr=args.lr, weight_decay=0)
    loss_of, losses = pair_loss if args.kind == "dpo" else text_loss, []
    for numbers in order(len(documents), args.steps, args.batch):
        for p in trained:
            p.grad = None
        loss = loss_of(model, [documents[i] for i in numbers], device)
        loss.backward()
        losses.append(loss.item())
        for master, p in zip(masters, trained):
            master.grad = p.grad.float()
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.step()
        with torch.no_grad():
            for master, p in zip(masters, trained):
                p.copy_(master)
    return losses


def main():
    args = arguments()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    transformers.utils.logging.disable_progress_bar()
    documents = read(args.data, args.kind == "dpo")
    print(json.dumps({name: curve(args, documents, dtype, device)
                      for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}))


if __name__ == "__main__":
    main()

"""Training as transformers, PEFT and torch do it, over documents given as ids and weights.

A document is (ids, weights), whole; weights[i] = 1 says that ids[i] is to be predicted.
Everything is fp32 unless another type is asked for, each document runs alone (nothing to pad,
nothing to leak), a step's loss is the sum of its supervised tokens' losses over their number.
"""

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def load_model(folder, adapter=None, trainable=False, dtype=torch.float32):
    """A model folder in dtype, with the adapter (of fp32) on top if there is one."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True)
    problems = {k: v for k, v in info.items() if v}
    if problems:
        raise ValueError(f"{folder}: {problems}")
    if adapter:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
    return model.eval()


def cut_documents(documents, max_length):
    """The first max_length tokens of each; those with nothing supervised left are dropped."""
    cut = [(ids[:max_length], weights[:max_length]) for ids, weights in documents]
    return [(ids, weights) for ids, weights in cut if any(weights[1:])]


def data_order(count, epoch, seed):
    """The permutation of an epoch, from 0."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch)).tolist()


def step_batches(count, steps, per_step, seed):
    """Document numbers of each step; an epoch's last step may be short."""
    batches, epoch = [], 0
    while len(batches) < steps:
        order = data_order(count, epoch, seed)
        batches += [order[i:i + per_step] for i in range(0, count, per_step)]
        epoch += 1
    return batches[:steps]


def document_nll(model, ids, weights):
    """Sum of weights * -log p over one document, a scalar on the graph."""
    ids = torch.tensor(ids, dtype=torch.long)
    weights = torch.tensor(weights[1:], dtype=torch.float32)
    logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
    rows = weights.nonzero()[:, 0]
    logps = torch.log_softmax(logits[rows].float(), dim=-1)
    return -(logps.gather(1, ids[1:][rows, None])[:, 0] * weights[rows]).sum()


def linear_decay(step, steps, warmup):
    """Factor on the learning rate before step `step`, from 0."""
    if step < warmup:
        return step / max(1, warmup)
    return (steps - step) / max(1, steps - warmup)


def train_step(model, parameters, documents):
    """Gradients of the step's token mean; returns that mean."""
    count = sum(sum(weights[1:]) for _, weights in documents)
    total = 0.0
    for p in parameters:
        p.grad = None
    for ids, weights in documents:
        nll = document_nll(model, ids, weights)
        (nll / count).backward()
        total += nll.item()
    return total / count


def clip_gradients(parameters, max_norm):
    """Scales the gradients down to max_norm as torch's clip_grad_norm_ does; returns their norm.

    The norm is summed in fp64: torch's own sum on the CPU is fp32 and loses 5e-4 of it over a
    2M-element embedding.
    """
    norm = torch.stack([p.grad.double().norm() for p in parameters]).norm().item()
    scale = min(1.0, max_norm / (norm + 1e-6))
    if scale < 1.0:
        for p in parameters:
            p.grad.mul_(scale)
    return norm


def train_reference(model, documents, batches, learning_rate, max_grad_norm=1.0, warmup=0,
                    make_optimizer=None):
    """Trains what requires a gradient; returns the losses and gradient norms of each step.

    documents: (ids, weights), already cut. batches: document numbers of each step.
    AdamW as torch does it, betas 0.9 and 0.999, eps 1e-8, no decay, unless
    make_optimizer(model, parameters, learning_rate) makes another; linear schedule to 0.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if make_optimizer:
        optimizer = make_optimizer(model, parameters, learning_rate)
    else:
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8,
                                      weight_decay=0.0)
    losses, norms = [], []
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * linear_decay(step, len(batches), warmup)
        losses.append(train_step(model, parameters, [documents[i] for i in batch]))
        norms.append(clip_gradients(parameters, max_grad_norm))
        optimizer.step()
    return losses, norms

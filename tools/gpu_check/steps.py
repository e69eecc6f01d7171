"""The table of whole steps: Llamas of 1B, 3B and 8B, full and LoRA, by what is computed again; and
beside them the peers, a part each, so that one that breaks or is slow leaves the others alone."""

import json
import time

from gpu_check.fast import fastest_engine
from gpu_check.machine import Failed
from gpu_check.runs import SHAPES, config_of, judged, step_config, tensor_shapes

LORA = {"finetuning": "lora", "lora_r": 16}
FULL = {"finetuning": "full"}
# All of an 8B in fp32 beside its moments is more than a card holds: bf16 weights rounded at random
# and moments of 8 bits; the peer's weights and moments are bf16 then.
FULL_8B = {**FULL, "master_weights": False, "optim": "adamw_8bit"}
CHECKPOINTING = ("none", "auto", "full")
TOKENS = 4096
CASES = {  # the most wanted first: what comes last is what a budget cuts
    "8b-lora": ("8b", LORA), "1b-full": ("1b", FULL), "3b-lora": ("3b", LORA),
    "8b-full": ("8b", FULL_8B), "1b-lora": ("1b", LORA), "3b-full": ("3b", FULL),
}
TOY = {"toy-lora": ("toy", LORA), "toy-full": ("toy", FULL)}
# what gpu_step.py calls a peer: which checkpointing it is asked for
PEERS = {"eager": ("none", "full"), "compiled": ("none",), "liger": ("none",),
         "torchtune": ("none",)}
ROW_LIMIT, ROW_LEAST = 40, 5  # seconds of a row, and without which none begins


def step_rows(bench):
    """(name, case, shape, own, checkpointing) of each row, the most wanted first."""
    cases = TOY if bench.emulated else CASES
    for checkpointing in CHECKPOINTING:
        for case, (shape, own) in cases.items():
            yield f"{case}-{checkpointing}", case, shape, own, checkpointing


def tokens_of(bench):
    return 64 if bench.emulated else TOKENS


def flops_per_token(shape, tuning, tokens):
    """What a step cannot do without, causal attention among it: 6 a weight of a product, 4 where the
    weight is frozen; the embedding is looked up, the head is a product."""
    c = SHAPES[shape]
    weights = sum(sizes[0] * sizes[1] for name, sizes in tensor_shapes(c)
                  if len(sizes) == 2 and "embed" not in name)
    if c["tie_word_embeddings"]:
        weights += c["vocab_size"] * c["hidden_size"]
    scores = c["num_hidden_layers"] * c["num_attention_heads"] * c["head_dim"] * (tokens + 1)
    return (6 if tuning == "full" else 4) * weights + 6 * scores


def bench_row(bench, name, shape, own, checkpointing, tokens):
    engine = "plain" if bench.emulated else fastest_engine(bench, SHAPES[shape]["head_dim"])
    config = step_config(bench, name, shape, own, tokens, gradient_checkpointing=checkpointing,
                         attention=engine)
    row = {"shape": shape, "tuning": own["finetuning"], "checkpointing": checkpointing,
           "tokens": tokens, "attention": engine,
           "flops_per_token": flops_per_token(shape, own["finetuning"], tokens)}
    try:
        row["planned_bytes"] = bench.plan(config)["total_bytes"]
        row.update(bench.steps(config, 3 if bench.emulated else 10, min(ROW_LIMIT, bench.left())))
    except Failed as e:
        row["failed"] = str(e)
    return row


def bench_steps(bench):
    """Ours. What is computed again must not change a bit."""
    found, bad, first = {}, [], {}
    for name, case, shape, own, checkpointing in step_rows(bench):
        if bench.left() < ROW_LEAST:
            found[name] = {"failed": "the time was over"}
        else:
            found[name] = bench_row(bench, name, shape, own, checkpointing, tokens_of(bench))
        row = found[name]
        if "failed" in row:
            bad.append(f"{name}: {row['failed']}")
        elif row["loss"][:3] != first.setdefault(case, row["loss"][:3]):
            bad.append(f"{name}: other losses than without checkpointing")
    return judged(not bad, "; ".join(bad), rows=found)


def bench_peer(peer):
    """The part of one peer: its rows come one by one, so those before an end are kept. A row that
    does not fit in memory is an answer; one that is missing or broke is a failure."""

    def run(bench):
        tokens, wanted = tokens_of(bench), []
        for name, _, shape, own, checkpointing in step_rows(bench):
            if checkpointing in PEERS[peer]:
                wanted.append({"name": name, "config": str(config_of(bench, shape)),
                               "tokens": tokens, "tuning": own["finetuning"],
                               "checkpointing": checkpointing == "full",
                               "all_bf16": own is FULL_8B})
        path = bench.work / "rows.json"
        path.write_text(json.dumps(wanted))
        began = time.monotonic()
        said, why = bench.peer_rows("gpu_step.py", "--rows", path, "--peer", peer, "--steps",
                                    2 if bench.emulated else 8)
        found = {row.pop("name"): row for row in said}
        for row in wanted:
            found.setdefault(row["name"], {"failed": why or "it said nothing of it"})
        bad = [f"{name}: {row['failed']}" for name, row in found.items()
               if "failed" in row and not row.get("memory")]
        return judged(not bad, "; ".join(bad), rows=found, took_s=time.monotonic() - began)

    return run

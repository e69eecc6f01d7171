"""Every preference loss and option as TRL computes it, on random numbers.

Writes tests/golden/preference/losses.json: a few micro-batches of per-token numbers (what a head
would return), and for each case the options, and TRL's loss, metrics and gradient by each token's
log-probability. The code that computes them is TRL's own: DPOTrainer._compute_loss,
KTOTrainer._compute_loss, CPOTrainer and ORPOTrainer.get_batch_loss_metrics, called on a stand-in
for the trainer whose model returns the given numbers.

    python preference_losses.py

All is in double, but where TRL itself goes through fp32 (orpo, alpha_divergence). Where TRL does not
do what cria does: it ignores label_smoothing with sigmoid, which is computed by CPOTrainer.cpo_loss
on log-ratios instead; use_weighting fails with hinge (it changes relu's result in place; here relu
is a clamp) and with sft (left out).
"""

import collections
import json
import types
from pathlib import Path

import numpy
import torch
import trl
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer

import common

DEFAULTS = {
    "beta": 0.1, "label_smoothing": 0.0, "simpo_gamma": 0.5, "cpo_alpha": 1.0,
    "discopop_tau": 0.05, "desirable_weight": 1.0, "undesirable_weight": 1.0,
    "f_divergence_type": "reverse_kl", "f_alpha_divergence_coef": 0.5, "ld_alpha": 1.0,
    "use_weighting": False,
}
DIVERGENCES = ("forward_kl", "js_divergence", "alpha_divergence")
DIVERGENT = ("sigmoid", "hinge", "ipo", "robust", "discopop", "sft", "sigmoid_norm")
WEIGHTED = ("sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down",
            "discopop", "sigmoid_norm")
CPO_TYPES = {"simpo": "simpo", "cpo": "sigmoid", "cpo_hinge": "hinge", "cpo_ipo": "ipo"}

# micro-batches: name, lengths of (prompt but its first token, chosen, rejected, mismatch)
BATCHES = {
    "pairs": [(3, 5, 4, 0), (2, 1, 6, 0), (4, 7, 7, 0), (1, 3, 1, 0), (2, 4, 8, 0)],
    "kto": [(2, 5, 0, 4), (3, 0, 4, 6), (1, 6, 0, 3), (2, 0, 2, 5)],
    "kto_low": [(2, 5, 0, 4), (3, 0, 4, 6)],
    "kto_desirable": [(2, 3, 0, 2), (2, 4, 0, 1)],
}
FIELDS = ("prompt", "chosen", "rejected", "mismatch")


def cases():
    """(micro-batch, options) of every case."""
    for name in ("sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "aot",
                 "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
                 "simpo", "cpo", "cpo_hinge", "cpo_ipo", "orpo", "robust"):
        for beta in (0.1, 0.7):
            yield "pairs", {"loss_type": [name], "beta": beta}
    for name in ("sigmoid", "robust", "exo_pair", "aot", "aot_unpaired", "simpo", "cpo"):
        for smoothing in (0.001, 0.3):
            yield "pairs", {"loss_type": [name], "label_smoothing": smoothing}
    for divergence in DIVERGENCES:
        for name in DIVERGENT:
            yield "pairs", {"loss_type": [name], "f_divergence_type": divergence}
        yield "pairs", {"loss_type": ["exo_pair"], "f_divergence_type": divergence,
                        "label_smoothing": 0.01}
    for coefficient in (1.0, 2.5, -0.5, 0.0):
        yield "pairs", {"loss_type": ["sigmoid"], "f_divergence_type": "alpha_divergence",
                        "f_alpha_divergence_coef": coefficient}
    for name in ("sigmoid", "aot", "ipo", "sft"):
        for ld_alpha in (0.0, 0.4):
            yield "pairs", {"loss_type": [name], "ld_alpha": ld_alpha}
    for name in WEIGHTED:
        yield "pairs", {"loss_type": [name], "use_weighting": True}
    yield "pairs", {"loss_type": ["sigmoid", "sft"], "loss_weights": [0.7, 0.2]}
    yield "pairs", {"loss_type": ["sigmoid", "bco_pair"], "loss_weights": [0.8, 0.2],
                    "use_weighting": True, "ld_alpha": 0.5, "beta": 0.3}
    yield "pairs", {"loss_type": ["sigmoid", "bco_pair", "sft"], "loss_weights": [0.8, 0.2, 1.0],
                    "ld_alpha": 0.5, "beta": 0.3}
    yield "pairs", {"loss_type": ["aot", "apo_zero"], "loss_weights": [1.0, -0.5]}
    yield "pairs", {"loss_type": ["discopop"], "discopop_tau": 0.5}
    yield "pairs", {"loss_type": ["simpo"], "simpo_gamma": 1.4, "cpo_alpha": 0.0, "beta": 2.0}
    yield "pairs", {"loss_type": ["cpo"], "cpo_alpha": 0.3}
    for batch in ("kto", "kto_low", "kto_desirable"):
        for name in ("kto", "apo_zero_unpaired"):
            yield batch, {"loss_type": [name]}
            yield batch, {"loss_type": [name], "beta": 0.5, "desirable_weight": 1.3,
                          "undesirable_weight": 0.6}


# --- numbers ---

def short(values):
    """fp32 values as the shortest decimals that give them back."""
    return [float(str(v)) for v in numpy.asarray(values, dtype=numpy.float32)]


def make_batch(name, seed):
    """Spans of each record over S rows, and the rows' numbers."""
    rng = numpy.random.default_rng(seed)
    records, rows = [], 0
    for lengths in BATCHES[name]:
        record = {}
        for field, length in zip(FIELDS, lengths):
            if length:
                record[field] = [rows, length]
            rows += length
        records.append(record)
    logp = -rng.exponential(1.5, rows) - 0.02
    shift = {"kto": 0.4, "kto_low": -0.6}.get(name, 0.2)
    return {
        "S": rows, "records": records, "logp": short(logp),
        "reference": short(logp - shift + rng.normal(0, 0.8, rows)),
        "sum_p2": short(-rng.exponential(1.0, rows)),
        "mean_logit": short(rng.normal(-1, 2, rows)),
        "entropy": short(rng.exponential(2, rows)),
        "hit": rng.integers(0, 2, rows).tolist(),
    }


class Rows:
    """A micro-batch as padded tensors, and back. Column t holds what predicts token t+1."""

    def __init__(self, batch, side):
        """side: "pairs" (chosen above rejected), "replies" (one a record) or "mismatch"."""
        order = ["chosen", "rejected"] if side == "pairs" else [None]
        self.sequences = []  # (rows of the prompt, rows of the reply)
        for field in order:
            for record in batch["records"]:
                name = field or ("mismatch" if side == "mismatch" else
                                 "chosen" if "chosen" in record else "rejected")
                self.sequences.append(tuple(
                    list(range(first, first + count))
                    for first, count in (record.get("prompt", (0, 0)), record[name])))
        self.width = max(len(p) + len(r) for p, r in self.sequences)

    def place(self, values, fill=0.0, prompt=False):
        """[sequences, width] of per-row values; prompts are left at `fill` unless asked for."""
        out = torch.full((len(self.sequences), self.width), fill, dtype=values.dtype)
        for i, (p, r) in enumerate(self.sequences):
            if prompt:
                out[i, :len(p)] = values[p]
            out[i, len(p):len(p) + len(r)] = values[r]
        return out

    def mask(self, prompt=False):
        """[sequences, 1 + width] of 0 and 1 over tokens: replies, or all that is not padding."""
        out = torch.zeros(len(self.sequences), 1 + self.width, dtype=torch.long)
        for i, (p, r) in enumerate(self.sequences):
            out[i, 0 if prompt else 1 + len(p):1 + len(p) + len(r)] = 1
        return out


# --- stand-ins ---

class Accelerator:
    """One process."""
    device = torch.device("cpu")

    @staticmethod
    def gather(x):
        return x

    gather_for_metrics = gather


class Model(torch.nn.Module):
    """Answers as it was told to."""
    is_gradient_checkpointing = False

    def __init__(self, respond):
        super().__init__()
        self.forward = respond


def head(batch, rows, logp, prompt=False):
    """What TRL's fused head returns."""
    def per_row(name):
        return rows.place(torch.tensor(batch[name], dtype=torch.float64))
    return types.SimpleNamespace(
        log_probs=rows.place(logp, prompt=prompt), entropy=per_row("entropy"),
        mean_logits=per_row("mean_logit"), log_sum_sq_probs=per_row("sum_p2"),
        is_top1=per_row("hit").bool())


def plain_metrics(lists):
    return {k: v[-1] for k, v in lists.items() if k != "num_tokens"}


def run_dpo(batch, o, logp, reference):
    rows = Rows(batch, "pairs")
    me = types.SimpleNamespace(
        model=Model(None), ref_model=Model(lambda **k: head(batch, rows, reference)),
        accelerator=Accelerator, aux_loss_enabled=False, precompute_ref_logps=False,
        beta=o["beta"], loss_types=o["loss_type"],
        loss_weights=o.get("loss_weights") or [1.0] * len(o["loss_type"]),
        ld_alpha=None if o["ld_alpha"] == 1.0 else o["ld_alpha"],
        f_divergence_type=o["f_divergence_type"],
        f_alpha_divergence_coef=o["f_alpha_divergence_coef"],
        label_smoothing=o["label_smoothing"], use_weighting=o["use_weighting"],
        args=types.SimpleNamespace(discopop_tau=o["discopop_tau"], gradient_checkpointing_kwargs=None),
        _metrics={"train": collections.defaultdict(list)}, _total_train_tokens=0, _tp_size=1)
    mask = rows.mask()
    inputs = {"input_ids": mask * 0, "attention_mask": rows.mask(True), "completion_mask": mask}
    loss = DPOTrainer._compute_loss(me, lambda **k: head(batch, rows, logp), inputs, False)
    return loss, plain_metrics(me._metrics["train"])


def run_kto(batch, o, logp, reference):
    replies, mismatch = Rows(batch, "replies"), Rows(batch, "mismatch")
    mask = replies.mask()
    wide = 2 * mask  # the two kinds of call are told apart by their ids

    def respond(values):
        return lambda input_ids, **k: head(
            batch, replies if input_ids.max() == 2 else mismatch, values)
    policy = Model(respond(logp))
    me = types.SimpleNamespace(
        model=policy, ref_model=Model(respond(reference)), accelerator=Accelerator,
        aux_loss_enabled=False, precompute_ref_logps=False, beta=o["beta"],
        loss_type=o["loss_type"][0], calculate_KL=o["loss_type"][0] == "kto",
        desirable_weight=o["desirable_weight"], undesirable_weight=o["undesirable_weight"],
        args=types.SimpleNamespace(gradient_checkpointing_kwargs=None),
        _metrics={"train": collections.defaultdict(list)}, _total_train_tokens=0, _tp_size=1)
    me._compute_kl_logps = lambda *a: KTOTrainer._compute_kl_logps(me, *a)
    inputs = {
        "input_ids": wide, "attention_mask": replies.mask(True), "completion_mask": mask,
        "KL_input_ids": mismatch.mask() * 0, "KL_attention_mask": mismatch.mask(True),
        "KL_completion_mask": mismatch.mask(),
        "label": torch.tensor(["chosen" in r for r in batch["records"]])}
    loss = KTOTrainer._compute_loss(me, policy, inputs, False)
    return loss, plain_metrics(me._metrics["train"])


def two_logits(logp):
    """Logits of a vocabulary of two whose first has the given log-probability."""
    return torch.stack([logp, torch.log(-torch.expm1(logp))], dim=-1)


def run_without_reference(trainer, batch, o, logp):
    """CPO and ORPO: they see logits, over prompts too."""
    rows = Rows(batch, "pairs")
    n = len(batch["records"])
    reply, whole = rows.mask(), rows.mask(True)
    labels = torch.where(reply == 1, 0, -100)

    def respond(*args, **kwargs):
        last = torch.full((2 * n, 1), -1.0, dtype=torch.float64)  # predicts nothing that counts
        values = torch.cat([rows.place(logp, fill=-1.0, prompt=True), last], dim=1)
        return types.SimpleNamespace(logits=two_logits(values))
    me = types.SimpleNamespace(
        is_encoder_decoder=False, pad_token_id=0, padding_value=0, accelerator=Accelerator,
        aux_loss_enabled=False, concatenated_inputs=trainer.concatenated_inputs,
        get_batch_logps=trainer.get_batch_logps, beta=o["beta"], alpha=0.0,
        label_smoothing=o["label_smoothing"], simpo_gamma=o["simpo_gamma"],
        cpo_alpha=o["cpo_alpha"], loss_type=CPO_TYPES.get(o["loss_type"][0]))
    for name in ("concatenated_forward", "cpo_loss", "odds_ratio_loss"):
        if hasattr(trainer, name):
            setattr(me, name, types.MethodType(getattr(trainer, name), me))
    inputs = {}
    for side, part in (("chosen", slice(0, n)), ("rejected", slice(n, None))):
        inputs[f"{side}_input_ids"] = reply[part] * 0
        inputs[f"{side}_attention_mask"] = whole[part]
        inputs[f"{side}_labels"] = labels[part]
    loss, metrics = trainer.get_batch_loss_metrics(me, respond, inputs)
    # TRL averages the padding's logits in; a factor of 0 has no cross-entropy to log
    dropped = {"logits/chosen", "logits/rejected"} | ({"nll_loss"} if not metrics["nll_loss"] else set())
    return loss, {k: v for k, v in metrics.items() if k not in dropped}


def smoothed_sigmoid(batch, o, logp, reference):
    """TRL's DPO ignores label_smoothing here; its CPO does the same to the same number."""
    _, metrics = run_dpo(batch, o, logp, reference)
    rows = Rows(batch, "pairs")
    ratios = (rows.place(logp) - rows.place(reference)).sum(1).chunk(2)
    me = types.SimpleNamespace(alpha=0.0, loss_type="sigmoid", beta=o["beta"], accelerator=Accelerator,
              label_smoothing=o["label_smoothing"])
    return CPOTrainer.cpo_loss(me, *ratios)[0].mean(), metrics


def run_case(batch, o):
    dtype = torch.float32 if o["f_divergence_type"] == "alpha_divergence" else torch.float64
    logp = torch.tensor(batch["logp"], dtype=dtype, requires_grad=True)
    reference = torch.tensor(batch["reference"], dtype=dtype)
    name = o["loss_type"][0]
    if name in ("kto", "apo_zero_unpaired"):
        loss, metrics = run_kto(batch, o, logp, reference)
    elif name == "orpo":
        loss, metrics = run_without_reference(ORPOTrainer, batch, o, logp)
    elif name in CPO_TYPES:
        loss, metrics = run_without_reference(CPOTrainer, batch, o, logp)
    elif o["loss_type"] == ["sigmoid"] and o["label_smoothing"]:
        loss, metrics = smoothed_sigmoid(batch, o, logp, reference)
    else:
        loss, metrics = run_dpo(batch, o, logp, reference)
    loss.backward()
    return {"loss": loss.item(), "metrics": metrics, "dlogp": logp.grad.tolist()}


def rounded(value):
    """Nine digits: a thousand times finer than the tolerance."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.9g}")


def write_lines(path, golden):
    """JSON with a micro-batch or a case a line."""
    def line(value):
        return json.dumps(value, separators=(",", ":"))
    batches = ",\n".join(f"{json.dumps(k)}:{line(v)}" for k, v in golden["batches"].items())
    cases_text = ",\n".join(map(line, golden["cases"]))
    Path(path).write_text(f'{{"versions":{line(golden["versions"])},\n"batches":{{\n{batches}}},\n'
                          f'"cases":[\n{cases_text}]}}\n')


def main():
    common.quiet_and_deterministic()
    torch.relu = lambda x: x.clamp(min=0)
    batches = {name: make_batch(name, seed) for seed, name in enumerate(BATCHES, 11)}
    done = []
    for batch, options in cases():
        done.append({"batch": batch, "options": options,
                     **rounded(run_case(batches[batch], {**DEFAULTS, **options}))})
    folder = common.GOLDEN / "preference"
    folder.mkdir(exist_ok=True)
    versions = {m.__name__: m.__version__ for m in (torch, trl)}
    write_lines(folder / "losses.json", {"versions": versions, "batches": batches, "cases": done})
    print(f"{len(done)} cases")


if __name__ == "__main__":
    main()

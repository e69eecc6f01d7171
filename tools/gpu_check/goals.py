"""What the numbers are held against: a row a goal, and a function that takes it from the results.
Nothing fails by a goal; what is missed is said, and so is what was not measured."""

from gpu_check.steps import PEERS

PEAKS = {"H100": 989.4e12, "H200": 989.4e12}  # dense bf16 by the datasheet: what MFU is a share of


def rows_of(results, part):
    return results["parts"].get(part, {}).get("rows", {})


def peer_rates(results, name):
    """{peer: tokens a second} of a step's row; `auto` has none of its own and takes that of none."""
    name = name.replace("-auto", "-none")
    found = {peer: rows_of(results, f"steps-{peer}").get(name, {}).get("tokens_per_second")
             for peer in PEERS}
    return {peer: rate for peer, rate in found.items() if rate}


def best_ratio(results, name):
    """A step's tokens a second over the fastest peer's at whatever checkpointing; None."""
    ours = rows_of(results, "steps-cria").get(name, {}).get("tokens_per_second")
    case = name.rsplit("-", 1)[0]
    rates = [rate for mode in ("none", "full")
             for rate in peer_rates(results, f"{case}-{mode}").values()]
    return ours / max(rates) if ours and rates else None


def mfu(results, name):
    row = rows_of(results, "steps-cria").get(name, {})
    peak = next((value for model, value in PEAKS.items()
                 if model in (results["machine"].get("gpu") or "")), None)
    if not row.get("tokens_per_second") or not peak:
        return None
    return row["tokens_per_second"] * row["flops_per_token"] / peak


def step_of(key):
    return lambda results: rows_of(results, "steps-cria").get("8b-lora-none", {}).get(key)


def attention(entry):
    """The fastest engine of our own at 8k, D 128."""
    def find(results):
        rates = [row["tflops"] for row in rows_of(results, "attention") or ()
                 if row["entry"] == entry and row.get("engine") != "cudnn"
                 and row["shape"].endswith("x8192x32x8x128")]
        return max(rates, default=None)
    return find


def slowest_pass(results):
    shares = [row["share"] for row in rows_of(results, "kernels") or ()
              if "gb_per_second" in row and row["entry"] != "copy"]
    return min(shares, default=None)


def gain(results):
    return results["parts"].get("dpo", {}).get("dpo", {}).get("gain")


def start(results):
    return results["parts"].get("start", {}).get("start", {}).get("more_s")


# what: how it is written, the bound, whether less is better, where it comes from
GOALS = {
    "8B LoRA, 4096 packed, tokens/s": ("{:.0f}", 13000, False, step_of("tokens_per_second")),
    "8B LoRA, over the best peer": ("{:.2f}", 1.3, False, lambda r: best_ratio(r, "8b-lora-none")),
    "8B LoRA, share of the floor": ("{:.2f}", 0.9, False, step_of("floor_share")),
    "1B full, MFU": ("{:.2f}", 0.55, False, lambda r: mfu(r, "1b-full-none")),
    "DPO, prompts shared over plain": ("{:.2f}", 1.4, False, gain),
    "attention forward, D 128, 8k, TFLOP/s": ("{:.0f}", 500, False, attention("attention forward")),
    "attention backward, D 128, 8k, TFLOP/s": ("{:.0f}", 380, False,
                                               attention("attention backward")),
    "slowest pass, share of the copy": ("{:.2f}", 0.85, False, slowest_pass),
    "first step, beside reading and the step, s": ("{:.2f}", 0.5, True, start),
}


def reached(results):
    """(goal, bound, what was reached, met) in words; met is None where nothing was measured."""
    for name, (form, bound, less, find) in GOALS.items():
        value = find(results)
        met = None if value is None else value <= bound if less else value >= bound
        yield (name, ("≤ " if less else "≥ ") + form.format(bound),
               "not measured" if value is None else form.format(value), met)

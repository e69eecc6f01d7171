"""How fast it is, but for whole steps (steps.py): the device's entries by themselves, the ladder of
attention, the way to the first step, preferences, and where the time of a step goes."""

import json
import time
from pathlib import Path
from statistics import median

from gpu_check.machine import Failed, commit, has_package
from gpu_check.runs import BASE, SHAPES, config_of, judged, step_config, try_each

ENGINES = ("hopper", "flash", "cudnn", "plain")
TRL = ("torch", "transformers", "peft", "trl", "datasets", "h5py")
ENGINE_LIMIT = 45  # seconds of one engine's ladder
MOST_DPO_STEPS = 8


# --- entries by themselves ---


def bench_lines(bench, *parts):
    """What bench_gpu says of itself, and its rows."""
    more = ("small",) if bench.emulated else ()
    lines = bench.run("bench_gpu", *parts, *more).strip().split("\n")
    about, *rows = (json.loads(line) for line in lines)
    return about, rows


def with_peer(bench, rows, *parts):
    """Beside each row what torch takes for the same; what else there is to say of it."""
    if not has_package("torch"):
        return {}
    try:
        more = ("small",) if bench.emulated else ()
        peer = bench.peer("gpu_kernels.py", *parts, *more)
    except Failed as e:
        return {"peer_failed": str(e)}
    for row in rows:
        ms = peer.get(f"{row['entry']} {row['shape']}")
        if ms:
            row["peer_ms"], row["ratio"] = ms, ms / row["ms"]
    return {}


def bench_kernels(bench):
    about, rows = bench_lines(bench, "copy", "gemm", "passes")
    return judged(True, "", about=about, rows=rows,
                  **with_peer(bench, rows, "copy", "gemm", "passes"))


def bench_head(bench):
    about, rows = bench_lines(bench, "gemm", "head")
    return judged(True, "", about=about, rows=rows, **with_peer(bench, rows, "gemm", "head"))


# --- the ladder ---


def ladder(bench, *more):
    """Rows of each engine, each from a process of its own; why of those that broke."""
    rows, bad = [], []
    for engine in ENGINES:
        if bench.over():
            bad.append(f"{engine}: the time was over")
            continue
        try:
            with bench.within(ENGINE_LIMIT):
                rows += bench_lines(bench, "gemm", "attention", engine, *more)[1]
        except Failed as e:
            bad.append(f"{engine}: {e}")
    return [row for row in rows if row["entry"].startswith("attention")], bad


def both_ways(rows):
    """{(documents x length x heads, D): {engine: milliseconds, forward and backward}}"""
    found = {}
    for row in rows:
        shape, size = row["shape"].rsplit("x", 1)
        times = found.setdefault((shape, int(size)), {})
        times.setdefault(row["engine"], {})[row["entry"]] = row["ms"]
    return {shape: {engine: sum(ms.values()) for engine, ms in times.items() if len(ms) == 2}
            for shape, times in found.items()}


def bench_attention(bench):
    rows, bad = ladder(bench)
    about, decode = bench_lines(bench, "copy", "decode")
    found = {"about": about}
    found.update(with_peer(bench, rows + decode, "attention", "decode"))
    missing = [e for e in ENGINES if not any(row["engine"] == e for row in rows)]
    if missing and not bad:
        found["without"] = missing
    return judged(rows and not bad, "; ".join(bad), rows=rows + decode, **found)


def fastest_engine(bench, size, packed_only=False):
    """The engine that takes least at 4096 rows, forward and backward; measured once a commit."""
    kept = bench.out / "engines.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    if found.get("commit") != commit():
        rows, bad = ladder(bench, "4096")
        found = {"commit": commit(), "failed": bad, "times": {}}
        for (shape, D), times in both_ways(rows).items():
            if not shape.startswith("packed"):
                found["times"][str(D)] = times
        kept.write_text(json.dumps(found) + "\n")
    times = {engine: ms for engine, ms in found["times"].get(str(size), {}).items()
             if engine != "cudnn" or not packed_only}
    return min(times, key=times.get) if times else "plain"


# --- a step of preferences ---


PAIRS = {"shape": "8b", "prompt": 700, "reply": 450, "pairs_a_step": 2}
TOY_PAIRS = {"shape": "toy", "prompt": 40, "reply": 20, "pairs_a_step": 2}


def pairs_of(bench):
    """(what a step of preferences is, the file of its pairs)"""
    about = TOY_PAIRS if bench.emulated else PAIRS
    return about, bench.long_pairs(8 * about["pairs_a_step"], about["prompt"], about["reply"])


def dpo_config(bench, name, sharing):
    about, pairs = pairs_of(bench)
    engine = fastest_engine(bench, SHAPES[about["shape"]]["head_dim"], True)
    return bench.config(
        name, model_name_or_path=str(bench.model(about["shape"])), random_weights=True, stage="dpo",
        template="alpaca", datasets=str(pairs), finetuning="lora", lora_r=16, max_steps=1000,
        max_length=2 * (about["prompt"] + about["reply"]), prefix_sharing=sharing,
        per_device_train_batch_size=about["pairs_a_step"],
        attention="plain" if bench.emulated else engine)


def bench_dpo(bench):
    """Pairs whose prompt is computed once, against the plain form and TRL's trainer."""
    about, pairs = pairs_of(bench)
    steps = 3 if bench.emulated else MOST_DPO_STEPS

    def form(name):
        run = bench.steps(dpo_config(bench, f"dpo-{name}", name == "shared"), steps,
                          min(30, bench.left() / 3))
        return {**run, "pairs_per_second": about["pairs_a_step"] / median(run["seconds"])}, []

    found, bad = try_each(("shared", "plain"), form)
    found.update(about)
    rates = [found[name].get("pairs_per_second") for name in ("shared", "plain")]
    if all(rates):
        found["gain"] = rates[0] / rates[1]
    if all(map(has_package, TRL)):
        found["trl"] = bench_trl(bench, about["shape"], pairs, about["pairs_a_step"])
    return judged(not bad, "; ".join(bad), dpo=found)


def bench_trl(bench, shape, pairs, batch):
    data = bench.work / "pairs.h5"
    try:
        bench.run("cria", "prepare", "--data", pairs, "--tokenizer", BASE, "--template", "alpaca",
                  "--out", data)
        return bench.peer("gpu_dpo.py", "--config", config_of(bench, shape), "--tokenizer", BASE,
                          "--data", data, "--batch", batch, "--steps", 2 if bench.emulated else 6)
    except Failed as e:
        return {"failed": str(e)}


# --- where the time goes ---


def bench_profile(bench):
    """profile.json of each step that is to become faster, and its trace beside the results."""
    lora = {"finetuning": "lora", "lora_r": 16}
    cases = {"8b-lora": ("8b", lora, 4096), "1b-full": ("1b", {"finetuning": "full"}, 4096)}
    if bench.emulated:
        cases = {"toy-lora": ("toy", lora, 64)}

    def config_for(name):
        if name not in cases:
            return dpo_config(bench, name, True)
        shape, own, tokens = cases[name]
        engine = fastest_engine(bench, SHAPES[shape]["head_dim"])
        return step_config(bench, name, shape, own, tokens,
                           attention="plain" if bench.emulated else engine)

    def profile(name):
        return bench.profile(config_for(name), 2 if bench.emulated else 3,
                             min(40, bench.left() - 2)), []

    found, bad = try_each((*cases, "dpo"), profile)
    return judged(not bad, "; ".join(bad), profiles=found)


# --- the first step ---


def read_whole(path):
    """Seconds that reading a file takes, as one program after another reads it: from memory."""
    began = time.monotonic()
    with Path(path).open("rb", buffering=0) as f:
        while f.read(1 << 24):
            pass
    return time.monotonic() - began


def bench_start(bench):
    """From the command to the end of the first step, with weights to read, beside reading them."""
    shape, tokens = ("toy", 64) if bench.emulated else ("1b", 1024)
    model, path = bench.model(shape), bench.weights(shape)
    config = step_config(bench, "start", shape, {"finetuning": "lora"}, tokens,
                         random_weights=False, model_name_or_path=str(model))
    reading = read_whole(path)
    run = bench.steps(config, 4, bench.left() - 2)
    step = median(run["seconds"])
    return judged(True, "", start={
        "shape": shape, "bytes": path.stat().st_size, "read_s": reading,
        "first_step_s": run["first_step_s"], "step_s": step,
        "more_s": run["first_step_s"] - step - reading})

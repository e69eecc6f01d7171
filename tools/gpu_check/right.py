"""Whether it is right: the parts of tools/gpu-check that pass or fail, in the order in which their
answers make sense. Each returns what was found, with `good` and, where it is not, `why`."""

import json
import re
import shutil
import time

from gpu_check.machine import ROOT, Failed, find_tool, has_package, program
from gpu_check.runs import (BASE, file_hash, judged, relative_error, step_config,
                            try_each)

CURVES = {  # what is trained, on what, how
    "sft": {"stage": "sft", "template": "alpaca", "finetuning": "full"},
    "lora": {"stage": "sft", "template": "alpaca", "finetuning": "lora", "lora_r": 16,
             "learning_rate": 1e-3},
    "dpo": {"stage": "dpo", "template": "alpaca", "finetuning": "lora", "lora_r": 16,
            "learning_rate": 1e-3},
}
CURVES_PEERS = ("torch", "transformers", "peft", "h5py")
FP32_BOUND = 1e-4  # relative, of a curve in fp32 to the CPU's
BF16_BOUND = 2     # times what transformers is off in bf16
PLAN_BOUND = 0.01
LORA = {"finetuning": "lora", "lora_r": 16}
PLANS = {  # shape, what of the config is not the default, tokens of a step
    "1b-full": ("1b", {"finetuning": "full"}, 4096),
    "1b-lora": ("1b", LORA, 8192),
    "8b-lora": ("8b", {**LORA, "gradient_checkpointing": "auto"}, 4096),
    "8b-lora-full": ("8b", {**LORA, "gradient_checkpointing": "full"}, 4096),
    "8b-lora-offload": ("8b", {**LORA, "gradient_checkpointing": "offload"}, 4096),
}


MOST_WRAPPERS, WRAPPER_LIMIT = 64, 8


def wrapper_rows(said):
    return [{"name": name, "values": int(values), "wrong": int(wrong), "worst_units": float(worst),
             "bound_units": float(bound)}
            for name, values, wrong, worst, bound in
            re.findall(r'wrapper "([^"]+)" (\d+) (\d+) (\S+) (\S+)', said)]


def each_wrapper(bench):
    """Each in a process of its own, after one of all: (rows, [what is bad])."""
    rows, bad = [], []
    for number in range(MOST_WRAPPERS):
        if bench.over():
            bad.append(f"no time for number {number} and those behind it")
            break
        try:
            with bench.within(WRAPPER_LIMIT):
                said = bench.run("test_wrappers", number, merged=True)
        except Failed as e:
            bad.append(f"number {number}: {e}")
            continue
        if not wrapper_rows(said):
            break
        rows += wrapper_rows(said)
    return rows, bad


def check_wrappers(bench):
    """All in one process; where that does not come to its end, each in its own, since one that
    faults or waits for ever takes along those behind it."""
    try:
        with bench.within(2 * WRAPPER_LIMIT):
            said = bench.run("test_wrappers", codes=(0, 1), merged=True)
        rows = wrapper_rows(said)
        broke = "FAILED" in said and not any(row["wrong"] for row in rows)
    except Failed as e:
        rows, said, broke = [], str(e), True
    bad = [row["name"] for row in rows if row["wrong"]]
    if broke:
        rows, bad = each_wrapper(bench)
        bad += [row["name"] for row in rows if row["wrong"]]
    good = rows and not bad and not broke
    return judged(good, f"not as they must be: {'; '.join(bad) or said[-600:]}", wrappers=rows)


SETTINGS = ("fp32", "bf16", "flash", "hopper", "cudnn")
OPS = ("embedding", "norm", "rope", "linear", "lora", "attention", "swiglu", "head", "grad_norm",
       "adamw", "adamw_8bit")
SETTING_LIMIT, OP_LIMIT = 30, 8


def run_ops(bench, setting, ops, limit):
    """({test: passed}, [what is bad]) of the op table in one setting, all ops or some."""
    env = {"CRIA_OP_CASES": ops} if ops else {}
    try:
        with bench.within(limit):
            said = bench.run("test_ops", f"* in {setting}", codes=(0, *range(1, 65)), merged=True,
                             env=env)
    except Failed as e:
        return {}, [str(e)]
    tests = {name: result == "OK"
             for result, name in re.findall(r"\[\s+(OK|FAILED)\s+\] (test_.+)", said)}
    if tests and all(tests.values()):
        return tests, []
    return tests, re.findall(r"case \d+ \(.*", said) or [said[-300:]]


def check_ops(bench):
    """A process a setting; where one breaks, a process an op, since a kernel that faults takes
    along all behind it."""
    some, found, bad = "swiglu,rope" if bench.emulated else None, {}, []
    for setting in SETTINGS:
        if bench.over():
            bad.append(f"{setting}: the time was over")
            continue
        tests, errors = run_ops(bench, setting, some, SETTING_LIMIT)
        found[setting] = {"tests": tests, "errors": errors}
        if not errors:
            continue
        broken = {}
        for op in OPS if not bench.emulated else ():
            errors = [] if bench.over() else run_ops(bench, setting, op, OP_LIMIT)[1]
            if errors:
                broken[op] = errors
        found[setting]["ops"] = broken
        bad.append(f"{setting}: {', '.join(broken) or found[setting]['errors'][0]}")
    return judged(not bad, "; ".join(bad), ops=found)


# Small cases: of shared memory and of masks each kind, and what waits for what.
SANITIZED = {
    "memcheck": "embedding,norm,rope,attention,swiglu,head,lora,grad_norm,adamw,"
                "adamw_8bit",
    "racecheck": "norm,attention,head,grad_norm,embedding,adamw_8bit",
    "synccheck": "norm,attention",
}


def check_sanitizer(bench):
    if bench.emulated:
        return judged(True, "", skipped="the emulator looks for itself")
    tool, results, bad = find_tool("compute-sanitizer"), {}, []
    for kind, ops in SANITIZED.items():
        for name, env in (("test_wrappers", {}),
                          ("test_ops", {"CRIA_OP_CASES": ops, "CRIA_OP_EACH": "6"})):
            began = time.monotonic()
            try:
                said = bench.command(tool, "--tool", kind, "--error-exitcode", 99,
                                     "--print-limit", 5, program(name), codes=(0, 1, 99),
                                     merged=True, env=env)
                found = re.findall(r"ERROR SUMMARY: (\d+)|RACECHECK SUMMARY: (\d+)", said)
                errors = sum(int(a or b) for a, b in found)
                # a test that fails under the tool is the ops part's business
                results[f"{kind} {name}"] = {"errors": errors, "summaries": len(found),
                                             "seconds": time.monotonic() - began,
                                             **({"said": said[-1500:]} if errors or not found
                                                else {})}
                if errors or not found:
                    bad.append(f"{kind} of {name}: {errors} errors" if found
                               else f"{kind} of {name} gave no summary: {said[-300:]}")
            except Failed as e:
                results[f"{kind} {name}"] = {"seconds": time.monotonic() - began, "said": str(e)}
                bad.append(str(e)[:300])
    return judged(not bad, "; ".join(bad), sanitizer=results)


def check_curve(bench, kind, data, steps, size):
    """One kind's losses on the CPU, on the device in both types, and of transformers in both."""
    own = CURVES[kind]

    def curve(name, **more):
        config = bench.config(f"{kind}-{name}", datasets=str(data), max_length=256, max_steps=steps,
                              per_device_train_batch_size=size, **own, **more)
        return [row["loss"] for row in bench.train(config)]

    cpu, bad = curve("cpu", device="cpu"), []
    row = {"cpu": cpu, "fp32": curve("fp32", precision="fp32"), "bf16": curve("bf16")}
    row["fp32_error"] = relative_error(row["fp32"], cpu)
    row["bf16_error"] = relative_error(row["bf16"], cpu)
    if row["fp32_error"] > FP32_BOUND:
        bad.append(f"{kind}: {row['fp32_error']:.2g} off the CPU in fp32")
    if not all(map(has_package, CURVES_PEERS)):
        return row, bad
    out = bench.work / f"{kind}.h5"
    bench.run("cria", "prepare", "--data", data, "--tokenizer", BASE, "--template", "alpaca",
              "--out", out)
    try:
        peer = row["transformers"] = bench.peer(
            "gpu_curves.py", "--model", BASE, "--data", out, "--kind", kind, "--steps", steps,
            "--batch", size, "--lr", own.get("learning_rate", 1e-4))
    except Failed as e:  # what is off by itself is known all the same
        row["transformers_failed"] = str(e)
        return row, bad
    row["transformers_error"] = relative_error(peer["bf16"], peer["fp32"])
    if row["bf16_error"] > BF16_BOUND * row["transformers_error"] and not bench.emulated:
        bad.append(f"{kind}: {row['bf16_error']:.2g} off in bf16, transformers "
                   f"{row['transformers_error']:.2g}")
    return row, bad


def check_curves(bench):
    steps, size = (2, 1) if bench.emulated else (12, 4)
    tasks, pairs = bench.tasks(), bench.pairs()
    found, bad = try_each(CURVES, lambda kind: check_curve(
        bench, kind, pairs if kind == "dpo" else tasks, steps, size))
    return judged(not bad, "; ".join(bad), curves=found)


SAME = {
    "lora": {"stage": "sft", "finetuning": "lora", "lora_dropout": 0.1},
    "full": {"stage": "sft", "finetuning": "full"},
    "dpo": {"stage": "dpo", "finetuning": "lora"},
}


def check_kind_again(bench, kind, data):
    steps, size = (2, 1) if bench.emulated else (8, 4)
    own = {"template": "alpaca", "max_length": 256, "per_device_train_batch_size": size,
           "max_steps": steps, "datasets": str(data), **SAME[kind]}
    weights = "model.safetensors" if kind == "full" else "adapter_model.safetensors"
    runs, bad = {}, []
    for name in ("first", "second", "resumed"):
        config = bench.config(f"{kind}-{name}", **own,
                              save_steps=steps // 2 if name == "first" else "none")
        folder = config.with_suffix("")
        if name == "resumed":
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(bench.work / f"{kind}-first/checkpoint-{steps // 2}",
                            folder / f"checkpoint-{steps // 2}")
            losses = bench.train(config, "overwrite_output_dir=false",
                                 "resume_from_checkpoint=auto")[-(steps // 2):]
        else:
            losses = bench.train(config)
        runs[name] = {"losses": [row["loss"] for row in losses],
                      "weights": file_hash(folder / weights)}
    if runs["second"] != runs["first"]:
        bad.append(f"{kind}: the same run twice gives other bits")
    if runs["resumed"]["weights"] != runs["first"]["weights"]:
        bad.append(f"{kind}: a resumed run gives other bits")
    return runs, bad


def check_same(bench):
    """The same run twice, and one that was stopped in the middle and went on."""
    tasks, pairs = bench.tasks(), bench.pairs()
    found, bad = try_each(SAME, lambda kind: check_kind_again(
        bench, kind, pairs if kind == "dpo" else tasks))
    return judged(not bad, "; ".join(bad), runs=found)


def check_plan_of(bench, name, case):
    config = step_config(bench, name, *case)
    plan, bad = bench.plan(config), []
    run = bench.steps(config, 4, min(40, bench.left() - 2))
    row = {"planned_bytes": plan["total_bytes"], "arenas": plan["arenas"],
           "context_bytes": plan["named"]["context"], "used_bytes": run["peak_bytes"]}
    if run["peak_bytes"]:
        row["off"] = plan["total_bytes"] / run["peak_bytes"] - 1
        if abs(row["off"]) > PLAN_BOUND:
            bad.append(f"{name}: planned {plan['total_bytes'] / 1e9:.3f} GB, NVML "
                       f"{run['peak_bytes'] / 1e9:.3f} GB")
    elif not bench.emulated:
        bad.append(f"{name}: NVML does not tell")
    return row, bad


def check_plan(bench):
    cases = {"toy": ("toy", LORA, 64), "toy-offload": (
        "toy", {**LORA, "gradient_checkpointing": "offload"}, 64)} if bench.emulated else PLANS
    found, bad = try_each(cases, lambda name: check_plan_of(bench, name, cases[name]))
    return judged(not bad, "; ".join(bad), plans=found)


def check_quickstart(bench):
    if bench.emulated:
        return judged(True, "", skipped="too long for the emulator")
    shutil.rmtree(ROOT / "build/quickstart", ignore_errors=True)
    began = time.monotonic()
    said = bench.command("bash", ROOT / "tools/quickstart", "--built", "device=cuda", merged=True)
    work = ROOT / "build/quickstart"
    before, after = (json.loads((work / name).read_text())["exact_match"]
                     for name in ("before.json", "tuned.json"))
    good = before < 0.1 and after > 0.8
    return judged(good, f"exact match {before:.2f} before, {after:.2f} after",
                  seconds_in_all=time.monotonic() - began, exact_match=[before, after],
                  said=said[-3000:])

"""The parts of tools/gpu-check, in the order in which they make sense: a row each, and a function
that returns what was found, with `good` and, where it is not, `why`."""

import json
import re
import shutil
import time
from statistics import median

from gpu_check.machine import ROOT, Failed, find_tool, lacking, program
from gpu_check.runs import BASE, SHAPES, file_hash, relative_error

CURVES = {  # what is trained, on what, how
    "sft": {"stage": "sft", "template": "alpaca", "finetuning": "full"},
    "lora": {"stage": "sft", "template": "alpaca", "finetuning": "lora", "lora_r": 16,
             "learning_rate": 1e-3},
    "dpo": {"stage": "dpo", "template": "alpaca", "finetuning": "lora", "lora_r": 16,
            "learning_rate": 1e-3},
}
FP32_BOUND = 1e-4  # relative, of a curve in fp32 to the CPU's
BF16_BOUND = 2     # times what transformers is off in bf16
PLAN_BOUND = 0.01
# name: shape, overrides, documents of how many tokens
STEPS = {
    "1b-full": ("1b", {"finetuning": "full", "attention": "flash"}, 4096),
    "8b-lora": ("8b", {"finetuning": "lora", "lora_r": 16, "attention": "flash"}, 4096),
}
STEPS_MORE = {
    "3b-lora": ("3b", {"finetuning": "lora", "lora_r": 16, "attention": "flash"}, 4096),
    "8b-lora-recomputed": ("8b", {"finetuning": "lora", "lora_r": 16, "attention": "flash",
                                  "gradient_checkpointing": "full"}, 4096),
    "1b-full-plain": ("1b", {"finetuning": "full", "attention": "plain"}, 4096),
}
PASSES_GOAL, STEP_GOAL = 0.85, 1.2
START_GOAL = 0.5   # seconds beside reading the weights and the step itself
# name in the results: the package it takes besides, options of gpu_step.py
PEER = {"peer": (None, ())}
PEERS = {**PEER, "compiled": (None, ("--compile", "layers")),
         "liger": ("liger-kernel", ("--liger",)), "torchtune": ("torchtune", ("--torchtune",))}
ATTENTION_GOALS = {"attention forward": 500, "attention backward": 380}  # TFLOP/s, D 128, 8k


def judged(good, why, **found):
    return {"good": bool(good), **({} if good else {"why": why}), **found}


# --- right ---


def check_wrappers(bench):
    said = bench.run("test_wrappers", codes=(0, 1), merged=True)
    rows = [{"name": name, "values": int(values), "wrong": int(wrong), "worst_units": float(worst),
             "bound_units": float(bound)}
            for name, values, wrong, worst, bound in
            re.findall(r'wrapper "([^"]+)" (\d+) (\d+) (\S+) (\S+)', said)]
    bad = [row["name"] for row in rows if row["wrong"]]
    good = rows and not bad and "FAILED" not in said
    return judged(good, f"not as they must be: {', '.join(bad) or said[-600:]}", wrappers=rows)


def check_ops(bench):
    env = {"CRIA_OP_CASES": "swiglu,rope"} if bench.emulated else {}
    said = bench.run("test_ops", codes=(0, *range(1, 65)), merged=True, env=env)
    results = dict(re.findall(r"\[\s+(OK|FAILED)\s+\] (.+)", said)[::-1])
    tests = re.findall(r"\[\s+(OK|FAILED)\s+\] (test_.+)", said)
    bad = [name for result, name in tests if result == "FAILED"]
    errors = re.findall(r"case \d+ \(.*", said)
    good = tests and not bad and "FAILED" not in results
    return judged(good, "; ".join(errors or [said[-600:]]),
                  tests=[name for _, name in tests], errors=errors)


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


def check_curves(bench):
    steps, size = (2, 1) if bench.emulated else (12, 4)
    data = {"sft": bench.tasks(), "dpo": bench.pairs()}
    data["lora"] = data["sft"]
    found, bad = {}, []
    for kind, own in CURVES.items():
        def curve(name, **more):
            config = bench.config(f"{kind}-{name}", datasets=str(data[kind]), max_length=256,
                                  max_steps=steps, per_device_train_batch_size=size, **own, **more)
            return [row["loss"] for row in bench.train(config)]

        cpu = curve("cpu", device="cpu")
        row = found[kind] = {"cpu": cpu, "fp32": curve("fp32", precision="fp32"),
                             "bf16": curve("bf16")}
        row["fp32_error"] = relative_error(row["fp32"], cpu)
        row["bf16_error"] = relative_error(row["bf16"], cpu)
        if row["fp32_error"] > FP32_BOUND:
            bad.append(f"{kind}: {row['fp32_error']:.2g} off the CPU in fp32")
        if bench.emulated or lacking(PARTS["curves"][3]):
            continue
        out = bench.work / f"{kind}.h5"
        bench.run("cria", "prepare", "--data", data[kind], "--tokenizer",
                  ROOT / "configs/quickstart/base", "--template", "alpaca", "--out", out)
        peer = row["transformers"] = bench.peer(
            "gpu_curves.py", "--model", ROOT / "configs/quickstart/base", "--data", out, "--kind",
            kind, "--steps", steps, "--batch", size, "--lr", own.get("learning_rate", 1e-4))
        row["transformers_error"] = relative_error(peer["bf16"], peer["fp32"])
        if row["bf16_error"] > BF16_BOUND * row["transformers_error"]:
            bad.append(f"{kind}: {row['bf16_error']:.2g} off in bf16, transformers "
                       f"{row['transformers_error']:.2g}")
    return judged(not bad, "; ".join(bad), curves=found)


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


def check_same(bench):
    """The same run twice, and one that was stopped in the middle and went on."""
    data, pairs = bench.tasks(), bench.pairs()
    kinds = {"lora": {"stage": "sft", "finetuning": "lora", "lora_dropout": 0.1, "datasets": data},
             "full": {"stage": "sft", "finetuning": "full", "datasets": data},
             "dpo": {"stage": "dpo", "finetuning": "lora", "datasets": pairs}}
    found, bad = {}, []
    steps, size = (2, 1) if bench.emulated else (8, 4)
    for kind, own in kinds.items():
        own = {"template": "alpaca", "max_length": 256, "per_device_train_batch_size": size,
               "max_steps": steps, **own, "datasets": str(own["datasets"])}
        weights = "model.safetensors" if kind == "full" else "adapter_model.safetensors"
        runs = {}
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
        found[kind] = runs
        if runs["second"] != runs["first"]:
            bad.append(f"{kind}: the same run twice gives other bits")
        if runs["resumed"]["weights"] != runs["first"]["weights"]:
            bad.append(f"{kind}: a resumed run gives other bits")
    return judged(not bad, "; ".join(bad), runs=found)


# --- memory ---


def step_config(bench, name, shape, own, tokens, **more):
    """A run over one document of `tokens` a step."""
    values = {"model_name_or_path": str(bench.model(shape)), "random_weights": True, **own, **more}
    return bench.config(name, stage="pt", datasets=str(bench.text(4, tokens)), max_length=tokens,
                        per_device_train_batch_size=1, max_steps=1000, **values)


def check_plan(bench):
    cases = {"1b-full": ("1b", {"finetuning": "full"}, 4096),
             "1b-lora": ("1b", {"finetuning": "lora"}, 8192)}
    if bench.emulated:
        cases = {"toy": ("toy", {"finetuning": "lora"}, 64)}
    found, bad = {}, []
    for name, case in cases.items():
        config = step_config(bench, name, *case)
        plan = bench.plan(config)
        run = bench.steps(config, 4, min(60, bench.left() - 2))
        row = found[name] = {"planned_bytes": plan["total_bytes"], "arenas": plan["arenas"],
                             "context_bytes": plan["named"]["context"],
                             "used_bytes": run["peak_bytes"]}
        if run["peak_bytes"] is None:
            if not bench.emulated:
                bad.append("NVML does not tell")
            continue
        row["off"] = plan["total_bytes"] / run["peak_bytes"] - 1
        if abs(row["off"]) > PLAN_BOUND:
            bad.append(f"{name}: planned {plan['total_bytes'] / 1e9:.3f} GB, NVML "
                       f"{run['peak_bytes'] / 1e9:.3f} GB")
    return judged(not bad, "; ".join(bad), plans=found)


# --- fast ---


def bench_lines(bench, *parts):
    more = ("small",) if bench.emulated else ()
    lines = bench.run("bench_gpu", *parts, *more).strip().split("\n")
    return [json.loads(line) for line in lines]


def kernel_peer(bench, *parts):
    return None if bench.emulated else bench.peer("gpu_kernels.py", *parts)


def with_peer(bench, *parts):
    """Our lines, and beside each what torch takes for the same."""
    rows = bench_lines(bench, *parts)
    found = {"about": rows[0], "rows": rows[1:]}
    try:
        peer = kernel_peer(bench, *parts)
    except Failed as e:
        found["peer_failed"] = str(e)
        return found
    for row in found["rows"]:
        ms = (peer or {}).get(f"{row['entry']} {row['shape']}")
        if ms:
            row["peer_ms"], row["ratio"] = ms, ms / row["ms"]
    return found


def bench_kernels(bench):
    found = with_peer(bench, "copy", "gemm", "passes")
    slow = [row for row in found["rows"]
            if "gb_per_second" in row and row["share"] < PASSES_GOAL]
    found["below_goal"] = [f"{row['entry']}: {row['share']:.2f} of the copy" for row in slow]
    return judged(True, "", **found)


def bench_attention(bench):
    found = with_peer(bench, "copy", "gemm", "attention", "decode")
    found["below_goal"] = [
        f"{row['entry']}, {row['engine']}, {row['shape']}: {row['tflops']:.0f} TFLOP/s"
        for row in found["rows"]
        if row["entry"] in ATTENTION_GOALS and row.get("engine") == "hopper"
        and row["shape"].endswith("x8192x32x8x128")
        and row["tflops"] < ATTENTION_GOALS[row["entry"]]]
    return judged(True, "", **found)


def bench_head(bench):
    return judged(True, "", **with_peer(bench, "gemm", "head"))


def step_peers(bench, row, config, tokens, own, peers):
    """row[peer] and row[peer + "_failed"], for each peer whose package is here."""
    for peer, (package, options) in peers.items():
        if lacking({"packages": ("torch", "transformers", *((package,) if package else ()))},
                   bench.emulated):
            continue
        try:
            found = row[peer] = bench.peer(
                "gpu_step.py", "--config", config, "--tokens", tokens, "--finetuning",
                own["finetuning"], "--steps", 2 if bench.emulated else 8, *options,
                *(["--checkpointing"] if "gradient_checkpointing" in own else []))
            if "tokens_per_second" in row:
                name = "ratio" if peer == "peer" else f"ratio_{peer}"
                row[name] = row["tokens_per_second"] / found["tokens_per_second"]
        except Failed as e:
            row[f"{peer}_failed"] = str(e)


def bench_steps(bench, cases, peers):
    found = {}
    if bench.emulated:
        cases, peers = {"toy-lora": ("toy", {"finetuning": "lora"}, 64)}, {}
    for name, (shape, own, tokens) in cases.items():
        config = step_config(bench, name, shape, own, tokens)
        row = found[name] = {"shape": shape, "tokens": tokens, "tuning": own["finetuning"]}
        try:
            row["planned_bytes"] = bench.plan(config)["total_bytes"]
            row.update(bench.steps(config, 3 if bench.emulated else 10,
                                   min(30, bench.left() / 2)))
        except Failed as e:
            row["failed"] = str(e)
        step_peers(bench, row, config_of(bench, shape), tokens, own, peers)
    failed = [f"{name}: {row['failed']}" for name, row in found.items() if "failed" in row]
    slow = [f"{name}: {row['ratio']:.2f} of transformers+PEFT" for name, row in found.items()
            if row.get("ratio", STEP_GOAL) < STEP_GOAL]
    return judged(not failed, "; ".join(failed), steps=found, below_goal=slow)


# --- a step of preferences ---


def bench_dpo(bench):
    """Pairs whose prompt is computed once, against the plain form and TRL's trainer."""
    shape, prompt, reply, batch = ("toy", 40, 20, 2) if bench.emulated else ("8b", 700, 450, 2)
    pairs = bench.long_pairs(8 * batch, prompt, reply)
    own = {"model_name_or_path": str(bench.model(shape)), "random_weights": True, "stage": "dpo",
           "template": "alpaca", "datasets": str(pairs), "finetuning": "lora", "lora_r": 16,
           "max_length": 2 * (prompt + reply), "per_device_train_batch_size": batch,
           "max_steps": 1000}
    if not bench.emulated:
        own["attention"] = "flash"
    found, failed = {"shape": shape, "prompt": prompt, "reply": reply, "pairs_a_step": batch}, []
    for name, sharing in (("shared", True), ("plain", False)):
        try:
            run = bench.steps(bench.config(f"dpo-{name}", **own, prefix_sharing=sharing),
                              3 if bench.emulated else 8, min(20, bench.left() / 3))
            found[name] = {**run, "pairs_per_second": batch / median(run["seconds"])}
        except Failed as e:
            failed.append(f"{name}: {e}")
    if "shared" in found and "plain" in found:
        found["gain"] = found["shared"]["pairs_per_second"] / found["plain"]["pairs_per_second"]
    if not bench.emulated and not lacking(PARTS["dpo"][3]):
        try:
            data = bench.work / "pairs.h5"
            bench.run("cria", "prepare", "--data", pairs, "--tokenizer", BASE, "--template",
                      "alpaca", "--out", data)
            peer = found["trl"] = bench.peer(
                "gpu_dpo.py", "--config", config_of(bench, shape), "--tokenizer", BASE, "--data",
                data, "--batch", batch, "--steps", 6)
            if "shared" in found:
                found["ratio"] = found["shared"]["pairs_per_second"] / peer["pairs_per_second"]
        except Failed as e:
            found["trl_failed"] = str(e)
    return judged(not failed, "; ".join(failed), dpo=found)


# --- the first step ---


def bench_start(bench):
    """From the command to the end of the first step, with weights to read, beside reading them."""
    shape, tokens = ("toy", 64) if bench.emulated else ("1b", 1024)
    model = bench.model(shape)
    path = bench.weights(shape)
    config = step_config(bench, "start", shape, {"finetuning": "lora"}, tokens,
                         random_weights=False, model_name_or_path=str(model))
    began = time.monotonic()
    with path.open("rb", buffering=0) as f:
        while f.read(1 << 24):
            pass
    reading = time.monotonic() - began
    run = bench.steps(config, 4, bench.left() - 2)
    more = run["first_step_s"] - median(run["seconds"]) - reading
    slow = [f"{more:.2f} s more than reading and a step"] if more > START_GOAL else []
    return judged(True, "", start={
        "shape": shape, "bytes": path.stat().st_size, "read_s": reading,
        "first_step_s": run["first_step_s"], "step_s": median(run["seconds"]), "more_s": more},
        below_goal=slow)


def config_of(bench, shape):
    path = bench.work / f"{shape}.json"
    path.write_text(json.dumps(SHAPES[shape]))
    return path


BASE_FILES = ("configs/quickstart/base/model.safetensors", "configs/quickstart/base/config.json")
RUNS = {"programs": ("cria", "quickstart_world"), "files": BASE_FILES}
TORCH = {"packages": ("torch", "transformers", "peft")}
# name: function, its share in seconds of a run of all (tools/gpu-check: what is left of those
# before comes on top), what it needs, what it wants besides, in words
PARTS = {
    "wrappers": (check_wrappers, 10, {"programs": ("test_wrappers",)}, {},
                 "each PTX wrapper on the device against what its twin does"),
    "ops": (check_ops, 50, {"programs": ("test_ops",)}, {},
            "the op table on the device, fp32 and bf16, twice, against fp64"),
    "sanitizer": (check_sanitizer, 60,
                  {"programs": ("test_wrappers", "test_ops"), "tools": ("compute-sanitizer",)}, {},
                  "memcheck, racecheck and synccheck on small cases"),
    "curves": (check_curves, 60,
               {**RUNS, "files": (*BASE_FILES, "tools/bench_peer/gpu_curves.py")},
               {"packages": ("torch", "transformers", "peft", "h5py")},
               "SFT, LoRA and DPO against the CPU, in bf16 against transformers' own error"),
    "quickstart": (check_quickstart, 45, {**RUNS, "files": (
        *BASE_FILES, "tools/quickstart", "configs/quickstart.yaml", "configs/quickstart-dpo.yaml",
        "configs/quickstart-wordy.yaml")}, {}, "tools/quickstart on the device"),
    "plan": (check_plan, 25, {"programs": ("cria",), "files": BASE_FILES}, {},
             "plans against NVML, within 1 %"),
    "same": (check_same, 25, RUNS, {}, "the same run twice and a resumed one, bit for bit"),
    "start": (bench_start, 15, {"programs": ("cria",), "files": BASE_FILES}, {},
              "from the command to the first step, beside reading the weights"),
    "kernels": (bench_kernels, 25, {"programs": ("bench_gpu",)}, {"packages": ("torch",)},
                "products and passes beside PyTorch, passes beside the copy bandwidth"),
    "attention": (bench_attention, 35, {"programs": ("bench_gpu",)}, {"packages": ("torch",)},
                  "attention by each engine from 1k to 32k tokens, and decoding, beside "
                  "PyTorch's SDPA"),
    "head": (bench_head, 15, {"programs": ("bench_gpu",)}, {"packages": ("torch",)},
             "the head, 8192x4096x128256"),
    "steps": (lambda bench: bench_steps(bench, STEPS, PEERS), 110,
              {"programs": ("cria",), "files": BASE_FILES},
              TORCH, "whole steps of a 1B and an 8B Llama beside transformers+PEFT, with and "
              "without torch.compile, and Liger and torchtune where they are"),
    "dpo": (bench_dpo, 45, {"programs": ("cria",), "files": BASE_FILES},
            {"packages": ("torch", "transformers", "peft", "h5py", "datasets", "trl")},
            "DPO steps of an 8B, prompts shared and not, beside TRL's trainer"),
}
# those that are run when they are named only
MORE = {
    "steps-more": (lambda bench: bench_steps(bench, STEPS_MORE, PEER), 200, PARTS["steps"][2],
                   TORCH, "a 3B, and the 8B recomputed, beside transformers+PEFT"),
    "steps-compiled": (lambda bench: bench_steps(
        bench, STEPS, {**PEER, "compiled": (None, ("--compile", "whole"))}), 400,
        PARTS["steps"][2], TORCH, "as steps, transformers compiled whole, not layer by layer"),
}

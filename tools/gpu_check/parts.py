"""The parts of tools/gpu-check in the order in which they make sense, a row each, and the calls that
they are run in where no command may take longer than ten minutes."""

from gpu_check import fast, right, steps

BASE_FILES = ("configs/quickstart/base/model.safetensors", "configs/quickstart/base/config.json")
CRIA = {"programs": ("cria",), "files": BASE_FILES}
RUNS = {"programs": ("cria", "quickstart_world"), "files": BASE_FILES}
BENCH = {"programs": ("bench_gpu",)}
TORCH = {"packages": ("torch",)}
RECIPES = ("tools/quickstart", "configs/quickstart.yaml", "configs/quickstart-dpo.yaml",
           "configs/quickstart-wordy.yaml")


def peer(name, seconds, text, *packages):
    needs = {"packages": ("torch", "transformers", *packages),
             "files": ("tools/bench_peer/gpu_step.py",)}
    return (steps.bench_peer(name), seconds, needs, {}, f"the same steps by {text}")


# name: function, its share in seconds (what is left of those before comes on top), what it needs,
# what it wants besides, in words
PARTS = {
    "wrappers": (right.check_wrappers, 10, {"programs": ("test_wrappers",)}, {},
                 "each PTX wrapper on the device against what its twin does"),
    "ops": (right.check_ops, 60, {"programs": ("test_ops",)}, {},
            "the op table on the device, fp32 and bf16, twice, against fp64"),
    "sanitizer": (right.check_sanitizer, 110, {
        "programs": ("test_wrappers", "test_ops"), "tools": ("compute-sanitizer",)}, {},
        "memcheck, racecheck and synccheck on small cases"),
    "curves": (right.check_curves, 70,
               {**RUNS, "files": (*BASE_FILES, "tools/bench_peer/gpu_curves.py")},
               {"packages": right.CURVES_PEERS},
               "SFT, LoRA and DPO against the CPU, in bf16 against transformers' own error"),
    "same": (right.check_same, 40, RUNS, {}, "the same run twice and a resumed one, bit for bit"),
    "plan": (right.check_plan, 90, CRIA, {}, "plans against NVML, within 1 %"),
    "quickstart": (right.check_quickstart, 60, {**RUNS, "files": (*BASE_FILES, *RECIPES)}, {},
                   "tools/quickstart on the device"),
    "kernels": (fast.bench_kernels, 35, BENCH, TORCH,
                "products and passes beside PyTorch, passes beside the copy bandwidth"),
    "attention": (fast.bench_attention, 120, BENCH, TORCH,
                  "the ladder: plain, flash, hopper and cuDNN beside PyTorch's SDPA, 1k to 16k "
                  "tokens, and decoding"),
    "head": (fast.bench_head, 20, BENCH, TORCH, "the head, 8192x4096x128256"),
    "start": (fast.bench_start, 25, CRIA, {},
              "from the command to the first step, beside reading the weights"),
    "dpo": (fast.bench_dpo, 120, {**CRIA, "programs": ("cria", "bench_gpu")},
            {"packages": fast.TRL}, "DPO steps of an 8B, prompts shared and not, beside TRL's"),
    "profile": (fast.bench_profile, 100, {**CRIA, "programs": ("cria", "bench_gpu")}, {},
                "where the time of the 8B LoRA, 1B full and DPO steps goes, with their traces"),
    "steps-cria": (steps.bench_steps, 230, {**CRIA, "programs": ("cria", "bench_gpu")}, {},
              "1B, 3B and 8B Llamas, full and LoRA, checkpointing none, auto and full"),
    "steps-eager": peer("eager", 100, "transformers and PEFT", "peft"),
    "steps-liger": peer("liger", 50, "the same with Liger's kernels", "peft", "liger-kernel"),
    "steps-compiled": peer("compiled", 110, "the same compiled by torch.compile", "peft"),
    "steps-torchtune": peer("torchtune", 50, "torchtune's model", "torchtune"),
}
# name: its parts, seconds, in words. A call is one command; what a peer is beside is in the same.
CALLS = {
    "right": (("wrappers", "ops", "sanitizer", "curves", "same", "plan", "quickstart"), 500,
              "whether it is right"),
    "fast": (("kernels", "attention", "head", "start", "dpo", "profile"), 450,
             "entries, attention, preferences"),
    "steps": (("steps-cria", "steps-eager", "steps-liger", "steps-compiled", "steps-torchtune"), 550,
              "the table of steps, with the peers"),
}


def parts_of(words):
    """(names in order, seconds for all of them) of calls and parts; everything for no words. Raises
    KeyError with a word that is neither."""
    names, seconds = set(), 0
    for word in words or CALLS:
        own, takes, _ = CALLS[word] if word in CALLS else ((word,), PARTS[word][1], None)
        names.update(own)
        seconds += takes
    return [name for name in PARTS if name in names], seconds

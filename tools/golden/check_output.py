"""Do transformers and PEFT load what cria writes, and do they compute the same from it?

Given folders:
    python check_output.py MODEL_DIR [--adapter DIR] [--merged DIR]
                           [--reference GOLDEN.safetensors] [--ids 1,5,9 ...]
loads the model (and the adapter on it, and the merged model) with transformers and prints
||difference|| / ||reference|| of the logits: adapter against merged, model (with adapter) against
`logits` of the reference file. The ids are the reference file's documents, or --ids (a
document each), or three random documents.

Given the binary:
    python check_output.py --cria PATH [--keep DIR]
trains tests/golden/models/llama_gqa_tied with it, full and LoRA, merges, generates, and checks
all of the above on the results, beside cria's own greedy text and ids against the references'.

Exit status 1 if anything is off.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer

import common
import driver
import reference

TOLERANCE = 1e-5  # ||difference|| / ||reference|| of fp32 logits
NEW_TOKENS = 24
PROMPTS = ["The llama", "What does the alpaca eat?", "  two spaces,\na newline and Zürich"]
RECORDS = [
    ("What does the llama eat?", "", "It eats grass and hay."),
    ("Name an animal of the herd.", "", "The alpaca."),
    ("Say where the road leads.", "The road to the market is steep.", "To the market."),
    ("Write a short answer.", "", "This is the answer."),
    ("When is the wool warm?", "", "When the winter is long."),
    ("Count to three.", "", "One, two, three."),
]
TRAINING = {
    "stage": "sft", "template": "alpaca", "max_length": 512, "max_steps": 6, "seed": 7,
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "device": "cpu",
    "precision": "fp32", "logging_steps": 1, "save_steps": "none", "learning_rate": 1e-2,
}
LORA = {"finetuning": "lora", "lora_r": 4, "lora_alpha": 16}
FULL = {"finetuning": "full"}


class Checks:
    """Prints one line a check and remembers failures."""

    def __init__(self):
        self.failed = 0

    def __call__(self, name, good, detail=""):
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {name}  {detail}", flush=True)

    def close(self, name, value, wanted):
        """Logits within the tolerance."""
        error = common.relative_error(value, wanted)
        self(name, error <= TOLERANCE, f"{error:.1e}")

    def moved(self, name, value, base):
        """Logits that training has changed, and that are numbers."""
        error = common.relative_error(value, base)
        self(name, error > 1e-3, f"moved by {error:.1e}")


@torch.no_grad()
def logits_of(documents, folder, adapter=None):
    """Logits [N, V] of transformers (and PEFT); documents: lists of ids."""
    model = reference.load_model(folder, adapter)
    lengths = torch.tensor([len(ids) for ids in documents])
    flat = torch.tensor([i for ids in documents for i in ids])
    return common.document_logits(model, flat, lengths)


def choose_documents(args):
    """Lists of ids, by the command line."""
    if args.reference:
        golden = load_file(args.reference)
        parts = golden["input_ids"].split(golden["doc_lengths"].tolist())
        return [p.tolist() for p in parts]
    if args.ids:
        return [[int(i) for i in text.split(",")] for text in args.ids]
    config = json.loads((Path(args.model) / "config.json").read_text())
    ids, lengths, _ = common.make_documents(config["vocab_size"], seed=0)
    return [p.tolist() for p in ids.split(lengths.tolist())]


def check_folders(args, checks):
    """The first form."""
    documents = choose_documents(args)
    value = logits_of(documents, args.model, args.adapter)
    checks("loads in transformers" + (" and PEFT" if args.adapter else ""), True, args.model)
    if args.reference:
        checks.close("logits equal the reference's", value, load_file(args.reference)["logits"])
    if args.merged:
        checks.close("merged equals base + adapter", logits_of(documents, args.merged), value)


def write_data(path):
    """A few Alpaca records."""
    keys = ("instruction", "input", "output")
    path.write_text("".join(json.dumps(dict(zip(keys, r))) + "\n" for r in RECORDS))
    return path


def train(cria, work, name, options):
    """One training run; returns its output folder."""
    config = driver.write_config(work / f"{name}.yaml", {
        **TRAINING, **options, "model_name_or_path": str(work / "base"),
        "output_dir": str(work / name),
        "datasets": [{"path": str(work / "data.jsonl"), "format": "alpaca"}]})
    cria("train", config)
    return work / name


def tensor_names(folder):
    """Names in model.safetensors."""
    with safe_open(folder / "model.safetensors", "pt") as f:
        return set(f.keys())


def greedy(folder, adapter, ids, eos):
    """transformers' greedy continuation of ids."""
    model = reference.load_model(folder, adapter)
    prompt = torch.tensor([ids])
    out = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt),
                         do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0,
                         eos_token_id=eos)
    return out[0, len(ids):].tolist()


def continuation_text(tokenizer, prompt, new):
    """What the new ids add to the prompt's text."""
    before, after = tokenizer.decode(prompt), tokenizer.decode(prompt + new)
    return after[len(before):]


def check_generation(cria, checks, tokenizer, name, folder, adapter=None):
    """cria's greedy text against transformers' over the same ids."""
    eos = tokenizer.token_to_id("</s>")
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        wanted = continuation_text(tokenizer, ids, greedy(folder, adapter, ids, eos))
        options = ["--adapter", adapter] if adapter else []
        text = cria("generate", "--model", folder, *options, "--prompt", prompt, "--raw",
                    "--temperature", 0, "--max-new-tokens", NEW_TOKENS)
        checks(f"{name}: greedy text after {prompt!r}", text == wanted + "\n",
               "" if text == wanted + "\n" else f"{text!r}, not {wanted!r}")


def check_tokenize(cria, checks, tokenizer, folder):
    """cria's ids against the tokenizers library's."""
    for prompt in PROMPTS:
        ids = list(map(int, cria("tokenize", "--tokenizer", folder, text=prompt).split()))
        checks(f"tokenize {prompt!r}", ids == tokenizer.encode(prompt).ids, str(ids[:8]))


def check_lora(cria, checks, work, documents, base):
    """Train, load in PEFT, merge, load in transformers."""
    lora = train(cria, work, "lora", LORA)
    value = logits_of(documents, work / "base", lora)
    checks.moved("adapter loads in PEFT", value, base)
    cria("merge", "--model", work / "base", "--adapter", lora, "--out", work / "merged")
    merged = logits_of(documents, work / "merged")
    checks.close("merged equals base + adapter", merged, value)
    checks("merged model has the base's tensors",
           tensor_names(work / "merged") == tensor_names(work / "base"))
    return lora


def check_binary(cria, checks, work):
    """The second form."""
    source = common.MODELS / "llama_gqa_tied"
    (work / "base").symlink_to(source)
    write_data(work / "data.jsonl")
    golden = load_file(source / "golden.safetensors")
    lengths = golden["doc_lengths"].tolist()
    documents = [p.tolist() for p in golden["input_ids"].split(lengths)]
    base = golden["logits"]
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    check_tokenize(cria, checks, tokenizer, source)
    check_generation(cria, checks, tokenizer, "base", source)
    lora = check_lora(cria, checks, work, documents, base)
    check_generation(cria, checks, tokenizer, "base + adapter", work / "base", lora)
    check_generation(cria, checks, tokenizer, "merged", work / "merged")
    full = train(cria, work, "full", FULL)
    checks.moved("full model loads in transformers", logits_of(documents, full), base)
    checks("full model has the base's tensors", tensor_names(full) == tensor_names(source))
    saved = Tokenizer.from_file(str(full / "tokenizer.json"))
    checks("full model has its tokenizer", saved.to_str() == tokenizer.to_str())
    check_generation(cria, checks, tokenizer, "full", full)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", metavar="MODEL_DIR")
    parser.add_argument("--adapter", metavar="DIR")
    parser.add_argument("--merged", metavar="DIR")
    parser.add_argument("--reference", metavar="FILE", help="with input_ids, doc_lengths, logits")
    parser.add_argument("--ids", nargs="+", help="documents: ids with commas")
    parser.add_argument("--cria", metavar="PATH", help="the binary: run it end to end")
    parser.add_argument("--keep", metavar="DIR", help="work in this empty folder and keep it")
    args = parser.parse_args()
    common.quiet_and_deterministic()
    checks = Checks()
    if args.cria:
        with tempfile.TemporaryDirectory() as scratch:
            work = Path(args.keep or scratch).resolve()
            work.mkdir(parents=True, exist_ok=True)
            check_binary(driver.Cria(args.cria), checks, work)
    elif args.model:
        check_folders(args, checks)
    else:
        parser.error("give MODEL_DIR or --cria PATH")
    raise SystemExit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()

"""Makes tests/golden/fastchat.json: the labels of FastChat's own trainer (fastchat.train.train,
preprocess) for conversations of ours and of the shared data.

    python tools/golden/fastchat_labels.py [SHARED]

fschat is installed without its dependencies (requirements.txt). The tokenizer is Llama-2's, as it
stands (legacy) and with Metaspace in its normalizer's place, which is what a non-legacy one is. A
record comes to eight digits: XXH3 of its ids and labels up to max_length, padding left out; "-"
where FastChat refuses it.
"""

import copy
import json
import os
import sys
import tempfile
from pathlib import Path

import xxhash
from fastchat.train.train import preprocess
from transformers import PreTrainedTokenizerFast

REPO = Path(__file__).resolve().parents[2]
LENGTHS = [48, 512, 2048]


def chat(*texts, first="human"):
    roles = ["human", "gpt"] if first == "human" else ["gpt", "human"]
    return {"conversations": [{"from": roles[i % 2], "value": t} for i, t in enumerate(texts)]}


HAND_MADE = [
    chat("Hi", "Hello."),
    chat("Hi", "Hello.", "And?", "No more."),
    chat("Hi", " leading space"),
    chat("Hi", "an end </s> in the text", "And?", "yes"),
    chat("Hi", "unknown <unk> here"),
    chat("Hi", "unknown <unk> here", "And?", "yes"),
    chat("Hi", "he said: ASSISTANT: no"),
    chat("USER: ASSISTANT: x", "y"),
    chat("Hi", "Hello.", "A question that nobody answers"),
    chat("Hello.", "Hi", "I am first.", first="gpt"),
    chat("\n\nnewlines\n", "\n\nback\n", "x\n", "\ty "),
    chat("早上好", "你好！", "再见", "🦙🦙"),
    chat("ends in eos </s>", "a </s>"),
    chat("short", "word " * 60, "more", "word " * 60),
]


def tokenizers(shared):
    legacy = shared / "tokenizers" / "llama2" / "tokenizer.json"
    yield "legacy", PreTrainedTokenizerFast(tokenizer_file=str(legacy)), True
    changed = json.loads(legacy.read_text(encoding="utf-8"))
    changed["normalizer"] = None
    changed["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581",
                                "prepend_scheme": "first", "split": False}
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as f:
        json.dump(changed, f, ensure_ascii=False)
        f.flush()
        yield "metaspace", PreTrainedTokenizerFast(tokenizer_file=f.name), False


def digits(tokenizer, record):
    try:
        made = preprocess([copy.deepcopy(record["conversations"])], tokenizer)
    except (AssertionError, KeyError, IndexError):
        return "-"
    ids, labels = made["input_ids"][0], made["labels"][0]
    n = len(tokenizer.kept)
    data = ids[:n].numpy().astype("<i4").tobytes() + labels[:n].numpy().astype("<i4").tobytes()
    return xxhash.xxh3_128(data).hexdigest()[:8]


class Wrapped:
    """The tokenizer, as `preprocess` calls it; it notes how many ids are no padding."""

    def __init__(self, tokenizer, legacy, length):
        self.inner, self.legacy, self.model_max_length = tokenizer, legacy, length
        tokenizer.pad_token = tokenizer.unk_token = "<unk>"
        tokenizer.padding_side = "right"
        self.pad_token_id = tokenizer.pad_token_id

    def __call__(self, text, **options):
        if options:
            self.kept = self.inner(text[0], truncation=True, max_length=self.model_max_length).input_ids
        return self.inner(text, **options)


def records(path, limit):
    text = path.read_text(encoding="utf-8")
    all_of_them = json.loads(text) if path.suffix == ".json" else map(json.loads, text.splitlines())
    return list(all_of_them)[:limit]


def main():
    shared = Path(sys.argv[1] if len(sys.argv) > 1
                  else os.environ.get("CRIA_SHARED") or REPO.parent / "shared" / "data")
    files = {"chat/vicuna_dummy_500.json": 500, "chat/sharegpt_zh_1k.jsonl": 150}
    golden = {"hand_made": HAND_MADE, "labels": []}
    for name, tokenizer, legacy in tokenizers(shared):
        for length in LENGTHS:
            wrapped = Wrapped(tokenizer, legacy, length)
            golden["labels"].append({
                "tokenizer": name, "max_length": length,
                "hand_made": " ".join(digits(wrapped, r) for r in HAND_MADE),
                **{f: " ".join(digits(wrapped, r) for r in records(shared / f, n))
                   for f, n in files.items()}})
    target = REPO / "tests" / "golden" / "fastchat.json"
    target.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What FastChat's scripts make of conversations: tests/golden/clean.

fschat==0.2.36 with markdownify==0.11.6, beautifulsoup4==4.12.3 and pycld2==0.42 (installed with
--no-deps; what it wants besides is here already). The functions of fastchat.data.{clean_sharegpt, optional_clean, split_long_conversation,
filter_wrong_format} run in the order of prepare_all; their process pools are left out. Tokens are
counted by `tokenizers` on a tokenizer.json (SEMANTICS K: not by AutoTokenizer): llama2's for the
chat files of the shared data, the tiny models' for the pages.

pages.jsonl holds the conversations of clean_pages.py. Every other file has a line a conversation
that is left: its id and a hash of its messages, in order; a `+` before those that FastChat's splitting
loses (the last pair, when it does not fit), which cria keeps.

Usage: tools/golden/clean.py [SHARED-DATA]"""

import json
import sys
import types
from pathlib import Path

import pycld2
import xxhash
from tokenizers import Tokenizer

# polyglot's Detector wants PyICU for the names of languages; this is the rest of it.
polyglot = types.ModuleType("polyglot")
polyglot.detect = types.ModuleType("polyglot.detect")
polyglot.detect.base = types.ModuleType("polyglot.detect.base")
polyglot.detect.base.UnknownLanguage = type("UnknownLanguage", (Exception,), {})


class Detector:
    def __init__(self, text):
        data = text.encode("utf-8")
        reliable, _, choices = pycld2.detect(data, bestEffort=False)
        if not reliable:
            reliable, _, choices = pycld2.detect(data, bestEffort=True)
            if not reliable:
                raise polyglot.detect.base.UnknownLanguage()
        self.language = types.SimpleNamespace(code=choices[0][1])


polyglot.detect.Detector = Detector
sys.modules.update({"polyglot": polyglot, "polyglot.detect": polyglot.detect,
                    "polyglot.detect.base": polyglot.detect.base})

from fastchat.data import clean_sharegpt, filter_wrong_format, optional_clean, split_long_conversation  # noqa: E402

from clean_pages import make_pages  # noqa: E402
from common import GOLDEN, shared_data  # noqa: E402

OUT = GOLDEN / "clean"
CHATS = ["vicuna_dummy_500.json", "sharegpt_zh_1k.jsonl", "sharegpt_toolcall_300.json"]


class Now:
    """A process pool that is none."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def map(self, f, items):
        return map(f, items)


clean_sharegpt.ProcessPoolExecutor = Now
clean_sharegpt.tqdm = lambda items, total=None: items
clean_sharegpt.print = lambda *_: None


def load(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if text.lstrip()[0] == "[" else [json.loads(line) for line in text.split("\n") if line.strip()]


def split(content, tokenizer, max_length):
    """FastChat's segments of each conversation, and the pair that it loses."""
    split_long_conversation.tokenizer = tokenizer
    split_long_conversation.max_length = max_length
    for sample in content:
        segments = [s for s in split_long_conversation.split_one_sample(sample) if s["conversations"]]
        yield from ((s, False) for s in split_long_conversation.filter_invalid_roles(segments))
        start = sum(len(s["conversations"]) for s in segments)
        if start < len(sample["conversations"]):
            yield split_long_conversation.make_sample(sample, start, len(sample["conversations"])), True


def hash_of(sample):
    h = xxhash.xxh3_128()
    for turn in sample["conversations"]:
        for text in (turn["from"], turn["value"]):
            h.update(text.encode("utf-8") + b"\0")
    return h.hexdigest()[:16]


def run(name, content, tokenizer, max_length, skip_lang=None, keep_lang="all", reduce_rep=False):
    args = types.SimpleNamespace(skip_lang=skip_lang, keep_lang=keep_lang, reduce_rep=reduce_rep)
    content = clean_sharegpt.clean_html_all(content, None, None)
    content = [c for c in content if not optional_clean.skip(c, args)]
    rows = [f"{'+' if lost else ''}{s['id']} {hash_of(s)}" for s, lost in split(content, tokenizer, max_length)
            if not filter_wrong_format.should_skip(s)]
    (OUT / name).write_text("\n".join(rows) + "\n")
    print(f"{name}: {len(rows)} rows, {sum(r.startswith('+') for r in rows)} of them lost by FastChat")


def with_ids(path, content):
    """As cria names records without an id."""
    return [{"id": f"{path.name.split('.')[0]}_{i + 1}", **c} for i, c in enumerate(content)]


def tokenizer_of(path):
    t = Tokenizer.from_file(str(path))
    t.no_truncation()
    return lambda text: types.SimpleNamespace(input_ids=t.encode(text).ids)


def main():
    data = shared_data(sys.argv[1] if len(sys.argv) > 1 else None)
    small = tokenizer_of(GOLDEN / "models/llama_gqa_tied/tokenizer.json")
    llama2 = tokenizer_of(data / "tokenizers/llama2/tokenizer.json")
    OUT.mkdir(exist_ok=True)
    with open(OUT / "pages.jsonl", "w", encoding="utf-8") as f:
        for page in make_pages():
            f.write(json.dumps(page, ensure_ascii=False) + "\n")
    pages = lambda: load(OUT / "pages.jsonl")
    run("pages_2048.txt", pages(), small, 2048)
    run("pages_512_skip_ko.txt", pages(), small, 512, skip_lang="ko")
    run("pages_300_en_rep.txt", pages(), small, 300, keep_lang="en", reduce_rep=True)
    for name in CHATS:
        path = data / "chat" / name
        run(f"{path.stem}.txt", with_ids(path, load(path)), llama2, 1024, skip_lang="ko")


if __name__ == "__main__":
    main()

"""Makes tests/golden/templates.json: what transformers' chat templating writes for each template's
Jinja text, and the reference tokenizers' ids of it.

    python tools/golden/templates.py [SHARED]

SHARED is the folder with data/tokenizers (default: CRIA_SHARED, or ../shared beside the checkout).
Each template is rendered over the same conversations, once as training text and once as a
generation prompt. Ids come from `tokenizers` on tokenizer.json (SEMANTICS K), llama3's for the
template that needs its tokens, llama2's for those that need none; templates whose tokens neither
has get no ids. Where a model ships its own template with the tokenizer (llama3), the two must
write the same text.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

REPO = Path(__file__).resolve().parents[2]

TOKENIZER_OF = {"llama3": "llama3", "llama31": "llama3", "chatml": None, "qwen": None, "qwen3": None,
                "openchat": None}
OWN_TOKENS = {"llama2": ("<s>", "</s>"), "llama3": ("<|begin_of_text|>", "<|end_of_text|>")}
NO_BOS = ("chatml", "qwen", "qwen3")  # of models whose tokenizers put none


def turns(*texts, system=None, user_input=None):
    """Messages: user and assistant by turns, a system message before them if given."""
    out = [] if system is None else [{"role": "system", "content": system}]
    for i, text in enumerate(texts):
        out.append({"role": "assistant" if i % 2 else "user", "content": text})
    if user_input is not None:
        out[0 if system is None else 1]["input"] = user_input
    return out


CASES = [
    turns("Who are you?", "I am a llama."),
    turns("Who are you?", "I am a llama.", system="Answer in one sentence."),
    turns("Who are you?", "I am a llama.", system=""),
    turns("Hi", "Hello!", "What is 2+2?", "4"),
    turns("Hi", "Hello!", "What is 2+2?", "4", "Sure?", "Yes.\n\nQuite.", system="Be brief."),
    turns("  leading and trailing \n", "\n\n reply with edges\t "),
    turns("  leading and trailing \n", "\n\n reply with edges\t ", system=" spaced system \n"),
    turns("Translate to Chinese.", "早上好", user_input="Good morning"),
    turns("Translate.", "Guten Morgen", "And now?", "Bonjour", user_input="Good morning"),
    turns("Sort.", "1, 2, 3", system="You sort.", user_input="3, 1, 2"),
    turns("Braces {content} and {bos}", "{% raw %} {{ 'x' }} {eos}"),
    turns("\u00a0\u3000wide spaces\u2003", "\u2028line\u3000"),
    turns("def f(x):\n    return x  # ünïcödé 🦙", "```python\nprint(1)\n```\n"),
    turns("A literal </s> in the text", "and <|eot_id|> <s> in the reply"),
    [{"role": "user", "content": "Weather in Rome and Oslo?"},
     {"role": "assistant", "content": '{"name": "weather", "arguments": {"city": "Rome"}}'},
     {"role": "tool", "content": "18 degrees"},
     {"role": "tool", "content": "4 degrees"},
     {"role": "assistant", "content": "18 and 4 degrees."},
     {"role": "user", "content": "Thanks"},
     {"role": "assistant", "content": "You are welcome."}],
]


SOURCES = ["tools/golden/dump_templates.c",
           *("data/template/%s.c" % n for n in ("table", "pattern", "jinja", "known")),
           *("trainer/base/%s.c" % n for n in ("buf", "mem", "hash", "io", "status"))]


def dump(*files):
    """What tools/golden/dump_templates.c prints."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "dump"
        subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-I.", "-Itrainer", "-o", program,
                        *SOURCES, "-lxxhash"], cwd=REPO, check=True)
        return subprocess.run([program, *files], check=True, capture_output=True, text=True).stdout


def read_jinja():
    """The table's Jinja texts, by name."""
    return json.loads(dump())


def render(jinja, messages, prompt, bos, eos):
    """What apply_chat_template writes."""
    rendered, _ = render_jinja_template(
        conversations=[messages], chat_template=jinja, add_generation_prompt=prompt,
        bos_token=bos, eos_token=eos)
    return rendered[0]


def for_template(name, messages):
    """Templates without a place for the input have it behind the instruction."""
    if name == "alpaca":
        return messages
    return [{"role": m["role"],
             "content": m["content"] + ("\n" + m["input"] if "input" in m else "")}
            for m in messages]


def make_case(name, jinja, messages, tokenizer, own):
    messages = for_template(name, messages)
    case = {"text": render(jinja, messages, False, *own),
            "prompt": render(jinja, messages[:-1], True, *own)}
    if tokenizer:
        for key in ("text", "prompt"):
            ids = tokenizer.encode(case[key], add_special_tokens=False).ids
            case[key + "_ids"] = " ".join(map(str, ids))
    return case


def main():
    shared = Path(sys.argv[1] if len(sys.argv) > 1
                  else os.environ.get("CRIA_SHARED") or REPO.parent / "shared" / "data")
    folder = shared / "tokenizers"
    golden = {"conversations": CASES, "templates": {}}
    for name, jinja in read_jinja().items():
        kind = TOKENIZER_OF.get(name, "llama2")
        own = OWN_TOKENS[kind or "llama2"]
        tokenizer = Tokenizer.from_file(str(folder / kind / "tokenizer.json")) if kind else None
        if name not in NO_BOS:  # template_jinja puts it first where the row writes none
            jinja = jinja if "bos_token" in jinja else "{{ bos_token }}" + jinja
        golden["templates"][name] = {
            "jinja": jinja, "bos": own[0], "eos": own[1], "tokenizer": kind,
            "cases": [make_case(name, jinja, c, tokenizer, own) for c in CASES]}
    config = json.loads((folder / "llama3" / "llama3_8b_instruct_tokenizer_config.json").read_text())
    for case, made in zip(CASES, golden["templates"]["llama3"]["cases"]):
        if any(m["role"] == "tool" for m in case):
            continue  # Llama-3.1's name for the role is ipython, Llama-3 has none of its own
        published = render(config["chat_template"], for_template("llama3", case), False,
                           *OWN_TOKENS["llama3"])
        assert published == made["text"], case
    target = REPO / "tests" / "golden" / "templates.json"
    target.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

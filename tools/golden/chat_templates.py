"""Makes data/template/known_table.h: the fingerprints of chat templates that models are published
with, and the row of cria's table that each writes the same text as.

    python tools/golden/chat_templates.py [FOLDER...]

Looked at are the templates that TRL and LLaMA-Factory bring (requirements.txt; LLaMA-Factory with
--no-deps), Llama-3-8B-Instruct's in SHARED, and every .jinja file in the folders named. Each is rendered
over the conversations of templates.py; one that writes what a row's Jinja writes, as training text
and as prompt, is that row. Conversations that a template refuses (a system turn, mostly) do not
count; five must be left.
"""

import importlib.machinery
import json
import os
import sys
import tempfile
import types
from pathlib import Path

sys.path.append(sys.path.pop(0))  # a file here is called as a package that TRL imports is

import trl
from templates import CASES, OWN_TOKENS, REPO, dump, for_template, read_jinja, render


def written(jinja, messages, prompt, own):
    """The text, or None where the template refuses."""
    try:
        return render(jinja, messages, prompt, *own)
    except Exception:  # whatever a template raises
        return None


def outputs(jinja, name, own):
    pairs = []
    for case in CASES:
        if any("input" in m or m["role"] == "tool" for m in case):
            continue
        messages = for_template(name, case)
        pairs.append((written(jinja, messages, False, own), written(jinja, messages[:-1], True, own)))
    return pairs


def agree(theirs, ours):
    """What a template refuses aside, all of it."""
    seen = [i for i, (text, prompt) in enumerate(theirs) if text is not None and prompt is not None]
    return len(seen) > 4 and all(theirs[i] == ours[i] for i in seen)


def from_llamafactory(own):
    """The Jinja texts that LLaMA-Factory writes into a tokenizer that has none."""
    class Mock(types.ModuleType):
        def __init__(self, name):
            super().__init__(name)
            self.__path__, self.__spec__ = [], importlib.machinery.ModuleSpec(name, None)

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    for name in ("torchaudio", "av", "librosa"):  # of what is not text
        sys.modules.setdefault(name, Mock(name))
    from llamafactory.data.template import TEMPLATES

    class Tokenizer:
        bos_token, eos_token = own
        bos_token_id = eos_token_id = 1
        add_bos_token = True

    for name, template in TEMPLATES.items():
        try:
            yield "LLaMA-Factory " + name, template._get_jinja_template(Tokenizer())
        except Exception:
            continue


def candidates(shared, folders):
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        yield "TRL " + path.stem, path.read_text(encoding="utf-8")
    config = json.loads((shared / "tokenizers/llama3/llama3_8b_instruct_tokenizer_config.json").read_text())
    yield "Llama-3-8B-Instruct", config["chat_template"]
    for own in OWN_TOKENS.values():
        yield from from_llamafactory(own)
    for folder in folders:
        for path in sorted(Path(folder).glob("*.jinja")):
            yield path.stem, path.read_text(encoding="utf-8")


def main():
    shared = Path(os.environ.get("CRIA_SHARED") or REPO.parent / "shared" / "data")
    rows = read_jinja()
    own = OWN_TOKENS["llama2"]
    ours = {(name, kind, adds): outputs("{{ bos_token }}" * adds + jinja, name, OWN_TOKENS[kind])
            for name, jinja in rows.items() for kind in OWN_TOKENS
            for adds in range(1 if "bos_token" in jinja else 2)}
    found = {}
    for source, jinja in candidates(shared, sys.argv[1:]):
        for kind, own in OWN_TOKENS.items():
            theirs = outputs(jinja, "", own)
            row = next((n for (n, k, adds), o in ours.items() if k == kind and agree(theirs, o)), None)
            if row and not (kind == "llama2" and "<|begin_of_text|>" in jinja):
                found.setdefault(jinja, (row, source))
                break
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, jinja in enumerate(found):
            paths.append(f"{folder}/{i:04}")
            Path(paths[-1]).write_text(jinja, encoding="utf-8", newline="")
        hashes = dump(*paths).split()
    lines = {}
    for value, (row, source) in zip(hashes, found.values()):
        lines.setdefault(value, f'{{"{value}", "{row}"}}, /* {source} */\n')
    target = REPO / "data" / "template" / "known_table.h"
    target.write_text("/* Made by tools/golden/chat_templates.py. */\n" +
                      "".join(sorted(lines.values(), key=lambda x: x.split('"')[3:])))
    print(f"{len(lines)} texts", file=sys.stderr)


if __name__ == "__main__":
    main()

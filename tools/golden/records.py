"""Makes tests/golden/datasets.json: what becomes of every record of the real data files, counted
apart from cria, and what of the chats is trained.

    python tools/golden/records.py [SHARED]

SHARED is the folder with data (default: CRIA_SHARED, or ../shared/data beside the checkout). Per
file: its format, how many records it has, how many are kept, the documents made of them, why
others are not, and what is left out of those that are. Per chat file and template: a hash
(XXH3-128) of all trained texts in order, a zero byte behind each. Reading, conversion and the rules
are written anew here, from the description in data/formats/format.h and conversation.h.
"""

import collections
import json
import os
import sys
from pathlib import Path

import xxhash

REPO = Path(__file__).resolve().parents[2]

USER = {"human", "user", "prompter"}
REPLY = {"gpt", "assistant", "function_call"}
TOOL = {"observation", "tool", "function"}


def read(path):
    if path.suffix == ".txt":
        return [{"text": line} for line in path.read_text("utf-8").split("\n") if line.strip()]
    text = path.read_text("utf-8")
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.split("\n") if line.strip()]


class Drop(Exception):
    pass


def side(role):
    for name, roles in (("u", USER), ("a", REPLY), ("t", TOOL), ("s", {"system"})):
        if role in roles:
            return name
    raise Drop("unknown_role")


def rules(turns, prompt=False):
    """The turns [(side, text, weight)] that are kept; raises Drop. Notes what is mended."""
    notes = collections.Counter()
    system, turns = (turns[:1], turns[1:]) if turns and turns[0][0] == "s" else ([], turns)
    if any(t[0] == "s" for t in turns):
        raise Drop("system_place")
    if turns and turns[0][0] == "a":
        turns, notes["leading"] = turns[1:], 1
    while not prompt and len(turns) > 1 and turns[-1][0] in "ut":
        turns, notes["trailing"] = turns[:-1], notes["trailing"] + 1
    notes["trailing"] = min(notes["trailing"], 1)
    sides = "".join(t[0] for t in turns)
    if sides and sides[0] != "u":
        raise Drop("roles")
    for pair in zip(sides, sides[1:]):
        if "".join(pair) not in ("ua", "au", "at", "ta", "tt"):
            raise Drop("roles")
    if prompt and not turns or not prompt and len(turns) < 2:
        raise Drop("no_reply")
    if prompt and sides[-1] == "a":
        raise Drop("roles")
    for name, text, _ in turns:
        if name != "t" and not text.strip():
            raise Drop("empty_reply" if name == "a" else "empty_turn")
    return system + turns, notes


# --- texts to learn: a record to a list of conversations, and how much of it is left out ---

def answer(question, reply):
    return lambda r: ([[("u", r[question] or "", 1), ("a", r[reply] or "", 1)]], 0)


def chat(key, role, text):
    def convert(r):
        turns = []
        for m in r[key]:
            content = m[text]
            if isinstance(content, list):
                content = "".join(part["value"] for part in content)
            turns.append((side(m[role]), content or "", m.get("loss_weight", 1)))
        if r.get("tools", "[]") not in ("[]", ""):
            turns.insert(0, ("s", "", 1))
        return [turns], 0
    return convert


def guanaco(r):
    turns = []
    for piece in r["input"].split("### Human:")[1:]:
        question, *reply = piece.split("### Assistant:")
        turns.append(("u", question.strip(), 1))
        turns += [("a", text.strip(), 1) for text in reply if text.strip()]
    return [turns + [("a", r["output"].strip(), 1)]], 0


def seeds(r):
    return [[("u", r["instruction"], 1), ("a", i["output"], 1)] for i in r["instances"]], 0


def size(m):
    return 1 + sum(size(reply) for reply in m["replies"])


def best_path(r):
    m = r.get("prompt", r)
    turns = [(side(m["role"]), m["text"], 1)]
    total = size(m)
    while True:
        replies = [x for x in m["replies"] if not x["deleted"]]
        if not replies:
            return [turns], total - len(turns)
        ranks = [x.get("rank") if x.get("rank") is not None else 10**9 for x in replies]
        m = replies[ranks.index(min(ranks))]
        turns.append((side(m["role"]), m["text"], 1))


def plain(r):
    if not r["text"].strip():
        raise Drop("empty_text")
    return None, 0


def completion(r):
    if not r["response"].strip():
        raise Drop("empty_reply")
    return None, 0


# --- preferences: a record to a prompt and its replies ---

def pair(prompt, chosen, rejected):
    rules(prompt, True)
    if not chosen.strip() or not rejected.strip():
        raise Drop("empty_reply")
    if chosen == rejected:
        raise Drop("identical")
    return None, 0


def messages(list_, role="role", text="content"):
    return [(side(m[role]), m[text], 1) for m in list_]


def azure(r):
    return pair(messages(r["input"]["messages"]), r["preferred_output"][-1]["content"],
                r["non_preferred_output"][-1]["content"])


def transcript(r):
    end = len(os.path.commonprefix([r["chosen"], r["rejected"]]))
    end = r["chosen"][:end].rfind("\n\nAssistant:")
    if end < 0:
        raise Drop("no_common_prompt")
    end += len("\n\nAssistant:")
    chosen, rejected = r["chosen"][end:], r["rejected"][end:]
    for reply in (chosen, rejected):
        if "\n\nHuman:" in reply or "\n\nAssistant:" in reply:
            raise Drop("no_common_prompt")
    turns = []
    for piece in r["chosen"][:end].split("\n\nHuman:")[1:]:
        question, *replies = piece.split("\n\nAssistant:")
        turns.append(("u", question.strip(), 1))
        turns += [("a", text.strip(), 1) for text in replies]
    return pair(turns[:-1], chosen.strip(), rejected.strip())  # the last reply is to come


def label(r):
    rules(messages(r["messages"])[:-1], True)
    if not r["messages"][-1]["content"].strip():
        raise Drop("empty_reply")
    return None, 0


SFT = {
    "alpaca_en_demo.json": ("alpaca", answer("instruction", "output")),
    "alpaca_libre_v1.jsonl": ("alpaca", answer("instruction", "output")),
    "alpaca_zh_demo.json": ("alpaca", answer("instruction", "output")),
    "code_alpaca_4k.json": ("alpaca", answer("instruction", "output")),
    "dolly_hhrlhf_1k.jsonl": ("prompt_completion", completion),
    "dolly_native_12.json": ("dolly", answer("instruction", "response")),
    "gpteacher_roleplay.json": ("gpteacher", answer("instruction", "response")),
    "longform_17.json": ("longform", answer("input", "output")),
    "open_orca_native_284.jsonl": ("openorca", answer("question", "response")),
    "self_instruct_seed_tasks.jsonl": ("self_instruct", seeds),
}
CHAT = {
    "guanaco_oasst_953.jsonl": ("guanaco", guanaco),
    "oasst_en_100_messages.jsonl": ("oasst", best_path),
    "oasst_en_100_trees.jsonl": ("oasst", best_path),
    "openai_messages_500.jsonl": ("openai", chat("messages", "role", "content")),
    "openai_messages_gsm8k_449.jsonl": ("openai", chat("messages", "role", "content")),
    "sharegpt_toolcall_300.json": ("sharegpt", chat("conversations", "from", "value")),
    "sharegpt_zh_1k.jsonl": ("sharegpt", chat("conversations", "from", "value")),
    "vicuna_dummy_500.json": ("sharegpt", chat("conversations", "from", "value")),
}
PREFERENCE = {
    "azure_dpo_284.jsonl": ("azure_pairs", azure),
    "hh_rlhf_harmless_1156.jsonl": ("transcript_pairs", transcript),
    "kto_en_300.json": ("openai_label", label),
    "orca_dpo_pairs_native_284.jsonl": (
        "orca_pairs", lambda r: pair([("u", r["question"], 1)], r["chosen"], r["rejected"])),
    "sharegpt_dpo_300.json": (
        "sharegpt_pairs", lambda r: pair(messages(r["conversations"], "from", "value"),
                                         r["chosen"]["value"], r["rejected"]["value"])),
    "ultrafeedback_form_284.jsonl": (
        "message_pairs", lambda r: pair(messages(r["chosen"])[:-1], r["chosen"][-1]["content"],
                                        r["rejected"][-1]["content"])),
}
CORPUS = {"c4_demo.jsonl": ("text", plain), "tinyshakespeare.txt": ("text", plain),
          "wiki_demo.txt": ("text", plain)}

# What a template makes of a reply, as it is read back from the ids.
TEMPLATES = {"vicuna": lambda text: text + "</s>",
             "llama2": lambda text: text.strip() + " </s>",
             "llama3": lambda text: text.strip() + "<|eot_id|>"}


def account(path, name, convert, spans):
    counts = collections.Counter(leading=0, trailing=0, left_out=0, kept=0, documents=0)
    dropped = collections.Counter()
    records = read(path)
    hashes = {template: xxhash.xxh3_128() for template in TEMPLATES} if spans else {}
    for r in records:
        made = 0
        try:
            conversations, left_out = convert(r)
            for turns in conversations or [None]:
                notes = {}
                if turns is not None:
                    turns, notes = rules(turns)
                    if not any(t[0] == "a" and t[2] for t in turns):
                        raise Drop("not_trained")
                made += 1
                counts.update(notes)
                for template, h in hashes.items():
                    for name_, text, weight in turns:
                        if name_ == "a" and weight:
                            h.update(TEMPLATES[template](text).encode() + b"\0")
            counts["left_out"] += left_out
        except Drop as why:
            dropped[str(why)] += 1
        counts["kept"] += made > 0
        counts["documents"] += made
    assert len(records) == counts["kept"] + sum(dropped.values())
    out = {"path": str(path.parent.name + "/" + path.name), "format": name,
           "records": len(records), **counts, "dropped": dict(sorted(dropped.items()))}
    if spans:
        out["trained"] = {template: h.hexdigest() for template, h in hashes.items()}
    return out


def main():
    shared = Path(sys.argv[1] if len(sys.argv) > 1
                  else os.environ.get("CRIA_SHARED") or REPO.parent / "shared" / "data")
    golden = []
    for folder, files in (("sft", SFT), ("chat", CHAT), ("preference", PREFERENCE),
                          ("corpus", CORPUS)):
        present = {p.name for p in (shared / folder).iterdir() if "LICEN" not in p.name}
        assert present == set(files), present ^ set(files)
        for name, (form, convert) in files.items():
            golden.append(account(shared / folder / name, form, convert, folder == "chat"))
    target = REPO / "tests" / "golden" / "datasets.json"
    target.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()

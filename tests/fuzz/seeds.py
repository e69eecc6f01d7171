"""Writes small well-formed files for every fuzzer, so that it starts behind the first checks:
python3 tests/fuzz/seeds.py OUT makes OUT/NAME/* for each fuzz_NAME."""

import base64
import glob
import gzip
import json
import os
import struct
import sys

GOLDEN = "tests/golden/models"
BYTES = [bytes([b]) for b in range(256)]


def read(path):
    with open(path, "rb") as f:
        return f.read()


def seeds_json():
    yield b'{"a": [1, -2.5e3, true, null, "\\u00e9\\ud83d\\ude00"], "b": {}}'
    yield b'{"a": 123456789012345678901234567890}'
    yield b'"text"'


RECORDS = [
    {"instruction": "Add 1 and 2", "input": "", "output": "3"},
    {"instruction": "Say", "input": "hello", "output": "hello", "system": "Be brief."},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    {"system_prompt": "You are", "question": "What?", "response": "That."},
    {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
                  {"role": "assistant", "content": [{"type": "text", "text": "a"}], "weight": 0.5}]},
    {"messages": [{"role": "user", "content": "u"},
                  {"role": "assistant", "content": "a", "train": False}]},
    {"prompt": "p", "completion": "c"},
    {"text": "plain text"},
    {"instruction": "i", "context": "c", "response": "r"},
    {"instruction": "i", "input": "n", "response": "r"},
    {"instruction": "i", "output": "o", "history": [["q", "a"]]},
    {"input": "i", "output": "o"},
    {"instruction": "i", "instances": [{"input": "", "output": "o"}, {"input": "n", "output": "p"}]},
    {"text": "### Human: q ### Assistant: a"},
    {"input": "### Human: q ### Assistant:", "output": "a"},
    {"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]},
    {"prompt": {"text": "q", "role": "prompter", "replies": [
        {"text": "a", "role": "assistant", "rank": 1, "replies": []},
        {"text": "b", "role": "assistant", "rank": 0, "deleted": False, "replies": [
            {"text": "c", "role": "prompter", "replies": []}]}]}},
    {"messages": [{"message_id": "1", "parent_id": None, "text": "q", "role": "prompter"},
                  {"message_id": "2", "parent_id": "1", "text": "a", "role": "assistant"},
                  {"message_id": "3", "parent_id": "1", "text": "b", "role": "assistant"}]},
    {"tools": [{"name": "f"}], "messages": [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "content": "r"}, {"role": "assistant", "content": "a"}]},
    {"tools": "[1]", "conversations": [
        {"from": "human", "value": "q"}, {"from": "function_call", "value": "f"},
        {"from": "observation", "value": "r"}, {"from": "gpt", "value": "a", "weight": 0}]},
    {"system": "s", "question": "q", "chosen": "good", "rejected": "bad"},
    {"instruction": "i", "input": "n", "chosen": "good", "rejected": "bad"},
    {"conversations": [{"from": "human", "value": "q"}],
     "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "bad"}},
    {"prompt": "q", "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
     "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}]},
    {"input": {"messages": [{"role": "user", "content": "q"}]},
     "preferred_output": [{"role": "assistant", "content": "good"}],
     "non_preferred_output": [{"role": "assistant", "content": "bad"}]},
    {"chosen": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: good",
     "rejected": "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: bad"},
    {"prompt": "p", "chosen": "good", "rejected": "bad"},
    {"instruction": "i", "output": "o", "kto_tag": True},
    {"prompt": "p", "completion": "c", "label": False},
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": 1},
    {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "kto_tag": False},
]


def seeds_formats():
    for record in RECORDS:
        yield json.dumps(record).encode()


def seeds_csv():
    yield b'\x00a,"b ""c""",d\n1,"2\n3",\n4,5,6\r\n'
    yield b"\x01a\tb\n1\t2\n"
    yield b"\x02one\n\n two\nthree\n"
    yield b"\x03one\ntwo\n \nthree\n"
    yield b"\x04one\n\ntwo"


def seeds_packed():
    text = b'{"a": 1}\n{"a": "two"}\n'
    yield gzip.compress(text, mtime=0)
    yield gzip.compress(text, mtime=0) * 2
    yield gzip.compress(b"[" + b'{"a": 1},' * 500 + b"{}]", mtime=0)
    yield base64.b64decode("KLUv/QRYsQAAeyJhIjogMX0KeyJhIjogInR3byJ9ClmIRRg=")
    yield b"PAR1" + bytes(16)


def seeds_jsonl():
    yield "\n".join(json.dumps(r) for r in RECORDS).encode()
    yield json.dumps(RECORDS, indent=1).encode()
    yield (b'{"message_id": "1", "message_tree_id": "1", "role": "prompter", "text": "q"}\n'
           b'{"message_id": "2", "message_tree_id": "1", "parent_id": "1", "role": "assistant"}\n'
           b'{"message_id": "3"}\n{"message_id": "4", "parent_id": "3"}\n{}\n')
    yield b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}'
    yield b'{"text": "a"}\nnot json\n[1]\n' + b'{"text": "' + b"x" * 300 + b'"}\n'


PAGES = "tests/golden/clean/pages.jsonl"


def seeds_markdown():
    for line in read(PAGES).split(b"\n")[:24]:
        for turn in json.loads(line)["conversations"]:
            yield turn["value"].encode()[:2000]
    yield b"<![CDATA[ a ]]><![if x]>b<![endif]><!DOCTYPE html><!-- c --><?php d ?>&#12x <b>e"


def seeds_clean():
    yield from seeds_jsonl()
    for line in read(PAGES).split(b"\n")[:24]:
        if len(line) < 3000:
            yield line + b"\n" + line
    yield "\n".join(json.dumps({"id": "a", "plugins": None, "model": "m", "conversations": [
        {"from": "human", "value": f"one two three {w} five"}, {"from": "gpt", "value": "A reply, long enough. " * n}]})
        for n, w in ((1, "four"), (9, "six"), (9, "six"))).encode()


def tokenizer_json(model, **more):
    return json.dumps({"version": "1.0", "added_tokens": [
        {"id": 0, "content": "<unk>", "special": True, "normalized": False},
        {"id": 1, "content": "<s>", "special": True, "normalized": False},
        {"id": 2, "content": "</s>", "special": True, "normalized": False,
         "lstrip": True, "rstrip": True, "single_word": True}],
        "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None,
        "model": model, **more}).encode()


def seeds_tokenizer_json():
    vocab = {t: i for i, t in enumerate(["<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "<0x0A>"])}
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
             "vocab": vocab, "merges": ["a b"]}
    legacy = {"normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                              {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}
    post = {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    yield tokenizer_json(model, normalizer={"type": "Sequence", **legacy}, post_processor=post,
                         decoder={"type": "Sequence", "decoders": [
                             {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                             {"type": "ByteFallback"}, {"type": "Fuse"},
                             {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})
    yield tokenizer_json({**model, "merges": [["a", "b"]]},
                         pre_tokenizer={"type": "Metaspace", "replacement": "\u2581",
                                        "prepend_scheme": "first", "split": False},
                         decoder={"type": "Metaspace", "replacement": "\u2581"})
    split = {"type": "Split", "pattern": {"Regex": "\\p{L}+| ?\\p{N}{1,3}|\\s+"},
             "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": False}
    yield tokenizer_json({"type": "BPE", "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3,
                                                   "\u0120": 4, "\u0120a": 5}, "merges": ["\u0120 a"],
                          "ignore_merges": True}, normalizer={"type": "NFC"},
                         pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]},
                         decoder=level) + b'\0{"bos_token": "<s>", "add_bos_token": true, ' \
        b'"eos_token": {"content": "</s>"}, "chat_template": "x"}'
    whole = json.loads(read(f"{GOLDEN}/llama_gqa_tied/tokenizer.json"))
    yield json.dumps(whole, separators=(",", ":")).encode()


def varint(n):
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def seeds_sentencepiece():
    def piece(text, score, kind=1):
        return field(1, field(1, text) + field(2, float(score)) + (field(3, kind) if kind != 1 else b""))
    pieces = piece(b"<unk>", 0, 2) + piece(b"<s>", 0, 3) + piece(b"</s>", 0, 3)
    more = b"".join(piece(t, -i) for i, t in enumerate(
        ["\u2581".encode(), b"a", b"b", b"ab", "\u2581a".encode(), b"\xe4\xb8\xad"]))
    trainer = field(2, field(3, 2))  # BPE
    yield pieces + more + trainer
    raw = b"".join(piece(b"<0x%02X>" % b, 0, 6) for b in range(256))
    trainer = field(2, field(3, 2) + field(35, 1) + field(40, 0) + field(41, 1) + field(42, 2))
    normalizer = field(3, field(1, b"identity") + field(3, 1) + field(4, 0) + field(5, 1))
    yield pieces + raw + piece(b"[user]", 0, 4) + more + trainer + normalizer


def seeds_tiktoken():
    tokens = BYTES + [b"ab", b" a", b"the", b" the"]
    yield b"".join(base64.b64encode(t) + b" %d\n" % i for i, t in enumerate(tokens))
    yield b"".join(base64.b64encode(t) + b" %d\n" % i for i, t in enumerate(BYTES))


def seeds_text():
    for head in (b"\0\0", b"\xff\x80"):
        yield head + b"Hello  world <s>12345</s> it's"
        yield head + "\u4e2d\u6587 \u0301e \U0001f600".encode() + b"\xff\xe4\xb8"


def seeds_splitters():
    for text in (b"it's  I'LL\r\n\n 1234 \xc5\xbf'\xc5\xbf", b" \t x\xe3\x80\x80\xe4\xb8\xad 12.5!\n",
                 b"\xc2\xa0a\xe2\x80\xa8\xcc\x81 \xf0\x9f\x98\x80_"):
        for first in range(3):
            yield bytes([first + 30]) + text


def seeds_merges():
    yield bytes([6, 0, 1, 3, 6, 2, 1, 1, 0, 2, 4, 5, 0, 9, 3, 4, 8, 2]) + b"abcdefgh" * 12
    yield bytes([3, 0, 0, 0, 6, 6, 0, 7, 7, 0]) + bytes(200)


def safetensors(tensors, **extra):
    header, at = dict(extra), 0
    for name, (kind, shape, size) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(range(at % 256)) + bytes(at - at % 256)


def seeds_safetensors():
    yield safetensors({"a": ("F32", [2, 3], 24), "b": ("BF16", [4], 8), "c": ("F16", [], 2)},
                      __metadata__={"format": "pt"})
    yield safetensors({"x": ("I64", [1], 8), "e": ("F32", [0, 5], 0), "u": ("U8", [3], 3)})
    yield safetensors({})


def seeds_safetensors_index():
    index = json.loads(read(f"{GOLDEN}/llama_f16_sharded/model.safetensors.index.json"))
    files = {f: n for f, n in zip(sorted(set(index["weight_map"].values())), "abc")}
    index["weight_map"] = {t: files[f] + ".safetensors" for t, f in index["weight_map"].items()
                           if files[f] != "c"}
    yield json.dumps(index).encode()
    yield b'{"weight_map": {"t": "../a.safetensors"}}'


def seeds_hf_config():
    for path in sorted(glob.glob(f"{GOLDEN}/*/config.json") + glob.glob("configs/models/*.json")):
        yield json.dumps(json.loads(read(path))).encode()


def seeds_peft():
    for path in sorted(glob.glob(f"{GOLDEN}/*/*/adapter_config.json")):
        yield json.dumps(json.loads(read(path))).encode()
    config = json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
                         "base_model_name_or_path": "x"}).encode()
    yield config + b"\0" + safetensors({
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": ("F32", [2, 3], 24),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": ("F32", [3, 2], 24)})


def seeds_yaml_config():
    for path in sorted(glob.glob("configs/*.yaml")):
        yield read(path)
    yield (b"model_name_or_path: base\noutput_dir: out\ndatasets:\n  - path: a.json\n"
           b"    format: alpaca\n  - b.jsonl\ntemplate: alpaca\nfinetuning: lora\nlora_r: 16\n"
           b"lora_target_modules: [q_proj, v_proj]\nval_size: 0.1\neval_steps: epoch\n"
           b"\0max_steps=5\0datasets=[{path: c.json}]\0learning_rate=2e-4")
    yield b"base_model: x\nmicro_batch_size: 4\nbf16: auto\nflash_attention: true\nwarmup_ratio: 0.1"


def seeds_template():
    yield (b"system: {prefix: \"{<|im_start|>}system\\n\", suffix: \"{<|im_end|>}\\n\"}\n"
           b"user: {prefix: \"{<|im_start|>}user\\n\", suffix: \"{<|im_end|>}\\n\"}\n"
           b"assistant: {prefix: \"{<|im_start|>}assistant\\n\", suffix: \"{<|im_end|>}\\n\"}")
    yield (b"name: a\nstart: '{bos}'\nsystem: '<<{content}>>'\nsystem_in_user: true\nstrip: yes\n"
           b"default_system: Be\n  good.\nuser: 'U:{{{content}}'\nuser_input: '{content} {input}'\n"
           b"tool: 'T:{content}'\nbetween: '/'\nprompt: '>'\nreply: '{content}{eos}'\n"
           b"last_reply: '!{content}{<|stop|>}'\ntail: ';'\nend: ['{<|stop|>}', '{eos}']\n")
    yield (b'{"system": "{content}", "default_system": "\\u00e9", "default_system_input": "x", '
           b'"user": "{content}", "reply": " {content}{eos}", "skip_empty_system": true, "tail": null}')


def hdf5_change(what, where, value, how):
    return bytes([what, where]) + value.to_bytes(6, "big") + bytes([how])


def seeds_hdf5_store():
    for kind in range(8):
        yield b"".join(hdf5_change(kind + 8 * column, 1, 5, 0) for column in range(2))
    yield hdf5_change(6, 3, 70, 0) + hdf5_change(6 + 16, 2, 1, 4)
    for kind in range(1, 3):
        for column in range(13):
            yield hdf5_change(6 + 8 * column, 7, 2, 0) + b"x" * kind


def seeds_reference():
    for kind in range(9):
        yield b"x" * kind
        for column in range(7):
            yield hdf5_change(6 + 8 * column, kind, 1, kind) + b"x" * kind
            yield hdf5_change(kind % 6 + 8 * column, kind, 7, 0)


def seeds_state():
    yield b'{"template": "alpaca", "end_tokens": [2], "tokenizer_hash": "ab", "cria_version": "0"}'
    yield b'{"format": 1, "fingerprint": {"seed": "42"}}'
    yield (b'{"epoch": 1.5, "global_step": 3, "max_steps": 9, "log_history": [{"loss": 1.5, '
           b'"step": 3}], "best_metric": null, "best_model_checkpoint": "out/checkpoint-3"}')
    yield b'{"step": 1, "loss": 2.5}\n{"step": 6, "loss": 1.5}\n'


def main(out):
    for name, make in sorted(globals().items()):
        if not name.startswith("seeds_"):
            continue
        folder = os.path.join(out, name.removeprefix("seeds_"))
        os.makedirs(folder, exist_ok=True)
        for i, content in enumerate(make()):
            with open(os.path.join(folder, f"seed-{i}"), "wb") as f:
                f.write(content)


if __name__ == "__main__":
    main(sys.argv[1])

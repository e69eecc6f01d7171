"""Hashes of the token ids of every text in ../shared/data, per file and tokenizer.

Writes tests/golden/tokenizers/hashes.json:
  {"texts": {file: number of texts},
   "tokenizers": {name: {"source": path below data/, "files": {file: [hash, number of ids]}}}}
The hash is XXH3-128 in hex over, for each text in order: its ids as little-endian int32, then
int32 -1. What the texts of a file are is chosen so that a C test needs no second parser:
  .json, .jsonl   every string value (not the keys), depth first, in the order of the document
  .txt, .csv      the raw bytes between newlines; an empty piece at the end is no line; CR stays
Empty texts count. Texts with U+0000 or a lone surrogate would be left out (there are none).
.bz2 and .md files and the folders tokenizers/ and weights/ are not read.
No special tokens are added. Added tokens in the text are recognised where tokenizer.json does
so; sentencepiece takes control pieces in the text as plain text.

    python tokenizer_hashes.py [--shared DIR]
    python tokenizer_hashes.py --ids NAME FILE      the ids of each text, one text a line
"""

import argparse
import json
import os
import struct

import xxhash

import common

os.environ["TOKENIZERS_PARALLELISM"] = "false"

BATCH = 256
LEFT_OUT = {"tokenizers", "weights"}


def json_encoder(path):
    """A tokenizer.json, by the tokenizers library."""
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(path))

    def encode(texts):
        return [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    return encode


def sentencepiece_encoder(path):
    """A .model file, by sentencepiece."""
    from sentencepiece import SentencePieceProcessor
    processor = SentencePieceProcessor(model_file=str(path))
    return lambda texts: processor.encode(texts, num_threads=1)


def tiktoken_encoder(path):
    """A file of tiktoken ranks; split pattern and special tokens come from the JSON beside it."""
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe
    spec = json.loads((path.parent / "tokenizer.json").read_text())
    encoding = tiktoken.Encoding(
        "llama3", pat_str=spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"],
        mergeable_ranks=load_tiktoken_bpe(str(path)),
        special_tokens={t["content"]: t["id"] for t in spec["added_tokens"]})
    return lambda texts: [encoding.encode(t, allowed_special="all") for t in texts]


TOKENIZERS = {
    "llama2": (json_encoder, "tokenizers/llama2/tokenizer.json"),
    "llama2_model": (sentencepiece_encoder, "tokenizers/llama2/tokenizer.model"),
    "llama3": (json_encoder, "tokenizers/llama3/tokenizer.json"),
    "llama3_ranks": (tiktoken_encoder, "tokenizers/llama3/tokenizer.model"),
    "neox": (json_encoder, "tokenizers/neox/tokenizer.json"),
    "mistral_model": (sentencepiece_encoder, "tokenizers/mistral/tokenizer.model"),
    "stories260k_model": (sentencepiece_encoder, "weights/stories260K/tokenizer.model"),
}


def refuse_duplicates(pairs):
    """object_pairs_hook: keys in order of the document, each once."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError(f"a key occurs twice among {[k for k, _ in pairs]}")
    return value


def strings(value):
    """Every string value below a JSON value, depth first, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)


def lines(data):
    """The pieces between newlines; an empty last one is no line."""
    pieces = data.decode("utf-8").split("\n")
    return pieces[:-1] if pieces[-1] == "" else pieces


def all_texts(path):
    """The texts of one file in order, those with U+0000 or lone surrogates included."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return list(strings(json.loads(data, object_pairs_hook=refuse_duplicates)))
    if path.suffix == ".jsonl":
        return [text for line in lines(data) if line.strip()
                for text in strings(json.loads(line, object_pairs_hook=refuse_duplicates))]
    return lines(data)


def usable(text):
    """False for what a C string or UTF-8 cannot hold."""
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def read_texts(path):
    """The texts of one file that are hashed."""
    texts = all_texts(path)
    kept = [text for text in texts if usable(text)]
    if len(kept) < len(texts):
        print(f"{path.name}: {len(texts) - len(kept)} texts left out")
    return kept


def data_files(data):
    """The files that are read, sorted by their path below data/."""
    wanted = (p for p in data.rglob("*") if p.suffix in {".json", ".jsonl", ".txt", ".csv"})
    names = sorted(p.relative_to(data).as_posix() for p in wanted)
    return [name for name in names if name.split("/")[0] not in LEFT_OUT]


def encode_all(encode, texts):
    """Ids of each text, in batches."""
    for start in range(0, len(texts), BATCH):
        yield from encode(texts[start:start + BATCH])


def hash_ids(encode, texts):
    """[hash, number of ids] over all texts."""
    state, count = xxhash.xxh3_128(), 0
    for ids in encode_all(encode, texts):
        state.update(struct.pack(f"<{len(ids) + 1}i", *ids, -1))
        count += len(ids)
    return [state.hexdigest(), count]


def write_hashes(data):
    """All tokenizers over all files."""
    texts = {name: read_texts(data / name) for name in data_files(data)}
    result = {"texts": {name: len(t) for name, t in texts.items()}, "tokenizers": {}}
    for name, (make, source) in TOKENIZERS.items():
        encode = make(data / source)
        files = {file: hash_ids(encode, t) for file, t in texts.items()}
        result["tokenizers"][name] = {"source": source, "files": files}
        print(f"{name}: {sum(n for _, n in files.values())} ids", flush=True)
    folder = common.GOLDEN / "tokenizers"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hashes.json").write_text(compact(result))
    return result


def compact(result):
    """JSON with one file a line."""
    text = json.dumps(result, indent=1)
    return text.replace("[\n     ", "[").replace(",\n     ", ", ").replace("\n    ]", "]") + "\n"


def report_pairs(result):
    """Where two forms of the same tokenizer disagree."""
    for a, b in (("llama2", "llama2_model"), ("llama3", "llama3_ranks")):
        x, y = (result["tokenizers"][n]["files"] for n in (a, b))
        print(f"{a} and {b} differ on: {[f for f in x if x[f] != y[f]]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", help="default: CRIA_SHARED or ../shared/data")
    parser.add_argument("--ids", nargs=2, metavar=("NAME", "FILE"),
                        help="print the ids of a file's texts instead")
    args = parser.parse_args()
    data = common.shared_data(args.shared)
    if args.ids:
        make, source = TOKENIZERS[args.ids[0]]
        for ids in encode_all(make(data / source), read_texts(data / args.ids[1])):
            print(*ids)
    else:
        report_pairs(write_hashes(data))


if __name__ == "__main__":
    main()

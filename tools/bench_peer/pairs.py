"""Texts and pairs of a known number of tokens for tools/bench, and what a step over pairs has to
compute.

Every word is one of Llama-2's pieces with a space in front, so that n words are n tokens wherever
they stand. The template adds a fixed number of tokens.
"""

import json
import random
from pathlib import Path

TEMPLATE = "vicuna"
PROMPT_MORE, REPLY_MORE = 39, 1  # what it puts around a question; the end token
TEXT_MORE = 2  # <s> and </s>
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def word_list(tokenizer):
    """Plain words that are one token each."""
    pieces = json.loads((Path(tokenizer) / "tokenizer.json").read_text())["model"]["vocab"]
    return sorted(piece[1:] for piece in pieces if piece[0] == SPACE and len(piece) > 4
                  and piece[1:].isascii() and piece[1:].isalpha() and piece[1:].islower())


def writer(words, rng):
    """text(n): n words."""
    return lambda n: " ".join(rng.choice(words) for _ in range(n))


def write_texts(path, tokenizer, count, length, seed=1):
    """`count` records of one text, each so many tokens with those that begin and end it."""
    text = writer(word_list(tokenizer), random.Random(seed))
    path.write_text("".join(json.dumps({"text": text(length - TEXT_MORE)}) + "\n" for _ in range(count)))


def write_pairs(path, tokenizer, count, prompt, reply, seed=1):
    """`count` records of so many tokens by TEMPLATE; replies differ from their first word on."""
    words, rng = word_list(tokenizer), random.Random(seed)
    text = writer(words, rng)
    rows = []
    for _ in range(count):
        first, second = rng.sample(words, 2)
        rows.append({"system": "", "question": text(prompt - PROMPT_MORE),
                     "chosen": f"{first} {text(reply - 1 - REPLY_MORE)}",
                     "rejected": f"{second} {text(reply - 1 - REPLY_MORE)}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# --- the arithmetic of a pair ---


def seen(first, rows):
    """(query, key) pairs of causal attention for `rows` rows that have `first` keys before them."""
    return rows * first + rows * (rows + 1) // 2


def flops(model, prompt, reply, sharing, reference):
    """Operations of one pair's share of a LoRA step: forward, backward to what is trained, and a
    forward of the reference if it runs. `model` is a config.json. Products of frozen weights have
    no weight gradient; LoRA's, normalisations and the optimiser's are left out, a few per cent.

    Nothing is predicted from a document's last token, so that is no row; a reply that shares its
    prompt has the prompt's last token as its first row.
    """
    C, F, L, V = (model[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers",
                                         "vocab_size"))
    KV = C * model["num_key_value_heads"] // model["num_attention_heads"]
    if sharing:
        rows = prompt - 1 + 2 * reply
        scores = seen(0, prompt - 1) + 2 * seen(prompt - 1, reply)
    else:
        rows = 2 * (prompt + reply - 1)
        scores = 2 * seen(0, prompt + reply - 1)
    body = 2 * rows * L * (2 * C * C + 2 * C * KV + 3 * C * F)
    attention = 2 * 2 * scores * L * C  # backward: 5 products instead of 2
    head = 2 * 2 * reply * C * V
    forward = body + attention + head
    return forward * (2 if reference else 1) + body + 2.5 * attention + head

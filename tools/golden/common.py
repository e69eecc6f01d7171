"""What every golden generator shares: threads, seeds, documents, losses, files."""

import json
import os
import random
from pathlib import Path

import numpy
import torch
import transformers
from safetensors.torch import save_file

REPO = Path(__file__).resolve().parents[2]
GOLDEN = REPO / "tests" / "golden"
MODELS = GOLDEN / "models"

DOC_LENGTHS = (17, 9, 30)


def quiet_and_deterministic():
    """One thread, fixed algorithms, no network."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def shared_data(argument=None):
    """The folder of real data: the argument, or CRIA_SHARED, or ../shared/data beside the checkout."""
    return Path(argument or os.environ.get("CRIA_SHARED") or REPO.parent / "shared/data").resolve()


def write_json(path, value):
    """Writes JSON with a stable layout."""
    Path(path).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def save_golden(path, tensors):
    """Writes contiguous copies of the tensors, names sorted by the format's own rule."""
    tensors = {name: t.detach().clone().contiguous() for name, t in tensors.items()}
    save_file(tensors, str(path), metadata={"format": "pt"})
    Path(path).chmod(0o644)


def make_readable(folder):
    """Plain permissions, which safetensors' writer does not give."""
    for file in Path(folder).iterdir():
        if file.is_file():
            file.chmod(0o644)


def make_documents(vocab_size, seed):
    """Three documents laid end to end, and which of their tokens are supervised targets.

    Returns input_ids int32 [N], doc_lengths int32 [3], weights float32 [N]. weights[i] = 1
    says that token i is to be predicted (by row i-1); a document's first token never is.
    """
    rng = random.Random(seed)
    ids, weights = [], []
    for length in DOC_LENGTHS:
        ids += [1] + [rng.randrange(3, vocab_size) for _ in range(length - 1)]
        supervised = [0] + [int(rng.random() < 0.6) for _ in range(length - 1)]
        supervised[-1] = 1
        weights += supervised
    return (torch.tensor(ids, dtype=torch.int32),
            torch.tensor(DOC_LENGTHS, dtype=torch.int32),
            torch.tensor(weights, dtype=torch.float32))


def document_logits(model, input_ids, doc_lengths):
    """Logits [N, V] in fp32, every document run alone from position 0, without padding."""
    rows = []
    for doc in input_ids.long().split(doc_lengths.tolist()):
        rows.append(model(input_ids=doc[None], use_cache=False).logits[0].float())
    return torch.cat(rows)


def supervised_nll(logits, input_ids, doc_lengths, weights):
    """Sum of weights * -log p(token) over all documents, and the sum of the weights."""
    total = logits.new_zeros(())
    lengths = doc_lengths.tolist()
    parts = zip(logits.split(lengths), input_ids.long().split(lengths), weights.split(lengths))
    for rows, ids, w in parts:
        logps = torch.log_softmax(rows[:-1], dim=-1)
        total = total - (logps.gather(1, ids[1:, None])[:, 0] * w[1:]).sum()
    return total, weights.sum()


def forward_backward(model, documents):
    """Fills the gradients of the token-mean loss; returns {logits, loss}."""
    model.zero_grad(set_to_none=True)
    input_ids, doc_lengths, weights = documents
    logits = document_logits(model, input_ids, doc_lengths)
    total, count = supervised_nll(logits, input_ids, doc_lengths, weights)
    loss = total / count
    loss.backward()
    return {"logits": logits.detach(), "loss": loss.detach().reshape(1)}


def golden_tensors(documents, outputs, gradients):
    """The content of one golden.safetensors."""
    tensors = {"input_ids": documents[0], "doc_lengths": documents[1], "weights": documents[2]}
    tensors.update(outputs)
    tensors.update({"grad." + name: g.float() for name, g in gradients.items()})
    return tensors


def relative_error(value, reference):
    """||value - reference|| / ||reference|| over all elements, in fp64."""
    value = numpy.asarray(value, dtype=numpy.float64)
    reference = numpy.asarray(reference, dtype=numpy.float64)
    return float(numpy.linalg.norm(value - reference) / numpy.linalg.norm(reference))

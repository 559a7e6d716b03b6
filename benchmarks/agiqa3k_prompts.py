"""Do AGIQA-3K's training prompts teach which words a picture shows? From CLIP's patches to prompts, by ridge regression.

    python benchmarks/agiqa3k_prompts.py ROOT [--out runs/agiqa3k-clip] [--language HuggingFaceTB/SmolLM2-135M-Instruct]
        [--penalty 10000]

Run it after benchmarks/agiqa3k_pretrained.py, whose OUT/tower.npy it reads. Training pictures only, in five parts that share no
prompt. One ridge regression learns a prompt's embedding (the language model's last states, averaged over its tokens) from the
picture. How similar a picture is to a prompt: the cosine of what that regression says and the prompt's embedding, both less the
mean prompt. Printed:

    rank        of the held-out prompts, the share that is more similar to a picture than its own prompt; chance: .5
    first       how often its own is the most similar; chance: 1 / prompts of a part
    SRCC        with alignment, of: ridge regression on the picture; similarity alone; both by least squares. The two weights come
                from parts inside the training side, so that no held-out score is seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from agiqa3k_pretrained import FOLDS, PEERS, fold_of, ridge
from transformers import AutoModel, AutoTokenizer

from zreward.data import Record, import_agiqa3k, load_records
from zreward.evaluation.metrics import srcc

PENALTY = 10_000


@torch.no_grad()
def embeddings_of(name: str, prompts: list[str]) -> np.ndarray:
    """[P, C]: the mean of the language model's last states over a prompt's tokens; `name` may be a model with a language part."""
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    model = AutoModel.from_pretrained(name, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
    language = getattr(model, "language_model", model).eval()
    states = (language(**tokenizer(prompt, return_tensors="pt")).last_hidden_state[0] for prompt in prompts)
    return np.stack([state.mean(0).double().numpy() for state in states])


def similarities(
    train_x: np.ndarray, train_prompt: np.ndarray, x: np.ndarray, embedding_PC: np.ndarray, penalty: float
) -> np.ndarray:
    """[N, P] of held-out pictures x [N, F] to every prompt."""
    centred_PC = embedding_PC - embedding_PC[np.unique(train_prompt)].mean(0)
    said_NC = ridge(train_x, centred_PC[train_prompt], x, penalty)
    return _unit(said_NC) @ _unit(centred_PC).T


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def both(
    train_x: np.ndarray,
    train_prompt: np.ndarray,
    train_y: np.ndarray,
    x: np.ndarray,
    prompt: np.ndarray,
    embedding: np.ndarray,
    penalty: float,
) -> np.ndarray:
    """[N, 2]: of held-out pictures ridge's score of alignment, and the similarity to their own prompt."""
    score = ridge(train_x, train_y[:, None], x, penalty)[:, 0]
    similarity = similarities(train_x, train_prompt, x, embedding, penalty)
    return np.stack([score, similarity[np.arange(len(x)), prompt]], 1)


def evaluate(
    x: np.ndarray, prompt: np.ndarray, y: np.ndarray, embedding: np.ndarray, penalty: float = PENALTY
) -> dict[str, float]:
    """The figures of the file's beginning, over all pictures, each held out once.

    Args:
        x: statistics of the pictures [N, F].
        prompt: the number of each picture's prompt, 0 to P - 1 [N].
        y: alignment scores [N].
        embedding: of the prompts [P, C].
        penalty: of both regressions.
    """
    fold, out, mixed = fold_of(prompt.tolist()), np.empty((len(x), 2)), np.empty(len(x))
    ranks, firsts = np.empty(len(x)), np.empty(len(x))
    for k in range(FOLDS):
        held, seen = fold == k, fold != k
        out[held] = both(x[seen], prompt[seen], y[seen], x[held], prompt[held], embedding, penalty)
        among = similarities(x[seen], prompt[seen], x[held], embedding, penalty)[:, np.unique(prompt[held])]
        nearer = among > out[held, 1:]
        ranks[held], firsts[held] = nearer.mean(1), ~nearer.any(1)
        inner, inside = fold_of(prompt[seen].tolist()), np.empty((seen.sum(), 2))
        for j in range(FOLDS):
            a, b = inner != j, inner == j
            inside[b] = both(x[seen][a], prompt[seen][a], y[seen][a], x[seen][b], prompt[seen][b], embedding, penalty)
        weights, *_ = np.linalg.lstsq(_with_one(inside), y[seen], rcond=None)
        mixed[held] = _with_one(out[held]) @ weights
    found = {"rank": float(ranks.mean()), "first": float(firsts.mean())}
    return found | {"ridge": srcc(out[:, 0], y), "similarity": srcc(out[:, 1], y), "both": srcc(mixed, y)}


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="AGIQA-3K: data.csv and images/")
    parser.add_argument("--out", type=Path, default=Path("runs/agiqa3k-clip"))
    parser.add_argument("--language", default="HuggingFaceTB/SmolLM2-135M-Instruct", help="a hub name, or a folder")
    parser.add_argument("--penalty", type=float, default=PENALTY, help="of both regressions")
    arguments = parser.parse_args()
    file = arguments.out / PEERS["ridge on CLIP"]
    if not file.exists():
        parser.error(f"{file} is not there; run benchmarks/agiqa3k_pretrained.py with the same ROOT and --out first")
    records: list[Record] = load_records(import_agiqa3k(arguments.root, arguments.out), check_images=None)
    seen = [number for number, record in enumerate(records) if record.split == "train"]
    x = np.load(file)
    if len(x) != len(records):
        parser.error(
            f"{file} holds {len(x):,} pictures, {arguments.root} has {len(records):,}; give both the same ROOT"
        )
    x = x[seen].astype(np.float64)
    prompts = sorted({records[number].prompt for number in seen})
    prompt = np.array([prompts.index(records[number].prompt) for number in seen])
    y = np.array([float(np.mean(records[number].ratings("alignment"))) for number in seen])
    found = evaluate(x, prompt, y, embeddings_of(arguments.language, prompts), arguments.penalty)
    print(f"{len(seen)} training pictures of {len(prompts)} prompts, {FOLDS} parts")
    print(f"own prompt: rank {found['rank']:.3f}, first {found['first']:.3f} (chance {FOLDS / len(prompts):.3f})")
    print(
        f"alignment, SRCC: ridge {found['ridge']:.3f}, similarity {found['similarity']:.3f}, both {found['both']:.3f}"
    )


if __name__ == "__main__":
    main()

"""Random draws that belong to a row: they depend on its seed alone, not on the batch around it or the number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """A seed that any change of a part changes: 63 bits of their SHA-256."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def uniforms(seeds: Sequence[int], count: int) -> Tensor:
    """(N, count) in [0, 1), float64, a row's from its own generator: the first ones are the same whatever `count` is."""
    drawn = torch.empty(len(seeds), count, dtype=torch.float64)
    for row, seed in zip(drawn, seeds, strict=True):
        row.uniform_(generator=torch.Generator().manual_seed(seed))
    return drawn


def draw(probs_NC: Tensor, uniform_N: Tensor) -> Tensor:
    """One of C classes per row, (N,): the first whose cumulative probability exceeds the row's uniform draw.

    In float64: the probabilities of 250,000 tokens add up to one with an error that no draw notices. Classes of probability
    zero are never drawn.
    """
    cumulative = probs_NC.double().cumsum(-1)
    below = uniform_N.to(cumulative)[:, None] * cumulative[:, -1:]
    found = torch.searchsorted(cumulative, below, right=True)[:, 0]
    # A draw just below 1 may round up to the whole sum.
    last = probs_NC.shape[-1] - 1 - (probs_NC > 0).flip(-1).int().argmax(-1)
    return torch.minimum(found, last)

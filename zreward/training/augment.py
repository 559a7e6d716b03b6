"""Changes to a training item that leave its scores as they are. Every draw comes from torch's global random state.

So a checkpoint, which holds that state, resumes with the same draws.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zreward.models.rows import Row

REACH = 1 / 12
"""The largest shift, as a share of the side."""


def flip_and_shift(pixels: Tensor) -> Tensor:
    """(3, H, W) -> (3, H, W): mirrored half of the time, and cropped at random from its reflected surroundings.

    Nothing is resampled: a blurred copy would not deserve the sharp one's score. Mirroring swaps left and right; leave
    augmentation off where prompts speak of sides or of lettering.
    """
    height, width = pixels.shape[-2:]
    up, left = int(height * REACH), int(width * REACH)
    flip, row, column = torch.rand(3).tolist()
    if flip < 0.5:
        pixels = pixels.flip(-1)
    padded = F.pad(pixels, (left, left, up, up), mode="reflect")
    top, start = int(row * (2 * up + 1)), int(column * (2 * left + 1))
    return padded[:, top : top + height, start : start + width]


def one_of(views: Tensor) -> Tensor:
    """(V, ...) -> one of the V views, each as often."""
    return views[int(torch.rand(()) * len(views))]


MISMATCHED = (0.6, 0.3, 0.1)
"""Probabilities of the lowest bins for a picture that was made from another prompt."""


def mismatch(rows: list[Row], target_NS: Tensor, dimension: str, share: float) -> tuple[list[Row], Tensor]:
    """About `share` of the dimension's rows get another prompt of the batch, and `MISMATCHED` as their target.

    Rated data shows few pictures of another prompt, so a model may score alignment by the picture alone. Ours, not the paper's.
    Rows that have no other prompt beside them stay as they are.

    Args:
        rows: N rows of a batch.
        target_NS: (N, S), of three bins at least.
        dimension: the one that asks whether a picture shows its prompt.
        share: 0 to below 1.

    Returns:
        Changed rows and targets; what came is not changed.
    """
    bad, target_NS = torch.zeros_like(target_NS[0]), target_NS.clone()
    bad[: len(MISMATCHED)] = torch.tensor(MISMATCHED)
    changed = list(rows)
    for number, row in enumerate(rows):
        others = sorted({other.prompt for other in rows} - {row.prompt})
        if row.dimension == dimension and others and torch.rand(()) < share:
            changed[number] = replace(row, prompt=others[int(torch.rand(()) * len(others))])
            target_NS[number] = bad
    return changed, target_NS


def drop_words(prompt: str, share: float) -> str:
    """The prompt without about `share` of its words; one word at least stays."""
    words = prompt.split()
    draws = torch.rand(len(words)).tolist()
    kept = [word for word, draw in zip(words, draws, strict=True) if draw >= share]
    return " ".join(kept or words[:1])

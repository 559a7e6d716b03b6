"""Changes to a training item that leave its scores as they are. Every draw comes from torch's global random state.

So a checkpoint, which holds that state, resumes with the same draws.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

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


def drop_words(prompt: str, share: float) -> str:
    """The prompt without about `share` of its words; one word at least stays."""
    words = prompt.split()
    draws = torch.rand(len(words)).tolist()
    kept = [word for word, draw in zip(words, draws, strict=True) if draw >= share]
    return " ".join(kept or words[:1])

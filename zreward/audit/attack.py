"""A bounded search in pixel space: how much score is gained without a change that anybody sees.

Projected gradient ascent on mu of one dimension within the largest-norm ball of `EPSILON`, from the picture itself. Search in a
generator's latent space is left out: it needs a generator of the pictures' kind (`zreward optimize` is that search).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

EPSILON = 4 / 255
STEPS = 5
STEP = 1.5 / 255

Scorer = Callable[[Tensor], Tensor]
"""Pixels (N, 3, H, W) in [0, 1] -> mu [N], differentiable."""


def gradients(score: Scorer, pixels: Tensor) -> Tensor:
    """d mu / d pixels, (N, 3, H, W): of every picture's own score."""
    with torch.enable_grad():
        moved = pixels.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(score(moved).sum(), moved)
    return gradient


def climb(score: Scorer, pixels: Tensor, epsilon: float = EPSILON, steps: int = STEPS, step: float = STEP) -> Tensor:
    """Pictures near `pixels` with a higher score, rounded to the 8 bits that a file holds.

    Args:
        score: what rises.
        pixels: (N, 3, H, W) in [0, 1], of 8 bits.
        epsilon: the most that a channel of a pixel changes, in [0, 1].
        steps: gradients taken.
        step: how far a pixel moves in one of them.

    Returns:
        (N, 3, H, W) in [0, 1]; no channel is further than `epsilon` (rounded down to whole levels) from where it was.
    """
    low, high = (pixels - epsilon).clamp(0, 1), (pixels + epsilon).clamp(0, 1)
    found = pixels.detach()
    for _ in range(steps):
        found = torch.minimum(torch.maximum(found + step * gradients(score, found).sign(), low), high)
    levels = torch.minimum(torch.maximum((found * 255).round(), (low * 255 - 1e-3).ceil()), (high * 255 + 1e-3).floor())
    return levels / 255

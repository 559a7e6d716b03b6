"""Best of N: how likely each candidate of a prompt is the best one, from the distributions and not from their means alone.

    overall score of a picture = mean over dimensions, drawn independently
    P(i is best) = sum_s p_i(s) * integral_0^1 prod_{j != i} (P_j(< s) + z p_j(s)) dz

The integral shares a tie equally: k others that draw the same score leave 1 / (k + 1). Ours, not the paper's. Shapes: N
candidates, D dimensions, S bins, V values of the overall score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.distribution import ScoreDistribution


@dataclass(frozen=True)
class Candidate:
    """One picture of a prompt and its place."""

    image: str
    prompt: str
    rank: int  # 1 is the most likely best
    best: float  # probability of being the best of its prompt
    overall: float  # expected overall score
    std: float  # of the overall score
    dimensions: dict[str, float]  # expected scores

    def to_dict(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return dict(vars(self))


def overall_distribution(scores: ScoreDistribution) -> tuple[Tensor, Tensor]:
    """Values (V,) and probabilities (N, V) of the mean over dimensions; V = D (S - 1) + 1. The bins are equally spaced."""
    probs = scores.probs.double()
    total = probs[:, 0]
    for d in range(1, probs.shape[1]):
        padded = torch.nn.functional.pad(total, (0, probs.shape[2] - 1))
        total = sum(
            (padded.roll(s, -1) * probs[:, d, s : s + 1] for s in range(probs.shape[2])), torch.zeros_like(padded)
        )
    return torch.linspace(float(scores.bins[0]), float(scores.bins[-1]), total.shape[1], dtype=torch.float64), total


def probability_of_best(probs_NV: Tensor) -> Tensor:
    """(N,), summing to one: who has the highest of N independent draws; ties are shared."""
    probs = probs_NV.double()
    if probs.ndim != 2 or not len(probs):
        raise InputError(f"best of N: probabilities of shape {list(probs.shape)}, expected (candidates, values)")
    below = probs.cumsum(-1) - probs
    nodes, weights = np.polynomial.legendre.leggauss(len(probs) // 2 + 1)  # exact for products of N - 1 linear factors
    found = torch.zeros(len(probs), dtype=torch.float64)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        factors = below + node * probs
        for i in range(len(probs)):
            others = torch.cat([factors[:i], factors[i + 1 :]]).prod(0)
            found[i] += weight * (probs[i] * others).sum()
    return found / found.sum()


def rank(images: Sequence[str], prompts: Sequence[str], scores: ScoreDistribution) -> list[Candidate]:
    """Rank the candidates of each prompt by their probability of being the best.

    Args:
        images: N names or paths, for the result only.
        prompts: N texts; images of equal prompts compete.
        scores: their distributions, N items.

    Returns:
        The candidates of each prompt, best first; prompts in the order they come.

    Raises:
        InputError: unequal numbers of images, prompts and scores.
    """
    if len({len(images), len(prompts), len(scores)}) != 1:
        raise InputError(
            f"rank: {len(images)} images, {len(prompts)} prompts, {len(scores)} scores; "
            "expected one prompt and one score per image"
        )
    values, probs_NV = overall_distribution(scores)
    mean_N = probs_NV @ values
    std_N = (probs_NV @ values.square() - mean_N.square()).clamp_min(0).sqrt()
    ranked = []
    for prompt in dict.fromkeys(prompts):
        rows = [number for number, other in enumerate(prompts) if other == prompt]
        best = probability_of_best(probs_NV[rows])
        order = sorted(range(len(rows)), key=lambda k: (-best[k].item(), -mean_N[rows[k]].item()))
        for place, k in enumerate(order, 1):
            n = rows[k]
            expected = dict(zip(scores.dimensions, scores.mean[n].tolist(), strict=True))
            ranked.append(
                Candidate(images[n], prompt, place, best[k].item(), mean_N[n].item(), std_N[n].item(), expected)
            )
    return ranked

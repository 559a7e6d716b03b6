"""A reward that counts less where the reward model is less sure.

    c_n  = sum_d a_d P(|s - mu_nd| <= within)          confidence of picture n, in [0, 1]; a_d are the aggregate's weights
    A'_n = m_n + c_n (A_n - m_n)                       m_n: mean reward of the prompt's pictures

P is under the model's calibrated distribution (`zreward calibrate`), each bin spread over its own width so that c is
continuous in mu. Neither c nor m carries a gradient: A' has the gradient c_n dA_n, so raising its confidence gains a generator
nothing. For a policy gradient, which sees values alone, the reward is drawn to the mean instead of to zero: a doubtful picture
counts as neither good nor bad. Ours, not the paper's. Shapes: N pictures, D dimensions, S bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zreward.distribution import ScoreDistribution
from zreward.generation.aggregate import dimension_weights


def confidence_of(scores: ScoreDistribution, within: float, weights: Mapping[str, float]) -> Tensor:
    """How sure the model is of N pictures, (N,) in [0, 1], without gradient.

    Args:
        scores: calibrated distributions.
        within: score points on either side of mu.
        weights: dimension -> weight in the reward; empty: all equal.
    """
    scores = scores.detach()
    bins, half, mu = scores.bins, scores.bins.diff().min() / 2, scores.mean[..., None]
    overlap_NDS = torch.minimum(bins + half, mu + within) - torch.maximum(bins - half, mu - within)
    inside_NDS = overlap_NDS.clamp_min(0) / (2 * half)  # the part of each bin that lies within
    return (scores.probs * inside_NDS).sum(-1) @ dimension_weights(weights, scores)


def drawn_to_mean(rewards: Tensor, confidence: Tensor, prompts: Sequence[str]) -> Tensor:
    """Rewards (N,) drawn to the mean of their prompt's pictures where confidence (N,) is low.

    Args:
        rewards: of the pictures.
        confidence: in [0, 1].
        prompts: N texts. Where none comes twice the mean is that of all pictures.
    """
    groups: dict[str, list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(number)
    mean = rewards.detach().mean().expand(len(rewards)).clone()
    if len(groups) < len(prompts):
        for own in groups.values():
            mean[own] = rewards.detach()[own].mean()
    return mean + confidence.detach() * (rewards - mean)

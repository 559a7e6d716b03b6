"""From a score distribution over dimensions to one reward per picture: the paper's A, in five forms.

    mean         sum_d w_d mu_d / sum_d w_d
    worst        -t log(sum_d w_d exp(-mu_d / t) / sum_d w_d)        soft minimum; t -> 0 is the worst dimension
    utility      sum_d w_d sum_s u(s) q_d(s) / sum_d w_d             what each score is worth to the user
    confident    sum_d w_d (mu_d - k std_d) / sum_d w_d              lower confidence bound
    beats        sum_d w_d P(picture better than the reference) / sum_d w_d

The paper names no form; all of these are ours. mean, worst and confident are on the rubric's scale, beats is a probability.

Shapes: N pictures, D dimensions, S bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.distribution import ScoreDistribution

KINDS = ("mean", "worst", "utility", "confident", "beats")
READINGS = ("distribution", "argmax")


@dataclass(frozen=True)
class Aggregate:
    """How the score distributions of a picture become one reward (equations: `zreward/generation/aggregate.py`).

    Args:
        kind: mean; worst (a smooth minimum of the dimensions); utility (expected utility of the scores); confident (mean
            minus `caution` standard deviations); beats (probability of being better than a reference).
        weights: dimension -> weight, 0 or more; empty: all equal.
        softness: of the minimum, in score points (kind worst).
        utility: the worth of every score bin, lowest score first (kind utility).
        caution: standard deviations (kind confident).
        reading: distribution, or argmax: the most likely bin alone, as if parsed from text (ablation).
        sharpness: of the gradient of argmax.

    Raises:
        InputError: an unknown kind or reading, negative weights, a utility that is missing or superfluous.
    """

    kind: str = "mean"  # mean, worst, utility, confident or beats
    weights: dict[str, float] = field(default_factory=dict)  # dimension -> weight; empty: all equal
    softness: float = 0.25  # worst: t, in points
    utility: list[float] | None = None  # utility: u of every bin, from the lowest score up
    caution: float = 1.0  # confident: k
    reading: str = "distribution"  # or argmax: the most likely bin alone, as if it were parsed from text (ablation)
    sharpness: float = 8.0  # argmax: its gradient is that of the distribution to this power, renormalised

    def __post_init__(self) -> None:
        for key, known in (("kind", KINDS), ("reading", READINGS)):
            if getattr(self, key) not in known:
                raise InputError(f"aggregate: {key} is {getattr(self, key)!r}; expected one of {list(known)}")
        if self.weights and (min(self.weights.values()) < 0 or sum(self.weights.values()) <= 0):
            raise InputError(f"aggregate: weights are {self.weights}; expected 0 or more, not all 0")
        if (self.kind == "utility") != (self.utility is not None):
            raise InputError("aggregate: a utility (one number per score bin) goes with kind utility, and only with it")
        if not self.softness > 0 or not self.sharpness > 0:
            raise InputError(f"aggregate: softness {self.softness}, sharpness {self.sharpness}; expected more than 0")

    def check(self, dimensions: Sequence[str], bins: int) -> None:
        """InputError unless the weights name dimensions of the model and the utility has a number for every bin."""
        unknown = [name for name in self.weights if name not in dimensions]
        if unknown:
            raise InputError(f"aggregate: unknown dimension {unknown[0]!r}; the reward model has {list(dimensions)}")
        if self.utility is not None and len(self.utility) != bins:
            raise InputError(f"aggregate: {len(self.utility)} utilities for {bins} score bins; expected one for each")

    def __call__(self, scores: ScoreDistribution, reference: ScoreDistribution | None = None) -> Tensor:
        """The rewards of N pictures, differentiable.

        Args:
            scores: their distributions.
            reference: for kind beats: distributions of one reference, or of one per picture.

        Returns:
            Rewards (N,).

        Raises:
            InputError: weights, utility or reference do not fit the scores.
        """
        self.check(scores.dimensions, len(scores.bins))
        if self.reading == "argmax":
            scores = _most_likely(scores, self.sharpness)
        weight = dimension_weights(self.weights, scores)
        if self.kind == "worst":
            return -self.softness * torch.logsumexp(weight.log() - scores.mean / self.softness, dim=-1)
        return self._per_dimension(scores, reference) @ weight

    def _per_dimension(self, scores: ScoreDistribution, reference: ScoreDistribution | None) -> Tensor:
        """(N, D)"""
        if self.kind == "utility":
            return (scores.probs * torch.tensor(self.utility).to(scores.probs)).sum(-1)
        if self.kind == "confident":
            return scores.mean - self.caution * scores.std
        if self.kind == "beats":
            if reference is None:
                raise InputError("aggregate: kind beats compares with a reference picture's scores; none were given")
            return scores.prefers(reference)
        return scores.mean


def dimension_weights(weights: Mapping[str, float], scores: ScoreDistribution) -> Tensor:
    """(D,), summing to one; equal where none are given."""
    given = [weights.get(name, 0.0) if weights else 1.0 for name in scores.dimensions]
    weight = torch.tensor(given).to(scores.probs)
    return weight / weight.sum()


def _most_likely(scores: ScoreDistribution, sharpness: float) -> ScoreDistribution:
    """All weight on the most likely bin; the gradient is that of the sharpened distribution (straight-through)."""
    sharp = (scores.log_probs * sharpness).softmax(-1)
    hard = torch.nn.functional.one_hot(scores.probs.argmax(-1), len(scores.bins)).to(sharp)
    return replace(scores, probs=hard + sharp - sharp.detach())

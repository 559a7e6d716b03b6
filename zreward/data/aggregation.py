"""From ratings to one score and to a target distribution.

One score: the trimmed mean (the paper's section 5). Distribution: the raters' histogram, `ScoreScale.histogram`; or, when
only a mean and a spread were published, `synthetic_target` below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.distribution import ScoreScale

Scores = float | Sequence[float] | Mapping[str, float | None]


def rating_list(scores: Scores | None) -> list[float]:
    """All ratings of one dimension: one number, one per rater, or {rater: number or null}; nulls are left out."""
    if scores is None:
        return []
    if isinstance(scores, Mapping):
        return [float(score) for score in scores.values() if score is not None]
    if isinstance(scores, Sequence):
        return [float(score) for score in scores]
    return [float(scores)]


def trimmed_mean(ratings: Any) -> float:
    """Mean of one item's ratings (a list, array or tensor) without one highest and one lowest, from three ratings on.

    Raises ValueError for no ratings, and for NaN and infinite ones.
    """
    values = np.sort(np.asarray(ratings, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"trimmed_mean: ratings {ratings!r}; expected one or more finite numbers")
    return float(values[1:-1].mean() if len(values) >= 3 else values.mean())


def aggregate(ratings: Sequence[float]) -> float | None:
    """Trimmed mean of the ratings (without one highest and one lowest from three on); None when there are none."""
    return trimmed_mean(ratings) if ratings else None


def target_distribution(
    ratings: Sequence[float], scale: ScoreScale, smoothing: float = 0.0, std: float = 0.0
) -> Tensor | None:
    """The training target of one item and dimension.

    Args:
        ratings: its ratings, on the scale.
        scale: the rubric's scale.
        smoothing: standard deviation, in score units, of the Gaussian that spreads each rating; 0: none.
        std: above 0, beside a single rating, it makes the target SYNTHETIC (see `synthetic_target`); variances add up.

    Returns:
        Probabilities [S], the raters' histogram; None without ratings.

    Raises:
        ValueError: a `std` beside several ratings.
        InputError: a rating off the scale, a negative smoothing.
    """
    if not ratings:
        return None
    if std > 0:
        if len(ratings) != 1:
            raise ValueError(f"a spread of {std:g} beside {len(ratings)} ratings; expected one aggregate score")
        (score,) = ratings
        return synthetic_target(score, math.hypot(std, smoothing), scale)
    return scale.histogram(ratings, smoothing)


def synthetic_target(score: float, std: float, scale: ScoreScale) -> Tensor:
    """[S]: a SYNTHETIC distribution for an aggregate that came as mean and standard deviation, both in score units.

    A Gaussian of that width, sampled at the bins and renormalised: p_k ~ exp(-(b_k - m)^2 / 2 std^2). Its centre m is
    found such that the expectation is exactly `score`: cutting a plain Gaussian off at the ends of the scale would move
    the mean inwards by up to `std`. So near the ends the spread is narrower than `std`, and as `std` goes to 0 the
    result becomes `ScoreScale.soft_target`. No rater gave these bins: say so wherever the distribution is shown. Ours.

    Args:
        score: the mean, on the scale.
        std: the standard deviation, 0 or more.
        scale: the rubric's scale.

    Returns:
        Probabilities [S].

    Raises:
        InputError: a score off the scale, a negative or infinite `std`.
    """
    score = scale.validate(score)
    if not math.isfinite(std) or std < 0:
        raise InputError(f"std is {std!r}, expected a standard deviation of 0 or more in score units")
    end = 1e-6 * scale.step
    if std < 1e-3 * scale.step or score < scale.min + end or score > scale.max - end:
        return scale.soft_target(score)
    bins = scale.bins.double()

    def gaussian(centre: float) -> Tensor:
        return torch.softmax(-0.5 * ((bins - centre) / std).square(), dim=-1)

    # Beyond this reach neighbouring bins differ by more than e^50, so the mean is at an end of the scale.
    reach = scale.range + 50 * std * std / scale.step
    low, high = scale.min - reach, scale.max + reach
    for _ in range(100):
        middle = (low + high) / 2
        if gaussian(middle) @ bins < score:
            low = middle
        else:
            high = middle
    return gaussian((low + high) / 2).float()

"""Bootstrap over groups (prompts) of any figure: pictures of one prompt are not independent, so whole prompts are drawn.

The same groups, resamples and seed give the same draws: figures of two models on the same items can be compared draw by draw.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zreward.evaluation.metrics import Array, group_codes, group_draws

Statistic = Callable[[NDArray[np.intp], NDArray[np.intp]], float]
"""Items [M] (numbers, some of them repeatedly) and their groups [M] -> a figure. A group that is drawn twice is two groups."""


class Estimate(NamedTuple):
    """A figure, its interval, and the figures of the draws behind it [R], for differences between models."""

    value: float
    low: float
    high: float
    draws: Array


def bootstrap(
    statistic: Statistic, group: Any, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """A figure and its percentile interval over groups.

    Args:
        statistic: the figure of drawn items.
        group: a hashable key for every item [N]; whole groups are drawn, with replacement.
        resamples: number of draws, R.
        confidence: of the interval, between 0 and 1.
        seed: of the draws.

    Returns:
        The figure of all items; the ends are NaN where no draw has a figure, draws without one do not count.

    Raises:
        ValueError: a confidence or a number of draws that is out of range.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"confidence {confidence!r}, resamples {resamples!r}: expected a share in (0, 1), and 1 or more"
        )
    keys = list(group)
    codes = group_codes(keys, len(keys))
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    ends = np.cumsum(sizes)
    value = statistic(np.arange(len(codes)), codes)
    draws = np.empty(resamples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # said once, of the figure itself
        for number, counts in enumerate(group_draws(len(sizes), resamples, seed)):
            taken = np.repeat(np.arange(len(sizes)), counts)
            items = np.concatenate([order[ends[one] - sizes[one] : ends[one]] for one in taken])
            draws[number] = statistic(items, np.repeat(np.arange(len(taken)), sizes[taken]))
    return Estimate(value, *interval_of(draws, confidence), draws)


def interval_of(draws: Array, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of draws [R], those without a figure left out; NaN twice where none has one."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return float("nan"), float("nan")
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    if np.isfinite(known).all():
        low, high = np.quantile(known, ends)
    else:  # nothing lies between infinite figures
        low, high = np.quantile(known, ends, method="nearest")
    return float(low), float(high)

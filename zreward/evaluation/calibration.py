"""Whether predicted distributions are as wide as the raters' scores are, and lie where these lie.

Shapes: N items, S bins. `probs` [N, S] are predicted, `counts` [N, S] are the raters' scores per bin (weights are allowed).
Scores lie on few bins, so a central interval that ends on bins holds more than its level. The rank of a score is therefore
spread over the step of the predicted distribution function that it stands on: under a calibrated model ranks are uniform on
[0, 1], whatever the bins (Czado, Gneiting and Held 2009, the nonrandomised probability integral transform).
Bad input is a ValueError, as in `metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zreward.evaluation.metrics import Array, as_vectors, distributions

LEVELS = (0.5, 0.8, 0.95)
"""Central intervals that tables show."""


def rank_distribution(probs: Any, counts: Any, at: Any) -> Array:
    """Share of the raters' scores whose rank under the prediction is at most u: u itself under a calibrated model.

    Args:
        probs: predicted probabilities [N, S].
        counts: ratings per bin [N, S].
        at: U points u, from 0 to 1.

    Returns:
        Shares [U]. Every item counts alike, however many raters it has.
    """
    p, c = distributions(probs, counts)
    (u,) = as_vectors(at=at)
    if u.min() < 0 or u.max() > 1:
        raise ValueError(f"at is from {u.min():g} to {u.max():g}, expected points from 0 to 1")
    p = p / p.sum(1, keepdims=True)
    above = np.minimum(p.cumsum(1), 1.0)
    below = np.concatenate([np.zeros((len(p), 1)), above[:, :-1]], 1)
    weight = c / c.sum(1, keepdims=True) / len(c)
    shares = np.empty(len(u))
    for number, point in enumerate(u):
        step = above - below
        within = np.divide(point - below, step, where=step > 0, out=(point >= above).astype(float))
        shares[number] = (weight * np.clip(within, 0, 1)).sum()
    return shares


def interval_coverage(probs: Any, counts: Any, level: float) -> float:
    """Share of the raters' scores inside the central interval of a level: the level itself under a calibrated model.

    Args:
        probs: predicted probabilities [N, S].
        counts: ratings per bin [N, S].
        level: between 0 and 1, such as 0.8.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}, expected a share between 0 and 1, such as 0.8")
    low, high = rank_distribution(probs, counts, [(1 - level) / 2, (1 + level) / 2])
    return float(high - low)


def wasserstein(probs: Any, counts: Any, bins: Any) -> float:
    """1-Wasserstein distance between the prediction and an item's histogram, score units; the mean over items.

    Args:
        probs: predicted probabilities [N, S].
        counts: ratings per bin [N, S].
        bins: scores of the bins [S], rising.
    """
    p, c = distributions(probs, counts)
    (b,) = as_vectors(bins=bins)
    if len(b) != p.shape[1] or (np.diff(b) <= 0).any():
        raise ValueError(
            f"wasserstein: bins {b.tolist()} for {p.shape[1]} probabilities; expected one rising score each"
        )
    apart = np.abs((p / p.sum(1, keepdims=True)).cumsum(1) - (c / c.sum(1, keepdims=True)).cumsum(1))
    return float((apart[:, :-1] @ np.diff(b)).mean())


def spread(probs: Any, bins: Any) -> Array:
    """Standard deviation of every distribution [N], score units."""
    p, _ = distributions(probs, probs)
    (b,) = as_vectors(bins=bins)
    mean = p @ b
    return np.sqrt(np.maximum((p * (b[None] - mean[:, None]) ** 2).sum(1), 0))


def in_groups(pred: Any, target: Any, n_bins: int = 10) -> list[tuple[float, float, int]]:
    """For a reliability plot: mean prediction, mean target and number of items of groups of items, by rising prediction.

    Args:
        pred: predicted scores or probabilities [N].
        target: what people said, in the same unit [N].
        n_bins: groups, of equally many items as nearly as may be.
    """
    x, y = as_vectors(pred=pred, target=target)
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}, expected 1 or more")
    parts: Sequence[Any] = np.array_split(np.argsort(x, kind="stable"), min(n_bins, len(x)))
    return [(float(x[part].mean()), float(y[part].mean()), len(part)) for part in parts]

"""How sure a difference is, and how fast a method learns.

Shapes: K seeds, P prompts, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zreward.data import Record
from zreward.evaluation.metrics import pair_counts
from zreward.evaluation.prediction import Predictions

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairTally:
    """Per prompt, how many pairs a method could order and how many it ordered as people do."""

    correct: Array  # (P,)
    total: Array  # (P,)


def tally(predictions: Predictions, records: Sequence[Record]) -> PairTally:
    """Pairs of all dimensions by prompt group, in the order of first appearance."""
    groups = list(dict.fromkeys(record.group_key for record in records))
    members: dict[str, list[int]] = {group: [] for group in groups}
    for n, record in enumerate(records):
        members[record.group_key].append(n)
    correct, total = np.zeros(len(groups)), np.zeros(len(groups))
    mean_ND = predictions.mean.double().numpy()
    for p, group in enumerate(groups):
        for d, name in enumerate(predictions.dimensions):
            rated = [n for n in members[group] if records[n].score(name) is not None]
            if len(rated) < 2:
                continue
            counts = pair_counts(mean_ND[rated, d], [records[n].score(name) for n in rated], [group] * len(rated))
            correct[p] += counts.correct
            total[p] += counts.pairs
    return PairTally(correct, total)


def paired_interval(
    first: Sequence[PairTally], second: Sequence[PairTally], draws: int = 5000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """HPA of `first` minus HPA of `second` over all seeds, with its interval: (difference, low, high).

    Hierarchical bootstrap: seeds are drawn with replacement (both methods' runs of a seed together), prompts with
    replacement, the same for both methods and all seeds. With K seeds at most K^K seed draws differ: with three, the
    interval covers prompts well and seeds only roughly.
    """
    if len(first) != len(second) or not first:
        raise ValueError(
            f"paired_interval: {len(first)} and {len(second)} seeds; expected the same number, at least one"
        )
    K, P = len(first), len(first[0].total)
    generator = np.random.default_rng(seed)
    seeds_BK = generator.integers(0, K, (draws, K))
    weights_BP = generator.multinomial(P, np.full(P, 1 / P), size=draws).astype(float)
    difference_B = _mean_hpa(first, seeds_BK, weights_BP) - _mean_hpa(second, seeds_BK, weights_BP)
    low, high = np.quantile(difference_B, [(1 - level) / 2, (1 + level) / 2])
    return _hpa(first) - _hpa(second), float(low), float(high)


def _mean_hpa(tallies: Sequence[PairTally], seeds_BK: NDArray[np.int64], weights_BP: Array) -> Array:
    """(B,): HPA of every draw, averaged over its seeds."""
    correct_BK = weights_BP @ np.stack([t.correct for t in tallies], 1)
    total_BK = weights_BP @ np.stack([t.total for t in tallies], 1)
    return np.take_along_axis(correct_BK / total_BK, seeds_BK, 1).mean(1)


def _hpa(tallies: Sequence[PairTally]) -> float:
    return float(np.mean([t.correct.sum() / t.total.sum() for t in tallies]))


def steps_to_reach(curve: Sequence[tuple[int, float]], level: float) -> int | None:
    """The first step of a curve (step, value) at or above `level`; None when it never gets there."""
    return next((step for step, value in sorted(curve) if value >= level), None)


def mean_curve(curves: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[int, float]]:
    """The mean over seeds at every step that all curves have."""
    tables = [dict(curve) for curve in curves]
    steps = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    return [(step, float(np.mean([table[step] for table in tables]))) for step in steps]

"""How far each annotator can be trusted: pure functions of the labels, as columns of N answers.

    accuracy      share of the gold answers that lie within one step of the scale (half a point) of the gold score
    consistency   share of the repeated pictures that got the same answer twice, within one step
    bias          mean of (own score - mean of the others' scores) over the pictures that others rated too
    agreement     Krippendorff's alpha (ordinal) of two coders: this annotator, and the others' mean on its nearest bin

Labels of annotators whose accuracy reaches the threshold may be used for training. An annotator who has answered no gold item
is not measured, and does not pass. "Cannot judge" is no answer: it is counted, and otherwise left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import krippendorff
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from zreward.distribution import GAP_TOLERANCE, ScoreScale

FEW = 40  # gold answers; on fewer, a careless annotator passes too often (benchmarks/gold_items.py)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """N answers, each array (N,). `unit`: code of a picture and a dimension; `occasion`: 0 first, 1 and up repetitions."""

    rater: Ints
    unit: Ints
    dimension: Ints
    occasion: Ints
    first: Floats  # step 1's score, NaN for "cannot judge"
    final: Floats  # the score that counts, after step 2
    gold: Floats  # NaN where the unit has no gold score


@dataclass(frozen=True)
class RaterAudit:
    """One annotator, measured. None: nothing to measure it by."""

    rater: int
    answers: int
    unjudged: int
    gold: int
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None  # 95 %, Wilson
    repeated: int
    consistency: float | None
    shared: int
    bias: float | None
    agreement: float | None

    def passes(self, threshold: float) -> bool:
        return self.accuracy is not None and self.accuracy >= threshold - GAP_TOLERANCE

    def reason(self, threshold: float) -> str:
        """Why this annotator passes or not, as a part of a sentence."""
        if self.accuracy is None:
            return "has answered no gold item"
        verb = "reaches" if self.passes(threshold) else "misses"
        return f"{verb} {threshold:.2f} with {self.accuracy:.2f} on {self.gold} gold item{'s' * (self.gold != 1)}"


@dataclass(frozen=True)
class Audit:
    raters: tuple[RaterAudit, ...]
    agreement: Mapping[int, float | None]
    """Krippendorff's alpha (ordinal) of the whole panel, by dimension code."""

    def of(self, rater: int) -> RaterAudit | None:
        return next((audit for audit in self.raters if audit.rater == rater), None)


def audit_raters(answers: Answers, scale: ScoreScale) -> Audit:
    """Every annotator who answered, in the order of `rater`, and the panel's agreement by dimension."""
    counted = (answers.occasion == 0) & ~np.isnan(answers.final)
    others = _others_mean(answers, counted)
    raters = [_audit_one(answers, counted, others, int(rater), scale) for rater in np.unique(answers.rater)]
    dimensions = (int(code) for code in np.unique(answers.dimension))
    return Audit(
        tuple(raters),
        {code: _panel_alpha(answers, counted & (answers.dimension == code), scale) for code in dimensions},
    )


def _audit_one(answers: Answers, counted: Any, others: Floats, rater: int, scale: ScoreScale) -> RaterAudit:
    own = answers.rater == rater
    mine = own & counted
    golden = mine & ~np.isnan(answers.gold)
    close = _close(answers.final[golden], answers.gold[golden], scale)
    again = _repeated(answers, own, scale)
    shared = mine & ~np.isnan(others)
    final, panel = answers.final[shared], others[shared]
    return RaterAudit(
        rater=rater,
        answers=int(mine.sum()),
        unjudged=int((own & np.isnan(answers.first)).sum()),
        gold=len(close),
        accuracy=_mean(close),
        accuracy_interval=_wilson(int(close.sum()), len(close)),
        repeated=len(again),
        consistency=_mean(again),
        shared=len(final),
        bias=_mean(final - panel),
        agreement=_alpha(np.stack([_bin(final, scale), _bin(panel, scale)], 1), len(scale)),
    )


def _others_mean(answers: Answers, counted: Any) -> Floats:
    """[N]: the mean of the other annotators' scores of the same unit; NaN where there is none."""
    unit, final = answers.unit[counted], answers.final[counted]
    size = int(answers.unit.max(initial=-1)) + 1
    total, count = np.bincount(unit, final, size), np.bincount(unit, minlength=size)
    means = np.full(len(answers.unit), np.nan)
    rest = count[unit] - 1
    means[counted] = np.divide(total[unit] - final, rest, out=np.full(len(unit), np.nan), where=rest > 0)
    return means


def _repeated(answers: Answers, own: Any, scale: ScoreScale) -> Any:
    """For every repetition that was judged, as was the first showing: whether both answers of step 1 agree."""
    judged = own & ~np.isnan(answers.first)
    again = judged & (answers.occasion > 0)
    before = judged & (answers.occasion == 0)
    known = dict(zip(answers.unit[before].tolist(), answers.first[before].tolist(), strict=True))
    pairs = zip(answers.unit[again].tolist(), answers.first[again].tolist(), strict=True)
    values = np.array([(score, known[unit]) for unit, score in pairs if unit in known]).reshape(-1, 2)
    return _close(values[:, 0], values[:, 1], scale)


def _panel_alpha(answers: Answers, chosen: Any, scale: ScoreScale) -> float | None:
    """Over the units of the chosen answers."""
    _, unit = np.unique(answers.unit[chosen], return_inverse=True)
    counts = np.zeros((int(unit.max(initial=-1)) + 1, len(scale)))
    np.add.at(counts, (unit, _bin(answers.final[chosen], scale)), 1)
    return _alpha_of_counts(counts)


def _alpha(coded: Ints, size: int) -> float | None:
    """Of U units with one bin from each of two coders, (U, 2)."""
    counts = np.zeros((len(coded), size))
    for coder in coded.T:
        np.add.at(counts, (np.arange(len(coded)), coder), 1)
    return _alpha_of_counts(counts)


def _alpha_of_counts(counts: Floats) -> float | None:
    """(U, bins) -> alpha; None unless two units were rated twice and the answers differ at all."""
    shared = counts[counts.sum(1) > 1]
    if len(shared) < 2 or (shared.sum(0) > 0).sum() < 2:
        return None
    return float(krippendorff.alpha(value_counts=shared, level_of_measurement="ordinal"))


def _close(one: Floats, other: Floats, scale: ScoreScale) -> Any:
    return np.abs(one - other) <= scale.step + GAP_TOLERANCE


def _bin(scores: Floats, scale: ScoreScale) -> Any:
    """The index of the nearest bin."""
    return np.clip(np.rint((scores - scale.min) / scale.step), 0, len(scale) - 1).astype(int)


def _mean(values: Any) -> float | None:
    return float(values.mean()) if len(values) else None


def _wilson(hits: int, count: int) -> tuple[float, float] | None:
    if not count:
        return None
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)

"""The figures that benchmarks report, by key: how each is called, what it needs, and which is the official one of a suite.

The arithmetic is in `zreward.evaluation.metrics` and `zreward.evaluation.preferences`. J judgements (of pairs, or of pictures).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zreward.evaluation import metrics, preferences
from zreward.evaluation.intervals import Estimate, bootstrap
from zreward.evaluation.metrics import Array

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class PairAnswers:
    """What a model says of J pairs, beside what people say.

    Args:
        gap: [J] score of a minus score of b.
        prob: [J] probability that a is better; None where the model gives scores only.
        votes: [J, 3] for a, for b, for a tie.
        group: [J] prompts.
        lists: [J] ranked lists; the prompt where there are none.
        threshold: the largest gap that is a tie; None where there were no other pairs to choose it on.
        half_threshold: the same for `half_credit`.
        exact: [J] whether the answer is the very label of the benchmark, where its labels say more than a, b or tie.
        number: [J] the pair that each answer is about; several answers may be about one.
    """

    gap: Array
    prob: Array | None
    votes: Array
    group: list[Any]
    lists: list[Any]
    threshold: float | None = None
    half_threshold: float | None = None
    exact: Array | None = None
    number: Indices = field(default_factory=lambda: np.empty(0, np.intp))


@dataclass(frozen=True)
class PictureAnswers:
    """What a model says of J rated pictures [J], beside people's mean score [J]; the prompts [J]; the pictures' numbers [J]."""

    score: Array
    target: Array
    group: list[Any]
    number: Indices = field(default_factory=lambda: np.empty(0, np.intp))


class FigureKind(NamedTuple):
    """`better` is +1 where more is better, -1 where less is. `make` gives the statistic, or None where it is not defined."""

    title: str
    better: int
    make: Callable[[Any], Callable[[Indices, Indices], float] | None]


def _with_gap(metric: Callable[..., float]) -> Callable[[PairAnswers], Callable[[Indices, Indices], float]]:
    return lambda a: lambda i, g: metric(a.gap[i], a.votes[i])


def _with_prob(metric: Callable[..., float]) -> Callable[[PairAnswers], Callable[[Indices, Indices], float] | None]:
    def make(a: PairAnswers) -> Callable[[Indices, Indices], float] | None:
        prob = a.prob
        return None if prob is None else lambda i, g: metric(prob[i], a.votes[i])

    return make


def _by_list(a: PairAnswers) -> Callable[[Indices, Indices], float]:
    lists = metrics.group_codes(a.lists, len(a.lists))
    return lambda i, g: preferences.accuracy_by_group(a.gap[i], a.votes[i], list(zip(g, lists[i], strict=True)))


def _with_ties(a: PairAnswers) -> Callable[[Indices, Indices], float] | None:
    threshold = a.threshold
    if threshold is None:
        return None
    return lambda i, g: preferences.accuracy_with_ties(a.gap[i], a.votes[i], threshold)


def _half_credit(a: PairAnswers) -> Callable[[Indices, Indices], float] | None:
    prob, threshold = a.prob, a.half_threshold
    if prob is None or threshold is None:
        return None
    return lambda i, g: preferences.half_credit_accuracy(prob[i], a.votes[i], threshold)


def _exact(a: PairAnswers) -> Callable[[Indices, Indices], float] | None:
    exact = a.exact
    return None if exact is None else lambda i, g: float(exact[i].mean())


def _scored(metric: Callable[..., float]) -> Callable[[PictureAnswers], Callable[[Indices, Indices], float]]:
    return lambda a: lambda i, g: metric(a.score[i], a.target[i])


def _grouped(metric: Callable[..., Any]) -> Callable[[PictureAnswers], Callable[[Indices, Indices], float] | None]:
    """Of metrics over the pairs of a prompt; not defined where every prompt has one picture."""

    def make(a: PictureAnswers) -> Callable[[Indices, Indices], float] | None:
        if len(set(a.group)) == len(a.group):
            return None
        return lambda i, g: metric(a.score[i], a.target[i], g)

    return make


FIGURES: dict[str, FigureKind] = {
    "accuracy": FigureKind("accuracy without ties", 1, _with_gap(preferences.accuracy)),
    "accuracy_by_list": FigureKind("accuracy by ranked list, ties of people right", 1, _by_list),
    "accuracy_with_ties": FigureKind("accuracy with ties, threshold from other pairs", 1, _with_ties),
    "half_credit": FigureKind("accuracy, half a point for a tie on one side", 1, _half_credit),
    "exact_label": FigureKind("share of the benchmark's own labels", 1, _exact),
    "vote_agreement": FigureKind("agreement with a vote", 1, _with_gap(preferences.vote_agreement)),
    "preference_nll": FigureKind("NLL per vote", -1, _with_prob(preferences.preference_nll)),
    "preference_brier": FigureKind("Brier score", -1, _with_prob(preferences.preference_brier)),
    "preference_ece": FigureKind("ECE of P(a better than b)", -1, _with_prob(preferences.preference_ece)),
    "srcc": FigureKind("SRCC", 1, _scored(metrics.srcc)),
    "plcc": FigureKind("PLCC", 1, _scored(metrics.plcc)),
    "krcc": FigureKind("KRCC (tau-b)", 1, _scored(metrics.krcc)),
    "hpa": FigureKind("HPA", 1, _grouped(metrics.hpa)),
    "tie_calibrated": FigureKind(
        "pairwise accuracy, ties calibrated on the suite itself",
        1,
        _grouped(lambda x, y, g: preferences.tie_calibrated_accuracy(x, y, g).accuracy),
    ),
}
PAIR_FIGURES = tuple(FIGURES)[:9]
PICTURE_FIGURES = tuple(FIGURES)[9:]


def estimates(answers: PairAnswers | PictureAnswers, resamples: int, seed: int) -> dict[str, Estimate]:
    """Every figure that is defined for these answers, with its interval over prompts."""
    keys = PAIR_FIGURES if isinstance(answers, PairAnswers) else PICTURE_FIGURES
    found = {}
    for key in keys:
        statistic = FIGURES[key].make(answers)
        if statistic is not None:
            found[key] = bootstrap(statistic, answers.group, resamples, seed=seed)
    return found

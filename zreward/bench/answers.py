"""From a model's distributions to what it says of a suite: scores of pictures, gaps and probabilities of pairs.

A dimension of a suite is answered by the model's dimension of that name; "overall" by the mean of all of the model's. `uses`
says otherwise: {"overall": ("alignment", "realism")}. A mean of several has the mean of their probabilities that a is better.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from zreward.bench.figures import PairAnswers, PictureAnswers
from zreward.bench.suite import Suite
from zreward.common.errors import InputError
from zreward.data.preference import OVERALL, Preference
from zreward.evaluation.metrics import Array
from zreward.evaluation.prediction import Predictions
from zreward.evaluation.preference_prediction import PreferencePredictions
from zreward.evaluation.preferences import half_credit_threshold, tie_threshold

Uses = Mapping[str, tuple[str, ...]]


def dimensions_for(suite: Suite, known: Sequence[str], uses: Uses) -> dict[str, tuple[str, ...]]:
    """For the dimensions of a suite that a model can answer: which of the model's dimensions do.

    Raises:
        InputError: it can answer none, or `uses` names one that it does not have.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in suite.dimensions:
        if name in uses:
            unknown = [one for one in uses[name] if one not in known]
            if unknown:
                raise InputError(f"--use {name}: the model has no dimension {unknown[0]!r}; it has {', '.join(known)}")
            found[name] = uses[name]
        elif name in known:
            found[name] = (name,)
        elif name == OVERALL:
            found[name] = tuple(known)
    if not found:
        raise InputError(
            f"suite {suite.name} asks about {', '.join(suite.dimensions)}, the model's dimensions are {', '.join(known)}; say "
            f"which of them answers: --use {suite.dimensions[0]}={known[0]}"
        )
    return found


def pair_answers(suite: Suite, name: str, predictions: PreferencePredictions, own: Sequence[str]) -> PairAnswers:
    """What a model says of the pairs with votes on dimension `name`.

    `predictions` are of the suite's pairs, and of its tuning pairs after them.
    """
    gap, prob = predictions.answer(own)
    count = len(suite.preferences)
    answers = _with_votes(suite, name, gap[:count], prob[:count])
    if suite.tuning is None or name not in suite.tuning.dimensions:
        return answers
    return with_thresholds(answers, _with_votes(suite.tuning, name, gap[count:], prob[count:]))


def with_thresholds(answers: PairAnswers, tuning: PairAnswers) -> PairAnswers:
    """`answers` with the thresholds that are best on the tuning pairs."""
    half = None if tuning.prob is None else half_credit_threshold(tuning.prob, tuning.votes)
    return replace(answers, threshold=tie_threshold(tuning.gap, tuning.votes), half_threshold=half)


def _with_votes(suite: Suite, name: str, gap: Array, prob: Array) -> PairAnswers:
    number = np.array([n for n, one in enumerate(suite.preferences) if one.counts(name) is not None], dtype=np.intp)
    chosen = [suite.preferences[n] for n in number]
    return PairAnswers(gap[number], prob[number], votes_of(chosen, name), *groups_of(chosen), number=number)


def votes_of(preferences: Sequence[Preference], name: str) -> Array:
    """[J, 3] for a, for b, for a tie."""
    counts = [one.counts(name) for one in preferences]
    return np.array([[votes.a, votes.b, votes.tie] for votes in counts if votes is not None], dtype=float)


def groups_of(preferences: Sequence[Preference]) -> tuple[list[Any], list[Any]]:
    """The prompts of pairs, and the ranked lists: `ranked` names the pairs of list L "L/0-1", "L/0-2" and so on."""
    prompts = [one.group_key for one in preferences]
    found = [re.fullmatch(r"(.+)/\d+-\d+", one.id or "") for one in preferences]
    return prompts, [match[1] if match else prompt for match, prompt in zip(found, prompts, strict=True)]


def picture_answers(suite: Suite, name: str, predictions: Predictions, own: Sequence[str]) -> PictureAnswers:
    """What a model says of the pictures that are rated on dimension `name`."""
    columns = [predictions.dimensions.index(one) for one in own]
    mean = predictions.mean[:, columns].double().mean(1).numpy()
    number, target, group = targets_of(suite, name)
    return PictureAnswers(mean[number], target, group, number)


def targets_of(suite: Suite, name: str) -> tuple[Any, Array, list[Any]]:
    """Of the pictures that are rated on a dimension: their numbers, the plain mean of their ratings, their prompts.

    Benchmarks compare with the plain mean, not with the trimmed one of `Record.score`.
    """
    number = np.array([n for n, one in enumerate(suite.pictures) if one.ratings(name)], dtype=np.intp)
    target = np.array([np.mean(suite.pictures[n].ratings(name)) for n in number], dtype=float)
    return number, target, [suite.pictures[n].group_key for n in number]

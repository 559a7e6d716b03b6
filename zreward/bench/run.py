"""Measures models on suites: every figure of every dimension with its interval, and differences to the first model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zreward.bench.answers import Uses, dimensions_for, pair_answers, picture_answers
from zreward.bench.figures import PairAnswers, PictureAnswers, estimates
from zreward.bench.others import answers_of
from zreward.bench.suite import Suite
from zreward.bench.tables import Said
from zreward.data.record import Record
from zreward.evaluation.intervals import Estimate, interval_of
from zreward.evaluation.prediction import predict
from zreward.evaluation.preference_prediction import predict_preferences

if TYPE_CHECKING:
    from zreward.models.reward_model import RewardModel

Answers = PairAnswers | PictureAnswers


@dataclass(frozen=True)
class Asking:
    """How models are asked, as `zreward evaluate` asks them."""

    reasoning: bool = False
    traces: int = 1
    temperature: float = 1.0
    batch_size: int | None = None
    seed: int = 0
    resamples: int = 1000
    uses: Uses = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What one model reached on one dimension of a suite.

    Args:
        model: its name on the command line.
        suite: the benchmark.
        dimension: of the suite.
        answered_by: the model's dimensions behind it; empty for tables of predictions.
        answers: what it said.
        figures: by key, those that are defined.
    """

    model: str
    suite: Suite
    dimension: str
    answered_by: tuple[str, ...]
    answers: Answers
    figures: dict[str, Estimate]

    @property
    def official(self) -> Estimate | None:
        """The suite's official figure, None where it is not defined for this model's answers."""
        return self.figures.get(self.suite.official)


def measure_model(model: RewardModel, name: str, suite: Suite, asking: Asking, progress: bool = True) -> list[Measured]:
    """Score a suite's pictures, each once, and compare.

    Raises:
        InputError: the model has no dimension that answers; a picture that cannot be read.
    """
    found = dimensions_for(suite, model.rubric.dimension_names, asking.uses)
    needed = [one for one in model.rubric.dimension_names if any(one in own for own in found.values())]
    how = (needed, asking.reasoning, asking.traces, asking.batch_size, asking.seed, progress, asking.temperature)
    predictions: Any
    make: Any
    if suite.kind == "pairs":
        pairs = [*suite.preferences, *(suite.tuning.preferences if suite.tuning else ())]
        predictions, make = predict_preferences(model, pairs, *how), pair_answers
    else:
        unrated = [Record(one.prompt, one.image, group=one.group) for one in suite.pictures]
        predictions, make = predict(model, unrated, *how), picture_answers
    measured = []
    for dimension, own in found.items():
        answers = make(suite, dimension, predictions, own)
        measured.append(Measured(name, suite, dimension, own, answers, _estimates(answers, asking)))
    return measured


def measure_table(said: Said, name: str, suite: Suite, asking: Asking, partial: bool = False) -> list[Measured]:
    """Compare another model's predictions, on every dimension of the suite that `asking.uses` does not leave out."""
    chosen = [one for one in suite.dimensions if not asking.uses or one in asking.uses] or list(suite.dimensions)
    measured = []
    for dimension in chosen:
        answers = answers_of(suite, dimension, said, partial)
        measured.append(Measured(name, suite, dimension, (), answers, _estimates(answers, asking)))
    return measured


def _estimates(answers: Answers, asking: Asking) -> dict[str, Estimate]:
    return estimates(answers, asking.resamples, asking.seed)


def rows_of(measured: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """A row per figure: what JSON holds."""
    for one in measured:
        for key, found in one.figures.items():
            yield {
                "model": one.model,
                "suite": one.suite.name,
                "dimension": one.dimension,
                "figure": key,
                "official": key == one.suite.official,
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "answers": len(one.answers.number),
                "prompts": len(set(one.answers.group)),
                "answered_by": list(one.answered_by),
            }


def differences(measured: Sequence[Measured]) -> Iterator[dict[str, Any]]:
    """Of the official figure: every further model minus the first one, on the same draws of prompts.

    Only where both answered the same pairs or pictures: draws of other prompts cannot be compared.
    """
    first: dict[tuple[str, str], Measured] = {}
    for one in measured:
        place = (one.suite.name, one.dimension)
        other = first.setdefault(place, one)
        if other is one or one.official is None or other.official is None:
            continue
        if one.answers.group != other.answers.group:
            continue
        low, high = interval_of(one.official.draws - other.official.draws)
        yield {
            "model": one.model,
            "minus": other.model,
            "suite": one.suite.name,
            "dimension": one.dimension,
            "figure": one.suite.official,
            "value": one.official.value - other.official.value,
            "low": low,
            "high": high,
        }

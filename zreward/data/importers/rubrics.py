"""Published ratings on the scale of a rubric: every dimension's own range is mapped to it affinely, nothing is clipped.

    score = min + (max - min) (value - low) / (high - low),   standard deviation = std (max - min) / (high - low)

Without a rubric of the user's, one is made of what the data set's raters judged. Its words are ours: no rater was shown them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from zreward.common.errors import InputError
from zreward.data.aggregation import Scores
from zreward.data.record import Record
from zreward.rubric import Dimension, Rubric


@dataclass(frozen=True)
class Published:
    """A dimension as it was published.

    Args:
        low: the lowest value that a rating can have.
        high: the highest.
        question: what was judged.
        worst: what the lowest value means.
        best: what the highest value means.
    """

    low: float
    high: float
    question: str
    worst: str
    best: str


def own_rubric(name: str, dimensions: Mapping[str, Published]) -> Rubric:
    """A rubric of these dimensions on nine half-point bins from 1 to 5."""
    return Rubric(
        name,
        "1",
        dimensions=tuple(
            Dimension(key, key.replace("_", " ").capitalize(), one.question, {1: one.worst, 5: one.best})
            for key, one in dimensions.items()
        ),
    )


def onto_rubric(records: Iterable[Record], dimensions: Mapping[str, Published], rubric: Rubric) -> Iterator[Record]:
    """Records with values as published become records on the rubric's scale; dimensions that it lacks are left out.

    Raises:
        InputError: the rubric has none of the dimensions.
    """
    kept = {name: one for name, one in dimensions.items() if name in rubric.dimension_names}
    if not kept:
        raise InputError(
            f"rubric {rubric.name!r} has the dimensions {', '.join(rubric.dimension_names)}, and none of those that were "
            f"rated: {', '.join(dimensions)}. Name its dimensions so, or leave --rubric out"
        )
    slopes = {name: rubric.scale.range / (one.high - one.low) for name, one in kept.items()}

    def mapped(name: str, value: float) -> float:
        return rubric.scale.min + slopes[name] * (value - kept[name].low)

    def all_mapped(name: str, scores: Scores) -> Scores:
        if isinstance(scores, Mapping):
            return {rater: None if value is None else mapped(name, value) for rater, value in scores.items()}
        return mapped(name, scores) if isinstance(scores, int | float) else [mapped(name, value) for value in scores]

    for record in records:
        scores = {name: all_mapped(name, value) for name, value in record.scores.items() if name in kept}
        stds = {name: value * slopes[name] for name, value in record.stds.items() if name in kept}
        yield replace(record, scores=scores, stds=stds, rubric_version=rubric.version)

"""What labelling and evaluation need of a model: one on this machine, or one behind an endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from zreward.common.errors import InputError
from zreward.data import Record
from zreward.data.record_table import kinds_of
from zreward.distribution import ScoreDistribution
from zreward.models.calibration import Calibration
from zreward.models.reasoning import Judgement
from zreward.prompting import PromptForms, Texts
from zreward.rubric import Rubric


class Teacher(Protocol):
    """`RewardModel` is one; see there for the arguments."""

    rubric: Rubric
    forms: PromptForms
    calibrations: dict[str, Calibration]
    any_sequence: ClassVar[bool]
    """Whether it takes items of several pictures, and answers in words."""

    def fingerprint(self) -> dict[str, Any]:
        """What the answers depend on, as JSON."""

    def check_dimensions(self, dimensions: Sequence[str] | None) -> tuple[str, ...]: ...

    def score_windows(
        self,
        shown: Sequence[tuple[Any, ...]],
        prompts: Sequence[str | Texts],
        names: tuple[str, ...],
        window: int,
        batch_size: int | None = None,
        token_budget: int | None = None,
    ) -> Iterator[ScoreDistribution]: ...

    def judge(
        self,
        images: Any,
        prompts: Sequence[str] | str,
        traces: int = 1,
        dimensions: Sequence[str] | None = None,
        temperature: float = 1.0,
        batch_size: int | None = None,
        answers: Sequence[str | None] | str | None = None,
    ) -> list[Judgement]: ...


def check_takes(model: Teacher, name: str, records: Sequence[Record]) -> None:
    """InputError for a model that takes one picture an item, and a record of something else."""
    if not model.any_sequence:
        for number, kind in enumerate(kinds_of(records)):
            if kind != (1, False):
                records[number].only_image(name)


def single_pictures(shown: Sequence[Any], answers: Any, what: str) -> list[Any]:
    """The picture of each item, which may stand in a list of its own. InputError for several, none, and answers."""
    if answers is not None and (isinstance(answers, str) or any(answer is not None for answer in answers)):
        raise InputError(f"{what} takes items of one picture and no answer; use a model of this machine")
    items = [tuple(one) if isinstance(one, list | tuple) else (one,) for one in shown]
    for number, mine in enumerate(items):
        if len(mine) != 1:
            raise InputError(
                f"item {number} shows {len(mine)} pictures; {what} takes items of one picture and no answer"
            )
    return [mine[0] for mine in items]


def plain_prompts(texts: Sequence[str | Texts], what: str) -> list[str]:
    """The prompts. InputError for an item with an answer."""
    asked = [Texts.of(text) for text in texts]
    single_pictures([], [one.answer for one in asked], what)
    return [one.prompt for one in asked]


@dataclass(eq=False)
class ReportedDistribution(ScoreDistribution):
    """Distributions that a server reported, with what is known about each.

    Args:
        facts: per item and dimension: columns of a targets file, such as `bounded`, the share of the probabilities that is
            an upper bound because the answer did not list those labels.
    """

    facts: tuple[tuple[dict[str, Any], ...], ...] = ()

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> ReportedDistribution:
        """Items by number (N becomes 1), slice or index list."""
        part = super().__getitem__(index)
        rows = range(len(self))
        chosen = [rows[index]] if isinstance(index, int) else list(rows[index]) if isinstance(index, slice) else index
        return ReportedDistribution(
            part.probs, part.bins, part.dimensions, facts=tuple(self.facts[int(n)] for n in chosen)
        )

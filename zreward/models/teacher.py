"""What labelling and evaluation need of a model: one on this machine, or one behind an endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from zreward.distribution import ScoreDistribution
from zreward.models.calibration import Calibration
from zreward.models.reasoning import Judgement
from zreward.prompting import PromptForms
from zreward.rubric import Rubric


class Teacher(Protocol):
    """`RewardModel` is one; see there for the arguments."""

    rubric: Rubric
    forms: PromptForms
    calibrations: dict[str, Calibration]

    def fingerprint(self) -> dict[str, Any]:
        """What the answers depend on, as JSON."""

    def check_dimensions(self, dimensions: Sequence[str] | None) -> tuple[str, ...]: ...

    def score_windows(
        self,
        shown: Sequence[tuple[Any, ...]],
        prompts: Sequence[str],
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
    ) -> list[Judgement]: ...


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

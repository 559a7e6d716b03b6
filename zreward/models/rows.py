"""One thing to score: a row of the model's input."""

from __future__ import annotations

from dataclasses import dataclass

from zreward.models.rollout import Trace


@dataclass(frozen=True)
class Row:
    """One thing to score: which image (an index), for which prompt, on which dimension; with a trace or directly.

    `explanation` (training only, direct form) follows the score: a score bin's index and the reasons for it.
    `reference` is the image to compare with, for models that compare (see `zreward.models.pairwise`).
    """

    image: int
    prompt: str
    dimension: str
    trace: Trace | None = None
    explanation: tuple[int, Trace] | None = None
    reference: int | None = None

    @property
    def images(self) -> list[int]:
        """In the order of the conversation."""
        return [self.image] if self.reference is None else [self.reference, self.image]

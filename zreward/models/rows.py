"""One thing to score: a row of the model's input, and the picture that it may be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zreward.common.errors import InputError
from zreward.models.rollout import Trace
from zreward.prompting import PromptForms


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


def check_references(forms: PromptForms, references: Sequence[Any] | None, images: int) -> None:
    """InputError unless there is a reference for each image where the forms compare, and none where they do not."""
    if forms.reference and references is None:
        raise InputError("this model compares with a reference; give one per image (`references`, or --reference)")
    if not forms.reference and references is not None:
        raise InputError("this model scores single images; `references` is for models that compare")
    if references is not None and len(references) != images:
        raise InputError(f"{images} images but {len(references)} references; give one reference per image")

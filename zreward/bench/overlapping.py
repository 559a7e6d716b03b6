"""Whether a suite holds what a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zreward.bench.suite import Suite
from zreward.common.errors import InputError
from zreward.data.looks import Looks, can_compare, looks_of
from zreward.data.seen import Overlap, compare
from zreward.models.reward_model import RewardModel
from zreward.models.training_data import seen_by


class Holdings:
    """A suite's prompts and pictures; pictures are hashed once, when the first model's are known."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite

    @cached_property
    def looks(self) -> Looks:
        return looks_of(picture for record in self.suite.pictures for picture in record.pictures)

    def overlap(self, model: Any, allowed: bool = False) -> Overlap | None:
        """None where the model's checkpoint says nothing of its training data.

        Raises:
            InputError: a picture that cannot be read; ImageHash is missing, unless an overlap is `allowed`.
        """
        seen = seen_by(model) if isinstance(model, RewardModel) else None
        if seen is None:
            return None
        prompts = [record.prompt for record in self.suite.pictures]
        compared = seen.pictures is not None and (not allowed or can_compare())
        return compare(seen, prompts, self.looks if compared else None)


@dataclass(frozen=True)
class Checked:
    """What was found for a model and a suite; `overlap` None: nothing is known of the training data."""

    model: str
    suite: Suite
    overlap: Overlap | None

    @property
    def note(self) -> str:
        """In words, for tables and pages; empty where everything was compared and nothing found."""
        if self.overlap is None:
            return f"{self.model}: its checkpoint does not say what it was trained on; whether it knows the suites is unknown"
        text = f"{self.model} was trained on {self._said()} of {self.suite.name}" if self.overlap else ""
        if self.overlap.pictures is None:
            unknown = (
                f"{self.model}: only prompts were compared with its training data; the checkpoint notes no pictures, or "
                "ImageHash is missing (zreward[overlap])"
            )
            return f"{text}. {unknown}" if text else unknown
        return text

    @property
    def facts(self) -> dict[str, Any]:
        """For JSON."""
        found = self.overlap
        return {
            "model": self.model,
            "suite": self.suite.name,
            "known": found is not None,
            "prompts": None if found is None else len(found.prompts),
            "pictures": None if found is None or found.pictures is None else len(found.pictures),
        }

    def refuse(self) -> None:
        """InputError where there is an overlap."""
        if self.overlap:
            raise InputError(
                f"suite {self.suite.name} holds what {self.model} was trained on: {self._said()}. Take them out of the suite, or "
                "measure all the same with --allow-overlap, which the report will say"
            )

    def _said(self) -> str:
        assert self.overlap is not None
        names = [
            record.id or (record.image if isinstance(record.image, str) else f"picture {number}")
            for number, record in enumerate(self.suite.pictures)
        ]
        return self.overlap.describe(names)

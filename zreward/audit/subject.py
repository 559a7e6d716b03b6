"""What every check is given: a model, the pictures that it is asked about, and its scores of them as they are.

Shapes: N pictures, D dimensions. Points are those of a scale from 1 to 5, whatever the rubric's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zreward.common.errors import InputError
from zreward.data.record import Record
from zreward.distribution import ScoreDistribution
from zreward.models.reward_model import RewardModel

Array = NDArray[np.float64]
WIDTH = 4.0
"""Points between the ends of the scale that figures are in."""


class Subject:
    """A model and at most `pictures` of the records, chosen evenly: the same ones in every call.

    Args:
        model: one that scores single pictures.
        records: rated or not.
        pictures: the most that a check looks at.
        batch_size: pictures in a batch.
        seed: of what checks draw.

    Raises:
        InputError: no record, or a model that compares two pictures.
    """

    def __init__(
        self, model: RewardModel, records: Sequence[Record], pictures: int = 64, batch_size: int = 16, seed: int = 0
    ) -> None:
        if model.forms.reference:
            raise InputError("this model compares two pictures; audit asks about single ones")
        if not len(records):
            raise InputError("no records were given; audit needs at least one")
        self.model, self.batch_size, self.seed = model, batch_size, seed
        self.chosen = [records[n] for n in evenly(len(records), pictures)]
        for record in self.chosen:
            record.only_image("audit")
        self.images: list[Image.Image] = [record.open_image() for record in self.chosen]
        self.prompts = [record.prompt for record in self.chosen]
        self.dimensions = tuple(dimension.name for dimension in model.rubric.dimensions)

    @property
    def stretch(self) -> float:
        """Points per unit of the rubric's scale."""
        scale = self.model.rubric.scale
        return WIDTH / (scale.max - scale.min)

    def ask(self, images: Sequence[Any], prompts: Sequence[str] | None = None) -> ScoreDistribution:
        """The model's distributions of pictures, whose prompts are those of the chosen ones unless they are given."""
        return self.model.score(list(images), list(prompts or self.prompts), self.dimensions, self.batch_size)

    def score(self, images: Sequence[Any], prompts: Sequence[str] | None = None) -> Array:
        """mu [N, D] in points above the scale's lower end, of pictures of any kind that the model takes."""
        mean = self.ask(images, prompts).mean.double().numpy()
        return (mean - self.model.rubric.scale.min) * self.stretch

    @cached_property
    def unchanged(self) -> ScoreDistribution:
        """The model's distributions of the chosen pictures as they are."""
        return self.ask(self.images)

    @cached_property
    def clean(self) -> Array:
        """mu [N, D] of the chosen pictures as they are, points."""
        return (self.unchanged.mean.double().numpy() - self.model.rubric.scale.min) * self.stretch


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, as far apart as may be."""
    kept = min(count, most)
    return [number * count // kept for number in range(kept)]

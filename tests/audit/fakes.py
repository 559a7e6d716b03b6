"""Reward models whose weakness is known, because their score is a formula: what checks are tried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from tests.tiny import tiny_rubric
from zreward.audit.subject import Subject
from zreward.data.record import Record
from zreward.distribution import ScoreDistribution
from zreward.models.pixels import to_pixels
from zreward.prompting import PromptForms

RUBRIC = tiny_rubric()
SCALE = RUBRIC.scale
Formula = Callable[[Tensor, str], Tensor]
"""One picture (3, H, W) in [0, 1] and its prompt -> the expected score, 1 to 5."""


def flat(pixels: Tensor, prompt: str) -> Tensor:
    return 3 + 0 * pixels.sum()


def sharpness(pixels: Tensor, prompt: str) -> Tensor:
    """High where edges are strong and the rest is calm: blur, noise and a covered part lower it."""
    step = (pixels[:, :, 1:] - pixels[:, :, :-1]).abs()
    edges, grain = (step * (step > 0.3)).sum(), (step * (step <= 0.3)).mean()
    return (2 + edges / 400 - 40 * grain).clamp(1, 5)


class FakeModel:
    """A model of the four usual dimensions: those that no formula is given for always score 3."""

    def __init__(self, **formulas: Formula) -> None:
        self.rubric, self.forms, self.formulas = RUBRIC, PromptForms(), formulas
        self.asked = 0

    def __call__(self, pixels: Tensor, prompts: Sequence[str], dimensions: Sequence[str]) -> ScoreDistribution:
        self.asked += len(pixels)
        rows = [
            torch.stack([spread(self.formulas.get(name, flat)(one.double(), prompt)) for name in dimensions])
            for one, prompt in zip(pixels, prompts, strict=True)
        ]
        return ScoreDistribution(torch.stack(rows), SCALE.bins.double(), tuple(dimensions))

    @torch.no_grad()
    def score(self, images, prompts, dimensions, batch_size=None) -> ScoreDistribution:
        return ScoreDistribution.cat(
            [self(to_pixels(one)[None], [text], dimensions) for one, text in zip(images, prompts, strict=True)]
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


def spread(mean: Tensor) -> Tensor:
    """The distribution of a mean: on the ends of the scale, so that any mean is met exactly."""
    share = (mean - SCALE.min) / (SCALE.max - SCALE.min)
    lowest, highest = torch.zeros(2, len(SCALE), dtype=torch.float64)
    lowest[0], highest[-1] = 1, 1
    return lowest * (1 - share) + highest * share


def drawings(count: int = 6, side: int = 48) -> list[Image.Image]:
    """Boxes of strong colours on calm ground."""
    found = []
    for n in range(count):
        rng, image = np.random.default_rng(n), Image.new("RGB", (side, side), "white")
        pen = ImageDraw.Draw(image)
        for _ in range(5):
            x, y = rng.integers(0, side * 3 // 4, 2).tolist()
            colour = tuple((200 * rng.integers(0, 2, 3)).tolist())
            pen.rectangle((x, y, x + side // 4, y + side // 4), fill=colour)
        found.append(image)
    return found


def subject(
    pictures: int = 64,
    images: Sequence[Image.Image] | None = None,
    prompt: str = "a red circle and a blue box",
    **formulas: Formula,
) -> Subject:
    images = drawings() if images is None else images
    model: Any = FakeModel(**formulas)
    return Subject(model, [Record(prompt, image) for image in images])


def failed(found, what: str = "") -> set[tuple[str, str]]:
    """(what, dimension) of the rows that failed."""
    return {(row.what, row.dimension) for row in found.rows if row.failed and what in row.what}

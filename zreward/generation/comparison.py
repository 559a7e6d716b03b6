"""A good/same/bad study (the paper's section 6): each picture against the one that another generator drew of the same prompt
and seed.

    overall = mean of the chosen dimensions' scores
    good    overall(after) - overall(before) >= same,     bad: <= -same,     same otherwise
    GSB     (G - B) / (G + S + B)

Ours: people judge in the paper; here a judge's scores do, so "same" needs a width. The interval is a bootstrap over
prompts. Shapes: N pairs of pictures, D dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from zreward.common.errors import InputError
from zreward.common.jobs import Job
from zreward.common.ranks import gathered, own_numbers
from zreward.data.folders import match_folders
from zreward.data.images import open_image
from zreward.distribution import GAP_TOLERANCE
from zreward.evaluation.metrics import gsb, gsb_interval
from zreward.generation.judges import Judge

OUTCOMES = ("good", "same", "bad")
SAME = 0.25  # score points
BATCH = 64  # pictures at a time


@dataclass(frozen=True)
class Comparison:
    """Scores of both sides and what follows from them."""

    judge: str
    dimensions: tuple[str, ...]
    prompts: tuple[str, ...]  # N: of each pair
    before: np.ndarray  # (N, D)
    after: np.ndarray  # (N, D)
    same: float = SAME
    overall: tuple[str, ...] = ()  # dimensions whose mean decides; empty: all

    def __post_init__(self) -> None:
        shape = (len(self.prompts), len(self.dimensions))
        if self.before.shape != shape or self.after.shape != shape or not shape[0]:
            raise InputError(f"compare: scores {self.before.shape} and {self.after.shape}, expected {shape} for both")
        if not np.isfinite(self.before).all() or not np.isfinite(self.after).all():
            raise InputError(f"compare: the judge {self.judge} gave a score that is not finite; check its weights")
        unknown = [name for name in self.overall if name not in self.dimensions]
        if unknown:
            raise InputError(f"compare: unknown dimension {unknown[0]!r}; the judge has {list(self.dimensions)}")
        if not self.same >= 0:
            raise InputError(f"compare: same is {self.same}, expected 0 or more score points")

    def outcomes(self, dimension: str | None = None) -> list[str]:
        """The verdict on each pair, by one dimension or overall."""
        chosen = (dimension,) if dimension else (self.overall or self.dimensions)
        columns = [self.dimensions.index(name) for name in chosen]
        gain_N = (self.after - self.before)[:, columns].mean(1)
        clear_N = np.abs(gain_N) > self.same - GAP_TOLERANCE if self.same else gain_N != 0
        return [
            ("good" if gain > 0 else "bad") if clear else "same" for gain, clear in zip(gain_N, clear_N, strict=True)
        ]

    def verdict(self, dimension: str | None = None) -> dict[str, Any]:
        """{gsb, low, high, good, same, bad}: GSB with its 95 % interval, and how many pairs fell each way."""
        outcomes = self.outcomes(dimension)
        counts = {name: outcomes.count(name) for name in OUTCOMES}
        low, high = gsb_interval(outcomes, self.prompts)
        return {"gsb": gsb(**counts), "low": low, "high": high, **counts}

    def means(self) -> tuple[dict[str, float], dict[str, float]]:
        """Mean score by dimension, before and after."""
        before, after = (
            dict(zip(self.dimensions, scores.mean(0).tolist(), strict=True)) for scores in (self.before, self.after)
        )
        return before, after

    def to_dict(self) -> dict[str, Any]:
        before, after = self.means()
        return {
            **self.verdict(),
            "judge": self.judge,
            "same_below": self.same,
            "overall": list(self.overall or self.dimensions),
            "before": before,
            "after": after,
            "by_dimension": {name: self.verdict(name) for name in self.dimensions},
        }


@dataclass(frozen=True)
class Pairs:
    """Two folders' pictures, matched by prompt and seed."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    before: tuple[Image.Image, ...]
    after: tuple[Image.Image, ...]


def read_pairs(before: Path, after: Path) -> Pairs:
    """The pictures of two folders with a pictures.jsonl each (image, prompt, seed). InputError unless they match."""
    matched, _ = match_folders(before, after)
    first = [one for one, _ in matched]
    opened = [tuple(open_image(picture.path) for picture in side) for side in zip(*matched, strict=True)]
    seeds = tuple(one.seed for one in first if one.seed is not None)
    return Pairs(tuple(one.prompt for one in first), seeds, opened[0], opened[1])


def compare(
    judge: Judge, pairs: Pairs, same: float = SAME, overall: Sequence[str] = (), job: Job | None = None
) -> Comparison:
    """Let a judge score both sides.

    Args:
        judge: see `judges.load_judge`.
        pairs: pictures of the same prompts and seeds, from `read_pairs`.
        same: a smaller difference of overall scores, in score points, is a tie.
        overall: dimensions whose mean is the overall score; default all.
        job: this process among those of its launch, which share the work and all get everything; None where it is alone.

    Raises:
        InputError: pictures or prompts that the judge refuses, an unknown dimension.
    """
    before, after = (
        _scored(judge, pictures, pairs.prompts, side, job)
        for side, pictures in (("before", pairs.before), ("after", pairs.after))
    )
    return Comparison(judge.name, judge.dimensions, pairs.prompts, before, after, same, tuple(overall))


def _scored(
    judge: Judge, pictures: Sequence[Image.Image], prompts: Sequence[str], side: str, job: Job | None
) -> np.ndarray:
    """(N, D). The same batches whoever scores them."""
    starts = range(0, len(pictures), BATCH)
    own = own_numbers(job, len(starts))
    parts = {}
    for number in tqdm(own, desc=f"{judge.name}, {side}", unit="batch"):
        chosen = slice(starts[number], starts[number] + BATCH)
        parts[number] = judge(pictures[chosen], prompts[chosen])
    return np.concatenate(gathered(job, parts, len(starts)))

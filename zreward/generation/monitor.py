"""The monitor: whether a student may still be followed, from the student and data alone.

    better   P(picture better than the frozen generator's of the same prompt and seed), by the student's distributions
    unlike   share of pictures unlike the data that the student learned from (`familiar`)

Both with a 95 % bootstrap interval over prompts. Shapes: N pictures (a prompt's together), P prompts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zreward.common.errors import InputError
from zreward.common.runs import say
from zreward.data.images import pixel_hash
from zreward.data.record import Record
from zreward.data.record_cache import open_records
from zreward.distribution import ScoreDistribution
from zreward.evaluation.intervals import bootstrap
from zreward.generation.aggregate import dimension_weights
from zreward.generation.familiar import LEAST, Familiar
from zreward.generation.recipe import MonitorRecipe, OptimizeRecipe
from zreward.models.fingerprint import short_digest
from zreward.models.reward_model import RewardModel
from zreward.models.score_states import score_states


@dataclass(frozen=True)
class Monitor:
    """What an evaluation reads. Without `familiar`, pictures unlike the data are not counted."""

    student: RewardModel
    weights: Mapping[str, float]  # dimension -> weight in the reward; empty: all equal
    familiar: Familiar | None = None
    fingerprint: str | None = None  # of the known pictures

    def unlike(self, pixels: Tensor, prompts: Sequence[str], dimensions: Sequence[str], batch_size: int) -> Tensor:
        """Pixels (N, 3, H, W) in [0, 1] -> 1 for those unlike the data, (N,), on the CPU.

        Args:
            pixels: of N pictures.
            prompts: a text for each.
            dimensions: of the reward.
            batch_size: pictures in a batch.
        """
        assert self.familiar is not None, "asked of a monitor that has data"
        images = [self.student.fit(picture) for picture in pixels.to(self.student.device)]
        return self.familiar.unlike(score_states(self.student, images, prompts, dimensions, batch_size).flatten(1))

    def read(
        self, scores: ScoreDistribution, reference: ScoreDistribution, unlike: Tensor | None, each: int
    ) -> dict[str, float]:
        """The figures of an evaluation, each with the ends of its interval.

        Args:
            scores: of N pictures.
            reference: of the frozen generator's pictures of the same prompts and seeds.
            unlike: what `unlike` returned.
            each: pictures of a prompt.
        """
        found = with_interval("better", better(scores, reference, self.weights), each)
        return found if unlike is None else found | with_interval("unlike", unlike, each)


def load_monitor(recipe: OptimizeRecipe, student: RewardModel) -> Monitor:
    """The monitor of a recipe; a part of the records' pictures at a time, so that memory does not grow with the file.

    Raises:
        InputError: records that cannot be read or do not hold one picture each, too few of them.
    """
    weights, wanted, path = recipe.reward.aggregate.weights, recipe.monitor, recipe.monitor_data
    if path is None:
        say("monitor: no monitor.data, so pictures unlike the student's data are not counted")
        return Monitor(student, weights)
    (records, chosen), names = known_records(path, wanted), student.check_dimensions(recipe.reward.dimensions)
    size = recipe.optimizer.batch_size
    parts: list[Tensor] = []
    digests: list[list[str]] = []
    for start in range(0, len(chosen), size):
        some = [records[number] for number in chosen[start : start + size]]
        images, prompts = [record.open_image() for record in some], [record.prompt for record in some]
        digests += [[pixel_hash(image), prompt] for image, prompt in zip(images, prompts, strict=True)]
        parts.append(score_states(student, [student.open(image) for image in images], prompts, names, size))
    return Monitor(student, weights, Familiar.fit(torch.cat(parts).flatten(1), wanted.quantile), short_digest(digests))


def known_records(path: str, wanted: MonitorRecipe) -> tuple[Sequence[Record], list[int]]:
    """All records, and the numbers of those whose pictures count as known, chosen evenly; checked before the student sees one.

    Args:
        path: of the file.
        wanted: how many.

    Raises:
        InputError: records that cannot be read or do not hold one picture each, too few of them.
    """
    records = open_records(path)
    count = min(len(records), wanted.pictures)
    if count < LEAST:
        raise InputError(
            f"monitor.data {path}: {count} records, expected at least {LEAST}; name a larger file of records"
        )
    chosen = [number * len(records) // count for number in range(count)]
    for number in chosen:
        records[number].only_image("monitor.data")
    return records, chosen


def better(scores: ScoreDistribution, reference: ScoreDistribution, weights: Mapping[str, float]) -> Tensor:
    """P(better than the reference's picture), ties as half, mean over dimensions: (N,).

    Args:
        scores: of the pictures.
        reference: of the frozen generator's pictures of the same prompts and seeds.
        weights: dimension -> weight in the reward; empty: all equal.
    """
    return scores.prefers(reference) @ dimension_weights(weights, scores)


def with_interval(name: str, values: Tensor, each: int) -> dict[str, float]:
    """{name, name_low, name_high}: the mean of values (N,) and its interval over prompts.

    Args:
        name: of the figure.
        values: one for each picture.
        each: pictures of a prompt.
    """
    of_prompts_P = values.double().unflatten(0, (-1, each)).mean(1).numpy()
    found = bootstrap(lambda items, _: float(of_prompts_P[items].mean()), range(len(of_prompts_P)))
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def objection(recipe: MonitorRecipe, readings: Sequence[Mapping[str, float]]) -> tuple[str, str] | None:
    """What the monitor says of the last of its readings; None: go on.

    Args:
        recipe: its limits.
        readings: of all evaluations so far, the frozen generator's first.
    """
    last = readings[-1]
    if last.get("unlike_low", 0.0) > recipe.max_unlike:
        return (
            "unlike",
            f"{last['unlike']:.2f} ({last['unlike_low']:.2f} to {last['unlike_high']:.2f}) of the pictures are unlike "
            f"the student's data, surely more than {recipe.max_unlike:g}",
        )
    if len(readings) > 1 and last["better_high"] < 0.5:
        return (
            "better",
            f"pictures are worse than the frozen generator's: P(better) {last['better']:.2f} ({last['better_low']:.2f} to "
            f"{last['better_high']:.2f})",
        )
    return None

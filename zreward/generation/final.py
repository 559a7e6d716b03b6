"""What came of an optimisation: new pictures by the frozen and by the optimised generator, compared pair by pair.

Both generators are loaded from where anyone would load them, so what is measured is what was saved.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import lcm
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from zreward.common.files import write_json
from zreward.common.jobs import Job
from zreward.common.ranks import gathered, own_numbers
from zreward.distribution import ScoreDistribution
from zreward.generation.adaptation import load_optimized, load_pipeline
from zreward.generation.comparison import Comparison, Pairs, compare, read_pairs
from zreward.generation.drawn import distances, draw_all, list_pictures, own_seeds, write_pictures
from zreward.generation.evaluator import score_pixels
from zreward.generation.judges import load_judge, load_student
from zreward.generation.recipe import HOLDOUT, NO_JUDGE, OptimizeRecipe

T = TypeVar("T")


def measure_final(
    recipe: OptimizeRecipe, prompts: list[str], device: torch.device | str, job: Job | None = None
) -> tuple[Comparison, Pairs] | None:
    """Write `before`, `after` (pictures) and gsb.json into the run; None where the recipe asks for no judge.

    All processes of a launch call this together, each with its `job`. They share the prompts; all get everything.
    """
    final, run = recipe.final, Path(recipe.out)
    if final.judge == NO_JUDGE:
        return None
    part = _Part.of(job, prompts, own_seeds(len(prompts), final.seeds, first=20_000), recipe.optimizer.batch_size)
    sides = {side: _draw(side, recipe, part, device) for side in ("before", "after")}
    scores = _scores(sides, recipe, part, device)
    drawn = {side: part.mean(distances(pixels, final.seeds).T) for side, pixels in sides.items() if final.seeds > 1}
    if part.is_first:
        for side in sides:
            list_pictures(run / side, prompts, part.seeds)
    part.of_all([None] * len(part.own))  # the lists are there
    pairs = read_pairs(run / "before", run / "after")
    name = str(recipe.holdout) if final.judge == HOLDOUT else final.judge
    judge = load_judge(name, device, recipe.guards.holdout_reasoning)
    found = compare(replace(judge, name=final.judge), pairs, final.same, job=job)
    before, after = found.means()
    aggregate = recipe.reward.aggregate
    nothing = torch.empty(0)
    rewards = {side: part.mean(aggregate(scores[side], scores["before"]) if part.own else nothing) for side in sides}
    result: dict[str, Any] = found.verdict() | {
        f"{final.judge}_before": before,
        f"{final.judge}_after": after,
        # Undefined where all pictures of a prompt were alike to begin with.
        "diversity_ratio": drawn["after"] / drawn["before"] if drawn.get("before") else float("nan"),
        "reward_before": rewards["before"],
        "reward_after": rewards["after"],
        "by_dimension": {name: found.verdict(name) for name in found.dimensions},
        "pairs": len(pairs.prompts),
        "same_below": final.same,
        "seed": recipe.seed,
    }
    if part.is_first:
        write_json(run / "gsb.json", result)
    return found, pairs


@dataclass(frozen=True)
class _Part:
    """The prompts of one process: whole batches of pictures, so that what is drawn together does not depend on the processes."""

    job: Job | None
    prompts: list[str]  # of all
    seeds: list[tuple[int, ...]]  # of each prompt
    own: list[int]  # numbers of this process's prompts

    @classmethod
    def of(cls, job: Job | None, prompts: list[str], seeds: list[tuple[int, ...]], batch_size: int) -> _Part:
        each = len(seeds[0])
        return cls(job, prompts, seeds, own_numbers(job, len(prompts), lcm(batch_size, each) // each))

    @property
    def is_first(self) -> bool:
        return self.job is None or self.job.number == 1

    def of_all(self, values: Iterable[T]) -> list[T]:
        """One value for each own prompt -> for each prompt."""
        return gathered(self.job, dict(zip(self.own, values, strict=True)), len(self.prompts))

    def mean(self, values: Tensor) -> float:
        """Of the numbers (own prompts * K, ...) of all processes."""
        return torch.stack(self.of_all(values.tensor_split(len(self.own)) if self.own else [])).mean().item()


def _draw(side: str, recipe: OptimizeRecipe, part: _Part, device: torch.device | str) -> Tensor:
    """Own pictures of one generator, which is let go afterwards."""
    if not part.own:
        return torch.empty(0, 3, 1, 1)
    generator = load_pipeline(recipe.generator, device) if side == "before" else load_optimized(recipe, device)
    prompts, seeds = [part.prompts[n] for n in part.own], {n: part.seeds[n] for n in part.own}
    size, options = recipe.optimizer.batch_size, recipe.generator.options
    told = f"drawing, {side}"
    pixels = draw_all(generator, prompts, list(seeds.values()), recipe.generator.steps, size, told, **options)
    write_pictures(Path(recipe.out) / side, pixels, seeds)
    return pixels


def _scores(
    sides: Mapping[str, Tensor], recipe: OptimizeRecipe, part: _Part, device: torch.device | str
) -> dict[str, ScoreDistribution]:
    """The student's, of own pictures; it is let go afterwards."""
    if not part.own:
        return {}
    student = load_student(recipe, device)
    names = student.check_dimensions(recipe.reward.dimensions)
    asked = [part.prompts[n] for n in part.own for _ in range(recipe.final.seeds)]
    size = recipe.optimizer.batch_size
    return {side: score_pixels(student, pixels, asked, names, size) for side, pixels in sides.items()}

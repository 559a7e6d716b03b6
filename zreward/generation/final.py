"""What came of an optimisation: new pictures by the frozen and by the optimised generator, compared pair by pair.

Both generators are loaded from where anyone would load them, so what is measured is what was saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zreward.common.files import write_json
from zreward.distribution import ScoreDistribution
from zreward.generation.adaptation import load_optimized, load_pipeline
from zreward.generation.comparison import Comparison, Pairs, compare, read_pairs
from zreward.generation.drawn import diversity, draw_all, own_seeds, save_pictures
from zreward.generation.evaluator import score_pixels
from zreward.generation.judges import load_judge, load_student
from zreward.generation.recipe import HOLDOUT, NO_JUDGE, OptimizeRecipe


def measure_final(
    recipe: OptimizeRecipe, prompts: list[str], device: torch.device | str
) -> tuple[Comparison, Pairs] | None:
    """Write `before`, `after` (pictures) and gsb.json into the run; None where the recipe asks for no judge."""
    final, run = recipe.final, Path(recipe.out)
    if final.judge == NO_JUDGE:
        return None
    seeds = own_seeds(len(prompts), final.seeds, first=20_000)
    sides = {side: _draw(side, recipe, prompts, seeds, device) for side in ("before", "after")}
    scores = _scores(sides, recipe, prompts, device)
    drawn = {
        side: diversity(pixels, final.seeds) if final.seeds > 1 else float("nan") for side, pixels in sides.items()
    }
    pairs = read_pairs(run / "before", run / "after")
    name = str(recipe.holdout) if final.judge == HOLDOUT else final.judge
    judge = load_judge(name, device, recipe.guards.holdout_reasoning)
    found = compare(replace(judge, name=final.judge), pairs, final.same)
    before, after = found.means()
    aggregate = recipe.reward.aggregate
    rewards = {side: aggregate(scores[side], scores["before"]).mean().item() for side in scores}
    result: dict[str, Any] = found.verdict() | {
        f"{final.judge}_before": before,
        f"{final.judge}_after": after,
        # Undefined where all pictures of a prompt were alike to begin with.
        "diversity_ratio": drawn["after"] / drawn["before"] if drawn["before"] else float("nan"),
        "reward_before": rewards["before"],
        "reward_after": rewards["after"],
        "by_dimension": {name: found.verdict(name) for name in found.dimensions},
        "pairs": len(pairs.prompts),
        "same_below": final.same,
        "seed": recipe.seed,
    }
    write_json(run / "gsb.json", result)
    return found, pairs


def _draw(
    side: str, recipe: OptimizeRecipe, prompts: list[str], seeds: list[tuple[int, ...]], device: torch.device | str
) -> Tensor:
    """The pictures of one generator, which is let go afterwards."""
    generator = load_pipeline(recipe.generator, device) if side == "before" else load_optimized(recipe, device)
    size, options = recipe.optimizer.batch_size, recipe.generator.options
    pixels = draw_all(generator, prompts, seeds, recipe.generator.steps, size, f"drawing, {side}", **options)
    save_pictures(Path(recipe.out) / side, pixels, prompts, seeds)
    return pixels


def _scores(
    sides: Mapping[str, Tensor], recipe: OptimizeRecipe, prompts: list[str], device: torch.device | str
) -> dict[str, ScoreDistribution]:
    """The student's, which is let go afterwards."""
    student = load_student(recipe, device)
    names = student.check_dimensions(recipe.reward.dimensions)
    asked = [prompt for prompt in prompts for _ in range(recipe.final.seeds)]
    size = recipe.optimizer.batch_size
    return {side: score_pixels(student, pixels, asked, names, size) for side, pixels in sides.items()}

"""What a dry run of `zreward optimize` checks, before a pipeline is loaded and anything is drawn."""

from __future__ import annotations

from pathlib import Path

from zreward.common.errors import InputError
from zreward.generation.judges import load_frozen, load_student
from zreward.generation.monitor import known_records
from zreward.generation.prompts import load_prompts
from zreward.generation.recipe import NO_JUDGE, OptimizeRecipe
from zreward.models.dry_checks import check_free, is_small, warm_up_notes


def check_inputs(recipe: OptimizeRecipe) -> list[str]:
    """Sentences about what was checked. Raises the InputError that the run would start with."""
    run = Path(recipe.out)
    check_free(run)
    prompts = load_prompts(recipe.prompts, recipe.seed)
    held_out = load_prompts(recipe.held_out, recipe.seed + 1, set(prompts))
    both = set(prompts) & set(held_out)
    if both:
        raise InputError(
            f"held_out {recipe.held_out}: {len(both)} of its prompts are trained on, such as {min(both)!r}"
        )
    needed = recipe.guards.prompts + (recipe.final.prompts if recipe.final.judge != NO_JUDGE else 0)
    if len(held_out) < needed:
        raise InputError(
            f"held_out {recipe.held_out}: {len(held_out)} prompts, expected {needed} (guards.prompts and final.prompts); "
            "add prompts or lower these"
        )
    lines = [f"{len(prompts):,} prompts of {recipe.prompts}, {len(held_out):,} of {recipe.held_out}: none in both"]
    lines.append(_student(recipe))
    if recipe.monitor_data:
        _, known = known_records(recipe.monitor_data, recipe.monitor)
        lines.append(f"monitor.data {recipe.monitor_data}: {len(known):,} of its records are the known pictures")
    if recipe.holdout:
        small = is_small(recipe.holdout)
        if small:
            load_frozen(recipe.holdout, "cpu")
        lines.append(
            f"held-out judge {recipe.holdout}: {'loads' if small else 'not loaded: large, or not on this machine'}"
        )
    name = recipe.generator.name
    if Path(name).exists() and not (Path(name) / "model_index.json").is_file():
        raise InputError(f"{name}: no model_index.json in it; expected a diffusers pipeline")
    notes = warm_up_notes(recipe.optimizer.steps, recipe.optimizer.warmup_steps)
    return [*lines, f"{run}: free, and can be written", *notes]


def _student(recipe: OptimizeRecipe) -> str:
    if not is_small(recipe.student):
        return f"student {recipe.student}: not loaded: large, or not on this machine"
    student = load_student(recipe, "cpu")
    dimensions = student.check_dimensions(recipe.reward.dimensions)
    recipe.reward.aggregate.check(dimensions, len(student.rubric.scale))
    return (
        f"student {recipe.student}: loads; the reward is the {recipe.reward.aggregate.kind} of {', '.join(dimensions)}"
    )

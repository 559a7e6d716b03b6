"""The demo's last step: the world's generator follows the student's gradient, and the pixel oracle judges."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from zreward.common.config import load_config
from zreward.evaluation.report.sections import Section
from zreward.generation.comparison import compare, read_pairs
from zreward.generation.guards import Guards
from zreward.generation.optimize import optimize
from zreward.generation.pages import describe_ending, optimization_sections
from zreward.generation.recipe import OptimizeRecipe
from zreward.world.judge import oracle
from zreward.world.settings import recipe_file

SHORT = ("guards.every=20", "guards.prompts=32", "final.prompts=100")
"""A part of the whole recipe's budget; docs/results.md has the whole one's figures."""


def generation_recipe(student: Path, out: Path, seed: int) -> OptimizeRecipe:
    """recipes/world-refl.yaml with the demo's student, seed and smaller budget."""
    return load_config(
        OptimizeRecipe, recipe_file("world-refl"), [f"student={student}", f"out={out}", f"seed={seed}", *SHORT]
    )


def improve_generator(student: Path, out: Path, seed: int) -> list[Section]:
    """Run the recipe into `out`, or go on where it was cut off; what the report shows of it."""
    recipe = generation_recipe(student, out, seed)
    if not (out / "gsb.json").exists():
        print(f"\n== the generator follows the student ({recipe.optimizer.steps} steps)", flush=True)
        optimize(recipe, resume=(out / "recipe.yaml").exists())
    evaluations = Guards.from_dict(recipe.guards, json.loads((out / "looks.json").read_text())).evaluations
    pairs = read_pairs(out / "before", out / "after")
    found = compare(oracle(), pairs, recipe.final.same)
    ended = json.loads((out / "outcome.json").read_text())
    ending = describe_ending(ended["step"], ended["stopped_at"], ended["guard"], ended["message"], recipe.holdout)
    sections = optimization_sections(
        evaluations, sorted((out / "grids").glob("step-*.png")), ending, out, (found, pairs), shown=8
    )
    title = "A generator that follows the student's gradient"
    return [replace(sections[0], title=title), *sections[1:]]

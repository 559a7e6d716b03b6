"""`zreward train RECIPE --dry-run` runs one step of the real backbones' recipes on tiny random weights."""

from pathlib import Path

import pytest

from zreward.errors import InputError
from zreward.training.dry_run import architecture, dry_run
from zreward.training.recipe import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("name", ["qwen3.5-27b-gdso", "qwen3.5-9b-risd"])
def test_the_recipes_of_real_backbones_run_a_step(name):
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert f"dry run: {recipe.method}" in dry_run(recipe)


def test_qwen3_vl_runs_too():
    recipe = load_recipe(RECIPES / "qwen3.5-9b-risd.yaml", ["model.name=Qwen/Qwen3-VL-8B-Instruct"])
    assert "on qwen3_vl" in dry_run(recipe)


def test_an_unknown_architecture_is_named():
    with pytest.raises(InputError, match="llava"):
        architecture("llava-hf/llava-1.5-7b-hf")

"""Every recipe of commit 07f77a1 loads, with the values that it had there."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from tests.compatibility.conftest import WRITTEN
from zreward.common import registry
from zreward.common.config import load_config
from zreward.common.errors import InputError
from zreward.generation.recipe import OptimizeRecipe
from zreward.training.recipe import load_recipe

RECIPES = sorted(path.relative_to(WRITTEN / "recipes") for path in (WRITTEN / "recipes").rglob("*.yaml"))
NAMELESS = WRITTEN / "recipes" / "optimize-without-generator.yaml"
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture
def registered(monkeypatch):
    """What pyproject.toml declares, whatever the installed package's metadata says."""
    declared = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]
    monkeypatch.setattr(
        registry,
        "_registered",
        lambda group: {name: [EntryPoint(name, value, group)] for name, value in declared.get(group, {}).items()},
    )


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_it_loads_and_says_what_it_said(path, registered):
    file = WRITTEN / "recipes" / path
    raw = yaml.safe_load(file.read_text())
    recipe = load_config(OptimizeRecipe, file) if "student" in raw else load_recipe(file)
    raw.pop("base", None)
    check_values(raw, recipe.to_dict(), "")


def check_values(raw: dict, loaded: dict, prefix: str) -> None:
    for key, value in raw.items():
        if isinstance(value, dict):
            check_values(value, loaded[key], f"{prefix}{key}.")
        else:
            assert str(loaded[key]) == str(value) or float(loaded[key]) == float(value), f"{prefix}{key}"


def test_a_missing_generator_is_the_one_that_was_meant(registered, capsys):
    assert load_config(OptimizeRecipe, NAMELESS).generator.name == "world:generator"
    assert "generator.name is missing; using world:generator, as version 0.1 did" in capsys.readouterr().err


def test_a_run_of_such_a_recipe_is_the_same_run(registered):
    """Its recipe.yaml says the name, which the recipe file leaves out."""
    loaded = load_config(OptimizeRecipe, NAMELESS)
    named = replace(loaded, generator=replace(loaded.generator, name="world:generator"))
    assert loaded.to_dict() == named.to_dict()


def test_without_a_package_that_knows_it_the_name_is_asked_for(monkeypatch):
    installed = registry._registered
    monkeypatch.setattr(registry, "_registered", lambda group: {} if group == registry.DEFAULTS else installed(group))
    with pytest.raises(InputError, match=r"generator.name is missing; expected a folder or hub name"):
        load_config(OptimizeRecipe, NAMELESS)

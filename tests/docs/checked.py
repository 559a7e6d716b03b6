"""Lines of the guides that cannot run here: each is checked against what it names."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import typer
import yaml

from tests.docs.blocks import ROOT
from zreward.cli import main as cli
from zreward.common.config import load_config
from zreward.generation.recipe import OptimizeRecipe
from zreward.training.dry_run import dry_run
from zreward.training.recipe import load_recipe

NAMES = {"MODEL": "runs/demo/models/student"}
"""What stands for the reader's own name in a command."""


def pip(words: list[str]) -> str:
    assert words[0] == "install"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [extra for word in words for part in re.findall(r"\[(.*?)\]", word) for extra in part.split(",")]
    unknown = [extra for extra in extras if extra not in project["optional-dependencies"]]
    named = [word for word in words[1:] if not word.startswith("-") and not (ROOT / word).is_file()]
    assert not unknown and all("zreward" in word or re.fullmatch(r"\.(\[.*\])?", word) for word in named), words
    return f"the extras {extras} are in pyproject.toml"


def make(words: list[str]) -> str:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [word for word in words if "=" not in word]
    assert named and set(named) <= set(targets), words
    return f"{named} are in the Makefile"


def accelerate(words: list[str]) -> str:
    """Several GPUs: the configuration is there, and the recipe does a step with tiny random weights."""
    module = words.index("zreward.cli")
    assert words[0] == "launch" and words[module - 1] == "-m"
    if "--config_file" in words:
        assert yaml.safe_load(Path(words[words.index("--config_file") + 1]).read_text())["num_processes"]
    command, recipe, *overrides = words[module + 1 :]
    if command == "optimize":
        load_config(OptimizeRecipe, NAMES.get(recipe, recipe), overrides)
        return "its recipe loads"
    return dry_run(load_recipe(recipe, overrides))


def script(words: list[str]) -> str:
    """A benchmark: it compiles, and knows the options that are named."""
    source = Path(words[0]).read_text()
    compile(source, words[0], "exec")
    options = [word for word in words if word.startswith("--")]
    assert all(option in source for option in options), words
    return f"compiles, and names {options or 'no options'}"


def plan(words: list[str]) -> str:
    """`zreward reproduce` takes hours: what it would do is worked out."""
    command = typer.main.get_command(cli.app).commands["reproduce"]  # type: ignore[attr-defined]
    from zreward.world.reproduce import StudyPlan

    with command.make_context("reproduce", list(words)) as context:
        given = context.params
    study = StudyPlan(
        Path(given["out"]),
        given["seeds"],
        given["world_seed"],
        parts=tuple(given["only"].split(",")),
        overrides=tuple(given["overrides"] or ()),
        chosen=tuple((given["methods"] or "").split(",")) if given["methods"] else (),
    )
    assert study.methods
    return f"planned: {len(study.methods)} methods, {study.seeds} seeds"

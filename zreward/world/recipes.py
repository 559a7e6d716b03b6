"""The world's recipes (inside an installed package, or at the top of a source checkout) and how its models are asked."""

from __future__ import annotations

from pathlib import Path

from zreward.common.errors import InputError

_PACKAGE = Path(__file__).parents[1]

REASONING_BATCH, DIRECT_BATCH = 128, 32  # images at a time
TEMPERATURE = 0.5  # of traces outside training: one sampled trace has to stand for the model's view (chosen on dev)


def recipe_file(name: str) -> Path:
    """The path of a shipped recipe, for example "world-gdso"."""
    for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "recipes"):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise InputError(f"recipe {name!r} is not installed; expected {name}.yaml in the package's recipes folder")

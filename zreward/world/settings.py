"""The world's recipes, and how its models are asked."""

from __future__ import annotations

from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"
REASONING_BATCH, DIRECT_BATCH = 128, 32  # images at a time
TEMPERATURE = 0.5  # of traces outside training: one sampled trace has to stand for the model's view (chosen on dev)


def recipe_file(name: str) -> Path:
    """The path of a shipped recipe, for example "world-gdso"."""
    return RECIPES / f"{name}.yaml"

"""A miniature world on disk and recipes that train on it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zreward.config import config_from_dict
from zreward.training.recipe import Recipe
from zreward.world.base_models import make_base
from zreward.world.dataset import WorldSize, make_world


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory) -> dict[str, Path]:
    """Paths of train, dev, pool and test records, and of an untrained base model under "base"."""
    folder = tmp_path_factory.mktemp("world")
    paths = make_world(folder, 0, WorldSize(train=(6, 2), dev=(3, 3), pool=(6, 2), test=(3, 3)), rated_dimensions=4)
    base = make_base("small")
    base.max_trace_tokens = 6
    base.save_pretrained(folder / "base")
    return paths | {"base": folder / "base"}


@pytest.fixture
def make_recipe(tiny_world, tmp_path):
    """make_recipe(method, steps=2, **dotted overrides with __ for dots) -> Recipe writing to tmp_path/METHOD."""

    def make(method: str, steps: int = 2, **overrides: Any) -> Recipe:
        raw: dict[str, Any] = {
            "method": method,
            "out": str(tmp_path / method),
            "data": {"train": str(tiny_world["train"])},
            "model": {"name": str(tiny_world["base"])},
            "optimizer": {"steps": steps, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 0},
            "rollout": {"group_size": 2},
        }
        for key, value in overrides.items():
            *parents, last = key.split("__")
            place = raw
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        return config_from_dict(Recipe, raw)

    return make

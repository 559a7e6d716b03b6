"""Tiny records on disk, an untrained model, and recipes that train on them in seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import zreward.models.attention
import zreward.models.sharing
from tests.tiny import tiny_model, tiny_records, with_keys
from tests.training.idle_trainer import Idle
from zreward.common.config import config_from_dict
from zreward.common.runs import RunDirectory
from zreward.data.writing import save_records
from zreward.models.shared_prefix import SharedPrefix
from zreward.models.sharing import SharedRows
from zreward.training.recipe import Recipe

SETS = {"train": (6, 2), "dev": (3, 3), "pool": (6, 2), "test": (3, 3)}
"""Prompts, and pictures of each."""


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> dict[str, Path]:
    """Paths of train, dev, pool and test records, and of an untrained model under "base"."""
    folder = tmp_path_factory.mktemp("data")
    paths = {
        name: save_records(tiny_records(*size, seed=seed), folder / f"{name}.jsonl")
        for seed, (name, size) in enumerate(SETS.items())
    }
    tiny_model(trace_tokens=6).save_pretrained(folder / "base")
    return paths | {"base": folder / "base"}


@pytest.fixture
def make_recipe(tiny_data, tmp_path):
    """make_recipe(method, steps=2, **dotted overrides with __ for dots) -> Recipe writing to tmp_path/METHOD."""

    def make(method: str, steps: int = 2, **overrides: Any) -> Recipe:
        raw: dict[str, Any] = {
            "method": method,
            "out": str(tmp_path / method),
            "data": {"train": str(tiny_data["train"])},
            "model": {"name": str(tiny_data["base"])},
            "optimizer": {"steps": steps, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 0},
            "rollout": {"group_size": 2},
        }
        return config_from_dict(Recipe, with_keys(raw, overrides))

    return make


@pytest.fixture
def shared_passes(monkeypatch) -> list[SharedRows]:
    """How the rows of every pass from now on were cut. The shortest opening is worth a pass of its own, and
    the shortest prefix is left where it is."""
    cuts: list[SharedRows] = []
    monkeypatch.setattr(zreward.models.sharing, "SHORT_OPENING", 2)
    monkeypatch.setattr(zreward.models.attention, "LONG", 1)
    whole = SharedPrefix.cut

    def cut(*args: Any, **options: Any) -> SharedRows | None:
        rows = whole(*args, **options)
        cuts.extend([rows] if rows is not None else [])
        return rows

    monkeypatch.setattr(SharedPrefix, "cut", cut)
    return cuts


@pytest.fixture
def make_idle(make_recipe, tmp_path):
    """make_idle(callbacks, **options of the recipe) -> a trainer of three items that trains nothing."""

    def make(callbacks=(), **options: Any) -> Idle:
        recipe = replace(make_recipe("sft", steps=6), **options)
        return Idle(tiny_model(), recipe, RunDirectory(tmp_path / "run"), [1, 2, 3], callbacks)

    return make

"""Recipes that are planned: tiny models on disk, and machines for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_model, tiny_records, with_keys
from zreward.common.config import config_from_dict
from zreward.data.writing import save_records
from zreward.planning.cards import CARDS
from zreward.planning.engines import Engine
from zreward.planning.plan import Machines
from zreward.training.recipe import Recipe

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "layers": 4,
    "linear_layers": 0,
    "vision_hidden_size": 48,
    "vision_intermediate_size": 96,
    "vision_layers": 3,
}
RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A tiny model of attention layers alone, and records."""
    place = tmp_path_factory.mktemp("planned")
    tiny_model(trace_tokens=6, **SIZES).save_pretrained(place / "model")
    save_records(tiny_records(6, 2, seed=0), place / "records.jsonl")
    return place


@pytest.fixture
def recipe_of(folder, tmp_path):
    """recipe_of(method, **dotted keys with __ for dots) -> Recipe of the tiny model."""

    def make(method: str = "sft", **keys: Any) -> Recipe:
        raw: dict[str, Any] = {
            "method": method,
            "out": str(tmp_path / "run"),
            "data": {"train": str(folder / "records.jsonl")},
            "model": {"name": str(folder / "model")},
            "optimizer": {"steps": 1, "batch_size": 2, "warmup_steps": 0},
        }
        return config_from_dict(Recipe, with_keys(raw, keys))

    return make


@pytest.fixture
def machines_of():
    """machines_of(engine, gpus, memory in bytes) -> H100s with that memory."""

    def make(engine: str = "none", gpus: int = 1, memory: int | None = None) -> Machines:
        card = CARDS["h100"]
        return Machines(card, memory or card.memory, Engine(engine, gpus))

    return make

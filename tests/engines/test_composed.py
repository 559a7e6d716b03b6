"""A model of pretrained parts in two processes: one of them composes it, its projector and adapter take the steps of one process.

A projector that is no part of what the engine sums or splits, a cache that is written by one process only, or an adapter that is
trained during the projector's steps would change a loss or a norm.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.engines.conftest import assert_same_steps, recipe_of
from tests.engines.ranks import steps_of
from tests.models.parts import write_language, write_tower
from tests.tiny import tiny_rubric
from zreward.training.run import train

WHOLE = ("ddp", "zero2")
"""Engines that leave weights whole."""
ADAPTED = {"lora_rank": 2, "freeze_vision": True, "train_projector": True}


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, Any]:
    """What `model` says in a recipe."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "rubric.yaml").write_text(yaml.safe_dump(tiny_rubric().to_dict()))
    vision, language = write_tower("clip", folder / "clip"), write_language(folder / "language")
    composed = {"vision": str(vision), "language": str(language), "class_token": True}
    return {"name": "compose", "compose": composed, "rubric": str(folder / "rubric.yaml"), "image_pool": 2}


@pytest.mark.parametrize(
    "engine", ["ddp", *(pytest.param(e, marks=pytest.mark.slow) for e in ("fsdp2", "zero2", "zero3"))]
)
def test_a_composed_model_takes_the_steps_of_one_process(launcher, folder, parts, tmp_path, engine):
    steps, found = 2, []  # of the projector alone, then with the adapter
    for ranks in (1, 2):
        place = tmp_path / str(ranks)
        model = parts | ADAPTED | ({"image_cache": str(place / "cache")} if engine in WHOLE else {})
        optimizer = {"projector_steps": 1, "projector_learning_rate": 0.003}
        more = {"model": model, "optimizer": optimizer, "data": {"group_dimensions": True}}
        recipe = recipe_of(folder, "sft", place / "sft", ranks, steps, **more)
        if ranks == 1:
            train(recipe)
        else:
            launcher.train({"sft": recipe}, engine, 2, place / "job")
        found.append(steps_of(recipe))
    assert_same_steps(found[1], found[0], 1e-4)


def test_a_cache_of_features_is_refused_where_the_tower_is_split(launcher, folder, parts, tmp_path):
    """Before anything is composed or loaded."""
    model = parts | ADAPTED | {"image_cache": str(tmp_path / "cache")}
    recipe = recipe_of(folder, "sft", tmp_path / "sft", 2, 2, model=model)
    for code, log in launcher.launch({"sft": recipe}, "fsdp2", 2, tmp_path / "job"):
        assert code != 0 and "launch with DDP or ZeRO-2" in log
    assert not (tmp_path / "sft" / "base").exists()

"""Several processes train as one: losses and gradient norms are those of one process with the same global batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engines.ranks import ENGINES, steps_of, train_together
from tests.tiny import COMPARISON, sharpen, tiny_model, tiny_records
from zreward.common.config import config_from_dict
from zreward.data import load_records
from zreward.data.writing import save_records
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import METHODS, Recipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label

GLOBAL_BATCH = 4
LORA = {"lora_rank": 2}
CASES: dict[str, dict[str, Any]] = {
    "sft": {"data": {"group_dimensions": True}},
    "rewarddance": {"model": LORA},
    "rewarddance-pairwise": {},
    "risd": {"model": LORA},
    "grpo": {"rollout": {"reward_from": "parsed", "updates_per_rollout": 2, "clip": 0.05}},
    "gdso": {"rollout": {"sequences_per_forward": 3}},
    "opd": {"model": LORA},
}
"""Every method once, full weights and LoRA, with what makes several backward or optimizer passes of a step."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Records, an untrained model with opinions, another one, and the targets that it writes."""
    place = tmp_path_factory.mktemp("engines")
    save_records(tiny_records(8, 2, seed=0), place / "train.jsonl")
    save_records(tiny_records(2, 2, seed=1), place / "dev.jsonl")
    sharpen(tiny_model(trace_tokens=5), 4).save_pretrained(place / "base")
    sharpen(tiny_model(trace_tokens=5, seed=7), 4).save_pretrained(place / "teacher")
    teacher = RewardModel.from_pretrained(place / "teacher")
    label(teacher, "teacher", load_records(place / "train.jsonl"), place / "targets", LabelOptions(traces=1))
    return place


def recipe_of(folder: Path, method: str, out: Path, ranks: int, steps: int, **more: Any) -> Recipe:
    """With so many ranks, the global batch stays as it is."""
    accumulation = more.pop("accumulation", 1)
    raw: dict[str, Any] = {
        "method": method,
        "out": str(out),
        "data": {"train": str(folder / "train.jsonl"), "dev": str(folder / "dev.jsonl")},
        "model": {"name": str(folder / "base")},
        "optimizer": {"steps": steps, "learning_rate": 1e-4, "warmup_steps": 0, "gradient_accumulation": accumulation},
        "rollout": {"group_size": 2},
        # Adam divides by a gradient's size: without this, gradients that are rounding alone would move weights.
        "trainer": {"use_cpu": True, "adam_epsilon": 1e-4},
        "eval_every": 2,
        "eval_temperature": 0,
    }
    raw["optimizer"]["batch_size"] = GLOBAL_BATCH // ranks // accumulation
    if method in ("risd", "rewarddance"):
        raw["data"]["targets"] = str(folder / "targets")
    if method == "opd":
        raw["rollout"]["teacher"] = str(folder / "teacher")
    for part, values in more.items():
        raw[part] = {**raw.get(part, {}), **values} if isinstance(values, dict) else values
    recipe = config_from_dict(Recipe, raw)
    return replace(recipe, comparison=COMPARISON) if method == "rewarddance-pairwise" else recipe


def assert_same_steps(found: list[dict], expected: list[dict], tolerance: float) -> None:
    assert len(found) == len(expected) > 0
    for step, (one, other) in enumerate(zip(found, expected, strict=True), 1):
        for name in ("loss", "grad_norm", "dev_plcc"):
            assert one[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance), (step, name)


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    """The steps of a recipe in one process."""
    kept: dict[Any, list[dict]] = {}

    def steps(method: str, count: int, **more: Any) -> list[dict]:
        key = (method, count, str(more))
        if key not in kept:
            recipe = recipe_of(folder, method, tmp_path_factory.mktemp("alone") / method, 1, count, **more)
            train(recipe)
            kept[key] = steps_of(recipe)
        return kept[key]

    return steps


@pytest.fixture(scope="module", params=ENGINES)
def together(request, folder, tmp_path_factory) -> dict[str, list[dict]]:
    """The steps of every case in two processes, trained one after another: starting them takes longer than training."""
    out = tmp_path_factory.mktemp(request.param)
    recipes = {name: recipe_of(folder, name, out / name, 2, 4, **more) for name, more in CASES.items()}
    train_together(recipes, request.param, 2, out / "job")
    return {name: steps_of(recipe) for name, recipe in recipes.items()}


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_take_the_steps_of_one(together, alone, method):
    assert_same_steps(together[method], alone(method, 4, **CASES[method]), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
def test_twenty_steps_in_two_and_four_processes(folder, alone, tmp_path, ranks, engine, accumulation, adapter):
    if accumulation * ranks > GLOBAL_BATCH:
        pytest.skip("the global batch has no room for it")
    model = LORA if adapter else {}
    recipes = {
        name: recipe_of(folder, name, tmp_path / name, ranks, 20, model=model, accumulation=accumulation)
        for name in METHODS
    }
    train_together(recipes, engine, ranks, tmp_path / "job")
    for name, recipe in recipes.items():
        expected = alone(name, 20, model=model)
        assert_same_steps(steps_of(recipe), expected, 1e-4)

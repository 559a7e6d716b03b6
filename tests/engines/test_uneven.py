"""The last batch of an epoch, where items are not divisible by processes: as in one process, no item counts twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engines.conftest import assert_same_steps, recipe_of
from tests.engines.ranks import steps_of
from tests.tiny import tiny_records
from zreward.data import load_records, record_preferences, save_preferences, save_records
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import METHODS
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label

STEPS = 4
CASES: dict[str, dict[str, Any]] = {
    "sft": {"data": {"group_dimensions": True}},  # the last batch has 3 groups for two processes of 2
    "rewarddance": {"data": {"dimensions": ["realism"], "train_records": 5}},  # 1 item: none for the second process
    "rewarddance-pairwise": {"data": {"group_dimensions": True}, "model": {"lora_rank": 2}},
    "risd": {"data": {"group_dimensions": False, "dimensions": ["realism"]}, "accumulation": 2},
    "preference": {"data": {"group_dimensions": True}},
    "grpo": {
        "data": {"train_records": 3, "dimensions": ["realism"]},
        "rollout": {"updates_per_rollout": 2, "clip": 0.05},
    },
    "gdso": {"data": {"train_records": 3, "dimensions": ["realism"]}, "rollout": {"sequences_per_forward": 3}},
    "opd": {"data": {"train_records": 3, "dimensions": ["realism"]}, "accumulation": 2},
}
"""Roll-outs leave an incomplete batch out, unless there is no complete one: 3 pairs, or records, for a global batch of 4."""

METRICS = {"grpo": ("reward", "trace_tokens"), "opd": ("trace_tokens", "truncated")}


@pytest.fixture(scope="module")
def uneven(folder, tmp_path_factory):
    """Seven records of three prompts."""
    place = tmp_path_factory.mktemp("uneven")
    save_records([*tiny_records(1, 3, seed=3), *tiny_records(2, 2, seed=4)], place / "train.jsonl")
    save_preferences(record_preferences(load_records(place / "train.jsonl")), place / "votes.jsonl")
    for name in ("base", "teacher"):
        (place / name).symlink_to(folder / name)
    teacher = RewardModel.from_pretrained(place / "teacher")
    label(teacher, "teacher", load_records(place / "train.jsonl"), place / "targets", LabelOptions(traces=1))
    return place


@pytest.fixture(scope="module")
def alone(uneven, tmp_path_factory) -> dict[str, list[dict]]:
    out, steps = tmp_path_factory.mktemp("alone"), {}
    for name, more in CASES.items():
        recipe = recipe_of(uneven, name, out / name, 1, STEPS, **more)
        train(recipe)
        steps[name] = steps_of(recipe)
    return steps


@pytest.mark.parametrize(
    ("engine", "methods"),
    [
        ("ddp", ("sft", "gdso")),
        ("fsdp2", ("sft", "gdso")),
        *(pytest.param(name, METHODS, marks=pytest.mark.slow) for name in ("ddp", "fsdp2", "zero2", "zero3")),
    ],
)
def test_an_uneven_last_batch_is_that_of_one_process(launcher, uneven, alone, tmp_path, engine, methods):
    recipes = {name: recipe_of(uneven, name, tmp_path / name, 2, STEPS, **CASES[name]) for name in methods}
    launcher.train(recipes, engine, 2, tmp_path / "job")
    for name, recipe in recipes.items():
        found = steps_of(recipe)
        assert_same_steps(found, alone[name], 1e-4)
        for metric in METRICS.get(name, ()):
            assert [step[metric] for step in found] == pytest.approx([step[metric] for step in alone[name]], 1e-4)

"""What tests of several processes share: records, models and targets to train on, and the process that forks ranks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engines.ranks import Launcher
from tests.tiny import COMPARISON, sharpen, tiny_model, tiny_records
from zreward.common.config import config_from_dict
from zreward.data import load_records, record_preferences, save_preferences
from zreward.data.writing import save_records
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import Recipe
from zreward.training.targets import LabelOptions, label

GLOBAL_BATCH = 4


@pytest.fixture(scope="session")
def launcher():
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Records, an untrained model with opinions, another one, and the targets that it writes."""
    place = tmp_path_factory.mktemp("engines")
    save_records(tiny_records(8, 2, seed=0), place / "train.jsonl")
    save_preferences(record_preferences(tiny_records(8, 2, seed=0)), place / "votes.jsonl")
    save_records(tiny_records(2, 3, seed=1)[1:], place / "dev.jsonl")
    sharpen(tiny_model(trace_tokens=5), 4).save_pretrained(place / "base")
    sharpen(tiny_model(trace_tokens=5, seed=7), 4).save_pretrained(place / "teacher")
    teacher = RewardModel.from_pretrained(place / "teacher")
    label(teacher, "teacher", load_records(place / "train.jsonl"), place / "targets", LabelOptions(traces=1))
    return place


def recipe_of(folder: Path, method: str, out: Path, ranks: int, steps: int, **more: Any) -> Recipe:
    """With so many ranks, the global batch stays as it is.

    `dev=True`: with a dev curve, which takes longer than the steps of such small runs.
    """
    accumulation, dev = more.pop("accumulation", 1), more.pop("dev", False)
    raw: dict[str, Any] = {
        "method": method,
        "out": str(out),
        "data": {"train": str(folder / "train.jsonl")},
        "model": {"name": str(folder / "base")},
        "optimizer": {"steps": steps, "learning_rate": 1e-4, "warmup_steps": 0, "gradient_accumulation": accumulation},
        "rollout": {"group_size": 2},
        # Adam divides by a gradient's size: without this, gradients that are rounding alone would move weights.
        "trainer": {"use_cpu": True, "adam_epsilon": 1e-4},
    }
    if dev:
        raw["data"]["dev"] = str(folder / "dev.jsonl")
        # Five records are three batches, the last of one: no two processes have equally much.
        raw |= {"eval_every": 2, "eval_temperature": 0, "eval_batch_size": 2}
    raw["optimizer"]["batch_size"] = GLOBAL_BATCH // ranks // accumulation
    if method in ("risd", "rewarddance"):
        raw["data"]["targets"] = str(folder / "targets")
    if method == "preference":
        raw["data"] |= {"train": str(folder / "votes.jsonl"), "rated": str(folder / "train.jsonl")}
    if method == "opd":
        raw["rollout"]["teacher"] = str(folder / "teacher")
    for part, values in more.items():
        raw[part] = {**raw.get(part, {}), **values} if isinstance(values, dict) else values
    recipe = config_from_dict(Recipe, raw)
    return replace(recipe, comparison=COMPARISON) if method == "rewarddance-pairwise" else recipe


def zero3_environment(folder: Path) -> dict[str, str]:
    """DeepSpeed splits weights as small as these only where it is told to, and frees them as soon as it may."""
    zero = {
        f"stage3_{name}": 0 for name in ("param_persistence_threshold", "max_live_parameters", "max_reuse_distance")
    }
    zero |= {"stage": 3, "stage3_gather_16bit_weights_on_model_save": True}
    batch = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    said = dict.fromkeys(batch, "auto") | {"zero_optimization": zero, "zero_allow_untested_optimizer": True}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zero.json").write_text(json.dumps(said))
    return {"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(folder / "zero.json")}


def assert_same_steps(
    found: list[dict], expected: list[dict], tolerance: float, names: Sequence[str] = ("loss", "grad_norm")
) -> None:
    assert len(found) == len(expected) > 0
    for step, (one, other) in enumerate(zip(found, expected, strict=True), 1):
        for name in names:
            assert one[name] == pytest.approx(other[name], rel=tolerance, abs=tolerance), (step, name)

"""A step of each trainer on a GPU in bfloat16: weights move, figures are finite, what is saved is scored."""

from __future__ import annotations

import math

import pytest
import torch

from tests.tiny import noise_pictures, tiny_model, tiny_records
from zreward.common.config import config_from_dict
from zreward.common.runs import read_metrics
from zreward.data.writing import save_records
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import Recipe
from zreward.training.run import train


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("sft", {}),
        ("sft", {"model": {"lora_rank": 2}}),
        ("gdso", {"rollout": {"group_size": 2, "beta": 0.1, "updates_per_rollout": 2}}),
        ("gdso", {"rollout": {"group_size": 2}, "optimizer": {"gradient_checkpointing": True}}),
    ],
    ids=["sft", "sft, adapter", "gdso, kl, two updates", "gdso, checkpointing"],
)
def test_two_steps_in_bfloat16(method, changes, tmp_path):
    base = tiny_model(trace_tokens=4)
    base.save_pretrained(tmp_path / "base")
    raw = {
        "method": method,
        "out": str(tmp_path / "run"),
        "data": {"train": str(save_records(tiny_records(2, 2, seed=0), tmp_path / "train.jsonl"))},
        "model": {"name": str(tmp_path / "base")} | changes.get("model", {}),
        "optimizer": {"steps": 2, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 0}
        | changes.get("optimizer", {}),
        "rollout": changes.get("rollout", {}),
        "save_every": 2,
        "trainer": {"bf16": True},
    }
    folder = train(config_from_dict(Recipe, raw))
    rows = [row for row in read_metrics(tmp_path / "run") if "loss" in row]
    assert len(rows) == 2 and all(math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]) for row in rows)
    assert rows[0]["grad_norm"] > 0
    trained = RewardModel.from_pretrained(folder, device="cpu")
    picture = noise_pictures(1)
    before, after = (model.score(picture, "a red circle").probs for model in (base, trained))
    assert torch.isfinite(after).all() and not torch.equal(before, after)

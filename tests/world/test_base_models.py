"""What the shipped base models promise, which no random model can: they were trained."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import noise_pictures
from zreward.common.config import config_from_dict
from zreward.common.runs import read_metrics
from zreward.training.recipe import Recipe
from zreward.training.run import train
from zreward.world.base_models import load_base
from zreward.world.dataset import WorldSize, make_world


@pytest.mark.slow
def test_bfloat16_scores_depend_little_on_the_batch():
    """What docs/guides/scoring.md promises: expected scores within 0.02 points of each other, and of float32's."""
    shown = noise_pictures(32, ((32, 32), (40, 24), (16, 48), (64, 64)))
    whole, half = load_base("large"), load_base("large", dtype="bfloat16")
    prompts = ["a red circle", "a small blue cross left of a large green square"] * 16
    expected = half.score(shown, prompts).mean
    alone = torch.cat([half.score([picture], prompt).mean for picture, prompt in zip(shown, prompts, strict=True)])
    assert (expected - alone).abs().max() < 0.02
    assert (expected - whole.score(shown, prompts).mean).abs().max() < 0.02


@pytest.mark.slow
def test_opd_approaches_its_teacher(tmp_path):
    """The small model, a few steps behind the large one: its reverse KL per token falls."""
    size = WorldSize(train=(6, 2), dev=(1, 2), pool=(1, 2), test=(1, 2))
    raw = {
        "method": "opd",
        "out": str(tmp_path / "run"),
        "data": {"train": str(make_world(tmp_path / "world", 0, size, rated_dimensions=4)["train"])},
        "model": {"name": "world:small"},
        "rollout": {"teacher": "world:large", "group_size": 2},
        "optimizer": {"steps": 40, "batch_size": 8, "learning_rate": 3e-4, "warmup_steps": 0},
    }
    train(config_from_dict(Recipe, raw))
    gaps = [row["reverse_kl"] for row in read_metrics(tmp_path / "run") if "reverse_kl" in row]
    assert sum(gaps[-10:]) < 0.8 * sum(gaps[:10])

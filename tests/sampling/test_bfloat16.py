"""A model with linear-attention layers in bfloat16, which is what vLLM's CPU kernels for them take: a smoke test.

Numbers of three digits: probabilities agree roughly. An adapter on linear-attention layers, where vLLM would load it and change
nothing, is merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.sampling.models import OPTIONS, vllm_model
from tests.tiny import tiny_records
from zreward.common.config import config_from_dict
from zreward.common.runs import RunDirectory
from zreward.data.writing import save_records
from zreward.training.recipe import Recipe
from zreward.training.rollout import RolloutTrainer
from zreward.training.run import build_trainer, load_model

LINEAR = {"hidden_size": 128, "heads": 2, "linear_layers": 1}
"""Heads of 64."""


@pytest.fixture(scope="module", params=[None, 4], ids=["full", "lora"])
def trained(request, tmp_path_factory) -> Iterator[RolloutTrainer]:
    """After two steps of GDSO."""
    folder = tmp_path_factory.mktemp("bf16")
    model = vllm_model("qwen3_5", **LINEAR)
    model.backbone.base.to(torch.bfloat16)
    model.save_pretrained(folder / "base")
    wanted: dict[str, Any] = {"name": str(folder / "base"), "dtype": "bfloat16"}
    raw: dict[str, Any] = {
        "method": "gdso",
        "out": str(folder / "run"),
        "data": {"train": str(save_records(tiny_records(6, 2, seed=0), folder / "train.jsonl"))},
        "model": wanted | ({"lora_rank": request.param, "freeze_vision": True} if request.param else {}),
        "optimizer": {"steps": 2, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 0},
        "rollout": {"group_size": 2, "engine": "vllm"},
        "vllm": vars(OPTIONS) | {"tolerance": 0.1},
    }
    recipe = config_from_dict(Recipe, raw)
    trainer = build_trainer(recipe, RunDirectory(Path(recipe.out)), load_model(recipe))
    trainer.prepare_device()
    assert isinstance(trainer, RolloutTrainer)
    trainer.train()
    yield trainer
    trainer.sampler.close()


def test_two_steps_run_and_say_how_far_the_engine_is_off(trained):
    steps = [entry for entry in trained.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in steps] == [1, 2]
    for entry in steps:
        assert 0 < entry["engine_difference"] < 0.1
        assert 0 < entry["sampler_difference"] < 0.5
        assert entry["loss"] == pytest.approx(entry["loss"])  # a number


def test_an_adapter_on_linear_attention_is_merged(trained):
    assert trained.sampler._rank is None and trained.sampler.engine._adapter is None

"""Where an engine shards the weights: a head of its own, and frozen weights when a run is gone on with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.engines.conftest import assert_same_steps, recipe_of
from tests.engines.ranks import steps_of
from tests.tiny import sharpen, tiny_model
from zreward.models.reward_model import RewardModel
from zreward.training.run import train


@pytest.mark.parametrize("engine", ["fsdp2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_a_head_of_its_own_is_trained(launcher, folder, tmp_path, engine):
    """The other models of these tests tie it to the embeddings."""
    model = sharpen(tiny_model(), 4)
    base = model.backbone.base
    for config in (base.config, base.config.get_text_config()):
        config.tie_word_embeddings = False
    base.lm_head.weight = torch.nn.Parameter(base.lm_head.weight.detach().flip(0))
    model.save_pretrained(tmp_path / "untied")
    again = RewardModel.from_pretrained(tmp_path / "untied").backbone.base
    assert not torch.equal(again.lm_head.weight, again.get_input_embeddings().weight)
    more = {"model": {"name": str(tmp_path / "untied")}}
    alone, together = (
        {method: recipe_of(folder, method, tmp_path / f"{method}-{n}", n, 3, **more) for method in ("sft", "gdso")}
        for n in (1, 2)
    )
    launcher.train(together, engine, 2, tmp_path / "job")
    for method, recipe in alone.items():
        train(recipe)
        assert_same_steps(steps_of(together[method]), steps_of(recipe), 1e-4)


@pytest.mark.parametrize("engine", ["fsdp2", pytest.param("zero3", marks=pytest.mark.slow)])
def test_a_run_with_frozen_weights_is_gone_on_with(launcher, folder, tmp_path, engine):
    more = {"model": {"lora_rank": 2}, "save_every": 2, "keep_checkpoints": 2}
    recipe = recipe_of(folder, "sft", tmp_path / "run", 2, 4, **more)
    launcher.train({"run": recipe}, engine, 2, tmp_path / "job")
    expected = steps_of(recipe)
    run = Path(recipe.out)
    shutil.rmtree(run / "model")
    launcher.train({"run": recipe}, engine, 2, tmp_path / "job", resume=True)  # from the last step: nothing is trained
    assert (run / "model" / "adapter_model.safetensors").exists() and steps_of(recipe) == expected
    for late in (run / "model", run / "checkpoints" / "checkpoint-4"):
        shutil.rmtree(late)
    launcher.train({"run": recipe}, engine, 2, tmp_path / "job", resume=True)
    assert_same_steps(steps_of(recipe), expected, 1e-4)

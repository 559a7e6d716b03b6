"""Where an engine shards the weights, the first process reads them; the others have none until the engine hands them over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.engines.conftest import assert_same_steps, recipe_of
from tests.engines.ranks import steps_of
from tests.tiny import tiny_model
from zreward.models.reward_model import RewardModel
from zreward.training.run import train

LARGE = {"hidden_size": 512, "intermediate_size": 6000, "heads": 4}  # of 85 MB: far above what else loading takes


@pytest.fixture(scope="module")
def large(folder) -> tuple[Path, int]:
    """A folder and how many bytes its weights have."""
    model = tiny_model(trace_tokens=5, **LARGE)
    model.save_pretrained(folder / "large")
    return folder / "large", sum(weight.numel() * weight.element_size() for weight in model.parameters())


def resident_after_loading(log: str) -> int:
    """How many bytes of memory a process has taken between its start and its first step."""
    (found,) = re.findall(r"^loading took (-?\d+) bytes$", log, re.MULTILINE)
    return int(found)


@pytest.mark.parametrize(
    ("adapter", "engine"),
    [
        pytest.param(False, "fsdp2", id="full-fsdp2"),
        pytest.param(True, "fsdp2", id="lora-fsdp2", marks=pytest.mark.slow),
        pytest.param(False, "zero3", id="full-zero3", marks=pytest.mark.slow),
        pytest.param(True, "zero3", id="lora-zero3", marks=pytest.mark.slow),
    ],
)
def test_only_the_first_process_has_the_model_before_it_is_sharded(launcher, folder, large, tmp_path, engine, adapter):
    path, size = large
    more = {"model": {"name": str(path)} | ({"lora_rank": 2} if adapter else {})}
    recipes = {
        name: recipe_of(folder, "sft", tmp_path / name, ranks, 2, **more) for name, ranks in (("one", 1), ("two", 2))
    }
    ended = launcher.launch({"run": recipes["two"]}, engine, 2, tmp_path / "job", measure=True)
    for code, log in ended:
        assert code == 0, log[-3000:]
    first, second = (resident_after_loading(log) for _, log in ended)
    assert first > size > 2 * second, "the second process has read weights"
    train(recipes["one"])
    assert_same_steps(steps_of(recipes["two"]), steps_of(recipes["one"]), 1e-4)


def test_weights_in_bfloat16_are_brought_and_trained_in_float32(launcher, folder, tmp_path):
    more = {"model": {"dtype": "bfloat16"}, "trainer": {"bf16": True}}
    recipes = [recipe_of(folder, "sft", tmp_path / f"{ranks}", ranks, 3, **more) for ranks in (1, 2)]
    train(recipes[0])
    launcher.train(
        {"run": recipes[1]}, "fsdp2", 2, tmp_path / "job", environment={"ACCELERATE_MIXED_PRECISION": "bf16"}
    )
    assert_same_steps(steps_of(recipes[1]), steps_of(recipes[0]), 0.02)


def test_weights_that_nobody_brings_are_nan(folder):
    model = RewardModel.from_pretrained(folder / "base", empty=True)
    whole = RewardModel.from_pretrained(folder / "base")
    kinds = [
        {name: (one.shape, one.dtype) for name, one in each.backbone.named_parameters()} for each in (model, whole)
    ]
    assert kinds[0] == kinds[1] and model.empty and not whole.empty
    for name, weight in model.backbone.named_parameters():
        assert torch.isnan(weight.flatten()[[0, -1]]).all(), name
    for name, buffer in whole.backbone.named_buffers():
        assert torch.equal(buffer, model.backbone.get_buffer(name)), name


def test_a_process_whose_weights_are_not_brought_stops_at_the_first_step(launcher, folder, tmp_path):
    recipe = recipe_of(folder, "sft", tmp_path / "run", 2, 2)
    # What accelerate does not do, zreward is told that it does.
    told = {"FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}
    for code, log in launcher.launch({"run": recipe}, "fsdp2", 2, tmp_path / "job", environment=told, brought=True):
        assert code == 1 and "step 0: the loss is nan" in log, log[-2000:]


def test_each_process_reads_its_own_weights_where_accelerate_is_told_so(launcher, folder, tmp_path):
    recipe = recipe_of(folder, "sft", tmp_path / "run", 2, 2)
    alone = recipe_of(folder, "sft", tmp_path / "alone", 1, 2)
    told = {"FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}
    launcher.train({"run": recipe}, "fsdp2", 2, tmp_path / "job", environment=told)
    train(alone)
    assert_same_steps(steps_of(recipe), steps_of(alone), 1e-4)

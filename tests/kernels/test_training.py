"""Training goes on with the reference where a kernel is wrong, raises or gives NaN: to the reference's very losses."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.generation.conftest import stable_diffusion
from tests.generation.gradients import make_recipe, write_inputs
from tests.kernels.planted import plant
from tests.tiny import tiny_model, tiny_records
from zreward.common.config import config_from_dict
from zreward.common.runs import read_metrics
from zreward.data.writing import save_records
from zreward.generation.optimize import optimize
from zreward.training import trainer_base
from zreward.training.recipe import Recipe
from zreward.training.run import train


def losses(folder, method: str = "sft") -> list[tuple[float, float]]:
    """Loss and length of the gradient in five steps of a model with a gated-delta layer."""
    folder.mkdir()
    tiny_model(trace_tokens=4).save_pretrained(folder / "base")
    raw = {
        "method": method,
        "out": str(folder / "run"),
        "data": {"train": str(save_records(tiny_records(2, 2, seed=0), folder / "train.jsonl"))},
        "model": {"name": str(folder / "base")},
        "optimizer": {"steps": 5, "batch_size": 2, "learning_rate": 1e-2, "warmup_steps": 0},
        "rollout": {"group_size": 2} if method == "gdso" else {},
        "save_every": 5,
        "trainer": {"use_cpu": True},
    }
    train(config_from_dict(Recipe, raw))
    return [(row["loss"], row["grad_norm"]) for row in read_metrics(folder / "run") if "loss" in row]


@pytest.mark.parametrize("method", ["sft", "gdso"])
def test_training_goes_on_with_the_reference(method, tmp_path, monkeypatch, recwarn):
    expected = losses(tmp_path / "reference", method)
    assert len(expected) == 5 and not [one for one in recwarn.list if "fails its check" in str(one.message)]
    for fault, found in (("gradient", "wrong"), ("raises", "refuses"), ("nan", "NaN")):
        plant(monkeypatch, fault)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache-{fault}"))  # the kernels share a module's name
        with pytest.warns(UserWarning, match=f"chunk_gated_delta_rule .*{found}.* install Triton 3.7.1") as told:
            assert losses(tmp_path / fault, method) == expected
        assert sum("fails its check" in str(one.message) for one in told) == 1


def test_without_the_check_the_fault_would_be_trained_on(tmp_path, monkeypatch):
    """The test above is not one of a kernel that nothing calls."""
    expected = losses(tmp_path / "reference")
    plant(monkeypatch, "gradient")
    monkeypatch.setattr("zreward.training.trainer_base.use_right_kernels", lambda *_: [])
    found = losses(tmp_path / "fault")
    assert found[0][0] == expected[0][0] and found != expected


@pytest.mark.parametrize(
    ("arguments", "formats"),
    [
        ({}, [torch.float32]),
        ({"bf16": True}, [torch.bfloat16, torch.float32]),
        ({"fp16": True}, [torch.float16, torch.float32]),
    ],
)
@pytest.mark.parametrize(("device", "tf32"), [("cuda", None), ("cuda", True), ("cpu", None)])
def test_a_run_checks_its_formats_and_its_teacher(arguments, formats, device, tf32, monkeypatch):
    """Autocast's format too. TF32 is the recipe's to ask for; a CPU's settings are left alone."""
    checked, switched = [], []
    monkeypatch.setattr(trainer_base, "use_right_kernels", lambda *given: checked.append(given))
    monkeypatch.setattr(trainer_base, "set_tf32", switched.append)
    model, teacher = tiny_model(), tiny_model("qwen3_vl")
    given = {"bf16": False, "fp16": False, "tf32": tf32, "device": torch.device(device)} | arguments
    run = SimpleNamespace(args=SimpleNamespace(**given), reward_model=model, read=((), (), teacher))
    trainer_base.RewardTrainer.prepare_device(run)
    ((models, found, where),) = checked
    assert isinstance(models, nn.ModuleList) and list(models) == [model.backbone, teacher.backbone]
    assert (found, where.type) == (formats, device)
    assert switched == ([bool(tf32)] if device == "cuda" else [])


def test_the_reward_of_a_generator_is_checked_too(tmp_path, monkeypatch):
    write_inputs(tmp_path, tiny_model())
    stable_diffusion().save_pretrained(tmp_path / "generator")
    generator = {"name": str(tmp_path / "generator"), "steps": 3}
    guards = {"prompts": 2, "enabled": False, "every": 2}
    plant(monkeypatch, "nan")
    with pytest.warns(UserWarning, match="chunk_gated_delta_rule .*NaN"):
        optimize(make_recipe(tmp_path, generator=generator, guards=guards))
    rows = read_metrics(tmp_path / "run")
    assert rows and all(math.isfinite(row["reward"]) for row in rows)

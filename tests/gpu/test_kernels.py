"""On a card: each kernel is right or replaced, float32 is not rounded, and every trainer goes on for five steps."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from tests.kernels.planted import plant
from tests.tiny import FAMILIES, tiny_model, tiny_records
from zreward.common.config import config_from_dict
from zreward.common.runs import read_metrics
from zreward.data import load_records
from zreward.data.writing import save_records
from zreward.models import doctor
from zreward.models.kernels.check import check_kernels, use_right_kernels
from zreward.models.kernels.compare import verdict_of
from zreward.models.kernels.discovery import find_kernels
from zreward.models.kernels.gated_delta import (
    DeltaSizes,
    chunk_cases,
    convolution_cases,
    convolution_step_cases,
    recurrent_cases,
)
from zreward.models.precision import set_tf32, tf32_allowed
from zreward.models.reward_model import RewardModel
from zreward.training.recipe import Recipe
from zreward.training.run import train
from zreward.training.targets import LabelOptions, label

CUDA = torch.device("cuda")
FORMATS = (torch.float32, torch.bfloat16)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch, tmp_path):
    """A cache of the test's own; afterwards transformers' kernels and TF32 are what they were."""
    from transformers.models.qwen3_5 import modeling_qwen3_5 as home

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule"):
        monkeypatch.setattr(home, name, getattr(home, name))
    for name in ("causal_conv1d_fn", "causal_conv1d_update"):
        monkeypatch.setattr(home, name, getattr(home, name))
    set_tf32(False)
    yield
    set_tf32(False)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_left_after_the_check_is_right(family):
    """Whatever is installed here, right or not: what a model computes with afterwards is right in both formats."""
    from transformers.models.qwen3_5 import modeling_qwen3_5 as home

    model = tiny_model(family).to(CUDA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        use_right_kernels(model.backbone, FORMATS, CUDA)
    attention = [one for one in find_kernels(model) if one.name == "attention"]
    verdicts = [one.verdict for one in check_kernels(attention, FORMATS, CUDA)]
    sizes = DeltaSizes(16, 16)
    for number_format in FORMATS if family == "qwen3_5" else ():
        verdicts += [
            verdict_of(cases, number_format, CUDA)
            for cases in (
                chunk_cases(home.torch_chunk_gated_delta_rule, sizes),
                recurrent_cases(home.torch_recurrent_gated_delta_rule, sizes),
                convolution_cases(home.causal_conv1d_fn, sizes),
                convolution_step_cases(home.causal_conv1d_update, sizes),
            )
        ]
    assert verdicts and all(one.is_right for one in verdicts), [str(one) for one in verdicts]


def test_the_references_of_torch_are_right_on_a_card(monkeypatch):
    from transformers.models.qwen3_5 import modeling_qwen3_5 as home

    from tests.kernels.planted import REFERENCE

    monkeypatch.setattr(home, "torch_chunk_gated_delta_rule", REFERENCE)
    found = [one for one in find_kernels(tiny_model()) if one.implementation in ("torch", "sdpa")]
    findings = check_kernels(found, FORMATS, CUDA)
    assert "chunk_gated_delta_rule" in {one.kernel.name for one in findings}
    assert all(one.verdict.is_right for one in findings), [str(one.verdict) for one in findings]


@pytest.mark.parametrize("fault", ["gradient", "raises", "nan"])
def test_a_planted_fault_is_replaced_on_a_card(fault, monkeypatch):
    plant(monkeypatch, fault)
    with pytest.warns(UserWarning, match="kernel chunk_gated_delta_rule"):
        use_right_kernels(tiny_model().to(CUDA).backbone, FORMATS, CUDA)


def test_float32_is_float32_after_loading(tmp_path):
    """A convolution of ones and small parts: TF32 keeps 10 bits, and would round what is compared here away."""
    set_tf32(True)
    tiny_model().save_pretrained(tmp_path / "model")
    RewardModel.from_pretrained(tmp_path / "model")
    assert not any(tf32_allowed().values())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 64, 32, 32, generator=generator)
    weight = torch.randn(64, 64, 3, 3, generator=generator)
    expected = torch.nn.functional.conv2d(x.double(), weight.double())
    found = torch.nn.functional.conv2d(x.to(CUDA), weight.to(CUDA)).double().cpu()
    assert ((found - expected).abs().max() / expected.abs().max()).item() < 2e-5
    product = (x.view(-1, 64).to(CUDA) @ weight[:, :, 0, 0].to(CUDA)).double().cpu()
    exact = x.view(-1, 64).double() @ weight[:, :, 0, 0].double()
    assert ((product - exact).abs().max() / exact.abs().max()).item() < 2e-5


@pytest.mark.parametrize("asked", [False, True])
def test_a_recipe_may_ask_for_tf32(asked, tmp_path):
    losses(tmp_path, "sft", trainer={"tf32": True} if asked else {})
    assert tf32_allowed() == {"matmul": asked, "convolution": asked}


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("method", ["sft", "risd", "rewarddance", "rewarddance-pairwise", "grpo", "gdso", "opd"])
def test_five_steps_of_each_trainer(method, precision, tmp_path):
    found = losses(tmp_path, method, trainer={"bf16": precision == "bf16"})
    assert len(found) == 5 and all(math.isfinite(value) for row in found for value in row)


def losses(folder, method: str, trainer: dict) -> list[tuple[float, float]]:
    model = tiny_model(trace_tokens=4)
    model.save_pretrained(folder / "base")
    data = {"train": str(save_records(tiny_records(2, 2, seed=0), folder / "train.parquet"))}
    if method in ("risd", "rewarddance"):
        data["targets"] = str(label(model, "base", load_records(data["train"]), folder / "targets", LabelOptions()))
    rollout: dict = {"group_size": 2} if method in ("grpo", "gdso", "opd") else {}
    if method == "opd":
        rollout["teacher"] = str(folder / "base")
    raw = {
        "method": method,
        "out": str(folder / "run"),
        "data": data,
        "model": {"name": str(folder / "base")},
        "optimizer": {"steps": 5, "batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 0},
        "rollout": rollout,
        "save_every": 5,
        "trainer": trainer,
    }
    if method == "rewarddance-pairwise":
        from tests.tiny import COMPARISON

        raw["comparison"] = vars(COMPARISON)
    train(config_from_dict(Recipe, raw))
    return [(row["loss"], row["grad_norm"]) for row in read_metrics(folder / "run") if "loss" in row]


def test_the_doctor_on_a_card():
    found = doctor.examine(None, CUDA)
    assert found.environment["card"] == torch.cuda.get_device_name() and found.free_bytes
    assert found.peak["bfloat16"] > 0 and not found.is_wrong
    assert not any("CUDA" in line for line in found.missing)

"""A model gives on a GPU the scores and the gradients to pixels that it gives on the CPU."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import FAMILIES, noise_pictures, sharpen, tiny_model
from zreward.models.devices import find_device, find_dtype
from zreward.models.reward_model import RewardModel

PROMPTS = ["a red circle", "two blue squares", "a small green cross"]
PICTURES = noise_pictures(3, ((32, 32), (48, 32)))


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """No TF32: float32 is compared with float32."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
def test_scores_are_those_of_the_cpu(family, dtype, tolerance):
    """In points of a scale from 1 to 5."""
    expected = tiny_model(family).score(PICTURES, PROMPTS)
    model = tiny_model(family).to("cuda", dtype)
    found = model.score(PICTURES, PROMPTS)
    assert model.device.type == "cuda" and found.probs.device.type == "cpu"
    assert (found.mean - expected.mean).abs().max().item() <= tolerance
    alone = torch.cat([model.score([p], [t]).mean for p, t in zip(PICTURES, PROMPTS, strict=True)])
    assert (found.mean - alone).abs().max().item() <= tolerance  # whatever goes with it in a batch


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_to_the_pixels_is_that_of_the_cpu(family):
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    gradients = []
    for device in ("cpu", "cuda"):
        model = sharpen(tiny_model(family), 3).to(device)
        given = pixels.clone().to(device).requires_grad_(True)
        scores = model(given, PROMPTS[:2])
        assert scores.probs.device.type == device
        scores.mean.mean().backward()
        assert given.grad.device.type == device
        gradients.append(given.grad.cpu())
    size = gradients[0].norm()
    assert size > 0 and (gradients[1] - gradients[0]).norm() <= 1e-2 * size


def test_inputs_follow_the_model_whatever_device_and_format_they_have():
    model = tiny_model().to("cuda")
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = model(pixels.to("cuda"), PROMPTS[:2]).mean.cpu()
    assert torch.allclose(model(pixels, PROMPTS[:2]).mean.cpu(), expected, atol=1e-4)
    assert torch.allclose(model.score(list(pixels.to("cuda")), PROMPTS[:2]).mean, expected, atol=1e-3)
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.allclose(model(pixels.to("cuda", dtype), PROMPTS[:2]).mean.cpu(), expected, atol=0.05)


def test_a_judgement_is_sampled_on_the_gpu_and_handed_back_on_the_cpu():
    model = tiny_model(trace_tokens=4).to("cuda")
    torch.manual_seed(0)
    judged = model.judge(PICTURES[:2], PROMPTS[:2], traces=2, dimensions=["realism"])
    assert len(judged) == 2
    for verdict in judged:
        assert verdict.trace_distribution.device.type == "cpu" and verdict.trace_distribution.shape == (2, 1, 9)
        mean = verdict.trace_distribution.mean(0, keepdim=True)
        assert torch.allclose(verdict.distribution.probs, mean, atol=1e-5)


def test_a_checkpoint_loads_on_the_gpu_in_bfloat16_unless_it_says_otherwise(tmp_path):
    tiny_model().save_pretrained(tmp_path / "judge")
    assert find_device() == torch.device("cuda") and find_dtype(None, torch.device("cuda")) == torch.bfloat16
    loaded = RewardModel.from_pretrained(tmp_path / "judge")
    assert loaded.device.type == "cuda" and loaded.backbone.model.dtype == torch.float32  # as it was saved
    half = RewardModel.from_pretrained(tmp_path / "judge", dtype="bfloat16")
    assert half.backbone.model.dtype == torch.bfloat16
    assert RewardModel.from_pretrained(tmp_path / "judge", device="cpu").device.type == "cpu"

"""Shared passes on a card: what whole rows give, and an opening that follows the model from device to device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import zreward.models.sharing
from tests.tiny import FAMILIES, noise_pictures, sharpen, tiny_model
from zreward.models.rows import Row
from zreward.models.shared_prefix import SharedPrefix

PROMPTS = ["a red circle", "a small blue cross left of a large green square", "a"]
SIZES = ((32, 32), (16, 48), (40, 24))


@pytest.fixture(autouse=True)
def short_openings_and_exact_products(monkeypatch):
    monkeypatch.setattr(zreward.models.sharing, "SHORT_OPENING", 2)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("family", FAMILIES)
def test_probabilities_and_pixel_gradients_are_those_of_whole_rows(family, monkeypatch):
    model = sharpen(tiny_model(family), 6).to("cuda").requires_grad_(False)
    pictures = [model.open(picture).cuda().requires_grad_() for picture in noise_pictures(3, SIZES)]
    rows = [Row((i,), prompt, name) for i, prompt in enumerate(PROMPTS) for name in model.rubric.dimension_names]

    def call():
        inputs = replace(model.collate(pictures, rows), share=True).to(model.device)
        probs = model.backbone(inputs).score_logits.softmax(-1)
        weights = torch.arange(probs.numel(), device=probs.device).view_as(probs).cos()
        return probs.detach(), torch.autograd.grad((probs * weights).sum(), pictures)

    together, found = call()
    assert model.backbone.shared_prefix.right
    monkeypatch.setattr(SharedPrefix, "cut", lambda *_, **__: None)
    apart, wanted = call()
    assert torch.allclose(together, apart, atol=1e-4)
    for one, other in zip(found, wanted, strict=True):
        assert other.norm() > 0 and (one - other).norm() <= 1e-3 * other.norm()


def test_an_opening_follows_the_model_to_another_device():
    """The weights' bits are the same on both."""
    model = sharpen(tiny_model())
    pictures = noise_pictures(3, SIZES)
    expected = model.score(pictures, PROMPTS).mean
    for device in ("cuda", "cpu", "cuda"):
        model.to(device)
        assert torch.allclose(model.score(pictures, PROMPTS).mean, expected, atol=1e-2)

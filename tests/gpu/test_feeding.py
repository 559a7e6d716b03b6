"""Bytes travel to the GPU, which makes of them what the CPU makes and what the gradient's path makes."""

from __future__ import annotations

import pytest
import torch

from tests.tiny import FAMILIES, noise_pictures, tiny_model
from zreward.models import feeding
from zreward.models.pixels import ResolutionPolicy, as_floats, to_pixels

SIZES = ((32, 32), (40, 30), (100, 90), (300, 200))  # the last one is resized on the host


def test_a_byte_becomes_the_same_float():
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(as_floats(every.cuda()).cpu(), as_floats(every))


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_travel_and_become_the_cpus_patches(family, monkeypatch):
    model = tiny_model(family).to("cuda")
    model.resolution = ResolutionPolicy(longest_side=64)
    moved, to_device = [], feeding.to_device
    monkeypatch.setattr(feeding, "to_device", lambda one, device: moved.append(one) or to_device(one, device))
    pictures = noise_pictures(4, SIZES)
    decoded = [model.decode(one) for one in pictures]
    assert [one.dtype for one in decoded[:2]] == [torch.uint8] * 2 and decoded[3].dtype is torch.float32
    found, grids = feeding.patches(decoded, model.layout, model.resolution, model.device)
    assert all(one is given and one.device.type == "cpu" for one, given in zip(moved, decoded, strict=True))
    cpu = torch.device("cpu")
    expected, same = feeding.patches([model.open(one) for one in pictures], model.layout, model.resolution, cpu)
    assert found.device.type == "cuda" and grids == same
    assert torch.allclose(found.cpu(), expected, atol=1e-5)


@pytest.mark.parametrize("size", SIZES[:2])
def test_score_is_that_of_the_pixels_to_the_last_bit(size):
    model, picture = tiny_model().to("cuda"), noise_pictures(1, (size,))[0]
    with torch.no_grad():
        of_pixels = model(to_pixels(picture)[None], "a red circle").probs.cpu()
    assert torch.equal(model.score([picture], "a red circle").probs, of_pixels)

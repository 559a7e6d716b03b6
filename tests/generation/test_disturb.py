"""Disturbed copies of pictures, against a plain loop over pixels."""

from __future__ import annotations

import pytest
import torch

from zreward.generation.disturb import disturbed

SHIFT, SIZE = 2, 7


def corner_of(moved, picture) -> tuple[int, int]:
    """The only (down, right) by which a picture with repeated edges can have been moved."""
    found = []
    for y in range(2 * SHIFT + 1):
        for x in range(2 * SHIFT + 1):
            rows = [min(max(row + y - SHIFT, 0), SIZE - 1) for row in range(SIZE)]
            columns = [min(max(column + x - SHIFT, 0), SIZE - 1) for column in range(SIZE)]
            if torch.equal(moved, picture[:, rows][:, :, columns]):
                found.append((y - SHIFT, x - SHIFT))
    (place,) = found
    return place


def test_every_picture_is_moved_by_its_own_draw_in_all_directions():
    torch.manual_seed(0)
    pictures = torch.rand(60, 3, SIZE, SIZE)
    places = [corner_of(moved, own) for moved, own in zip(disturbed(pictures, SHIFT, 0.0), pictures, strict=True)]
    for axis in (0, 1):
        assert {place[axis] for place in places} == set(range(-SHIFT, SHIFT + 1))
    assert len(set(places)) > 10


def test_noise_has_its_standard_deviation_and_pixels_stay_in_range():
    torch.manual_seed(0)
    grey = torch.full((4, 3, 64, 64), 0.5)
    noise = disturbed(grey, 0, 0.05) - grey
    assert noise.std().item() == pytest.approx(0.05, rel=0.02) and abs(noise.mean().item()) < 0.001
    assert not torch.equal(noise[0], noise[1])
    black = disturbed(torch.zeros(1, 3, 8, 8), 1, 0.5)
    assert black.min() == 0 and 0 < black.max() <= 1


def test_it_is_differentiable_and_does_nothing_where_nothing_is_asked():
    pictures = torch.rand(2, 3, SIZE, SIZE, requires_grad=True)
    assert torch.equal(disturbed(pictures, 0, 0.0), pictures)
    disturbed(pictures, 1, 0.0).sum().backward()
    assert pictures.grad.sum().item() == pytest.approx(pictures.numel())  # every moved pixel comes from one of them

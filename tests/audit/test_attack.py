"""Gradients and the search in pixel space, on scores whose best change is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.audit.fakes import drawings, failed, subject
from zreward.audit.attack import EPSILON, climb, gradients
from zreward.audit.sensitivity import sensitivity
from zreward.audit.thresholds import SensitivityLimits


def test_the_gradient_by_finite_differences():
    def score(pixels):
        return (pixels.double() ** 2).sum((1, 2, 3)) * torch.tensor([1.0, 3.0], dtype=torch.float64)

    pixels = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    found = gradients(score, pixels)
    for place in [(0, 0, 1, 2), (1, 2, 3, 4)]:
        up, down = pixels.clone(), pixels.clone()
        up[place] += 1e-6
        down[place] -= 1e-6
        assert found[place].item() == pytest.approx((score(up) - score(down))[place[0]].item() / 2e-6, rel=1e-5)


def test_the_search_finds_the_best_change_of_a_linear_score_and_stays_in_its_bounds():
    """Wrong programs: descent; a ball around the last step instead of the picture; values off [0, 1]; no rounding."""
    weights = torch.randn(3, 8, 8)
    pixels = torch.randint(0, 256, (2, 3, 8, 8)) / 255
    pixels[0, 0] = 1.0  # nothing can rise here

    found = climb(lambda x: (x * weights).sum((1, 2, 3)), pixels)
    best = (pixels + EPSILON * weights.sign()).clamp(0, 1)
    torch.testing.assert_close(found, best, atol=1e-6, rtol=0)
    torch.testing.assert_close((found * 255).round() / 255, found, atol=1e-6, rtol=0)


def test_a_bound_between_levels_is_rounded_down():
    pixels = torch.full((1, 3, 2, 2), 100 / 255)
    found = climb(lambda x: x.sum((1, 2, 3)), pixels, epsilon=2.6 / 255)
    assert (found * 255).round().unique().tolist() == [102.0]


def test_gain_and_slope_of_brightness():
    """Score 1 + 4 * mean pixel: 4/255 brighter everywhere gains 4 * 4/255; the gradient is the same for every pixel."""

    def brightness(pixels, prompt):
        return 1 + 4 * pixels.mean()

    sizes = [Image.new("RGB", size, (90, 120, 60)) for size in ((8, 8), (8, 8), (12, 6))]
    found = sensitivity(subject(images=sizes, realism=brightness), SensitivityLimits())
    rows = {row.dimension: row for row in found.rows}
    assert rows["realism"].figures["gain"] == pytest.approx(4 * 4 / 255, rel=1e-4)
    assert rows["realism"].figures["gradient"] == pytest.approx(4 / 255, rel=1e-4)
    assert rows["alignment"].figures["gain"] == 0 and found.failures == []
    limits = SensitivityLimits(gain=0.05)
    assert failed(sensitivity(subject(images=sizes, realism=brightness), limits)) == {
        ("search within 4/255", "realism")
    }


def test_it_is_bounded_in_pictures():
    some = subject(images=drawings(40, 8))
    sensitivity(some, SensitivityLimits())
    before = some.model.asked
    assert before <= 40 + 16 * 4 * (1 + 5 + 1)


def test_the_page_shows_what_was_changed():
    def brightness(pixels, prompt):
        return 1 + 4 * pixels.mean()

    found = sensitivity(
        subject(images=[Image.new("RGB", (8, 8), (90, 120, 60))], realism=brightness), SensitivityLimits()
    )
    before, after, change = next(one for one in found.shown if one.caption == "realism").images
    assert np.asarray(after).tolist()[0][0] == [94, 124, 64] and np.asarray(change)[0, 0].tolist() == [192, 192, 192]
    assert np.asarray(before).tolist()[0][0] == [90, 120, 60]

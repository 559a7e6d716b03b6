"""Ratings to one score and to a target distribution."""

from __future__ import annotations

import math

import pytest
import torch

from zreward.common.errors import InputError
from zreward.data.aggregation import aggregate, rating_list, synthetic_target, target_distribution, trimmed_mean
from zreward.distribution import ScoreScale

SCALE = ScoreScale()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (None, []),
        (3, [3.0]),
        ((4, 2.5), [4.0, 2.5]),
        ({"ann": 4, "bob": None, "eve": 2}, [4.0, 2.0]),
        ({}, []),
        ([], []),
    ],
)
def test_every_form_of_ratings(scores, expected):
    found = rating_list(scores)
    assert found == expected and all(type(rating) is float for rating in found)


def test_one_score_is_the_trimmed_mean():
    assert aggregate([]) is None
    assert aggregate([1.0, 4.0, 5.0]) == 4.0


def test_no_ratings_have_no_target():
    assert target_distribution([], SCALE) is None and target_distribution([], SCALE, std=0.5) is None


def test_ratings_without_a_spread_are_their_histogram():
    ratings = [2.0, 2.0, 4.5]
    assert target_distribution(ratings, SCALE).tolist() == SCALE.histogram(ratings).tolist()
    smooth = target_distribution(ratings, SCALE, 0.5)
    assert smooth.tolist() == SCALE.histogram(ratings, 0.5).tolist() != SCALE.histogram(ratings).tolist()


def test_a_spread_belongs_to_one_score():
    assert target_distribution([3.0], SCALE, std=0.5).tolist() == synthetic_target(3.0, 0.5, SCALE).tolist()
    assert target_distribution([3.0], SCALE, 0.3, 0.4).tolist() == synthetic_target(3.0, 0.5, SCALE).tolist()
    with pytest.raises(ValueError, match=r"a spread of 0\.5 beside 2 ratings"):
        target_distribution([3.0, 4.0], SCALE, std=0.5)


@pytest.mark.parametrize("std", [-0.1, math.nan, math.inf])
def test_a_spread_that_is_none_is_refused(std):
    with pytest.raises(InputError, match="expected a standard deviation of 0 or more"):
        synthetic_target(3.0, std, SCALE)


@pytest.mark.parametrize("scale", [SCALE, ScoreScale(0, 10, 1), ScoreScale(-3, 3, 0.25)])
@pytest.mark.parametrize("share", [0.001, 0.03, 0.37, 0.5, 0.98, 0.9999])
@pytest.mark.parametrize("std", [0.002, 0.04, 0.3, 2.0, 40.0])
def test_expectation_and_shape_on_every_scale(scale, share, std):
    """The expectation is the score, and log p is a parabola of the bins: -(b - m)^2 / 2 std^2 for some centre m."""
    score = scale.min + share * scale.range
    target = synthetic_target(score, std, scale).double()
    bins = scale.bins.double()
    assert (target @ bins).item() == pytest.approx(score, abs=2e-6 * scale.range)
    visible = target > 1e-6
    bend = target.log().diff(n=2)[visible[2:] & visible[1:-1] & visible[:-2]]
    assert torch.allclose(bend, torch.full_like(bend, -((scale.step / std) ** 2)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [ScoreScale(0, 1, 0.01), ScoreScale(0, 1e-3, 1e-5)])
def test_what_is_too_narrow_or_too_near_an_end_is_measured_in_steps(scale):
    """On a fine scale a spread of five steps is a spread: a plain sum over the bins, far from both ends."""
    target = synthetic_target(scale.min + 0.4 * scale.range, 5 * scale.step, scale).double()
    bins = [scale.min + k * scale.step for k in range(101)]
    mean = sum(p * b for p, b in zip(target.tolist(), bins, strict=True))
    variance = sum(p * (b - mean) ** 2 for p, b in zip(target.tolist(), bins, strict=True))
    assert math.sqrt(variance) == pytest.approx(5 * scale.step, rel=1e-4)


def test_at_the_ends_and_without_spread_it_is_the_soft_target():
    for score, std in ((1.0, 0.5), (5.0, 0.5), (1 + 1e-7, 0.5), (5 - 1e-7, 0.5), (3.2, 0.0), (3.2, 4e-4)):
        assert synthetic_target(score, std, SCALE).tolist() == SCALE.soft_target(score).tolist()
    just_inside = synthetic_target(1 + 1e-3, 0.5, SCALE)
    assert just_inside.tolist() != SCALE.soft_target(1 + 1e-3).tolist() and just_inside.dtype == torch.float32
    with pytest.raises(InputError, match="off the scale"):
        synthetic_target(5.5, 0.5, SCALE)


def test_trimmed_mean_by_hand():
    assert trimmed_mean([4]) == 4.0
    assert trimmed_mean([2, 5]) == 3.5
    assert trimmed_mean([5, 1, 4]) == 4.0  # the median of three
    assert trimmed_mean([1, 5, 5, 2]) == 3.5  # only one of the two highest goes
    assert trimmed_mean(torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0])) == 3.0
    assert type(trimmed_mean([1, 2, 4])) is type(trimmed_mean([1, 2])) is float
    assert trimmed_mean(["1", 2]) == 1.5  # as numbers
    for bad in ([], [1, math.nan], [1, math.inf, 2], [[1.0, 2.0]], [math.nan, 1, 2, 3]):
        with pytest.raises(ValueError, match="ratings"):
            trimmed_mean(bad)

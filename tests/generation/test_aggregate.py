"""Aggregates against numbers worked out by hand."""

import math

import pytest
import torch

from zreward.common.errors import InputError
from zreward.distribution import ScoreDistribution
from zreward.generation import Aggregate

BINS = torch.tensor([1.0, 3.0, 5.0])


def scores(*rows) -> ScoreDistribution:
    """One picture, dimensions a and b."""
    return ScoreDistribution(torch.tensor([rows], requires_grad=True), BINS, ("a", "b"))


SURE = scores([0.0, 0.0, 1.0], [0.5, 0.0, 0.5])  # means 5 and 3, standard deviations 0 and 2


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        (Aggregate(), 4.0),
        (Aggregate(weights={"a": 1.0, "b": 3.0}), 3.5),
        (Aggregate(weights={"b": 1.0}), 3.0),
        (Aggregate("confident", caution=0.5), (5 + 3 - 1) / 2),
        (Aggregate("utility", utility=[0.0, 0.0, 10.0]), (10 + 5) / 2),
        (Aggregate("worst", softness=0.5), -0.5 * math.log((math.exp(-10) + math.exp(-6)) / 2)),
        (Aggregate("worst", weights={"a": 1.0}, softness=0.5), 5.0),
    ],
)
def test_by_hand(aggregate, expected):
    assert aggregate(SURE).item() == pytest.approx(expected, abs=1e-5)


def test_beating_the_reference_counts_ties_as_half():
    reference = scores([0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    # a: always above; b: 5 ties with 5 half of the time, 1 loses
    assert Aggregate("beats")(SURE, reference).item() == pytest.approx((1.0 + 0.25) / 2)
    with pytest.raises(InputError, match="reference picture"):
        Aggregate("beats")(SURE)


def test_the_soft_minimum_lies_between_worst_and_mean_and_tends_to_the_worst():
    soft, hard = Aggregate("worst", softness=1.0)(SURE).item(), Aggregate("worst", softness=0.01)(SURE).item()
    assert 3.0 < soft < 4.0
    assert hard == pytest.approx(3.0, abs=0.01)


def test_argmax_reads_the_most_likely_bin_and_still_has_a_gradient():
    found = scores([0.2, 0.5, 0.3], [0.6, 0.3, 0.1])
    reward = Aggregate(reading="argmax")(found)
    assert reward.item() == pytest.approx((3 + 1) / 2)
    reward.backward()
    gradient = found.probs.grad[0, 0]
    assert gradient[2] > 0 > gradient[0]  # more weight on the high score is better


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="unknown dimension 'c'"):
        Aggregate(weights={"c": 1.0})(SURE)
    with pytest.raises(InputError, match="2 utilities for 3"):
        Aggregate("utility", utility=[0.0, 1.0])(SURE)
    with pytest.raises(InputError, match="kind is 'median'; expected one of \\['mean'"):
        Aggregate("median")
    with pytest.raises(InputError, match="not all 0"):
        Aggregate(weights={"a": 0.0})
    with pytest.raises(InputError, match="goes with kind utility"):
        Aggregate("utility")


def test_the_usual_settings():
    """Softness a quarter of a point, one standard deviation of caution: -t log(mean exp(-mu / t)), mean of mu - std."""
    assert Aggregate("worst")(SURE).item() == pytest.approx(
        -0.25 * math.log((math.exp(-20) + math.exp(-12)) / 2), abs=1e-5
    )
    assert Aggregate("confident")(SURE).item() == pytest.approx((5 - 0 + 3 - 2) / 2)
    assert Aggregate() == Aggregate("mean", {}, 0.25, None, 1.0, "distribution", 8.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"weights": {"a": -1.0, "b": 3.0}},
        {"weights": {"a": 0.0, "b": 0.0}},
        {"softness": 0.0},
        {"softness": math.nan},
        {"softness": -1.0},
        {"sharpness": 0.0},
        {"reading": "median"},
        {"utility": [0.0, 1.0, 2.0]},
        {"kind": "utility"},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(InputError, match="^aggregate: "):
        Aggregate(**settings)


def test_a_weight_of_nought_and_small_numbers_are_fine():
    assert Aggregate(weights={"a": 0.0, "b": 0.5})(SURE).item() == 3.0
    assert Aggregate("worst", softness=0.5, sharpness=0.5)(SURE).shape == (1,)


def test_the_argmax_has_the_gradient_of_the_sharpened_distribution():
    """d/dp of sum_s b_s p_s^k / sum p^k, at k = 2, by hand: 2 p_s (b_s - mean) / sum p^2."""
    found = ScoreDistribution(torch.tensor([[[0.2, 0.5, 0.3]]], requires_grad=True), BINS, ("a",))
    Aggregate(reading="argmax", sharpness=2.0)(found).sum().backward()
    square = 0.04 + 0.25 + 0.09
    mean = (1 * 0.04 + 3 * 0.25 + 5 * 0.09) / square
    by_hand = [2 * p * (b - mean) / square for p, b in ((0.2, 1), (0.5, 3), (0.3, 5))]
    assert found.probs.grad[0, 0].tolist() == pytest.approx(by_hand, abs=1e-5)


def test_numbers_of_other_types_and_several_pictures():
    probs = torch.tensor([[[0.5, 0.5, 0.0]], [[0.0, 0.0, 1.0]]], dtype=torch.float64)
    two = ScoreDistribution(probs, BINS, ("a",))
    for aggregate, expected in (
        (Aggregate(), [2.0, 5.0]),
        (Aggregate(reading="argmax"), [1.0, 5.0]),
        (Aggregate("utility", utility=[0.0, 1.0, 4.0]), [0.5, 4.0]),
    ):
        rewards = aggregate(two)
        assert rewards.dtype == torch.float64 and rewards.tolist() == expected

"""Aggregates against numbers worked out by hand."""

import math

import pytest
import torch

from zreward.distribution import ScoreDistribution
from zreward.errors import InputError
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
    with pytest.raises(InputError, match="expected \\['mean'"):
        Aggregate("median")
    with pytest.raises(InputError, match="not all 0"):
        Aggregate(weights={"a": 0.0})
    with pytest.raises(InputError, match="goes with kind utility"):
        Aggregate("utility")

"""Coverage, distance and reliability of distributions, beside plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from zreward.evaluation.calibration import (
    in_groups,
    interval_coverage,
    rank_distribution,
    spread,
    wasserstein,
)

BINS = np.array([1.0, 1.5, 2.5, 4.0, 5.0])


@pytest.fixture(scope="module")
def rated():
    """Predictions and raters' counts, some of them 0."""
    draws = np.random.default_rng(3)
    probs = draws.dirichlet(np.full(5, 0.7), 40)
    probs[0] = [0, 0, 1, 0, 0]
    return probs, draws.multinomial(4, draws.dirichlet(np.ones(5), 40))


def plain_share(probs, counts, u):
    """Share of ratings with a rank of at most u, rating by rating."""
    total = 0.0
    for p, c in zip(probs.tolist(), counts.tolist(), strict=True):
        item = 0.0
        for s, count in enumerate(c):
            below, above = sum(p[:s]), sum(p[: s + 1])
            if u >= above:
                share = 1.0
            elif u <= below:
                share = 0.0
            else:
                share = (u - below) / (above - below)
            item += count * share
        total += item / sum(c)
    return total / len(probs)


def test_ranks_beside_a_plain_loop(rated):
    points = [0.0, 0.1, 0.33, 0.5, 0.9, 1.0]
    assert rank_distribution(*rated, points) == pytest.approx([plain_share(*rated, u) for u in points], abs=1e-9)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_coverage_beside_a_plain_loop(rated, level):
    expected = plain_share(*rated, (1 + level) / 2) - plain_share(*rated, (1 - level) / 2)
    assert interval_coverage(*rated, level) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_a_calibrated_model_covers_the_level_on_any_bins(level):
    """A plain interval of bins would hold more: all of the scores, where there are two bins."""
    probs = np.array([[0.3, 0.7], [0.9, 0.1], [0.5, 0.5]])
    assert interval_coverage(probs, probs * 10, level) == pytest.approx(level, abs=1e-9)


def test_an_item_counts_once_however_many_rated_it(rated):
    probs, counts = rated
    weighed = counts * np.arange(1, 41)[:, None]
    assert interval_coverage(probs, weighed, 0.8) == pytest.approx(interval_coverage(probs, counts, 0.8))


def test_too_narrow_covers_less_and_too_wide_more():
    wide, narrow = np.array([[0.25, 0.5, 0.25]]), np.array([[0.05, 0.9, 0.05]])
    assert interval_coverage(narrow, wide * 4, 0.8) < 0.8 < interval_coverage(wide, narrow * 100, 0.8)


def test_distance_is_scipys(rated):
    probs, counts = rated
    found = [wasserstein_distance(BINS, BINS, p, c) for p, c in zip(probs, counts, strict=True)]
    assert wasserstein(probs, counts, BINS) == pytest.approx(np.mean(found))


def test_spread_beside_a_plain_loop(rated):
    expected = []
    for row in rated[0].tolist():
        mean = sum(p * b for p, b in zip(row, BINS.tolist(), strict=True))
        expected.append(sum(p * (b - mean) ** 2 for p, b in zip(row, BINS.tolist(), strict=True)) ** 0.5)
    assert spread(rated[0], BINS) == pytest.approx(expected, abs=1e-9)


def test_groups_take_the_items_in_the_order_of_their_prediction():
    pred, target = [0.9, 0.1, 0.5, 0.2, 0.8], [1.0, 0.0, 0.25, 0.5, 0.75]
    assert in_groups(pred, target, 2) == [
        (pytest.approx(0.8 / 3), 0.25, 3),
        (pytest.approx(0.85), 0.875, 2),
    ]
    assert [count for *_, count in in_groups(pred, target, 10)] == [1] * 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, c: interval_coverage(p, c, 1.0), "level is 1.0, expected a share between 0 and 1"),
        (lambda p, c: rank_distribution(p, c, [-0.1]), "expected points from 0 to 1"),
        (lambda p, c: wasserstein(p, c, BINS[::-1]), "expected one rising score each"),
        (lambda p, c: wasserstein(p, c, BINS[1:]), "expected one rising score each"),
        (lambda p, c: wasserstein(p * 2, c, BINS), "sum to 2, expected 1"),
        (lambda p, c: interval_coverage(p, c * 0, 0.8), "has no ratings"),
        (lambda p, c: in_groups([1.0], [1.0], 0), "n_bins is 0"),
    ],
)
def test_bad_input_is_told(rated, call, message):
    with pytest.raises(ValueError, match=message):
        call(*rated)

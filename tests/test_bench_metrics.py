"""Metrics that benchmarks define, beside plain loops; intervals over prompts."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest

from zreward.evaluation import metrics as m
from zreward.evaluation import preferences as p
from zreward.evaluation.intervals import bootstrap, interval_of

VOTES = [[3, 1, 0], [0, 2, 1], [1, 1, 0], [0, 0, 2], [2, 1, 3], [1, 4, 0]]
GAPS = [1.0, -0.5, 0.25, 0.0, -2.0, 0.25]  # winners: a, b, none, none, none, b


def test_kendall_is_tau_b_with_ties():
    rng = random.Random(0)
    x, y = [rng.randrange(5) for _ in range(40)], [rng.randrange(4) for _ in range(40)]
    score = tied_x = tied_y = pairs = 0
    for i, j in itertools.combinations(range(40), 2):
        a, b = (x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])
        score, tied_x, tied_y, pairs = score + a * b, tied_x + (a == 0), tied_y + (b == 0), pairs + 1
    assert m.krcc(x, y) == pytest.approx(score / math.sqrt((pairs - tied_x) * (pairs - tied_y)))
    with pytest.warns(RuntimeWarning, match="krcc: one input is constant") as caught:
        assert math.isnan(m.krcc([1, 1], [1, 2]))
    assert caught[0].filename == __file__


def test_every_list_counts_alike():
    # List x: right, wrong; list y: right; list z: nobody won, which is never wrong.
    votes, gaps = [[2, 0, 0], [2, 1, 0], [0, 3, 0], [1, 1, 0]], [1.0, -1.0, -0.5, 3.0]
    assert p.accuracy_by_group(gaps, votes, ["x", "x", "y", "z"]) == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert p.accuracy_by_group([0.0], [[2, 0, 0]], ["x"]) == 0.0  # a predicted tie is wrong


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 1.0])
def test_half_credit_for_a_tie_on_one_side(threshold):
    prob = [0.9, 0.2, 0.55, 0.5, 0.1, 0.6]
    labels, credit = ["a", "b", "tie", "tie", "tie", "b"], []
    for a, label in zip(prob, labels, strict=True):
        verdict = "tie" if abs(2 * a - 1) <= threshold + 1e-6 else "a" if a > 0.5 else "b"
        credit.append(1 if verdict == label else 0.5 if "tie" in (verdict, label) else 0)
    assert p.half_credit_accuracy(prob, VOTES, threshold) == pytest.approx(sum(credit) / 6)


def test_the_threshold_is_the_first_of_the_best_tenths():
    assert p.half_credit_threshold([0.65, 0.9], [[0, 0, 1], [1, 0, 0]]) == 0.3
    assert p.half_credit_threshold([0.9, 0.1], [[1, 0, 0], [0, 1, 0]]) == 0.0


def test_a_figure_of_whole_groups_and_its_interval():
    values, group = np.array([1.0, 0.0, 1.0, 1.0, 0.0]), list("aabbc")
    seen = []

    def mean(items, groups):
        seen.append((items.tolist(), groups.tolist()))
        return float(values[items].mean())

    found = bootstrap(mean, group, resamples=200, seed=3)
    assert found.value == 0.6 and found.low <= 0.6 <= found.high
    assert seen[0] == ([0, 1, 2, 3, 4], [0, 0, 1, 1, 2])
    for items, groups in seen[1:]:  # three whole groups; one that is drawn twice is two
        parts = [[i for i, g in zip(items, groups, strict=True) if g == one] for one in range(3)]
        assert all(part in ([0, 1], [2, 3], [4]) for part in parts) and sum(map(len, parts)) == len(items)
    again = bootstrap(mean, group, resamples=200, seed=3)
    assert (again.draws == found.draws).all()
    low, high = np.quantile(found.draws, [0.025, 0.975])
    assert (found.low, found.high) == (low, high)


def test_draws_without_a_figure_do_not_count():
    assert interval_of(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert all(map(math.isnan, interval_of(np.array([np.nan]))))
    assert interval_of(np.array([1.0, np.inf, np.inf])) == (1.0, math.inf)
    with pytest.raises(ValueError, match="confidence 1"):
        bootstrap(lambda items, groups: 0.0, ["a"], confidence=1)

from __future__ import annotations

import math
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from zreward.evaluation import metrics as m


@pytest.fixture
def rng() -> np.random.Generator:
    """New in every test, so that no test depends on which ones ran before it."""
    return np.random.default_rng(0)


# --- correlation


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_match_scipy(ties, rng):
    x = rng.normal(size=200)
    y = 0.5 * x + rng.normal(size=200)
    if ties:
        x, y = np.round(x), np.round(y)
    assert m.plcc(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
    assert m.srcc(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    tensors = torch.tensor(x, dtype=torch.float32, requires_grad=True), torch.tensor(y)
    assert m.srcc(*tensors) == pytest.approx(m.srcc(x, list(y)), abs=1e-6)


def test_correlations_by_hand():
    # Centred (-1, 0, 1) and (-2, 1, 1): 3 / sqrt(2 * 6). Ranks of y with its tie: 1, 2.5, 2.5 -> 1.5 / sqrt(2 * 1.5).
    assert m.plcc([1, 2, 3], [0, 3, 3]) == pytest.approx(3 / math.sqrt(12))
    assert m.srcc([1, 2, 3], [0, 3, 3]) == pytest.approx(1.5 / math.sqrt(3))
    assert m.plcc([1, 2], [5, 4]) == pytest.approx(-1)


@pytest.mark.parametrize("metric", [m.plcc, m.srcc])
@pytest.mark.parametrize("constant", [[0, 0, 0], [0.1, 0.1, 0.1], [1.0, 1.0 + 1e-15, 1.0]])
def test_constant_input_is_nan_with_a_warning(metric, constant):
    for arguments in ((constant, [1, 2, 3]), ([1, 2, 3], constant)):
        with pytest.warns(RuntimeWarning, match="constant"):
            assert math.isnan(metric(*arguments))


# --- preference accuracy


def loop_counts(pred, target, group, margin=0.0):
    correct = tied = pairs = 0
    for i in range(len(pred)):
        for j in range(i):
            if group[i] == group[j] and abs(target[i] - target[j]) > margin + 1e-6:
                pairs += 1
                if abs(pred[i] - pred[j]) <= 1e-6:
                    tied += 1
                elif (pred[i] > pred[j]) == (target[i] > target[j]):
                    correct += 1
    return correct, tied, pairs


def test_hpa_by_hand():
    # Group a: targets 1, 2, 2: pairs (0,1) right, (0,2) tied by the prediction; (1,2) is a human tie and not counted.
    # Group b: targets 5, 3: ordered wrongly. Across groups nothing is compared.
    pred, target, group = [1.0, 3.0, 1.0, 2.0, 4.0], [1, 2, 2, 5, 3], ["a", "a", "a", "b", "b"]
    assert m.pair_counts(pred, target, group) == (1, 1, 3)
    assert m.hpa(pred, target, group) == pytest.approx(1 / 3)
    assert m.tie_rate(pred, target, group) == pytest.approx(1 / 3)
    # Gaps above 1: only group b's 2.
    assert m.hpa(pred, target, group, margin=1.0) == 0.0


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_hpa_matches_a_plain_loop(margin, rng):
    pred, target = np.round(rng.normal(size=150), 1), rng.integers(2, 11, 150) / 2
    group = rng.integers(0, 12, 150)
    expected = loop_counts(pred, target, group, margin)
    assert expected[1] > 0
    assert m.pair_counts(pred, target, group, margin) == expected
    keys = [(f"prompt {g}", "realism") for g in group]
    assert m.hpa(torch.tensor(pred), torch.tensor(target), keys, margin) == expected[0] / expected[2]
    assert m.hpa(pred, target, torch.tensor(group), margin) == expected[0] / expected[2]


def test_gaps_are_compared_with_a_tolerance():
    # 0.3 - 0.2 and 0.1 differ in floating point; a gap of exactly the margin is not above it.
    with pytest.warns(RuntimeWarning, match="no pair"):
        assert math.isnan(m.hpa([1, 2], [0.2, 0.3], [0, 0], margin=0.1))
    with pytest.warns(RuntimeWarning, match="no pair"):
        assert math.isnan(m.hpa([1, 2], [3, 3 + 5e-7], [0, 0]))
    assert m.hpa([1, 2], [3, 3 + 1e-5], [0, 0]) == 1.0
    assert m.hpa([1, 1 + 5e-7], [1, 2], [0, 0]) == 0.0
    assert m.tie_rate([1, 1 + 5e-7], [1, 2], [0, 0]) == 1.0


def test_a_constant_prediction_is_all_wrong():
    assert m.hpa([3, 3, 3], [1, 2, 3], [0, 0, 0]) == 0.0
    assert m.tie_rate([3, 3, 3], [1, 2, 3], [0, 0, 0]) == 1.0


def test_no_pairs_is_nan_with_a_warning():
    for metric in (m.hpa, m.tie_rate):
        with pytest.warns(RuntimeWarning, match="no pair"):
            assert math.isnan(metric([1, 2], [1, 2], ["a", "b"]))


def test_hpa_costs_as_much_as_there_are_pairs(rng):
    """450 items of one prompt and 30,000 of small groups: 101,025 + 30,000 pairs, where all against all are 463 million."""
    group = np.concatenate([np.zeros(450, int), 1 + np.arange(30_000) // 3])
    pred, target = rng.normal(size=group.size), rng.normal(size=group.size)
    tracemalloc.start()
    try:
        assert m.pair_counts(pred, target, group).pairs == 450 * 449 // 2 + 30_000
        assert tracemalloc.get_traced_memory()[1] < 20e6  # bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("group", "message"),
    [(["a"], "1 keys for 2"), ([None, "a"], "key 0 is None"), ([["a"], ["b"]], "hashable"), ([0, math.nan], "key 1")],
)
def test_bad_groups_are_refused(group, message):
    with pytest.raises(ValueError, match=message):
        m.hpa([1, 2], [1, 2], group)


def test_bad_margin_is_refused():
    with pytest.raises(ValueError, match="margin"):
        m.hpa([1, 2], [1, 2], [0, 0], margin=-0.5)


@pytest.mark.parametrize("metric", [m.plcc, m.srcc, m.expected_calibration_error, lambda p, t: m.hpa(p, t, [0] * 2)])
def test_bad_vectors_are_refused(metric):
    for pred, target, message in [
        ([], [], "not empty"),
        ([1, math.nan], [1, 2], r"pred\[1\] is nan"),
        ([1, 2], [math.inf, 2], r"target\[0\] is inf"),
        ([1, None], [1, 2], "nan"),
        ([1, 2], [1, 2, 3], "unequal lengths"),
        ([[1, 2]], [[1, 2]], "1-D"),
        (["x", "y"], [1, 2], "expected numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            metric(pred, target)


# --- aggregation and verdicts


def test_gsb_by_hand():
    assert m.gsb(6, 2, 2) == pytest.approx(0.4)
    assert m.gsb([1, 0, 1], [0, 1, 0], [0, 0, 0]) == pytest.approx(2 / 3)
    for bad in ((0, 0, 0), (-1, 2, 3)):
        with pytest.raises(ValueError, match="counts of 0 or more"):
            m.gsb(*bad)
    with pytest.raises(ValueError, match="nan"):
        m.gsb(1, math.nan, 0)


def test_gsb_interval_covers_about_the_normal_width_and_is_seeded():
    outcomes = ["good"] * 200 + ["same"] * 100 + ["bad"] * 100
    low, high = m.gsb_interval(outcomes)
    # Variance of one verdict: E x^2 - (E x)^2 = .75 - .0625; 1.96 standard errors over 400 items.
    half = 1.96 * math.sqrt(0.6875 / 400)
    assert (low, high) == (pytest.approx(0.25 - half, abs=0.01), pytest.approx(0.25 + half, abs=0.01))
    assert m.gsb_interval(outcomes) == (low, high) != m.gsb_interval(outcomes, seed=1)
    assert m.gsb_interval(["good"] * 5) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least one"):
        m.gsb_interval([])
    with pytest.raises(ValueError, match="better"):
        m.gsb_interval(["good", "better"])


def test_gsb_interval_draws_whole_groups():
    outcomes = ["good", "good"] * 50 + ["bad", "bad"] * 50
    pairs = [number // 2 for number in range(len(outcomes))]
    # A hundred groups that agree within: as wide as a hundred items, not as two hundred.
    assert m.gsb_interval(outcomes, pairs) == m.gsb_interval(outcomes[::2])
    low, high = m.gsb_interval(outcomes, pairs)
    assert high == pytest.approx(1.96 / math.sqrt(100), abs=0.02) and low == pytest.approx(-high, abs=0.04)
    with pytest.raises(ValueError, match="200 outcomes but 3 groups"):
        m.gsb_interval(outcomes, [1, 2, 3])


# --- distributions


def test_nll_by_hand():
    probs, counts = [[0.5, 0.25, 0.25], [0.1, 0.9, 0.0]], [[2, 1, 0], [0, 1, 0]]
    # Four ratings: 2 ln 2 + ln 4 + ln(1 / .9).
    assert m.nll(probs, counts) == pytest.approx((4 * math.log(2) - math.log(0.9)) / 4)
    assert m.nll([[1.0, 0.0]], [[1, 1]]) == math.inf


def test_crps_by_hand():
    # F = .5, .75 between the bins 1, 2, 4. y = 2: .5^2 * 1 + (.75 - 1)^2 * 2 = .375. y = 1: .25 + .125 = .375.
    assert m.crps([[0.5, 0.25, 0.25]], [[0, 1, 0]], [1, 2, 4]) == pytest.approx(0.375)
    # y = 4: .5^2 + .75^2 * 2 = 1.375; the mean of y = 2 and y = 4 is .875.
    assert m.crps([[0.5, 0.25, 0.25]], [[0, 1, 1]], [1, 2, 4]) == pytest.approx(0.875)
    # Items count alike, however many raters they have; a point mass scores its absolute error: (.375 + 3) / 2.
    assert m.crps([[0.5, 0.25, 0.25], [1, 0, 0]], [[0, 9, 0], [0, 0, 1]], [1, 2, 4]) == pytest.approx(1.6875)


def test_crps_matches_the_energy_form(rng):
    bins = np.arange(2, 11) / 2
    probs, counts = rng.dirichlet(np.ones(9), 20), rng.integers(0, 4, (20, 9))
    counts[:, 4] += 1  # no item without a rating
    expected = []
    for p, c in zip(probs, counts, strict=True):
        spread = sum(p[a] * p[b] * abs(bins[a] - bins[b]) for a in range(9) for b in range(9)) / 2
        errors = [sum(p * np.abs(bins - y)) - spread for y in bins]  # E|X - y| - E|X - X'| / 2
        expected.append(sum(c * errors) / sum(c))
    got = m.crps(torch.tensor(probs), counts, torch.tensor(bins))
    assert got == pytest.approx(np.mean(expected), abs=1e-12)


def test_bad_distributions_are_refused():
    for probs, counts, message in [
        ([[0.5, 0.5]], [[1, 0, 0]], r"expected \[N, S\]"),
        ([[0.5, math.nan]], [[1, 0]], "finite"),
        ([[0.5, 0.6]], [[1, 0]], "sum to 1.1"),
        ([[0.5, 0.5]], [[0, 0]], "no ratings"),
        ([[0.5, 0.5]], [[2, -1]], "not negative"),
        ([], [], "not empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            m.nll(probs, counts)
        with pytest.raises(ValueError, match=message):
            m.crps(probs, counts, [1, 2])
    with pytest.raises(ValueError, match="rising"):
        m.crps([[0.5, 0.5]], [[1, 0]], [2, 1])


def test_calibration_error_by_hand():
    # Two bins, [1, 3) and [3, 5]: predictions 1, 2 miss by -1 and 0 (mean .5), 4, 5 by +1 and -1 (mean 0): .5 / 2.
    assert m.expected_calibration_error([1, 2, 4, 5], [2, 2, 3, 6], n_bins=2) == pytest.approx(0.25)
    assert m.expected_calibration_error([3, 3, 3], [2, 3, 5]) == pytest.approx(1 / 3)
    assert m.expected_calibration_error([1, 2, 3], [1, 2, 3]) == 0.0
    with pytest.raises(ValueError, match="n_bins"):
        m.expected_calibration_error([1], [1], n_bins=0)


def test_ordinary_input_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        m.plcc([1, 2, 4], [1, 3, 2])
        m.hpa([1, 2], [1, 2], [0, 0])
        m.nll([[0.5, 0.5, 0.0]], [[1, 1, 0]])

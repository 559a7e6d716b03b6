"""Metrics at their limits: plain numbers out, names in messages, tolerances, one item, empty bins."""

from __future__ import annotations

import inspect
import math
import warnings

import numpy as np
import pytest
import torch

from zreward.data.aggregation import trimmed_mean
from zreward.evaluation import metrics as m


def test_plain_numbers_come_back():
    x, y, group = np.array([1.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0]), np.zeros(3, int)
    probs, counts = np.array([[0.5, 0.5]]), np.array([[1, 2]])
    numbers = [
        *(
            m.plcc(x, y),
            m.srcc(x, y),
            m.hpa(x, y, group),
            m.tie_rate(x, y, group),
            trimmed_mean(x),
            trimmed_mean(x[:2]),
        ),
        *(m.gsb(np.array([2]), 1, 1), *m.gsb_interval(["good", "bad"]), m.nll(probs, counts)),
        *(m.crps(probs, counts, [1, 2]), m.expected_calibration_error(x, y)),
    ]
    assert {type(number) for number in numbers} == {float}
    assert {type(count) for count in m.pair_counts(x, y, group)} == {int}


def test_every_kind_of_numbers_goes_in():
    tensor = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    half = torch.tensor([1.0, 3.0, 2.0], dtype=torch.bfloat16)
    assert m.plcc(tensor, half) == pytest.approx(m.plcc([1, 2, 4], [1, 3, 2]), abs=1e-12)
    assert m.hpa(tensor, half, torch.tensor([0, 0, 0])) == 2 / 3
    assert m.gsb(*(torch.tensor(float(n), requires_grad=True) for n in (3, 1, 1))) == 0.4
    assert m.hpa([1, 2], [1, 2], iter(["a", "a"])) == m.hpa([1, 2], [1, 2], [1.5, 1.5]) == 1.0


@pytest.mark.parametrize("name", ["plcc", "srcc"])
def test_a_warning_names_its_metric_and_its_caller(name):
    with pytest.warns(RuntimeWarning, match=f"^{name}: one input is constant") as caught:
        getattr(m, name)([1, 1], [1, 2])
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", ["hpa", "tie_rate"])
def test_a_warning_about_pairs_names_its_metric_and_its_caller(name):
    with pytest.warns(RuntimeWarning, match=f"^{name}: no pair inside a group") as caught:
        getattr(m, name)([1, 2], [1, 2], ["a", "b"])
    assert caught[0].filename == __file__


def test_nearly_constant_is_relative_to_the_size():
    with pytest.warns(RuntimeWarning, match="constant"):
        assert math.isnan(m.plcc([1e6, 1e6 + 1e-7, 1e6], [1, 2, 3]))
    with pytest.warns(RuntimeWarning, match="constant"):
        assert math.isnan(m.plcc([-1e6, -1e6 + 1e-7, -1e6], [1, 2, 3]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert m.plcc([1e-9, 2e-9, 3e-9], [1, 2, 3]) == pytest.approx(1.0)


def test_a_correlation_never_leaves_its_range():
    """Without clipping, some of these vectors come out beyond one by a rounding error."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        x = rng.normal(size=5)
        assert m.plcc(x, x) <= 1.0 and m.plcc(x, -x) >= -1.0


def test_the_margin_is_a_finite_gap():
    for bad in (-1e-9, math.nan, math.inf):
        with pytest.raises(ValueError, match="margin is .*expected a finite gap of 0 or more"):
            m.pair_counts([1, 2], [1, 2], [0, 0], bad)
    assert m.pair_counts([1, 2], [1, 2.5], [0, 0], 1.0) == (1, 0, 1)
    assert m.hpa([1, 2, 9], [1, 1.25, 2], [0, 0, 0], margin=0.5) == 1.0  # two of the three gaps are above it


def test_groups_may_stand_in_any_order_and_have_any_size():
    pred, target, group = [3, 9, 1, 5, 2, 4], [3, 9, 1, 5, 4, 2], ["b", "a", "b", "c", "b", "a"]
    # b: (3, 1, 2) against (3, 1, 4): 3-1 right, 3-2 wrong, 1-2 right. a: 9-4 right. c has one item.
    assert m.pair_counts(pred, target, group) == (3, 0, 4)
    assert m.pair_counts([1], [1], ["a"]) == (0, 0, 0)


def test_the_interval_is_that_of_plain_resampling():
    """Quantiles of the same draws, counted item by item."""
    outcomes = ["good", "bad", "same", "good", "bad", "good", "good", "same", "bad", "good", "good"]
    groups = list("ppqrrrsssst")
    taken = np.random.default_rng(7).multinomial(5, np.full(5, 1 / 5), 300)
    values = []
    for row in taken:
        drawn = [o for o, g in zip(outcomes, groups, strict=True) for _ in range(row["pqrst".index(g)])]
        values.append((drawn.count("good") - drawn.count("bad")) / len(drawn))
    expected = np.quantile(values, [0.1, 0.9])
    assert expected[0] != np.quantile(values, 0.2 / 3)
    found = m.gsb_interval(outcomes, groups, confidence=0.8, resamples=300, seed=7)
    assert found == pytest.approx(expected, abs=1e-12)


def test_the_usual_interval_is_one_of_95_percent_from_2000_draws_of_seed_0():
    outcomes = ["good"] * 7 + ["same"] * 3 + ["bad"] * 5
    assert m.gsb_interval(outcomes) == m.gsb_interval(outcomes, None, 0.95, 2000, 0)
    assert inspect.signature(m.gsb_interval).parameters["resamples"].default == 2000
    assert m.gsb_interval(outcomes, resamples=1)[0] == m.gsb_interval(outcomes, resamples=1)[1]


@pytest.mark.parametrize("settings", [{"confidence": 0}, {"confidence": 1}, {"confidence": 1.5}, {"resamples": 0}])
def test_an_interval_that_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match=r"expected 0\.\.1 and 1 or more"):
        m.gsb_interval(["good", "bad"], **settings)


def test_gsb_refuses_a_negative_count_of_any_kind_and_nothing_at_all():
    for bad in ((-1, 2, 3), (2, -1, 3), (2, 3, -1), ([1, -1], [1, 1], [1, 1]), (0, 0, 0)):
        with pytest.raises(ValueError, match="expected counts of 0 or more, not all 0"):
            m.gsb(*bad)
    assert m.gsb(0, 0, 1) == -1.0 and m.gsb(0, 1, 0) == 0.0 and m.gsb(0.25, 0.25, 0) == 0.5


def test_ratings_without_probability_and_probabilities_without_rating():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert m.nll([[0.0, 1.0], [0.5, 0.5]], [[1, 0], [1, 0]]) == math.inf
        assert m.nll([[0.0, 1.0]], [[0, 2]]) == 0.0
        assert m.nll([[0.25, 0.75]], [[0.5, 0.0]]) == pytest.approx(math.log(4))  # counts may be weights


@pytest.mark.parametrize(
    ("probs", "counts", "message"),
    [
        ([[1.0], [1.0]], [[1]], r"expected \[N, S\]"),
        ([0.5, 0.5], [1, 1], r"expected \[N, S\]"),
        ([[]], [[]], "not empty"),
        ([[0.5, math.inf]], [[1, 0]], "finite and not negative"),
        ([[0.5, 0.5]], [[1, math.nan]], "finite and not negative"),
        ([[1.5, -0.5]], [[1, 0]], "finite and not negative"),
        ([[0.5, 0.5], [0.5, 0.498]], [[1, 0], [1, 0]], r"probs of item 1 sum to 0\.998, expected 1"),
        ([[0.5, 0.5], [0.5, 0.502]], [[1, 0], [1, 0]], r"probs of item 1 sum to 1\.002, expected 1"),
        ([[0.5, 0.5], [0.5, 0.5]], [[1, 0], [0, 0]], "item 1 has no ratings"),
        ([[0.5, 0.5], [0.5, 0.5], [0.3, 0.3]], [[1, 0]] * 3, r"probs of item 2 sum to 0\.6"),
    ],
)
def test_distributions_that_are_refused(probs, counts, message):
    with pytest.raises(ValueError, match=message):
        m.nll(probs, counts)


def test_probabilities_in_half_precision_are_fine():
    assert m.nll([[0.5, 0.5005]], [[1, 0]]) == pytest.approx(math.log(2))


@pytest.mark.parametrize("bins", [[1, 2, 3], [1], [2, 1], [1, 1]])
def test_bins_that_do_not_fit_are_refused(bins):
    with pytest.raises(ValueError, match="crps: bins .* for 2 probabilities; expected one rising score for each"):
        m.crps([[0.5, 0.5]], [[1, 0]], bins)


def test_calibration_matches_a_plain_loop():
    rng = np.random.default_rng(3)
    pred, target = rng.uniform(1, 5, 200), rng.uniform(1, 5, 200)
    for n_bins in (1, 3, 10):
        low, high = pred.min(), pred.max()
        error = 0.0
        for k in range(n_bins):
            edges = low + (high - low) * k / n_bins, low + (high - low) * (k + 1) / n_bins
            inside = [i for i in range(200) if edges[0] <= pred[i] < edges[1] or (k == n_bins - 1 and pred[i] == high)]
            if inside:
                error += len(inside) / 200 * abs(pred[inside].mean() - target[inside].mean())
        assert m.expected_calibration_error(pred, target, n_bins) == pytest.approx(error, abs=1e-12)
    assert m.expected_calibration_error(pred, target) == m.expected_calibration_error(pred, target, 10)
    assert m.expected_calibration_error([2, 2], [1, 4]) == 0.5


def test_messages_about_vectors():
    for pred, target, message in (
        ([1, 2], [math.nan, 2], r"target\[0\] is nan, expected finite numbers"),
        ([[1, 2]], [1, 2], r"pred has shape \[1, 2\], expected 1-D and not empty"),
        ([], [1], r"pred has shape \[0\]"),
        ([1, 2], [1], r"unequal lengths: \{'pred': 2, 'target': 1\}"),
        ([1, math.inf, math.nan], [1, 2, 3], r"pred\[1\] is inf"),
        (["x"] * 300, [1], "got \\['x'"),
        ([[1, 2], [3]], [1], "of even shape"),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            m.plcc(pred, target)
        assert len(str(refused.value)) < 400
    with pytest.raises(ValueError, match="group key 1 is None"):
        m.hpa([1, 2], [1, 2], ["a", None])
    with pytest.raises(ValueError, match="group key 1 is nan"):
        m.hpa([1, 2], [1, 2], np.array([0.0, math.nan]))
    with pytest.raises(ValueError, match="group has 3 keys for 2 scores"):
        m.hpa([1, 2], [1, 2], "abc")

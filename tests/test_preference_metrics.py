"""Metrics of preferences beside plain loops over pairs and votes."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from zreward.evaluation import preferences as p

VOTES = [[3, 1, 0], [0, 2, 1], [1, 1, 0], [0, 0, 2], [2, 1, 3], [0.5, 0.25, 0.25], [1, 4, 0], [2, 2, 2]]
GAPS = [1.0, -0.5, 0.25, 0.0, -2.0, -0.25, -0.25, 0.5]


def verdict(gap: float, threshold: float = 0.0) -> str:
    return "tie" if abs(gap) <= threshold + 1e-6 else "a" if gap > 0 else "b"


def winner(a: float, b: float, tie: float) -> str:
    if a == b or tie > max(a, b):
        return "tie"
    return "a" if a > b else "b"


def drawn(seed: int, n: int = 60) -> tuple[list[float], list[list[int]]]:
    rng = random.Random(seed)
    gaps = [rng.choice([-1.5, -0.5, -0.25, 0.0, 0.25, 0.5, 1.5]) for _ in range(n)]
    votes = [[rng.randrange(4), rng.randrange(4), rng.randrange(3)] for _ in range(n)]
    return gaps, [each if sum(each) else [1, 0, 0] for each in votes]


def test_accuracy_is_over_pairs_with_a_winner_and_a_predicted_tie_is_wrong():
    # Winners: a, b, none, none, none, a, b, none.
    assert p.accuracy(GAPS, VOTES) == 3 / 4  # the sixth is wrong
    assert p.accuracy([0.0], [[2, 1, 0]]) == 0.0
    with pytest.warns(RuntimeWarning, match="accuracy: no pair with a winner"):
        assert math.isnan(p.accuracy([1.0], [[1, 1, 0]]))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.0, 0.25, 0.5, 3.0])
def test_accuracy_and_agreement_with_ties(seed, threshold):
    gaps, votes = drawn(seed)
    right = [verdict(gap, threshold) == winner(*each) for gap, each in zip(gaps, votes, strict=True)]
    assert p.accuracy_with_ties(gaps, torch.tensor(votes), threshold) == pytest.approx(sum(right) / len(right))
    agreed = total = 0.0
    for gap, (a, b, tie) in zip(gaps, votes, strict=True):
        agreed += {"a": a, "b": b, "tie": tie}[verdict(gap, threshold)]
        total += a + b + tie
    assert p.vote_agreement(gaps, votes, threshold) == pytest.approx(agreed / total)


@pytest.mark.parametrize("seed", range(12))
def test_the_threshold_is_the_smallest_of_the_best(seed):
    gaps, votes = drawn(seed, 14)
    candidates = sorted({0.0, *map(abs, gaps)})
    found = [p.accuracy_with_ties(gaps, votes, each) for each in candidates]
    best = next(each for each, value in zip(candidates, found, strict=True) if value > max(found) - 1e-9)
    assert p.tie_threshold(gaps, votes) == best


@pytest.mark.parametrize("seed", range(12))
def test_tie_calibration_is_a_mean_over_groups_with_one_threshold(seed):
    rng = random.Random(seed)
    group = [rng.choice("wxyz") for _ in range(24)] + ["alone"]
    pred = [rng.choice([1.0, 1.25, 2.0, 2.5, 4.0]) + rng.choice([0, 0.125]) for _ in group]
    target = [rng.choice([1.0, 2.0, 3.0]) for _ in group]

    def mean(threshold: float) -> float:
        shares = []
        for key in sorted(set(group)):
            members = [n for n, each in enumerate(group) if each == key]
            pairs = list(itertools.combinations(members, 2))
            if pairs:
                right = [verdict(pred[i] - pred[j], threshold) == verdict(target[i] - target[j]) for i, j in pairs]
                shares.append(sum(right) / len(right))
        return sum(shares) / len(shares)

    candidates = sorted({0.0, *(abs(a - b) for a in pred for b in pred)})
    best = max(map(mean, candidates))
    found = p.tie_calibrated_accuracy(pred, target, group)
    assert found.accuracy == pytest.approx(best, abs=1e-12)
    assert found.accuracy == pytest.approx(mean(found.threshold), abs=1e-12)
    assert found.threshold == next(each for each in candidates if mean(each) > best - 1e-9)


def test_without_any_pair_there_is_nothing_to_calibrate():
    with pytest.raises(ValueError, match="2 items in as many groups"):
        p.tie_calibrated_accuracy([1, 2], [1, 2], ["a", "b"])


def test_probabilities_beside_shares_of_votes():
    prob = [0.75, 0.25, 0.5, 0.4, 0.9, 0.6, 0.05, 1.0]
    votes = [*VOTES[:7], [2, 0, 0]]
    shares = [(a + tie / 2) / (a + b + tie) for a, b, tie in votes]
    nll = total = 0.0
    for q, (a, b, tie) in zip(prob, votes, strict=True):
        for part, chance in ((a + tie / 2, q), (b + tie / 2, 1 - q)):
            nll -= part * math.log(chance) if part else 0
        total += a + b + tie
    assert p.preference_nll(prob, votes) == pytest.approx(nll / total, abs=1e-12)
    brier = sum((q - share) ** 2 for q, share in zip(prob, shares, strict=True)) / len(prob)
    assert p.preference_brier(prob, votes) == pytest.approx(brier, abs=1e-12)
    assert p.preference_nll([0.0], [[1, 0, 0]]) == math.inf


def test_calibration_by_a_plain_loop_over_both_sides():
    rng = random.Random(0)
    prob = [rng.random() for _ in range(50)] + [0.0, 1.0]
    votes = [[rng.randrange(1, 4), rng.randrange(4), rng.randrange(2)] for _ in prob]
    bins: dict[int, list[float]] = {}
    for q, (a, b, tie) in zip(prob, votes, strict=True):
        share = (a + tie / 2) / (a + b + tie)
        for chance, part in ((q, share), (1 - q, 1 - share)):
            bins.setdefault(min(int(chance * 5), 4), []).append(chance - part)
    expected = sum(abs(sum(each)) for each in bins.values()) / (2 * len(prob))
    assert p.preference_ece(prob, votes, n_bins=5) == pytest.approx(expected, abs=1e-12)
    swapped = [[b, a, tie] for a, b, tie in votes]
    assert p.preference_ece([1 - q for q in prob], swapped, 5) == pytest.approx(expected, abs=1e-12)


def test_the_ceiling_is_one_rater_against_the_majority_of_the_others():
    raters = [
        {"x": "a", "y": "a", "z": "b"},  # x: others tied; y: others tied; z: against two
        {"x": "b", "y": "b", "z": "tie"},  # x with y, y with x; a tie does not count
        {"x": "a"},
    ]
    assert p.human_ceiling(raters) == 2 / 3
    with pytest.warns(RuntimeWarning, match="human_ceiling"):
        assert math.isnan(p.human_ceiling([{"x": "a", "y": "tie"}]))


def test_the_bootstrap_draws_whole_groups():
    rng = random.Random(0)
    group = [n // 4 for n in range(80)]
    shift = [rng.random() for _ in range(20)]  # the same within a group: its four items say no more than one
    first = [shift[key] for key in group]
    mean, low, high = p.paired_bootstrap(first, [0.0] * 80, group, seed=1)
    alone = p.paired_bootstrap(shift, [0.0] * 20, range(20), seed=1)
    assert mean == pytest.approx(sum(shift) / 20) and (mean, low, high) == pytest.approx(alone)
    spread = math.sqrt(sum((each - mean) ** 2 for each in shift) / 20 / 20)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert p.paired_bootstrap(first, first, group)[1:] == (0.0, 0.0)
    one, two, three = p.paired_bootstrap([0.0] * 80, first, group, seed=1)
    assert (one, two, three) == pytest.approx((-mean, -high, -low), abs=0.02)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: p.accuracy([1.0], [[1, 1]]), r"votes has shape \[1, 2\], expected \[1, 3\]"),
        (lambda: p.accuracy([1.0, 2.0], [[1, 1, 0]]), r"votes has shape \[1, 3\], expected \[2, 3\]"),
        (lambda: p.accuracy([1.0], [[0, 0, 0]]), "of every pair not all 0"),
        (lambda: p.accuracy([1.0], [[-1, 2, 0]]), "not negative"),
        (lambda: p.accuracy([math.nan], [[1, 0, 0]]), r"gap\[0\] is nan"),
        (lambda: p.preference_nll([1.5], [[1, 0, 0]]), "prob is from 1.5 to 1.5, expected probabilities"),
        (lambda: p.preference_ece([0.5], [[1, 0, 0]], 0), "n_bins is 0"),
        (lambda: p.paired_bootstrap([1.0], [1.0], [0], confidence=1.0), "confidence 1.0"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()

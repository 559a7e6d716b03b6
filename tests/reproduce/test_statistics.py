"""Intervals, tallies and curves of the reproduction, against values by hand."""

import numpy as np
import pytest
import torch

from zreward.data import Record
from zreward.evaluation.metrics import hpa
from zreward.evaluation.prediction import Predictions
from zreward.world.reproduce.statistics import PairTally, mean_curve, paired_interval, steps_to_reach, tally

BINS = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def predictions(scores: list[float]) -> Predictions:
    probs = torch.zeros(len(scores), 1, 5)
    probs[range(len(scores)), 0, [int(score) - 1 for score in scores]] = 1.0
    blank = torch.zeros(len(scores), 1)
    return Predictions(probs, BINS, ("realism",), blank, blank)


def records(scores: list[float], prompts: str) -> list[Record]:
    return [Record(prompt=p, image=b"", scores={"realism": s}) for p, s in zip(prompts, scores, strict=True)]


def test_a_tally_counts_pairs_by_prompt():
    rated = records([1, 2, 3, 5, 5, 4], "aaabbb")
    found = tally(predictions([1, 3, 2, 4, 2, 4]), rated)
    # a: (1,2) right, (1,3) right, (2,3) wrong. b: (5,5) is no pair; (5,4) tied, (5,4) wrong.
    assert found.correct.tolist() == [2, 0]
    assert found.total.tolist() == [3, 2]
    assert found.correct.sum() / found.total.sum() == hpa([1, 3, 2, 4, 2, 4], [1, 2, 3, 5, 5, 4], list("aaabbb"))


def test_the_difference_is_that_of_the_mean_hpa_and_lies_in_its_interval():
    generator = np.random.default_rng(0)
    total = np.full(200, 6.0)
    first = [PairTally(generator.binomial(6, 0.8, 200).astype(float), total) for _ in range(3)]
    second = [PairTally(generator.binomial(6, 0.7, 200).astype(float), total) for _ in range(3)]
    difference, low, high = paired_interval(first, second)
    means = [np.mean([t.correct.sum() / t.total.sum() for t in side]) for side in (first, second)]
    assert difference == pytest.approx(means[0] - means[1])
    assert 0 < low < difference < high
    # One seed, independent prompts: about 1.96 standard errors of two binomials over 1200 pairs each.
    _, low, high = paired_interval(first[:1], second[:1])
    assert high - low == pytest.approx(2 * 1.96 * ((0.16 + 0.21) / 1200) ** 0.5, rel=0.15)


def test_a_method_beside_itself_differs_by_nothing():
    same = [PairTally(np.array([3.0, 1.0]), np.array([4.0, 4.0]))] * 2
    assert paired_interval(same, same) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="2 and 1 seeds"):
        paired_interval(same, same[:1])


def test_curves():
    assert mean_curve([[(0, 0.5), (10, 0.7)], [(0, 0.7), (10, 0.9), (20, 1.0)]]) == [(0, 0.6), (10, pytest.approx(0.8))]
    assert steps_to_reach([(0, 0.5), (20, 0.8), (10, 0.7)], 0.7) == 10
    assert steps_to_reach([(0, 0.5)], 0.7) is None

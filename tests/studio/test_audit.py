"""The audit's numbers, against hand-made cases, plain loops and the built-in world's raters."""

from __future__ import annotations

import random

import krippendorff
import numpy as np
import pytest

from zreward.distribution import ScoreScale
from zreward.studio.domain.audit import Answers, audit_raters
from zreward.world.raters import make_panel

SCALE = ScoreScale()


def answers(rows, gold=None, dimensions=None):
    """rows: (rater, unit, score or None[, occasion[, adjusted]])"""
    rows = [(*row, *(0, None)[len(row) - 3 :]) for row in rows]
    gold, dimensions = gold or {}, dimensions or {}
    nan = float("nan")
    first = [nan if score is None else score for _, _, score, _, _ in rows]
    final = [score if row[4] is None else row[4] for score, row in zip(first, rows, strict=True)]
    return Answers(
        rater=np.array([row[0] for row in rows]),
        unit=np.array([row[1] for row in rows]),
        dimension=np.array([dimensions.get(row[1], 0) for row in rows]),
        occasion=np.array([row[3] for row in rows]),
        first=np.array(first, float),
        final=np.array(final, float),
        gold=np.array([gold.get(row[1], nan) for row in rows], float),
    )


def one(rows, rater=1, **known):
    found = audit_raters(answers(rows, **known), SCALE).of(rater)
    assert found is not None
    return found


def test_accuracy_counts_half_a_point_as_right_and_leaves_out_what_was_not_judged():
    found = one([(1, 0, 3.5), (1, 1, 4.5), (1, 2, 3.0), (1, 3, None), (1, 4, 1.0)], gold={0: 3, 1: 5, 2: 4, 3: 2})
    assert (found.gold, found.answers, found.unjudged) == (3, 4, 1)
    assert found.accuracy == pytest.approx(2 / 3)
    low, high = found.accuracy_interval
    assert low < 2 / 3 < high
    assert found.passes(2 / 3) and not found.passes(0.7)
    assert found.reason(0.7) == "misses 0.70 with 0.67 on 3 gold items"


def test_accuracy_takes_the_adjusted_score():
    assert one([(1, 0, 4.0, 0, 3.5)], gold={0: 3}).accuracy == 1


def test_without_gold_nobody_passes():
    found = one([(1, 0, 3.0)])
    assert found.accuracy is None and found.accuracy_interval is None
    assert not found.passes(0.0)
    assert found.reason(0.7) == "has answered no gold item"


def test_consistency_compares_the_answers_of_step_1():
    rows = [(1, 0, 3.0, 0, 4.0), (1, 0, 3.5, 1), (1, 1, 2.0), (1, 1, 4.0, 1), (1, 2, None), (1, 2, 4.0, 1)]
    found = one(rows)
    assert (found.repeated, found.consistency) == (2, 0.5)


def test_bias_is_against_the_others_only():
    rows = [(1, 0, 4.0), (2, 0, 3.0), (3, 0, 2.0), (1, 1, 5.0), (2, 1, 4.0), (1, 2, 1.0), (1, 0, 1.0, 1)]
    found = one(rows)
    assert (found.shared, found.bias) == (2, pytest.approx((1.5 + 1.0) / 2))


def test_the_panels_agreement_is_krippendorffs_by_dimension():
    rng = random.Random(1)
    truths = [1 + 0.5 * rng.randrange(9) for _ in range(80)]
    rows = [
        (rater, unit, min(5.0, max(1.0, truth + 0.5 * rng.randrange(-1, 2))))
        for unit, truth in enumerate(truths)
        for rater in range(3)
        if rng.random() < 0.8
    ]
    found = audit_raters(answers(rows, dimensions={unit: unit % 2 for unit in range(80)}), SCALE)
    for dimension in (0, 1):
        table = np.full((3, 80), np.nan)
        for rater, unit, score in rows:
            if unit % 2 == dimension:
                table[rater, unit] = score
        expected = krippendorff.alpha(table, level_of_measurement="ordinal")
        assert found.agreement[dimension] == pytest.approx(expected, abs=1e-9)


def test_agreement_is_undefined_without_anything_to_compare():
    assert one([(1, 0, 3.0), (1, 1, 4.0)]).agreement is None
    assert one([(1, 0, 3.0), (2, 0, 3.0), (1, 1, 3.0), (2, 1, 3.0)]).agreement is None  # one value: alpha is 0/0
    assert audit_raters(answers([(1, 0, None)]), SCALE).agreement == {0: None}


def test_nothing_answered_is_an_empty_audit():
    empty = np.array([], int)
    found = audit_raters(
        Answers(empty, empty, empty, empty, empty.astype(float), empty.astype(float), empty.astype(float)), SCALE
    )
    assert found.raters == () and found.agreement == {}


@pytest.mark.parametrize("seed", range(5))
def test_the_worlds_careless_rater_comes_out_last(seed):
    rng = random.Random(seed)
    panel = make_panel(rng)
    truths = [1 + 0.5 * rng.randrange(9) for _ in range(300)]
    rows = [
        (number, unit, rater.rate(truth, rng))
        for unit, truth in enumerate(truths)
        for number, rater in enumerate(panel)
    ]
    rows += [
        (number, unit, rater.rate(truths[unit], rng), 1) for unit in range(60) for number, rater in enumerate(panel)
    ]
    found = audit_raters(answers(rows, gold=dict(enumerate(truths[:120]))), SCALE)
    careless = len(panel) - 1
    for value in ("accuracy", "consistency", "agreement"):
        assert min(found.raters, key=lambda rater: getattr(rater, value)).rater == careless

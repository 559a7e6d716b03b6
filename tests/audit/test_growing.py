"""Growing defects: pictures get worse step by step, and models that do not see it, or like it, are named."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.audit.fakes import drawings, failed, sharpness, subject
from zreward.audit.defects import COVERED, DEFECTS, LEVELS, spoil
from zreward.audit.monotonicity import judged, monotonicity
from zreward.audit.thresholds import MonotonicityLimits


@pytest.mark.parametrize("kind", DEFECTS)
def test_every_level_is_further_from_the_picture(kind):
    """Wrong program: levels in the wrong order, or the same at all levels."""
    images = drawings(4, 96)
    away = [0.0]
    for level in range(1, LEVELS + 1):
        spoiled = spoil(images, kind, level, 0)
        assert [one.size for one in spoiled] == [one.size for one in images]
        pairs = zip(spoiled, images, strict=True)
        away.append(np.mean([np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() for a, b in pairs]))
    assert all(after > 1.1 * before for before, after in itertools.pairwise(away)), away


def test_spoiling_repeats_and_covers_what_it_says():
    image = drawings(1, 100)[0]
    (first,), (again,) = spoil([image], "noise", 2, 3), spoil([image], "noise", 2, 3)
    assert np.array_equal(np.asarray(first), np.asarray(again))
    (other,) = spoil([image], "noise", 2, 4)
    assert not np.array_equal(np.asarray(first), np.asarray(other))
    (covered,) = spoil([image], "occlusion", 4, 0)
    grey = (np.asarray(covered) == 128).all(-1).mean()
    assert grey == pytest.approx(COVERED[3], abs=0.01)


def test_falls_and_rises_beside_a_plain_loop():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 4, (LEVELS + 1, 7, 2))
    rows = judged("blur", ("realism", "alignment"), points, MonotonicityLimits())
    for d, row in enumerate(rows):
        means = [sum(points[level, :, d]) / 7 for level in range(LEVELS + 1)]
        assert row.figures["fall"] == pytest.approx(means[0] - means[-1])
        assert row.figures["rise"] == pytest.approx(max(mean - means[0] for mean in means))
        assert row.figures["lowered"] == sum(points[-1, n, d] < points[0, n, d] for n in range(7)) / 7


def test_a_blind_dimension_is_named_and_another_dimension_does_not_stand_in():
    """Wrong program: any dimension that falls is enough."""
    found = monotonicity(subject(alignment=sharpness), MonotonicityLimits())
    assert failed(found) >= {("blur", "realism"), ("noise", "realism")}
    assert not failed(monotonicity(subject(realism=sharpness), MonotonicityLimits()), "noise")
    anything = MonotonicityLimits(blur=[], noise=["unknown"])
    found = monotonicity(subject(alignment=sharpness), anything)
    assert not failed(found, "blur") and not failed(found, "noise")


def test_a_model_that_likes_a_defect_is_named():
    """Wrong program: only the last level is compared, or only falls are looked at."""
    points = np.full((LEVELS + 1, 3, 2), 2.0)
    points[:, :, 0] -= np.arange(LEVELS + 1)[:, None] / 4  # realism falls as it should
    points[2, :, 1] = 3.0  # alignment rises in between
    rows = judged("blur", ("realism", "alignment"), points, MonotonicityLimits())
    assert [row.failed for row in rows] == [False, True] and "likes it: rises by 1.00" in rows[1].verdict

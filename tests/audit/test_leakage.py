"""Leaks between dimensions, and defects that a model does not see."""

from __future__ import annotations

import numpy as np
import pytest

from tests.audit.fakes import drawings, failed, sharpness, subject
from zreward.audit import leakage as module
from zreward.audit.known import KnownDefect
from zreward.audit.leakage import leakage, leaks, seen
from zreward.audit.thresholds import LeakageLimits

LIMITS = LeakageLimits()


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(module, "known_defects", lambda prompts, dimensions, seed: [])


def test_shares_beside_numbers():
    rows = leaks("x", "b", ("a", "b", "c"), np.array([0.9, 2.0, 0.1]), ["a", "c", "b", "unknown"], LIMITS)
    assert [(row.dimension, row.failed) for row in rows] == [("a", True), ("c", False)]
    assert rows[0].figures == {"own_fall": 2.0, "fall": 0.9, "share": pytest.approx(0.45)}
    assert "45% of what b loses (at most 40%)" in rows[0].verdict


def test_a_defect_that_is_not_seen_is_said_to_be_so():
    """Wrong program: a share of nearly nothing, which is any number."""
    (row,) = leaks("x", "b", ("a", "b"), np.array([0.5, 0.01]), ["a"], LIMITS)
    assert row.failed and row.dimension == "b" and "does not see it" in row.verdict


def test_alignment_that_follows_realism_is_named_and_alignment_that_does_not_is_not():
    contaminated = subject(realism=sharpness, alignment=sharpness)
    assert ("noise", "alignment") in failed(leakage(contaminated, LIMITS))
    assert ("noise", "alignment") not in failed(leakage(subject(realism=sharpness), LIMITS))
    everything = subject(realism=sharpness, aesthetics=sharpness)
    assert ("noise", "aesthetics") not in failed(leakage(everything, LIMITS))  # people mind noise there, too


def test_known_defects_are_judged_in_their_own_dimension_and_pooled_for_the_others(monkeypatch):
    """Wrong programs: another dimension's fall; after minus before; one defect alone decides on leakage."""
    bright = [image.point(lambda value: 255) for image in drawings(3)]
    dark = [image.point(lambda value: 0) for image in drawings(3)]
    half = [image.point(lambda value: 128) for image in drawings(3)]
    texts = ["a red circle"] * 3
    defects = [
        KnownDefect("night", "aesthetics", texts, bright, dark, 4.0),
        KnownDefect("dusk", "aesthetics", texts, bright, half, 4.0),
        KnownDefect("dawn", "plausibility", texts, bright, dark, 1.0),
    ]
    monkeypatch.setattr(module, "known_defects", lambda prompts, dimensions, seed: defects)

    def brightness(pixels, prompt):
        return 1 + 4 * pixels.mean()

    def leaky(pixels, prompt):
        return 3 + 2 * (pixels.mean() > 0.1).double() + 0 * pixels.sum()

    found = leakage(subject(aesthetics=brightness, alignment=leaky), LIMITS)
    rows = {(row.what, row.dimension): row for row in found.rows}
    assert rows["night", "aesthetics"].figures["own_fall"] == pytest.approx(4)
    assert rows["dusk", "aesthetics"].figures["seen"] == pytest.approx(127 / 255)
    pooled = rows["known defects of aesthetics", "alignment"]
    falls = [4.0, 4 * 127 / 255]
    assert pooled.figures["share"] == pytest.approx((2.0 + 0.0) / sum(falls)) and not pooled.failed
    assert rows["dawn", "plausibility"].failed and "takes 0.00 points, people 1" in rows["dawn", "plausibility"].verdict


def test_how_much_must_be_seen():
    defect = KnownDefect("x", "a", [], [], [], 2.0)
    assert seen(defect, 0.29, LIMITS).failed and not seen(defect, 0.31, LIMITS).failed  # 15 % of 2 points

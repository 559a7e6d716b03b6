"""The same picture in another file: drift of models whose answer is known, beside a plain loop."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.audit.fakes import drawings, failed, subject
from zreward.audit.invariance import drift, invariance
from zreward.audit.storage import HARMLESS, STORED
from zreward.audit.thresholds import InvarianceLimits
from zreward.data.images import open_image


def test_drift_beside_a_plain_loop():
    moves = np.array([0.2, -0.7, 0.1, 1.5, -0.5])
    sizes = [abs(move) for move in moves.tolist()]
    found = drift(moves)
    assert found["mean"] == pytest.approx(sum(sizes) / 5) == pytest.approx(0.6)
    assert found["moved"] == 2 / 5  # half a point itself does not count
    assert found["p95"] == pytest.approx(0.7 + (1.5 - 0.7) * (0.95 * 4 - 3))  # sizes sorted: .1 .2 .5 .7 1.5
    assert found["rise"] == pytest.approx(sum(moves.tolist()) / 5)


@pytest.mark.parametrize("what", STORED)
def test_what_keeps_the_pixels_keeps_them(what):
    for image in drawings(2):
        assert np.array_equal(np.asarray(open_image(STORED[what](image))), np.asarray(image))


def test_the_turned_file_is_on_its_side_and_the_profile_is_not_rgb():
    image = drawings(1)[0].crop((0, 0, 48, 20))
    assert Image.open(io.BytesIO(STORED["EXIF orientation"](image))).size == (20, 48)
    assert Image.open(io.BytesIO(HARMLESS["colour profile (CIELAB)"](image))).mode == "LAB"


@pytest.mark.parametrize("what", HARMLESS)
def test_harmless_edits_change_little(what):
    image = drawings(1)[0]
    edited = open_image(HARMLESS[what](image)).resize(image.size)
    away = np.abs(np.asarray(edited, dtype=float) - np.asarray(image, dtype=float)).mean()
    assert (0 if "profile" in what or "200" in what else 0.01) <= away < 12


def test_a_model_that_reads_the_file_and_not_the_picture_is_found():
    """Wrong program: a reward whose score follows the width; a crop and nothing else changes it."""

    def width(pixels, prompt):
        return 0 * pixels.sum() + (2.0 if pixels.shape[-1] == 48 else 4.5)

    found = invariance(subject(realism=width), InvarianceLimits())
    assert failed(found) == {("cropped by 3 %", "realism")}
    row = next(row for row in found.rows if row.failed)
    assert row.figures["mean"] == pytest.approx(2.5) and row.figures["rise"] == pytest.approx(2.5)
    assert row.verdict.startswith("moves by 2.50 points on average (at most 0.5)")
    assert invariance(subject(), InvarianceLimits()).failures == []


def test_stored_edits_have_a_limit_of_their_own():
    """Wrong program: one limit for all. A model that opens files wrongly moves by a little, everywhere."""
    some = subject()
    some.clean += 0.1
    assert {what for what, _ in failed(invariance(some, InvarianceLimits()))} == set(STORED)
    assert not failed(invariance(some, replace(InvarianceLimits(), stored_mean=0.2)))

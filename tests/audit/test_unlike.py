"""Entropy as a signal for pictures unlike the data."""

from __future__ import annotations

import numpy as np
import pytest

from tests.audit.fakes import drawings, failed, subject
from zreward.audit.strangers import STRANGERS, shuffled
from zreward.audit.thresholds import UnlikeLimits
from zreward.audit.unlike import auroc, unlike


def test_auroc_beside_a_plain_loop():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 6, 30).astype(float), rng.integers(0, 5, 20).astype(float)
    wins = sum((a > b) + (a == b) / 2 for a in one for b in other)
    assert auroc(one, other) == pytest.approx(wins / 600)
    assert auroc([2, 3], [0, 1]) == 1 and auroc([0], [1]) == 0 and auroc([1], [1]) == 0.5


@pytest.mark.parametrize("what", STRANGERS)
def test_strangers_have_the_size_of_the_data_and_are_not_the_data(what):
    images = drawings(3)
    made = STRANGERS[what](images, 0)
    for one, image in zip(made, images, strict=True):
        assert one.size == image.size and not np.array_equal(np.asarray(one), np.asarray(image))


def test_shuffling_keeps_the_colours():
    image = drawings(1)[0]
    (mixed,) = shuffled([image], 0)
    for colours in (np.asarray(image), np.asarray(mixed)):
        assert sorted(map(tuple, colours.reshape(-1, 3).tolist())) == sorted(
            map(tuple, np.asarray(image).reshape(-1, 3).tolist())
        )


def test_a_model_that_is_unsure_of_noise_gives_a_signal():
    """Its score is in the middle, where the spread is widest, for grainy pictures, and near the end for the data."""

    def grain(pixels, prompt):
        step = (pixels[:, :, 1:] - pixels[:, :, :-1]).abs().mean()
        return 5 - (20 * step).clamp(0, 2)

    found = unlike(subject(realism=grain), UnlikeLimits(auroc=0.9))
    rows = {row.what: row for row in found.rows}
    assert rows["noise"].figures["auroc_entropy"] == 1 and rows["noise"].figures["auroc_std"] == 1
    assert not rows["noise"].failed and "tells them apart" in rows["noise"].verdict
    sure = unlike(subject(), UnlikeLimits(auroc=0.9))
    assert len(failed(sure)) == len(STRANGERS) and sure.rows[0].figures["auroc_entropy"] == 0.5
    assert unlike(subject(), UnlikeLimits()).failures == []  # shown, not judged

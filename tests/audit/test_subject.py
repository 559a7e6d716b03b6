"""What checks are given: records chosen evenly, scores in points of a 1-to-5 scale."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.audit.fakes import FakeModel, drawings
from zreward.audit.run import check_names
from zreward.audit.subject import Subject, evenly
from zreward.common.errors import InputError
from zreward.data.record import Record
from zreward.distribution import ScoreDistribution, ScoreScale

RECORDS = [Record(f"picture {n}", image) for n, image in enumerate(drawings(9))]


def test_records_are_chosen_evenly():
    assert evenly(9, 3) == [0, 3, 6] and evenly(3, 9) == [0, 1, 2] and evenly(10, 4) == [0, 2, 5, 7]
    model: Any = FakeModel()
    assert Subject(model, RECORDS, pictures=3).prompts == ["picture 0", "picture 3", "picture 6"]


def test_points_of_another_scale_are_stretched():
    """Wrong program: raw differences, so that a threshold means something else on a scale from 0 to 100."""
    scale = ScoreScale(0, 100, 10)
    rubric = SimpleNamespace(scale=scale, dimensions=[SimpleNamespace(name="realism")])
    probs = torch.zeros(1, 1, len(scale))
    probs[..., 3] = 1  # 30 of 100
    model: Any = SimpleNamespace(
        forms=SimpleNamespace(reference=None),
        rubric=rubric,
        score=lambda images, prompts, names, batch: ScoreDistribution(probs, scale.bins, names),
    )
    some = Subject(model, RECORDS[:1])
    assert some.score(some.images).tolist() == [[pytest.approx(1.2)]] and some.clean.tolist() == [[pytest.approx(1.2)]]


def test_models_that_compare_and_empty_data_are_refused():
    model: Any = SimpleNamespace(forms=SimpleNamespace(reference="the other"))
    with pytest.raises(InputError, match="compares two pictures"):
        Subject(model, RECORDS)
    fake: Any = FakeModel()
    with pytest.raises(InputError, match="no records"):
        Subject(fake, [])


def test_names_of_checks():
    assert check_names(None)[0] == "invariance" and check_names(("unlike", "prompts")) == ("unlike", "prompts")
    with pytest.raises(InputError, match="stands twice"):
        check_names(("unlike", "unlike"))

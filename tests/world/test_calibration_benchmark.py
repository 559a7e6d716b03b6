"""benchmarks/world_calibration.py: its baselines and its differences, beside plain loops."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from zreward.data import Record
from zreward.distribution import ScoreScale
from zreward.evaluation.calibration_table import CalibrationItems

SCALE = ScoreScale(1, 3, 1)


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import world_calibration

    yield world_calibration
    sys.modules.pop("world_calibration", None)


def items(probs: list[list[float]], counts: list[list[int]], group: list[str]) -> dict[str, CalibrationItems]:
    blank = np.zeros(len(probs))
    nobody = np.zeros((0, 2), int), np.zeros((0, 3)), np.ones(0)
    probs_MKS = torch.tensor(probs, dtype=torch.float64)[:, None]
    return {"a": CalibrationItems(probs_MKS, np.array(counts, float), blank, group, blank, *nobody)}


def test_every_picture_keeps_one_of_its_raters_in_turn(benchmark):
    records = [Record("p", b"x", {"a": {"u": 1.0, "v": None, "w": 3.0}, "b": {"u": None}}) for _ in range(3)]
    assert [record.scores for record in benchmark.one_rating(records)] == [{"a": 1.0}, {"a": 3.0}, {"a": 1.0}]


def test_a_point_mass_keeps_the_expected_score(benchmark):
    given = items([[0.2, 0.3, 0.5], [1, 0, 0]], [[1, 0, 0]] * 2, ["p", "q"])
    found = benchmark.point_mass(given, SCALE)["a"].probs[:, 0]
    torch.testing.assert_close(found, torch.tensor([[0, 0.7, 0.3], [1, 0, 0]], dtype=torch.float64))


def test_differences_beside_plain_loops(benchmark):
    counts, group = [[2, 0, 1], [0, 1, 0], [0, 0, 3]], ["p", "p", "q"]
    tables = {"one": [[0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]], "two": [[0.4, 0.4, 0.2]] * 3}
    (row,) = benchmark.differences(
        {n: items(p, counts, group) for n, p in tables.items()}, np.array([1.0, 2, 3]), "one"
    )

    def plain(probs: list[list[float]]) -> tuple[float, float]:
        crps, nll = 0.0, 0.0
        for p, c in zip(probs, counts, strict=True):
            for y, count in enumerate(c):
                share = count / sum(c) / len(probs)
                crps += share * sum((sum(p[: x + 1]) - (y <= x)) ** 2 for x in range(2))
                nll -= share * np.log(p[y])
        return crps, nll

    one, two = plain(tables["one"]), plain(tables["two"])
    assert (row["model"], row["minus"]) == ("one", "two")
    assert (row["crps"], row["nll"]) == (pytest.approx(one[0] - two[0]), pytest.approx(one[1] - two[1]))
    assert row["crps_interval"][0] <= row["crps"] <= row["crps_interval"][1]

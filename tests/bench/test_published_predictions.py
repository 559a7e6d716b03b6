"""Figures that other projects published, reproduced from their predictions and ratings through `zreward bench`."""

from __future__ import annotations

import pytest

from tests.test_metrics_published import PUBLISHED_PLCC
from zreward.bench.commands import Request, run_bench
from zreward.bench.run import Asking


@pytest.fixture(scope="module")
def results(shared_data):
    file = shared_data / "tifa160" / "human_annotations_with_scores.json"
    tables = {name: f"{file}#{name}" for name in PUBLISHED_PLCC}
    request = Request({}, {"tifa160": file}, tables, asking=Asking(resamples=2))
    report = run_bench(request, lambda name: None, print)
    return {(row["model"], row["figure"]): row for row in report.document["results"]}


@pytest.mark.parametrize("name", PUBLISHED_PLCC)
def test_tifa_160(results, name):
    row = results[name, "plcc"]
    assert row["official"] and (row["answers"], row["prompts"]) == (800, 160)
    assert f"{row['value']:.6f}" == f"{PUBLISHED_PLCC[name]:.6f}"

"""Figures that other projects published, reproduced from their predictions and ratings through `zreward bench`."""

from __future__ import annotations

import pytest

from tests.data.importers.published import real_file
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


def test_quoted_figures_stand_beside_ours_with_their_source(shared_data, tmp_path):
    file = shared_data / "tifa160" / "human_annotations_with_scores.json"
    request = Request({}, {"tifa160": file}, {"bleu": f"{file}#bleu"}, asking=Asking(resamples=2))
    report = run_bench(request, lambda name: None, print)
    assert {row["model"] for row in report.document["quoted"]} >= {"ImageReward", "PickScore"}
    _, table, page = (path.read_text() for path in report.write(tmp_path / "out"))
    assert "| tifa160 | alignment | PLCC | ImageReward (quoted) | 0.6336 |" in table
    assert "- quoted figures of tifa160: github.com/DYEvaLab/EvalMuse, README.md." in table
    assert "nothing of this was measured here" in page and "github.com/DYEvaLab/EvalMuse" in page


@pytest.mark.parametrize("name", PUBLISHED_PLCC)
def test_tifa_160(results, name):
    row = results[name, "plcc"]
    assert row["official"] and (row["answers"], row["prompts"]) == (800, 160)
    assert f"{row['value']:.6f}" == f"{PUBLISHED_PLCC[name]:.6f}"


TIGER = "TIGER-AI-Lab/GenAI-Bench"
EDITING = {
    "random": "25.8977",
    "llava": "26.1153",
    "idefics2": "27.3123",
    "blip2": "26.0065",
    "videollava": "26.6594",
    "minicpm-V-2.5": "25.2448",
    "llavanext": "25.3536",
    "qwenVL": "14.9075",
}
"""github.com/TIGER-AI-Lab/GenAI-Bench, genaibench_results.txt, column Image Editing Accuracy, in percent."""


@pytest.mark.parametrize("name", EDITING)
def test_genai_bench_image_editing(name):
    file = real_file(f"{TIGER}/results/image_edition/{name}/pairwise.jsonl")
    request = Request({}, {"genai-bench-votes": file}, {name: f"{file}#model_vote"}, asking=Asking(resamples=2))
    report = run_bench(request, lambda model: None, print)
    (row,) = [row for row in report.document["results"] if row["official"]]
    assert (row["figure"], row["answers"]) == ("exact_label", 919)
    assert f"{100 * row['value']:.4f}" == EDITING[name]

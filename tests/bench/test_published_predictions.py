"""Figures that other projects published, reproduced from their predictions and ratings through `zreward bench`."""

from __future__ import annotations

import json
from pathlib import Path

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


UPSCALING = "Telecommunication-Telemedia-Assessment/ai_upscaling"
APPEAL = {
    "Xception": {"plcc": "0.813942", "krcc": "0.581006", "srcc": "0.767175"},
    "ResNet152V2": {"plcc": "0.837539", "krcc": "0.622268", "srcc": "0.811008"},
}
"""github.com/Telecommunication-Telemedia-Assessment/ai_upscaling (GPL-3.0), commit d05f635, in appeal_prediction: Pearson (p),
Kendall (k) and Spearman (s) as check_results.ipynb shows them, of results/MODEL_predictions.csv, columns truth and prediction."""


@pytest.mark.parametrize("ratings", APPEAL)
@pytest.mark.parametrize("name", APPEAL)
def test_appeal_of_upscaled_pictures(name, ratings):
    """Every file repeats the ratings, in the same order: those of one file are a suite for the predictions of the other."""
    suite, said = (real_file(f"{UPSCALING}/appeal_prediction/results/{one}_predictions.csv") for one in (ratings, name))
    request = Request({}, {"appeal": Path(f"{suite}#truth")}, {name: f"{said}#prediction"}, asking=Asking(resamples=2))
    report = run_bench(request, lambda model: None, print)
    rows = {row["figure"]: row for row in report.document["results"]}
    assert {figure: f"{row['value']:.6f}" for figure, row in rows.items()} == APPEAL[name]
    assert rows["srcc"]["official"] and (rows["srcc"]["answers"], rows["srcc"]["prompts"]) == (374, 374)
    assert report.notes == [f"{name} on appeal: rows were matched by their number; no column says what a row is about"]


VIESCORE = "TIGER-AI-Lab/VIEScore"


def test_viescore_gemini_on_custom_diffusion(tmp_path):
    """github.com/TIGER-AI-Lab/VIEScore (MIT), analyze_json.ipynb: PQ of CustomDiffusion, Gemini without examples, SRCC 0.3046.

    Derived as the notebook does it: the least of the model's two scores, the mean of three raters' second number.
    """
    task = "ImagenHub_Multi-Concept_IC"
    said = json.loads(real_file(f"{VIESCORE}/_answers/results_gemini_0shot/{task}/CustomDiffusion/PQ.json").read_text())
    raters: dict[str, dict[str, float]] = {}
    for rater in "123":
        folder = f"{VIESCORE}/_human_annotations/ImagenHub_human_eval_results/{task}"
        for line in real_file(f"{folder}/Multi-Subject_IG_rater{rater}.tsv").read_text().splitlines()[1:]:
            name, first, *_ = line.split("\t")
            raters.setdefault(name, {})[rater] = json.loads(first)[1]
    rows = [
        {"id": name, "prompt": name, "image": name, "scores": {"quality": scores}} for name, scores in raters.items()
    ]
    (tmp_path / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "said.json").write_text(json.dumps({name: {"PQ": min(one["score"])} for name, one in said.items()}))
    request = Request({}, {"viescore": tmp_path / "suite.jsonl"}, {"gemini": f"{tmp_path}/said.json#PQ"})
    (row,) = [row for row in run_bench(request, lambda model: None, print).document["results"] if row["official"]]
    assert (row["figure"], row["answers"], f"{row['value']:.4f}") == ("srcc", 102, "0.3046")

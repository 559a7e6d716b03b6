"""The student of several AGIQA-3K models: its recipe, and a miniature of the whole comparison with tiny parts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.models.parts import write_language, write_tower
from tests.test_agiqa_recipe import miniature  # noqa: F401 (a fixture)
from zreward.data import load_records
from zreward.training.recipe import load_recipe

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import agiqa3k_student

    yield agiqa3k_student
    for name in ("agiqa3k_student", "agiqa3k_pretrained", "agiqa3k", "timing"):
        sys.modules.pop(name, None)


def test_the_student_has_half_of_its_teachers_language_layers():
    teacher, student = (load_recipe(RECIPES / f"agiqa3k-clip-smollm2{end}.yaml") for end in ("", "-student"))
    assert student.method == "risd" and teacher.method == "sft"
    assert student.model.compose.language_layers * 2 == teacher.model.compose.language_layers
    assert student.model.compose.layers == teacher.model.compose.layers and student.model.compose.vision_layers is None
    assert student.optimizer == teacher.optimizer


@pytest.mark.slow
def test_the_whole_comparison_on_a_miniature(benchmark, miniature, tmp_path, monkeypatch):  # noqa: F811
    root = Path(load_records(miniature)[0].image).parents[1]
    tower, language = write_tower("clip", tmp_path / "clip"), write_language(tmp_path / "language")
    small = [f"model.compose.vision={tower}", f"model.compose.language={language}", "model.compose.layers=[1, 2]"]
    small += ["model.compose.vision_layers=2", "model.compose.language_layers=2", "model.image_pool=2"]
    small += ["optimizer.steps=2", "optimizer.batch_size=4", "optimizer.projector_steps=1", "optimizer.warmup_steps=1"]
    out = tmp_path / "out"
    command = ["agiqa3k_student", str(root), *small, "eval_every=0", "--out", str(out), "--split", "dev"]
    monkeypatch.setattr(sys, "argv", command)
    benchmark.main()
    found = json.loads((out / "student-dev.json").read_text())
    teachers = ["mean of the teachers", "teacher, seed 0", "teacher, seed 1"]
    names = 2 * ["student, RISD", "student, SFT", *teachers]
    assert {part: [row["model"] for row in rows] for part, rows in found["rows"].items()} == {
        "whole tower": names, "half of the tower": names, "mean of the teachers": 2 * teachers,
    }  # fmt: skip
    assert list(found["cost"]) == ["a teacher", "student, whole tower", "student, half of the tower"]
    np.save(out / "tower.npy", np.random.default_rng(0).normal(size=(len(load_records(miniature)), 3)))  # for --reuse
    labels, mean = (
        [
            [row["probs"] for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
            for folder in folders
        ]
        for folders in ([out / "run-0" / "targets", out / "run-1" / "targets"], [out / "targets-mean"])
    )
    np.testing.assert_allclose(mean[0], np.mean(labels, 0), atol=1e-7)
    assert not np.allclose(labels[0], labels[1])
    assert list(found["cost"]) == ["a teacher", "student, whole tower", "student, half of the tower"]
    assert len(mean[0]) == 2 * len(load_records(miniature, split="train"))
    minutes = [file.stat().st_mtime_ns for file in sorted(out.glob("*/minutes.json"))]
    monkeypatch.setattr(sys, "argv", [*command, "--reuse"])
    benchmark.main()
    assert [file.stat().st_mtime_ns for file in sorted(out.glob("*/minutes.json"))] == minutes
    again = json.loads((out / "student-dev.json").read_text())
    assert [row["model"] for row in again["rows"]["mean of the teachers"]] == 2 * [*teachers, "ridge on CLIP"]
    kept = [row for row in again["rows"]["whole tower"] if row["model"] != "ridge on CLIP"]
    assert kept == found["rows"]["whole tower"] and all(seconds > 0 for seconds in again["cost"].values())

"""`zreward evaluate`: metrics printed and written, and records that it refuses."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from tests.commands.inputs import complains, recipe, records, row
from zreward.cli import main as cli

RUBRICS = Path(cli.__file__).parents[1] / "rubrics"


def test_evaluate_prints_metrics_and_writes_them(zreward, picture, tmp_path):
    other = tmp_path / "other.png"
    Image.new("RGB", (32, 32), (10, 40, 240)).save(other)
    data = records(tmp_path / "rated.jsonl", row(picture), row(other, scores={"realism": [4, 4.5, 5]}))
    code, out, _ = zreward("evaluate", "world:small", "--data", data, "--json", tmp_path / "m.json")
    assert code == 0
    assert "realism" in out
    rows = json.loads((tmp_path / "m.json").read_text())
    assert {r["dimension"] for r in rows} >= {"realism", "all"}
    assert all(r["hpa"] in (0, 1) for r in rows if r["n_pairs"] == 1)


def test_missing_data_file(zreward, tmp_path):
    train = recipe(tmp_path / "r.yaml", tmp_path / "none.jsonl")
    complains(zreward("train", train), "none.jsonl", "no such file")
    complains(zreward("evaluate", "world:small", "--data", tmp_path / "none.jsonl"), "none.jsonl", "no such file")


def test_score_off_the_scale(zreward, picture, tmp_path):
    data = records(tmp_path / "d.jsonl", row(picture), row(picture, scores={"realism": 7}))
    for command in (("train", recipe(tmp_path / "r.yaml", data)), ("evaluate", "world:small", "--data", data)):
        complains(zreward(*command), "d.jsonl:2", "7", "1", "5")


def test_unknown_dimension(zreward, picture, tmp_path):
    data = records(tmp_path / "d.jsonl", row(picture, scores={"realsim": 3}))
    complains(zreward("train", recipe(tmp_path / "r.yaml", data)), "d.jsonl:1", "realsim", "realism")
    complains(zreward("score", "world:small", picture, "--prompt", "x", "--dimensions", "beauty"), "beauty", "realism")


def test_empty_data_set(zreward, tmp_path):
    data = records(tmp_path / "d.jsonl")
    complains(
        zreward("train", recipe(tmp_path / "r.yaml", data)), "d.jsonl", "is empty", "expected at least one record"
    )
    complains(zreward("evaluate", "world:small", "--data", data), "d.jsonl", "is empty", "expected at least one record")


def test_checkpoint_of_another_rubric(zreward, picture, tmp_path):
    wanted = {"name": "world:small", "rubric": str(RUBRICS / "default.yaml")}
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(picture)), model=wanted)
    complains(zreward("train", train), "rubric 'world'", "'default'")


def test_skip_bad_goes_on_and_keeps_what_was_skipped(zreward, picture, tmp_path):
    data = records(tmp_path / "d.jsonl", row(picture), row(picture, scores={"realism": 7}))
    code, _, _ = zreward("evaluate", "world:small", "--data", data, "--skip-bad", "--json", tmp_path / "m.json")
    assert code == 0
    skipped = [path for path in tmp_path.iterdir() if "bad" in path.name or "skipped" in path.name]
    assert len(skipped) == 1
    assert "7" in skipped[0].read_text()

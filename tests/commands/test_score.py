"""`zreward score`: tables, JSON and files of scores; pictures and folders that it takes and refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.commands.inputs import complains, recipe, records, row
from zreward.world.base_models import world_rubric


def test_score_prints_a_table_and_states_the_scale(zreward, picture, tmp_path):
    code, out, _ = zreward("score", "world:small", picture, "--prompt", "a red circle", "--json", tmp_path / "s.json")
    assert code == 0
    assert "scores from 1 (worst) to 5 (best) in steps of 0.5" in " ".join(out.split())
    assert all(name in out for name in world_rubric().dimension_names)
    saved = json.loads((tmp_path / "s.json").read_text())
    assert saved["scale"]["bins"] == [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    for scores in saved["scores"][0]["dimensions"].values():
        mean = sum(p * b for p, b in zip(scores["probs"], saved["scale"]["bins"], strict=True))
        assert scores["mean"] == pytest.approx(mean, abs=1e-5)
        assert sum(scores["probs"]) == pytest.approx(1, abs=1e-5)
        assert scores["std"] > 0


@pytest.mark.parametrize("end", [["--json"], ["--json", "-"]], ids=["alone", "dash"])
def test_json_without_a_file_prints_nothing_but_json(zreward, picture, end):
    code, out, _ = zreward("score", "world:small", picture, "--prompt", "a red circle", *end)
    assert code == 0
    assert json.loads(out)["scores"][0]["image"] == str(picture)


def test_json_does_not_overwrite_an_image(zreward, picture):
    before = picture.read_bytes()
    command = ("score", "world:small", "--prompt", "x", "--json", picture, picture)
    complains(zreward(*command), "--json", "would overwrite what is there")
    assert picture.read_bytes() == before


def test_score_takes_many_images_and_chosen_dimensions(zreward, picture, tmp_path):
    code, _, _ = zreward(
        "score",
        "world:small",
        picture,
        picture,
        "--prompt",
        "x",
        "--dimensions",
        "realism",
        "--json",
        tmp_path / "s.json",
    )
    saved = json.loads((tmp_path / "s.json").read_text())
    assert code == 0
    assert [list(r["dimensions"]) for r in saved["scores"]] == [["realism"], ["realism"]]


def test_truncated_image(zreward, truncated, tmp_path):
    complains(zreward("score", "world:small", truncated, "--prompt", "x"), "truncated.png")
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(truncated)))
    complains(zreward("train", train), "d.jsonl:1", "truncated.png")
    assert not (tmp_path / "run" / "model").exists()


def test_missing_image_file(zreward, tmp_path):
    complains(zreward("score", "world:small", tmp_path / "none.png", "--prompt", "x"), "none.png", "no such image file")
    train = recipe(tmp_path / "r.yaml", records(tmp_path / "d.jsonl", row(tmp_path / "none.png")))
    complains(zreward("train", train), "d.jsonl:1", "no such image file")


def test_targets_of_json_are_not_inputs(zreward, picture, tmp_path):
    data = records(tmp_path / "d.jsonl", row(picture))
    before = data.read_bytes()
    complains(zreward("evaluate", "world:small", "--data", data, "--json", data), "would overwrite")
    complains(zreward("score", "world:small", picture, "--prompt", " "), "--prompt is empty")
    complains(zreward("evaluate", "world:small", "--data", data, "--traces", 4), "--reasoning")
    assert data.read_bytes() == before


def test_a_place_that_cannot_be_written_is_named(zreward, picture, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    target = tmp_path / "file" / "scores.json"
    complains(zreward("score", "world:small", picture, "--prompt", "x", "--json", target), str(tmp_path / "file"))
    complains(zreward("world", "data", "--out", tmp_path / "file"), str(tmp_path / "file"))


def test_a_bad_batch_size_is_refused(zreward, picture):
    for value in ("0", "-3"):
        code, _, err = zreward("score", "world:small", picture, "--prompt", "x", "--batch-size", value)
        assert code == 2
        assert "Traceback" not in err


def test_score_takes_folders_whose_manifest_names_the_prompts(zreward, folder, tmp_path):
    code, out, _ = zreward("score", "world:small", folder, "--json")
    assert code == 0
    rows = json.loads(out)["scores"]
    assert [(Path(r["image"]).name, r["prompt"]) for r in rows] == [("0.png", "a red [circle]"), ("1.png", "=a, 'b'")]


def test_score_mixes_files_and_folders_and_names_what_it_skips(zreward, picture, tmp_path):
    (tmp_path / "some").mkdir()
    shutil.copy(picture, tmp_path / "some" / "b.png")
    (tmp_path / "some" / "notes.txt").write_text("x")
    code, out, err = zreward("score", "world:small", picture, tmp_path / "some", "--prompt", "x", "--json")
    assert code == 0
    assert [Path(r["image"]).name for r in json.loads(out)["scores"]] == ["picture.png", "b.png"]
    assert "notes.txt" in err


def test_score_writes_the_same_table_in_every_format(zreward, folder, tmp_path):

    import pyarrow.parquet as pq

    for suffix in ("csv", "jsonl", "parquet"):
        target = tmp_path / "deep" / f"scores.{suffix}"
        code, out, err = zreward("score", "world:small", folder, "--out", target, "--json")
        assert code == 0, err
        expected = json.loads(out)["scores"]
    with (tmp_path / "deep" / "scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "deep" / "scores.jsonl").read_text().splitlines()]
    assert lines == pq.read_table(tmp_path / "deep" / "scores.parquet").to_pylist()
    for cells, line, given in zip(table, lines, expected, strict=True):
        assert (line["image"], line["prompt"]) == (given["image"], given["prompt"]) == (cells["image"], cells["prompt"])
        for name, score in given["dimensions"].items():
            assert {key: line[f"{name}_{key}"] for key in score} == score
            assert float(cells[f"{name}_mean"]) == score["mean"]
            assert [float(cell) for cell in cells[f"{name}_probs"].split(" ")] == score["probs"]

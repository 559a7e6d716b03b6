"""`zreward rank`: candidates of one prompt and of many, best first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.commands.inputs import complains, records


def test_rank_of_a_folder_shares_the_best_place_out(zreward, picture, tmp_path):
    folder = tmp_path / "candidates"
    folder.mkdir()
    shutil.copy(picture, folder / "red.png")
    Image.new("RGB", (32, 32), (40, 40, 200)).save(folder / "blue.png")
    files = ("--out", tmp_path / "sheet.html", "--json", tmp_path / "r.json")
    code, out, _ = zreward("rank", "world:small", folder, "--prompt", "a large [red] circle", *files)
    assert code == 0 and "P(best)" in out and "[red]" in out
    ranked = json.loads((tmp_path / "r.json").read_text())
    assert {Path(one["image"]).name for one in ranked} == {"red.png", "blue.png"}
    assert [one["rank"] for one in ranked] == [1, 2]
    assert sum(one["best"] for one in ranked) == pytest.approx(1)
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("<img") == 2 and "a large [red] circle" in page


def test_rank_reads_the_prompts_of_a_manifest(zreward, picture, tmp_path):
    rows = [{"image": picture.name, "prompt": prompt, "seed": 0} for prompt in ("a red circle", "a blue cross")]
    records(tmp_path / "pictures.jsonl", *rows)
    code, out, _ = zreward("rank", "world:small", tmp_path, "--json")
    assert code == 0
    assert [(one["prompt"], one["best"]) for one in json.loads(out)] == [("a red circle", 1.0), ("a blue cross", 1.0)]
    complains(zreward("rank", "world:small", tmp_path, "--prompt", "x"), "leave --prompt out")


def test_rank_without_what_it_needs(zreward, picture, tmp_path):
    (tmp_path / "empty").mkdir()
    complains(zreward("rank", "world:small", picture), "give --prompt")
    complains(zreward("rank", "world:small", tmp_path / "empty", "--prompt", "x"), "no pictures in it", ".png")

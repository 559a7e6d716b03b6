"""Q-Eval-100K: two lists of scores of the same pictures, on a range that is not published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.importers.published import imported, real_file, write_json, write_pictures
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

FOLDER = "Images_train_jsons"


def row(name: str, score: Any, prompt: str = "a fox", model: str = "flux") -> dict[str, Any]:
    return {"image_path": f"Images/{model}/{name}.png", "gt_score": score, "prompt": prompt, "model": model}


QUALITY = [row("1", 20.0), row("2", 60), row("3", 100.0)]
ALIGNMENT = [row("3", 1.5), row("1", 0.5), row("4", 1.0)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    write_pictures(folder, [f"Images/flux/{n}.png" for n in range(1, 5)])
    write_json(folder / FOLDER / "image_quality_train.json", QUALITY)
    write_json(folder / FOLDER / "image_alignment_train.json", ALIGNMENT)
    return folder


def test_the_two_lists_become_one_record_a_picture(root: Path, tmp_path: Path) -> None:
    records = {Path(record.id).stem: record for record in imported("qeval100k", root, tmp_path / "out")}
    assert {name: record.scores for name, record in records.items()} == {
        "3": {"alignment": 5, "quality": 5},
        "1": {"alignment": 1, "quality": 1},
        "4": {"alignment": 3},
        "2": {"quality": 3},
    }
    first = records["1"]
    assert (first.prompt, first.split, first.tags) == ("a fox", "train", ("generator:flux",))
    assert first.image == str(root / "Images" / "flux" / "1.png") and first.id == "Images/flux/1.png"


def test_one_of_the_two_files(root: Path, tmp_path: Path) -> None:
    (root / FOLDER / "image_alignment_train.json").unlink()
    records = imported("qeval100k", root, tmp_path / "out")
    assert [record.scores for record in records] == [{"quality": 1}, {"quality": 3}, {"quality": 5}]


@pytest.mark.parametrize(
    ("kind", "bad", "reason"),
    [
        ("quality", row("4", "high"), "gt_score is 'high', expected a finite number"),
        ("quality", row("4", None), "missing 'gt_score'"),
        ("quality", row("1", 30), "image_path 'Images/flux/1.png' is that of an earlier row"),
        ("quality", row("9", 30), "image_path: .*9.png: no such image file"),
        ("quality", row("4", 30, prompt=""), "prompt is '', expected text"),
        ("alignment", row("3", 1.0), "image_path 'Images/flux/3.png' is that of an earlier row"),
        (
            "alignment",
            row("2", 1.0, prompt="an owl"),
            "prompt of 'Images/flux/2.png' is another than in image_quality_train.json",
        ),
    ],
)
def test_bad_rows(root: Path, tmp_path: Path, kind: str, bad: dict[str, Any], reason: str) -> None:
    file = root / FOLDER / f"image_{kind}_train.json"
    write_json(file, [*(QUALITY if kind == "quality" else ALIGNMENT), bad])
    line = len(file.read_text().splitlines()) - 6
    with pytest.raises(InputError, match=rf"image_{kind}_train\.json:{line}: {reason}"):
        run_importer(find_importer("qeval100k"), root, tmp_path / "out")
    assert run_importer(find_importer("qeval100k"), root, tmp_path / "out", skip_bad=True)[1] == 4


def test_another_layout(root: Path, tmp_path: Path) -> None:
    write_json(root / FOLDER / "image_quality_train.json", [row("1", 2), row("2", 2)])
    with pytest.raises(InputError, match=r"image_quality_train\.json: expected rows with different `gt_score`"):
        run_importer(find_importer("qeval100k"), root, tmp_path / "out")
    write_json(root / FOLDER / "image_style_train.json", [])
    with pytest.raises(InputError, match=r"image_style_train\.json: expected image_quality_train\.json or"):
        run_importer(find_importer("qeval100k"), root, tmp_path / "out")


def test_the_published_file(tmp_path: Path) -> None:
    file = real_file("AGI-Eval-Official/Q-Eval-100K/Images_train_jsons/image_quality_train.json")
    path, count, _ = run_importer(find_importer("qeval100k"), file, tmp_path / "r.jsonl", check="none")
    assert path.is_file() and count > 10_000

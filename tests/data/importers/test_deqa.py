"""DeQA-Score's mos.json: photographs with the mean and deviation of opinions, on the range of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.importers.published import imported, read_lines, real_file, write_json, write_pictures
from zreward.common.errors import InputError
from zreward.data import check_disjoint
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

OPINIONS = {
    "1.jpg": {"mos": "30.0", "std": "5.0"},  # as text, as in the publisher's files
    "deep/2.png": {"mos": 50.0, "std": 10},
    "3.jpg": {"mos": 110.0, "std": 0.0},
    "4.jpg": {"mos": 40.0, "std": 8.0},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "KONIQ"
    write_pictures(folder / "images", OPINIONS)
    write_json(folder / "metas" / "mos.json", OPINIONS)
    write_json(folder / "metas" / "split.json", {"train": ["1.jpg", "2.png"], "test": ["3.jpg"]})
    return folder


def test_means_and_deviations_on_the_range_of_the_file(root: Path, tmp_path: Path) -> None:
    records = {record.id: record for record in imported("deqa", root, tmp_path / "out")}
    assert {name: record.scores["quality"] for name, record in records.items()} == {
        "1.jpg": 1.0,
        "deep/2.png": 2.0,
        "3.jpg": 5.0,
        "4.jpg": 1.5,
    }
    assert [record.stds["quality"] for record in records.values()] == [pytest.approx(x) for x in (0.25, 0.5, 0, 0.4)]
    assert [record.split for record in records.values()] == ["train", "train", "test", None]
    assert records["deep/2.png"].image == str(root / "images" / "deep" / "2.png")
    check_disjoint([records["1.jpg"]], [records["3.jpg"]])
    assert [record.group for record in records.values()] == [
        "KONIQ train 0",
        "KONIQ train 0",
        "KONIQ test 0",
        "KONIQ rest 0",
    ]


def test_prompts_differ_and_tell_nothing_of_the_names(root: Path, tmp_path: Path) -> None:
    opinions = {f"I01_01_{n:02d}.png": {"mos": n, "std": 1} for n in range(50)}
    write_json(root / "metas" / "mos.json", opinions)
    write_json(root / "metas" / "split.json", {"train": list(opinions), "test": []})
    path, _, _ = run_importer(find_importer("deqa"), root, tmp_path / "r.jsonl", check="none")
    records = read_lines(path)
    assert len({record.prompt for record in records}) == 50
    assert not any("I01" in record.prompt for record in records)
    assert [record.group for record in records] == [f"KONIQ train {n // 20}" for n in range(50)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"mos": 50}, "missing 'std'"),
        ({"mos": "good", "std": 1}, "mos is 'good', expected a number"),
        ({"mos": 50, "std": -1}, "std is -1, expected a number of 0 or more"),
        (50, "50, expected an object with mos and std"),
    ],
)
def test_bad_entries(root: Path, tmp_path: Path, row: Any, reason: str) -> None:
    write_json(root / "metas" / "mos.json", OPINIONS | {"4.jpg": row})
    with pytest.raises(InputError, match=rf"mos\.json: 4\.jpg: {reason}"):
        run_importer(find_importer("deqa"), root, tmp_path / "out")
    assert run_importer(find_importer("deqa"), root, tmp_path / "out", skip_bad=True)[1] == 3


def test_another_layout(root: Path, tmp_path: Path) -> None:
    def refused(reason: str) -> None:
        with pytest.raises(InputError, match=reason):
            run_importer(find_importer("deqa"), root, tmp_path / "out")

    write_json(root / "metas" / "split.json", {"train": ["1.jpg"]})
    refused(r"split\.json: test is None, expected a list of names of files")
    write_json(root / "metas" / "mos.json", [1])
    refused(r"mos\.json: \[1\], expected an object")
    write_json(root / "metas" / "split.json", {"train": [], "test": []})
    write_json(root / "metas" / "mos.json", {"1.jpg": {"mos": 2, "std": 1}})
    refused(r"mos\.json: expected pictures with different `mos`")


def test_the_published_file(tmp_path: Path) -> None:
    file = real_file("zhiyuanyou/Data-DeQA-Score/KONIQ/metas/mos.json")
    path, _, _ = run_importer(find_importer("deqa"), file, tmp_path / "r.jsonl", check="none")
    scores = [record.scores["quality"] for record in read_lines(path)]
    assert (min(scores), max(scores)) == (1, 5)

"""Sets of mean opinion scores in tables: AIGIQA-20K and AIGCIQA2023."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from tests.data.importers.published import imported, read_lines, real_file, write_pictures
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

AIGCIQA_HEADER = (
    ",name,prompt,style,class,quality_mos,authenticity_mos,correspondence_mos,"
    "quality_std,authenticity_std,correspondence_std"
)


@pytest.fixture
def aigiqa(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for part, rows in {
        "train": ['DALLE2_0001.png,"a fox, red",0', "sdxl_0002.png,an owl,2.5"],
        "val": ["LCM_0003.png,a dog,5"],
        "test": ["plain.png,a cat,1.25"],
    }.items():
        write_pictures(folder / part, [row.split(",")[0] for row in rows])
        (folder / f"info_{part}.csv").write_text("name,prompt,mos\n" + "\n".join(rows) + "\n")
    return folder


def test_aigiqa20k(aigiqa: Path, tmp_path: Path) -> None:
    records = {record.id: record for record in imported("aigiqa20k", aigiqa, tmp_path / "out")}
    assert {name: record.scores for name, record in records.items()} == {
        "DALLE2_0001": {"overall": 1},
        "sdxl_0002": {"overall": 3},
        "LCM_0003": {"overall": 5},
        "plain": {"overall": 2},
    }
    first = records["DALLE2_0001"]
    assert (first.prompt, first.split, first.tags) == ("a fox, red", "train", ("generator:DALLE2",))
    assert first.image == str(aigiqa / "train" / "DALLE2_0001.png") and first.stds == {}
    assert records["LCM_0003"].split == "dev" and records["plain"].split == "test" and records["plain"].tags == ()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.png,a cat,5.1", "mos is 5.1, expected a number from 0 to 5"),
        ("a.png,a cat,good", "mos is 'good', expected a number"),
        ("a.png,a cat,nan", "mos is nan, expected a finite number"),
        ("a.png,,1", "prompt is empty"),
        ("../val/LCM_0003.png,a cat,1", "name is .*, expected the plain name of an image file"),
        ("absent.png,a cat,1", "name: .*absent.png: no such image file"),
        ("plain.png,a cat,1", "id 'plain' is that of an earlier row"),
        ("plain.png,a cat, black,1", "4 cells under 3 columns"),
    ],
)
def test_bad_rows_of_aigiqa20k(aigiqa: Path, tmp_path: Path, row: str, reason: str) -> None:
    write_pictures(aigiqa / "test", ("a.png",))
    with (aigiqa / "info_test.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(InputError, match=rf"info_test\.csv:3: {reason}"):
        run_importer(find_importer("aigiqa20k"), aigiqa, tmp_path / "out")
    assert run_importer(find_importer("aigiqa20k"), aigiqa, tmp_path / "out", skip_bad=True)[1] == 4


def test_another_header(aigiqa: Path, tmp_path: Path) -> None:
    (aigiqa / "info_val.csv").write_text("name,prompt,score\nLCM_0003.png,a dog,5\n")
    with pytest.raises(
        InputError, match=r"info_val\.csv: columns \['mos'\] are missing; the header is name, prompt, score"
    ):
        run_importer(find_importer("aigiqa20k"), aigiqa, tmp_path / "out")


@pytest.fixture
def aigciqa(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    write_pictures(folder / "allimg", ("0.png", "2399.png"))
    rows = [
        "0,0.png,a corgi,Basic,Animals,50,0,75,0.88,1.26,1.35",
        '2399,2399.png,"a cat, a dog",Complex,Animals,60.5,100,25,0.9,1.2,1.3',
    ]
    (folder / "AIGCIQA2023.csv").write_text("\n".join([AIGCIQA_HEADER, *rows]) + "\n")
    return folder


def test_aigciqa2023(aigciqa: Path, tmp_path: Path) -> None:
    first, last = imported("aigciqa2023", aigciqa, tmp_path / "out")
    assert first.scores == {"quality": 3, "authenticity": 1, "correspondence": 4}
    assert last.scores == {"quality": pytest.approx(1 + 4 * 0.605), "authenticity": 5, "correspondence": 2}
    assert first.stds == last.stds == {}
    assert (first.prompt, first.id, first.split) == ("a corgi", "0", None)
    assert first.tags == ("generator:1", "style:Basic", "class:Animals") and last.tags[0] == "generator:6"
    assert first.image == str(aigciqa / "allimg" / "0.png")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,2400.png,a,b,c,1,1,1,1,1,1", r"name is '2400\.png', expected 0\.png to 2399\.png"),
        ("1,a.png,a,b,c,1,1,1,1,1,1", r"name is 'a\.png', expected 0\.png to 2399\.png"),
        ("1,1.png,a,b,c,1,100.5,1,1,1,1", "authenticity_mos is 100.5, expected a number from 0 to 100"),
        ("1,1.png,a,b,c,1,1,,1,1,1", "correspondence_mos is '', expected a number"),
        ("1,1.png,a,b,c,1,1,1,1,1,1", "name: .*1.png: no such image file"),
    ],
)
def test_bad_rows_of_aigciqa2023(aigciqa: Path, tmp_path: Path, row: str, reason: str) -> None:
    with (aigciqa / "AIGCIQA2023.csv").open("a") as file:
        file.write(row + "\n")
    with pytest.raises(InputError, match=rf"AIGCIQA2023\.csv:4: {reason}"):
        run_importer(find_importer("aigciqa2023"), aigciqa, tmp_path / "out")


def test_the_published_file(tmp_path: Path) -> None:
    """Why the deviations are not imported: they are those of whole ratings of about 20 people, the scores are z-scores."""
    file = real_file("wangjiarui153/AIGCIQA2023/AIGCIQA2023.csv")
    path, count, _ = run_importer(find_importer("aigciqa2023"), file, tmp_path / "r.jsonl", check="none")
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    records = read_lines(path)
    assert count == len(rows)
    for record, row in zip(records, rows, strict=True):
        assert record.scores["quality"] == pytest.approx(1 + 4 * float(row["quality_mos"]) / 100)
        assert record.tags[0] == f"generator:{int(row['name'].split('.')[0]) // 400 + 1}"
    deviations = [float(row[key]) for row in rows for key in row if key.endswith("_std")]
    exact = [any(_is_whole(value**2 * n * (n - 1)) for n in range(16, 22)) for value in deviations]
    assert sum(exact) >= 0.99 * len(exact)
    assert min(float(row["quality_mos"]) for row in rows) > 15  # no mean of ratings from 1 to 5


def _is_whole(value: float) -> bool:
    return math.isclose(value, round(value), abs_tol=1e-4)

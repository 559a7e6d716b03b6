"""The AGIQA-3K importer: on a tiny copy of the layout everywhere, on the real folder where it is."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import agiqa3k_rubric, check_disjoint, import_agiqa3k, load_records
from zreward.data.importers.agiqa3k import COLUMNS

GENERATORS = ("AttnGAN_normal", "sd1.5_lowcorr")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten prompts by two generators; MOS 0, 0.25, ... 4.75."""
    folder = tmp_path / "agiqa3k"
    (folder / "images").mkdir(parents=True)
    rows = []
    for n in range(20):
        name = f"{GENERATORS[n % 2]}_{n // 2:03d}.jpg"
        Image.new("RGB", (16, 16), (12 * n, 0, 255 - 12 * n)).save(folder / "images" / name)
        extra = ("cold color", "", "anime style") if n >= 18 else ("", "", "")
        rows.append([name, f"a thing, number {n // 2}", *extra, n / 4, 0.5, 4.75 - n / 4, 1.0])
    write_table(folder, rows)
    return folder


def write_table(folder: Path, rows: list[list[Any]]) -> None:
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


def read_table(folder: Path) -> list[list[Any]]:
    with (folder / "data.csv").open(newline="", encoding="utf-8") as file:
        return [list(row) for row in csv.reader(file)][1:]


def test_maps_scores_and_spreads_affinely(root: Path, tmp_path: Path) -> None:
    records = load_records(import_agiqa3k(root, tmp_path / "out"), agiqa3k_rubric())
    assert len(records) == 20
    first, last = records[0], records[-1]
    assert first.scores == {"quality": 1.0, "alignment": pytest.approx(1 + 4 * 4.75 / 5)}
    assert first.stds == {"quality": pytest.approx(4 * 0.5 / 5), "alignment": pytest.approx(4 * 1.0 / 5)}
    assert first.tags == ("generator:AttnGAN", "setting:normal")
    assert last.tags == ("generator:sd1.5", "setting:lowcorr", "style:anime", "adj:cold color")
    assert (first.prompt, first.id, first.rubric_version) == ("a thing, number 0", "AttnGAN_normal_000", "1")
    target = last.target("alignment", agiqa3k_rubric().scale)
    assert target is not None and target.count_nonzero() == 1  # MOS 0: the lowest bin, whatever the spread
    target = last.target("quality", agiqa3k_rubric().scale)
    assert target is not None and (target > 0.01).sum() > 1


def test_splits_by_prompt_with_a_seed(root: Path, tmp_path: Path) -> None:
    path = import_agiqa3k(root, tmp_path / "out", seed=3)
    parts = {name: load_records(path, split=name) for name in ("train", "dev", "test")}
    assert {name: len(part) for name, part in parts.items()} == {"train": 14, "dev": 2, "test": 4}
    check_disjoint(parts["train"], parts["test"])
    again = import_agiqa3k(root, tmp_path / "again", seed=3)
    assert again.read_text() == path.read_text()
    assert import_agiqa3k(root, tmp_path / "other", seed=4).read_text() != path.read_text()
    open_split = import_agiqa3k(root, tmp_path / "open.jsonl", fractions=None)
    assert {record.split for record in load_records(open_split)} == {None}


def test_where_it_writes(root: Path, tmp_path: Path) -> None:
    assert import_agiqa3k(root, tmp_path / "out") == tmp_path / "out" / "records.jsonl"
    parquet = import_agiqa3k(root, tmp_path / "x" / "r.parquet")
    assert len(load_records(parquet)) == 20
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["records.jsonl"]  # images stay where they are
    away = json.loads((tmp_path / "out" / "records.jsonl").read_text().splitlines()[0])
    beside = json.loads(import_agiqa3k(root, root).read_text().splitlines()[0])
    assert away["image"] == str(root / "images" / "AttnGAN_normal_000.jpg")
    assert beside["image"] == "images/AttnGAN_normal_000.jpg"


def test_images_in_the_root_itself(root: Path, tmp_path: Path) -> None:
    for image in (root / "images").iterdir():
        image.rename(root / image.name)
    assert len(load_records(import_agiqa3k(root, tmp_path / "out"))) == 20


def test_prompts_that_share_an_identical_image_are_not_parted(root: Path, tmp_path: Path) -> None:
    images = sorted((root / "images").glob("AttnGAN*"))
    for image in images[1:5]:
        image.write_bytes(images[0].read_bytes())
    records = load_records(import_agiqa3k(root, tmp_path / "out"))
    assert len({record.split for record in records if record.id in [image.stem for image in images[:5]]}) == 1


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("name", "sd1.5_lowcorr_999.jpg", "sd1.5_lowcorr_999.jpg: no such image file"),
        ("name", "../data.csv", "expected the plain name of an image file"),
        ("name", "AttnGAN_normal_000.jpg", "occurs in an earlier row"),
        ("prompt", "", "prompt is empty"),
        ("mos_quality", "5.2", "mos_quality is 5.2, expected a number from 0 to 5"),
        ("mos_align", "nan", "mos_align is nan"),
        ("mos_align", "good", "mos_align is 'good', expected a number"),
        ("std_align", "-0.1", "std_align is -0.1, expected a number of 0 or more"),
    ],
)
def test_bad_rows(root: Path, tmp_path: Path, column: str, value: str, reason: str) -> None:
    rows = read_table(root)
    rows[3][COLUMNS.index(column)] = value
    write_table(root, rows)
    with pytest.raises(InputError, match=rf"data\.csv:5: .*{reason}"):
        import_agiqa3k(root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    path = import_agiqa3k(root, tmp_path / "out", skip_bad=True)
    assert len(load_records(path)) == 19
    report = json.loads((tmp_path / "out" / "records.jsonl.skipped.jsonl").read_text())
    assert report["line"] == 5 and report["text"].startswith(str(rows[3][0]))


def test_truncated_image_and_ragged_row(root: Path, tmp_path: Path) -> None:
    image = root / "images" / "AttnGAN_normal_001.jpg"
    image.write_bytes(image.read_bytes()[:-80])
    rows = read_table(root)
    rows[4].append("more")
    write_table(root, rows)
    with pytest.raises(InputError) as caught:
        import_agiqa3k(root, tmp_path / "out")
    assert "data.csv:4: " in str(caught.value) and "truncated" in str(caught.value)
    assert "data.csv:6: more cells than columns" in str(caught.value) and "2 bad lines" in str(caught.value)


def test_wrong_layout(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data\.csv; expected AGIQA-3K's official layout"):
        import_agiqa3k(tmp_path / "nowhere", tmp_path / "out")
    (root / "data.csv").write_text("name,prompt\n")
    with pytest.raises(InputError, match="columns .*'mos_quality'.* are missing"):
        import_agiqa3k(root, tmp_path / "out")
    write_table(root, [])
    with pytest.raises(InputError, match="it is empty"):
        import_agiqa3k(root, tmp_path / "out")


def test_the_real_folder(shared_data: Path, tmp_path: Path) -> None:
    path = import_agiqa3k(shared_data / "agiqa3k", tmp_path, check_images=False)
    records = load_records(path, agiqa3k_rubric(), check_images=False)
    assert len(records) == 2014 and len({record.prompt for record in records}) == 203
    for name in ("quality", "alignment"):
        scores = [record.ratings(name)[0] for record in records]
        assert 1 <= min(scores) < 1.05 and 4.4 < max(scores) < 4.6  # MOS 0..4.49 on the map 1 + 4 mos / 5
    assert {tag for record in records for tag in record.tags if tag.startswith("generator:")} == {
        f"generator:{name}" for name in ("AttnGAN", "DALLE2", "glide", "midjourney", "sd1.5", "xl2.2")
    }
    parts = {name: [r for r in records if r.split == name] for name in ("train", "dev", "test")}
    assert abs(len(parts["train"]) - 0.7 * 2014) < 11 and abs(len(parts["test"]) - 0.2 * 2014) < 11
    check_disjoint(parts["train"] + parts["dev"], parts["test"])  # several pictures stand under more than one prompt

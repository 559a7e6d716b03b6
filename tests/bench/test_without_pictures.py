"""Tables of predictions need no pictures, whatever the suite is; models do, and say so before they are loaded."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.bench.inputs import preferences, records
from zreward.bench.commands import Request, run_bench
from zreward.bench.run import Asking
from zreward.common.errors import InputError
from zreward.data import load_preferences, load_records, save_preferences, save_records
from zreward.data.importers.agiqa3k import COLUMNS


def measure(suite: dict[str, Path], said: Path, models: tuple[str, ...] = (), split: str | None = None):
    request = Request(dict.fromkeys(models, "x"), suite, {"m": str(said)}, split=split, asking=Asking(resamples=2))
    return run_bench(request, lambda name: pytest.fail("a model was loaded"), lambda note: None)


def table(path: Path, rows: dict[str, float]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "score"), *rows.items()])
    return path


def without_pictures(folder: Path, made: list, save, end: str) -> Path:
    """A suite whose pictures were there when it was written, and are gone; as paths, in Parquet too."""
    path = save(made, folder / "suite.jsonl")
    if end == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = pa.Table.from_pylist([vars_of(one) for one in made])
        pq.write_table(rows, path := folder / "suite.parquet")
    for picture in folder.glob("*.png"):
        picture.unlink()
    return path


def vars_of(one) -> dict:
    import json

    fields = {"id": one.id, "prompt": one.prompt, "split": one.split}
    if hasattr(one, "votes"):
        return fields | {"images": [Path(i).name for i in one.images], "votes": json.dumps(one.votes)}
    return fields | {"image": Path(one.image).name, "scores": json.dumps(one.scores)}


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_records(end, tmp_path):
    own = records(tmp_path)
    said = table(tmp_path / "s.csv", {one.id: n * 7 % 11 for n, one in enumerate(own)})
    there = measure({"mine": save_records(own, tmp_path / "there.jsonl")}, said).document["results"]
    path = without_pictures(tmp_path, own, save_records, end)
    report = measure({"mine": path}, said)
    assert report.document["results"] == there and len(there) == 10
    assert report.write(tmp_path / "out")
    with pytest.raises(InputError, match=r"0-0.png: no such image file"):
        measure({"mine": path}, said, models=("t",))


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
@pytest.mark.parametrize("split", [None, "test"])
def test_preferences(end, split, tmp_path):
    own = preferences(tmp_path)
    said = table(tmp_path / "s.csv", {one.id: n * 7 % 11 - 5 for n, one in enumerate(own)})
    there = measure({"mine": save_preferences(own, tmp_path / "there.jsonl")}, said, split=split).document["results"]
    path = without_pictures(tmp_path, own, save_preferences, end)
    report = measure({"mine": path}, said, split=split)
    assert report.document["results"] == there and there
    assert bool([row for row in there if row["figure"] == "accuracy_with_ties"]) == (split is not None)
    assert report.write(tmp_path / "out")
    with pytest.raises(InputError, match=r"0-0.png: no such image file"):
        measure({"mine": path}, said, models=("t",), split=split)


def test_models_need_the_pictures_of_their_pairs_and_of_those_for_the_threshold_only(tmp_path):
    own = preferences(tmp_path)
    said = table(tmp_path / "s.csv", {one.id: 1.0 for one in own})
    path = save_preferences(own, tmp_path / "pairs.jsonl")
    path.write_text(path.read_text().replace('"split": "test"', '"split": "train"', 3))
    for n in range(3):  # of the first prompt, whose pairs are those of "train" now
        (tmp_path / f"0-{n}.png").unlink()
    with pytest.raises(pytest.fail.Exception, match="a model was loaded"):
        measure({"mine": path}, said, models=("t",), split="test")
    (tmp_path / "3-0.png").unlink()  # of the dev split
    with pytest.raises(InputError, match=r"pairs.jsonl:10: .*3-0.png: no such image file"):
        measure({"mine": path}, said, models=("t",), split="test")


def test_agiqa3k(tmp_path):
    rows = [[f"a{n}.jpg", f"thing {n // 2}", "", "", "", n / 4, 0.5, 4 - n / 4, 1.0] for n in range(6)]
    with (tmp_path / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    (tmp_path / "images").mkdir()
    (tmp_path / "s.csv").write_text("image,score\n" + "".join(f"a{n}.jpg,{n}\n" for n in range(6)))
    report = measure({"agiqa3k": tmp_path}, tmp_path / "s.csv")
    srcc = {row["dimension"]: row["value"] for row in report.document["results"] if row["official"]}
    assert srcc == {"quality": pytest.approx(1), "alignment": pytest.approx(-1)}
    with pytest.raises(InputError, match=r"a0.jpg: no such image file"):
        measure({"agiqa3k": tmp_path}, tmp_path / "s.csv", models=("t",))


def test_loading_looks_at_pictures_unless_it_is_told_not_to(tmp_path):
    rated = without_pictures(tmp_path, records(tmp_path), save_records, "jsonl")
    assert len(load_records(rated, check_images=None)) == 15
    with pytest.raises(InputError, match="no such image file"):
        load_records(rated, check_images=False)
    pairs = without_pictures(tmp_path, preferences(tmp_path), save_preferences, "jsonl")
    assert len(load_preferences(pairs, check_images=None)) == 15
    with pytest.raises(InputError, match="no such image file"):
        load_preferences(pairs, check_images=False)

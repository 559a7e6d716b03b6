"""RichHF-18K: labels in TFRecord files, prompts and pictures in Pick-a-Pic's Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.importers import tfrecords
from tests.data.importers.published import imported, jpeg, real_file, write_parquet
from zreward.common.errors import InputError
from zreward.data import load_records
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer
from zreward.data.importers.tfrecord import parse_example, read_tfrecord

UIDS = [f"0{n}f0c1de-0000-4000-8000-00000000000{n}" for n in range(5)]


def example(uid: str, **changed: Any) -> bytes:
    """The eight features of a record, as the publisher's README lists them."""
    features: dict[str, Any] = {
        "filename": f"train/{uid}.png".encode(),
        "aesthetics_score": 0.75,
        "artifact_score": 0.25,
        "misalignment_score": 1.0,
        "overall_score": 0.5,
        "artifact_map": b"\xff\xd8 a JPEG picture",
        "misalignment_map": b"\xff\xd8 a JPEG picture",
        "prompt_misalignment_label": b"1 0 1",
    }
    return tfrecords.example({name: value for name, value in (features | changed).items() if value is not None})


def pair(first: str, second: str, caption: str) -> dict[str, Any]:
    return {
        "caption": caption,
        "image_0_uid": first,
        "image_1_uid": second,
        "jpg_0": jpeg(UIDS.index(first) if first in UIDS else 9),
        "jpg_1": jpeg(UIDS.index(second) if second in UIDS else 9),
        "label_0": 1.0,
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    tfrecords.write(folder / "train.tfrecord", [example(UIDS[0]), example(UIDS[1], overall_score=0.0)])
    tfrecords.write(folder / "dev.tfrecord", [example(UIDS[2])])
    tfrecords.write(folder / "test.tfrecord", [example(UIDS[3])])
    write_parquet(folder / "pickapic" / "data" / "a.parquet", [pair("x", "y", "no"), pair(UIDS[0], UIDS[1], "a fox")])
    # The first of a pair again, as pictures of Pick-a-Pic are in many pairs, and the second of a new one.
    write_parquet(
        folder / "pickapic" / "data" / "b.parquet", [pair(UIDS[0], UIDS[2], "a dog"), pair("z", UIDS[3], "an owl")]
    )
    return folder


def test_labels_meet_their_pictures(root: Path, tmp_path: Path) -> None:
    records = {record.id: record for record in imported("richhf18k", root, tmp_path / "out")}
    assert list(records) == [f"train/{UIDS[0]}", f"train/{UIDS[1]}", f"dev/{UIDS[2]}", f"test/{UIDS[3]}"]
    first = records[f"train/{UIDS[0]}"]
    assert first.scores == {"plausibility": 2, "alignment": 5, "aesthetics": 4, "overall": 3}
    assert (first.prompt, first.split, first.stds) == ("a fox", "train", {})
    assert first.image == jpeg(0) and records[f"train/{UIDS[1]}"].image == jpeg(1)
    assert records[f"test/{UIDS[3]}"].image == jpeg(3) and records[f"test/{UIDS[3]}"].prompt == "an owl"
    assert records[f"train/{UIDS[1]}"].scores["overall"] == 1
    path, _, _ = run_importer(find_importer("richhf18k"), root, tmp_path / "folder")
    assert path.name == "records.parquet"  # holds the pictures as they came


def test_a_picture_that_is_not_there_is_a_bad_record(root: Path, tmp_path: Path) -> None:
    tfrecords.write(root / "test.tfrecord", [example(UIDS[3]), example(UIDS[4])])
    with pytest.raises(InputError, match=r"test\.tfrecord:record 2: filename .*: no row of Pick-a-Pic's files"):
        run_importer(find_importer("richhf18k"), root, tmp_path / "out")
    assert run_importer(find_importer("richhf18k"), root, tmp_path / "out", skip_bad=True)[1] == 4


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"filename": None}, "filename is missing"),
        ({"filename": 1.0}, r"filename is \[1.0\], expected one text"),
        ({"filename": b""}, "filename '': it has no name"),
        ({"filename": f"dev/{UIDS[2]}.png".encode()}, "filename 'dev/.*2.png': an earlier record has it"),
        ({"overall_score": None}, "overall_score is missing"),
        ({"overall_score": [1]}, r"overall_score is \[1\], expected one float"),
        ({"artifact_score": 1.25}, "artifact_score is 1.25, expected a number from 0 to 1"),
        ({"artifact_score": float("nan")}, "artifact_score is nan, expected a finite number"),
    ],
)
def test_bad_records(root: Path, tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    tfrecords.write(root / "test.tfrecord", [example(UIDS[3]), example(UIDS[4], **changed)])
    with pytest.raises(InputError, match=rf"test\.tfrecord:record 2: {reason}"):
        run_importer(find_importer("richhf18k"), root, tmp_path / "out")
    path, count, _ = run_importer(find_importer("richhf18k"), root, tmp_path / "out.parquet", skip_bad=True)
    assert count == len(load_records(path)) == 4


def test_damage(root: Path, tmp_path: Path) -> None:
    content = (root / "dev.tfrecord").read_bytes()
    at = content.index(b"a JPEG")
    (root / "dev.tfrecord").write_bytes(content[:at] + b"b" + content[at + 1 :])
    with pytest.raises(InputError, match=r"dev\.tfrecord:record 1: its checksum does not match its content"):
        run_importer(find_importer("richhf18k"), root, tmp_path / "out")
    tfrecords.write(root / "dev.tfrecord", [b"not an example"])
    with pytest.raises(InputError, match=r"dev\.tfrecord:record 1: not a tf\.train\.Example"):
        run_importer(find_importer("richhf18k"), root, tmp_path / "out")
    (root / "dev.tfrecord").rename(root / "more.tfrecord")
    with pytest.raises(
        InputError, match=r"more\.tfrecord: expected one of train\.tfrecord, dev\.tfrecord, test\.tfrecord"
    ):
        run_importer(find_importer("richhf18k"), root, tmp_path / "out")


def test_another_layout(root: Path, tmp_path: Path) -> None:
    for root_or_file in (tmp_path / "nothing", root / "dev.tfrecord"):
        with pytest.raises(
            InputError, match="expected (a folder with )?train.tfrecord, dev.tfrecord and test.tfrecord"
        ):
            run_importer(find_importer("richhf18k"), root_or_file, tmp_path / "out")
    write_parquet(root / "pickapic" / "data" / "a.parquet", [{"caption": "a", "jpg_0": b""}])
    with pytest.raises(InputError, match=r"a\.parquet: columns \['image_0_uid', 'image_1_uid', 'jpg_1'\] are missing"):
        run_importer(find_importer("richhf18k"), root, tmp_path / "out")


def test_the_published_file() -> None:
    file = real_file("google-research-datasets/richhf-18k/dev.tfrecord")
    records = list(read_tfrecord(file))
    assert len(records) == 995 and not any(record.fault for record in records)
    for record in records:
        features = parse_example(record.content)
        assert len(features) == 8
        assert all(0 <= features[name][0] <= 1 for name in features if name.endswith("_score"))

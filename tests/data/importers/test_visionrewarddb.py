"""VisionRewardDB-Image: seventeen aspects, each on a range of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.data.importers.published import imported, jpeg, write_parquet
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

RANGES = {  # of the data card
    "symmetry": (-1, 1),
    "richness": (-2, 2),
    "color aesthetic": (-1, 1),
    "detail realism": (-3, 1),
    "safety": (-3, 1),
    "body": (-4, 1),
    "lighting aesthetic": (-1, 2),
    "lighting distinction": (-1, 2),
    "background": (-1, 2),
    "emotion": (-2, 2),
    "main object": (-1, 1),
    "color brightness": (-1, 1),
    "face": (-3, 2),
    "hands": (-4, 1),
    "clarity": (-2, 2),
    "detail refinement": (-4, 2),
    "unsafe type": (0, 3),
    "object pairing": (-1, 1),
}
RATED = [name for name in RANGES if name != "unsafe type"]
SCHEMA = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("internal_id", pa.string()),
        ("prompt", pa.string()),
        ("url", pa.string()),
        ("annotation", pa.struct([(name, pa.int64()) for name in RANGES])),
        ("meta_result", pa.list_(pa.int64())),
        ("meta_mask", pa.list_(pa.int64())),
    ]
)


def row(number: int, **annotation: Any) -> dict[str, Any]:
    return {
        "image": {"bytes": jpeg(number), "path": None},
        "internal_id": f"id{number}",
        "prompt": f"a thing, number {number}",
        "url": "",
        "annotation": annotation,
        "meta_result": [1, 0],
        "meta_mask": [1, 1],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = [
        row(0, **{name: low for name, (low, _) in RANGES.items()}),
        row(1, **{name: high for name, (_, high) in RANGES.items()}),
        row(2, **dict.fromkeys(RANGES, 0) | {"hands": None}),
    ]
    write_parquet(tmp_path / "in" / "data" / "train-00000-of-00002.parquet", rows[:2], SCHEMA)
    write_parquet(tmp_path / "in" / "data" / "train-00001-of-00002.parquet", rows[2:], SCHEMA)
    return tmp_path / "in"


def test_every_range_is_mapped_to_the_rubrics(root: Path, tmp_path: Path) -> None:
    lowest, highest, middle = imported("visionrewarddb", root, tmp_path / "out")
    names = {name.replace(" ", "_") for name in RATED}
    assert lowest.scores == dict.fromkeys(names, 1) and highest.scores == dict.fromkeys(names, 5)
    assert middle.scores == {
        name.replace(" ", "_"): pytest.approx(1 + 4 * -low / (high - low))
        for name, (low, high) in RANGES.items()
        if name in RATED and name != "hands"
    }
    assert (lowest.prompt, lowest.id, lowest.split) == ("a thing, number 0", "id0", "train")
    assert lowest.image == jpeg(0)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"annotation": dict.fromkeys(RANGES, 0) | {"hands": 2}},
            "annotation: hands is 2, expected a number from -4 to 1",
        ),
        ({"annotation": None}, "missing 'annotation'"),
        ({"prompt": ""}, "prompt is empty"),
        ({"image": {"bytes": b"no picture", "path": None}}, "image: "),
        ({"internal_id": "id0"}, "id 'id0' is that of an earlier row"),
    ],
)
def test_bad_rows(root: Path, tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    rows = [row(3, **dict.fromkeys(RANGES, 0)), row(4, **dict.fromkeys(RANGES, 0)) | changed]
    write_parquet(root / "data" / "train-00001-of-00002.parquet", rows, SCHEMA)
    with pytest.raises(InputError, match=rf"train-00001-of-00002\.parquet:row 1: {reason}"):
        run_importer(find_importer("visionrewarddb"), root, tmp_path / "out")
    assert run_importer(find_importer("visionrewarddb"), root, tmp_path / "out", skip_bad=True)[1] == 3


def test_the_names_of_an_earlier_release_are_refused(root: Path, tmp_path: Path) -> None:
    old = {"image": b"", "internal_id": "1", "prompt": "a", "annotation": {"adjective": 1, "collocation": 0}}
    write_parquet(root / "data" / "train-00001-of-00002.parquet", [old])
    with pytest.raises(InputError, match="row 0: annotation: missing 'symmetry'"):
        run_importer(find_importer("visionrewarddb"), root, tmp_path / "out")
    write_parquet(root / "data" / "train-00001-of-00002.parquet", [{"image": b"", "internal_id": "1"}])
    with pytest.raises(InputError, match=r"columns \['prompt', 'annotation'\] are missing"):
        run_importer(find_importer("visionrewarddb"), root, tmp_path / "out")

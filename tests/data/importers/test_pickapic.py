"""Pick-a-Pic v2: pictures inside Parquet files, ties, rows without a label."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from tests.data.importers.published import imported, jpeg, write_parquet
from zreward.cli.main import app
from zreward.common.errors import InputError
from zreward.data import load_preferences
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

TYPES = {  # of the data card
    pa.bool_(): ("are_different", "has_label"),
    pa.string(): ("best_image_uid", "caption", "image_0_uid", "image_1_uid", "model_0", "model_1"),
    pa.binary(): ("jpg_0", "jpg_1"),
    pa.float64(): ("label_0", "label_1"),
    pa.int64(): ("ranking_id", "user_id", "num_example_per_prompt"),
}
SCHEMA = pa.schema([(name, kind) for kind, names in TYPES.items() for name in names])
LABELS = [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)]


def row(number: int, labels: tuple[float, float] | None) -> dict:
    first, second = labels or (0.5, 0.5)
    return {
        **{
            "caption": f"a cat {number}",
            "has_label": labels is not None,
            "jpg_0": jpeg(2 * number),
            "jpg_1": jpeg(2 * number + 1),
        },
        **{
            "label_0": first,
            "label_1": second,
            "model_0": "sdxl",
            "model_1": "dreamlike",
            "user_id": 7,
            "ranking_id": 3,
        },
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = [row(number, labels) for number, labels in enumerate([*LABELS, None])]
    write_parquet(tmp_path / "in" / "data" / "train-00000-of-00646-b5fe0c.parquet", rows, SCHEMA)
    write_parquet(tmp_path / "in" / "data" / "validation_unique-00000-of-00001.parquet", [row(9, (1, 0))], SCHEMA)
    return tmp_path / "in"


def test_votes_and_pictures(root, tmp_path):
    found = imported("pickapic", root, tmp_path / "out")
    assert [dict(one.votes) for one in found] == [{"overall": {"user 7": vote}} for vote in ("a", "b", "tie", "a")]
    assert [one.split for one in found] == ["train", "train", "train", "validation_unique"]
    assert found[0].images == (jpeg(0), jpeg(1)) and found[3].images == (jpeg(18), jpeg(19))  # the bytes as they were
    assert found[0].models == ("sdxl", "dreamlike")


def test_the_command_writes_parquet_and_says_what_was_passed_over(root, tmp_path):
    result = CliRunner().invoke(app, ["data", "import", "pickapic", str(root), str(tmp_path / "out")])
    path = tmp_path / "out" / "preferences.parquet"
    assert result.output == f"preferences: {path} (4; 1 rows without a label passed over)\n"
    assert len(load_preferences(path)) == 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label_0": 0.7, "label_1": 0.3}, r"label_0 and label_1 are \[0.7, 0.3\]"),
        ({"label_1": None}, "missing 'label_1'"),
        ({"label_0": float("nan")}, "label_0 and label_1 are"),
        ({"jpg_0": None}, "missing 'jpg_0'"),
        ({"jpg_1": jpeg(0)[:100]}, "jpg_1: image of 100 bytes"),
        ({"caption": ""}, "prompt is empty"),
    ],
)
def test_bad_rows(root, tmp_path, change, reason):
    rows = [row(0, (1, 0)), row(1, (1, 0)) | change]
    write_parquet(root / "data" / "test-00000-of-00001.parquet", rows, SCHEMA)
    with pytest.raises(InputError, match=rf"test-00000-of-00001\.parquet:row 1: {reason}"):
        run_importer(find_importer("pickapic"), root, tmp_path / "out")
    assert run_importer(find_importer("pickapic"), root, tmp_path / "out", skip_bad=True).made == 5


def test_a_set_without_pictures_is_refused(root, tmp_path):
    bare = [{"caption": "a cat", "has_label": True, "label_0": 1.0, "label_1": 0.0}]
    write_parquet(tmp_path / "bare.parquet", bare)
    with pytest.raises(InputError, match=r"columns \['jpg_0', 'jpg_1'\] are missing"):
        run_importer(find_importer("pickapic"), tmp_path / "bare.parquet", tmp_path / "out")

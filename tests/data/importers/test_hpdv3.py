"""HPDv3: path1 is preferred, whatever the order of choice_dist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.importers.published import imported, write_json, write_pictures
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

ROW = {"prompt": "a cat", "path1": "images/1.jpg", "path2": "images/2.jpg"}
ROWS = [
    ROW | {"choice_dist": [7, 12], "confidence": 0.97, "model1": "flux", "model2": "kolors"},
    ROW | {"choice_dist": None, "confidence": None, "model1": "flux", "model2": None},
    ROW | {"choice_dist": [5, 5]},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", ("images/1.jpg", "images/2.jpg"))
    write_json(tmp_path / "in" / "train.json", ROWS)
    write_json(tmp_path / "in" / "test.json", ROWS[1:2])
    write_json(tmp_path / "in" / "all.json", [{"other": 1}])  # not read beside train and test
    return tmp_path / "in"


def test_votes_models_and_confidence(root, tmp_path):
    found = imported("hpdv3", root, tmp_path / "out")
    assert [dict(one.votes) for one in found] == [
        *({"overall": {"a": 12, "b": 7}}, {"overall": "a"}, {"overall": {"a": 5, "b": 5}}, {"overall": "a"})
    ]
    assert [one.split for one in found] == ["train", "train", "train", "test"]
    assert found[0].models == ("flux", "kolors") and found[1].models == ()
    assert found[0].tags == ("confidence:0.97",) and found[1].tags == ()
    assert found[0].images == (str(root / "images" / "1.jpg"), str(root / "images" / "2.jpg"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"choice_dist": [1]}, r"choice_dist is \[1\], expected two counts"),
        ({"choice_dist": [1, -1]}, "choice_dist is -1"),
        ({"choice_dist": [0, 0]}, "vote on 'overall'"),
        ({"choice_dist": "1,2"}, "choice_dist is '1,2', expected a list"),
        ({"confidence": 1.5}, "confidence is 1.5, expected a number from 0 to 1"),
        ({"confidence": float("nan")}, "confidence is nan"),
        ({"path2": None}, "missing 'path2'"),
        ({"path1": "images/3.jpg"}, "path1: .*3.jpg: no such image"),
    ],
)
def test_bad_rows(root, tmp_path, change, reason):
    write_json(root / "test.json", [ROW | change])
    with pytest.raises(InputError, match=rf"test\.json:2: {reason}"):
        run_importer(find_importer("hpdv3"), root, tmp_path / "out")
    assert run_importer(find_importer("hpdv3"), root, tmp_path / "out", skip_bad=True).made == 3

"""HPDv2: choices of pairs, and the test set's ranks by every annotator."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.data.importers.published import imported, write_json, write_pictures
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

TRAIN = [
    {"prompt": "a cat", "file_path": ["a.jpg", "b.jpg"], "human_preference": [1, 0], "user_hash": "u1"},
    {"prompt": "a cat", "image_path": ["b.jpg", "a.jpg"], "human_preference": [0, 1]},
]
RANKS = {"u1": [1, 2, 3], "u2": [3, 1, 2]}
TEST = [
    {
        "prompt": "a dog",
        "image_path": ["0.jpg", "1.jpg", "2.jpg"],
        "rank": [1, 1, 2],
        "raw_annotations": [{"rank": rank, "user_hash": user} for user, rank in RANKS.items()],
    }
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in" / "train", ("a.jpg", "b.jpg"))
    write_pictures(tmp_path / "in" / "test", ("0.jpg", "1.jpg", "2.jpg"))
    write_json(tmp_path / "in" / "train.json", TRAIN)
    write_json(tmp_path / "in" / "test.json", TEST)
    return tmp_path / "in"


def test_choices_and_ranks_of_each_annotator(root, tmp_path):
    first, second, *tested = imported("hpdv2", root, tmp_path / "out")
    assert first.votes == {"overall": {"u1": "a"}} and second.votes == {"overall": "b"}
    assert second.images == (str(root / "train" / "b.jpg"), str(root / "train" / "a.jpg")) and first.split == "train"
    pairs = list(itertools.combinations(range(3), 2))
    assert [one.images for one in tested] == [
        (str(root / "test" / f"{a}.jpg"), str(root / "test" / f"{b}.jpg")) for a, b in pairs
    ]
    for one, (a, b) in zip(tested, pairs, strict=True):
        expected = {user: "a" if rank[a] < rank[b] else "b" for user, rank in RANKS.items()}
        assert one.votes["overall"] == expected and one.split == "test"
    assert [one.votes["averaged"] for one in tested] == ["tie", "a", "a"]


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("train", {"human_preference": [1, 1]}, r"human_preference is \[1, 1\]"),
        ("train", {"file_path": ["a.jpg"]}, "images has 1 of them, expected two"),
        ("train", {"file_path": None}, "missing 'file_path' or 'image_path'"),
        ("train", {"prompt": None}, "missing 'prompt'"),
        ("train", {"file_path": ["a.jpg", "z.jpg"]}, "file_path: .*z.jpg: no such image"),
        ("test", {"rank": [1, 2]}, "ranks on 'averaged' has 2 places"),
        ("test", {"rank": [1, "x", 2]}, "rank is 'x'"),
        ("test", {"raw_annotations": [{"rank": [1, 2], "user_hash": "u"}]}, "ranks on 'overall' has 2 places"),
        ("test", {"raw_annotations": [{"rank": [1, 2, 3]}]}, "missing 'user_hash'"),
        (
            "test",
            {"raw_annotations": [{"rank": [1, 2, 3], "user_hash": "u"}] * 2},
            "raw_annotations: 'u' ranks a second time",
        ),
        ("test", {"raw_annotations": [3]}, "raw_annotations holds 3"),
    ],
)
def test_bad_rows(root, tmp_path, file, change, reason):
    rows = TRAIN if file == "train" else TEST
    write_json(root / f"{file}.json", [rows[0] | change, *rows[1:]])
    with pytest.raises(InputError, match=rf"{file}\.json:2: {reason}"):
        run_importer(find_importer("hpdv2"), root, tmp_path / "out")
    assert run_importer(find_importer("hpdv2"), root, tmp_path / "out", skip_bad=True).made == (
        4 if file == "train" else 2
    )


def test_a_test_set_without_raw_annotations(root, tmp_path):
    write_json(root / "test.json", [{key: TEST[0][key] for key in ("prompt", "image_path", "rank")}])
    found = imported("hpdv2", root / "test.json", tmp_path / "out")
    assert [dict(one.votes) for one in found] == [{"averaged": vote} for vote in ("tie", "a", "a")]

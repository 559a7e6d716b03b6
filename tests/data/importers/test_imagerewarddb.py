"""ImageRewardDB: ranked lists and ratings, in the layout of the hub and of the repository."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.data.importers.published import imported, real_file, write_json, write_parquet, write_pictures
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer


def row(image: str, prompt: int, rank: int, overall: int = 6, category: str | None = "Animals") -> dict:
    return {
        "image_path": f"images/train/train_1/{image}.webp",
        "prompt_id": f"001324-00{prompt}",
        "prompt": f"a forest {prompt}",
        "classification": category,
        "image_amount_in_total": 9,
        "rank": rank,
        "overall_rating": overall,
        "image_text_alignment_rating": 1,
        "fidelity_rating": 7,
    }


ROWS = [
    row("a", 1, 2),
    row("d", 2, 1),
    row("b", 1, 1, 3),
    row("c", 1, 2),
    row("e", 3, 5, category=None),
    row("f", 2, 4),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", (one["image_path"] for one in ROWS))
    write_parquet(tmp_path / "in" / "metadata-train.parquet", ROWS)
    return tmp_path / "in"


def test_ranks_become_pairs_and_equal_ranks_ties(root, tmp_path):
    found = imported("imagerewarddb", root, tmp_path / "out")
    names = [tuple(Path(image).stem for image in one.images) for one in found]
    assert names == [("a", "b"), ("a", "c"), ("b", "c"), ("d", "f")]  # of prompt 3 there is one picture only
    assert [one.votes for one in found] == [{"overall": vote} for vote in ("b", "tie", "a", "a")]
    assert found[0].id == "train/001324-001/0-1" and found[0].split == "train"
    assert found[0].tags == ("category:Animals",) and found[3].prompt == "a forest 2"
    assert found[0].images[0] == str(root / "images/train/train_1/a.webp")


def test_ratings_of_1_to_7_become_records_on_the_rubric_s_scale(root, tmp_path):
    found = imported("imagerewarddb-ratings", root, tmp_path / "out")
    assert [record.scores["overall"] for record in found] == pytest.approx(
        [1 + 4 * (k - 1) / 6 for k in (6, 6, 3, 6, 6, 6)]
    )
    assert found[0].scores == {"overall": pytest.approx(13 / 3), "alignment": 1, "fidelity": 5}
    assert (found[0].group, found[0].id) == ("001324-001", "images/train/train_1/a")
    assert found[0].tags == ("category:Animals",) and found[4].tags == ()


@pytest.mark.parametrize(
    ("column", "value", "name", "reason"),
    [
        ("rank", 0, "imagerewarddb", "rank is 0, expected a number of 1 or more"),
        ("rank", None, "imagerewarddb", "rank is None"),
        ("prompt", "", "imagerewarddb", "prompt is ''"),
        ("prompt_id", "", "imagerewarddb", "prompt_id is ''"),
        ("image_path", "images/train/train_1/x.webp", "imagerewarddb", "image_path: .*x.webp: no such image file"),
        ("overall_rating", 8, "imagerewarddb-ratings", "overall_rating is 8, expected a number from 1 to 7"),
        ("fidelity_rating", 0, "imagerewarddb-ratings", "fidelity_rating is 0, expected a number from 1 to 7"),
    ],
)
def test_bad_rows(root, tmp_path, column, value, name, reason):
    write_parquet(root / "metadata-train.parquet", [*ROWS[:2], ROWS[2] | {column: value}, *ROWS[3:]])
    with pytest.raises(InputError, match=rf"metadata-train\.parquet:row 2: {reason}"):
        run_importer(find_importer(name), root, tmp_path / "out")
    count = run_importer(find_importer(name), root, tmp_path / "out", skip_bad=True).made
    assert count == (2 if name == "imagerewarddb" else 5)


def test_pictures_that_are_still_packed_are_told(root, tmp_path):
    folder = root / "images/train/train_1"
    folder.rename(tmp_path / "elsewhere")
    folder.with_suffix(".zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=rf"no such image file.*; unpack {folder}.zip into {folder}"):
        run_importer(find_importer("imagerewarddb"), root, tmp_path / "out")


def test_a_missing_column(root, tmp_path):
    write_parquet(root / "metadata-train.parquet", [{key: one[key] for key in one if key != "rank"} for one in ROWS])
    with pytest.raises(InputError, match=r"columns \['rank'\] are missing"):
        run_importer(find_importer("imagerewarddb"), root, tmp_path / "out")


def test_the_rankings_of_the_repository(tmp_path):
    write_pictures(tmp_path / "pictures", (f"part-1/images/{n}.webp" for n in "abc"))
    one = {"id": "1-2", "prompt": "a forest", "generations": [f"part-1/images/{n}.webp" for n in "abc"]}
    write_json(tmp_path / "test.json", [one | {"ranking": [2, 5, 2]}])
    found = imported("imagerewarddb", tmp_path / "test.json", tmp_path / "out", images=tmp_path / "pictures")
    assert [one.votes["overall"] for one in found] == ["a", "tie", "b"] and {one.split for one in found} == {"test"}
    for change, reason in (
        ({"ranking": [2, 5]}, "2 places"),
        ({"ranking": [1, 2, "x"]}, "ranking is 'x'"),
        ({}, "missing 'ranking'"),
    ):
        write_json(tmp_path / "test.json", [one | change])
        with pytest.raises(InputError, match=rf"test\.json:2: .*{reason}"):
            run_importer(
                find_importer("imagerewarddb"), tmp_path / "test.json", tmp_path / "bad", tmp_path / "pictures"
            )


def test_the_published_test_rankings(tmp_path):
    file = real_file("THUDM/ImageReward/data/test.json")
    path, count, _ = run_importer(find_importer("imagerewarddb"), file, tmp_path / "out", check="none")
    lists = json.loads(file.read_text(encoding="utf-8"))
    pairs = [pair for one in lists for pair in itertools.combinations(one["ranking"], 2)]
    assert count == len(pairs)
    expected = ["tie" if left == right else "a" if left < right else "b" for left, right in pairs]
    written = [json.loads(line)["votes"]["overall"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert written == expected

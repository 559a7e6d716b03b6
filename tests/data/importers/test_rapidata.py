"""Rapidata's sets: weighted votes on three dimensions, or counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.importers.published import imported, jpeg, write_parquet
from zreward.common.errors import InputError
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

PAIR = {
    **{"prompt": "a fish", "model1": "flux", "model2": "aurora"},
    **{f"image{n}": {"bytes": jpeg(n), "path": f"{n}.jpg"} for n in (1, 2)},
}


def weighted(name: str, first: float | None, second: float | None, votes: int | None) -> dict:
    listed = None if votes is None else json.dumps([{"votedFor": "1.jpg", "userDetails": {"country": "CH"}}] * votes)
    return {
        f"weighted_results_image1_{name}": first,
        f"weighted_results_image2_{name}": second,
        f"detailed_results_{name}": listed,
    }


NEW = (
    PAIR
    | weighted("preference", 0.25, 0.75, 20)
    | weighted("coherence", 3.0, 1.0, 8)
    | weighted("alignment", None, None, None)
)


def written(tmp_path: Path, *rows: dict) -> Path:
    write_parquet(tmp_path / "in" / "data" / "train-00000-of-00001.parquet", list(rows))
    return tmp_path / "in"


def test_weighted_votes_have_the_weight_of_all_who_voted(tmp_path):
    (found,) = imported("rapidata", written(tmp_path, NEW), tmp_path / "out")
    assert found.votes == {"preference": {"a": 5.0, "b": 15.0}, "coherence": {"a": 6.0, "b": 2.0}}
    assert found.models == ("flux", "aurora") and found.images == (jpeg(1), jpeg(2))


def test_weights_stay_as_they_are_where_votes_are_not_listed(tmp_path):
    (found,) = imported("rapidata", written(tmp_path, PAIR | weighted("alignment", 2.5, 0.5, None)), tmp_path / "out")
    assert found.votes == {"alignment": {"a": 2.5, "b": 0.5}}


def test_counts_of_the_older_sets(tmp_path):
    row = PAIR | {"votes_image1": 3, "votes_image2": 23, "detailed_results": "[]", "image1_path": "1.jpg"}
    (found,) = imported("rapidata", written(tmp_path, row), tmp_path / "out")
    assert found.votes == {"overall": {"a": 3, "b": 23}}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (PAIR | weighted("coherence", -1.0, 2.0, 3), "weighted_results_image1_coherence is -1"),
        (PAIR | weighted("coherence", None, 2.0, 3), "weighted_results_image1_coherence is None"),
        (PAIR | weighted("coherence", 0.0, 0.0, 3), "weighted_results_image1_coherence and .* are both 0"),
        (NEW | {"detailed_results_preference": "{"}, "detailed_results_preference: not valid JSON"),
        (NEW | {"detailed_results_preference": "{}"}, "detailed_results_preference is '{}', expected a list"),
        (PAIR, "no votes; expected votes_image1, votes_image2 or"),
        (PAIR | {"votes_image1": 3, "votes_image2": None}, "votes_image2 is None"),
        (NEW | {"image2": None}, "missing 'image2'"),
        (NEW | {"image2": {"bytes": b"x", "path": None}}, "image2: image of 1 bytes"),
    ],
)
def test_bad_rows(tmp_path, row, reason):
    root = written(tmp_path, NEW | dict.fromkeys(("votes_image1", "votes_image2")), row)
    with pytest.raises(InputError, match=rf"parquet:row 1: {reason}"):
        run_importer(find_importer("rapidata"), root, tmp_path / "out")
    assert run_importer(find_importer("rapidata"), root, tmp_path / "out", skip_bad=True).made == 1

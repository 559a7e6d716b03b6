"""The two benchmarks called GenAI-Bench: CMU's ratings, TIGER-Lab's pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.data.importers.published import imported, jpeg, real_file, write_json, write_parquet, write_pictures
from zreward.common.errors import InputError
from zreward.data.importers.genai_bench import MODELS
from zreward.data.importers.importer import run_importer
from zreward.data.importers.registry import find_importer

CMU = {
    "00001": {"id": "00001", "prompt": "a baker", "models": {"DALLE_3": [5, 5, 4], "SDXL_Base": [1, 2, 1]}},
    "00002": {"id": "00002", "prompt": "a fish", "models": {"DALLE_3": [3, 3, 3]}},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", ("DALLE_3/00001.jpeg", "SDXL_Base/00001.jpeg", "DALLE_3/00002.jpeg"))
    write_json(tmp_path / "in" / "genai_image.json", CMU)
    return tmp_path / "in"


def test_ratings_of_every_model(root, tmp_path):
    found = imported("genai-bench", root, tmp_path / "out")
    assert [(one.id, one.scores["alignment"]) for one in found] == [
        *(("00001/DALLE_3", [5, 5, 4]), ("00001/SDXL_Base", [1, 2, 1]), ("00002/DALLE_3", [3, 3, 3]))
    ]
    assert found[1].image == str(root / "SDXL_Base" / "00001.jpeg") and found[1].tags == ("generator:SDXL_Base",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"models": {"DALLE_3": [6, 5, 5]}}, "ratings of 'DALLE_3' is 6, expected a number from 1 to 5"),
        ({"models": {"DALLE_3": [4.5]}}, "ratings of 'DALLE_3' is 4.5, expected a whole number"),
        ({"models": {"DALLE_3": 5}}, "ratings of 'DALLE_3' is 5, expected a list"),
        ({"models": {"DALLE_3": []}}, "score of 'alignment' is empty"),
        ({"models": [5]}, r"models is \[5\]"),
        ({"models": {"Other": [5]}}, "picture of Other: .*Other/00002.jpeg: no such image"),
        ({"id": "00001", "models": {"DALLE_3": [5]}}, "id '00001/DALLE_3' is that of an earlier row"),
    ],
)
def test_bad_rows(root, tmp_path, change, reason):
    write_json(root / "genai_image.json", CMU | {"00002": CMU["00002"] | change})
    with pytest.raises(InputError, match=rf"genai_image\.json:\d+: {reason}"):
        run_importer(find_importer("genai-bench"), root, tmp_path / "out")
    assert run_importer(find_importer("genai-bench"), root, tmp_path / "out", skip_bad=True).made == 2


def test_the_parquet_file_of_the_hub(tmp_path):
    ratings = {model: [1 + number % 5, 3, 5] for number, model in enumerate(MODELS)}
    row = {
        "Index": 7,
        "Prompt": "a fish",
        "HumanRatings": ratings,
        "Tags": {"advanced": ["counting"], "basic": ["scene"]},
    }
    row |= {model: {"bytes": jpeg(number), "path": None} for number, model in enumerate(MODELS)}
    write_parquet(tmp_path / "in" / "data" / "train-00000-of-00001.parquet", [row])
    found = imported("genai-bench", tmp_path / "in", tmp_path / "out")
    assert [(one.id, one.scores["alignment"]) for one in found] == [(f"00007/{name}", ratings[name]) for name in MODELS]
    assert [one.image for one in found] == [jpeg(number) for number in range(6)]
    row["HumanRatings"] = {model: ratings[model] for model in MODELS[1:]}
    write_parquet(tmp_path / "in" / "data" / "train-00000-of-00001.parquet", [row])
    with pytest.raises(InputError, match="row 0: HumanRatings of 'DALLE_3' are missing"):
        run_importer(find_importer("genai-bench"), tmp_path / "in", tmp_path / "out")


def pair(vote: str, number: int = 0) -> dict:
    left, right = ({"bytes": jpeg(2 * number + side), "path": "x.jpg"} for side in (0, 1))
    return {
        **{"prompt": "a fish", "left_model": "SDXL", "left_image": left},
        **{"right_model": "PixArt", "right_image": right, "vote_type": vote},
    }


def test_pairs_of_the_arena(tmp_path):
    votes = ("leftvote", "rightvote", "tievote", "bothbad_vote")
    folder = tmp_path / "in" / "image_generation"
    write_parquet(folder / "train-00000-of-00001.parquet", [pair(vote, n) for n, vote in enumerate(votes)])
    write_parquet(folder / "train_v1-00000-of-00001.parquet", [pair("leftvote")])  # an older edition of the same pairs
    found = imported("genai-bench-pairs", tmp_path / "in", tmp_path / "out")
    assert [one.votes["overall"] for one in found] == ["a", "b", "tie", "tie"]
    assert [one.tags for one in found] == [(f"vote:{vote}",) for vote in votes]
    assert found[1].images == (jpeg(2), jpeg(3)) and found[1].models == ("SDXL", "PixArt")
    write_parquet(folder / "train-00000-of-00001.parquet", [pair("left")])
    with pytest.raises(InputError, match="row 0: vote_type is 'left', expected one of leftvote, rightvote"):
        run_importer(find_importer("genai-bench-pairs"), tmp_path / "in", tmp_path / "out")


def test_the_published_ratings(tmp_path):
    file = real_file("linzhiqiu/t2v_metrics/genai_image.json")
    done = run_importer(find_importer("genai-bench"), file, tmp_path / "out", check="none")
    written = [json.loads(line) for line in done.path.read_text(encoding="utf-8").splitlines()]
    published = json.loads(file.read_text(encoding="utf-8"))
    expected = [(one["prompt"], ratings) for one in published.values() for ratings in one["models"].values()]
    assert [(one["prompt"], one["scores"]["alignment"]) for one in written] == expected

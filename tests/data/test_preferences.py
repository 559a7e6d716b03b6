"""Preferences: the forms of votes, ranked lists, pairs of scored records, files that give back what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import noise_pictures
from zreward.common.errors import InputError
from zreward.data import Preference, Record, Votes, load_preferences, preference, record_preferences, save_preferences
from zreward.data.preference import preferences_of

PICTURES = noise_pictures(4)
PAIR = (PICTURES[0], PICTURES[1])


def prefer(votes: Any = "a", **fields: Any) -> Preference:
    return Preference("a red cube", PAIR, votes, **fields)


def line(**fields: Any) -> dict[str, Any]:
    return {"prompt": "a red cube", "images": ["0.png", "1.png"], "votes": "a"} | fields


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, picture in enumerate(PICTURES):
        picture.save(tmp_path / f"{number}.png")
    return tmp_path


def write(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "votes.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


@pytest.mark.parametrize(
    ("votes", "dimension", "counts", "share", "winner", "raters"),
    [
        ("a", "overall", (1, 0, 0), 1.0, "a", {}),
        ("tie", "overall", (0, 0, 1), 0.5, "tie", {}),
        ({"a": 7, "b": 2, "tie": 1}, "overall", (7, 2, 1), 0.75, "a", {}),
        ({"b": 0.25, "a": None}, "overall", (0, 0.25, 0), 0.0, "b", {}),
        ({"realism": {"a": 1, "b": 1, "tie": 3}}, "realism", (1, 1, 3), 0.5, "tie", {}),
        ({"realism": {"a": 2, "tie": 3}}, "realism", (2, 0, 3), 0.7, "tie", {}),
        ({"realism": {"r1": "a", "r2": "b", "r3": "b"}}, "realism", (1, 2, 0), 1 / 3, "b", {"r1": "a", "r2": "b", "r3": "b"}),
        ({"realism": {"a": "tie", "r2": None}}, "realism", (0, 0, 1), 0.5, "tie", {"a": "tie"}),  # a rater called a
    ],
)  # fmt: skip
def test_votes_are_counted_in_every_form(votes, dimension, counts, share, winner, raters):
    one = prefer(votes)
    found = one.counts(dimension)
    assert found == Votes(*counts) and found.share == pytest.approx(share) and found.winner == winner
    assert one.raters(dimension) == raters and one.counts("alignment") is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"votes": "A"}, "vote on 'overall' is 'A', expected a, b or tie"),
        ({"votes": {"realism": "first"}}, "vote on 'realism' is 'first', expected a, b or tie"),
        ({"votes": {"realism": 1}}, "vote on 'realism' is 1, expected a, b or tie"),
        ({"votes": {"realism": {}}}, "vote on 'realism' is {}, expected counts of 0 or more"),
        ({"votes": {"realism": {"r1": None}}}, "vote on 'realism' is empty; leave the dimension out when nobody voted"),
        ({"votes": {"realism": {"r1": "a", "r2": "c"}}}, "vote on 'realism' by 'r2' is 'c'"),
        ({"votes": {"a": 0, "b": 0}}, "expected counts of 0 or more, at least one of them above 0"),
        ({"votes": {"a": -1, "b": 2}}, "expected counts of 0 or more"),
        ({"votes": {"a": float("nan")}}, "vote on 'overall': a is nan, expected a finite number"),
        ({"votes": {"a": True}}, "vote on 'overall': a is True, expected a finite number"),
        ({"votes": ["a"]}, r"votes is \['a'\], expected"),
        ({"images": PAIR[:1]}, "images has 1 of them, expected two"),
        ({"images": PICTURES[0]}, "images is .*, expected a list"),
        ({"images": (PICTURES[0], 3)}, "image is 3, expected a path, encoded bytes or a PIL image"),
        ({"models": ["sdxl"]}, "models names 1, expected two, of a and of b, or none"),
        ({"models": "sdxl"}, "models is 'sdxl', expected a list of text"),
        ({"prompt": " "}, "prompt"),
        ({"tags": [1]}, "tag is 1, expected text"),
        ({"group": ""}, "group is '', expected text"),
    ],
)
def test_a_wrong_field_is_named(fields, said):
    with pytest.raises(InputError, match=said):
        Preference(**{"prompt": "a red cube", "images": PAIR, "votes": "a"} | fields)


def test_a_ranked_list_is_all_of_its_pairs():
    ranks = {"overall": {"r1": [1, 3, 2], "r2": [1, 1, 2]}, "realism": [2, 1, 3]}
    images = ["x.png", "y.png", "z.png"]
    fields = {
        "prompt": "p",
        "images": images,
        "ranks": ranks,
        "models": ["m0", "m1", "m2"],
        "id": "list",
        "split": "dev",
    }
    first, second, third = preferences_of(fields, "in")
    assert [one.images for one in (first, second, third)] == [
        ("in/x.png", "in/y.png"),
        ("in/x.png", "in/z.png"),
        ("in/y.png", "in/z.png"),
    ]
    assert [one.votes for one in (first, second, third)] == [
        {"overall": {"r1": "a", "r2": "tie"}, "realism": "b"},
        {"overall": {"r1": "a", "r2": "a"}, "realism": "a"},
        {"overall": {"r1": "b", "r2": "a"}, "realism": "a"},
    ]
    assert [one.models for one in (first, second, third)] == [("m0", "m1"), ("m0", "m2"), ("m1", "m2")]
    assert [one.id for one in (first, second, third)] == ["list/0-1", "list/0-2", "list/1-2"] and third.split == "dev"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ranks": [1, 2]}, "votes and ranks in one line"),
        ({"votes": None, "ranks": [1, 2, 3]}, "ranks on 'overall' has 3 places, expected one for each of the 2 images"),
        ({"votes": None, "ranks": {"realism": "12"}}, "ranks on 'realism' is '12', expected a list of places"),
        ({"votes": None, "ranks": {"realism": {}}}, "ranks on 'realism' is empty"),
        ({"votes": None, "ranks": [1, "x"]}, "ranks on 'overall' is 'x', expected a finite number"),
        ({"votes": None, "ranks": [1], "images": ["0.png"]}, "images has 1 of them, expected 2 to 200"),
        ({"votes": None, "ranks": [1, 2], "models": ["m"]}, "models names 1, expected one for each of the 2 images"),
        ({"image": "0.png"}, "unknown key 'image'; did you mean 'images'"),
        ({"images": None}, "missing 'images'"),
        ({"prompt": None}, "missing 'prompt'"),
        ({"images": ["http://127.0.0.1/0.png", "1.png"]}, "is a URL; images are not fetched"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(folder, fields, said):
    path = write(folder, line(), line(**fields))
    with pytest.raises(InputError, match=rf"votes.jsonl:2: .*{said}"):
        load_preferences(path)


def test_a_picture_of_a_ranked_list_is_opened_once(folder, monkeypatch):
    opened = []
    monkeypatch.setattr(preference, "open_image", lambda image: opened.append(Path(image).name))
    images = [f"{number}.png" for number in range(4)]
    found = load_preferences(write(folder, line(images=images, votes=None, ranks=[1, 2, 3, 4])))
    assert len(found) == 6 and opened == images


def test_a_ranked_list_has_a_limit():
    images = ["x.png"] * 201
    with pytest.raises(InputError, match="images has 201 of them, expected 2 to 200; cut a longer list into several"):
        preferences_of({"prompt": "p", "images": images, "ranks": list(range(201))})
    assert len(preferences_of({"prompt": "p", "images": images[:200], "ranks": list(range(200))})) == 19_900


def test_scored_records_become_votes_of_those_who_rated_both():
    def rated(picture: int, prompt: str = "p", **scores: Any) -> Record:
        return Record(prompt, PICTURES[picture], scores, split="dev")

    records = [
        rated(0, realism={"r1": 4, "r2": 3, "r3": 2}, alignment=3.0),
        rated(1, realism={"r1": 2, "r2": 3, "r4": 5}, alignment=[3.0, 2.0]),
        rated(2, realism={"r5": 1.0}),
        rated(3, "q", realism=1.0),
    ]
    pairs = record_preferences(records)
    assert [one.votes for one in pairs] == [
        {"realism": {"r1": "a", "r2": "tie"}, "alignment": "a"},  # 3 above 2.5
        {"realism": "a"},  # nobody rated both: 3 above 1
        {"realism": "a"},
    ]
    assert pairs[0].images == (PICTURES[0], PICTURES[1]) and pairs[0].split == "dev"
    close = record_preferences(records[:2], ["alignment"], margin=0.5)
    assert [one.votes for one in close] == [{"alignment": "tie"}]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_was_written_is_read_again(folder, suffix):
    written = [
        Preference("p", (str(folder / "0.png"), str(folder / "1.png")), {"a": 7, "b": 2}, ("m", "n"), "g", "dev", ("t",), "1"),
        Preference("q", ((folder / "2.png").read_bytes(), str(folder / "3.png")), {"realism": {"r1": "tie"}}),
    ]  # fmt: skip
    path = save_preferences(written, folder / f"saved.{suffix}")
    found = load_preferences(path)
    assert found[0] == written[0]
    assert (found[1].prompt, found[1].votes, found[1].images[1]) == ("q", written[1].votes, written[1].images[1])
    for got, expected in zip(found[1].open_images(), written[1].open_images(), strict=True):
        assert got.tobytes() == expected.tobytes()
    assert [one.id for one in load_preferences(path, split="dev")] == ["1"]
    with pytest.raises(InputError, match="no preference of split 'test'; the splits in it are 'dev'"):
        load_preferences(path, split="test")


def test_a_data_set_shows_both_pictures(folder):
    import datasets

    pair = Preference("p", ((folder / "2.png").read_bytes(), (folder / "3.png").read_bytes()), "b")
    path = save_preferences([pair], folder / "saved.parquet")
    data = datasets.Dataset.from_parquet(str(path), cache_dir=str(folder / "cache"))
    assert [picture.size for picture in data[0]["images"]] == [PICTURES[2].size, PICTURES[3].size]
    assert load_preferences(data) == [pair]


def test_bad_lines_are_skipped_where_that_is_asked(folder):
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:60])
    path = write(folder, line(id="1"), line(id="1"), line(images=["0.png", "cut.png"]), line(images=["0.png", "9.png"]))
    with pytest.raises(
        InputError, match="(?s)votes.jsonl:2: id '1' is that of .*votes.jsonl:1 already.*3 bad lines in"
    ):
        load_preferences(path)
    assert len(load_preferences(path, skip_bad=True)) == 1
    skipped = [json.loads(each)["line"] for each in Path(f"{path}.skipped.jsonl").read_text().splitlines()]
    assert skipped == [2, 3, 4]
    assert len(load_preferences(write(folder, line(images=["0.png", "cut.png"])), check_images=False)) == 1


def test_nothing_is_written_of_nothing(tmp_path):
    with pytest.raises(InputError, match="there is no preference to write"):
        save_preferences([], tmp_path / "x.jsonl")
    with pytest.raises(InputError, match="unknown file type '.csv'"):
        save_preferences([prefer()], tmp_path / "x.csv")

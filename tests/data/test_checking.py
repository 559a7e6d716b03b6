"""`zreward data check` and `zreward data split`: every fault is found and named as people know it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from zreward.cli import main as cli
from zreward.common.errors import InputError
from zreward.data import load_records
from zreward.data.checking import check_records
from zreward.rubric import Dimension, Rubric

RUBRIC = Rubric(
    "r", "1", dimensions=tuple(Dimension(name, name, name, {1: "bad", 5: "good"}) for name in ("light", "hands"))
)


@pytest.fixture
def write(tmp_path):
    """write(rows) -> records file; row = (prompt, picture, split, scores), pictures by colour."""
    for colour in ("red", "green", "blue", "black", "white", "gold"):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{colour}.png")

    def make(*rows: tuple, **more) -> Path:
        file = tmp_path / "records.jsonl"
        lines = [
            {"prompt": p, "image": f"{i}.png"} | ({"split": s} if s else {}) | ({"scores": r} if r else {}) | more
            for p, i, s, r in rows
        ]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return file

    return make


def test_counts_by_dimension_and_split(write):
    found = check_records(
        write(
            ("a", "red", "train", {"light": {"ann": 4, "bob": 5}, "hands": 2}),
            ("a", "blue", "train", {"light": {"ann": 1, "bob": None}}),
            ("b", "gold", "dev", {"light": [3, 3.5]}),
        ),
        RUBRIC,
    )
    assert (found.errors, found.prompts, found.raters) == ([], 2, {"ann": 2, "bob": 1})
    keys = ("dimension", "split", "items", "ratings", "raters", "lowest", "highest", "pairs")
    assert [tuple(row[key] for key in keys) for row in found.counts] == [
        ("light", "dev", 1, 2, 0, 3.0, 3.5, 0),
        ("light", "train", 2, 3, 2, 1.0, 5.0, 1),
        ("hands", "train", 1, 1, 0, 2.0, 2.0, 0),
    ]
    assert found.notes == ["hands: no prompt has two pictures with different scores, so there are no pairs"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("a cup", "red", "train", None), ("A  cup", "blue", "test", None)],
            "prompt 'a cup' is in the splits train, test",
        ),
        (
            [("a", "red", "train", None), ("b", "red", "test", None)],
            "the same picture is in the splits test, train: .*:1, .*:2",
        ),
        ([("a", "red", None, {"light": 7})], r":1: score of 'light' 7 is off the scale 1 to 5"),
        ([("a", "red", None, {"ligth": 3})], r":1: unknown dimension 'ligth'.*light"),
        ([("a", "pink", None, None)], r":1: .*pink.png: no such image file"),
        ([("", "red", None, None)], r":1: prompt is empty or blank"),
    ],
)
def test_errors(write, rows, message):
    found = check_records(write(*rows), RUBRIC)
    assert len(found.errors) == 1
    with pytest.raises(InputError, match=message):
        raise InputError(found.errors[0])


def test_a_group_in_two_splits_is_named_by_its_prompts(write):
    digest = "0d3f9a"
    found = check_records(
        write(("a red cup", "red", "train", None), ("a blue cup", "blue", "test", None), group=digest)
    )
    assert found.errors == ["one group holds 'a red cup' (train) and 'a blue cup' (test)"]


def test_ids_pictures_and_scales_that_are_odd_but_allowed(write):
    found = check_records(
        write(("a", "red", None, {"light": 9}), ("a", "red", None, None), ("b", "red", None, None), id="x")
    )
    assert [error.split(": ", 1)[1].startswith("id 'x' is that of") for error in found.errors] == [True, True]
    assert any("the same picture" in note for note in found.notes)
    assert any("outside 1 to 5" in note for note in found.notes)


def test_many_faults_are_not_all_printed(write):
    rows = [(f"prompt {n}", colour, split, None) for n in range(30) for colour, split in (("red", "a"), ("blue", "b"))]
    found = check_records(write(*rows))
    assert sum("is in the splits a, b" in error for error in found.errors) == 20
    assert any("and 10 more prompts" in error for error in found.errors)


def run(monkeypatch, capsys, *words) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["zreward", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_the_command_ends_with_2_where_something_must_be_mended(write, monkeypatch, capsys, tmp_path):
    good = write(("a", "red", None, {"light": 3}))
    RUBRIC.to_yaml(tmp_path / "rubric.yaml")
    code, out, err = run(monkeypatch, capsys, "data", "check", good, "--rubric", tmp_path / "rubric.yaml")
    assert code == 0 and "1 records of 1 prompts" in " ".join(out.split()) and "hands" in out
    code, out, err = run(monkeypatch, capsys, "data", "check", write(("a", "pink", None, None)))
    assert code == 2 and "1 error in" in err
    code, out, _ = run(monkeypatch, capsys, "data", "check", write(("a", "red", None, {"light": 3})), "--json")
    assert json.loads(out)["counts"][0]["items"] == 1


def test_split_keeps_prompts_together_and_check_is_content(write, monkeypatch, capsys, tmp_path):
    colours = ("red", "green", "blue", "black", "white", "gold")
    file = write(*((f"prompt {n // 2}", colour, None, {"light": 3}) for n, colour in enumerate(colours)))
    words = ("data", "split", file, "--out", tmp_path / "parts", "--train", 0.4, "--dev", 0.3, "--test", 0.3)
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 0, err
    parts = [load_records(tmp_path / "parts" / f"{name}.jsonl") for name in ("train", "dev", "test")]
    assert sum(map(len, parts)) == 6
    assert [{r.split for r in part} for part in parts] == [{"train"}, {"dev"}, {"test"}]
    prompts = [{r.prompt for r in part} for part in parts]
    assert not (prompts[0] & prompts[1] or prompts[0] & prompts[2] or prompts[1] & prompts[2])
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 2 and "is there already" in err
    code, _, err = run(monkeypatch, capsys, "data", "split", file, "--out", tmp_path / "q", "--train", 0.9)
    assert code == 2 and "--train 0.9 + --dev 0.1 + --test 0.1 is 1.1" in err
    words = ("data", "split", file, "--out", tmp_path / "two", "--dev", 0, "--test", 0.2)
    assert run(monkeypatch, capsys, *words)[0] == 0
    assert {file.stem for file in (tmp_path / "two").iterdir()} == {"train", "test"}


def test_rubric_check_shows_labels_and_the_text_that_is_asked(monkeypatch, capsys, tmp_path):
    RUBRIC.to_yaml(tmp_path / "rubric.yaml")
    code, out, _ = run(monkeypatch, capsys, "rubric", "check", tmp_path / "rubric.yaml", "--prompt", "a cup")
    assert code == 0
    assert "4.5 is '8'" in out and "9: good" in out and "a cup" in out
    code, out, _ = run(monkeypatch, capsys, "rubric", "check", tmp_path / "rubric.yaml", "--model", "world:small")
    assert code == 0 and "'9' is token" in out and "<|image_pad|>" in out
    text = (tmp_path / "rubric.yaml").read_text().replace("'9'", "ninety")
    (tmp_path / "rubric.yaml").write_text(text)
    code, _, err = run(monkeypatch, capsys, "rubric", "check", tmp_path / "rubric.yaml", "--model", "world:small")
    assert code == 2 and "'ninety' is" in err and "exactly one token" in err

"""`zreward data check` and `zreward data split` on preferences."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from zreward.cli import main as cli
from zreward.common.errors import InputError
from zreward.data import load_preferences
from zreward.data.preference_checking import check_preferences
from zreward.data.splits import split_preferences_by_prompt
from zreward.rubric import Dimension, Rubric

COLOURS = ("red", "green", "blue", "black", "white", "gold", "pink", "gray")


@pytest.fixture
def write(tmp_path):
    """write(rows) -> file; row = (prompt, first picture, second picture, votes), pictures by colour."""
    for colour in COLOURS:
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{colour}.png")

    def make(*rows: tuple, **more) -> Path:
        file = tmp_path / "votes.jsonl"
        lines = [{"prompt": p, "images": [f"{a}.png", f"{b}.png"], "votes": v} | more for p, a, b, v in rows]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return file

    return make


def test_counts_by_dimension_and_split(write):
    file = write(
        ("a", "red", "green", {"light": {"a": 3, "tie": 1}, "hands": "b"}),
        ("a", "red", "blue", {"light": {"ann": "b", "bob": "a"}}),
        ("b", "black", "white", {"light": "tie"}),
    )
    found = check_preferences(file)
    assert found.counts == [
        {"dimension": "light", "split": "(none)", "pairs": 3, "for a": 4, "for b": 1, "ties": 2, "no winner": 2},
        {"dimension": "hands", "split": "(none)", "pairs": 1, "for a": 0, "for b": 1, "ties": 0, "no winner": 0},
    ]
    assert found.raters == {"ann": 1, "bob": 1} and found.prompts == 2 and not found.errors
    assert len(found.records) == 5, "red is shown twice"


def test_errors_name_the_line(write, tmp_path):
    file = write(("a", "red", "green", "a"), ("b", "blue", "nowhere", "a"), ("c", "black", "white", "best"))
    found = check_preferences(file)
    assert [error.split(": ")[0] for error in found.errors] == [f"{file}:2", f"{file}:3"]
    both = json.loads(file.read_text().splitlines()[0])
    lines = [both | {"split": "train", "id": "x"}, both | {"prompt": "A ", "split": "test", "id": "x"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = "\n".join(check_preferences(file).errors)
    assert "id 'x' is that of" in said and "prompt 'a' is in the splits train, test" in said
    assert "the same picture is in the splits test, train" in said
    file.write_text("")
    with pytest.raises(InputError, match="it is empty; expected at least one preference"):
        check_preferences(file)


def test_votes_on_what_the_rubric_does_not_have(write):
    rubric = Rubric("r", "1", dimensions=(Dimension("light", "Light", "How?", {1: "bad", 5: "good"}),))
    file = write(("a", "red", "green", {"light": "a", "hands": "b", "overall": "a"}))
    assert check_preferences(file, rubric).errors == ["votes on 'hands', which the rubric 'r' does not have"]


@pytest.mark.parametrize("seed", range(3))
def test_pairs_that_share_a_prompt_or_a_picture_stay_together(write, seed):
    rows = [(f"prompt {n}", COLOURS[2 * n], COLOURS[2 * n + 1], "a") for n in range(4)]
    shared = ("another", "gray", "red", "b")  # with a picture of prompt 3 and one of prompt 0
    pairs = load_preferences(write(*rows, shared))
    dealt = split_preferences_by_prompt(pairs, {"train": 0.5, "test": 0.5}, seed)
    home = {one.prompt: name for name, part in dealt.items() for one in part}
    assert len(home) == 5 and home["prompt 0"] == home["another"] == home["prompt 3"]
    assert all(one.split == name for name, part in dealt.items() for one in part)


def test_the_commands(write, monkeypatch, capsys, tmp_path):
    def run(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zreward", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    file = write(*((f"prompt {n}", COLOURS[2 * n], COLOURS[2 * n + 1], "a") for n in range(4)))
    code, out, err = run("data", "check", file)
    assert code == 0 and "8 pictures of 4 prompts" in " ".join(out.split()), err
    code, out, err = run(
        "data", "split", file, "--out", tmp_path / "parts", "--train", 0.5, "--dev", 0.25, "--test", 0.25
    )
    assert code == 0 and "2 pairs, 2 prompts" in out, err
    parts = [load_preferences(tmp_path / "parts" / f"{name}.jsonl") for name in ("train", "dev", "test")]
    assert [len(part) for part in parts] == [2, 1, 1] and len({one.prompt for part in parts for one in part}) == 4

"""Tables of comparisons: how the winner is told, rows of one pair together, what is refused with its line."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import pytest
from typer.testing import CliRunner

from tests.tiny import noise_pictures
from zreward.cli.main import app
from zreward.common.errors import InputError
from zreward.data import load_preferences
from zreward.data.importers.csv_winners import WinnerColumns, import_winners
from zreward.data.importers.table import read_table


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, picture in enumerate(noise_pictures(3)):
        picture.save(tmp_path / f"{number}.png")
    return tmp_path


def imported(folder: Path, text: str, **options):
    (folder / "choices.csv").write_text(text)
    said = import_winners(folder / "choices.csv", folder / "out", **options)
    return said, load_preferences(folder / "out" / "preferences.jsonl")


@pytest.mark.parametrize(
    ("told", "vote"),
    [
        *(("a", "a"), ("LEFT", "a"), ("1", "a"), ("Image_A", "a"), ("0.png", "a")),
        *(("b", "b"), ("second", "b"), ("image_b", "b"), ("1.png", "b")),
        *(("tie", "tie"), ("Equal", "tie"), ("both", "tie")),
    ],
)
def test_a_winner_is_told_in_many_ways(folder, told, vote):
    _, (found,) = imported(folder, f"prompt,image_a,image_b,winner\na dog,0.png,1.png,{told}\n")
    assert found.votes == {"overall": {vote: 1.0}} and found.images == (str(folder / "0.png"), str(folder / "1.png"))


def test_rows_of_one_pair_are_counted_whichever_way_round(folder):
    text = "caption;left;right;chosen;split\na dog;0.png;1.png;left;dev\na dog;1.png;0.png;left;dev\na dog;1.png;0.png;tie;dev\n"
    text += "a dog;1.png;2.png;right;dev\na cat;0.png;1.png;right;dev\n"
    said, found = imported(folder, text)
    assert [one.votes["overall"] for one in found] == [{"a": 1.0, "b": 1.0, "tie": 1.0}, {"b": 1.0}, {"b": 1.0}]
    assert [one.prompt for one in found] == ["a dog", "a dog", "a cat"] and found[0].split == "dev"
    assert "prompt from 'caption', image_a from 'left', image_b from 'right', winner from 'chosen'" in said
    assert "(3 pairs of pictures)" in said


def test_raters_and_dimensions_are_kept_apart(folder):
    text = "prompt,image_1,image_2,winner,worker,aspect\n" + "".join(
        f"a dog,0.png,1.png,{side},{rater},{name}\n"
        for side, rater, name in (("1", "r1", "realism"), ("2", "r2", "realism"), ("tie", "r1", "style"))
    )
    _, (found,) = imported(folder, text, columns=WinnerColumns(dimension="aspect"))
    assert found.votes == {"realism": {"r1": "a", "r2": "b"}, "style": {"r1": "tie"}}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a dog,0.png,1.png,0,r1", "winner is '0', expected a, b or tie"),
        ("a dog,0.png,1.png,,r1", "winner is empty"),
        ("a dog,0.png,1.png,a,", "rater is empty"),
        (",0.png,1.png,a,r1", "prompt is empty"),
        ("a dog,0.png,9.png,a,r1", "no such image file"),
        ("a dog,0.png,1.png,b,r0", "'r0' votes a second time on these pictures \\(their first vote is 'a'\\)"),
        ("a dog,0.png,1.png,b", "4 cells under 5 columns"),
        ("a dog,http://127.0.0.1/a.png,1.png,a,r1", "no such image file|is a URL"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_written(folder, row, said):
    text = f"prompt,image_a,image_b,winner,rater\na dog,0.png,1.png,a,r0\n{row}\n"
    with pytest.raises(InputError, match=f"choices.csv:3: .*({said})"):
        imported(folder, text)
    assert not (folder / "out").exists()
    _, found = imported(folder, text, skip_bad=True)
    assert len(found) == 1 and (folder / "out" / "preferences.jsonl.skipped.jsonl").exists()


def test_a_missing_column_is_asked_for_by_its_option(folder):
    with pytest.raises(InputError, match="no column for the image_b; the header is .* Name it with --image-b COLUMN"):
        imported(folder, "prompt,image_a,winner\na,0.png,a\n")
    with pytest.raises(InputError, match="no column 'pick'; the header is"):
        imported(folder, "prompt,image_a,image_b\na,0.png,1.png\n", columns=WinnerColumns(winner="pick"))


def test_the_commands(folder):
    (folder / "choices.csv").write_text("prompt,x,y,pick\na dog,0.png,1.png,x\n")
    run = CliRunner().invoke
    options = ["--winner", "pick", "--image-a", "x", "--image-b", "y"]
    told = run(app, ["data", "import", "csv", str(folder / "choices.csv"), str(folder / "new.parquet"), *options])
    assert told.exit_code == 0 and "(1 pair of pictures)" in told.output
    assert load_preferences(folder / "new.parquet")[0].votes == {"overall": {"a": 1.0}}
    lines = [
        f'{{"prompt": "a", "image": "{n}.png", "scores": {{"realism": {score}}}}}'
        for n, score in ((0, 3), (1, 3.5), (2, 5))
    ]
    (folder / "rated.jsonl").write_text("\n".join(lines))
    told = run(app, ["data", "preferences", str(folder / "rated.jsonl"), str(folder / "p.jsonl"), "--margin", "0.5"])
    assert told.exit_code == 0
    assert [one.votes["realism"] for one in load_preferences(folder / "p.jsonl")] == ["tie", "b", "b"]
    (folder / "one.jsonl").write_text(lines[0])
    told = run(app, ["data", "preferences", str(folder / "one.jsonl"), str(folder / "q.jsonl")])
    assert told.exit_code and "no prompt has two pictures" in str(told.exception)


def test_a_header_of_a_hundred_thousand_columns_is_looked_through_once(tmp_path):
    """Counted anew for every column, this takes minutes."""
    (tmp_path / "a.csv").write_text(",".join(f"c{number}" for number in range(100_000)) + "\n")
    begin = process_time()
    assert len(read_table(tmp_path / "a.csv").header) == 100_000
    assert process_time() - begin < 10
    (tmp_path / "b.csv").write_text(",".join(["c"] * 100_000) + "\n")
    with pytest.raises(InputError, match="column 'c' stands twice") as caught:
        read_table(tmp_path / "b.csv")
    assert len(str(caught.value)) < 2000


def test_a_separator_that_csv_does_not_take(tmp_path):
    (tmp_path / "a.csv").write_text('sep="\na"b\n')
    with pytest.raises(InputError, match="expected one character that is neither a quote"):
        read_table(tmp_path / "a.csv")

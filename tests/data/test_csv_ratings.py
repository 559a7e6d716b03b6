"""`zreward data import csv`: wide and long tables, guessed and named columns, separators, and messages with line numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from zreward.common.errors import InputError
from zreward.data import load_records
from zreward.data.importers.csv_ratings import Columns, import_csv
from zreward.rubric import Dimension, Rubric


@pytest.fixture
def write(tmp_path):
    """write(text, encoding) -> the path of a CSV file beside pictures/a.png and pictures/b.png, of different colours."""
    (tmp_path / "pictures").mkdir()
    for name, colour in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / "pictures" / f"{name}.png")

    def make(text: str, encoding: str = "utf-8") -> Path:
        (tmp_path / "ratings.csv").write_bytes(text.encode(encoding))
        return tmp_path / "ratings.csv"

    return make


def scores(file: Path, columns: Columns | None = None, **options) -> list[tuple[str, str, dict]]:
    """(prompt, picture, scores) of every record, read back from the file that was written."""
    path = import_csv(file, file.parent / "out", columns or Columns(), **options).path
    return [(r.prompt, Path(str(r.image)).name, dict(r.scores)) for r in load_records(path)]


WIDE = 'prompt,image,alignment,light\na cup,pictures/a.png,4,3.5\n"a cup, red",pictures/b.png,5,\n'


@pytest.mark.parametrize(
    ("separator", "encoding", "ends"),
    [(",", "utf-8", "\n"), (";", "utf-8-sig", "\r\n"), ("\t", "utf-8", "\r"), ("|", "utf-8", "\n")],
)
def test_separators_marks_and_line_ends(write, separator, encoding, ends):
    text = WIDE.replace('"a cup, red"', '"a cup~ red"').replace(",", separator).replace("~", ",").replace("\n", ends)
    assert scores(write(text, encoding)) == [
        ("a cup", "a.png", {"alignment": [4.0], "light": [3.5]}),
        ("a cup, red", "b.png", {"alignment": [5.0]}),
    ]


def test_row_numbers_as_pandas_writes_them_are_no_rating(write):
    lines = WIDE.splitlines()
    for name in ("", "Unnamed: 0"):
        numbered = [f"{name},{lines[0]}", *(f"{n},{line}" for n, line in enumerate(lines[1:]))]
        file = write("\n".join(numbered))
        assert [found for _, _, found in scores(file)] == [{"alignment": [4.0], "light": [3.5]}, {"alignment": [5.0]}]
        reading = import_csv(file, file.parent / "again", Columns()).reading
        assert f"not used: '{name or '(row numbers)'}'" in reading
    with pytest.raises(InputError, match="has no name"):
        scores(write("prompt,image,,light\na cup,pictures/a.png,1,4\n"))


def test_excel_says_its_separator(write):
    assert scores(write("sep=;\nprompt;image;light\na, b, c;pictures/a.png;4\n"))[0] == (
        "a, b, c",
        "a.png",
        {"light": [4.0]},
    )


def test_lists_decimal_commas_and_missing_ratings(write):
    rows = ("4 4.5 3", "[4, 4.5, 3]", "4|4,5|3", "4/4,5/3")
    for cell in rows:
        found = scores(write(f"prompt;image;light\na;pictures/a.png;{cell}\n"))
        assert found[0][2] == {"light": [4.0, 4.5, 3.0]}, cell
    text = "prompt,image,light\n" + "".join(f"a,pictures/a.png,{cell}\n" for cell in ("n/a", "-", "", "NULL", "2"))
    assert scores(write(text)) == [("a", "a.png", {"light": [2.0]})]


def test_rows_of_one_image_add_up_and_raters_are_kept(write):
    text = "Caption,File Name,Worker,light\na,pictures/a.png,ann,4\na,pictures/a.png,bob,\n"
    text += "a,pictures/a.png,eve,2\nb,pictures/a.png,ann,1\n"
    assert scores(write(text)) == [
        ("a", "a.png", {"light": {"ann": 4.0, "eve": 2.0}}),
        ("b", "a.png", {"light": {"ann": 1.0}}),
    ]
    assert scores(write("prompt,image,light\na,pictures/a.png,4\na,pictures/a.png,2\n"))[0][2] == {"light": [4.0, 2.0]}


def test_the_long_form(write):
    text = "text,path,aspect,value,user\na,pictures/a.png,light,4,ann\na,pictures/a.png,light,5,bob\n"
    text += "a,pictures/a.png,hands,1,ann\n"
    assert scores(write(text)) == [("a", "a.png", {"light": {"ann": 4.0, "bob": 5.0}, "hands": {"ann": 1.0}})]


def test_columns_can_be_named(write):
    text = "text,prompt,image,picture,How light?,who\na,not this,not this,pictures/a.png,4,ann\n"
    columns = Columns(prompt="text", image="picture", rater="who", dimensions=("light=How light?",))
    assert scores(write(text), columns) == [("a", "a.png", {"light": {"ann": 4.0}})]


def test_other_columns_are_left_alone_and_named(write):
    text = "prompt,image,light,seed,remark\na,pictures/a.png,4,17,nice\n"
    file = write(text)
    done = import_csv(file, file.parent / "o.parquet")
    assert "light from 'light'; not used: 'seed', 'remark'" in str(done)
    assert (done.records, done.ratings, done.path.name) == (1, 1, "o.parquet")


def test_split_group_and_id_come_along(write):
    file = write("prompt,image,light,split,group,id\na,pictures/a.png,4,dev,g1,x7\n")
    record = load_records(import_csv(file, file.parent / "out").path)[0]
    assert (record.split, record.group, record.id) == ("dev", "g1", "x7")


RUBRIC = Rubric("r", "1", dimensions=(Dimension("light", "Light", "How light?", {1: "dark", 5: "bright"}),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("a\n", "no column for the prompt and the image; the header is a"),
        ("prompt,image,image\n", "column 'image' stands twice"),
        ("prompt,image,\n", "has no name"),
        ("prompt,image,light\na,pictures/a.png,4,5\n", r"ratings.csv:2: 4 cells under 3 columns"),
        ("prompt,image,light\na,pictures/a.png,4\n,pictures/b.png,4\n", r"ratings.csv:3: prompt is empty"),
        ('prompt,image,light\n"a\nb",pictures/a.png,4\nc,pictures/none.png,3\n', r"ratings.csv:4: .*none.png: no such"),
        (
            "prompt,image,light\na,pictures/a.png,4\nb,pictures/a.png,good\n",
            r"ratings.csv:3: light is 'good', expected a number",
        ),
        ('prompt,image,light\na,pictures/a.png,4\nb,pictures/b.png,"4,5"\n', r":3: light is '4,5'.*write 4.5"),
        ("prompt,image,light\na,pictures/a.png,4\nb,pictures/b.png,inf\n", r":3: light is 'inf'"),
        (
            "prompt,image,rater,light\na,pictures/a.png,ann,4\na,pictures/a.png,ann,5\n",
            r":3: light: 'ann' rated this image in line 2",
        ),
        ("prompt,image,rater,light\na,pictures/a.png,,4\n", r":2: rater is empty"),
        ("prompt,image,rater,light\na,pictures/a.png,ann,4 5\n", r":2: light: 2 ratings of one rater"),
        (
            "prompt,image,light,split\na,pictures/a.png,4,dev\na,pictures/a.png,4,test\n",
            r":3: split is 'test', but 'dev'",
        ),
        ("prompt,image,light\na,https://x.org/a.png,4\n", r":2: .*is a URL"),
        ("prompt,image,remark\na,pictures/a.png,nice\n", "no column that holds ratings"),
        ("prompt,image,How light?\na,pictures/a.png,4\n", r"rename it: --dimensions NAME=How light\?"),
        ('prompt,image,light\na,"pictures/a.png,4\n', "not a CSV table"),
        ("prompt,image,dimension,score\na,pictures/a.png,light,\n", "no rating in it"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(write, text, message):
    file = write(text)
    with pytest.raises(InputError, match=message):
        import_csv(file, file.parent / "out")
    assert not (file.parent / "out").exists()


def test_a_rubric_names_dimensions_and_scale(write):
    file = write("prompt,image,light,other\na,pictures/a.png,4,9\n")
    assert scores(file, rubric=RUBRIC) == [("a", "a.png", {"light": [4.0]})]
    with pytest.raises(InputError, match=r":2: .*6 is off the scale 1 to 5"):
        import_csv(write("prompt,image,light\na,pictures/a.png,6\n"), file.parent / "x", rubric=RUBRIC)
    with pytest.raises(InputError, match="no column for 'light'"):
        import_csv(write("prompt,image,hands\na,pictures/a.png,4\n"), file.parent / "x", rubric=RUBRIC)


def test_a_column_that_is_named_must_be_there(write, tmp_path):
    with pytest.raises(InputError, match="no column 'worker'; the header is prompt, image"):
        import_csv(write(WIDE), tmp_path / "x", Columns(rater="worker"))
    with pytest.raises(InputError, match="go together"):
        import_csv(write(WIDE), tmp_path / "x", Columns(dimension="light"))


def test_utf_16_is_named(write, tmp_path):
    with pytest.raises(InputError, match="UTF-16"):
        import_csv(write(WIDE, "utf-16"), tmp_path / "x")


def test_bad_rows_can_be_skipped(write):
    file = write("prompt,image,light\na,pictures/a.png,4\nb,pictures/none.png,4\n")
    done = import_csv(file, file.parent / "out", skip_bad=True)
    assert done.records == 1
    assert "none.png" in (file.parent / "out" / "records.jsonl.skipped.jsonl").read_text()


def test_images_of_another_folder(write, tmp_path):
    file = write("prompt,image,light\na,a.png,4\n")
    assert scores(file, images=tmp_path / "pictures")[0][1] == "a.png"

"""Text that people edit: byte-order marks and line ends of every system are taken, other encodings are refused by name."""

from __future__ import annotations

import json
import os
import sys

import pytest

from zreward.common.errors import InputError
from zreward.common.text_files import read_text
from zreward.data import load_records
from zreward.data.manifest import read_manifest
from zreward.generation.prompts import load_prompts

ROW = '{"image": "0.png", "prompt": "ein grüner Kreis\u2028", "seed": 0}'


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_marks_and_line_ends(tmp_path, mark, end):
    path = tmp_path / "pictures.jsonl"
    path.write_bytes(mark + end.join([ROW, "", ROW, ""]).encode())
    assert read_text(path) == "\n".join([ROW, "", ROW, ""])
    assert [row["prompt"] for row in read_manifest(tmp_path)] == ["ein grüner Kreis\u2028"] * 2


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16", "UTF-16 text.*save it as UTF-8"),
        ("utf-16-le", "UTF-16 text"),
        ("utf-16-be", "UTF-16 text"),
        ("utf-32", "UTF-32 text"),
        ("latin-1", r"line 2: not UTF-8 text \(byte 0xfc\); save it as UTF-8"),
    ],
)
def test_other_encodings_are_named(tmp_path, encoding, message):
    path = tmp_path / "notes.csv"
    path.write_bytes("a,b\ngrün,2\n".encode(encoding))
    with pytest.raises(InputError, match=message):
        read_text(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_records_of_another_encoding_are_refused_once(tmp_path, encoding):
    (tmp_path / "records.jsonl").write_bytes(f"{ROW}\n{ROW}\n".encode(encoding))
    with pytest.raises(InputError, match=r"records.jsonl:1: UTF-16 text, or none at all; save it as UTF-8") as caught:
        load_records(tmp_path / "records.jsonl")
    assert "\n" not in str(caught.value)


def test_prompts_to_draw_may_have_a_mark_and_no_other_encoding(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbfa red circle\r\na blue cross\r\n")
    assert load_prompts(str(path), 0) == ["a red circle", "a blue cross"]
    path.write_bytes("a red circle\n".encode("utf-16"))
    with pytest.raises(InputError, match="UTF-16 text"):
        load_prompts(str(path), 0)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(InputError, match="not a regular file; expected a recipe"):
            read_text(path, "a recipe")
    with pytest.raises(InputError, match="none.yaml: No such file or directory; expected a recipe"):
        read_text(tmp_path / "none.yaml", "a recipe")
    with pytest.raises(InputError, match="not a file name"):
        read_text("a\0b")
    (tmp_path / "large").write_text("x" * 11)
    with pytest.raises(InputError, match="11 bytes; expected a text file of at most 10"):
        read_text(tmp_path / "large", most=10)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"image": "..", "prompt": "a", "seed": 0}', "is not in the folder"),
        ('{"image": "a/b.png", "prompt": "a", "seed": 0}', "is not in the folder"),
        ('{"image": "0.png", "prompt": "a", "seed": true}', "a number seed"),
        ('{"image": "0.png", "prompt": "a", "prompt": "b", "seed": 0}', "stands twice"),
        ('{"image": "0.png", "prompt": "a", "seed": NaN}', "NaN is not JSON"),
        ("[" * 5000, "not valid JSON"),
        ("[1]", "expected a JSON object .*, not a list"),
    ],
)
def test_manifest_rows_that_are_none(tmp_path, row, message):
    (tmp_path / "pictures.jsonl").write_text(json.dumps({"image": "a.png", "prompt": "a", "seed": 1}) + "\n" + row)
    assert sys.getrecursionlimit() < 5000
    with pytest.raises(InputError, match=f"line 2: .*{message}"):
        read_manifest(tmp_path)

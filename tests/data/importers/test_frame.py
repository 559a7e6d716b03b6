"""What all importers of published data sets share: the table, places of bad rows, checks of pictures, streams."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.data.importers.published import write_json, write_parquet, write_pictures
from zreward.cli.main import app
from zreward.common.errors import InputError
from zreward.data import Preference, Record, load_records
from zreward.data.importers import rows as rows_module
from zreward.data.importers.importer import Importer, Reading, run_importer
from zreward.data.importers.registry import IMPORTERS, importer_table
from zreward.data.importers.rows import json_rows, parquet_rows

REPOSITORY = Path(__file__).resolve().parents[3]


def read(reading: Reading) -> Iterator[Record]:
    def record(row) -> Record:
        return Record(row["prompt"], reading.picture(row["image"], "image"), {"q": row["q"]}, id=row.get("id"))

    for file in reading.files("*.json"):
        yield from reading.each(json_rows(file), record)


IMPORTER = Importer("x", "X", "", "", "x.json and pictures", "", "", "", "", Record, read)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", ("p/0.png", "p/1.png"))
    write_json(tmp_path / "in" / "x.json", [{"prompt": "a", "image": f"p/{n % 2}.png", "q": n} for n in range(200)])
    return tmp_path / "in"


def test_the_table_of_the_guide_is_that_of_the_registry():
    assert f"\n\n{importer_table()}\n\n" in (REPOSITORY / "docs/guides/data.md").read_text(encoding="utf-8")
    for words in ([], ["--list"], ["imagerewarddb", "--list"]):
        result = CliRunner().invoke(app, ["data", "import", *words])
        assert (result.exit_code, result.output) == (0, importer_table() + "\n")


def test_every_data_set_says_all_of_itself():
    for name, one in IMPORTERS.items():
        texts = (one.title, one.source, one.licence, one.layout, one.holds, one.targets, one.missing, one.checked)
        assert name == one.name and all(texts) and not any("|" in text or "\n" in text for text in texts)
        assert one.targets.startswith("records: " if one.makes is Record else "preferences"), name


def test_a_name_alone_says_what_the_folder_holds_and_a_missing_name_is_refused():
    result = CliRunner().invoke(app, ["data", "import", "imagerewarddb"])
    assert result.exit_code == 0 and "ROOT holds: metadata-SPLIT.parquet" in result.output
    assert "licence: Apache-2.0" in result.output
    for words, reason in (
        (["none"], "data set 'none' is unknown; expected one of csv, agiqa3k"),
        (["csv"], "ROOT and OUT"),
    ):
        result = CliRunner().invoke(app, ["data", "import", *words])
        assert result.exit_code and reason in str(result.exception)
    result = CliRunner().invoke(app, ["data", "import", "agiqa3k", "."])
    assert "OUT is missing" in str(result.exception)


def test_rows_keep_their_order_over_many_chunks(root, tmp_path):
    path, count, _ = run_importer(IMPORTER, root, tmp_path / "out")
    assert path == tmp_path / "out" / "records.jsonl" and count == 200
    assert [record.scores["q"] for record in load_records(path)] == list(range(200))
    path = run_importer(replace(IMPORTER, embedded=True), root, tmp_path / "out").path
    assert path.name == "records.parquet"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("../x.json", "image: '../x.json' leads out of the folder of pictures"),
        ("/etc/hosts", "leads out of the folder"),
        ("http://a/b.png", "is a URL"),
        ("p/2.png", "p/2.png: no such image file"),
        ("x.json", "image: .*x.json"),
        (3, "image: path is 3, expected text"),
    ],
)
def test_a_bad_picture_is_a_bad_row_with_its_line_and_field(root, tmp_path, image, reason):
    data = json.loads((root / "x.json").read_text())
    data[3]["image"] = image
    write_json(root / "x.json", data)
    with pytest.raises(InputError, match=rf"x\.json:17: .*{reason}"):
        run_importer(IMPORTER, root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    path, count, _ = run_importer(IMPORTER, root, tmp_path / "out", skip_bad=True)
    assert count == 199 and 3 not in [record.scores["q"] for record in load_records(path)]
    assert json.loads((tmp_path / "out" / "records.jsonl.skipped.jsonl").read_text())["line"] == 17


def test_how_pictures_are_checked(root, tmp_path):
    (root / "p" / "0.png").write_bytes((root / "p" / "0.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"x\.json:2: image: .*0\.png"):
        run_importer(IMPORTER, root, tmp_path / "out")
    assert run_importer(IMPORTER, root, tmp_path / "out", check="exist").made == 200
    (root / "p" / "0.png").unlink()
    with pytest.raises(InputError, match="no such image"):
        run_importer(IMPORTER, root, tmp_path / "out", check="exist")
    assert run_importer(IMPORTER, root, tmp_path / "out", check="none").made == 200
    with pytest.raises(InputError, match="pictures 'some' is unknown; expected one of decode, exist, none"):
        run_importer(IMPORTER, root, tmp_path / "out", check="some")


def test_pictures_in_another_folder_and_a_file_as_root(root, tmp_path):
    (root / "p").rename(tmp_path / "p")
    path = run_importer(IMPORTER, root / "x.json", tmp_path / "out", images=tmp_path).path
    assert load_records(path)[0].image == str(tmp_path / "p" / "0.png")
    (root / "x.json").unlink()
    with pytest.raises(InputError, match=r"in: no \*\.json; expected x\.json and pictures"):
        run_importer(IMPORTER, root, tmp_path / "out")
    with pytest.raises(InputError, match="nowhere: no such file or folder; expected x.json"):
        run_importer(IMPORTER, tmp_path / "nowhere", tmp_path / "out")


def test_an_id_that_occurs_twice_is_a_bad_row(root, tmp_path):
    write_json(root / "x.json", [{"prompt": "a", "image": "p/0.png", "q": n, "id": "i"} for n in (1, 2)])
    with pytest.raises(InputError, match=r"x\.json:8: id 'i' is that of an earlier row"):
        run_importer(IMPORTER, root, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"a"', r"j:1: '\"', expected '\['"),
        ('{"a": {}', "j:1: the file ends, expected ','"),
        ('{"a": {}, 3: {}}', "j:1: '3', expected '\"'"),
        ('{"a" {}}', "j:1: '{', expected ':'"),
        ("", r"j:1: the file ends, expected '\['"),
        ('[{"a": 1}\n{"a": 2}]', "j:2: '{', expected ','"),
        ('[{"a": 1},\n\n{"a": ]', "j:3: not valid JSON: Expecting value"),
        ('[{"a": 1}', "j:1: the file ends, expected ','"),
        ('[{"a": 1}]\n]', "j:2: more text"),
        ("[" * 100_000, "j:1: not valid JSON"),
        ("\xff", "j: not UTF-8 text"),
    ],
)
def test_what_is_no_json_list(tmp_path, text, reason):
    (tmp_path / "j").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=reason):
        list(json_rows(tmp_path / "j"))


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_a_json_list_in_pieces(tmp_path, monkeypatch, piece):
    """Whatever the size of a piece, what json.loads gives, with the line on which each begins."""
    monkeypatch.setattr(rows_module, "_PIECE", piece)
    text = '\ufeff [ {"a": [1.5, "é]}\\""]} ,\n\n{"b":\n{"c": null}},12,\n {"d": -3e2}\n]\n '
    (tmp_path / "j").write_text(text, encoding="utf-8")
    found = list(json_rows(tmp_path / "j"))
    assert [row.number for row in found] == [1, 3, 4, 5]
    values = json.loads(text.lstrip("\ufeff"))
    assert [row.data for row in found] == [values[0], values[1], None, values[3]]
    assert found[2].error == "12, expected an object" and found[2].place == f"{tmp_path / 'j'}:4"


def test_a_list_under_a_key_and_an_object_of_objects(tmp_path):
    file = tmp_path / "j"
    file.write_text('{"a": [1, {"pairs": 2}],\n"pairs": [{"x": 1},\n{"x": 2}], "b": 3}')
    assert [(row.number, row.data) for row in json_rows(file, "pairs")] == [(2, {"x": 1}), (3, {"x": 2})]
    with pytest.raises(InputError, match="j:3: no key 'rows' in the object"):
        list(json_rows(file, "rows"))
    file.write_text('{"1": {"x": 1},\n "2": 5,\n "3": {"x": 2}}')
    found = list(json_rows(file))
    assert [row.data for row in found] == [{"x": 1}, None, {"x": 2}] and [row.number for row in found] == [1, 2, 3]
    file.write_text("[]")
    with pytest.raises(InputError, match="expected '{' of an object with the key 'pairs'"):
        list(json_rows(file, "pairs"))


def test_rows_without_a_label_are_passed_over_and_counted(root, tmp_path):
    def some(reading: Reading) -> Iterator[Record]:
        rows = (row for file in reading.files("*.json") for row in json_rows(file))
        yield from reading.each(rows, lambda row: Record(row["prompt"], "x.png") if row["q"] % 2 else None)

    assert run_importer(replace(IMPORTER, read=some), root, tmp_path / "out")[1:] == (100, 100)


def test_parquet_rows_name_missing_columns_and_count_in_each_file(tmp_path):
    for name in ("a", "b"):
        write_parquet(tmp_path / name, [{"x": n, "y": name, "z": 0} for n in range(70)])
    found = list(parquet_rows([tmp_path / "a", tmp_path / "b"], ("x",), ("y", "w")))
    assert [row.data for row in found] == [{"x": n, "y": name} for name in "ab" for n in range(70)]
    assert found[69].place == f"{tmp_path / 'a'}:row 69" and found[70].place == f"{tmp_path / 'b'}:row 0"
    with pytest.raises(InputError, match=r"a: columns \['w'\] are missing; there are x, y, z"):
        list(parquet_rows([tmp_path / "a"], ("w",)))
    (tmp_path / "c").write_text("no")
    with pytest.raises(InputError, match="c: not a Parquet file"):
        list(parquet_rows([tmp_path / "c"], ("w",)))


def test_nothing_is_read_ahead_of_what_is_written(root, tmp_path, monkeypatch):
    """A data set larger than memory: when the first rows are written, the last are not read."""
    asked = []

    def endless(reading: Reading) -> Iterator[Preference]:
        for n in range(5000):
            asked.append(n)
            yield Preference("a", ("x.png", "y.png"), {"overall": "a"}, id=str(n))

    from zreward.data import preference_files

    monkeypatch.setattr(preference_files, "_fields", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_importer(replace(IMPORTER, makes=Preference, read=endless), root, tmp_path / "out.parquet")
    assert len(asked) < 300


@pytest.mark.parametrize("kind", ["date32", "duration", "timestamp"])
def test_dates_that_python_does_not_know(tmp_path, kind):
    types = {"date32": pa.date32(), "duration": pa.duration("s"), "timestamp": pa.timestamp("us")}
    number = pa.array([2**31 - 1], pa.int32()) if kind == "date32" else pa.array([2**62], pa.int64())
    pq.write_table(pa.table({"prompt": number.cast(types[kind]), "image": ["a.png"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: not a Parquet file that can be read"):
        list(parquet_rows([tmp_path / "a.parquet"], ["prompt"]))
    with pytest.raises(InputError, match=r"a\.parquet: not a Parquet file that can be read"):
        load_records(tmp_path / "a.parquet")


def test_a_row_that_is_nested_too_deeply_to_be_written_is_a_bad_one(tmp_path):
    depth = sys.getrecursionlimit() - 60
    while True:  # the deepest that is read
        (tmp_path / "a.json").write_text(f"[{'[' * depth}{']' * depth}]")
        try:
            (row,) = json_rows(tmp_path / "a.json")
        except InputError:
            break
        assert row.data is None and "expected an object" in row.error and len(row.text) > 10
        depth += 1


def test_a_folder_that_was_made_for_the_result_goes_when_there_is_none(root, tmp_path):
    def refused(reading: Reading) -> Iterator[Preference]:
        yield Preference("a", ("x.png", "y.png"), {"overall": "a"}, id="0")
        raise InputError("late")

    (tmp_path / "there").mkdir()
    for out in ("new", "new/below", "there", "there/new"):
        with pytest.raises(InputError, match="late"):
            run_importer(replace(IMPORTER, makes=Preference, read=refused), root, tmp_path / out)
    assert not (tmp_path / "new").exists() and not list((tmp_path / "there").iterdir())

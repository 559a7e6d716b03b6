"""Gold items before anybody has rated, one by one and in bulk."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from zreward.cli.main import app as commands
from zreward.common.errors import InputError
from zreward.rubric import Rubric
from zreward.studio.domain import gold_files
from zreward.studio.domain.gold_files import plan_gold
from zreward.studio.storage.schema import Gold

CSV = "picture,dimension,score,note\n1-0,alignment,4.5,sure\n1-1,realism,1,\n"
LINES = '{"picture": "1-0", "dimension": "alignment", "score": 4.5}\n\n{"picture": "1-1", "dimension": "realism", "score": 1}\n'
PLANNED = {(1, "alignment"): 4.5, (2, "realism"): 1.0}


def planned(session) -> dict[tuple[int, str], float]:
    session.expire_all()
    return {(row.candidate_id, row.dimension): row.score for row in session.scalars(select(Gold))}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (CSV, "a.csv"),
        (CSV.replace(",", ";"), "a.CSV"),
        ("sep=\t\r\n" + CSV.replace(",", "\t").replace("\n", "\r\n"), "a.csv"),
        (LINES, "a.jsonl"),
    ],
    ids=["comma", "semicolon", "tab", "lines"],
)
def test_a_table_becomes_gold_items(session, text, name):
    assert plan_gold(session, Rubric.default(), text, name) == gold_files.Planned(2, 0, 0)
    assert planned(session) == PLANNED
    changed = text.replace("4.5", "4")
    assert plan_gold(session, Rubric.default(), changed, name) == gold_files.Planned(0, 1, 1)
    assert planned(session) == PLANNED | {(1, "alignment"): 4.0}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nowhere,alignment,4", "table.csv:3: there is no picture 'nowhere'"),
        ("1-1,beauty,4", "table.csv:3: .*unknown dimension 'beauty'"),
        ("1-1,alignment,6", "table.csv:3: .*6 is off the scale"),
        ("1-1,alignment,4.3", "table.csv:3: .*4.3"),
        ("1-1,alignment,nan", "table.csv:3: "),
        ("1-1,alignment,", "table.csv:3: score ''; expected a number"),
        ("1-1,alignment", "table.csv:3: 2 cells under 3 columns"),
        ("1-0,alignment,3", "table.csv:3: '1-0' has two gold scores on alignment"),
    ],
)
def test_one_bad_row_keeps_the_whole_table_out(session, row, message):
    text = f"picture,dimension,score\n1-0,alignment,4\n{row}\n"
    if row == "1-1,alignment,4.3":  # between two bins: gold scores may lie there
        assert plan_gold(session, Rubric.default(), text, "table.csv").new == 2
        return
    with pytest.raises(InputError, match=rf"{message}(.|\n)*nothing was taken from table.csv"):
        plan_gold(session, Rubric.default(), text, "table.csv")
    assert planned(session) == {}


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("image,score\n1,2\n", "a.csv", "columns \\['picture', 'dimension'\\] are missing"),
        ("", "a.csv", "a.csv: it is empty; expected a header"),
        ("picture,dimension,score\n", "a.csv", "no gold item in it"),
        ("[1]\n", "a.jsonl", "a.jsonl:1: expected an object"),
        ("{", "a.jsonl", "a.jsonl:1: "),
        (CSV, "a.xlsx", "unknown file type; expected .csv or .jsonl"),
    ],
)
def test_tables_that_are_none(session, text, name, message):
    with pytest.raises(InputError, match=message):
        plan_gold(session, Rubric.default(), text, name)


def test_the_command_and_the_page_take_the_same_table(project, session, signed_in, tmp_path):
    (tmp_path / "gold.csv").write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
    done = CliRunner().invoke(commands, ["studio", "gold", str(project.folder), str(tmp_path / "gold.csv")])
    assert done.exit_code == 0, done.output
    assert "2 new gold items" in done.output and planned(session) == PLANNED
    quinn = signed_in("quality", "quinn")
    again = {"file": ('a"b\\.jsonl', LINES.replace("4.5", "2"), "text/plain")}
    assert quinn.post("/quality/gold/file", files=again).headers["location"] == "/quality/hidden?notice=saved"
    assert planned(session) == PLANNED | {(1, "alignment"): 2.0}
    refused = quinn.post("/quality/gold/file", files={"file": ("<b>.csv", "\xff", "text/csv")})
    assert refused.status_code == 400 and "<b>" not in refused.text
    assert quinn.post("/quality/gold/file", files={"file": ("a.csv", "utf16".encode("utf-16"))}).status_code == 400


def test_pictures_are_chosen_before_anybody_has_rated(signed_in, session):
    quinn = signed_in("quality", "quinn")
    page = quinn.get("/quality/hidden?kind=all").text
    assert page.count("Make gold") == 12 and "not rated yet" in page and "<code>1-0</code>" in page
    assert quinn.post("/quality/gold", data={"candidate": 3, "dimension": "alignment", "score": "2"}).status_code == 303
    assert planned(session) == {(3, "alignment"): 2.0}

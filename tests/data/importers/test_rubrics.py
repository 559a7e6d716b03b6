"""Published ranges on a rubric's scale, and the rubric that is written where the user gives none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.data.importers.published import write_json, write_pictures
from zreward.cli.main import app
from zreward.common.errors import InputError
from zreward.data import Record, load_records
from zreward.data.importers.importer import Importer, Reading, run_importer
from zreward.data.importers.registry import IMPORTERS
from zreward.data.importers.rubrics import Published, own_rubric
from zreward.distribution import ScoreScale
from zreward.rubric import Dimension, Rubric

DIMENSIONS = {
    "hands": Published(-4, 1, "How correct are the hands?", "Destroyed.", "Without error."),
    "overall": Published(0, 100, "How good?", "Bad.", "Good."),
}
RECORDS = [
    Record("a", "x.png", {"hands": [-4, -1.5, 1], "overall": 25.0}, stds={"overall": 5.0}),
    Record("a", "x.png", {"hands": {"r1": 1, "r2": None}}),
]


def read(reading: Reading) -> Iterator[Record]:
    reading.good = len(RECORDS)
    yield from RECORDS


IMPORTER = Importer("x", "X", "", "", "", "", "records: x", "", "", Record, read, dimensions=DIMENSIONS)


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "here", ("x.png",))
    monkeypatch.chdir(tmp_path / "here")


def imported(out: Path, rubric: Rubric | None = None) -> list[Record]:
    path, count, _ = run_importer(IMPORTER, out.parent, out, rubric=rubric)
    assert count == 2
    return load_records(path)


def test_every_form_of_scores_is_mapped_and_the_rubric_is_beside_them(tmp_path):
    first, second = imported(tmp_path / "r.jsonl")
    assert first.scores == {"hands": [1, pytest.approx(3), 5], "overall": pytest.approx(2)}
    assert first.stds == {"overall": pytest.approx(0.2)}
    assert second.scores == {"hands": {"r1": 5, "r2": None}} and second.stds == {}
    rubric = Rubric.from_yaml(tmp_path / "r.jsonl.rubric.yaml")
    assert rubric == own_rubric("x", DIMENSIONS) and first.rubric_version == rubric.version
    assert rubric.dimension("hands").anchors == {1: "Destroyed.", 5: "Without error."}
    load_records(tmp_path / "r.jsonl", rubric)


def test_a_rubric_of_the_users_gives_the_scale_and_the_dimensions(tmp_path):
    dimension = Dimension("overall", "Overall", "How good?", {0: "Bad.", 10: "Good."})
    rubric = Rubric("mine", "7", ScoreScale(0, 10, 1), dimensions=(dimension,))
    first, second = imported(tmp_path / "r.parquet", rubric)
    assert first.scores == {"overall": pytest.approx(2.5)} and first.stds == {"overall": pytest.approx(0.5)}
    assert second.scores == {} and {first.rubric_version, second.rubric_version} == {"7"}
    assert [path.name for path in tmp_path.glob("r.*")] == ["r.parquet"]
    other = Rubric("mine", "7", dimensions=(Dimension("style", "Style", "How?", {1: "Bad.", 5: "Good."}),))
    with pytest.raises(
        InputError, match="rubric 'mine' has the dimensions style, and none of those .*: hands, overall"
    ):
        imported(tmp_path / "s.jsonl", other)
    with pytest.raises(InputError, match="imagerewarddb holds no ratings that a rubric could be put on"):
        run_importer(IMPORTERS["imagerewarddb"], tmp_path, tmp_path / "out", rubric=rubric)


def test_every_importer_of_ratings_has_a_rubric():
    for name, one in IMPORTERS.items():
        if one.dimensions:
            rubric = own_rubric(name, one.dimensions)
            assert one.makes is Record and set(rubric.dimension_names) == set(one.dimensions)
            assert all(published.low < published.high for published in one.dimensions.values())


def test_on_the_command_line(tmp_path):
    write_pictures(tmp_path / "in", ("allimg/0.png",))
    header = "name,prompt,style,class,quality_mos,authenticity_mos,correspondence_mos"
    (tmp_path / "in" / "AIGCIQA2023.csv").write_text(f"{header}\n0.png,a corgi,Basic,Animals,50,25,75\n")
    Rubric.default().to_yaml(tmp_path / "mine.yaml")
    words = ["data", "import", "aigciqa2023", str(tmp_path / "in"), str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.exception
    assert f"rubric: {tmp_path / 'out' / 'records.jsonl.rubric.yaml'}\n" in result.output
    assert load_records(tmp_path / "out" / "records.jsonl")[0].scores == {
        "quality": 3.0, "authenticity": 2.0, "correspondence": 4.0}  # fmt: skip
    result = CliRunner().invoke(app, [*words, "--rubric", str(tmp_path / "mine.yaml")])
    assert "none of those that were rated" in str(result.exception)
    write_json(tmp_path / "in" / "x.json", [])
    result = CliRunner().invoke(app, [*words[:2], "agiqa3k", *words[3:], "--rubric", str(tmp_path / "mine.yaml")])
    assert "--rubric" in str(result.exception) and "agiqa3k" in str(result.exception)

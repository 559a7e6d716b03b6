"""Rated records into a studio: their ratings as labels, or left out and said so; never dropped in silence."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from sqlalchemy import select
from typer.testing import CliRunner

from zreward.cli.main import app as commands
from zreward.common.errors import InputError
from zreward.data import Record, load_records, save_records
from zreward.studio.domain.exporting import ExportOptions, exported_records
from zreward.studio.domain.importing import import_file
from zreward.studio.storage.database import connect, sessions
from zreward.studio.storage.project import Project
from zreward.studio.storage.schema import CandidatePicture, Label

SCORES = ({"alignment": {"ann": 4.0, "bob": None}, "realism": 2.5}, {"alignment": [1.0, 3.0]}, {})
LABELS = {
    ("a", "alignment", "ann"): 4.0,
    ("a", "alignment", "bob"): None,
    ("a", "realism", "rated"): 2.5,
    ("b", "alignment", "rated rater 1"): 1.0,
    ("b", "alignment", "rated rater 2"): 3.0,
}


@pytest.fixture(params=["jsonl", "parquet"])
def rated(request, tmp_path):
    pictures = [Image.new("RGB", (8, 8), (40 * number, 0, 0)) for number in range(3)]
    records = [
        Record("a cat", picture, scores, id=name) for name, picture, scores in zip("abc", pictures, SCORES, strict=True)
    ]
    path = tmp_path / f"rated.{request.param}"
    if request.param == "parquet":
        save_records(records, path)
    else:
        rows = []
        for record, picture in zip(records, pictures, strict=True):
            picture.save(tmp_path / f"{record.id}.png")
            rows.append(
                {"prompt": "a cat", "image": f"{record.id}.png", "scores": dict(record.scores), "id": record.id}
            )
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def init(rated, *options: str):
    folder = rated.parent / "project"
    done = CliRunner().invoke(commands, ["studio", "init", str(folder), str(rated), *options])
    assert done.exit_code == 0, done.output
    return Project(folder), done.output


def labels(project) -> dict[tuple[str, str, str], float | None]:
    with sessions(connect(project.database_url))() as session:
        return {
            (label.candidate.key, label.dimension, label.user.name.removesuffix(" (imported)")): label.score
            for label in session.scalars(select(Label))
        }


def test_ratings_come_in_when_they_are_asked_for(rated):
    project, said = init(rated, "--with-ratings")
    assert labels(project) == LABELS and "with 5 ratings" in said and "left out" not in said
    with sessions(connect(project.database_url))() as session:
        assert session.scalars(select(CandidatePicture.key)).all() == ["a", "b", "c"]
        records = {one.id: one for one in exported_records(session, project, ExportOptions(everybody=True))}
    assert sorted(records["b"].ratings("alignment")) == [1.0, 3.0] and records["a"].ratings("realism") == [2.5]


def test_ratings_that_are_left_out_are_named(rated):
    project, said = init(rated)
    assert labels(project) == {} and "The ratings of 2 records were left out; --with-ratings takes them in." in said


def test_records_are_imported_into_a_project(rated, project, session):
    assert str(import_file(session, project, rated)) == "5 labels by 5 raters, 2 new pictures"
    again = str(import_file(session, project, rated))
    assert again == "0 labels by 5 raters, 0 new pictures; 5 were there already"
    with pytest.raises(InputError, match="--images does nothing here"):
        import_file(session, project, rated, rated.parent)


def test_a_mean_with_a_spread_is_nobodys_rating(tmp_path, project, session):
    record = Record("a cat", Image.new("RGB", (8, 8)), {"alignment": 3.2}, stds={"alignment": 0.4}, id="a")
    save_records([record], tmp_path / "means.parquet")
    with pytest.raises(InputError, match="means: record a: alignment is a mean with a standard deviation"):
        import_file(session, project, tmp_path / "means.parquet")


def test_records_without_ratings_are_not_imported_in_silence(tmp_path, project, session):
    save_records([Record("a cat", Image.new("RGB", (8, 8)))], tmp_path / "plain.parquet")
    assert len(load_records(tmp_path / "plain.parquet")) == 1
    with pytest.raises(InputError, match=r"plain\.parquet: there is no rating in its records"):
        import_file(session, project, tmp_path / "plain.parquet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--world", "--with-ratings"], "--with-ratings"),
        (["--world", "--prompt", "a cat"], "--prompt"),
        (["FOLDER", "--prompt", "a cat", "--prompts", "3"], "--prompts"),
        (["FOLDER", "--prompt", "a cat", "--seed", "3"], "--seed"),
        (["FOLDER", "--prompt", "a cat", "--with-ratings"], "--with-ratings"),
    ],
)
def test_options_of_init_that_do_nothing_are_refused(tmp_path, options, message):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "0.png")
    words = [str(tmp_path / "pictures") if word == "FOLDER" else word for word in options]
    done = CliRunner().invoke(commands, ["studio", "init", str(tmp_path / "p"), *words])
    assert isinstance(done.exception, InputError) and message in str(done.exception)
    assert not (tmp_path / "p").exists()

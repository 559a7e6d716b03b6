"""A database of an older version is brought up to date, whole or not at all; others are named."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import event, select

from tests.studio.conftest import PASSWORD, read_csrf
from zreward.common.errors import InputError
from zreward.studio.app import create_app
from zreward.studio.domain.exporting import rater_name
from zreward.studio.storage.database import connect, sessions, upgrade_tables
from zreward.studio.storage.project import DATABASE, Project, ProjectSettings, write_settings
from zreward.studio.storage.schema import Example, Label, Verdict

FIRST_TABLES = Path(__file__).parent / "first_tables.sql"


@pytest.fixture
def project(tmp_path) -> Project:
    """As version 0001 left it, with data in every table."""
    write_settings(tmp_path, ProjectSettings(name="Before", raters_per_item=2))
    database = sqlite3.connect(tmp_path / DATABASE)
    database.executescript(FIRST_TABLES.read_text())
    pictures = [path for row in database.execute("SELECT before, after FROM study_pairs") for path in row]
    pictures += [path for (path,) in database.execute("SELECT image FROM candidates")]
    database.close()
    for path in pictures:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), "teal").save(tmp_path / path)
    return Project(tmp_path)


@pytest.fixture
def app(project):
    made = create_app(project)
    yield made
    made.state.studio.engine.dispose()


def sign_in(app, name: str) -> TestClient:
    client = TestClient(app)
    form = {"csrf": read_csrf(client.get("/sign-in").text), "name": name, "password": PASSWORD}
    page = client.post("/sign-in", data=form)
    assert page.status_code == 200 and "Sign out" in page.text
    client.headers["x-csrf-token"] = read_csrf(page.text)
    return client


def test_what_was_there_is_there(app, project):
    before = sqlite3.connect(":memory:")
    before.executescript(FIRST_TABLES.read_text())
    after = sqlite3.connect(project.folder / DATABASE)
    tables = [name for (name,) in before.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert len(tables) == 14
    for table in set(tables) - {"alembic_version"}:
        columns = ", ".join(f'"{row[1]}"' for row in before.execute(f"PRAGMA table_info({table})"))
        read = f"SELECT {columns} FROM {table} ORDER BY id"
        rows = before.execute(read).fetchall()
        assert rows and after.execute(read).fetchall() == rows, table
    assert after.execute("SELECT count(*) FROM examples WHERE accepted").fetchone() == (2,)


def test_an_annotator_goes_on_with_the_old_password(app):
    ann = sign_in(app, "ann")
    page = ann.get("/annotate?dimension=alignment").text
    assert "Sent back: look again" in page and "typical" in page and "Example of 3" in page
    sent = {"candidate": 4, "dimension": "alignment", "answer": "2"}
    token = page.split('name="token" value="')[1].split('"')[0]
    assert ann.post("/labels", data=sent | {"token": token}).status_code == 200
    assert "Winter study" in ann.get("/studies").text and ann.get("/studies/1").status_code == 200
    with app.state.studio.sessions() as session:
        label = session.scalar(select(Label).where(Label.user_id == 2, Label.candidate_id == 4))
        assert (label.score, label.state) == (2.0, "submitted")
        assert session.scalars(select(Verdict.outcome)).all() == ["bad"]


def test_quality_control_sees_labels_examples_and_hidden_items_and_exports(app, project):
    quinn = sign_in(app, "quinn")
    for path in ("/quality", "/quality/annotators", "/quality/hidden?dimension=alignment", "/rubric", "/progress"):
        assert quinn.get(path).status_code == 200, path
    records = map(json.loads, quinn.get("/quality/export/records.jsonl").text.splitlines())
    ann = rater_name(project, 2)
    assert {record["id"]: record["scores"] for record in records} == {
        f"{key}.png": {"alignment": {ann: score}} for key, score in ((0, 3.0), (1, 3.5), (2, 4.0), (4, 1.0))
    }


def test_a_suggestion_after_the_upgrade_is_none_of_the_old_examples(app):
    ann = sign_in(app, "ann")
    ann.post("/examples", data={"candidate": 1, "dimension": "alignment", "note": "mine", "back": "/annotate"})
    with app.state.studio.sessions() as session:
        found = session.execute(select(Example.candidate_id, Example.accepted).order_by(Example.id)).all()
    assert found == [(6, True), (5, True), (1, False)]


@pytest.mark.parametrize("killed_after", ["CREATE TABLE signed_in", "DROP TABLE examples", "UPDATE alembic_version"])
def test_an_upgrade_that_is_killed_leaves_the_old_database(project, killed_after):
    child = os.fork()
    if child == 0:

        def kill(_connection, _cursor, statement, *_):
            if statement.strip().startswith(killed_after):
                os._exit(9)

        try:
            engine = connect(project.database_url)
            event.listen(engine, "after_cursor_execute", kill)
            upgrade_tables(engine)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    engine = connect(project.database_url)
    upgrade_tables(engine)
    with sessions(engine)() as session:
        assert len(session.scalars(select(Label)).all()) == 12
        assert [example.accepted for example in session.scalars(select(Example))] == [True, True]
    engine.dispose()


def test_a_database_of_a_newer_version_is_left_alone(project):
    with sqlite3.connect(project.folder / DATABASE) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(InputError, match="9999.*a newer version of zreward"):
        upgrade_tables(connect(project.database_url))


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 2000])
def test_a_file_that_is_no_database_is_named(project, content):
    (project.folder / DATABASE).write_bytes(content)
    with pytest.raises(InputError, match=r"studio\.sqlite.*not a database"):
        upgrade_tables(connect(project.database_url))
    assert (project.folder / DATABASE).read_bytes() == content

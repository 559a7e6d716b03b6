"""The people whom the annotation guide tells what to do, between its commands: two annotators, and quality control."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.studio.conftest import read_csrf
from zreward.studio.app import create_app
from zreward.studio.domain import accounts
from zreward.studio.domain.rubric_versions import rubric_in_force
from zreward.studio.storage.project import Project
from zreward.studio.storage.schema import Gold, Label

ANNOTATORS = ("ann", "bob")
PASSWORD = "correct horse battery"


def rate(folder: Path) -> str:
    """Everybody rates what the pages show, gold items rightly; quality control accepts it. Nothing where labels are there."""
    app = create_app(Project(folder))
    try:
        with app.state.studio.sessions() as session:
            if session.scalar(select(func.count()).select_from(Label)):
                return "has labels"
            gold = {(row.candidate_id, row.dimension): row.score for row in session.scalars(select(Gold))}
            given = sum(_answer_all(_sign_in(app, session, name, "annotator"), gold) for name in ANNOTATORS)
            _accept_all(_sign_in(app, session, "quinn", "quality"), session)
    finally:
        app.state.studio.engine.dispose()
    assert given
    return f"{len(ANNOTATORS)} annotators gave {given} labels, quality control accepted them"


def _sign_in(app, session: Session, name: str, role: str) -> TestClient:
    _, token = accounts.invite(session, name, role)
    client = TestClient(app)
    csrf = read_csrf(client.get(f"/invitation/{token}").text)
    page = client.post(f"/invitation/{token}", data={"csrf": csrf, "password": PASSWORD, "again": PASSWORD})
    client.headers["x-csrf-token"] = read_csrf(page.text)
    return client


def _answer_all(client: TestClient, gold: dict[tuple[int, str], float]) -> int:
    given = 0
    while page := client.get("/annotate").text.partition('id="rating"')[2]:
        asked = {name: _field(page, name) for name in ("candidate", "dimension", "token")}
        number = int(asked["candidate"])
        score = gold.get((number, asked["dimension"]), 1 + number % 9 / 2)
        assert client.post("/labels", data=asked | {"answer": f"{score:g}"}).status_code == 200
        given += 1
    return given


def _accept_all(client: TestClient, session: Session) -> None:
    """As the page's buttons do: a page of the queue at a time."""
    for dimension in rubric_in_force(session).dimension_names:
        while labels := re.findall(
            r'name="labels" value="([^"]+)"', client.get(f"/quality?dimension={dimension}").text
        ):
            assert client.post("/quality/accept", data={"labels": labels}).status_code == 200


def _field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, page
    return found[1]

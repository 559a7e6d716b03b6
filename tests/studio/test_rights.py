"""Who may do what: every address, every role, with what belongs to somebody else. New addresses are added here."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from tests.studio.conftest import read_csrf
from tests.studio.test_security import contents
from zreward.studio.domain.studies import next_assignment
from zreward.studio.domain.study_creation import add_study
from zreward.studio.routes.annotate import item_token
from zreward.studio.storage.schema import Example, Gold, Label, User

ABOUT = {"candidate": "1", "dimension": "alignment"}
GOLD = {"file": ("gold.csv", b"picture,dimension,score\n1-0,alignment,4\n", "text/csv")}
BEN = "{ben}"  # what is Ben's alone
# address: (form, status for nobody, an annotator, quality control, an administrator). All of them are not Ben.
TABLE = {
    "GET /": (None, 303, 303, 303, 303),
    "GET /sign-in": (None, 200, 200, 200, 200),
    "POST /sign-in": ({"name": "ben", "password": "wrong"}, 401, 401, 401, 401),
    "POST /sign-out": ({}, 303, 303, 303, 303),
    "GET /invitation/{token}": (None, 404, 404, 404, 404),
    "POST /invitation/{token}": ({"password": "p" * 12, "again": "p" * 12}, 404, 404, 404, 404),
    "GET /people": (None, 303, 403, 403, 200),
    "POST /people": ({"name": "eve", "role": "administrator"}, 401, 403, 403, 200),
    "POST /people/{number}/active": ({"active": "false"}, 401, 403, 403, 303),
    "POST /people/{number}/role": ({"role": "annotator"}, 401, 403, 403, 303),
    "GET /pictures/{number}": (None, 303, 200, 200, 200),
    "GET /annotate": (None, 303, 200, 403, 403),
    "GET /annotate/{candidate}/{dimension}/{token}": (None, 303, 403, 403, 403),
    "POST /labels": (ABOUT | {"token": BEN, "answer": "1"}, 401, 403, 403, 403),
    "GET /adjust": (None, 303, 200, 403, 403),
    "POST /adjust": ({"dimension": "alignment", "label": ["1", "2"], "shift": ["1", "1"]}, 401, 400, 403, 403),
    "GET /rubric": (None, 303, 200, 200, 200),
    "GET /rubric/edit": (None, 303, 403, 200, 200),
    "POST /rubric": ({"from_version": "1", "alignment.title": "Mine"}, 401, 403, 303, 303),
    "POST /examples": (ABOUT | {"score": "2"}, 401, 400, 303, 303),
    "POST /examples/{number}/accept": ({}, 401, 403, 303, 303),
    "POST /examples/{number}/remove": ({}, 401, 403, 303, 303),
    "GET /quality": (None, 303, 403, 200, 200),
    "POST /quality/accept": ({"labels": "1:3.0"}, 401, 403, 303, 303),
    "POST /quality/return": ({"label": "1:3.0", "comment": "look"}, 401, 403, 303, 303),
    "GET /quality/annotators": (None, 303, 403, 200, 200),
    "POST /quality/annotators/{number}/exclude": ({"excluded": "true"}, 401, 403, 303, 303),
    "GET /quality/hidden": (None, 303, 403, 200, 200),
    "POST /quality/gold": (ABOUT | {"score": "2"}, 401, 403, 303, 303),
    "POST /quality/gold/file": (GOLD, 401, 403, 303, 303),
    "POST /quality/repetitions": (ABOUT | {"repeated": "true"}, 401, 403, 303, 303),
    "POST /quality/repetitions/draw": ({"dimension": "alignment", "count": "2"}, 401, 403, 303, 303),
    "GET /quality/export": (None, 303, 403, 200, 200),
    "GET /quality/export/records.{suffix}": (None, 303, 403, 200, 200),
    "GET /progress": (None, 303, 200, 200, 200),
    "GET /studies": (None, 303, 200, 200, 200),
    "GET /studies/{number}": (None, 303, 200, 200, 200),
    "POST /studies/verdicts": ({"token": BEN, "aspect": "overall", "side": "left"}, 401, 404, 404, 404),
    "GET /studies/pictures/{token}/{side}": (None, 303, 404, 404, 404),
    "POST /studies/{number}/close": ({}, 401, 403, 303, 303),
    "GET /studies/{number}/result": (None, 303, 403, 403, 403),
    "GET /studies/{number}/result.json": (None, 303, 403, 403, 403),
    "GET /studies/{number}/pairs/{pair}/{system}": (None, 303, 403, 403, 403),
}  # fmt: skip
ROLES = ("nobody", "annotator", "quality", "administrator")


def routes(app) -> set[str]:
    return {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}


def test_every_address_is_in_the_table(app):
    assert routes(app) == set(TABLE)


@pytest.fixture
def foreign(app, session, project, signed_in, tmp_path, draw_folder) -> dict[str, str]:
    """What belongs to Ben, by the name that addresses and forms have for it."""
    signed_in("annotator", "ben")
    ben = session.scalars(select(User).where(User.name == "ben")).one()
    about = {"dimension": "alignment", "rubric_version": "1"}
    session.add_all(Label(**about, user_id=ben.id, candidate_id=number, score=3.0) for number in (1, 2))
    session.add(Example(**about, candidate_id=2, score=3.0, author_id=ben.id, accepted=False))
    session.add(Gold(candidate_id=1, dimension="alignment", score=3.0))
    session.commit()
    folders = [draw_folder(tmp_path / colour, colour) for colour in ("red", "blue")]
    study = add_study(session, project.folder, *folders, ())
    given = next_assignment(session, study.id, ben)
    return {
        "number": "1", "candidate": "1", "dimension": "alignment", "side": "left", "pair": "1", "system": "after",
        "suffix": "jsonl", "item": item_token(project, ben, 1, "alignment", 0), "assignment": given.token,
    }  # fmt: skip


def ask(client, address: str, foreign: dict[str, str]) -> int:
    method, path = address.split(" ")
    token = foreign["assignment" if "/studies" in path else "item"]
    path = re.sub(r"\{(\w+)\}", lambda name: token if name[1] == "token" else foreign[name[1]], path)
    form = TABLE[address][0]
    if method == "GET":
        return client.get(path).status_code
    files = {key: value for key, value in form.items() if isinstance(value, tuple)}
    form = {key: token if value == BEN else value for key, value in form.items() if key not in files}
    return client.post(path, data=form, files=files or None).status_code


@pytest.mark.parametrize("role", ROLES)
def test_each_role_gets_what_the_table_says(app, session, foreign, signed_in, role):
    if role == "nobody":
        client = TestClient(app, follow_redirects=False)
        client.headers["x-csrf-token"] = read_csrf(client.get("/sign-in").text)
    else:
        client = signed_in(role, role)
    before = contents(session)
    found, changed = {}, []
    last = ("POST /sign-out", "POST /sign-in", "POST /studies/{number}/close")
    order = (
        sorted(set(TABLE) - set(last)) + [one for one in reversed(last) if one != "POST /sign-in"] + ["POST /sign-in"]
    )
    for address in order:
        found[address] = ask(client, address, foreign)
        after = {name: rows for name, rows in contents(session).items() if name not in ("signed_in", "assignments")}
        if found[address] in (401, 403, 404, 400) and any(after[name] != before[name] for name in after):
            changed.append(address)
        before = before | after
        if address == "POST /sign-out":
            client.headers["x-csrf-token"] = read_csrf(client.get("/sign-in").text)
    assert found == {address: row[1 + ROLES.index(role)] for address, row in TABLE.items()}
    assert not changed  # who is refused has changed nothing

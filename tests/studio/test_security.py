"""What somebody might try: every address of the studio is asked, so that a new page is held to this too."""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.studio.conftest import PASSWORD, read_csrf
from zreward.common.errors import InputError
from zreward.rubric import Rubric
from zreward.studio.domain import accounts
from zreward.studio.domain.rubric_versions import add_version
from zreward.studio.domain.study_creation import add_study
from zreward.studio.routes.security import COOKIE
from zreward.studio.storage.schema import (
    CandidatePicture,
    Example,
    Gold,
    Label,
    Prediction,
    PromptGroup,
    Repetition,
    StudioTable,
    User,
)

OPEN = ("/sign-in", "/invitation/{token}", "/sign-out")
VALUES = {
    "number": "1", "candidate": "1", "dimension": "alignment", "token": "0" * 32, "side": "left", "pair": "1",
    "system": "after", "suffix": "jsonl",
}  # fmt: skip
EVIL = "<script>alert('{0}')</script>\"'><img src=x onerror=alert('{0}')>"


def addresses(app, method: str) -> list[str]:
    """Every address that answers this method."""
    found = [path for path, methods in app.openapi()["paths"].items() if method in methods]
    assert len(found) > 10
    return found


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda name: VALUES[name[1]], path)


def contents(session: Session) -> dict[str, list]:
    """All that is stored."""
    session.expire_all()
    return {
        table.name: [tuple(row) for row in session.execute(select(table).order_by(table.c.id))]
        for table in StudioTable.metadata.sorted_tables
    }


def of(session: Session, name: str) -> int:
    return session.scalars(select(User.id).where(User.name == name)).one()


@pytest.fixture
def study(session, project, tmp_path, draw_folder):
    before, after = (draw_folder(tmp_path / name, name[:4].strip("x")) for name in ("redxold", "bluenew"))
    return add_study(session, project.folder, before, after, ())


# Sessions


def test_without_a_session_no_address_shows_or_does_anything(app, session, study):
    client = TestClient(app, follow_redirects=False)
    csrf = read_csrf(client.get("/sign-in").text)
    before = contents(session)
    for path in set(addresses(app, "get")) - set(OPEN):
        answer = client.get(filled(path))
        assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in"), path
        assert client.get(filled(path), headers={"accept": "application/json"}).status_code == 401, path
    for path in set(addresses(app, "post")) - set(OPEN):
        assert client.post(filled(path), data={"csrf": csrf}).status_code == 401, path
    assert contents(session) == before


def forged(app, client) -> Iterator[tuple[str, str]]:
    real = client.cookies[COOKIE]
    payload, *rest = real.split(".")
    read = app.state.studio.signer.read(real)
    other = [read.user, read.version, read.salt]
    yield "cut", real[:-1]
    yield "no signature", payload
    yield "payload of another", ".".join([urlsafe_b64encode(b'[1,1,"x"]').decode().rstrip("="), *rest])
    yield "signed with another secret", URLSafeTimedSerializer(b"x" * 32, salt="zreward studio session").dumps(other)
    yield "signed with nothing", URLSafeTimedSerializer(b"", salt="zreward studio session").dumps(other)
    yield "signed for something else", URLSafeTimedSerializer(app.state.studio.project.secret(), salt="x").dumps(other)
    yield "empty", ""
    yield "noise", "\x7f" * 40


def test_forged_sessions_are_nobody(app, signed_in):
    client = signed_in("administrator")
    cookies = dict(forged(app, client))
    assert client.get("/people").status_code == 200
    for name, cookie in cookies.items():
        visitor = TestClient(app, follow_redirects=False, headers={"cookie": f"{COOKIE}={cookie}"})
        assert visitor.get("/people").status_code == 303, name
        assert visitor.post("/people", data={"name": "eve", "role": "administrator"}).status_code == 403, name


def test_a_new_password_ends_the_sessions_of_the_old_one(app, session, signed_in):
    client = signed_in("quality", "quinn")
    _, token = accounts.invite(session, "quinn", "quality")
    assert client.get("/quality").status_code == 200
    accounts.accept_invitation(session, accounts.invited(session, token), PASSWORD + "!")
    assert client.get("/quality").status_code == 303


def test_signing_in_changes_the_session_so_that_a_planted_one_is_worth_nothing(app, signed_in):
    signed_in("annotator", "ann")
    client = TestClient(app, follow_redirects=False)
    csrf = read_csrf(client.get("/sign-in").text)
    planted = client.cookies[COOKIE]
    client.post("/sign-in", data={"csrf": csrf, "name": "ann", "password": PASSWORD})
    assert client.cookies[COOKIE] != planted and read_csrf(client.get("/rubric").text) != csrf
    assert TestClient(app, follow_redirects=False, cookies={COOKIE: planted}).get("/rubric").status_code == 303


# CSRF


def test_no_address_takes_a_post_without_the_token_of_this_session(app, session, signed_in, study):
    clients = [signed_in(role, role) for role in ("administrator", "quality", "annotator")]
    foreign = clients[1].headers["x-csrf-token"]
    before = contents(session)
    for client in clients:
        own = client.headers.pop("x-csrf-token")
        for path in addresses(app, "post"):
            for token in ("", own[:-1], foreign if own != foreign else "0" * 64):
                assert client.post(filled(path), data={"csrf": token}).status_code == 403, path
                assert client.post(filled(path), headers={"x-csrf-token": token}).status_code == 403, path
            assert client.post(filled(path), json={"csrf": own}).status_code == 403, path
            assert client.post(f"{filled(path)}?csrf={own}").status_code == 403, path
    assert contents(session) == before


def test_reading_changes_nothing(app, session, signed_in):
    client = signed_in("administrator")
    before = contents(session)
    for path in addresses(app, "get"):
        client.get(filled(path))
    assert contents(session) == before


# Roles


def test_an_annotator_reaches_nothing_of_quality_control(app, session, signed_in, study):
    ann = signed_in("annotator", "ann")
    before = contents(session)
    for method in ("get", "post"):
        for path in addresses(app, method):
            if (
                path.startswith(("/quality", "/people", "/rubric/", "/examples/"))
                or "result" in path
                or "close" in path
            ):
                assert getattr(ann, method)(filled(path)).status_code == 403, path
    assert ann.post("/rubric", data={"from_version": "1"}).status_code == 403
    assert contents(session) == before


def test_quality_control_makes_no_administrators(session, signed_in):
    quinn = signed_in("quality", "quinn")
    assert quinn.get("/people").status_code == 403
    assert quinn.post("/people", data={"name": "eve", "role": "administrator"}).status_code == 403
    assert session.scalar(select(func.count(User.id))) == 1


def test_an_annotator_sees_nothing_that_others_said_or_know(app, session, signed_in):
    ann, ben = signed_in("annotator", "ann"), signed_in("annotator", "ben")
    numbers = session.scalars(select(CandidatePicture.id)).all()
    for number in numbers:
        about = {"candidate_id": number, "dimension": "alignment"}
        session.add(
            Label(**about, user_id=of(session, "ben"), score=4.5, adjusted=4.0, comment="to ben alone", seconds=77.125,
                  state="returned", rubric_version="1")
        )  # fmt: skip
        session.add(Prediction(**about, mean=2.71828, std=0.31415, model="secret-student"))
    session.add(Gold(candidate_id=numbers[0], dimension="alignment", score=3.5))
    session.add(Repetition(candidate_id=numbers[0], dimension="alignment"))
    session.commit()
    pages = [ann.get(filled(path)).text for path in addresses(app, "get") if "pictures" not in path]
    for told in ("to ben alone", "77.1", "2.71", "0.31", "secret-student", ">ben<", "gold item"):
        assert not [page for page in pages if told.lower() in page.lower()], told
    assert "to ben alone" in ben.get("/annotate").text
    labels = session.scalars(select(Label.id)).all()
    for number in labels[:3]:
        form = {"dimension": "alignment", "label": [number], "shift": [1]}
        assert ann.post("/adjust", data=form).status_code == 400
    example = {"candidate": numbers[0], "dimension": "alignment", "score": "1.5"}
    assert ann.post("/examples", data=example).status_code == 400
    assert session.scalar(select(func.count(Example.id))) == 0


# Files

OUTSIDE = (
    "../app.py", "..%2fapp.py", "%2e%2e/app.py", "%2e%2e%2fapp.py", "..%5capp.py", "....//app.py", "%2fetc%2fpasswd",
    "//etc/passwd", "..;/app.py", "%00", "studio.css%00.png", "../templates/base.html.j2",
)  # fmt: skip


def test_no_address_leads_out_of_its_folder(app, project, signed_in, study):
    client = signed_in("administrator")
    secret = project.secret()
    for prefix in ("/static/", "/pictures/", "/studies/pictures/", "/quality/export/", "/studies/1/pairs/1/", "/"):
        for suffix in (*OUTSIDE, ".secret", "studio.sqlite", "project.yaml", "images/1-0.png"):
            answer = client.get(prefix + suffix)
            assert answer.status_code in (303, 400, 403, 404, 422), prefix + suffix
            assert b"root:" not in answer.content and secret not in answer.content
            assert b"FastAPI" not in answer.content and b"SQLite" not in answer.content


@pytest.mark.parametrize(
    "image", ["../outside.png", "/etc/passwd", "images/../../outside.png", "images/link.png", "linked/outside.png", ""]
)
def test_a_picture_outside_the_project_is_never_served(session, project, signed_in, tmp_path, image):
    inside = project.file(session.get(CandidatePicture, 1).image)
    (tmp_path / "outside.png").write_bytes(inside.read_bytes())
    os.symlink(tmp_path / "outside.png", project.folder / "images" / "link.png")
    os.symlink(tmp_path, project.folder / "linked")
    session.get(CandidatePicture, 1).image = image
    session.commit()
    answer = signed_in("annotator").get("/pictures/1?width=160")
    assert answer.status_code in (400, 404) and b"PNG" not in answer.content
    with pytest.raises(InputError, match="outside the project"):
        project.file(image)


# Markup


def test_nothing_that_people_write_becomes_markup(app, session, signed_in, project, tmp_path, draw_folder):
    names = iter(range(100))
    evil = lambda: EVIL.format(next(names))  # noqa: E731
    for prompt in session.scalars(select(PromptGroup)):
        prompt.text = f"{prompt.id}{evil()}"
    session.commit()
    ann, quinn, admin = signed_in("annotator", evil()[:79]), signed_in("quality"), signed_in("administrator")
    rater = session.scalars(select(User.id).where(User.role == "annotator")).one()
    for number in (1, 2):
        about = {"candidate_id": number, "dimension": "alignment", "rubric_version": "1"}
        session.add(
            Label(**about, user_id=rater, score=4.5, comment=evil(), state="returned" if number == 1 else "submitted")
        )
        session.add(Example(**about, score=4.5, note=evil()))
    session.add(Prediction(candidate_id=2, dimension="alignment", mean=3, std=1, model=evil()))
    prompt, tag = evil(), evil()
    folders = [draw_folder(tmp_path / f"{c}<b>", c, (prompt,), (0,), (tag,)) for c in ("red", "blue")]
    study = add_study(session, project.folder, *folders, (), name=evil()[:79])
    rubric = Rubric.default()
    first, *others = rubric.dimensions
    first = replace(first, title=evil(), question=evil(), anchors=first.anchors | {5: evil()})
    add_version(session, replace(rubric, name=evil(), version="2", dimensions=(first, *others)), evil())
    session.commit()
    quinn.post(f"/studies/{study.id}/close")
    tried = 0
    for client in (ann, quinn, admin):
        for path in [*map(filled, addresses(app, "get")), "/quality?state=returned", "/rubric?version=1"]:
            answer = client.get(path)
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert not re.search("<script>alert|<img src=x|(red|blue)<b>", answer.text), path
                tried += "&lt;script&gt;alert" in answer.text
    assert tried > 15


def test_notices_and_errors_echo_nothing(signed_in):
    client = signed_in("quality")
    for address in ("/quality?notice=", "/quality?state=", "/quality?order=", "/annotate?dimension=", "/rubric?version=",
                    "/sign-in?next=", "/nowhere/"):  # fmt: skip
        page = client.get(address + "<script>alert(1)</script>").text
        assert "<script>alert" not in page


def test_pages_can_run_no_script_that_was_slipped_in_and_sit_in_no_frame(app, signed_in):
    client = signed_in("administrator")
    for path in addresses(app, "get"):
        answer = client.get(filled(path))
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<script(?![^>]*\bsrc=\"/static/)|\son\w+=|<style|\sstyle=|javascript:", answer.text), (
            path
        )
        if not path.endswith(("pictures/{number}", "{side}", "{system}")):
            assert answer.headers["cache-control"] == "no-store", path

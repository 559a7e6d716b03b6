"""Coming in: invitations, passwords, sessions, roles, and what is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from tests.studio.conftest import PASSWORD, read_csrf
from zreward.common.errors import InputError
from zreward.studio.domain import accounts
from zreward.studio.routes.security import COOKIE
from zreward.studio.storage.schema import User, now


def visitor(app) -> tuple[TestClient, dict[str, str]]:
    client = TestClient(app, follow_redirects=False)
    return client, {"csrf": read_csrf(client.get("/sign-in").text)}


def test_nobody_sees_anything_before_signing_in(app):
    client, _ = visitor(app)
    for page in ("/", "/people", "/quality", "/rubric", "/studies", "/pictures/1", "/quality/export"):
        answer = client.get(page)
        assert answer.status_code == 303 and answer.headers["location"].startswith("/sign-in?next="), page


def test_an_invitation_works_once_and_not_for_ever(app, session):
    user, token = accounts.invite(session, "ann", "annotator")
    assert user.password_hash is None and token not in (user.invitation_hash or "")
    assert accounts.invited(session, token) is user
    user.invitation_ends = now() - timedelta(seconds=1)
    assert accounts.invited(session, token) is None
    _, again = accounts.invite(session, "ann", "annotator")
    assert accounts.invited(session, token) is None
    accounts.accept_invitation(session, user, PASSWORD)
    assert accounts.invited(session, again) is None
    assert accounts.sign_in(session, "ann", PASSWORD) is user
    assert accounts.sign_in(session, "ann", PASSWORD + "x") is None


@pytest.mark.parametrize(
    ("name", "role", "message"),
    [("ann", "king", "role 'king'; expected one of"), (" ", "annotator", "1 to 80"), ("a\nb", "quality", "printable")],
)
def test_invitations_that_cannot_be(session, name, role, message):
    with pytest.raises(InputError, match=message):
        accounts.invite(session, name, role)


def test_signing_in_leads_to_the_roles_first_page_and_nowhere_else(app, session, signed_in):
    signed_in("quality", "quentin")
    client, form = visitor(app)
    form |= {"name": "quentin", "password": PASSWORD, "next": "https://evil.example/"}
    answer = client.post("/sign-in", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert client.get("/").headers["location"] == "/quality"
    assert "HttpOnly" in answer.headers["set-cookie"] and "SameSite=lax" in answer.headers["set-cookie"]


def test_posts_without_the_sessions_token_are_refused(app, session, signed_in):
    client = signed_in("administrator")
    _, form = visitor(app)
    del client.headers["x-csrf-token"]
    data = {"name": "ann", "role": "annotator"}
    for token in ({}, {"csrf": "0" * 64}, form):
        assert client.post("/people", data=data | token).status_code == 403
    assert session.query(User).filter_by(name="ann").first() is None


def test_a_forged_cookie_is_nobody(app, signed_in):
    client = signed_in("administrator")
    value = client.cookies[COOKIE]
    client.cookies.clear()
    client.cookies.set(COOKIE, value[:-3] + "abc")
    assert client.get("/people").headers["location"].startswith("/sign-in")


def test_somebody_who_is_shut_out_is_out_at_once(app, session, signed_in):
    administrator, ann = signed_in("administrator"), signed_in("annotator", "ann")
    assert ann.get("/rubric").status_code == 200
    number = session.query(User).filter_by(name="ann").one().id
    assert administrator.post(f"/people/{number}/active", data={"active": "false"}).status_code == 303
    assert ann.get("/rubric").status_code == 303


@pytest.mark.parametrize("page", ["/people", "/quality", "/quality/annotators", "/quality/hidden", "/quality/export"])
def test_annotators_have_no_business_elsewhere(signed_in, page):
    assert signed_in("annotator", "ann").get(page).status_code == 403


def test_an_invitation_is_made_on_the_page_and_its_link_works(app, signed_in):
    page = signed_in("administrator").post("/people", data={"name": "ben", "role": "annotator"}).text
    link = page.split('id="link">')[1].split("<")[0]
    assert TestClient(app).get(link).status_code == 200


def test_every_page_carries_the_security_headers(app):
    headers = TestClient(app).get("/sign-in").headers
    assert "script-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"

"""Wrong passwords slow the next ones down and shut nobody out; sessions end when they are ended."""

from __future__ import annotations

import asyncio

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from tests.studio.conftest import PASSWORD, read_csrf
from zreward.studio.domain import accounts, attempts
from zreward.studio.domain.attempts import Attempts
from zreward.studio.domain.refusals import TooManyAttemptsError
from zreward.studio.routes.security import COOKIE, DEVICE
from zreward.studio.storage.schema import SignedIn, User

# Sessions


def copied(app, client) -> TestClient:
    """Somebody who has got hold of this browser's cookie."""
    return TestClient(app, follow_redirects=False, cookies={COOKIE: client.cookies[COOKIE]})


def person(session, name: str) -> User:
    session.expire_all()
    return session.scalars(select(User).where(User.name == name)).one()


def sign_in(app, name: str, password: str = PASSWORD, **client) -> tuple[TestClient, int]:
    made = TestClient(app, follow_redirects=False, **client)
    form = {"csrf": read_csrf(made.get("/sign-in").text), "name": name, "password": password}
    status = made.post("/sign-in", data=form).status_code
    if status == 303:
        made.headers["x-csrf-token"] = read_csrf(made.get("/rubric").text)
    return made, status


def test_signing_out_ends_the_session_and_no_other(app, signed_in):
    ann = signed_in("annotator", "ann")
    elsewhere, _ = sign_in(app, "ann")
    thief = copied(app, ann)
    assert thief.get("/rubric").status_code == 200
    assert ann.post("/sign-out").status_code == 303
    assert thief.get("/rubric").status_code == 303 and elsewhere.get("/rubric").status_code == 200


@pytest.mark.parametrize("how", ["password", "removed", "role", "removed and let in again"])
def test_all_sessions_end_with(app, session, signed_in, how):
    admin, ann = signed_in("administrator", "root"), signed_in("annotator", "ann")
    other, _ = sign_in(app, "ann")
    user = person(session, "ann")
    if how == "password":
        _, token = accounts.invite(session, "ann", "annotator")
        accounts.accept_invitation(session, accounts.invited(session, token), PASSWORD + "!")
    elif how == "role":
        assert admin.post(f"/people/{user.id}/role", data={"role": "quality"}).status_code == 303
    else:
        for active in ("false", "true")[: 2 if "again" in how else 1]:
            assert admin.post(f"/people/{user.id}/active", data={"active": active}).status_code == 303
    assert [one.get("/rubric").status_code for one in (ann, other)] == [303, 303]
    assert session.scalar(select(func.count(SignedIn.id)).where(SignedIn.user_id == user.id)) == 0


def test_an_open_invitation_ends_with_the_removal(app, session, signed_in):
    admin, _ = signed_in("administrator", "root"), signed_in("annotator", "ann")
    user, token = accounts.invite(session, "ann", "annotator")
    for active in ("false", "true"):
        admin.post(f"/people/{user.id}/active", data={"active": active})
    session.expire_all()
    assert accounts.invited(session, token) is None


def test_nobody_ends_himself_as_administrator(session, signed_in):
    admin = signed_in("administrator", "root")
    number = person(session, "root").id
    assert admin.post(f"/people/{number}/role", data={"role": "annotator"}).status_code == 400
    assert admin.post(f"/people/{number}/active", data={"active": "false"}).status_code == 400
    assert admin.post("/people/999/role", data={"role": "annotator"}).status_code == 400
    assert admin.post(f"/people/{number}/role", data={"role": "king"}).status_code == 400


def test_signing_in_again_in_a_browser_leaves_one_session(app, session, signed_in):
    ann = signed_in("annotator", "ann")
    thief = copied(app, ann)
    form = {"csrf": read_csrf(ann.get("/sign-in").text), "name": "ann", "password": PASSWORD}
    assert ann.post("/sign-in", data=form, headers={"x-csrf-token": form["csrf"]}).status_code == 303
    assert thief.get("/rubric").status_code == 303 and ann.get("/rubric").status_code == 200


# Attempts


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    """The waits, without the waiting."""
    seconds: list[float] = []

    async def sleep(wait: float) -> None:
        seconds.append(wait)

    monkeypatch.setattr(attempts.asyncio, "sleep", sleep)
    return seconds


def test_after_many_wrong_passwords_the_right_one_still_comes_in(app, signed_in, slept):
    signed_in("quality", "quinn")
    assert [sign_in(app, "quinn", "wrong")[1] for _ in range(60)] == [401] * 60
    assert slept == sorted(slept) and len(slept) == 50 and slept[-1] == attempts.MOST_SECONDS
    assert sign_in(app, "quinn")[1] == 303


def test_the_browser_of_a_name_is_not_slowed_down_by_others(app, signed_in, slept):
    quinn = signed_in("quality", "quinn")
    for _ in range(70):
        sign_in(app, "quinn", "wrong")
    slept.clear()
    quinn.post("/sign-out")
    assert sign_in(app, "quinn", cookies={DEVICE: quinn.cookies[DEVICE]})[1] == 303 and not slept
    sign_in(app, "quinn", "wrong", cookies={DEVICE: quinn.cookies[DEVICE][:-2] + "xx"})
    assert slept  # a forged one is none
    slept.clear()
    ann = signed_in("annotator", "ann")
    sign_in(app, "quinn", "wrong", cookies={DEVICE: ann.cookies[DEVICE]})
    assert slept  # nor is another name's


def test_names_that_do_not_exist_are_treated_alike(app, signed_in, slept):
    signed_in("annotator", "ann")
    found = {}
    for name in ("ann", "nobody"):
        pages = []
        for _ in range(12):
            client = TestClient(app, follow_redirects=False)
            form = {"csrf": read_csrf(client.get("/sign-in").text), "name": name, "password": "wrong"}
            answer = client.post("/sign-in", data=form)
            pages.append((answer.status_code, answer.text.replace(name, "NAME").replace(form["csrf"], "CSRF")))
        found[name] = (pages, list(slept))
        slept.clear()
    assert found["ann"] == found["nobody"] and len(found["ann"][1]) == 2


def fail(tried: Attempts, address: str = "1.1.1.1", name: str = "ann") -> None:
    async def once() -> None:
        async with tried.turn(address, name, None):
            pass

    asyncio.run(once())


def test_failures_count_by_address_and_name_together(slept):
    tried = Attempts()
    for _ in range(30):
        fail(tried)
    slept.clear()
    fail(tried, "2.2.2.2")  # another address
    fail(tried, name="ben")  # another name
    assert not slept
    for number in range(60):  # one address, many names
        fail(tried, "3.3.3.3", f"name {number}")
    assert slept and set(slept) == {0.5, 1.0}  # 50 are free, the others wait
    slept.clear()
    for number in range(60):  # one name, many addresses
        fail(tried, f"4.4.4.{number}", "cem")
    assert len(slept) == 10


def test_a_success_takes_its_own_attempt_back(slept):
    tried = Attempts()

    async def good() -> None:
        async with tried.turn("1.1.1.1", "ann", None) as attempt:
            attempt.succeeded()

    for _ in range(100):
        asyncio.run(good())
    assert not slept


def test_few_wait_at_once_and_the_rest_is_told_when_to_come_back():
    tried = Attempts(first_wait=0.05)
    for _ in range(10):
        fail(tried)

    async def many() -> list[object]:
        async def one() -> None:
            async with tried.turn("1.1.1.1", "ann", None):
                pass

        return await asyncio.gather(*(one() for _ in range(20)), return_exceptions=True)

    found = asyncio.run(many())
    refused = [one for one in found if isinstance(one, TooManyAttemptsError)]
    assert len(refused) == 19 and all(one.seconds == 1 for one in refused)
    assert not tried._waiting


def test_an_attempt_beyond_those_that_may_wait_is_answered_429(app, signed_in, monkeypatch):
    signed_in("annotator", "ann")
    app.state.studio.attempts._waiting.update({"both testclient ann": 1})
    monkeypatch.setattr(app.state.studio.attempts, "_wait", lambda limit: 2.5)
    client = TestClient(app, follow_redirects=False)
    form = {"csrf": read_csrf(client.get("/sign-in").text), "name": "ann", "password": "wrong"}
    answer = client.post("/sign-in", data=form)
    assert answer.status_code == 429 and answer.headers["Retry-After"] == "3" and "in 3 seconds" in answer.text


def test_attempts_with_many_names_do_not_fill_the_memory(monkeypatch, slept):
    monkeypatch.setattr(attempts, "MOST_KEYS", 30)
    tried = Attempts()
    for number in range(100):
        fail(tried, f"address {number}", f"name {number}")
    assert len(tried._failed) <= 30


def test_waiting_holds_no_database_turn(app, signed_in, monkeypatch):
    signed_in("annotator", "ann")
    studio, held = app.state.studio, []

    async def sleep(_: float) -> None:
        held.append(studio.engine.pool.checkedout())

    monkeypatch.setattr(attempts.asyncio, "sleep", sleep)
    for _ in range(12):
        sign_in(app, "ann", "wrong")
    assert held == [0, 0]
